"""Between LangChain's messages and the wire form: `encode` on the way out, `Decoder` on the way back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages import ToolCall as LangChainToolCall
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.block_translators.openai import convert_to_openai_data_block
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk
from langchain_core.utils.json import parse_partial_json

from refrase_integrations.errors import InvalidMessage
from refrase_integrations.kimi.inputs import items, json_text, kind_of, shown
from refrase_integrations.kimi.messages import REASONING_KEYS
from refrase_integrations.kimi.practice import Delta
from refrase_integrations.kimi.stream import fold
from refrase_integrations.kimi.wire import Message, Role, ToolCall, Usage

PROVIDER = "kimi"
"""A name of our own: with "openai" langchain-core would drop ``reasoning_content`` when it builds content blocks."""
ARGUMENTS = "tool_arguments"
"""Key of additional_kwargs: arguments as the model wrote them, by call id, where JSON would be written otherwise.
A byte that changes in an old message costs the host's prefix cache."""
ERRORS = "tool_call_errors"
"""Key of additional_kwargs: why a call cannot be used, by call id."""
_REASONING_KEY = "reasoning_key"
_DETAILS = "reasoning_details"
_ONCE = frozenset(
    {_REASONING_KEY, "id", "model_name", "model_provider", "system_fingerprint", "service_tier", "provider"}
)
_KINDS: Mapping[type[BaseMessage], Role] = {
    SystemMessage: "system",
    HumanMessage: "user",
    AIMessage: "assistant",
    ToolMessage: "tool",
}
_STRUCTURED = frozenset({"json", "search_result", "custom_tool_call_output"})  # data in results: travels as JSON text


def encode(messages: Sequence[BaseMessage], host: str = "", reasoning_key: str | None = None) -> list[Message]:
    """Put messages on the wire.

    Args:
        messages: LangChain messages of any kind that a conversation may hold.
        host: id of the host; ``reasoning_details`` go back only to the host they came from.
        reasoning_key: the host's own field for reasoning; a message that it sent itself keeps the field it came in.

    Returns:
        New wire messages; the given ones stay as they are.

    Raises:
        InvalidMessage: a message or content block cannot be sent; names its position and type.
        ConfigurationError: ``messages`` is no list.
    """
    given = items(messages, "messages", "a list of messages")
    return [_encoded(message, position, host, reasoning_key) for position, message in enumerate(given)]


def _encoded(message: BaseMessage, position: int, host: str, reasoning_key: str | None) -> Message:
    role = _KINDS.get(type(message)) or _role(message, position)
    content = message.content
    wire: Message = {
        "role": role,
        "content": content if isinstance(content, str) else _content(content, role, position),
    }
    if isinstance(message, AIMessage):
        _add_assistant_fields(wire, message, host, reasoning_key)
    elif isinstance(message, ToolMessage):
        wire["tool_call_id"] = message.tool_call_id
    if message.name:
        wire["name"] = message.name
    if message.additional_kwargs.get("partial") is True:
        wire["partial"] = True
    return wire


def _role(message: BaseMessage, position: int) -> str:
    if isinstance(message, ChatMessage):
        return message.role
    if isinstance(message, FunctionMessage):
        raise InvalidMessage(f"messages[{position}]: FunctionMessage: use ToolMessage with its tool_call_id")
    for kind, role in _KINDS.items():
        if isinstance(message, kind):
            return role
    raise InvalidMessage(f"messages[{position}]: {type(message).__name__} cannot be sent to a model")


def _content(content: list[str | dict[str, Any]], role: str, position: int) -> Any:
    parts = [part for block in content if (part := _part(block, role, position)) is not None]
    if all(part["type"] == "text" for part in parts) and (len(parts) < 2 or role == "tool"):
        return "\n".join(part["text"] for part in parts)  # a tool's result is documented as a string
    return parts


def _part(block: str | dict[str, Any], role: str, position: int) -> dict[str, Any] | None:
    """Return one content part; None for what a model wrote beside text: it travels as message fields, or was another
    provider's own (server tools, citations)."""
    if isinstance(block, str):
        return {"type": "text", "text": block}
    kind = block.get("type")
    if kind in ("text", "text-plain"):
        if isinstance(text := block.get("text") or "", str):
            return {"type": "text", "text": text}
        raise InvalidMessage(f"messages[{position}]: the text of a content block is {kind_of(text)}")
    if kind in ("image_url", "video_url"):
        return {"type": kind, kind: block.get(kind)}
    if kind == "image":
        source = block.get("source")
        if isinstance(source, Mapping):  # Anthropic's form
            url = source.get("url") or f"data:{source.get('media_type')};base64,{source.get('data')}"
            return {"type": "image_url", "image_url": {"url": url}}
        try:
            return convert_to_openai_data_block(block)
        except (ValueError, KeyError, TypeError):
            raise InvalidMessage(f"messages[{position}]: an image needs 'url', or 'base64' and 'mime_type'") from None
    if kind == "video" and (block.get("url") or block.get("base64")):
        url = block.get("url") or f"data:{block.get('mime_type')};base64,{block['base64']}"
        return {"type": "video_url", "video_url": {"url": url}}
    if role == "assistant":
        return {"type": "text", "text": block["refusal"]} if isinstance(block.get("refusal"), str) else None
    if role == "tool" and kind in _STRUCTURED:
        return {"type": "text", "text": json_text(block, f"messages[{position}]: a result's data")}
    raise InvalidMessage(
        f"messages[{position}]: a content block of type {shown(kind)} cannot be sent: Kimi takes text, images and video"
    )


def _add_assistant_fields(wire: Message, message: AIMessage, host: str, reasoning_key: str | None) -> None:
    if message.tool_calls or message.invalid_tool_calls:
        errors = _kept(message, ERRORS)
        wire["tool_calls"] = [
            *map(_wire_call(message, errors), message.tool_calls),
            *(_wire_invalid_call(call, errors) for call in message.invalid_tool_calls),
        ]
    report = message.response_metadata.get("refrase")
    at_home = isinstance(report, Mapping) and report.get("host") == host
    reasoning = _reasoning(message)
    if reasoning is not None:
        key, text = reasoning
        cast("dict[str, Any]", wire)[key if at_home else reasoning_key or key] = text
    details = message.additional_kwargs.get(_DETAILS)
    if details and at_home:
        wire["reasoning_details"] = details


def _kept(message: AIMessage, key: str) -> Mapping[str, str]:
    """Return the texts that we keep with a message, by call id; what somebody else put there is passed over."""
    found = message.additional_kwargs.get(key)
    return {k: text for k, text in found.items() if isinstance(text, str)} if isinstance(found, Mapping) else {}


def _wire_call(message: AIMessage, errors: Mapping[str, str]) -> Callable[[LangChainToolCall], ToolCall]:
    written = _kept(message, ARGUMENTS)

    def convert(call: LangChainToolCall) -> ToolCall:
        call_id = call.get("id") or ""
        text = written.get(call_id)
        if text is None or _parsed(text) != call["args"]:  # the app may have edited the arguments since
            text = json_text(call["args"], f"the arguments of a call to {call['name']!r:.80}")
        wire: ToolCall = {
            "id": call_id,
            "type": "function",
            "function": {"name": call["name"], "arguments": text},
        }
        if call_id in errors:
            wire["error"] = errors[call_id]
        return wire

    return convert


def _completable(text: str) -> bool:
    try:
        return isinstance(parse_partial_json(text), dict)
    except (ValueError, RecursionError):
        return False


def _wire_invalid_call(call: InvalidToolCall, errors: Mapping[str, str]) -> ToolCall:
    text = call.get("args") or ""
    quoted = _parsed(text)  # as `Decoder.chunk` hands it out in a stream
    wire: ToolCall = {
        "id": call.get("id") or "",
        "type": "function",
        "function": {"name": call.get("name") or "", "arguments": quoted if isinstance(quoted, str) else text},
    }
    error = call.get("error") or errors.get(wire["id"])
    if error:
        wire["error"] = str(error)
    return wire


def _reasoning(message: AIMessage) -> tuple[str, str] | None:
    """Return the field and the text of the reasoning, from the remembered field or from content blocks."""
    kwargs = message.additional_kwargs
    field = key if isinstance(key := kwargs.get(_REASONING_KEY), str) else None
    for key in REASONING_KEYS:
        if isinstance(kwargs.get(key), str):
            return field or key, kwargs[key]
    if isinstance(message.content, str):
        return None
    said = [
        text if isinstance(text := block.get("reasoning") or block.get("thinking"), str) else ""
        for block in message.content
        if isinstance(block, dict) and block.get("type") in ("reasoning", "thinking")
    ]
    return (field or REASONING_KEYS[0], "".join(said)) if said else None


def error_of(message: AIMessage, call: LangChainToolCall) -> str | None:
    """Return why a call of ``message`` cannot be used; None where it can, or where the app has edited it since."""
    call_id = call.get("id") or ""
    written = _kept(message, ARGUMENTS).get(call_id)
    edited = written is not None and _parsed(written) != call["args"]
    return None if edited else _kept(message, ERRORS).get(call_id)


class Decoder:
    """Turns clean deltas into LangChain's chunks and messages.

    Args:
        cost: computes US dollars of a usage, or None where no price is known.
    """

    def __init__(self, cost: Callable[[Usage], float | None]) -> None:
        self._cost = cost
        self._texts: dict[str, list[str]] = {"content": [], "reasoning": []}
        self._others: list[Delta] = []
        self._said: set[str] = set()
        self._kind, self._block = "", -1

    def chunk(self, delta: Delta) -> ChatGenerationChunk:
        """Return the chunk of one delta; the last one carries the metadata."""
        if len(delta) == 1:  # nearly every delta of a stream is a piece of text and nothing else
            if "content" in delta:
                kind, text = "content", delta["content"]
                message = AIMessageChunk(content=text)
            elif "reasoning" in delta:
                kind, text = "reasoning", delta["reasoning"]
                message = AIMessageChunk(content="", additional_kwargs={REASONING_KEYS[0]: text})
            else:
                kind = ""
            if kind:
                self._texts[kind].append(text)
                if kind != self._kind:
                    self._enter(kind)
                return ChatGenerationChunk(message=message)
        self._others.append(delta)
        kwargs, metadata, usage = self._fields(delta)
        for fields in (kwargs, metadata):  # a second reply within the call: merged chunks would join both names to one
            for key in _ONCE & fields.keys():
                if key in self._said:
                    del fields[key]
                self._said.add(key)
        for kind in ("reasoning", "content"):
            if kind in delta:
                self._enter(kind)
        calls = []
        for made in delta.get("tool_calls") or ():
            function = made.get("function") or {}
            name, args = function.get("name"), function.get("arguments") or "{}"
            if made.get("withheld") or (not isinstance(_parsed(args), dict) and _completable(args)):
                # LangChain would complete what was cut short, and run half a path: as a JSON text it stays unusable.
                args = json.dumps(args, ensure_ascii=False)
            calls.append(tool_call_chunk(name=name, args=args, id=made.get("id"), index=self._enter("")))
        last = "finish_reason" in delta
        message = AIMessageChunk(
            content=delta.get("content", ""),
            additional_kwargs=kwargs,
            tool_call_chunks=calls,
            usage_metadata=usage,
            response_metadata=metadata,
            chunk_position="last" if last else None,
        )
        info = {"logprobs": delta["extra"]["logprobs"]} if delta.get("extra", {}).get("logprobs") else None
        return ChatGenerationChunk(message=message, generation_info=info)

    def so_far(self) -> AIMessageChunk | None:
        """Return what was handed out so far as one message; None where it was nothing."""
        texts: list[Delta] = [cast(Delta, {kind: "".join(texts)}) for kind, texts in self._texts.items() if texts]
        if not texts and not self._others:
            return None
        [whole] = fold([*self._others, *texts])
        return cast(AIMessageChunk, Decoder(self._cost).chunk(whole).message)

    def _enter(self, kind: str) -> int:
        """Return the index of the content block that this piece belongs to; each tool call is a block of its own.

        A call must not share the index of the reasoning or text before it: under ``output_version="v1"`` langchain-core
        numbers the blocks so and merges equal numbers.
        """
        if kind != self._kind or not kind:
            self._kind = kind
            self._block += 1
        return self._block

    def generation(self, delta: Delta) -> ChatGeneration:
        """Return the whole message of a folded reply."""
        kwargs, metadata, usage = self._fields(delta)
        calls, invalid = list[LangChainToolCall](), list[InvalidToolCall]()
        for made in delta.get("tool_calls") or ():
            function = made.get("function") or {}
            name, text, call_id = function.get("name", ""), function.get("arguments") or "{}", made.get("id")
            args = _parsed(text)
            if isinstance(args, dict) and not made.get("withheld"):
                calls.append(LangChainToolCall(name=name, args=args, id=call_id, type="tool_call"))
            else:
                invalid.append(
                    InvalidToolCall(name=name, args=text, id=call_id, error=made.get("error"), type="invalid_tool_call")
                )
        message = AIMessage(
            content=delta.get("content", ""),
            additional_kwargs=kwargs,
            tool_calls=calls,
            invalid_tool_calls=invalid,
            usage_metadata=usage,
            response_metadata=metadata,
        )
        info: dict[str, Any] = {"finish_reason": delta.get("finish_reason")}
        if delta.get("extra", {}).get("logprobs"):
            info["logprobs"] = delta["extra"]["logprobs"]
        return ChatGeneration(message=message, generation_info=info)

    def _fields(self, delta: Delta) -> tuple[dict[str, Any], dict[str, Any], UsageMetadata | None]:
        extra = delta.get("extra", {})
        kwargs: dict[str, Any] = {}
        if "reasoning" in delta:
            kwargs[REASONING_KEYS[0]] = delta["reasoning"]
        if extra.get("reasoning_key", REASONING_KEYS[0]) != REASONING_KEYS[0]:
            kwargs[_REASONING_KEY] = extra["reasoning_key"]
        if extra.get(_DETAILS):
            kwargs[_DETAILS] = extra[_DETAILS]
        kwargs.update(_remembered(delta.get("tool_calls") or ()))
        metadata: dict[str, Any] = {}
        if "id" in extra or "model" in extra:
            metadata = {"id": extra["id"]} if "id" in extra else {}
            metadata |= {"model_name": extra.get("model"), "model_provider": PROVIDER}
            metadata.update(
                {key: extra[key] for key in ("system_fingerprint", "service_tier", "provider") if key in extra}
            )
        if "finish_reason" in delta:
            metadata["finish_reason"] = delta["finish_reason"]
            metadata["refrase"] = delta.get("report", {})
        usage = delta.get("usage")
        if usage is None:
            return kwargs, metadata, None
        cost = self._cost(usage)
        if cost is not None:
            metadata["cost_usd"] = cost
        return kwargs, metadata, _usage_metadata(usage)


def _remembered(calls: Iterable[ToolCall]) -> dict[str, Any]:
    """Return what a tool call carries beyond LangChain's own fields: odd spellings of arguments, errors."""
    written: dict[str, str] = {}
    errors: dict[str, str] = {}
    for made in calls:
        text, call_id = (made.get("function") or {}).get("arguments") or "", made.get("id") or ""
        args = _parsed(text)
        if isinstance(args, dict) and ("error" in made or json.dumps(args, ensure_ascii=False) != text):
            written[call_id] = text
        if made.get("error"):
            errors[call_id] = made["error"]
    return {key: value for key, value in ((ARGUMENTS, written), (ERRORS, errors)) if value}


def _usage_metadata(usage: Usage) -> UsageMetadata:
    prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    metadata = UsageMetadata(
        input_tokens=prompt,
        output_tokens=completion,
        total_tokens=usage.get("total_tokens") or prompt + completion,
    )
    if "cached_tokens" in usage:
        metadata["input_token_details"] = InputTokenDetails(cache_read=usage["cached_tokens"])
    if "reasoning_tokens" in usage:
        metadata["output_token_details"] = OutputTokenDetails(reasoning=usage["reasoning_tokens"])
    return metadata


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
