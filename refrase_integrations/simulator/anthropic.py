"""Moonshot's Anthropic endpoint, ``/anthropic/v1/messages``: the same models behind another protocol.

A request is put into the form of a chat completion, so that it meets the same rules and gets the same answers; the
reply is put into the form of an Anthropic message. Sources: platform.kimi.ai/docs/api/messages (copy of 2026-10-03):
content blocks text, image, thinking, tool_use and tool_result; tool_choice auto, any and none; thinking blocks have to
come back with their signature unchanged. MoonshotAI/Kimi-K2 README (2025-07-31): the real temperature is the requested
one times 0.6. Anthropic's own reference for what the protocol itself asks.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from refrase_integrations.simulator.completion import Choice, Completion, pieces
from refrase_integrations.simulator.figures import Figures
from refrase_integrations.simulator.rules.refusal import Refusal, invalid

PATH = "/anthropic/v1/messages"
TEMPERATURE_FACTOR = 0.6
"""What a requested temperature is multiplied by, for models whose sampling is not fixed."""

_CHOICES: Mapping[str, str] = {"auto": "auto", "any": "required", "none": "none"}
_STOPS: Mapping[str, str] = {"tool_calls": "tool_use", "length": "max_tokens"}
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_SAME: Mapping[str, str] = {
    "model": "model",
    "max_tokens": "max_completion_tokens",
    "top_p": "top_p",
    "stream": "stream",
}


class _Wrong(ValueError):
    """The request is none; says why."""


def chat_body(body: Mapping[str, Any], figures: Figures | None) -> dict[str, Any] | Refusal:
    """Return a request in the form of a chat completion, or why it is refused.

    Args:
        body: the request; it is not changed.
        figures: of the model it names; None: an unknown one.
    """
    try:
        return _chat_body(body, figures)
    except _Wrong as wrong:
        return invalid(str(wrong))


def _chat_body(body: Mapping[str, Any], figures: Figures | None) -> dict[str, Any]:
    if not isinstance(body.get("max_tokens"), int):
        raise _Wrong("max_tokens: Field required")
    chat: dict[str, Any] = {ours: body[theirs] for theirs, ours in _SAME.items() if theirs in body}
    temperature = body.get("temperature")
    if temperature is not None:
        if not isinstance(temperature, int | float) or not 0 <= temperature <= 1:
            raise _Wrong("temperature: range: 0..1")
        fixed = figures is not None and figures.fixed is not None
        chat["temperature"] = temperature if fixed else round(temperature * TEMPERATURE_FACTOR, 6)
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
    chat["messages"] = [*_system(body.get("system")), *_messages(body.get("messages"))]
    if body.get("tools"):
        chat["tools"] = [_tool(index, tool) for index, tool in enumerate(body["tools"])]
        choice = body.get("tool_choice") or {"type": "auto"}
        if choice.get("type") not in _CHOICES:
            raise _Wrong(f"tool_choice.type: {choice.get('type')!r} is not supported, only auto, any and none")
        chat["tool_choice"] = _CHOICES[choice["type"]]
        if choice.get("disable_parallel_tool_use"):
            chat["parallel_tool_calls"] = False
    return chat


def _system(system: Any) -> list[dict[str, Any]]:
    text = system if isinstance(system, str) else "\n".join(block.get("text", "") for block in system or ())
    return [{"role": "system", "content": text}] if text else []


def _messages(messages: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise _Wrong("messages: at least one message is required")
    if messages[0].get("role") != "user":
        raise _Wrong('messages: first message must use the "user" role')
    for index, message in enumerate(messages):
        content, where = message.get("content"), f"messages.{index}"
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(blocks, list) or not blocks:
            raise _Wrong(f"{where}: all messages must have non-empty content")
        turns = {"user": _user, "assistant": _assistant}
        if message.get("role") not in turns:
            raise _Wrong(f"{where}.role: must be user or assistant")
        yield from turns[message["role"]](blocks, where)


def _user(blocks: list[dict[str, Any]], where: str) -> Iterator[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for number, block in enumerate(blocks):
        kind, place = block.get("type"), f"{where}.content.{number}"
        if kind == "tool_result":
            yield {
                "role": "tool",
                "tool_call_id": _checked_id(block.get("tool_use_id"), place),
                "content": _text(block),
            }
        elif kind == "text":
            parts.append({"type": "text", "text": _said(block.get("text"), place)})
        elif kind == "image":
            source = block.get("source") or {}
            url = source.get("url") or f"data:{source.get('media_type')};base64,{source.get('data')}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
        else:
            raise _Wrong(f"{place}.type: {kind!r} is not supported")
    if parts:
        yield {"role": "user", "content": parts}


def _assistant(blocks: list[dict[str, Any]], where: str) -> Iterator[dict[str, Any]]:
    text, thought, calls = "", "", list[dict[str, Any]]()
    for number, block in enumerate(blocks):
        kind, place = block.get("type"), f"{where}.content.{number}"
        if kind == "text":
            text += _said(block.get("text"), place)
        elif kind == "thinking":
            if block.get("signature") not in (None, "", signature(block.get("thinking", ""))):
                raise _Wrong(f"{place}: Invalid `signature` in `thinking` block")
            thought += block.get("thinking", "")
        elif kind == "tool_use":
            function = {"name": block.get("name"), "arguments": json.dumps(block.get("input"), ensure_ascii=False)}
            calls.append({"id": _checked_id(block.get("id"), place), "type": "function", "function": function})
        else:
            raise _Wrong(f"{place}.type: {kind!r} is not supported")
    message: dict[str, Any] = {"role": "assistant"}
    if text or not calls:
        message["content"] = text
    if thought:
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = calls
    yield message


def _said(text: Any, place: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise _Wrong(f"{place}: text content blocks must be non-empty")
    return text


def _text(block: Mapping[str, Any]) -> str:
    content = block.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _checked_id(id: Any, place: str) -> str:
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise _Wrong(f"{place}: String should match pattern '^[a-zA-Z0-9_-]+$'")
    return id


def _tool(index: int, tool: Mapping[str, Any]) -> dict[str, Any]:
    if "input_schema" not in tool:
        raise _Wrong(f"tools.{index}.input_schema: Field required")
    function = {
        "name": tool.get("name"),
        "description": tool.get("description", ""),
        "parameters": tool["input_schema"],
    }
    return {"type": "function", "function": function}


# -- replies ---------------------------------------------------------------------------------------------


def signature(thought: str) -> str:
    """Return the signature of a thinking block: it belongs to its text and to no other."""
    return hashlib.sha256(f"refrase-simulator:{thought}".encode(errors="replace")).hexdigest()[:32]


def error_body(refusal: Refusal) -> dict[str, Any]:
    """Return a refusal in the protocol's form."""
    return {"type": "error", "error": {"type": refusal.type, "message": refusal.message}}


def whole(completion: Completion) -> dict[str, Any]:
    """Return a reply as one message."""
    choice = completion.choices[0]
    head = _head(completion)
    return {**head, "content": [block for block, _ in _blocks(choice)], **_stop(choice), "usage": _usage(completion)}


def events(completion: Completion, random: Random, *, size: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a reply as the names and data of a stream's events.

    Args:
        completion: the reply.
        random: decides where text is cut.
        size: characters in a piece of text, on average.
    """
    choice, usage = completion.choices[0], _usage(completion)
    opening = {**_head(completion), "content": [], "stop_reason": None, "stop_sequence": None}
    yield "message_start", {"message": {**opening, "usage": {**usage, "output_tokens": 0}}}
    for index, (block, deltas) in enumerate(_blocks(choice)):
        empty = {
            key: "" if isinstance(value, str) and key in ("text", "thinking", "signature") else value
            for key, value in block.items()
        }
        yield (
            "content_block_start",
            {"index": index, "content_block": {**empty, **({"input": {}} if "input" in block else {})}},
        )
        for kind, text in deltas:
            whole_piece = kind == "signature"
            for piece in [text] if whole_piece else pieces(text, random, size):
                yield "content_block_delta", {"index": index, "delta": {"type": f"{_DELTAS[kind]}_delta", kind: piece}}
        yield "content_block_stop", {"index": index}
    yield "message_delta", {"delta": _stop(choice), "usage": usage}
    yield "message_stop", {}


_DELTAS: Mapping[str, str] = {
    "text": "text",
    "thinking": "thinking",
    "signature": "signature",
    "partial_json": "input_json",
}


def _blocks(choice: Choice) -> Iterator[tuple[dict[str, Any], list[tuple[str, str]]]]:
    """Yield the content blocks, each with the deltas that spell it in a stream."""
    if choice.reasoning is not None:
        signed = signature(choice.reasoning)
        block = {"type": "thinking", "thinking": choice.reasoning, "signature": signed}
        yield block, [("thinking", choice.reasoning), ("signature", signed)]
    if choice.content:
        yield {"type": "text", "text": choice.content}, [("text", choice.content)]
    for call in choice.calls:
        id = re.sub(r"[^a-zA-Z0-9_-]", "_", call.id)
        block = {"type": "tool_use", "id": id, "name": call.name, "input": _input(call.arguments)}
        yield block, [("partial_json", call.arguments)]


def _input(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return {}


def _head(completion: Completion) -> dict[str, Any]:
    return {
        "id": f"msg_{completion.id.partition('-')[2]}",
        "type": "message",
        "role": "assistant",
        "model": completion.model,
    }


def _stop(choice: Choice) -> dict[str, Any]:
    return {"stop_reason": _STOPS.get(choice.finish_reason, "end_turn"), "stop_sequence": None}


def _usage(completion: Completion) -> dict[str, Any]:
    usage = completion.usage
    cached = usage.get("cached_tokens", 0)
    return {
        "input_tokens": usage.get("prompt_tokens", 0) - cached,
        "output_tokens": usage.get("completion_tokens", 0),
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
    }
