"""What the doctor says of a host: one finding per thing looked at. Titles, verdicts and practices are data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Verdict = Literal["right", "strict", "lossy", "broken", "unknown"]
"""right: as the documented API has it. strict: refuses what others take. lossy: something gets lost or stands elsewhere
unless it is looked for. broken: a reply that generic clients cannot use. unknown: it could not be seen."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    id: str
    """A key of ``findings.toml``."""
    title: str
    verdict: Verdict
    value: Any
    """What was found, for programs; None: it could not be seen."""
    seen: str
    """The same for people. Never text of a prompt or a reply."""
    practice: str = ""
    """What of this package takes care of it; empty: nothing has to."""


def valued(id: str, value: Any, seen: str, *, right: bool | None, wrong: Verdict | None = None) -> Finding:
    """Return a finding with a value.

    Args:
        id: which.
        value: for programs.
        seen: for people.
        right: whether it is as documented; None: it could not be seen.
        wrong: the verdict where it is not; None: the usual one.
    """
    about = _abouts()[id]
    verdict: Verdict = "unknown" if right is None else "right" if right else wrong or about["verdict"]
    practice = about.get("practice", "") if right is False else ""
    return Finding(id=id, title=about["title"], verdict=verdict, value=value, seen=seen, practice=practice)


def flag(id: str, found: bool | None, detail: str = "") -> Finding:
    """Return a finding that is there or not, or could not be seen (None)."""
    if found is None:
        return unseen(id)
    words = _abouts()[id]["found" if found else "right"]
    return valued(id, found, f"{words}{detail}", right=not found)


def rate(id: str, hits: int, asked: int, of: tuple[str, str] = ("reply", "replies")) -> Finding:
    """Return a finding on what goes wrong now and then; ``of`` what, one and many."""
    if not asked:
        return unseen(id)
    all_ = f"{asked} {of[asked != 1]}"
    words = f"{_abouts()[id]['found']}: {hits} of {all_}" if hits else f"none in {all_}"
    return valued(id, hits > 0, words, right=not hits)


def unseen(id: str) -> Finding:
    """Return a finding that could not be made."""
    return valued(id, None, "could not be seen", right=None)


def order(id: str) -> int:
    """Return the place of a finding in a report."""
    return [*_abouts()].index(id)


@cache
def _abouts() -> Mapping[str, dict[str, Any]]:
    return tomllib.loads((files(__package__) / "findings.toml").read_text(encoding="utf-8"))
