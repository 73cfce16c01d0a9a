"""Reading the wire form of messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from operator import is_not
from typing import Any, cast

from refrase_integrations.kimi.wire import Body, Message, Tool, ToolCall, put

REASONING_KEYS = ("reasoning_content", "reasoning")
"""Fields in which hosts send reasoning text (MoonshotAI/kimi-code, kosong/src/providers/reasoning-key.ts)."""


def text_of(content: Any) -> str:
    """Return the text of a message's content: a string, or its text parts joined; other parts count as nothing."""
    if isinstance(content, str):
        return content
    if isinstance(content, Iterable) and not isinstance(content, Mapping):
        return "".join(text for part in content if (text := text_of_part(part)))
    return ""


def text_of_part(part: Any) -> str:
    """Return the text of one part of a message's content; empty where it is none."""
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return cast(str, part["text"])
    return ""


def is_blank(content: Any) -> bool:
    """Tell whether content says nothing: None, white space, or a list without a part that says something."""
    if content is None:
        return True
    if isinstance(content, str):
        return not content or content.isspace()
    if isinstance(content, list):
        return all(_is_blank_part(part) for part in content)
    return False


def map_messages(body: Body, change: Callable[[Message], Message]) -> Body:
    """Apply ``change`` to each message; the same body where every message stays the same object."""
    messages = body.get("messages") or []
    changed = [change(message) for message in messages]
    return put(body, messages=changed) if any(map(is_not, changed, messages)) else body


def with_fields(message: Message, **fields: Any) -> Message:
    """Return a copy of ``message`` with ``fields`` set."""
    return cast(Message, {**message, **fields})


def without_fields(message: Message, *keys: str) -> Message:
    """Return a copy of ``message`` without ``keys``."""
    return cast(Message, {key: value for key, value in message.items() if key not in keys})


def most_tokens(messages: Iterable[Message], tools: Iterable[Tool] | None) -> int:
    """Return a cheap upper bound of a prompt's tokens: no token is shorter than a byte.

    It spares the count for every prompt that is far from the window.
    """
    total = _most(json.dumps(tools, ensure_ascii=False, default=str)) if tools else 0
    for message in messages:
        total += _TEMPLATE
        for key, value in message.items():
            if isinstance(value, str):
                total += len(value) if value.isascii() else 4 * len(value)
            elif key == "content" and isinstance(value, list):
                total += sum(_most(text) if (text := text_of_part(part)) else _PICTURE for part in value)
            elif key == "tool_calls" and isinstance(value, list):
                total += sum(map(_most_of_call, value))
    return total


def _most_of_call(made: ToolCall) -> int:
    function = made.get("function") or {}
    texts = (made.get("id"), function.get("name"), function.get("arguments"))
    return _TEMPLATE + sum(_most(text if isinstance(text, str) else str(text)) for text in texts if text)


_TEMPLATE = 32  # control tokens and role names around one message, generously; tokens
_PICTURE = 16_384  # one image or video frame, generously; tokens


def _most(text: str) -> int:
    return len(text) if text.isascii() else 4 * len(text)


def _is_blank_part(part: Any) -> bool:
    if isinstance(part, Mapping) and part.get("type") not in (None, "text"):
        return False
    return not text_of_part(part).strip()
