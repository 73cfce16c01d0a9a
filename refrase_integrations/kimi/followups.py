"""What a practice needs to ask the model once more within one user call."""

from __future__ import annotations

from collections.abc import Iterable

from refrase_integrations.kimi.practice import Delta, Prepared
from refrase_integrations.kimi.wire import Body, Message, ToolCall, put


def may_follow_up(prepared: Prepared, practice: str, limit: int = 1) -> bool:
    """Tell whether a practice may still ask for another model call within this user call."""
    call = prepared.call
    alone = (call.body.get("n") or 1) == 1
    return alone and call.asked.count(practice) < limit and len(call.asked) < call.practices.extra_calls


def answers(delta: Delta) -> bool:
    """Tell whether a delta holds what a user waits for: text, a call, or another request that will bring it."""
    return bool(delta.get("tool_calls") or delta.get("followup") or delta.get("content", "").strip())


def no_such_tool(name: str, declared: Iterable[str]) -> str:
    """Say that a tool was not declared, and which ones were: the model can call one of these."""
    names = ", ".join(declared)
    return f"there is no tool {name[:64]!r}; " + (f"there are: {names}" if names else "this request declares none")


def reply_message(content: str, reasoning: str | None, calls: list[ToolCall] | None = None) -> Message:
    """Build the assistant message that a followup puts behind the conversation."""
    message: Message = {"role": "assistant", "content": content}
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    return message


def continued(body: Body, *messages: Message) -> Body:
    """Return ``body`` with ``messages`` behind its own."""
    return put(body, messages=[*(body.get("messages") or ()), *messages])
