"""Between a prepared request and another package's chat model: `hand_over` on the way out, `Reader` on the way back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages import ToolCall as LangChainToolCall
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables.base import RunnableBindingBase

from refrase_integrations.kimi.messages import REASONING_KEYS
from refrase_integrations.kimi.practice import Change, Practice, Prepared, messages_of
from refrase_integrations.kimi.prepare import leaving
from refrase_integrations.kimi.wire import Body, Chunk, Message
from refrase_integrations.langchain.vendors import ChatVendor, vendor_of, without_settings

WRAPPER = Practice(id="wrapper", statement="Says what the wrapped model does not let through.", sources=())
"""Not a setting: the report names what no practice can change."""

_ENDS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "refusal": "content_filter",
}
"""Finish reasons of other protocols, in the words of the OpenAI form."""
_TRANSPORT = frozenset({"messages", "model", "stream", "stream_options", "tools", "tool_choice", "stop"})


class Handover(NamedTuple):
    """What the inner model is called with."""

    model: BaseChatModel
    messages: list[BaseMessage]
    stop: list[str] | None
    arguments: dict[str, Any]


def hand_over(model: BaseChatModel, prepared: Prepared, passed: Mapping[str, Any], *, respell: bool | None) -> Handover:
    """Return what to call ``model`` with for a prepared request; what it does not take is put into the report.

    Args:
        model: the inner model. It is not changed.
        prepared: the request.
        passed: call arguments of the user's that only the inner model knows.
        respell: whether the model's name is sent, in the host's spelling. True: always; None: where it goes through the
            inner model as it is; False: never.
    """
    vendor, body = vendor_of(model), leaving(prepared)
    origins = _Origins(prepared)
    messages = [origins.message(message, vendor) for message in messages_of(body)]
    asked = {"model": body["model"]} if respell or (respell is None and vendor.body is not None) else {}
    if vendor.body is not None:
        whole = {key: value for key, value in body.items() if key not in ("model", "stream")}
        return Handover(without_settings(model, {}), messages, None, {**passed, **asked, vendor.body: whole})
    arguments, lost = _arguments(body, vendor)
    stop = body.get("stop")
    inner = without_settings(model, {**arguments, "stop": stop})
    if body.get("tools"):
        inner, bound = _bound(inner, body, vendor, arguments)
        if bound.get("tool_choice", "") is None:
            lost.append("tool_choice")
            del bound["tool_choice"]
        arguments |= bound
    if lost:
        kind = type(model).__name__
        words = f"{kind} takes no {', '.join(sorted(lost))}: not sent. ChatKimi sends it."
        prepared.report.add(WRAPPER, [Change("advise", words)])
    return Handover(inner, messages, [stop] if isinstance(stop, str) else stop, {**passed, **asked, **arguments})


def _arguments(body: Body, vendor: ChatVendor) -> tuple[dict[str, Any], list[str]]:
    """Return the call arguments that carry a body's fields, and the fields that none does."""
    arguments: dict[str, Any] = {}
    lost: list[str] = []
    for key, value in cast("dict[str, Any]", body).items():
        argument = "max_tokens" if key == "max_completion_tokens" else key
        if key in _TRANSPORT:
            continue
        if vendor.arguments is None or argument in vendor.arguments:
            arguments[argument] = value
        else:
            lost.append(key)
    return arguments, lost


def _bound(
    model: BaseChatModel, body: Body, vendor: ChatVendor, arguments: dict[str, Any]
) -> tuple[BaseChatModel, dict[str, Any]]:
    """Let the inner model put the tools into its own form, as its ``bind_tools`` does."""
    if type(model).bind_tools is BaseChatModel.bind_tools:
        return model, {key: body.get(key) for key in ("tools", "tool_choice") if body.get(key)}
    choice, given = body.get("tool_choice"), dict[str, Any]()
    parallel = arguments.pop("parallel_tool_calls", None)
    if parallel is not None:
        given["parallel_tool_calls"] = parallel
    named = choice["function"]["name"] if isinstance(choice, dict) and "function" in choice else None
    spelled = named or (vendor.choices.get(choice, choice) if isinstance(choice, str) else choice)
    refused = isinstance(choice, str) and choice not in ("auto", *vendor.choices)
    if choice not in (None, "auto") and not refused:
        given["tool_choice"] = spelled
    binding = model.bind_tools(cast("list[dict[str, Any]]", body["tools"]), **given)
    bound = dict[str, Any]()
    while isinstance(binding, RunnableBindingBase):
        bound = {**binding.kwargs, **bound}
        binding = binding.bound
    if refused:
        bound["tool_choice"] = None
    return binding if isinstance(binding, BaseChatModel) else model, bound


# -- messages out ----------------------------------------------------------------------------------------


class _Origins:
    """The user's own messages behind the wire messages of a request."""

    def __init__(self, prepared: Prepared) -> None:
        pairs = prepared.call.origins
        self._own: dict[int, BaseMessage] = {id(wire): origin for wire, origin in pairs}
        self._results = {origin.tool_call_id: origin for _, origin in pairs if isinstance(origin, ToolMessage)}

    def message(self, wire: Message, vendor: ChatVendor) -> BaseMessage:
        """Return the user's own message where no practice touched it, else one in LangChain's form."""
        own = self._own.get(id(wire))
        in_its_form = not (vendor.thinking_blocks and _reasoning_of(wire))
        if own is not None and (in_its_form or isinstance(own.content, list)):
            return own
        made = decode(wire, thinking_blocks=vendor.thinking_blocks)
        result = self._results.get(wire.get("tool_call_id") or "")
        if result is None:
            return made
        return result.model_copy(update={"content": made.content, "name": made.name})  # status and artifact stay


def decode(message: Message, *, thinking_blocks: bool = False) -> BaseMessage:
    """Return a wire message as LangChain's.

    Args:
        message: from a prepared request.
        thinking_blocks: put reasoning in front of the content, as blocks, instead of beside it.
    """
    role, content = message.get("role"), message.get("content") or ""
    extra: dict[str, Any] = {"name": message["name"]} if message.get("name") else {}
    if role == "system":
        return SystemMessage(content, **extra)
    if role == "user":
        return HumanMessage(content, **extra)
    if role == "tool":
        return ToolMessage(content, tool_call_id=message.get("tool_call_id") or "", **extra)
    if role != "assistant":
        return ChatMessage(content=content, role=role or "user", **extra)
    kwargs: dict[str, Any] = {}
    fields = cast("dict[str, Any]", message)
    if thinking_blocks:
        content = [*_blocks(message), *([{"type": "text", "text": content}] if isinstance(content, str) else content)]
        content = [block for block in content if block.get("text") != ""]
    else:
        kwargs = {key: fields[key] for key in (*REASONING_KEYS, "reasoning_details") if key in fields}
    if message.get("partial"):
        kwargs["partial"] = True
    calls, invalid = list[LangChainToolCall](), list[InvalidToolCall]()
    for made in message.get("tool_calls") or ():
        function = made.get("function") or {}
        name, text = function.get("name", ""), function.get("arguments") or "{}"
        args = _object(text)
        if args is not None:
            calls.append(LangChainToolCall(name=name, args=args, id=made.get("id"), type="tool_call"))
        else:
            invalid.append(
                InvalidToolCall(name=name, args=text, id=made.get("id"), error=None, type="invalid_tool_call")
            )
    return AIMessage(content, additional_kwargs=kwargs, tool_calls=calls, invalid_tool_calls=invalid, **extra)


def _blocks(message: Message) -> list[dict[str, Any]]:
    """Return reasoning as content blocks: those that the host sent, with their signature, else one with the text."""
    details = [block for block in message.get("reasoning_details") or () if isinstance(block, dict)]
    if details:
        return details
    text = _reasoning_of(message)
    return [{"type": "thinking", "thinking": text}] if text else []


def _reasoning_of(message: Message) -> str:
    fields = cast("dict[str, Any]", message)
    return next((fields[key] for key in REASONING_KEYS if fields.get(key)), "")


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


# -- replies in ------------------------------------------------------------------------------------------


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
        kind = type(model).__name__
        words = f"no reasoning came through {kind}: your app and the next turn do without. ChatKimi keeps it."
        return [Change("advise", words)]

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
    ending = {"finish_reason": _ENDS.get(reason, reason)} if isinstance(reason, str) else {}
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
