"""tool-names: names that the host refuses travel under an alias and come back as they were."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from refrase_integrations.errors import ToolNameError
from refrase_integrations.kimi.messages import map_messages, with_fields
from refrase_integrations.kimi.practice import (
    Call,
    Change,
    Delta,
    Edit,
    Practice,
    Prepared,
    Reference,
    Step,
)
from refrase_integrations.kimi.practices.tool_format import given_tools
from refrase_integrations.kimi.wire import Body, Message, Tool, ToolCall, put

_LONGEST = 64
_DIGEST = 6


def apply(body: Body, call: Call) -> Edit:
    """Alias refused names in the tools, the tool choice and the history."""
    pattern, changes = call.dialect.tool_name, list[Change]()
    tools = body.get("tools") or []
    aliased = [_renamed_tool(tool, pattern, changes) for tool in tools]
    if changes:
        body = put(body, tools=aliased)
    names = [name for tool in aliased if (name := (tool.get("function") or {}).get("name")) is not None]
    twice = {name for name, times in Counter(names).items() if times > 1} if len({*names}) < len(names) else ()
    for name in sorted(twice):
        changes.append(Change("refuse", f"two tools are called {name!r}"))
    body = map_messages(body, lambda message: _renamed_message(message, pattern))
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping):
        function = choice.get("function")
        name = (function if isinstance(function, Mapping) else choice).get("name")  # Anthropic's form has it outside
        if isinstance(name, str) and alias(name, pattern) != name:
            body = put(body, tool_choice={"type": "function", "function": {"name": alias(name, pattern)}})
    return Edit(body, changes)


@lru_cache(maxsize=4096)
def alias(name: str, pattern: str) -> str:
    """Return the name under which a tool travels: itself where ``pattern`` takes it, else a stable alias.

    The alias depends on the name alone, so that a history keeps its form whatever tools are bound later.
    """
    if name.startswith("$") or re.fullmatch(pattern, name):
        return name
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", name)
    if not re.match(r"[a-zA-Z_]", plain):
        plain = f"t_{plain}"
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{plain[: _LONGEST - _DIGEST - 1]}_{digest}"


def heal(prepared: Prepared) -> Step | None:
    """Map aliases back to the user's names."""
    pattern = prepared.call.dialect.tool_name
    names = [(tool.get("function") or {}).get("name") for tool in given_tools(prepared.call.body)]
    back = {alias(name, pattern): name for name in names if isinstance(name, str) and alias(name, pattern) != name}
    return _Rename(back) if back else None


class _Rename:
    def __init__(self, back: Mapping[str, str]) -> None:
        self._back = back

    idle = True

    def catch_up(self, content: str, reasoning: str) -> None:
        """Text has no names."""

    def feed(self, delta: Delta) -> Sequence[Delta]:
        if "tool_calls" not in delta:
            return [delta]
        return [
            cast(
                Delta,
                {**delta, "tool_calls": [_renamed_call(made, self._back) for made in delta["tool_calls"]]},
            )
        ]

    def close(self, finish_reason: str | None) -> Iterable[Delta]:
        return ()


def _renamed_tool(tool: Tool, pattern: str, changes: list[Change]) -> Tool:
    function = tool.get("function") or {}
    name = function.get("name")
    if not isinstance(name, str) or not name:
        changes.append(Change("refuse", "a tool without a name"))
        return tool
    short = alias(name, pattern)
    if short == name:
        return tool
    changes.append(Change("encode", f"{name} -> {short}"))
    return cast(Tool, {**tool, "function": {**function, "name": short}})


def _renamed_message(message: Message, pattern: str) -> Message:
    calls = message.get("tool_calls")
    if calls:
        names = [(made.get("function") or {}).get("name") for made in calls]
        back = {name: alias(name, pattern) for name in names if isinstance(name, str) and alias(name, pattern) != name}
        if back:
            return with_fields(message, tool_calls=[_renamed_call(made, back) for made in calls])
    name: Any = message.get("name")
    if name is not None and message.get("role") == "tool" and isinstance(name, str) and alias(name, pattern) != name:
        return with_fields(message, name=alias(name, pattern))
    return message


def _renamed_call(made: ToolCall, names: Mapping[str, str]) -> ToolCall:
    function = made.get("function") or {}
    name = function.get("name", "")
    if name not in names:
        return made
    return cast(ToolCall, {**made, "function": {**function, "name": names[name]}})


PRACTICE = Practice(
    id="tool-names",
    statement="Aliases tool names that the host refuses, and maps them back.",
    sources=(
        Reference("platform.kimi.ai/docs/api/chat (OpenAPI document)", "2026-08-03"),
        Reference("MoonshotAI/kimi-cli#1773", "2026-11-23", "C"),
    ),
    error=ToolNameError,
    apply=apply,
    heal=heal,
)
