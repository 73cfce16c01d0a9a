"""What is known of Moonshot's Formula tools."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import NamedTuple

from refrase_integrations.kimi.catalogue.loading import parse


class FormulaFacts(NamedTuple):
    """How formulas are named, and which are documented (``formulas.toml``, with sources)."""

    namespace: str
    tag: str
    live: tuple[str, ...]
    """Names of those whose answers change with the world."""
    others: tuple[str, ...]


@cache
def formulas() -> FormulaFacts:
    """Return what is known of the Formula tools."""
    where = "formulas.toml"
    table = parse((resources.files(__package__) / where).read_text("utf-8"), where)
    names, tools = table["namespace"], table["tools"]
    return FormulaFacts(names["name"], names["tag"], tuple(tools["live"]), tuple(tools["others"]))
