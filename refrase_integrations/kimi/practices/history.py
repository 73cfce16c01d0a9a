"""history: blank turns, orphaned or unanswered tool calls and duplicates are repaired on the wire.

The user's state stays as it is: a thread that would be refused on every later turn goes through again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, cast

from refrase_integrations.kimi.messages import REASONING_KEYS, is_blank, text_of, with_fields, without_fields
from refrase_integrations.kimi.practice import Call, Change, Edit, Practice, Reference, messages_of, unchanged
from refrase_integrations.kimi.wire import Body, Message, ToolCall, put

INTERRUPTED = "Error: the tool call was interrupted before it gave a result. Call the tool again if it is still needed."
"""Stands in for the answer to a tool call that was never answered."""
NO_OUTPUT = "(no output)"
"""Stands in for a tool's blank result: hosts refuse blank text."""


def apply(body: Body, call: Call) -> Edit:
    """Repair the conversation; each message's form depends on itself and on earlier messages only."""
    changes: list[Change] = []
    messages = messages_of(body)
    repaired = list(answered(spoken(messages, changes, call.dialect.blank_content), changes))
    if "name" in call.dialect.message_fields:
        repaired = _named(repaired, changes)
    if call.strict:
        repaired = _plain(repaired, changes)
    if not changes:
        return unchanged(body)
    if any(message.get("role") != "system" for message in messages) and not any(
        message.get("role") != "system" for message in repaired
    ):
        return Edit(body, [*changes, Change("refuse", "no message says anything")])
    return Edit(put(body, messages=repaired), changes)


def spoken(messages: Iterable[Message], changes: list[Change], blank: str | None = None) -> list[Message]:
    """Return the messages without what says nothing, and with arguments of earlier calls that a template can parse.

    Args:
        messages: wire messages; they stay as they are.
        changes: gets one entry for each thing that was changed.
        blank: what blank content beside tool calls must look like (`Dialect.blank_content`); None: it stays.
    """
    kept = (_spoken(message, blank, changes) for message in messages)
    return [message for message in kept if message is not None]


def _spoken(message: Message, blank: str | None, changes: list[Change]) -> Message | None:
    """Return the message without what says nothing; None where nothing is left."""
    content, role, calls = message.get("content"), message.get("role"), message.get("tool_calls")
    if not calls and isinstance(content, str) and content and not content.isspace():
        return message  # nearly every message
    if isinstance(content, list) and not is_blank(content):
        said = [part for part in content if not is_blank([part])]
        if len(said) < len(content):
            changes.append(Change("drop", "a blank text part"))
            return _readable(with_fields(message, content=said), changes)
    if not is_blank(content):
        return _readable(message, changes)
    if role == "tool":
        changes.append(Change("replace", f"a blank tool result: {NO_OUTPUT}"))
        return with_fields(message, content=NO_OUTPUT)
    if role == "assistant" and calls:
        message = _readable(message, changes)
        return message if blank is None else _blank_beside_calls(message, blank, changes)
    if role == "assistant" and message.get("partial"):
        return message
    if role == "system" and message.get("tools"):  # Kimi K3 is given tools so (guide/use-dynamic-tool-loading)
        return message
    changes.append(Change("drop", f"a blank {role} message"))
    return None


def _blank_beside_calls(message: Message, blank: str, changes: list[Change]) -> Message:
    """Moonshot wants blank content left out beside tool calls, other hosts want null."""
    if blank == "omit":
        if "content" not in message:
            return message
        wanted = without_fields(message, "content")
    else:
        value = None if blank == "null" else ""
        if "content" in message and message["content"] == value:
            return message
        wanted = with_fields(message, content=value)
    changes.append(Change("encode", f"blank content beside tool calls: {blank}"))
    return wanted


def _readable(message: Message, changes: list[Change]) -> Message:
    """Chat templates parse the arguments of earlier calls: one broken call would stop every later turn."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    made = [_parsable(one) for one in calls]
    if all(a is b for a, b in zip(made, calls, strict=True)):
        return message
    changes.append(Change("replace", "arguments of an earlier call that are no JSON object: wrapped in one"))
    return with_fields(message, tool_calls=made)


def _parsable(one: ToolCall) -> ToolCall:
    function = one.get("function") or {}
    text = function.get("arguments")
    if isinstance(text, str) and (_is_object if len(text) > _REMEMBERED else _is_known_object)(text):
        return one
    wrapped = "{}" if not text else json.dumps({"unreadable_arguments": text}, ensure_ascii=False)
    return cast(ToolCall, {**one, "function": {**function, "arguments": wrapped}})


def _is_object(text: str) -> bool:
    braces = text[:1] == "{" and text[-1:] == "}"
    try:
        return isinstance(json.loads(text, strict=not braces), dict)
    except (ValueError, RecursionError):
        return False


_REMEMBERED = 1_000  # characters; longer arguments are parsed anew rather than kept
_is_known_object = lru_cache(maxsize=4_096)(_is_object)  # a thread's calls come back every turn


def answered(messages: list[Message], changes: list[Change]) -> Iterator[Message]:
    """Yield the messages with every tool call answered once, right behind it, and no answer without a call.

    Args:
        messages: wire messages; they stay as they are.
        changes: gets one entry for each thing that was changed.
    """
    number = 0
    moved: set[int] = set()
    while number < len(messages):
        message = messages[number]
        number += 1
        if message.get("role") == "tool":
            if id(message) not in moved:
                changes.append(Change("drop", "a tool result without its tool call, or a second one"))
            continue
        yield message
        calls = message.get("tool_calls") if message.get("role") == "assistant" else None
        if not calls:
            continue
        direct = 0
        while number + direct < len(messages) and messages[number + direct].get("role") == "tool":
            direct += 1
        behind = messages[number : number + direct]
        if direct == len(calls) and all(map(_answers, calls, behind)):
            yield from behind
            moved.update(map(id, behind))
            number += direct
            continue
        answers, leftovers = _matched(calls, behind, ())
        if None in answers:
            later = _until_reuse(messages, number + direct, {one.get("id") or "" for one in calls})
            answers, leftovers = _matched(calls, behind, later)
        kept = [answer for answer in behind if any(answer is found for found in answers)]
        yield from kept
        for one, answer in zip(calls, answers, strict=True):
            if answer is None:
                changes.append(Change("add", "an unanswered tool call: an interrupted result stands in"))
                yield _interrupted(one)
            elif not any(answer is seen for seen in behind):
                changes.append(Change("encode", "a tool result moved up to its tool call"))
                moved.add(id(answer))
                yield answer
        moved.update(id(answer) for answer in kept)
        if leftovers:
            changes.extend(
                Change("drop", "a tool result without its tool call, or a second one") for _ in range(leftovers)
            )
            moved.update(id(answer) for answer in behind)
        number += direct


def _answers(one: ToolCall, message: Message) -> bool:
    return (message.get("tool_call_id") or "") == (one.get("id") or "")


def _matched(
    calls: list[ToolCall], behind: list[Message], later: Iterable[Message]
) -> tuple[list[Message | None], int]:
    """Pair calls with answers by id, in order (the same id may stand twice); count the answers left over."""
    answers: list[Message | None] = []
    free = list(behind)
    rest = [message for message in later if message.get("role") == "tool"]
    for one in calls:
        wanted = one.get("id") or ""
        found = next((m for pool in (free, rest) for m in pool if (m.get("tool_call_id") or "") == wanted), None)
        if found is not None:
            for pool in (free, rest):
                pool[:] = [m for m in pool if m is not found]
        answers.append(found)
    return answers, len(free)


def _until_reuse(messages: list[Message], start: int, ids: set[str]) -> list[Message]:
    """Return what follows up to the next assistant message that uses one of these ids again."""
    for number in range(start, len(messages)):
        again = messages[number].get("tool_calls") or ()
        if any((one.get("id") or "") in ids for one in again):
            return messages[start:number]
    return messages[start:]


def _named(messages: list[Message], changes: list[Change]) -> list[Message]:
    """The documented form of a tool result carries the tool's name (Kimi-K2 README; docs/api/tool-use)."""
    names: dict[str, str] = {}
    named = []
    for message in messages:
        for one in message.get("tool_calls") or ():
            names[one.get("id") or ""] = (one.get("function") or {}).get("name") or ""
        name = names.get(message.get("tool_call_id") or "") if message.get("role") == "tool" else None
        if name and not message.get("name"):
            changes.append(Change("add", "the tool's name on its result"))
            message = with_fields(message, name=name)
        named.append(message)
    return named


def _interrupted(one: ToolCall) -> Message:
    told = f"Error: {one['error']}" if "error" in one else INTERRUPTED
    answer: Message = {"role": "tool", "tool_call_id": one.get("id") or "", "content": told}
    name = (one.get("function") or {}).get("name")
    return with_fields(answer, name=name) if name else answer


def _plain(messages: list[Message], changes: list[Change]) -> list[Message]:
    """The stricter form for the second try after a structural 400: text as text, neighbours of a role joined."""
    plain: list[Message] = []
    for message in messages:
        content: Any = message.get("content")
        if isinstance(content, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in content):
            message = with_fields(message, content=text_of(content))
        last = plain[-1] if plain else None
        if last is not None and _joinable(last, message):
            plain[-1] = with_fields(last, content=f"{last['content']}\n\n{message['content']}")
        else:
            plain.append(message)
    if len(plain) != len(messages) or any(a is not b for a, b in zip(plain, messages, strict=False)):
        changes.append(Change("encode", "stricter form after a refusal: plain text, neighbours of one role joined"))
    return plain


def _joinable(last: Message, message: Message) -> bool:
    same = last.get("role") == message.get("role") and message.get("role") in ("user", "assistant")
    texts = isinstance(last.get("content"), str) and isinstance(message.get("content"), str)
    held = any(key in part for key in ("tool_calls", "name", *REASONING_KEYS) for part in (last, message))
    return same and texts and not held


PRACTICE = Practice(
    id="history",
    statement="Repairs blank turns, orphaned or unanswered tool calls and duplicates on the wire; no thread is stuck.",
    sources=(
        Reference("MoonshotAI/kimi-cli#2035, #1977; router-for-me/CLIProxyAPI#1730", "2026-11-23", "C"),
        Reference("platform.kimi.ai/docs/api/tool-use", "2026-08-13", "B"),
    ),
    apply=apply,
)
