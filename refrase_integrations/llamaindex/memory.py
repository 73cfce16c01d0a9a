"""Repairs conversations for good: a list of messages, or what a stuck agent's memory holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from llama_index.core.async_utils import asyncio_run
from llama_index.core.base.llms.types import ChatMessage, ContentBlock, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.memory import BaseMemory, Memory
from llama_index.core.storage.chat_store.base_db import MessageStatus

from refrase_integrations.kimi import threads
from refrase_integrations.kimi.inputs import instance
from refrase_integrations.kimi.messages import is_blank, text_of
from refrase_integrations.kimi.practice import Change
from refrase_integrations.kimi.wire import Message
from refrase_integrations.llamaindex.messages import CALLS, ROLES, UNSAID, call_block, given_messages, wire_calls

BLOCK = "block"
"""Key of a content part: its place among the message's blocks."""


def repair_messages(messages: Sequence[ChatMessage]) -> tuple[list[ChatMessage], list[Change]]:
    """Repair a conversation so that no host refuses its form.

    Unanswered tool calls get an "interrupted" result, orphaned and second results go, as do messages that say nothing;
    broken arguments are wrapped in an object; empty and repeated tool-call ids become unique.

    ```python
    from refrase_integrations.llamaindex import repair_messages

    messages, changes = repair_messages(messages)
    ```

    Args:
        messages: the conversation, oldest first; it stays as it is.

    Returns:
        The repaired conversation, and what was changed (empty where it was sound). A message that needed nothing is
        the same object.

    Raises:
        ConfigurationError: something is no message, or no list of them.
    """
    messages = given_messages(messages)
    wired = [wire_form(message) for message in messages]
    repaired = threads.repair_messages(wired)
    return [
        _added(wire) if origin is None else _mended(messages[origin], wired[origin], wire)
        for wire, origin in zip(repaired.messages, repaired.origins, strict=True)
    ], repaired.changes


def repair_memory(memory: BaseMemory) -> list[Change]:
    """Repair what a memory holds, in its store.

    Of a `Memory` only the active messages are repaired: what was archived is in no prompt.

    ```python
    from refrase_integrations.llamaindex import repair_memory

    for change in repair_memory(memory):
        print(change.detail)
    ```

    Args:
        memory: of an agent or a chat engine, such as `ChatMemoryBuffer` or `Memory`.

    Returns:
        What was changed; empty where the conversation was sound: nothing is written then.

    Raises:
        ConfigurationError: ``memory`` is none of LlamaIndex's, or holds what is no message.
    """
    instance(memory, BaseMemory, "memory", "a memory of LlamaIndex")
    if isinstance(memory, Memory):
        return cast("list[Change]", asyncio_run(arepair_memory(memory)))  # as its own sync methods do it
    after, changes = repair_messages(memory.get_all())
    if changes:
        memory.set(after)
    return changes


async def arepair_memory(memory: BaseMemory) -> list[Change]:
    """The async twin of `repair_memory`; see there."""
    instance(memory, BaseMemory, "memory", "a memory of LlamaIndex")
    if isinstance(memory, Memory):
        after, changes = repair_messages(await memory.aget_all(status=MessageStatus.ACTIVE))
        if changes:  # its aset() would delete the archived messages too
            await memory.areset(status=MessageStatus.ACTIVE)
            await memory.aput_messages(after)
        return changes
    after, changes = repair_messages(await memory.aget_all())
    if changes:
        await memory.aset(after)
    return changes


def wire_form(message: ChatMessage) -> Message:
    """Return the form in which a message is mended. Blocks of every kind have to stay: each content part says which one
    it is, under the key `BLOCK`."""
    role = ROLES.get(message.role, message.role.value)
    parts = [_part(block, place) for place, block in enumerate(message.blocks) if not isinstance(block, UNSAID)]
    wire: Message = {"role": role, "content": parts}
    if role == "tool":
        wire["tool_call_id"] = message.additional_kwargs.get("tool_call_id") or ""
        if not is_blank(parts) and all(part["type"] == "text" for part in parts):
            wire["content"] = text_of(parts)  # travels as one text, where a blank part does no harm
    calls = wire_calls(message) if role == "assistant" else []
    if calls:
        wire["tool_calls"] = calls
    if message.additional_kwargs.get("partial") is True:
        wire["partial"] = True
    return wire


def _part(block: ContentBlock, place: int) -> dict[str, Any]:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text, BLOCK: place}
    return {"type": block.block_type, BLOCK: place}


def _added(wire: Message) -> ChatMessage:
    kwargs = {key: wire[key] for key in ("tool_call_id", "name") if key in wire}
    return ChatMessage(role=MessageRole.TOOL, content=wire["content"], additional_kwargs=kwargs)


def _mended(message: ChatMessage, before: Message, wire: Message) -> ChatMessage:
    if wire is before:
        return message
    kwargs = dict(message.additional_kwargs)
    blocks = _kept(message, before, wire)
    if wire.get("tool_call_id") != before.get("tool_call_id"):
        kwargs["tool_call_id"] = wire["tool_call_id"]
    if wire.get("tool_calls") != before.get("tool_calls"):
        kwargs[CALLS] = wire["tool_calls"]
        calls = iter(wire["tool_calls"])
        blocks = [call_block(next(calls)) if isinstance(block, ToolCallBlock) else block for block in blocks]
    return message.model_copy(update={"blocks": blocks, "additional_kwargs": kwargs})


def _kept(message: ChatMessage, before: Message, wire: Message) -> list[ContentBlock]:
    content = wire.get("content")
    if content == before.get("content"):
        return list(message.blocks)
    if isinstance(content, str):
        return [TextBlock(text=content)]
    kept = {part[BLOCK] for part in content or ()}
    gone = {part[BLOCK] for part in before.get("content") or ()} - kept
    return [block for place, block in enumerate(message.blocks) if place not in gone]
