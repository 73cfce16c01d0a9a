"""How well `needs_fresh_data` tells questions that need live data from those that do not, class by class.

The questions were written for it (``tests/kimi/freshness_questions.tsv``), half English, half Chinese. The rules were
tuned on the part "tune" only; the part "test" was never read for it.

    python -m benchmarks freshness --misses
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from refrase_integrations.kimi.freshness import Verdict, needs_fresh_data

QUESTIONS = Path(__file__).parents[1] / "tests" / "kimi" / "freshness_questions.tsv"
NOW = datetime(2026, 11, 24, tzinfo=UTC)
"""The day on which the questions are asked."""


class Question(NamedTuple):
    """One line of the file."""

    language: str
    kind: str
    """Class, such as "prices"."""
    live: bool
    part: str
    """"tune" or "test"."""
    text: str


@dataclass
class Score:
    """Counts of right and wrong verdicts."""

    found: int = 0
    missed: int = 0
    alarms: int = 0
    """Verdicts "live" on questions that are not."""
    passed: int = 0

    @property
    def precision(self) -> float | None:
        """Share of the verdicts "live" that are right; None: there is none."""
        return self.found / (self.found + self.alarms) if self.found + self.alarms else None

    @property
    def recall(self) -> float | None:
        """Share of the live questions that were found; None: there is none."""
        return self.found / (self.found + self.missed) if self.found + self.missed else None

    @property
    def questions(self) -> int:
        """How many were judged."""
        return self.found + self.missed + self.alarms + self.passed


def questions(path: Path = QUESTIONS) -> Iterator[Question]:
    """Read the file of questions."""
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            language, kind, label, part, text = line.split("\t")
            yield Question(language, kind, label == "live", part, text)


def score(asked: Iterable[Question], judge: Callable[..., Verdict] = needs_fresh_data) -> Score:
    """Judge questions and count."""
    counts = Score()
    for question in asked:
        verdict = bool(judge(question.text, NOW))
        if question.live:
            counts.found, counts.missed = counts.found + verdict, counts.missed + (not verdict)
        else:
            counts.alarms, counts.passed = counts.alarms + verdict, counts.passed + (not verdict)
    return counts


def table(asked: list[Question]) -> str:
    """Return the scores as text: each part and language, then each class of the part that was held out."""
    groups = {
        f"{part}, {language}": [one for one in asked if (one.part, one.language) == (part, language)]
        for part in ("tune", "test")
        for language in ("en", "zh")
    }
    held_out = [one for one in asked if one.part == "test"]
    groups |= {"test": held_out}
    groups |= {kind: [one for one in held_out if one.kind == kind] for kind in dict.fromkeys(one.kind for one in asked)}
    lines = [f"{'':<20}{'questions':>10}{'live':>6}{'missed':>8}{'alarms':>8}{'precision':>11}{'recall':>8}"]
    for name, group in groups.items():
        counts = score(group)
        live = counts.found + counts.missed
        precision, recall = (_share(value if live else None) for value in (counts.precision, counts.recall))
        lines.append(
            f"{name:<20}{counts.questions:>10}{live:>6}{counts.missed:>8}{counts.alarms:>8}{precision:>11}{recall:>8}"
        )
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def main(arguments: list[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks freshness", description=__doc__)
    parser.add_argument("--misses", action="store_true", help="list what was judged wrong of the part 'tune'")
    chosen = parser.parse_args(arguments)
    asked = list(questions())
    print(table(asked))
    if chosen.misses:
        for question in asked:
            verdict = needs_fresh_data(question.text, NOW)
            if question.part == "tune" and bool(verdict) is not question.live:
                print(f"{question.kind}: {question.text!r} judged {verdict}")
    return 0
