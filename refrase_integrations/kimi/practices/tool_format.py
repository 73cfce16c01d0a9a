"""tool-format: tools go in the OpenAI ``tools`` parameter, in the OpenAI form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from refrase_integrations.kimi.followups import continued, reply_message
from refrase_integrations.kimi.messages import text_of
from refrase_integrations.kimi.practice import (
    Call,
    Change,
    Delta,
    Edit,
    Followup,
    Practice,
    Prepared,
    Reference,
    Step,
    messages_of,
    unchanged,
)
from refrase_integrations.kimi.wire import Body, Message, Tool, ToolCall, put, without

_PASTED = (
    "<|im_system|>tool_declare",
    '"type": "function"',
    '"type":"function"',
    "<tools>",
    '"parameters": {',
    '"parameters":{',
)
_BUILTIN = "builtin_function"
_MOST_SEARCHES = 8  # in one user call; each costs money (platform.kimi.ai/docs/pricing/tools)
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


def apply(body: Body, call: Call) -> Edit:
    """Bring tools of other forms (functions, flat, Anthropic, MCP) into the OpenAI form; find pasted ones."""
    edited, changes = _modern(body)
    tools = edited.get("tools")
    if tools is not None and not tools:
        edited, tools = without(edited, "tools"), None
        changes.append(Change("encode", "an empty tools list left out"))
    if tools:
        formed = [_formed(tool, call.dialect.web_search, changes) for tool in tools]
        if any(new is not old for new, old in zip(formed, tools, strict=True)):
            edited = put(edited, tools=formed)
        if len(formed) > call.dialect.tool_limit:
            changes.append(Change("refuse", f"{len(formed)} tools; this host takes {call.dialect.tool_limit}"))
        names = {(tool.get("function") or {}).get("name") for tool in formed}
        if _pasted(body, names):
            changes.append(
                Change("advise", "the system prompt repeats tool declarations; tools belong in 'tools' only")
            )
    return Edit(edited, changes) if changes else unchanged(body)


def heal(prepared: Prepared) -> Step | None:
    """Hand the host's builtin tools their own arguments back: the app never sees their calls."""
    tools = prepared.body.get("tools") or ()
    return _HandBack(prepared) if any(tool.get("type") == _BUILTIN for tool in tools) else None


class _HandBack:
    """Moonshot runs ``$web_search`` itself once the call's arguments come back unchanged as its result."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._said: dict[str, list[str]] = {"content": [], "reasoning": []}
        self._builtin: list[ToolCall] = []
        self._own = False

    def feed(self, delta: Delta) -> Sequence[Delta]:
        for key, said in self._said.items():
            said.append(cast("dict[str, Any]", delta).get(key, ""))
        calls = delta.get("tool_calls")
        if not calls:
            return [delta]
        builtin = [made for made in calls if (made.get("function") or {}).get("name", "").startswith("$")]
        own = [made for made in calls if made not in builtin]
        self._builtin += builtin
        self._own = self._own or bool(own)
        rest: dict[str, Any] = {key: value for key, value in delta.items() if key != "tool_calls"}
        if own:
            rest["tool_calls"] = own
        return [cast(Delta, rest)] if rest else []

    def close(self, finish_reason: str | None) -> Iterable[Delta]:
        if not self._builtin:
            return []
        names = ", ".join(sorted({made["function"]["name"] for made in self._builtin}))
        if self._own or self._prepared.call.handed_back >= _MOST_SEARCHES:
            why = "beside calls of the app" if self._own else f"after {_MOST_SEARCHES} of them in one call"
            dropped: Delta = {"notes": [Change("drop", f"a call to {names} {why}")]}
            return [dropped if self._own else {**dropped, "finish_reason": "stop"}]  # no call is left to hand out
        reasoning = "".join(self._said["reasoning"])
        answers: list[Message] = [
            {
                "role": "tool",
                "tool_call_id": made.get("id", ""),
                "name": made["function"]["name"],
                "content": made["function"].get("arguments", ""),
            }
            for made in self._builtin
        ]
        said = reply_message("".join(self._said["content"]), reasoning or None, self._builtin)
        note = Change("encode", f"{names}: handed its arguments back")
        followup = Followup(continued(self._prepared.call.body, said, *answers), note.detail, counts=False)
        return [{"followup": followup, "notes": [note]}]


def given_tools(body: Body) -> list[Tool]:
    """Return the user's tools in the OpenAI form, whatever form they were given in."""
    modern, _ = _modern(body)
    return [_formed(tool, True, []) for tool in modern.get("tools") or ()]


def _modern(body: Body) -> tuple[Body, list[Change]]:
    """The 2023 form (functions, function_call) is not supported by Moonshot's API."""
    old = cast(dict[str, Any], body)
    if "functions" not in old and "function_call" not in old:
        return body, []
    tools = [
        *(body.get("tools") or ()),
        *({"type": "function", "function": f} for f in old.get("functions") or ()),
    ]
    choice = old.get("function_call")
    if isinstance(choice, Mapping):
        choice = {"type": "function", "function": {"name": choice.get("name")}}
    modern = put(without(body, "functions", "function_call"), tools=tools or None)
    if choice is not None and "tool_choice" not in body:
        modern = put(modern, tool_choice=choice)
    return modern, [Change("encode", "functions -> tools")]


def _formed(tool: Tool, web_search: bool, changes: list[Change]) -> Tool:
    flat = cast(dict[str, Any], tool)
    function = flat.get("function")
    if not isinstance(function, Mapping):
        if not isinstance(flat.get("name"), str):
            changes.append(Change("refuse", f"a tool without a function: keys {sorted(map(str, flat))}"))
            return tool
        schema = flat.get("parameters") or flat.get("input_schema") or flat.get("inputSchema")
        function = {"name": flat["name"], "description": flat.get("description"), "parameters": schema}
        function = {key: value for key, value in function.items() if value is not None}
        flat = {"type": "function", "function": function}
        changes.append(Change("encode", f"{function['name']}: to the OpenAI form"))
    name = function.get("name")
    if isinstance(name, str) and name.startswith("$"):
        return _builtin(name, flat, web_search, changes)
    if not isinstance(function.get("parameters"), Mapping) or flat.get("type") != "function":
        changes.append(Change("encode", f"{name}: type and parameters filled in"))
        parameters = function.get("parameters")
        filled = parameters if isinstance(parameters, Mapping) else _NO_PARAMETERS
        flat = {**flat, "type": "function", "function": {**function, "parameters": filled}}
    return cast(Tool, flat)


def _builtin(name: str, tool: dict[str, Any], available: bool, changes: list[Change]) -> Tool:
    if not available:
        changes.append(Change("refuse", f"{name}: this host has no such builtin tool"))
    wanted = {"type": _BUILTIN, "function": {"name": name}}
    if tool == wanted:
        return cast(Tool, tool)
    changes.append(Change("encode", f"{name}: to a builtin function, name only"))
    return cast(Tool, wanted)


def _pasted(body: Body, names: set[Any]) -> bool:
    system = "".join(text_of(m.get("content")) for m in messages_of(body) if m.get("role") == "system")
    return any(mark in system for mark in _PASTED) and any(isinstance(n, str) and n in system for n in names)


PRACTICE = Practice(
    id="tool-format",
    statement="Tools go in the OpenAI tools parameter, in its form, never pasted into the prompt.",
    sources=(
        Reference("moonshotai/Kimi-K2-Instruct model card", "2025-07-14"),
        Reference("platform.kimi.ai/docs/guide/migrating-from-openai-to-kimi", "2026-08-13", "B"),
    ),
    apply=apply,
    heal=heal,
)
