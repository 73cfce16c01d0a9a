"""Text that somebody pasted into a prompt (retrieved documents): it is data, neither a rule nor ours to shorten."""

from __future__ import annotations

import re
from functools import lru_cache

from refrase_integrations.kimi.prompt.phrases import phrases


def set_aside(text: str) -> tuple[str, tuple[str, ...]]:
    """Put a slot in the place of each pasted text.

    Only what frameworks delimit on both sides is recognised; what lies between the first opening and the last closing
    mark is one text, whatever stands in it.

    Returns:
        The text with its slots, and what stood there: for `put_back`.
    """
    spans: list[tuple[int, int]] = []
    for opening, closing in _delimiters():
        begun = opening.search(text)
        ends = [found.start() for found in closing.finditer(text, begun.end())] if begun else []
        if begun and ends and ends[-1] > begun.end() and not any(a < ends[-1] and begun.end() < b for a, b in spans):
            spans.append((begun.end(), ends[-1]))
    if not spans or _SLOT[:-2] in text:
        return text, ()
    slotted, at, aside = "", 0, []
    for number, (start, end) in enumerate(sorted(spans)):
        slotted += f"{text[at:start]}{_SLOT % number}"
        aside.append(text[start:end])
        at = end
    return slotted + text[at:], tuple(aside)


def put_back(slotted: str, aside: tuple[str, ...]) -> str | None:
    """Put pasted texts back; None where a slot went or came twice."""
    for number, pasted in enumerate(aside):
        before, slot, behind = slotted.partition(_SLOT % number)
        if not slot or slot in behind:
            return None
        slotted = f"{before}{pasted}{behind}"
    return slotted


_SLOT = "{pasted_text_%d}"  # in braces nothing is edited


@lru_cache(maxsize=1)
def _delimiters() -> list[tuple[re.Pattern[str], re.Pattern[str]]]:
    return [
        (re.compile(pair["open_re"], re.IGNORECASE), re.compile(pair["close_re"], re.IGNORECASE))
        for pair in phrases()["pasted"]
    ]
