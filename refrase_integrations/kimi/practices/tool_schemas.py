"""tool-schemas: parameters in the host's schema flavour; arguments validated against the user's own schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

from refrase_integrations.errors import ToolCallMissing, ToolSchemaError
from refrase_integrations.kimi.followups import continued, may_follow_up, no_such_tool, reply_message
from refrase_integrations.kimi.memo import Memo, digest
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
    Takes,
    unchanged,
)
from refrase_integrations.kimi.practices.tool_choice import is_forbidden, is_forced, missing
from refrase_integrations.kimi.practices.tool_format import given_tools
from refrase_integrations.kimi.schema import SERVED, InvalidToolSchema, Normalised, normalise, read_arguments
from refrase_integrations.kimi.wire import Body, Message, Tool, ToolCall, put, without

_normalised: Memo[Normalised] = Memo(2048)
_NO_TOOLS = "Error: tools are switched off for this reply. Answer in text, without a tool call."


def apply(body: Body, call: Call) -> Edit:
    """Bring the parameters of every tool into the host's flavour."""
    tools = body.get("tools")
    if not tools or call.dialect.schema != "mfjs":
        return unchanged(body)
    changes: list[Change] = []
    flavoured = [_flavoured(tool, changes) for tool in tools]
    return Edit(put(body, tools=flavoured), changes) if changes else unchanged(body)


def flavoured_schema(schema: Mapping[str, Any], root: Literal["any", "object"] = "any") -> Normalised:
    """Return the Moonshot-flavoured form of a schema, memoised by content.

    Args:
        schema: a JSON schema.
        root: "object" for tool parameters.

    Raises:
        InvalidToolSchema: it cannot be expressed; names the path.
    """
    return _normalised(f"{root} {digest(schema)}", lambda: normalise(schema, root=root, limits=SERVED))


def _flavoured(tool: Tool, changes: list[Change]) -> Tool:
    function = tool.get("function") or {}
    parameters = function.get("parameters")
    if not isinstance(parameters, Mapping):
        return tool
    try:
        normal = flavoured_schema(parameters, "object")
    except InvalidToolSchema as error:
        changes.append(Change("refuse", f"{function.get('name')}: {error}"))
        return tool
    if normal.schema == parameters:
        return tool
    first = normal.notes[0] if normal.notes else None
    where = f" ({first.path}: {first.what})" if first else ""
    changes.append(Change("encode", f"{function.get('name')}: {len(normal.notes)} place(s) rewritten{where}"))
    return cast(Tool, {**tool, "function": {**function, "parameters": normal.schema}})


def heal(prepared: Prepared) -> Step | None:
    """Repair and validate the arguments of the reply's tool calls."""
    return _Validate(prepared)


class _Validate:
    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        functions = [tool.get("function") or {} for tool in given_tools(prepared.call.body)]
        self._schemas = {function.get("name", ""): function.get("parameters") for function in functions}
        sent = {(tool.get("function") or {}).get("name", "") for tool in prepared.body.get("tools") or ()}
        self._added = sent - self._schemas.keys()  # by another practice, which reads its calls itself
        self._none = is_forbidden(prepared.call.body)
        self._made: list[ToolCall] = []
        self._content: list[str] = []
        self._reasoning: list[str] = []

    idle = True

    def catch_up(self, content: str, reasoning: str) -> None:
        """Remember what was said, for a second request."""
        self._content.append(content)
        self._reasoning.append(reasoning)

    def feed(self, delta: Delta) -> Sequence[Delta]:
        self._content.append(delta.get("content", ""))
        self._reasoning.append(delta.get("reasoning", ""))
        if "tool_calls" not in delta:
            return [delta]
        self._made.extend(delta["tool_calls"])
        rest = {key: value for key, value in delta.items() if key != "tool_calls"}
        return [cast(Delta, rest)] if rest else []

    def close(self, finish_reason: str | None) -> Iterable[Delta]:
        notes: list[Change] = []
        if not self._made:
            return [{"notes": [Change("refuse", _NOT_AGAIN)]}] if self._is_missing() else []
        if self._none:
            return self._refuse_all()
        read = [self._checked(made, notes) for made in self._made]
        bad = [made for made in read if "error" in made]
        wanted = self._prepared.call.practices.tool_repair
        ask = bool(bad) and (wanted == "reask" or (wanted == "auto" and len(bad) == len(read)))
        if ask and may_follow_up(self._prepared, PRACTICE.id):
            notes.append(Change("replace", f"{len(bad)} unusable tool call(s): asked once more"))
            good = [made for made in read if "error" not in made]
            # What was handed out of this reply is not told again by the next one: one reply, one line of thought.
            takes: Takes = "calls" if self._text() else "answer" if any(self._reasoning) else "all"
            asked: Delta = {"followup": Followup(self._corrected(bad), notes[-1].detail, takes=takes)}
            return [cast(Delta, {**({"tool_calls": good} if good else {}), **asked, "notes": notes})]
        if is_forced(self._prepared.call.body) and not any(map(_can_be_answered, read)):
            notes.append(missing(self._prepared, "no usable tool call where one was forced", finish_reason))
        done: Delta = {"tool_calls": read}
        return [cast(Delta, {**done, "notes": notes})] if notes else [done]

    def _is_missing(self) -> bool:
        """Tell whether unusable calls were asked for again and none came, behind a text that was handed out: without an
        error the turn would look as if it had ended there."""
        call = self._prepared.call
        return PRACTICE.id in call.asked and call.takes == "calls" and call.practices.tool_repair == "auto"

    def _checked(self, made: ToolCall, notes: list[Change]) -> ToolCall:
        function = made.get("function") or {}
        name = function.get("name", "")
        if name in self._added or "error" in made:  # that practice, or recovery, has read it
            return made
        if name not in self._schemas:
            notes.append(Change("advise", f"a call to {name[:64]!r}, which was not declared"))
            unknown = cast(ToolCall, {**made, "error": no_such_tool(name, self._schemas)})
            if self._prepared.call.practices.undeclared_calls == "invalid":
                unknown["withheld"] = True  # the app may have such a tool, and keep it from the model on purpose
            return unknown
        read = read_arguments(function.get("arguments", ""), self._schemas[name])
        if read.repairs:
            notes.append(Change("encode", f"{name[:64]}: arguments repaired ({', '.join(read.repairs)})"))
        checked = cast(ToolCall, {**made, "function": {**function, "arguments": read.text}})
        if read.error is not None:
            notes.append(Change("advise", f"{name[:64]}: unusable arguments: {read.error}"))
            checked["error"] = read.error
        return checked

    def _refuse_all(self) -> Iterable[Delta]:
        notes = [Change("drop", f"{len(self._made)} tool call(s) although tool_choice is none")]
        if self._text().strip() or not may_follow_up(self._prepared, PRACTICE.id):
            return [{"notes": notes, "finish_reason": "stop"}]
        answers = [_answer(made, _NO_TOOLS) for made in self._made]
        said = reply_message("", "".join(self._reasoning) or None, self._made)
        # Without tools: a model that called one although it may not would do so again (vllm-project/vllm#43155).
        body = without(continued(self._prepared.call.body, said, *answers), "tools", "functions")
        return [{"notes": notes, "followup": Followup(body, notes[0].detail)}]

    def _corrected(self, bad: list[ToolCall]) -> Body:
        """Return the conversation with the unusable calls and what was wrong with each."""
        parsable = [
            cast(ToolCall, {**made, "function": {**made["function"], "arguments": _object(made)}}) for made in bad
        ]
        said = reply_message(self._text(), "".join(self._reasoning) or None, parsable)
        answers = [
            _answer(made, f"Error: {made['error'].rstrip('.')}. Make the call again, corrected.") for made in bad
        ]
        return continued(self._prepared.call.body, said, *answers)

    def _text(self) -> str:
        return "".join(self._content)


def _answer(made: ToolCall, text: str) -> Message:
    name = (made.get("function") or {}).get("name", "")
    return {"role": "tool", "tool_call_id": made.get("id", ""), "name": name, "content": text}


def _can_be_answered(made: ToolCall) -> bool:
    """Tell whether an agent gets the call at all, right or wrong: what cannot be read as an object is no call to it."""
    text = made["function"].get("arguments", "")
    return not made.get("withheld") and (_object(made) == text or not text)


def _object(made: ToolCall) -> str:
    text = made["function"].get("arguments", "")
    try:
        return text if isinstance(json.loads(text), dict) else "{}"
    except (ValueError, RecursionError):
        return "{}"


_NOT_AGAIN = "the reply's tool calls could not be used, and no call came when they were asked for once more"
PRACTICE = Practice(
    id="tool-schemas",
    statement="Normalises tool parameters to Moonshot-flavoured JSON schema; validates arguments by the user's schema.",
    sources=(
        Reference("MoonshotAI/walle docs/mfjs-spec.md", "2026-08-13"),
        Reference("MoonshotAI/kimi-cli#2406", "2026-11-23", "C"),
    ),
    error=ToolSchemaError,
    reply_error=ToolCallMissing,
    apply=apply,
    heal=heal,
)
