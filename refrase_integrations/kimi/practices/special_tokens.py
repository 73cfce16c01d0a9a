"""special-tokens: Kimi's control tokens in messages are made harmless on the way in and restored in the reply."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from refrase_integrations.kimi.messages import REASONING_KEYS, map_messages, with_fields
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
from refrase_integrations.kimi.tokenformat import Restorer, neutralise, restore
from refrase_integrations.kimi.wire import Body, Message, Tool, ToolCall, put

_TEXTS = ("content", "name", *REASONING_KEYS)


def apply(body: Body, call: Call) -> Edit:
    """Neutralise control tokens in every role and in the arguments of earlier calls."""
    if call.dialect.tool_format is None:
        return unchanged(body)
    edited, changes = map_messages(body, _neutral), list[Change]()
    if edited is not body:
        pairs = zip(messages_of(edited), messages_of(body), strict=True)
        count = sum(new is not old for new, old in pairs)
        changes.append(Change("encode", f"control tokens in {count} message(s) made harmless"))
    tools = body.get("tools") or []
    described = [_described(tool) for tool in tools]
    if any(new is not old for new, old in zip(described, tools, strict=True)):
        edited = put(edited, tools=described)
        changes.append(Change("encode", "control tokens in descriptions of tools made harmless"))
    return Edit(edited, changes) if changes else unchanged(body)


def heal(prepared: Prepared) -> Step | None:
    """Restore control tokens in the reply where the request carried neutralised ones."""
    return _Restore() if any(map(_carries, messages_of(prepared.body))) else None


class _Restore:
    def __init__(self) -> None:
        self._restorers = {"content": Restorer(), "reasoning": Restorer()}

    def feed(self, delta: Delta) -> Sequence[Delta]:
        changed: dict[str, Any] = dict(delta)
        for key, restorer in self._restorers.items():
            if key in changed:
                changed[key] = restorer.feed(changed[key])
                if not changed[key] and delta[key]:  # type: ignore[literal-required]
                    del changed[key]
        if "tool_calls" in changed:
            changed["tool_calls"] = [_with_arguments(made, restore) for made in delta["tool_calls"]]
        return [cast(Delta, changed)] if changed else []

    def close(self, finish_reason: str | None) -> Iterable[Delta]:
        rest = {key: held for key, restorer in self._restorers.items() if (held := restorer.close())}
        return [cast(Delta, rest)] if rest else []


def _carries(message: Message) -> bool:
    for value in message.values():
        if not isinstance(value, str) or "~" in value:
            return any(restore(text) != text for text in _texts(message))
    return False  # nearly every message


def _texts(message: Message) -> Iterator[str]:
    fields = cast("dict[str, Any]", message)
    for key in _TEXTS:
        value = fields.get(key)
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str))
    for made in message.get("tool_calls") or ():
        yield (made.get("function") or {}).get("arguments") or ""


def _described(tool: Tool) -> Tool:
    """Return the tool with a harmless description: tool servers write it."""
    function = tool.get("function")
    text = function.get("description") if isinstance(function, dict) else None
    if not isinstance(text, str) or neutralise(text) is text:
        return tool
    return cast(Tool, {**tool, "function": {**tool["function"], "description": neutralise(text)}})


def _neutral(message: Message) -> Message:
    for value in message.values():
        if not isinstance(value, str) or "<" in value or "[" in value:
            return _looked_through(message)
    return message  # nearly every message: no control token begins otherwise


def _looked_through(message: Message) -> Message:
    fields: dict[str, Any] = {}
    texts = cast("dict[str, Any]", message)
    for key in _TEXTS:
        value = texts.get(key)
        if isinstance(value, str):
            harmless: Any = neutralise(value)
        elif isinstance(value, list):
            harmless = [_neutral_part(part) for part in value]
            harmless = value if all(new is old for new, old in zip(harmless, value, strict=True)) else harmless
        else:
            continue
        if harmless is not value:
            fields[key] = harmless
    calls = message.get("tool_calls")
    if calls:
        made = [_with_arguments(one, neutralise) for one in calls]
        if any(new is not old for new, old in zip(made, calls, strict=True)):
            fields["tool_calls"] = made
    return with_fields(message, **fields) if fields else message


def _neutral_part(part: Any) -> Any:
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        return part
    text = neutralise(part["text"])
    return part if text is part["text"] else {**part, "text": text}


def _with_arguments(made: ToolCall, change: Any) -> ToolCall:
    function = made.get("function") or {}
    text = function.get("arguments")
    if not isinstance(text, str):
        return made
    changed = change(text)
    return made if changed == text else cast(ToolCall, {**made, "function": {**function, "arguments": changed}})


PRACTICE = Practice(
    id="special-tokens",
    statement="Makes Kimi's control tokens in messages harmless on the way in and restores them in the reply.",
    sources=(Reference("tokenizer_config.json of Kimi K2.5 (MoonshotAI/Kimi-Vendor-Verifier)", "2026-08-13"),),
    apply=apply,
    heal=heal,
)
