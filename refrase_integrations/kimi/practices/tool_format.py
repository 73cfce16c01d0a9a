"""tool-format: tools go in the OpenAI ``tools`` parameter, in the OpenAI form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from refrase_integrations.kimi.choices import name_in
from refrase_integrations.kimi.followups import continued, may_follow_up, reply_message
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
_NO_MORE = "Error: no more searches in this reply. Answer with what you have found."
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
        several = (body.get("n") or 1) > 1 and call.dialect.sampling["n"].rule != "omit"
        if several and any(tool.get("type") == _BUILTIN for tool in formed):
            why = "its call can be answered for one reply only"
            changes.append(Change("refuse", f"n={body.get('n')} with a builtin tool: {why}"))
        if len(formed) > call.dialect.tool_limit:
            changes.append(Change("refuse", f"{len(formed)} tools; this host takes {call.dialect.tool_limit}"))
        names = {(tool.get("function") or {}).get("name") for tool in formed}
        if _pasted(call.body, names):
            changes.append(
                Change("advise", "the system prompt repeats tool declarations; tools belong in 'tools' only")
            )
    return Edit(edited, changes) if changes else unchanged(body)


def heal(prepared: Prepared) -> Step | None:
    """Hand the host's builtin tools their own arguments back: the app never sees their calls."""
    tools = prepared.body.get("tools") or ()
    builtin = any(tool.get("type") == _BUILTIN for tool in tools)
    return _HandBack(prepared) if builtin or prepared.call.handed_back else None


class _HandBack:
    """Moonshot runs ``$web_search`` itself once the call's arguments come back unchanged as its result."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._said: dict[str, list[str]] = {"content": [], "reasoning": []}
        self._builtin: list[ToolCall] = []
        self._own = False
        self._apart = _spoke_before(prepared.call)

    @property
    def idle(self) -> bool:
        """No break has to be put before the next text."""
        return not self._apart

    def catch_up(self, content: str, reasoning: str) -> None:
        """Remember what was said, for the next request."""
        self._said["content"].append(content)
        self._said["reasoning"].append(reasoning)

    def feed(self, delta: Delta) -> Sequence[Delta]:
        for key, said in self._said.items():
            said.append(cast("dict[str, Any]", delta).get(key, ""))
        if self._apart and delta.get("content"):
            self._apart = False
            delta = {**delta, "content": f"\n\n{delta['content']}"}
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
        if self._own:
            return [{"notes": [Change("drop", f"a call to {names} beside calls of the app")]}]
        if self._prepared.call.handed_back < _MOST_SEARCHES:
            note = Change("encode", f"{names}: handed its arguments back")
            return [{"followup": Followup(self._answered(), note.detail, counts=False), "notes": [note]}]
        note = Change("drop", f"a call to {names} after {_MOST_SEARCHES} of them in one call")
        if not may_follow_up(self._prepared, PRACTICE.id):
            return [{"notes": [note], "finish_reason": "stop"}]  # no call is left to hand out
        body = self._answered(_NO_MORE)
        own = [tool for tool in given_tools(body) if tool.get("type") != _BUILTIN]
        return [{"followup": Followup(put(body, tools=own or None), note.detail), "notes": [note]}]

    def _answered(self, answer: str | None = None) -> Body:
        """Return the conversation with the calls and their answers: their own arguments, if nothing else."""
        answers: list[Message] = [
            {
                "role": "tool",
                "tool_call_id": made.get("id", ""),
                "name": made["function"]["name"],
                "content": answer or made["function"].get("arguments", ""),
            }
            for made in self._builtin
        ]
        said = reply_message("".join(self._said["content"]), "".join(self._said["reasoning"]) or None, self._builtin)
        body = continued(self._prepared.call.body, said, *answers)
        wanted = name_in(given_choice(body))
        # The call that was forced has come, unless another one was named: the next reply may be the answer.
        return body if wanted and not wanted.startswith("$") else without(body, "tool_choice", "function_call")


def _spoke_before(call: Call) -> bool:
    """Tell whether text of a reply of this same user call was handed out before a search."""
    searches = [
        message
        for message in messages_of(call.body)
        if any((made.get("function") or {}).get("name", "").startswith("$") for made in message.get("tool_calls") or ())
    ]
    back = call.handed_back  # searches before these are of earlier calls
    return bool(back) and any(text_of(message.get("content")).strip() for message in searches[-back:])


def given_tools(body: Body) -> list[Tool]:
    """Return the user's tools in the OpenAI form, whatever form they were given in."""
    modern, _ = _modern(body)
    return [_formed(tool, True, []) for tool in modern.get("tools") or ()]


def given_choice(body: Body) -> Any:
    """Return the user's tool choice, also where it was given in the form of 2023."""
    return _modern(body)[0].get("tool_choice")


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
