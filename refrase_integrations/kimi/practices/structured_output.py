"""structured-output: the host's own json_schema where it has it, else one tool, validation and one re-ask."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from refrase_integrations.errors import ToolSchemaError
from refrase_integrations.kimi.followups import continued, may_follow_up, reply_message
from refrase_integrations.kimi.messages import text_of, with_fields
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
from refrase_integrations.kimi.practices.tool_choice import is_forbidden
from refrase_integrations.kimi.practices.tool_format import given_tools
from refrase_integrations.kimi.practices.tool_schemas import flavoured_schema
from refrase_integrations.kimi.schema import InvalidToolSchema, read_arguments
from refrase_integrations.kimi.wire import Body, Message, Tool, ToolCall, put, without

_DESCRIPTION = "Give the final answer to the user in this form."
_IN_PROMPT = "Answer with one JSON object and nothing else"


def apply(body: Body, call: Call) -> Edit:
    """Choose the dialect's route for ``response_format``."""
    wanted = body.get("response_format")
    if not isinstance(wanted, Mapping) or wanted.get("type") in (None, "text"):
        return unchanged(body)
    taken = call.dialect.response_formats
    if wanted["type"] != "json_schema":
        return unchanged(body) if wanted["type"] in taken else _in_prompt(body, None)
    described = wanted.get("json_schema") or {}
    schema = described.get("schema")
    if not isinstance(schema, Mapping):
        return Edit(body, [Change("refuse", "response_format json_schema without a schema")])
    if "json_schema" in taken:
        return _native(body, described, schema, call)
    tools = given_tools(body)
    if len(tools) < call.dialect.tool_limit and "auto" in call.dialect.tool_choices and not is_forbidden(body):
        return _as_tool(body, described, schema, call)
    edited = put(body, response_format={"type": "json_object"}) if "json_object" in taken else body
    return _in_prompt(edited, schema)


def heal(prepared: Prepared) -> Step | None:
    """Check the answer against the user's schema; on the tool's route hand its arguments back as content."""
    wanted = prepared.call.body.get("response_format")
    if not isinstance(wanted, Mapping) or wanted.get("type") != "json_schema":
        return None
    schema = (wanted.get("json_schema") or {}).get("schema")
    return _Fit(prepared, schema) if isinstance(schema, Mapping) else None


def _native(body: Body, described: Mapping[str, Any], schema: Mapping[str, Any], call: Call) -> Edit:
    changes: list[Change] = []
    wanted = {**described, "name": _name(described), "strict": described.get("strict", True)}
    if call.dialect.schema == "mfjs" and wanted["strict"]:
        try:
            wanted["schema"] = flavoured_schema(schema).schema
        except InvalidToolSchema as error:
            return Edit(body, [Change("refuse", f"response schema: {error}")])
    if wanted == described:
        return unchanged(body)
    changes.append(Change("encode", f"json_schema {wanted['name']!r} in the host's form"))
    return Edit(put(body, response_format={"type": "json_schema", "json_schema": wanted}), changes)


def _as_tool(body: Body, described: Mapping[str, Any], schema: Mapping[str, Any], call: Call) -> Edit:
    name = _tool_name(body, described)
    function = {
        "name": name,
        "description": described.get("description") or _DESCRIPTION,
        "parameters": schema,
    }
    own = body.get("tools") or []
    edited = put(without(body, "response_format"), tools=[*own, cast(Tool, {"type": "function", "function": function})])
    if not own and "required" in call.dialect.tool_choices:
        edited = put(edited, tool_choice="required")
    return Edit(edited, [Change("encode", f"no json_schema here: the tool {name!r} takes the answer")])


def _in_prompt(body: Body, schema: Mapping[str, Any] | None) -> Edit:
    line = f"{_IN_PROMPT}." if schema is None else f"{_IN_PROMPT}, valid against this JSON schema: {json.dumps(schema)}"
    messages = messages_of(body)
    if any(message.get("role") == "system" and line in text_of(message.get("content")) for message in messages):
        return unchanged(body)
    first = messages[0] if messages and messages[0].get("role") == "system" else None
    text = f"{text_of(first.get('content'))}\n\n{line}" if first is not None else line
    system: Message = with_fields(first, content=text) if first is not None else {"role": "system", "content": line}
    edited = put(body, messages=[system, *messages[1 if first is not None else 0 :]])
    kept = isinstance(body.get("response_format"), Mapping) and body["response_format"].get("type") == "json_object"
    if schema is None or not kept:
        edited = without(edited, "response_format")
    return Edit(edited, [Change("encode", "no json_schema here: the schema is in the system prompt")])


class _Fit:
    """Holds content while a re-ask is possible, which on the host's own json_schema it is only without streaming."""

    def __init__(self, prepared: Prepared, schema: Mapping[str, Any]) -> None:
        self._prepared = prepared
        self._schema = schema
        sent = prepared.body.get("response_format")
        native = isinstance(sent, Mapping) and sent.get("type") == "json_schema"
        described = (prepared.call.body.get("response_format") or {}).get("json_schema") or {}
        name = _tool_name(prepared.call.body, described)
        given = {(tool.get("function") or {}).get("name") for tool in prepared.body.get("tools") or ()}
        self._tool = None if native or name not in given else name
        self._live = native and prepared.stream
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._answer: str | None = None
        self._others = False

    @property
    def idle(self) -> bool:
        """Content is not held."""
        return self._live

    def catch_up(self, content: str, reasoning: str) -> None:
        """Remember what was said."""
        self._content.append(content)
        self._reasoning.append(reasoning)

    def feed(self, delta: Delta) -> Sequence[Delta]:
        kept: dict[str, Any] = dict(delta)
        self._reasoning.append(delta.get("reasoning", ""))
        self._content.append(delta.get("content", ""))
        if not self._live:
            kept.pop("content", None)
        calls = kept.pop("tool_calls", None) or []
        others = [made for made in calls if not self._is_answer(made)]
        if others:
            self._others = True
            kept["tool_calls"] = others
        return [cast(Delta, kept)] if kept else []

    def close(self, finish_reason: str | None) -> Iterable[Delta]:
        content = "".join(self._content)
        if self._others:  # the agent goes on working: the answer comes in a later turn
            return [] if self._live or not content else [{"content": content}]
        answer = self._answer if self._answer is not None else _json_in(content)
        read = None if answer is None else read_arguments(answer, self._schema)
        if read is not None and read.error is None:
            if self._live:
                return []
            fixed: Delta = {"content": read.text, "finish_reason": "stop"}
            note = Change("encode", f"the answer put in form ({', '.join(read.repairs)})") if read.repairs else None
            return [cast(Delta, {**fixed, "notes": [note]})] if note else [fixed]
        problem = "no JSON in it" if read is None else str(read.error)
        if not self._live and may_follow_up(self._prepared, PRACTICE.id):
            note = Change("replace", f"the answer does not fit the schema ({problem}): one re-ask")
            return [{"followup": Followup(self._asked_again(content, problem), note.detail), "notes": [note]}]
        note = Change("advise", f"the answer does not fit the schema: {problem}")
        last: Delta = {"notes": [note]}
        said = answer if self._answer is not None else content
        if not self._live and said:
            last["content"] = said
        return [last]

    def _is_answer(self, made: ToolCall) -> bool:
        function = made.get("function") or {}
        if self._tool is None or function.get("name") != self._tool:
            return False
        self._answer = function.get("arguments", "") if self._answer is None else self._answer
        return True

    def _asked_again(self, content: str, problem: str) -> Body:
        said = content if self._answer is None else self._answer
        how = f"by calling the tool {self._tool}" if self._tool is not None else "as one JSON object"
        nudge: Message = {
            "role": "user",
            "content": f"That answer does not have the form that was asked for ({problem}). Give it again {how}.",
        }
        reply = [reply_message(said, "".join(self._reasoning) or None)] if said.strip() else []
        return continued(self._prepared.call.body, *reply, nudge)


def _tool_name(body: Body, described: Mapping[str, Any]) -> str:
    taken = {(tool.get("function") or {}).get("name") for tool in given_tools(body)}
    name = _name(described)
    while name in taken:
        name += "_"
    return name


def _name(described: Mapping[str, Any]) -> str:
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", str(described.get("name") or "answer"))[:60]
    return plain if re.match(r"[a-zA-Z_].{2}", plain) else f"answer_{plain}"


def _json_in(content: str) -> str | None:
    """Return the JSON object of a plain answer: all of it, or the one fenced block in it."""
    text = content.strip()
    fenced = re.findall(r"```(?:json)?\s*\n(.*?)```", text, flags=re.DOTALL)
    if not text.startswith("{") and len(fenced) == 1:
        text = fenced[0].strip()
    return text if text.startswith("{") else None


PRACTICE = Practice(
    id="structured-output",
    statement="Uses json_schema where the host takes it, else one tool, validation and one re-ask; thinking stays on.",
    sources=(Reference("platform.kimi.ai/docs/guide/response_format", "2026-08-13", "B"),),
    error=ToolSchemaError,
    apply=apply,
    heal=heal,
)
