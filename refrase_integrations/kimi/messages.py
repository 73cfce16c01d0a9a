"""Reading the wire form of messages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from refrase_integrations.kimi.wire import Body, Message, Tool, put

REASONING_KEYS = ("reasoning_content", "reasoning")
"""Fields in which hosts send reasoning text (MoonshotAI/kimi-code, kosong/src/providers/reasoning-key.ts)."""


def text_of(content: Any) -> str:
    """Return the text of a message's content: a string, or its text parts joined; other parts count as nothing."""
    if isinstance(content, str):
        return content
    if isinstance(content, Iterable) and not isinstance(content, Mapping):
        return "".join(text for part in content if (text := _text_of_part(part)))
    return ""


def is_blank(content: Any) -> bool:
    """Tell whether content says nothing: None, white space, or a list without a part that says something."""
    if content is None:
        return True
    if isinstance(content, str):
        return not content.strip()
    if isinstance(content, list):
        return all(_is_blank_part(part) for part in content)
    return False


def map_messages(body: Body, change: Callable[[Message], Message]) -> Body:
    """Apply ``change`` to each message; the same body where every message stays the same object."""
    messages = body.get("messages") or []
    changed = [change(message) for message in messages]
    if all(new is old for new, old in zip(changed, messages, strict=True)):
        return body
    return put(body, messages=changed)


def with_fields(message: Message, **fields: Any) -> Message:
    """Return a copy of ``message`` with ``fields`` set."""
    return cast(Message, {**message, **fields})


def without_fields(message: Message, *keys: str) -> Message:
    """Return a copy of ``message`` without ``keys``."""
    return cast(Message, {key: value for key, value in message.items() if key not in keys})


def put_line(body: Body, marker: str, line: str) -> Body:
    """Let ``line`` stand exactly once in the system prompt.

    Where a line that opens with ``marker`` stands in a system message already, it is replaced in place and further
    ones go: a sibling's line is never doubled. Else ``line`` goes behind the first system message at the head of the
    conversation that says something, or into a new one in front. Messages further down are not looked at for a place:
    they come and go while the head of the prompt has to stay as it is.

    Args:
        body: the request.
        marker: distinctive opening of the line.
        line: one line of text that opens with ``marker``.

    Returns:
        The same body where the line stands there already.
    """
    messages = body.get("messages") or []
    held = {n: lines for n, message in enumerate(messages) if (lines := _marked(message, marker))}
    if held:
        if [found for lines in held.values() for found in lines] == [line]:
            return body
        first = min(held)
        changed = [
            with_fields(message, content=_relined(message["content"], marker, line if n == first else None))
            if n in held
            else message
            for n, message in enumerate(messages)
        ]
        return put(body, messages=changed)
    for n, message in enumerate(messages):
        if message.get("role") != "system":
            break
        if not is_blank(message.get("content")):
            grown = with_fields(message, content=_grown(message["content"], line))
            return put(body, messages=[*messages[:n], grown, *messages[n + 1 :]])
    return put(body, messages=[{"role": "system", "content": line}, *messages])


def in_chinese(body: Body) -> bool:
    """Tell whether the system prompt is written in Chinese, so that a line put into it is too.

    Lines that were put there before do not count: the language must not change with them.
    """
    for message in body.get("messages") or []:
        role, content = message.get("role"), message.get("content")
        if role != "system":
            if role == "tool" or (is_blank(content) and not message.get("tool_calls")):
                continue  # answers or says nothing here: the practice history takes it out
            break
        own = _OUR_LINE.split(text_of(content), maxsplit=1)[0]
        if own.strip():
            letters = [character for character in own if character.isalpha()]
            han = [letter for letter in letters if "\u4e00" <= letter <= "\u9fff"]
            return len(han) > _CHINESE * len(letters)
    return False


_OUR_LINE = re.compile(r"^[A-Z][a-z]+(?: [a-z]+)? rule:", re.MULTILINE)
_CHINESE = 0.3  # share of Han characters: Chinese prompts name tools, products and formats in English


def most_tokens(messages: Iterable[Message], tools: Iterable[Tool] | None) -> int:
    """Return a cheap upper bound of a prompt's tokens: no token is shorter than a byte.

    It spares the count for every prompt that is far from the window.
    """
    total = _most(json.dumps(tools, ensure_ascii=False, default=str)) if tools else 0
    for message in messages:
        total += _TEMPLATE
        for key, value in message.items():
            if isinstance(value, str):
                total += _most(value)
            elif key == "content" and isinstance(value, list):
                total += sum(_most(text) if (text := _text_of_part(part)) else _PICTURE for part in value)
            elif key == "tool_calls":
                total += sum(_most(str(made)) for made in value) if isinstance(value, list) else 0
    return total


_TEMPLATE = 32  # control tokens and role names around one message, generously; tokens
_PICTURE = 16_384  # one image or video frame, generously; tokens


def _marked(message: Message, marker: str) -> list[str]:
    """Return the lines of a system message that open with ``marker``."""
    if message.get("role") != "system":
        return []
    content = message.get("content")
    texts = [content] if isinstance(content, str) else map(_text_of_part, content) if isinstance(content, list) else ()
    return [line for text in texts if marker in text for line in text.split("\n") if line.startswith(marker)]


def _relined(content: Any, marker: str, line: str | None) -> Any:
    """Put ``line`` in the place of the first marked line and take the others out; None: take all of them out."""
    left = [line]

    def relined(text: str) -> str:
        kept = []
        for old in text.split("\n"):
            if not old.startswith(marker):
                kept.append(old)
            elif left:
                new = left.pop()
                if new is not None:
                    kept.append(new)
        return "\n".join(kept)

    if isinstance(content, str):
        return relined(content)
    return [_with_text(part, relined(text)) if marker in (text := _text_of_part(part)) else part for part in content]


def _grown(content: Any, line: str) -> Any:
    """Return content with ``line`` as a paragraph of its own behind it."""
    if isinstance(content, str):
        return f"{content}{_break_after(content)}{line}"
    text = f"{_break_after(text_of(content))}{line}"
    if content and isinstance(content[-1], str):
        return [*content, text]
    return [*content, {"type": "text", "text": text}]


def _break_after(text: str) -> str:
    return "\n" * max(0, 2 - (len(text) - len(text.rstrip("\n"))))


def _with_text(part: Any, text: str) -> Any:
    return text if isinstance(part, str) else {**part, "text": text}


def _most(text: str) -> int:
    return len(text) if text.isascii() else 4 * len(text)


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return cast(str, part["text"])
    return ""


def _is_blank_part(part: Any) -> bool:
    if isinstance(part, Mapping) and part.get("type") not in (None, "text"):
        return False
    return not _text_of_part(part).strip()
