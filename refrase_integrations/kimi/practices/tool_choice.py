"""tool-choice: "auto" where a forced choice cannot be sent; one bounded re-ask where a forced call does not come."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from refrase_integrations.errors import ToolCallMissing
from refrase_integrations.kimi.choices import kind_of, name_in
from refrase_integrations.kimi.followups import continued, may_follow_up, reply_message
from refrase_integrations.kimi.memo import digest
from refrase_integrations.kimi.practice import (
    Call,
    Change,
    Delta,
    Edit,
    Followup,
    Kind,
    Practice,
    Prepared,
    Reference,
    Step,
    Takes,
    unchanged,
)
from refrase_integrations.kimi.practices.tool_format import given_choice, given_tools
from refrase_integrations.kimi.schema import read_arguments
from refrase_integrations.kimi.wire import Body, Message, Tool, ToolCall, put, without

NUDGE = "Please select a tool to handle the current issue."
"""Moonshot's own wording (platform.moonshot.ai/docs/guide/migrating-from-openai-to-kimi, on tool_choice)."""


def apply(body: Body, call: Call) -> Edit:
    """Send "auto", or a forced choice where the dialect takes it."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not tools:
        if choice is None:
            return unchanged(body)
        dropped: Kind = "encode" if choice in ("auto", "none") else "drop"
        return Edit(without(body, "tool_choice"), [Change(dropped, f"tool_choice {kind_of(choice)} without tools")])
    if choice is None:
        return Edit(put(body, tool_choice="auto"), [Change("add", "tool_choice=auto")])
    kind, name = kind_of(choice), name_in(choice)
    if name is not None and name not in _names(tools):
        return Edit(body, [Change("refuse", f"tool_choice names {name!r}, which is not among the tools")])
    taken = call.dialect.tool_choices
    if kind in taken:
        plain: Any = kind if name is None else {"type": "function", "function": {"name": name}}
        return unchanged(body) if choice == plain else Edit(put(body, tool_choice=plain), [Change("encode", kind)])
    if kind == "none":
        return Edit(without(body, "tools", "tool_choice"), [Change("encode", "tool_choice=none: tools left out")])
    only = [tool for tool in tools if name is None or (tool.get("function") or {}).get("name") == name]
    sent = "required" if kind == "named" and "required" in taken else "auto"
    how = f"tool_choice {kind} -> {sent}" + (" with that tool alone" if len(only) < len(tools) else "")
    change = Change(
        "encode" if sent == "required" else "replace", f"{how}: this model takes {', '.join(sorted(taken))}"
    )
    return Edit(put(body, tools=only, tool_choice=sent), [change])


def heal(prepared: Prepared) -> Step | None:
    """Watch for a reply without a call where the user forced one."""
    return _Insist(prepared) if is_forced(prepared.call.body) and prepared.body.get("tools") else None


def is_forced(body: Body) -> bool:
    """Tell whether a request forces a tool call, in whatever form it says so."""
    return kind_of(given_choice(body)) in ("required", "named")


def is_forbidden(body: Body) -> bool:
    """Tell whether a request forbids tool calls, in whatever form it says so."""
    return kind_of(given_choice(body)) == "none"


class _Insist:
    """Asks once more where no call came. Holds content back until then, unless the host was told to force the call."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._live = prepared.stream and prepared.body.get("tool_choice") != "auto"
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._called = False
        self._seed = prepared.call.salt

    @property
    def idle(self) -> bool:
        """Content is not held."""
        return self._live or (self._called and not self._content)

    def catch_up(self, content: str, reasoning: str) -> None:
        """Remember what was said."""
        self._reasoning.append(reasoning)
        if not self._called:
            self._content.append(content)

    def feed(self, delta: Delta) -> Sequence[Delta]:
        self._seed = str(delta.get("extra", {}).get("id") or self._seed)
        if delta.get("tool_calls"):
            self._called = True
        self._reasoning.append(delta.get("reasoning", ""))
        if self._called or "content" not in delta:
            held = [] if self._live or not self._called else self._content
            if held:
                self._content = []
                return [{"content": "".join(held)}, delta]
            return [delta]
        self._content.append(delta["content"])
        if self._live:
            return [delta]
        rest: Delta = {key: value for key, value in delta.items() if key != "content"}  # type: ignore[assignment]
        return [rest] if rest else []

    def close(self, finish_reason: str | None) -> Iterable[Delta]:
        content = "".join(self._content)
        if self._called:
            return []
        made = self._call_in(content)
        if made is not None:
            note = Change("replace", "a plain answer that already was the tool's JSON: taken as the call")
            return [{"tool_calls": [made], "finish_reason": "tool_calls", "notes": [note]}]
        if may_follow_up(self._prepared, PRACTICE.id):
            nudge: Message = {"role": "user", "content": NUDGE}
            said = reply_message(content, "".join(self._reasoning) or None)
            body = continued(self._prepared.call.body, *([said] if content.strip() else []), nudge)
            note = Change("replace", "no tool call where one was forced: asked once more")
            takes: Takes = "calls" if self._live and content else "all"
            return [{"followup": Followup(body, note.detail, takes=takes), "notes": [note]}]
        last: Delta = {"notes": [missing(self._prepared, "no tool call where one was forced", finish_reason)]}
        if content and not self._live:
            last["content"] = content
        return [last]

    def _call_in(self, content: str) -> ToolCall | None:
        text = _unfenced(content.strip())
        wanted = given_choice(self._prepared.call.body)
        tools = [
            tool
            for tool in given_tools(self._prepared.call.body)
            if name_in(wanted) in (None, (tool.get("function") or {}).get("name"))
        ]
        if len(tools) != 1 or not text.startswith("{"):
            return None
        function = tools[0].get("function") or {}
        try:
            json.loads(text)
        except ValueError:
            return None
        if read_arguments(text, function.get("parameters")).error is not None:
            return None
        return {
            # tool-ids is through with this reply; there is no other call in it.
            "id": f"call_{digest(['taken from text', self._seed])[:16]}_0",
            "type": "function",
            "function": {"name": function.get("name", ""), "arguments": text},
        }


def missing(prepared: Prepared, what: str, finish_reason: str | None) -> Change:
    """Return what a practice says of a reply without the call that was forced, when nothing is left to try."""
    call = prepared.call
    several = (call.body.get("n") or 1) > 1  # the other choices may be what was wanted
    again = ", also when asked once more" if call.asked else ""
    cure = "raise max_tokens=" if finish_reason == "length" else "force no choice, or catch this"
    other = "practices={'forced_choice': 'advise'} hands the reply out as it is"
    advice = f"(finish_reason {finish_reason}); {cure}; {other}"
    kind: Kind = "advise" if several or call.practices.forced_choice == "advise" else "refuse"
    return Change(kind, f"{what}{again}" + (f" {advice}" if kind == "refuse" else ""))


def _unfenced(text: str) -> str:
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") : -3].strip()
    return text


def _names(tools: Iterable[Tool]) -> set[str | None]:
    return {(tool.get("function") or {}).get("name") for tool in tools}


PRACTICE = Practice(
    id="tool-choice",
    statement="Sends tool_choice auto; a forced choice only where the model takes it, else auto and one re-ask.",
    sources=(
        Reference("MoonshotAI/Kimi-K2 README", "2025-07-31"),
        Reference("platform.moonshot.ai/docs/guide/migrating-from-openai-to-kimi", "2025-11-15"),
        Reference("platform.kimi.ai/docs/guide/use-tool-choice", "2026-08-13", "B"),
    ),
    reply_error=ToolCallMissing,
    apply=apply,
    heal=heal,
)
