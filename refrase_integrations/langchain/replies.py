"""The replies of another package's chat model, in the form that hosts send."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from refrase_integrations.kimi.messages import REASONING_KEYS
from refrase_integrations.kimi.practice import Change, Prepared
from refrase_integrations.kimi.vendors import FINISH_REASONS, no_reasoning
from refrase_integrations.kimi.wire import Chunk


class Reader:
    """Puts the replies of an inner model into the form that hosts send, so that they are healed like any other.

    Args:
        prepared: the request. The dialect's first field for reasoning is the one that reasoning is handed on in.
    """

    def __init__(self, prepared: Prepared) -> None:
        dialect = prepared.call.dialect
        self._key = dialect.reasoning_in[0]
        self._thinks = dialect.thinking
        self._model = dialect.model_id
        self._usage: UsageMetadata | None = None
        self.reasoned = False
        """Whether the reply held reasoning."""

    def chunk(self, chunk: ChatGenerationChunk) -> Chunk:
        """Return one chunk of a stream."""
        message = cast(AIMessageChunk, chunk.message)
        metadata = {**message.response_metadata, **(chunk.generation_info or {})}
        delta = self._said(message)
        calls = [
            {
                "index": made.get("index"),
                "id": made.get("id"),
                "function": {"name": made.get("name"), "arguments": made.get("args") or ""},
            }
            for made in message.tool_call_chunks
        ]
        if calls:
            delta["tool_calls"] = calls
        choice = {"index": 0, "delta": delta, **_ending(metadata)}
        if message.usage_metadata is not None:  # a stream's parts add up, by LangChain's rule
            self._usage = add_usage(self._usage, message.usage_metadata)
        return {**self._head(metadata), "choices": [choice], **_usage(self._usage)}

    def whole(self, result: ChatResult) -> Chunk:
        """Return a reply that came as a whole."""
        output = result.llm_output or {}
        choices = []
        for index, generation in enumerate(result.generations):
            message = cast(AIMessage, generation.message)
            said = self._said(message)
            calls = list(_calls(message))
            if calls:
                said["tool_calls"] = calls
            metadata = {**output, **message.response_metadata, **(generation.generation_info or {})}
            choices.append({"index": index, "message": said, **_ending(metadata)})
        first = result.generations[0]
        metadata = {**output, **first.message.response_metadata, **(first.generation_info or {})}
        raw = output.get("token_usage")
        # The host's own block says more than LangChain keeps of it (Moonshot's flat cached_tokens).
        usage = (
            {"usage": raw}
            if isinstance(raw, Mapping) and raw.get("prompt_tokens") is not None
            else _usage(cast(AIMessage, first.message).usage_metadata)
        )
        return {**self._head(metadata), "choices": choices, **usage}

    def lost(self, model: BaseChatModel) -> list[Change]:
        """Return what the reply should have held and did not."""
        if self.reasoned or not self._thinks:
            return []
        return [no_reasoning(model, "ChatKimi")]

    def _head(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        # Many classes tell the model in a stream's last chunk only; what is known at the first one is what was asked.
        head = {"id": metadata.get("id"), "model": metadata.get("model_name") or metadata.get("model") or self._model}
        return {key: value for key, value in head.items() if isinstance(value, str)}

    def _said(self, message: BaseMessage) -> dict[str, Any]:
        """Return text and reasoning, from fields and from content blocks of any protocol."""
        said: dict[str, Any] = {}
        kwargs = message.additional_kwargs
        for key in REASONING_KEYS:
            if isinstance(kwargs.get(key), str):
                said[self._key] = kwargs[key]
                break
        details = list(kwargs.get("reasoning_details") or ())
        if isinstance(message.content, str):
            text = message.content
        else:
            text = ""
            for block in message.content:
                kind, words = _block(block)
                if kind == "text":
                    text += words
                elif kind == "reasoning":
                    said[self._key] = said.get(self._key, "") + words
                    if isinstance(block, dict) and block.get("type") in _SIGNED:
                        details.append(block)
        if text:
            said["content"] = text
        if details:
            said["reasoning_details"] = details
        self.reasoned = self.reasoned or self._key in said
        return said


_SIGNED = frozenset({"thinking", "redacted_thinking"})


def _block(block: Any) -> tuple[str, str]:
    """Return the kind of a content block, text or reasoning, and its words; ("", "") where it is neither."""
    if isinstance(block, str):
        return "text", block
    if not isinstance(block, Mapping):
        return "", ""
    kind = block.get("type")
    if kind == "text":
        return "text", block.get("text") or ""
    if kind in ("thinking", "redacted_thinking"):
        return "reasoning", block.get("thinking") or ""
    if kind == "reasoning":
        return "reasoning", block.get("reasoning") or ""
    if kind == "reasoning_content":  # Converse
        inner = block.get("reasoning_content")
        return "reasoning", (inner.get("text") or "") if isinstance(inner, Mapping) else ""
    return "", ""


def _calls(message: AIMessage) -> Iterator[dict[str, Any]]:
    for made in message.tool_calls:
        text = json.dumps(made["args"], ensure_ascii=False)
        yield {"id": made.get("id"), "type": "function", "function": {"name": made["name"], "arguments": text}}
    for broken in message.invalid_tool_calls:
        function = {"name": broken.get("name") or "", "arguments": broken.get("args") or ""}
        yield {"id": broken.get("id"), "type": "function", "function": function}


def _ending(metadata: Mapping[str, Any]) -> dict[str, Any]:
    reason = next((metadata[key] for key in ("finish_reason", "stop_reason", "stopReason") if metadata.get(key)), None)
    ending = {"finish_reason": FINISH_REASONS.get(reason, reason)} if isinstance(reason, str) else {}
    return {**ending, "logprobs": metadata["logprobs"]} if metadata.get("logprobs") else ending


def _usage(usage: UsageMetadata | None) -> dict[str, Any]:
    if usage is None:
        return {}
    block: dict[str, Any] = {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
    }
    cached = (usage.get("input_token_details") or {}).get("cache_read")
    reasoned = (usage.get("output_token_details") or {}).get("reasoning")
    if cached is not None:
        block["prompt_tokens_details"] = {"cached_tokens": cached}
    if reasoned is not None:
        block["completion_tokens_details"] = {"reasoning_tokens": reasoned}
    return {"usage": block}
