"""The progress bar of a batch: rows, failures, tokens, cost so far and to the end. Only on a terminal."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any, Protocol, Self

from refrase_integrations.errors import MissingExtra


class Counts(Protocol):
    """What a run has counted so far."""

    done: int
    failed: int
    resumed: int
    tokens: int
    cost_usd: float


class Bar:
    """A bar that shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar down."""

    def show(self, counts: Counts) -> None:
        """Show what was counted."""

    def say(self, text: str) -> None:
        """Write a line above the bar."""
        print(text, file=sys.stderr)


class _Rich(Bar):
    def __init__(self, rich: Any, console: Any, total: int | None) -> None:
        self._total = total
        self._bar = rich.Progress(
            rich.SpinnerColumn(),
            rich.BarColumn(bar_width=24),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[said]}"),
            rich.TimeElapsedColumn(),
            rich.TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("", total=total, said="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, counts: Counts) -> None:
        seen = counts.done + counts.failed + counts.resumed
        self._bar.update(self._task, completed=seen, said=words(counts, self._total))

    def say(self, text: str) -> None:
        self._bar.console.print(text)


def bar(total: int | None, *, wanted: bool | None = None) -> Bar:
    """Return the bar of a run.

    Args:
        total: rows; None: not known.
        wanted: False: none. True or None: on a terminal, outside continuous integration (``CI``).

    Raises:
        MissingExtra: it was asked for (True), and rich is not installed.
    """
    if wanted is False or os.environ.get("CI") or not sys.stderr.isatty():
        return Bar()
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        if wanted:
            raise MissingExtra("the progress bar", "batch") from None
        return Bar()
    return _Rich(progress, Console(stderr=True), total)


def words(counts: Counts, total: int | None) -> str:
    """Return failures, tokens and cost in words; the cost to the end follows from that of the rows so far."""
    said = [f"{counts.failed:,} failed"] if counts.failed else []
    said.append(f"{counts.tokens:,} tokens")
    if counts.cost_usd:
        paid = counts.done + counts.failed
        left = 0 if total is None else max(total - paid - counts.resumed, 0)
        whole = counts.cost_usd * (paid + left) / max(paid, 1)
        said.append(f"${counts.cost_usd:.4f}" + (f" of about ${whole:.4f}" if left else ""))
    return " · ".join(said)
