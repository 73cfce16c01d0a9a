"""loop-guard: the same tool call over and over gets reminders, and in the end a stop that says why.

Counted are identical calls *in a row*, as Moonshot's own clients do (MoonshotAI/kimi-cli#2372): an agent that runs its
tests after every edit makes the same call a dozen times and is not stuck.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from refrase_integrations.errors import LoopStopped
from refrase_integrations.kimi.memo import Memo, digest
from refrase_integrations.kimi.messages import is_blank, text_of, with_fields
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
from refrase_integrations.kimi.tokenformat import neutralise
from refrase_integrations.kimi.wire import Body, Message, ToolCall, put

MARKER = "[loop guard]"
REMINDERS: Mapping[int, str] = {
    3: f"{MARKER} This is the third identical request in a row. Take the next step of the task with what it returned, "
    "or ask for something else.",
    5: f"{MARKER} Five identical requests in a row. Read the result above once more, then choose: another tool, other "
    "arguments, or the answer as far as it is known.",
    8: f"{MARKER} Eight identical requests in a row. Finish now: give the answer as far as it is known, and say what "
    "is missing and what kept you from it.",
}
"""What stands under the result of the n-th identical call. They offer a next step and never repeat the call: each copy
of it in the context makes one more of it likelier (MoonshotAI/kimi-code#1518)."""


_spellings: Memo[str] = Memo(4096)
_Key = tuple[str, str]
_Streaks = dict[_Key, int]
"""How often each call of the last step has been made in a row."""


def apply(body: Body, call: Call) -> Edit:
    """Put a reminder under the result that completes the third, fifth and eighth identical call in a row."""
    changes: list[Change] = []
    messages, edited = messages_of(body), list[Message]()
    streaks: _Streaks = {}
    due: dict[str, list[tuple[str, int]]] = {}
    for message in messages:
        if message.get("role") == "user":
            streaks = {}
        elif calls := message.get("tool_calls"):
            streaks, lengths = _continued(streaks, calls)
            due = {}
            for made, length in zip(calls, lengths, strict=True):
                due.setdefault(made.get("id") or "", []).append((_name(made), length))
        elif message.get("role") == "tool" and (waiting := due.get(message.get("tool_call_id") or "")):
            message = _reminded(message, *waiting.pop(0), changes)
        edited.append(message)
    return Edit(put(body, messages=edited), changes) if changes else unchanged(body)


def heal(prepared: Prepared) -> Step | None:
    """Stop before the call that reaches `Practices.loop_limit` is made once more."""
    limit = prepared.call.practices.loop_limit
    return _Stop(prepared, limit) if limit else None


class _Stop:
    """Holds the calls of a reply back until all are known: with one of them stuck none is handed out."""

    def __init__(self, prepared: Prepared, limit: int) -> None:
        self._prepared, self._limit = prepared, limit
        self._made: list[ToolCall] = []
        self._spoke = False

    idle = True

    def catch_up(self, content: str, reasoning: str) -> None:
        """Take note that something was said."""
        self._spoke = self._spoke or bool(content)

    def feed(self, delta: Delta) -> Sequence[Delta]:
        self._spoke = self._spoke or bool(delta.get("content"))
        if "tool_calls" not in delta:
            return [delta]
        self._made += delta["tool_calls"]
        rest = {key: value for key, value in delta.items() if key != "tool_calls"}
        return [cast(Delta, rest)] if rest else []

    def close(self, finish_reason: str | None) -> Iterable[Delta]:
        if not self._made:
            return []
        _, lengths = _continued(_of_this_turn(messages_of(self._prepared.call.body)), self._made)
        length, place = max((length, -place) for place, length in enumerate(lengths))
        if length < self._limit:
            return [{"tool_calls": self._made}]
        name = _name(self._made[-place])
        others = f", and {len(self._made) - 1} other call(s) of the reply" if len(self._made) > 1 else ""
        note = Change("replace", f"{name}: {length} identical calls in a row: stopped before the last one{others}")
        said = (
            f"{MARKER} Stopped: the same call of {name} was asked for {length} times in a row. The last one was not "
            "made; what the earlier ones returned stands above."
        )
        return [{"content": f"\n\n{said}" if self._spoke else said, "finish_reason": "stop", "notes": [note]}]


def _of_this_turn(messages: list[Message]) -> _Streaks:
    start = max((place for place, message in enumerate(messages) if message.get("role") == "user"), default=-1)
    streaks: _Streaks = {}
    for message in messages[start + 1 :]:
        if message.get("tool_calls"):
            streaks, _ = _continued(streaks, message["tool_calls"])
    return streaks


def _continued(before: _Streaks, calls: Iterable[ToolCall]) -> tuple[_Streaks, list[int]]:
    """Return the streaks after one more step, and the number of each of its calls; what it does not call has ended."""
    now: _Streaks = {}
    numbers = []
    for made in calls:
        key = _key(made)
        now[key] = now.get(key, before.get(key, 0)) + 1
        numbers.append(now[key])
    return now, numbers


def _key(made: ToolCall) -> _Key:
    """Return what makes two calls the same: name and arguments, spacing and order aside."""
    function = made.get("function") or {}
    text = function.get("arguments") or ""
    return function.get("name") or "", _spellings(digest(text), lambda: digest(_plain(text)))


def _plain(text: str) -> str:
    text = neutralise(text)  # the request's arguments are harmless already, a reply's are not
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (ValueError, RecursionError):
        return "".join(text.split())


def _name(made: ToolCall) -> str:
    return ((made.get("function") or {}).get("name") or "")[:64]


def _reminded(message: Message, name: str, number: int, changes: list[Change]) -> Message:
    line, content = REMINDERS.get(number), message.get("content")
    if line is None or text_of(content).endswith(line):
        return message
    changes.append(Change("add", f"{name}: {number} identical calls in a row: a reminder under the result"))
    if isinstance(content, list):
        return with_fields(message, content=[*content, {"type": "text", "text": line}])
    return with_fields(message, content=line if is_blank(content) else f"{content}\n\n{line}")


PRACTICE = Practice(
    id="loop-guard",
    statement="Reminds the model of identical tool calls in a row at 3, 5 and 8, and stops before the twelfth.",
    sources=(
        Reference("platform.kimi.ai/docs/guide/tool-call-repeat", "2026-08-13", "B"),
        Reference("MoonshotAI/kimi-cli#2372, #2466, #2651; MoonshotAI/kimi-code#1518", "2026-09-17"),
    ),
    default="off",
    error=LoopStopped,
    apply=apply,
    heal=heal,
)
