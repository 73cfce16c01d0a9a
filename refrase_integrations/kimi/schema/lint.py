"""A linter for the tools of a request: what a host would refuse, where, and what would mend it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from refrase_integrations.kimi.inputs import instance, items
from refrase_integrations.kimi.schema.mfjs import normalise
from refrase_integrations.kimi.schema.plain import InvalidToolSchema
from refrase_integrations.kimi.schema.rules import STRICT, Limits, violations

TOOL_NAME = r"^[a-zA-Z_][a-zA-Z0-9-_]{2,63}$"
"""Names that Moonshot takes (its OpenAPI document)."""
TOOL_LIMIT = 128
"""Most tools in one request to Moonshot (its OpenAPI document)."""


class ToolFinding(NamedTuple):
    """One thing that is wrong with a tool."""

    tool: str
    """The tool's name; ``tools[3]`` where it has none, empty where all tools together are meant."""
    path: str
    """Where in the tool's parameters: keywords and names joined by dots; empty where the tool itself is
    meant."""
    message: str
    """What is wrong."""
    fix: str
    """What the practices do about it, or what the author has to do."""
    rule: Literal["tool-schema", "tool-name", "tool-description", "tool-form"] = "tool-schema"
    """Which rule it breaks."""


def lint_tools(
    tools: Iterable[Mapping[str, Any]],
    *,
    pattern: str = TOOL_NAME,
    limit: int = TOOL_LIMIT,
    flavour: Literal["mfjs", "json"] = "mfjs",
    limits: Limits = STRICT,
) -> tuple[ToolFinding, ...]:
    """Check tools in OpenAI form before a host does.

    Args:
        tools: the ``tools`` of a request. Builtin functions (``$web_search``) are passed over.
        pattern: what a name has to match in full.
        limit: most tools in one request.
        flavour: "mfjs" where the host takes Moonshot-flavoured schemas only; with "json" only what no host
            can take is found.
        limits: how large a schema may be.

    Returns:
        The findings, tool by tool.

    Raises:
        ConfigurationError: one of the tools is no object.
    """
    given = [
        instance(tool, Mapping, f"tools[{place}]", "an object") for place, tool in enumerate(items(tools, "tools"))
    ]
    return tuple(_findings(given, re.compile(pattern), limit, flavour, limits))


def _findings(
    tools: list[Mapping[str, Any]], pattern: re.Pattern[str], limit: int, flavour: str, limits: Limits
) -> Iterator[ToolFinding]:
    if len(tools) > limit:
        yield ToolFinding(
            "", "", f"{len(tools)} tools, the host takes {limit}", "send only the tools of this step", "tool-form"
        )
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.get("type") == "builtin_function":
            continue
        function = tool.get("function")
        if not isinstance(function, Mapping):
            yield ToolFinding(
                f"tools[{index}]", "", "no 'function' object", "give the tool in OpenAI form", "tool-form"
            )
            continue
        name = function.get("name")
        label = name if isinstance(name, str) and name else f"tools[{index}]"
        if not isinstance(name, str) or not name:
            yield ToolFinding(label, "", "no name", "name the tool", "tool-name")
        elif pattern.fullmatch(name) is None:
            wanted = f"the host takes names that match {pattern.pattern}"
            yield ToolFinding(label, "", wanted, "an alias is sent", "tool-name")
        if isinstance(name, str):
            if name in seen:
                yield ToolFinding(label, "", "the name is used twice", "rename one of the tools", "tool-name")
            seen.add(name)
        if not function.get("description"):
            how = "say what the tool does and when to use it"
            yield ToolFinding(label, "", "no description", how, "tool-description")
        yield from _parameters(label, function.get("parameters"), flavour, limits)


def _parameters(tool: str, schema: Any, flavour: str, limits: Limits) -> Iterator[ToolFinding]:
    try:
        result = normalise(schema, root="object", limits=limits)
    except InvalidToolSchema as error:
        yield ToolFinding(tool, error.path, error.reason, "correct the schema: it cannot be rewritten")
        return
    if flavour != "mfjs" or schema is None:
        return
    notes = {note.path: note.what for note in reversed(result.notes)}
    broken = violations(schema, limits)
    for path, message in broken:
        yield ToolFinding(tool, path, message, _fix(path, notes))
    if not broken and result.schema is not schema:
        yield ToolFinding(tool, "", "the parameters are not of type object", "they are made an object")


def _fix(path: str, notes: Mapping[str, str]) -> str:
    """Say what the rewriting does at ``path``, or at the closest place around or inside it."""
    inside = [what for place, what in notes.items() if place == path or place.startswith(f"{path}.")]
    return inside[0] if inside else "the schema is rewritten to keep the rule"
