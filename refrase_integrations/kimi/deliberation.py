"""Whether a user's turn is one that thinking pays for. English and Chinese; rules, no model."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from refrase_integrations.kimi.freshness import _one_of, _plain

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


class Verdict(NamedTuple):
    """Whether thinking pays for a turn. True or false by itself: ``if needs_thinking(text): ...``."""

    needed: bool
    reason: str
    """What kind of turn it is; nothing of the text."""

    def __bool__(self) -> bool:
        return self.needed


def needs_thinking(text: str) -> Verdict:
    """Judge whether thinking pays for a turn: it takes 15-35% of the latency and 1.2-1.6 times the tokens.

    Rules over word lists (``deliberation.toml``), English and Chinese, in this order: small talk and a wish for no
    thinking are easy; code, mathematics, planning, judgement, puzzles, several steps or parts and a wish for care are
    hard; work on a given text, short questions and short orders are easy; what is left is hard.

    Args:
        text: what the user says in this turn.
    """
    asked = _plain(text)
    seen = [signal for signal in _signals() if signal.pattern.search(asked)]
    found = {signal.kind: signal.reason for signal in reversed(seen)}
    if "easy" in found:
        return Verdict(False, found["easy"])
    if "text" in found and "code" not in {signal.reason for signal in seen}:
        return Verdict(False, found["text"])
    if "hard" in found:
        return Verdict(True, found["hard"])
    prose = _CODE.sub("", text)
    if prose != text:
        return Verdict(True, "code")
    if len(_ITEM.findall(prose)) >= _PARTS or len(_QUESTION.findall(prose)) >= _PARTS:
        return Verdict(True, "several parts")
    if len(_FIGURE.findall(prose)) >= _FIGURES:
        return Verdict(True, "several figures")
    clauses = [part for part in _BORDER.split(asked) if _width(part) > _CLAUSE]
    if "short" in found and len(clauses) < 2 and _width(asked) <= _SHORT:
        return Verdict(False, found["short"])
    return Verdict(bool(asked), "not known as easy" if asked else "no text")


def _width(text: str) -> int:
    return len(text) + len(_HAN.findall(text))


class _Signal(NamedTuple):
    kind: Literal["hard", "easy", "text", "short"]
    reason: str
    pattern: re.Pattern[str]


@cache
def _signals() -> tuple[_Signal, ...]:
    table: Mapping[str, Any] = tomllib.loads((files(__package__) / "deliberation.toml").read_text(encoding="utf-8"))
    return tuple(_Signal(entry["kind"], entry["reason"], _one_of(entry)) for entry in table["signals"])
