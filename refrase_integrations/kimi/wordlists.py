"""What the rules over word lists share: the part of a text that they look at, and how an entry of a list matches."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

_HEAD, _TAIL = 400, 400  # characters: in a long text the question stands at the beginning or at the end
_QUOTED = re.compile(
    r"```.*?(?:```|$)|`[^`\n]*`|\"[^\"\n]{2,}\"|“[^”\n]+”|「[^」\n]+」|(?<!\w)'[^'\n]{8,}'(?!\w)", re.DOTALL
)
_SPACE = re.compile(r"\s+")
_NO_APOSTROPHES = {ord("'"): None, ord("’"): None}


def asked(text: str) -> str:
    """Return the words that ask: lower case, without quotations and code, of a long text the beginning and the end."""
    if len(text) > _HEAD + _TAIL:
        text = f"{text[:_HEAD]} … {text[-_TAIL:]}"
    text = _QUOTED.sub(" … ", unicodedata.normalize("NFKC", text).lower())
    return _SPACE.sub(" ", text.translate(_NO_APOSTROPHES)).strip().rstrip("?!.。 ")


def pattern(entry: Mapping[str, Any]) -> re.Pattern[str]:
    """Return one pattern for the expressions under "en" and "zh"; English words match whole."""
    english = "|".join(entry["en"])
    return re.compile(f"(?<![a-z0-9])(?:{english})(?![a-z0-9])|{'|'.join(entry['zh'])}")
