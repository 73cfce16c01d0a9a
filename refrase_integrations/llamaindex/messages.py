"""Between LlamaIndex's messages and the wire form: `encode` on the way out, `Decoder` on the way back.

A message's blocks are the truth. `additional_kwargs["tool_calls"]` repeats its calls in wire form, because core's
`process_streaming_objects` and chat engines look there; it keeps their arguments byte for byte too.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from io import IOBase
from typing import Any, cast

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    ChatResponse,
    CitationBlock,
    ContentBlock,
    ImageBlock,
    LogProb,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.llms.llm import ToolSelection
from pydantic import BaseModel

from refrase_integrations.errors import InvalidMessage, ReplyError
from refrase_integrations.kimi.inputs import items, json_text, kind_of
from refrase_integrations.kimi.messages import REASONING_KEYS
from refrase_integrations.kimi.practice import Delta
from refrase_integrations.kimi.wire import Message, Role, ToolCall, Usage

CALLS = "tool_calls"
"""Key of a message's additional_kwargs: its calls in wire form."""
_FIELD, _HOST, _DETAILS = "reasoning_key", "host", "reasoning_details"  # of ThinkingBlock.additional_information
ROLES: Mapping[MessageRole, Role] = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.TOOL: "tool",
}
UNSAID = (ThinkingBlock, ToolCallBlock, CachePoint, CitationBlock)
"""Blocks that travel as message fields, or mean nothing to a host that caches by itself and knows no citations."""


def encode(messages: Sequence[ChatMessage], host: str = "", reasoning_key: str | None = None) -> list[Message]:
    """Put messages on the wire.

    Args:
        messages: LlamaIndex messages; they stay as they are.
        host: id of the host; ``reasoning_details`` go back only to the host they came from.
        reasoning_key: the host's own field for reasoning; a message that it sent itself keeps the field it came in.

    Returns:
        New wire messages.

    Raises:
        InvalidMessage: a message or content block cannot be sent; names its position and type.
        ConfigurationError: ``messages`` is no list.
    """
    return [
        _encoded(message, position, host, reasoning_key) for position, message in enumerate(given_messages(messages))
    ]


def given_messages(messages: object) -> list[ChatMessage]:
    """Return the messages of a conversation as they are.

    Raises:
        InvalidMessage: one is none of LlamaIndex's.
        ConfigurationError: it is no list.
    """
    given = items(messages, "messages", "a list of messages")
    for position, message in enumerate(given):
        if not isinstance(message, ChatMessage):
            raise InvalidMessage(f"messages[{position}] must be a ChatMessage, not {kind_of(message)}")
    return given


def selections(message: ChatMessage, *, strict: bool) -> list[ToolSelection]:
    """Return the tool calls of a message, ready to be run.

    Args:
        message: a reply of the model.
        strict: raise where a call's arguments cannot be used. False: an agent gets a name that no tool has, with the
            reason in it, so that the call is not run and the model reads why: LlamaIndex knows no invalid calls, and
            would run the tool with no arguments at all.

    Raises:
        ReplyError: see ``strict``.
    """
    chosen = []
    for made in wire_calls(message):
        function = made.get("function") or {}
        name, arguments = function.get("name") or "", _parsed(function.get("arguments") or "{}")
        problem = made.get("error") or (None if isinstance(arguments, dict) else "the arguments are no JSON object")
        if problem and strict:
            raise ReplyError(f"the call of {name!r} cannot be used: {problem}")
        chosen.append(
            ToolSelection(
                tool_id=made.get("id") or "",
                tool_name=f"{name} (not run, make the call again, corrected: {problem})" if problem else name,
                tool_kwargs={} if problem else arguments,
            )
        )
    return chosen


class Decoder:
    """Turns the clean deltas of one reply into LlamaIndex's responses.

    Args:
        host: id of the host that replies.
        cost: computes US dollars of a usage, or None where no price is known.
        one_call: keep only the first tool call.
    """

    def __init__(self, host: str, cost: Callable[[Usage], float | None], *, one_call: bool = False) -> None:
        self._cost, self._one_call = cost, one_call
        self._text = ""
        self._reasoning: str | None = None
        self._information: dict[str, Any] = {_HOST: host}
        self._calls: list[ToolCall] = []
        self._call_blocks: list[ToolCallBlock] = []
        self._trimmed = 0
        self._extra: dict[str, Any] = {}

    def whole(self, delta: Delta) -> ChatResponse:
        """Return the response of a folded reply."""
        self._take(delta)
        return self._last(delta)

    def chunk(self, delta: Delta) -> ChatResponse | None:
        """Return the response of one delta of a stream, with the whole message so far; None where there is no news."""
        self._take(delta)
        content, thinking = delta.get("content", ""), delta.get("reasoning", "")
        if "finish_reason" in delta:
            response = self._last(delta)
            response.delta = content
        elif content or thinking or delta.get("tool_calls"):
            response = ChatResponse(message=self._message(), delta=content, logprobs=_logprobs(delta))
        else:
            return None
        if thinking:
            response.additional_kwargs["thinking_delta"] = thinking
        return response

    def so_far(self) -> ChatMessage | None:
        """Return what was handed out so far as one message; None where it was nothing."""
        return self._message() if self._text or self._reasoning or self._calls else None

    def _take(self, delta: Delta) -> None:
        if "content" in delta:
            self._text += delta["content"]
        if "reasoning" in delta:
            self._reasoning = (self._reasoning or "") + delta["reasoning"]
        if "extra" in delta:
            self._extra.update(delta["extra"])
            self._information.update({key: self._extra[key] for key in (_FIELD, _DETAILS) if self._extra.get(key)})
        for made in delta.get("tool_calls") or ():
            if self._one_call and self._calls:
                self._trimmed += 1
                continue
            self._calls.append(made)
            self._call_blocks.append(call_block(made))

    def _message(self, reasoning_tokens: int | None = None) -> ChatMessage:
        blocks: list[ContentBlock] = []
        if self._reasoning is not None or _DETAILS in self._information:
            blocks.append(
                ThinkingBlock(
                    content=self._reasoning,
                    num_tokens=reasoning_tokens,
                    additional_information=dict(self._information),
                )
            )
        if self._text:
            blocks.append(TextBlock(text=self._text))
        blocks += self._call_blocks
        kwargs = {CALLS: list(self._calls)} if self._calls else {}
        return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=kwargs)

    def _last(self, delta: Delta) -> ChatResponse:
        finish, usage = delta.get("finish_reason"), delta.get("usage")
        report = dict(delta.get("report", {}))
        if self._trimmed:
            report["healed"] = [*report.get("healed", ()), {**_TRIMMED, "count": self._trimmed}]
        told: dict[str, Any] = {"finish_reason": finish, "refrase": report}
        cost = self._cost(usage) if usage else None
        if cost is not None:
            told["cost_usd"] = cost
        raw = {key: value for key, value in self._extra.items() if key not in _NOT_RAW}
        return ChatResponse(
            message=self._message((usage or {}).get("reasoning_tokens")),
            raw={**raw, **told, **({"usage": dict(usage)} if usage else {})},
            logprobs=_logprobs(delta),
            additional_kwargs={**told, **(usage or {})},
        )


_NOT_RAW = frozenset({_FIELD, _DETAILS, "logprobs", "choice"})
_TRIMMED = {
    "practice": "parallel-tool-calls",
    "action": "drop",
    "detail": "further tool calls: allow_parallel_tool_calls=False",
    "source": "run-llama/llama_index llms/function_calling.py",
}


def _encoded(message: ChatMessage, position: int, host: str, reasoning_key: str | None) -> Message:
    role = ROLES.get(message.role)
    if role is None:
        raise InvalidMessage(
            f"messages[{position}]: the role {message.role.value!r} is not supported; use 'tool' with its tool_call_id"
        )
    wire: Message = {"role": role, "content": _content(message.blocks, role, position)}
    kwargs = message.additional_kwargs
    if role == "assistant":
        calls = wire_calls(message)
        if calls:
            wire["tool_calls"] = calls
        _add_reasoning(wire, message, host, reasoning_key)
    elif role == "tool":
        if not isinstance(kwargs.get("tool_call_id"), str):
            raise InvalidMessage(f"messages[{position}]: a tool's result needs additional_kwargs['tool_call_id']")
        wire["tool_call_id"] = kwargs["tool_call_id"]
    if isinstance(kwargs.get("name"), str):
        wire["name"] = kwargs["name"]
    if kwargs.get("partial") is True:
        wire["partial"] = True
    return wire


def _content(blocks: Sequence[ContentBlock], role: Role, position: int) -> Any:
    parts = [part for block in blocks if (part := _part(block, role, position)) is not None]
    if all(part["type"] == "text" for part in parts) and (len(parts) < 2 or role == "tool"):
        return "\n".join(part["text"] for part in parts)  # a tool's result is documented as a string
    return parts


def _part(block: ContentBlock, role: Role, position: int) -> dict[str, Any] | None:
    """Return one content part; None for blocks that are not content, and for what another model wrote beside text."""
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text}
    if isinstance(block, UNSAID):
        return None
    if isinstance(block, ImageBlock):
        source: dict[str, Any] = {"url": _url(block, block.image, block.image_mimetype, position)}
        return {"type": "image_url", "image_url": {**source, **({"detail": block.detail} if block.detail else {})}}
    if isinstance(block, VideoBlock):
        return {"type": "video_url", "video_url": {"url": _url(block, block.video, block.video_mimetype, position)}}
    if role == "assistant":
        return None
    raise InvalidMessage(
        f"messages[{position}]: a {type(block).__name__} cannot be sent: Kimi takes text, images and video. "
        "Send the text of a document as a TextBlock."
    )


def _url(block: ImageBlock | VideoBlock, data: bytes | IOBase | None, kind: str | None, position: int) -> str:
    """Return the address of an image or video: the user's own, or a data URL of its bytes."""
    if data is None and block.path is None and block.url is not None:
        return str(block.url)
    if isinstance(data, IOBase):
        data.seek(0)
        encoded = base64.b64encode(data.read())
        data.seek(0)
    elif data is not None:
        encoded = data  # the block has encoded it already
    elif block.path is not None:
        try:
            encoded = base64.b64encode(block.path.read_bytes())
        except OSError as error:
            why = type(error).__name__
            raise InvalidMessage(f"messages[{position}]: the file of a block cannot be read ({why})") from None
    else:
        raise InvalidMessage(f"messages[{position}]: an {type(block).__name__} without data, path or url")
    if not kind:
        field = "image_mimetype" if isinstance(block, ImageBlock) else "video_mimetype"
        raise InvalidMessage(f"messages[{position}]: the type of the data is not recognised; set {field}=")
    return f"data:{kind};base64,{encoded.decode('ascii')}"


def _add_reasoning(wire: Message, message: ChatMessage, host: str, reasoning_key: str | None) -> None:
    thoughts = [block for block in message.blocks if isinstance(block, ThinkingBlock)]
    known: dict[str, Any] = {}
    for block in thoughts:
        known.update(block.additional_information)
    at_home = known.get(_HOST) == host
    field = known.get(_FIELD)
    key = field if isinstance(field, str) and field else REASONING_KEYS[0]
    said = [block.content for block in thoughts if block.content is not None]
    if not thoughts:  # the form of other integrations
        for legacy in REASONING_KEYS:
            if isinstance(message.additional_kwargs.get(legacy), str):
                key, said = legacy, [message.additional_kwargs[legacy]]
                break
    if said:
        cast("dict[str, Any]", wire)[key if at_home else reasoning_key or key] = "".join(said)
    if at_home and known.get(_DETAILS):
        wire["reasoning_details"] = known[_DETAILS]


def wire_calls(message: ChatMessage) -> list[ToolCall]:
    """Return the tool calls of a message in wire form, from its blocks, or from the older form."""
    kept = message.additional_kwargs.get(CALLS)
    legacy = [_plain_call(made, place) for place, made in enumerate(kept)] if isinstance(kept, list | tuple) else []
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if not blocks:
        return legacy
    by_id = {made.get("id") or "": made for made in legacy}
    return [_wire_call(block, by_id.get(block.tool_call_id or "")) for block in blocks]


def _wire_call(block: ToolCallBlock, kept: ToolCall | None) -> ToolCall:
    """Return a block's call: the kept one, byte for byte, unless the app has edited the block since."""
    written = kept["function"]["arguments"] if kept is not None else ""
    if kept is not None and block.tool_kwargs in (_kwargs(written), written):
        return {**kept, "function": {**kept["function"], "name": block.tool_name}}
    arguments = block.tool_kwargs
    text = arguments if isinstance(arguments, str) else json_text(arguments, _OF_A_CALL.format(block.tool_name))
    function = {"name": block.tool_name, "arguments": text}
    return cast(ToolCall, {"id": block.tool_call_id or "", "type": "function", "function": function})


def _plain_call(made: Any, place: int) -> ToolCall:
    """Return a call of the older form as a wire dict; other integrations keep objects of an SDK there."""
    call = made.model_dump() if isinstance(made, BaseModel) else made
    function = (call.get("function") or {}) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        raise InvalidMessage(f"additional_kwargs['tool_calls'][{place}] must be a tool call in wire form")
    name, call_id, arguments = function.get("name"), call.get("id"), function.get("arguments")
    name = name if isinstance(name, str) else ""
    text = arguments if isinstance(arguments, str) else json_text(arguments or {}, _OF_A_CALL.format(name))
    plain: ToolCall = {
        "id": call_id if isinstance(call_id, str) else "",
        "type": "function",
        "function": {"name": name, "arguments": text},
    }
    if isinstance(call.get("error"), str) and call["error"]:
        plain["error"] = call["error"]
    return plain


_OF_A_CALL = "the arguments of a call to {!r:.80}"


def call_block(made: ToolCall) -> ToolCallBlock:
    """Return the block of a tool call."""
    function = made.get("function") or {}
    written = function.get("arguments") or "{}"
    return ToolCallBlock(
        tool_call_id=made.get("id"),
        tool_name=function.get("name", ""),
        tool_kwargs=written if made.get("withheld") else _kwargs(written),
    )


def _kwargs(text: str) -> dict[str, Any] | str:
    """Return arguments as a block holds them: a dict, or the text where it is none."""
    parsed = _parsed(text)
    return parsed if isinstance(parsed, dict) else text


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _logprobs(delta: Delta) -> list[list[LogProb]] | None:
    given = (delta.get("extra", {}).get("logprobs") or {}).get("content")
    if not given:
        return None
    return [[_logprob(entry) for entry in token.get("top_logprobs") or [token]] for token in given]


def _logprob(entry: Mapping[str, Any]) -> LogProb:
    return LogProb(token=entry.get("token", ""), logprob=entry.get("logprob", 0.0), bytes=entry.get("bytes") or [])
