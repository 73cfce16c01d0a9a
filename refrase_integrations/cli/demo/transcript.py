"""What the demo prints: a conversation as it streams in, and tables of what was done to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_STYLES = {"thinking": "dim italic", "kimi": "cyan", "call": "magenta"}


@dataclass(frozen=True)
class Turn:
    """One model call, in the words of neither framework."""

    report: Mapping[str, Any]
    tokens: Sequence[int | None]
    """Tokens in, cached, reasoning, tokens out."""
    cost: float | None
    """US dollars."""


class Transcript:
    """Prints who says what."""

    def __init__(self, console: Console) -> None:
        self._console, self._speaker = console, ""

    def add(self, speaker: str, text: str) -> None:
        """Print a piece of what somebody says."""
        if not text:
            return
        if speaker != self._speaker:
            self._console.print(f"\n[bold]{speaker}[/]  ", end="")
            self._speaker = speaker
        self._console.print(text, style=_STYLES.get(speaker), end="", highlight=False, markup=False)

    def start(self, speaker: str, text: str) -> None:
        """Print something new, also where the same one spoke last."""
        self._speaker = ""
        self.add(speaker, text)

    def close(self, turns: Sequence[Turn]) -> None:
        """Print what was done in all turns, and what they cost."""
        self._console.print("\n")
        self._console.print(_practices(turns))
        self._console.print(_costs(turns))


def _practices(turns: Sequence[Turn]) -> Table:
    from rich.table import Table

    from refrase_integrations.kimi.practices import ordered

    statements = {practice.id: practice.statement for practice in ordered()}
    table = Table(title="Practices applied", title_justify="left", show_lines=True)
    for name in ("practice", "what changed", "why", "source"):
        table.add_column(name, overflow="fold")
    rows: dict[tuple[str, str, str], None] = {}
    for turn in turns:
        for line in (*turn.report.get("changes", ()), *turn.report.get("healed", ())):
            rows[(line["practice"], line["detail"], line["source"])] = None
    for practice, detail, source in rows:
        table.add_row(practice, detail, statements.get(practice, ""), source)
    return table


def _costs(turns: Sequence[Turn]) -> Table:
    from rich.table import Table

    table = Table(title="Tokens and cost", title_justify="left")
    for name in ("turn", "tokens in", "cached", "reasoning", "tokens out", "US dollars"):
        table.add_column(name, justify="right")
    for number, turn in enumerate(turns, 1):
        counted = ("" if count is None else str(count) for count in turn.tokens)
        table.add_row(str(number), *counted, "" if turn.cost is None else f"{turn.cost:.6f}")
    table.add_row("all", "", "", "", "", f"{sum(turn.cost or 0 for turn in turns):.6f}")
    return table
