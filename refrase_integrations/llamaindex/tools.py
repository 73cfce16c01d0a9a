"""Tools of every kind LlamaIndex accepts, as wire tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from llama_index.core.tools import BaseTool, FunctionTool

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.wire import Tool


def marked_live(tools: Iterable[Any]) -> set[str]:
    """Return the names of the tools whose attribute ``live`` is True: LlamaIndex's tools have no tags."""
    return {
        tool.metadata.get_name() for tool in tools if isinstance(tool, BaseTool) and getattr(tool, "live", None) is True
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
    if isinstance(tools, str | Mapping) or not isinstance(tools, Iterable):
        raise ConfigurationError(f"tools must be a list of tools, not {type(tools).__name__}")
    formed: list[Tool] = []
    for position, tool in enumerate(tools):
        if isinstance(tool, Mapping):
            if strict is not None and tool.get("type") == "function":
                tool = {**tool, "function": {**tool["function"], "strict": strict}}
            formed.append(cast(Tool, tool))
            continue
        if not callable(tool):  # a tool of LlamaIndex is callable too
            raise ConfigurationError(f"tools[{position}]: {type(tool).__name__} is no tool")
        try:
            formed.append(_formed(tool if isinstance(tool, BaseTool) else FunctionTool.from_defaults(tool), strict))
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"tools[{position}]: {type(tool).__name__} is no tool: {error}") from None
    return formed


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
