"""Whether a reply announces an action and ends there, without the tool call. English and Chinese; rules, no model."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

Language = Literal["en", "zh"]

_SENTENCES = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n+")
_QUOTED = re.compile(r"\"[^\"\n]*\"|“[^”\n]*”|「[^」\n]*」")
_MARKS = "*_#>`~ \t"
_LIST_ITEM = re.compile(r"\s*(?:[-•+]|\*(?!\*)|\d+[.)])\s")
_HAN = re.compile(r"[㐀-鿿]")
_LONGEST = 300  # characters of a last sentence that is looked at


def announced(text: str) -> Language | None:
    """Tell whether a reply that made no tool call ends with the announcement of one.

    Only the last sentence counts: what stands before it may have been done. A question, an offer, a condition or a
    promise for later is none; a text that breaks off at a colon is one (MoonshotAI/Kimi-K2#81).

    Args:
        text: the visible text of the reply.

    Returns:
        The language of the announcement; None where there is none.
    """
    paragraph = text.rstrip().rpartition("\n\n")[2]
    if text.count("```") % 2 or text.rstrip().endswith("```") or "?" in paragraph or "？" in paragraph:
        return None
    sentences = [part for part in _SENTENCES.split(paragraph) if part.strip(_MARKS + ":：")]
    if not sentences or _LIST_ITEM.match(sentences[-1]):
        return None
    last = _QUOTED.sub('""', sentences[-1]).strip(_MARKS).lower().replace("’", "'").replace("**", "")
    language: Language = "zh" if _HAN.search(last) else "en"
    words = _words(language)
    if len(last) > _LONGEST or words.against.search(last):
        return None
    return language if last.endswith((":", "：")) or words.intent.search(last) else None


def nudge(language: Language) -> str:
    """Return the line that asks a model to take the step it announced."""
    return _words(language).nudge


def is_nudge(text: str) -> bool:
    """Tell whether a message is one of these lines."""
    return any(text == nudge(language) for language in ("en", "zh"))


class _Words(NamedTuple):
    nudge: str
    intent: re.Pattern[str]
    against: re.Pattern[str]


@cache
def _words(language: Language) -> _Words:
    data = files(__package__).joinpath("announcements.toml").read_text("utf-8")
    lists: dict[str, Any] = tomllib.loads(data)[language]
    places = {f"{{{name}}}": f"(?:{'|'.join(lists[name + 's'])})" for name in ("clause", "filler", "verb", "doing")}
    intents = "|".join(lists["intents"])
    for place, words in places.items():
        intents = intents.replace(place, words)
    return _Words(lists["nudge"], re.compile(intents), re.compile("|".join(lists["against"])))
