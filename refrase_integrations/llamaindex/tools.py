"""Tools of every kind LlamaIndex accepts, as wire tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from llama_index.core.tools import BaseTool, FunctionTool

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.inputs import checked_tools, items, tool_name
from refrase_integrations.kimi.wire import Tool


def marked_live(tools: Iterable[Any]) -> set[str]:
    """Return the names of the tools whose attribute ``live`` is True: LlamaIndex's tools have no tags."""
    return {
        tool.metadata.get_name()
        for tool in items(tools, "tools", "a list of tools")
        if isinstance(tool, BaseTool) and getattr(tool, "live", None) is True
    }


def wire_tools(
    tools: Sequence[BaseTool | Mapping[str, Any] | Callable[..., Any]], strict: bool | None = None
) -> list[Tool]:
    """Return the OpenAI form of tools: `BaseTool`s, functions, and dicts, which stay as they are.

    A tool keeps its own name: LlamaIndex's `to_openai_tool` would rewrite ``$web_search`` and any name with a dot, and
    an agent looks the called tool up by the name that it has.

    Args:
        tools: what the model may call.
        strict: whether arguments must follow the schema; None leaves it to the host.

    Raises:
        ConfigurationError: that is no list, something in it is no tool, or its parameters have no JSON schema; names
            position and type.
    """
    formed: list[Tool] = []
    for position, tool in enumerate(items(tools, "tools", "a list of tools")):
        if isinstance(tool, Mapping):
            if strict is not None and tool.get("type") == "function":
                checked_tools([tool])
                tool = {**tool, "function": {**(tool.get("function") or {}), "strict": strict}}
            formed.append(cast(Tool, tool))
            continue
        if not callable(tool):  # a tool of LlamaIndex is callable too
            raise ConfigurationError(f"tools[{position}]: {type(tool).__name__} is no tool")
        try:
            formed.append(_formed(tool if isinstance(tool, BaseTool) else FunctionTool.from_defaults(tool), strict))
        except Exception as error:  # noqa: BLE001 - a tool's own class, its annotations, or LlamaIndex's reading of it
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


_LONGEST = 300  # characters of what LlamaIndex says of a tool


def _formed(tool: BaseTool, strict: bool | None) -> Tool:
    metadata = tool.metadata
    formed: Tool = {
        "type": "function",
        "function": {
            "name": metadata.get_name(),
            "description": metadata.description,
            "parameters": metadata.get_parameters_dict(),
        },
    }
    if strict is not None:
        formed["function"]["strict"] = strict
    return formed
