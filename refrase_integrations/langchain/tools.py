"""Tools of every kind LangChain accepts, as wire tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.inputs import checked_tools, items, tool_name
from refrase_integrations.kimi.wire import Tool

BUILTIN = "builtin_function"
_LONGEST = 300  # characters of what langchain-core says of a tool


def marked_live(tools: Iterable[Any]) -> set[str]:
    """Return the names of the tools that carry the tag ``"live"`` or the metadata ``{"live": True}``."""
    return {
        tool.name
        for tool in items(tools, "tools", "a list of tools")
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
    formed: list[Tool] = []
    for position, tool in enumerate(items(tools, "tools", "a list of tools")):
        if isinstance(tool, dict) and (tool.get("type") == BUILTIN or "function" in tool):
            if strict is not None and tool.get("type") == "function":
                checked_tools([tool])
                tool = {**tool, "function": {**(tool.get("function") or {}), "strict": strict}}
            formed.append(cast(Tool, tool))
            continue
        if isinstance(tool, dict) and "inputSchema" in tool:  # MCP's form, whose schema langchain-core would drop
            tool = {key: tool[key] for key in ("name", "description") if tool.get(key)} | {
                "parameters": tool["inputSchema"]
            }
        try:
            formed.append(cast(Tool, convert_to_openai_tool(tool, strict=strict)))
        except Exception as error:  # noqa: BLE001 - a tool's own class, its annotations, or langchain-core's reading of it
            why = str(error)[:_LONGEST]
            raise ConfigurationError(f"tools[{position}]: {type(tool).__name__} is no tool: {why}") from None
    checked_tools(formed)
    return formed


def tool_names(tools: Sequence[Any]) -> list[str]:
    """Return the names of tools, of which some may be given by their name alone.

    Raises:
        ConfigurationError: something is neither a tool nor a name.
    """
    named = items(tools, "tools", "a list of tools or names")
    return [tool if isinstance(tool, str) else tool_name(wire_tools([tool])[0]) for tool in named]
