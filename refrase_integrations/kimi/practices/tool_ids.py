"""tool-ids: unique in the app, ``functions.{name}:{index}`` on the wire where the open template is served."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import cast

from refrase_integrations.kimi.memo import digest
from refrase_integrations.kimi.messages import with_fields
from refrase_integrations.kimi.practice import (
    Call,
    Change,
    Delta,
    Edit,
    Practice,
    Prepared,
    Reference,
    Step,
    messages_of,
    unchanged,
)
from refrase_integrations.kimi.wire import Body, Message, ToolCall, put

_NATIVE = re.compile(r"(functions\.)?[\w.\-$]+:\d+")


def apply(body: Body, call: Call) -> Edit:
    """Number the calls of the conversation by position; elsewhere only make their ids unique."""
    native = call.dialect.tool_ids == "native"
    messages, edited = messages_of(body), list[Message]()
    renamed: dict[str, list[str]] = {}  # app id -> wire ids not answered yet
    taken: set[str] = set()
    position, changed = 0, 0
    for message in messages:
        calls = message.get("tool_calls")
        if message.get("role") == "assistant" and calls:
            made = []
            renamed.update({one.get("id") or "": [] for one in calls})  # the latest call of an id is the one answered
            for one in calls:
                old = one.get("id") or ""
                new = (
                    f"functions.{(one.get('function') or {}).get('name')}:{position}"
                    if native
                    else _unique(old, position, taken)
                )
                taken.add(new)
                renamed[old].append(new)
                made.append(one if new == old else cast(ToolCall, {**one, "id": new}))
                changed += new != old
                position += 1
            message = (
                message
                if all(a is b for a, b in zip(made, calls, strict=True))
                else with_fields(message, tool_calls=made)
            )
        elif message.get("role") == "tool":
            old = message.get("tool_call_id") or ""
            waiting = renamed.get(old)
            if waiting:
                new = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                if new != old:
                    message = with_fields(message, tool_call_id=new)
        edited.append(message)
    if not changed:
        return unchanged(body)
    how = "to the native form" if native else "made unique"
    return Edit(put(body, messages=edited), [Change("encode", f"{changed} tool-call id(s) {how}")])


def heal(prepared: Prepared) -> Step:
    """Give the calls of the reply ids that are unique in the app."""
    return _Identify(prepared)


class _Identify:
    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._seed = prepared.call.salt
        self._position = 0

    idle = True

    def catch_up(self, content: str, reasoning: str) -> None:
        """Text has no ids."""

    def feed(self, delta: Delta) -> Sequence[Delta]:
        seed = delta.get("extra", {}).get("id")
        if seed and isinstance(seed, str):
            self._seed = seed
        if "tool_calls" not in delta:
            return [delta]
        return [cast(Delta, {**delta, "tool_calls": [self._identified(made) for made in delta["tool_calls"]]})]

    @cached_property
    def _taken(self) -> set[str]:
        messages = messages_of(self._prepared.call.body)
        return {made.get("id") or "" for message in messages for made in message.get("tool_calls") or ()}

    def _identified(self, made: ToolCall) -> ToolCall:
        old, position = made.get("id") or "", self._position
        self._position += 1
        # The template's own ids count from 0 in every reply of some hosts: unique on the wire at best.
        if not old or old in self._taken or _NATIVE.fullmatch(old):
            made = cast(ToolCall, {**made, "id": _unique(f"call_{self._mark}_{position}", position, self._taken)})
        self._taken.add(made["id"])
        return made

    @cached_property
    def _mark(self) -> str:
        # Some gateways send the same response id again and again: what was asked keeps parallel branches apart.
        return digest([self._seed, messages_of(self._prepared.call.body)])[:16]

    def close(self, finish_reason: str | None) -> Iterable[Delta]:
        return ()


def _unique(old: str, position: int, taken: set[str]) -> str:
    if old and old not in taken:
        return old
    new = f"{old or 'call'}-{position}"
    while new in taken:
        new += "x"
    return new


PRACTICE = Practice(
    id="tool-ids",
    statement="Keeps tool-call ids unique in the app; functions.{name}:{index} on the wire of self-hosted K2.",
    sources=(
        Reference("MoonshotAI/K2-Vendor-Verifier README", "2025-11-15"),
        Reference("blog.vllm.ai/2025/10/28/Kimi-K2-Accuracy.html", "2025-10-28"),
    ),
    apply=apply,
    heal=heal,
)
