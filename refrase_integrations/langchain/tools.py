"""Tools of every kind LangChain accepts, as wire tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.wire import Tool

BUILTIN = "builtin_function"


def marked_live(tools: Iterable[Any]) -> set[str]:
    """Return the names of the tools that carry the tag ``"live"`` or the metadata ``{"live": True}``."""
    return {
        tool.name
        for tool in tools
        if isinstance(tool, BaseTool) and ("live" in (tool.tags or ()) or (tool.metadata or {}).get("live") is True)
    }


def wire_tools(
    tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], strict: bool | None = None
) -> list[Tool]:
    """Return the OpenAI form of tools: functions, pydantic and TypedDict classes, `BaseTool`s, dicts; builtin
    functions such as ``{"type": "builtin_function", "function": {"name": "$web_search"}}`` stay as they are.

    Raises:
        ConfigurationError: that is no list, or something in it is no tool; names its position and type.
    """
    if isinstance(tools, str | Mapping) or not isinstance(tools, Iterable):
        raise ConfigurationError(f"tools must be a list of tools, not {type(tools).__name__}")
    formed: list[Tool] = []
    for position, tool in enumerate(tools):
        if isinstance(tool, dict) and (tool.get("type") == BUILTIN or "function" in tool):
            if strict is not None and tool.get("type") == "function":
                tool = {**tool, "function": {**tool["function"], "strict": strict}}
            formed.append(cast(Tool, tool))
            continue
        if isinstance(tool, dict) and "inputSchema" in tool:  # MCP's form, whose schema langchain-core would drop
            tool = {key: tool[key] for key in ("name", "description") if tool.get(key)} | {
                "parameters": tool["inputSchema"]
            }
        try:
            formed.append(cast(Tool, convert_to_openai_tool(tool, strict=strict)))
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"tools[{position}]: {type(tool).__name__} is no tool: {error}") from None
    return formed
