"""``thinking="auto"``: whether a user's turn is one that thinking pays for. English and Chinese; rules, no model."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from refrase_integrations.kimi.announcements import is_nudge
from refrase_integrations.kimi.dialect import Dialect
from refrase_integrations.kimi.messages import REASONING_KEYS, text_of
from refrase_integrations.kimi.practice import messages_of
from refrase_integrations.kimi.wire import Body, Message
from refrase_integrations.kimi.wordlists import asked, pattern

_LONG = 800  # characters: so many words for a request have parts that depend on each other
_PARTS = 3  # list items or questions in one turn: so many make a task of several parts
_FIGURES = 3  # given figures that an answer may have to be worked out from
_SHORT = 80  # characters, a Chinese one as two: longer questions and orders have conditions in them
_CLAUSE = 10  # characters, a Chinese one as two: two parts of a sentence that are longer make a condition too

_HAN = re.compile(r"[㐀-鿿]")
_ITEM = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.)、]|[一二三四五六七八九十]、)\s*\S", re.MULTILINE)
_QUESTION = re.compile(r"[?？]")
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
_BORDER = re.compile(r"[,;:，；：。.!！] ?")
_CODE = re.compile(r"```.*?(?:```|$)", re.DOTALL)
_OBSERVATION = re.compile(r"\s*Observation:")  # text agents hand a tool's result over as a user message (ReAct)
_REASONED = (*REASONING_KEYS, "reasoning_details")


class Verdict(NamedTuple):
    """Whether thinking pays for a turn. True or false by itself: ``if needs_thinking(text): ...``."""

    needed: bool
    reason: str
    """What kind of turn it is; nothing of the text."""

    def __bool__(self) -> bool:
        return self.needed


class Decision(NamedTuple):
    """How ``thinking="auto"`` comes out for one call."""

    thinking: bool | None
    """None: nothing to decide, the model has its own state."""
    reason: str
    """For the report. No prompt text."""


def decide(body: Body, dialect: Dialect) -> Decision:
    """Decide whether the model is to think in this call.

    Only the current user turn decides, so that the answer stays what it was while its tools are called; where the model
    has thought in this turn already, it goes on. A bare go-ahead ("yes, do it") stands for the user's last turn that
    said something. What the model, its tools and the app said has no part in it.

    Args:
        body: the request in the user's form.
        dialect: of the model and the host, in any state of thinking.
    """
    if not dialect.switchable:
        return Decision(None, "cannot be switched here")
    effort = body.get("reasoning_effort")
    if effort is not None:
        return Decision(effort != "none", "reasoning_effort is given")
    turns, since = _turns(messages_of(body))
    if any(message.get(key) is not None for message in since for key in _REASONED):
        return Decision(True, "it has thought in this turn already")
    return Decision(*needs_thinking(turns[-1] if turns else "", turns[:-1]))


def _turns(messages: list[Message]) -> tuple[list[str], list[Message]]:
    """Return the texts of the user's turns, and the messages that came after the current one."""
    turns, since, goes_on = list[str](), list[Message](), False
    for message in messages:
        if message.get("role") != "user" or _within(message):
            since.append(message)
            goes_on = False
            continue
        text = text_of(message.get("content"))
        turns.append(f"{turns.pop()}\n{text}" if goes_on else text)
        since, goes_on = [], True
    return turns, since


def _within(message: Message) -> bool:
    """Tell whether a user message is none of the user's, but a step within his turn."""
    text = text_of(message.get("content"))
    return is_nudge(text) or _OBSERVATION.match(text) is not None


def needs_thinking(text: str, earlier: Sequence[str] = ()) -> Verdict:
    """Judge whether thinking pays for a turn.

    Rules over word lists (``deliberation.toml``), English and Chinese. A greeting, thanks or a yes in front of the rest
    is left out: small talk is what holds nothing else, and a bare go-ahead is judged by the turn that it answers. Then,
    in this order. Easy: a wish for no thinking, work on a given text that is not code. Hard: code, mathematics,
    planning, judgement, puzzles, several steps or parts, length, a wish for care. Easy: short questions and orders.
    Hard: what is left.

    Args:
        text: what the user says in this turn.
        earlier: the user's turns before it, oldest first.
    """
    whole = asked(text)
    words, kinds = _without_openings(whole)
    if whole and not words:
        if not kinds & {"assent", "go"} or (kinds >= {"assent", "greeting"} and "go" not in kinds):
            return Verdict(False, "small talk")
        return _go_ahead(earlier)
    seen = [signal for signal in _signals() if signal.pattern.search(words)]
    found = {signal.kind: signal.reason for signal in reversed(seen)}
    if "easy" in found:
        return Verdict(False, found["easy"])
    if "text" in found and "code" not in {signal.reason for signal in seen}:
        return Verdict(False, found["text"])
    if "hard" in found:
        return Verdict(True, found["hard"])
    if len(text) > _LONG:
        return Verdict(True, "a long request")
    prose = _CODE.sub("", text)
    if prose != text:
        return Verdict(True, "code")
    if len(_ITEM.findall(prose)) >= _PARTS or len(_QUESTION.findall(prose)) >= _PARTS:
        return Verdict(True, "several parts")
    if len(_FIGURE.findall(prose)) >= _FIGURES:
        return Verdict(True, "several figures")
    clauses = [part for part in _BORDER.split(words) if _width(part) > _CLAUSE]
    if "short" in found and len(clauses) < 2 and _width(words) <= _SHORT:
        return Verdict(False, found["short"])
    return Verdict(True, "not known as easy")


def _go_ahead(earlier: Sequence[str]) -> Verdict:
    """Judge a turn that only says yes: by the last turn before it that says more."""
    for text in reversed(earlier):
        if _without_openings(asked(text))[0]:
            verdict = needs_thinking(text)
            return Verdict(verdict.needed, f"a go-ahead for: {verdict.reason}")
    return Verdict(False, "small talk") if earlier else Verdict(True, "not known as easy")


def _without_openings(words: str) -> tuple[str, set[str]]:
    """Return what stands behind the openings of a turn, and the kinds of these where nothing does."""
    at = rest = 0
    kinds = set[str]()
    while opening := _openings().match(words, at):
        at = opening.end()
        kinds |= {kind for kind, said in opening.groupdict().items() if said and kind != "border"}
        if opening["greeting"] or opening["border"].strip():
            rest = at
    return ("", kinds) if at == len(words) else (words[rest:], set())


def _width(text: str) -> int:
    return len(text) + len(_HAN.findall(text))


class _Signal(NamedTuple):
    kind: Literal["hard", "easy", "text", "short"]
    reason: str
    pattern: re.Pattern[str]


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads((files(__package__) / "deliberation.toml").read_text(encoding="utf-8"))


@cache
def _signals() -> tuple[_Signal, ...]:
    return tuple(_Signal(entry["kind"], entry["reason"], pattern(entry)) for entry in _table()["signals"])


@cache
def _openings() -> re.Pattern[str]:
    """Return a pattern for one opening, in the group of its kind, and what parts it from the next."""
    kinds = "|".join(f"(?P<{kind}>{pattern(entry).pattern})" for kind, entry in _table()["openings"].items())
    return re.compile(rf"(?:{kinds})(?P<border>[\s,.;:!?~…、—-]*)")
