"""The report: what was changed in a request, what was healed in its reply, and why."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from refrase_integrations.kimi.dialect import Dialect
    from refrase_integrations.kimi.practice import Change, Practice

_log = logging.getLogger("refrase_integrations")

_LIMIT = 2_000  # the report is checkpointed with every message: most bytes of it as JSON
_ROOM = ((3, 200), (1, 120), (1, 60))  # most examples of a line, most characters of one: the next where it is too long
_LOUD = frozenset({"replace", "drop", "advise", "refuse"})
_said: dict[tuple[str, ...], None] = {}  # what was logged loudly already; bounded


class Entry(NamedTuple):
    """One line of the full report."""

    practice: str
    action: str
    detail: str
    source: str


class Report:
    """Collects what `prepare` and the healer did in one call."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.changes: list[Entry] = []
        self.healed: list[Entry] = []

    def add(self, practice: Practice, changes: Iterable[Change], *, advised: bool = False) -> None:
        """Record what a practice did to the request; ``advised``: it only said so."""
        self._record(self.changes, practice, changes, advised)

    def heal(self, practice: Practice, changes: Iterable[Change], *, advised: bool = False) -> None:
        """Record what a practice did to the reply."""
        self._record(self.healed, practice, changes, advised)

    def _record(self, into: list[Entry], practice: Practice, changes: Iterable[Change], advised: bool) -> None:
        source = practice.sources[0].address if practice.sources else ""
        debug = _log.isEnabledFor(logging.DEBUG)
        for change in changes:
            entry = Entry(practice.id, "advise" if advised else change.kind, change.detail, source)
            into.append(entry)
            if debug or entry.action in _LOUD:
                self._log(entry)

    def _log(self, entry: Entry) -> None:
        loud = entry.action in _LOUD and self._first_time(entry)
        level = logging.WARNING if loud else logging.DEBUG
        if _log.isEnabledFor(level):
            _log.log(
                level,
                "%s on %s: %s: %s",
                self.dialect.model_id,
                self.dialect.host.id,
                entry.practice,
                entry.detail,
            )

    def _first_time(self, entry: Entry) -> bool:
        # One log line for a setting that is overridden, not one a call: an agent makes hundreds.
        key = (self.dialect.model_id, self.dialect.host.id, entry.practice, entry.action, entry.detail)
        if key in _said:
            return False
        if len(_said) >= 1_000:
            _said.clear()
        _said[key] = None
        return True

    def as_dict(self) -> dict[str, Any]:
        """Return the report as it is kept with the message: grouped by practice and action, under 2 KB.

        Where that is too little for all, lines that override nothing go first; ``omitted`` then says how many went.
        """
        report: dict[str, Any] = {}
        for examples, length in _ROOM:
            report = {
                "model": self.dialect.model_id,
                "host": self.dialect.host.id,
                "changes": _grouped(self.changes, examples, length),
                "healed": _grouped(self.healed, examples, length),
            }
            if _size(report) <= _LIMIT:
                return report
        return _cut(report)


def _grouped(entries: list[Entry], examples: int, length: int) -> list[dict[str, Any]]:
    grouped: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        grouped.setdefault((entry.practice, entry.action), []).append(entry)
    lines: list[dict[str, Any]] = []
    for (practice, action), members in grouped.items():
        details = list(dict.fromkeys(member.detail[:length] for member in members))[:examples]
        line: dict[str, Any] = {
            "practice": practice,
            "action": action,
            "detail": "; ".join(details),
            "source": members[0].source[:100],
        }
        if len(members) > 1:
            line["count"] = len(members)
        lines.append(line)
    return lines


def _cut(report: dict[str, Any]) -> dict[str, Any]:
    """Cut a report that is still too long: sources of quiet lines, then quiet lines, then loud ones, last first."""
    kept = [(lines, line) for lines in (report["changes"], report["healed"]) for line in lines]
    quiet = [pair for pair in kept if pair[1]["action"] not in _LOUD]
    for _, line in quiet:
        line["source"] = ""
    loud = [pair for pair in kept if pair[1]["action"] in _LOUD]
    for lines, line in (*reversed(quiet), *reversed(loud)):
        if _size(report) <= _LIMIT:
            break
        lines.remove(line)
        report["omitted"] = report.get("omitted", 0) + 1
    return report


def _size(report: dict[str, Any]) -> int:
    return len(json.dumps(report))
