"""The phrase lists of `phrases.toml`, read once and compiled."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from typing import Any

HAN = "\u3400-\u4dbf\u4e00-\u9fff"
"""Characters of Chinese text, for a class of a regular expression."""


@lru_cache(maxsize=1)
def phrases() -> dict[str, Any]:
    """Return the phrase lists. Shared: do not change them."""
    return tomllib.loads(resources.files(__package__).joinpath("phrases.toml").read_text("utf-8"))


def one_of(words: Iterable[str], not_before: dict[str, str] | None = None) -> str:
    """Return a pattern for any of ``words``, longest first; a blank stands for any white space.

    Args:
        words: plain phrases.
        not_before: characters before which a phrase is part of another word (Chinese has no blanks).
    """
    apart = not_before or {}
    return "|".join(
        re.escape(word).replace(r"\ ", r"\s+") + (f"(?![{apart[word]}])" if word in apart else "")
        for word in sorted(words, key=lambda word: (-len(word), word))
    )


def any_re(patterns: Iterable[str]) -> re.Pattern[str]:
    """Return one pattern for a list under a key that ends in ``_re``."""
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE | re.MULTILINE)
