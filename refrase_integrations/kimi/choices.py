"""What a tool choice says, in whatever form it was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def kind_of(choice: Any) -> str:
    """Return "none", "auto", "required", "named", or what else was written; LangChain's "any" means required."""
    if isinstance(choice, Mapping):
        inner = choice.get("type")
        return "named" if name_in(choice) is not None else kind_of(inner) if isinstance(inner, str) else "named"
    return "required" if choice == "any" else str(choice)


def name_in(choice: Any) -> str | None:
    """Return the tool that a choice names: OpenAI's form, the flat one, or Anthropic's."""
    if not isinstance(choice, Mapping):
        return None
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
    return name if isinstance(name, str) else None
