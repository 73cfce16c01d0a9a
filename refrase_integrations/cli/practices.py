"""``refrase-kimi practices``: what each practice says, where that is documented, and what it does on the wire."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refrase_integrations.cli.terminal import AsJson, console, print_json, print_text, table

if TYPE_CHECKING:
    from refrase_integrations.kimi.practice import Practice
    from refrase_integrations.kimi.samples import Shown

_LONGEST = 300  # characters of a text in a printed request


def practices(
    practice: Annotated[str | None, typer.Argument(metavar="[ID]", help="One practice, at work on a sample.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the documented practices; with an ID also what it changes, before and after, by running it on a sample.

    \b
    Examples:
      refrase-kimi practices
      refrase-kimi practices tool-schemas
      refrase-kimi practices tool-call-recovery --json
    """
    from refrase_integrations.kimi.practices import ordered
    from refrase_integrations.kimi.samples import find_practice, show

    if practice is not None:
        found = find_practice(practice)
        shown = show(found.id)
        if as_json:
            print_json({**_facts(found), "sample": _sample(shown)})
        else:
            _print(found, shown)
        return
    if as_json:
        print_json([_facts(one) for one in ordered()])
        return
    rows = [(one.id, one.default, one.statement, one.sources[0].address if one.sources else "") for one in ordered()]
    console().print(table(f"{len(rows)} practices, in the order of a request", _COLUMNS, rows))
    print_text('Each is "apply", "warn", "error" or "off": ChatKimi(practices={"temperature": "off"}).')
    print_text("What one does, before and after on the wire: refrase-kimi practices ID")


_COLUMNS = ("practice", "default", "what it does", "source")


def _facts(practice: Practice) -> dict[str, Any]:
    acts_on = {"request": practice.apply or practice.leave, "reply": practice.heal}
    return {
        "id": practice.id,
        "statement": practice.statement,
        "default": practice.default,
        "scope": practice.scope,
        "acts_on": [part for part, acts in acts_on.items() if acts],
        "sources": [source._asdict() for source in practice.sources],
    }


def _sample(shown: Shown) -> dict[str, Any]:
    from dataclasses import asdict

    return dict(_cut(asdict(shown)))


def _print(practice: Practice, shown: Shown) -> None:
    print_text(practice.id, style="bold")
    print_text(practice.statement)
    print_text(f"\ndefault   {practice.default}")
    for source in practice.sources:
        print_text(f"source    {source.address} (as of {source.as_of}, grade {source.grade})")
    print_text(f"\nOn the wire: {shown.model} on {shown.host}, mode {shown.mode}", style="bold cyan")
    for change in shown.changes:
        print_text(f"  {change}")
    if shown.refused:
        print_text(f"  refused before any request: {shown.refused}")
    if shown.before == shown.after:
        print_text("  the request stays as it is" if not shown.refused else "  the request:")
        if shown.refused:
            _print_lines(_lines(shown.before))
    else:
        _print_diff(shown.before, shown.after)
    if shown.reply_before is not None:
        print_text("\nThe host's reply, and what the user gets", style="bold cyan")
        _print_diff(shown.reply_before, shown.reply_after)
    if shown.again is not None:
        print_text("\nAsked once more with", style="bold cyan")
        _print_lines(_lines(shown.again["messages"][-1]))


def _print_diff(before: Any, after: Any) -> None:
    for line in difflib.ndiff(_lines(before), _lines(after)):
        if not line.startswith("?"):
            print_text(f"  {line}", style={"-": "red", "+": "green"}.get(line[0]))


def _print_lines(lines: list[str]) -> None:
    for line in lines:
        print_text(f"    {line}")


def _lines(value: Any) -> list[str]:
    return json.dumps(_cut(value), indent=2, ensure_ascii=False).splitlines()


def _cut(value: Any) -> Any:
    """Shorten long texts: a prompt over the window is part of one sample."""
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"{value[:_LONGEST]}… ({len(value):,} characters)"
    if isinstance(value, dict):
        return {key: _cut(inner) for key, inner in value.items()}
    return [_cut(inner) for inner in value] if isinstance(value, (list, tuple)) else value
