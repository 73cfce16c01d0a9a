"""Whether a question needs live data, and which tools bring it. English and Chinese; rules, no model, no clock."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Container, Iterable, Mapping
from datetime import datetime
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from refrase_integrations.kimi.inputs import instance
from refrase_integrations.kimi.wordlists import asked, pattern

Kind = Literal["topic", "time", "ask", "personal", "settled", "task"]

_NEEDED = 2  # score from which a question needs live data
_PAST = 4  # weighs against a question that names a year which the model knows
_AHEAD = 10  # years after the last known one that count as recent where nobody says what year it is
_YEAR = re.compile(r"(?<![\d.,$€£¥/-])(1\d{3}|20\d{2})(?![\d,.]?\d|[-/]\d)")
_WORD = re.compile(r"[a-z]+|[一-鿿]+|\d+")
_QUESTION = re.compile(r"[?？]")
_END = 3  # characters: a question mark, and what may stand behind it
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Verdict(NamedTuple):
    """Whether a question needs live data. True or false by itself: ``if needs_fresh_data(text): ...``."""

    needed: bool
    reason: str | None = None
    """What kind of question it is: ``"prices"``, ``"weather"``, ``"news"``, ``"sport"``, ``"versions"``,
    ``"people in office"``, ``"relative dates"``, ``"recent years"``; None where none is needed."""

    def __bool__(self) -> bool:
        return self.needed


def needs_fresh_data(text: str, now: datetime | None = None) -> Verdict:
    """Judge whether a right answer may have changed since the model was trained.

    Rules over word lists (``freshness.toml``), English and Chinese: what is asked for, words of time, and what speaks
    against it (history, explanations; code, fiction, arithmetic and given texts decide alone). A statement asks for
    nothing. Measured on questions written for it by ``python -m benchmarks freshness``.

    Args:
        text: the question. In a text of more than 800 characters only the beginning and the end are read.
        now: the present, to tell years that have begun from those to come; None: every year up to ten after the last
            known one counts as begun.

    Returns:
        The verdict; its ``reason`` holds nothing of the text.

    Raises:
        ConfigurationError: an argument is of another type.
    """
    instance(text, str, "text", "a text")
    instance(now, (datetime, type(None)), "now", "a datetime or None")
    words = asked(text)
    seen = _seen(words)
    if any(signal.kind == "task" for signal in seen) or _states(text, words):
        return Verdict(False)
    topic = max((signal for signal in seen if signal.kind == "topic"), key=_weight, default=None)
    time = max((signal for signal in seen if signal.kind == "time"), key=_weight, default=None)
    recent, past = _years(words, now)
    kinds = {signal.kind for signal in seen}
    dated = time is not None and time.weight > 1
    score = (_NEEDED if recent else 0) + _weight(topic)
    if topic is not None or ("ask" in kinds and "personal" not in kinds):
        score += _weight(time)
    against = [signal.weight for signal in seen if signal.kind == "settled" and not (signal.yields and dated)]
    if past and not recent:
        against.append(_PAST)
    if score - max(against, default=0) < _NEEDED:
        return Verdict(False)
    reason = topic.reason if topic is not None else "recent years" if recent else "news"
    return Verdict(True, reason)


def is_live_tool(tool: Mapping[str, Any], marked: Container[str] = ()) -> bool:
    """Tell whether a tool brings live data: by the user's mark, else by its name and description.

    Args:
        tool: a tool of the ``tools`` parameter, in OpenAI form, or its ``function``.
        marked: names that the user marked as live: they win.
    """
    function = tool.get("function")
    inner: Mapping[str, Any] = function if isinstance(function, Mapping) else tool
    name, description = inner.get("name"), inner.get("description")
    if not isinstance(name, str):
        return False
    if name in marked:
        return True
    if name.startswith("$"):  # Moonshot's builtin functions
        return "search" in name
    return _looks_live(name, description if isinstance(description, str) else "")


def brings_live_data(extra: Mapping[str, Any]) -> bool:
    """Tell whether the user's own body fields let the host search by itself."""
    return any(extra.get(field) for field in _data().searching)


class _Signal(NamedTuple):
    kind: Kind
    reason: str
    weight: int
    yields: bool
    pattern: re.Pattern[str]


def _weight(signal: _Signal | None) -> int:
    return signal.weight if signal is not None else 0


def _seen(text: str) -> list[_Signal]:
    return [signal for signal in _data().signals if signal.pattern.search(text)]


def _states(text: str, words: str) -> bool:
    """Tell whether a text tells something and asks for nothing."""
    form = _data()
    asks = _QUESTION.search(words) or _QUESTION.search(text[-_END:]) or form.asks.search(words)
    return not asks and form.states.search(words) is not None


def _years(text: str, now: datetime | None) -> tuple[bool, bool]:
    """Return whether the text names a year that the model cannot know well, and one that it knows."""
    known = _data().known_through
    years = [int(year) for year in _YEAR.findall(text)]
    newest = now.year if now is not None else known + _AHEAD
    recent = any(known < year <= newest or (now is not None and year == now.year) for year in years)
    return recent, any(year <= known for year in years)


@lru_cache(maxsize=4096)  # the same tools come with every request of an agent
def _looks_live(name: str, description: str) -> bool:
    data = _data()
    words = _WORD.findall(_CAMEL.sub(" ", name).lower())
    if _has(words, data.never):
        return False
    # A class that is named for a thing ("Weather") is a form for an answer; a tool of that name says so in its words.
    form = name[:1].isupper() and not _has(words, data.verbs)
    if not form and _has(words, data.names):
        return True
    return bool(data.phrases.search(description.lower()))


def _has(words: Iterable[str], pattern: re.Pattern[str]) -> bool:
    """Tell whether one of the words matches whole; in a Chinese one, which may be several, a part of it."""
    return any(pattern.fullmatch(word) if word.isascii() else pattern.search(word) for word in words)


class _Data(NamedTuple):
    known_through: int
    searching: tuple[str, ...]
    signals: tuple[_Signal, ...]
    asks: re.Pattern[str]
    states: re.Pattern[str]
    names: re.Pattern[str]
    phrases: re.Pattern[str]
    verbs: re.Pattern[str]
    never: re.Pattern[str]


@cache
def _data() -> _Data:
    table = tomllib.loads((files(__package__) / "freshness.toml").read_text(encoding="utf-8"))
    signals = [
        _Signal(entry["kind"], entry["reason"], entry["weight"], entry.get("yields", False), pattern(entry))
        for entry in table["signals"]
    ]
    tools = table["tools"]
    return _Data(
        table["known_through"],
        tuple(table["searching"]),
        tuple(signals),
        *(pattern(table["form"][key]) for key in ("asks", "states")),
        *(re.compile("|".join(tools[key])) for key in ("names", "phrases", "verbs", "never")),
    )
