"""Between a prepared request and another package's LLM: `hand_over` on the way out, `Reader` on the way back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ContentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    VideoBlock,
)
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.tools import BaseTool, ToolMetadata, ToolOutput
from pydantic import BaseModel

from refrase_integrations.kimi.messages import REASONING_KEYS, text_of
from refrase_integrations.kimi.practice import Change, Prepared, messages_of
from refrase_integrations.kimi.prepare import leaving
from refrase_integrations.kimi.vendors import FINISH_REASONS, WRAPPER, no_reasoning, not_sent, refuse_auto
from refrase_integrations.kimi.wire import Body, Chunk, Message, Tool
from refrase_integrations.llamaindex.messages import CALLS, call_block, wire_calls
from refrase_integrations.llamaindex.vendors import LLMVendor, field_of, vendor_of

INSTEAD = "Kimi"
_TRANSPORT = frozenset({"messages", "model", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls"})


class Handover(NamedTuple):
    """What an inner LLM is called with."""

    messages: list[ChatMessage]
    arguments: dict[str, Any]
    fields: dict[str, Any]
    """Settings that it takes through its fields, under our names."""


def lays_over(vendor: LLMVendor, protocol: str) -> bool:
    """Tell whether a request can be handed to an LLM as its whole JSON."""
    return vendor.body is not None and protocol == "openai"


def hand_over(llm: LLM, prepared: Prepared, passed: Mapping[str, Any], *, respell: bool) -> Handover:
    """Return what to call ``llm`` with for a prepared request; what it does not take is put into the report.

    Args:
        llm: the inner LLM. It is not changed.
        prepared: the request.
        passed: call arguments of the user's that only the inner LLM knows.
        respell: whether the model's name is sent in the host's spelling, where it goes through as it is.

    Raises:
        ConfigurationError: ``thinking="auto"`` cannot be sent.
    """
    vendor, body = vendor_of(llm), leaving(prepared)
    if lays_over(vendor, prepared.call.dialect.host.endpoint.protocol):
        return _laid_over(llm, vendor, body, {**passed, **({"model": body["model"]} if respell else {})})
    messages = _messages(prepared, body)
    arguments: dict[str, Any] = {**dict.fromkeys(vendor.always, _not_given(vendor)), **passed}
    fields: dict[str, Any] = {}
    lost: list[str] = []
    for key, value in cast("dict[str, Any]", body).items():
        name = "max_tokens" if key == "max_completion_tokens" else key
        if key in _TRANSPORT:
            continue
        if vendor.arguments is not None and name in vendor.arguments:
            arguments[vendor.arguments[name]] = value
        elif vendor.arguments is None and field_of(llm, name):
            fields[name] = value
        else:
            lost.append(key)
    refuse_auto(prepared, llm, lost, INSTEAD)
    if body.get("tools"):
        lost += _add_tools(llm, body, messages, arguments)
    if lost:
        prepared.report.add(WRAPPER, [not_sent(llm, lost, INSTEAD)])
    return Handover(messages, arguments, fields)


def _laid_over(llm: LLM, vendor: LLMVendor, body: Body, passed: Mapping[str, Any]) -> Handover:
    assert vendor.body is not None
    whole = {key: value for key, value in body.items() if key not in ("model", "stream")}
    arguments = {**dict.fromkeys(vendor.always, _not_given(vendor)), **passed, vendor.body: whole}
    if "model" in passed and vendor.routes:
        route, slash, _ = str(getattr(llm, "model", "")).partition("/")
        arguments["model"] = f"{route}/{passed['model']}" if slash else passed["model"]
    # What is sent stands in the body; these are for whoever watches the inner LLM's events.
    return Handover([_as_text(message) for message in messages_of(body)], arguments, {})


def _not_given(vendor: LLMVendor) -> Any:
    if vendor.unset is None:
        return None
    from importlib import import_module

    return import_module(vendor.unset).NOT_GIVEN


def _add_tools(llm: LLM, body: Body, messages: list[ChatMessage], arguments: dict[str, Any]) -> list[str]:
    """Let the inner LLM put the tools into its own form; return the fields that it does not take."""
    choice = body.get("tool_choice")
    lost = [] if choice in (None, "auto", "required") else ["tool_choice"]
    if not isinstance(llm, FunctionCallingLLM):
        return ["tools", *lost]
    tools = [tool for tool in body["tools"] if tool.get("type") == "function"]
    if len(tools) < len(body["tools"]):
        lost.append("builtin tools")
    prepared = llm._prepare_chat_with_tools_compat(
        [_Declared(tool) for tool in tools],
        chat_history=messages,
        allow_parallel_tool_calls=body.get("parallel_tool_calls") is not False,
        tool_required=choice == "required",
    )
    messages[:] = prepared.pop("messages", messages)
    arguments.update(prepared)
    return lost


class _Declared(BaseTool):
    """A tool that is only told of: the app runs its own."""

    def __init__(self, tool: Tool) -> None:
        self._metadata = _Metadata(tool)

    @property
    def metadata(self) -> ToolMetadata:
        return self._metadata

    def __call__(self, input: Any) -> ToolOutput:
        raise NotImplementedError


class _Metadata(ToolMetadata):
    def __init__(self, tool: Tool) -> None:
        function = tool["function"]
        super().__init__(description=function.get("description", ""), name=function["name"], fn_schema=None)
        self._parameters = function.get("parameters") or {"type": "object", "properties": {}}

    def get_parameters_dict(self) -> dict[str, Any]:
        return self._parameters


# -- messages out ----------------------------------------------------------------------------------------


def _messages(prepared: Prepared, body: Body) -> list[ChatMessage]:
    """Return the user's own message where no practice touched it, else one in LlamaIndex's form.

    What the host signed stands in our own messages where no other class looks for it.
    """
    own = {id(wire): origin for wire, origin in prepared.call.origins if not wire.get("reasoning_details")}
    return [own.get(id(wire)) or decode(wire) for wire in messages_of(body)]


def decode(message: Message) -> ChatMessage:
    """Return a wire message as LlamaIndex's."""
    content = message.get("content") or []
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    blocks: list[ContentBlock] = [*_thoughts(message), *(_block(part) for part in parts)]
    blocks += [call_block(made) for made in message.get("tool_calls") or ()]
    kwargs = {key: value for key, value in message.items() if key in _BESIDE}
    return ChatMessage(role=MessageRole(message["role"]), blocks=blocks, additional_kwargs=kwargs)


def _as_text(message: Message) -> ChatMessage:
    """Return a message of nothing but text and fields: no class stumbles over it."""
    content = message.get("content")
    media = [f"<{part['type']}>" for part in content if part.get("type") != "text"] if isinstance(content, list) else []
    kwargs = {key: value for key, value in message.items() if key in (*_BESIDE, *REASONING_KEYS, CALLS)}
    text = " ".join([text_of(content), *media])
    return ChatMessage(role=MessageRole(message["role"]), content=text, additional_kwargs=kwargs)


_BESIDE = frozenset({"tool_call_id", "name", "partial"})


def _thoughts(message: Message) -> list[ContentBlock]:
    """Return reasoning as blocks: those that the host sent, with their signature, else one with the text."""
    signed = [one for one in message.get("reasoning_details") or () if isinstance(one, dict) and "signature" in one]
    if signed:
        return [
            ThinkingBlock(
                content=one.get("thinking") or "",
                additional_information={key: value for key, value in one.items() if key != "thinking"},
            )
            for one in signed
        ]
    fields = cast("dict[str, Any]", message)
    text = next((fields[key] for key in REASONING_KEYS if fields.get(key)), "")
    return [ThinkingBlock(content=text)] if text else []


def _block(part: Mapping[str, Any]) -> ContentBlock:
    if part["type"] == "image_url":
        return ImageBlock(url=part["image_url"]["url"], detail=part["image_url"].get("detail"))
    if part["type"] == "video_url":
        return VideoBlock(url=part["video_url"]["url"])
    return TextBlock(text=part.get("text") or "")


# -- replies in ------------------------------------------------------------------------------------------


class Reader:
    """Puts the replies of an inner LLM into the form that hosts send, so that they are healed like any other.

    Where ``raw`` is the host's own chunk it is read, not the message: LLMs lose parts of it on the way.

    Args:
        prepared: the request.
        drops_first: the LLM may have kept back the first piece.
    """

    def __init__(self, prepared: Prepared, *, drops_first: bool = False) -> None:
        dialect = prepared.call.dialect
        self._keys, self._thinks, self._model = dialect.reasoning_in, dialect.thinking, dialect.model_id
        self._drops_first = drops_first
        self._last: ChatResponse | None = None
        self._begun = self._reasoned = self._cut = False

    def piece(self, response: ChatResponse) -> Chunk:
        """Return one piece of a stream."""
        raw = _plain(response.raw)
        if isinstance(raw.get("choices"), list):
            self._note(raw["choices"])
            return raw
        self._last = response
        delta: dict[str, Any] = {"content": response.delta} if response.delta else {}
        thought = _thought(response)
        if thought:
            delta[self._keys[0]] = thought
            self._reasoned = True
        return {**self._head(raw), "choices": [{"index": 0, "delta": delta}]}

    def rest(self) -> Iterator[Chunk]:
        """Yield what a stream told by its last message only: calls, signatures, usage."""
        if self._last is None:
            return
        whole = self.whole(self._last)
        [choice] = whole["choices"]
        message = choice.pop("message")
        choice["delta"] = {key: message[key] for key in ("tool_calls", "reasoning_details") if key in message}
        yield whole

    def whole(self, response: ChatResponse) -> Chunk:
        """Return a reply that came as a whole."""
        raw = _plain(response.raw)
        if isinstance(raw.get("choices"), list):
            self._note(raw["choices"])
            return raw
        message = response.message
        said: dict[str, Any] = {"content": "".join(b.text for b in message.blocks if isinstance(b, TextBlock))}
        thoughts = [block for block in message.blocks if isinstance(block, ThinkingBlock)]
        if thoughts:
            said[self._keys[0]] = "".join(block.content or "" for block in thoughts)
            self._reasoned = True
        signed = [
            {"type": "thinking", **block.additional_information, "thinking": block.content or ""}
            for block in thoughts
            if block.additional_information.get("signature")
        ]
        if signed:
            said["reasoning_details"] = signed
        calls = wire_calls(message)
        if calls:
            said["tool_calls"] = calls
        reason = raw.get("stop_reason") or message.additional_kwargs.get("stop_reason") or raw.get("finish_reason")
        finish = FINISH_REASONS.get(reason, reason) if isinstance(reason, str) else "tool_calls" if calls else "stop"
        choice = {"index": 0, "message": said, "finish_reason": finish}
        return {**self._head(raw), "choices": [choice], **_usage(response, raw)}

    def lost(self, llm: LLM) -> list[Change]:
        """Return what the reply should have held and did not."""
        if not self._thinks:
            return []
        if not self._reasoned:
            return [no_reasoning(llm, INSTEAD)]
        if self._cut:
            words = f"{type(llm).__name__} may have dropped the first piece of reasoning in this async stream"
            return [Change("advise", f"{words}. {INSTEAD} keeps it.")]
        return []

    def _note(self, choices: list[Any]) -> None:
        for choice in choices:
            said = choice.get("delta") or choice.get("message") or {}
            self._reasoned = self._reasoned or any(isinstance(said.get(key), str) for key in self._keys)
            if self._drops_first and not self._begun and "role" not in said:
                self._cut = True  # the first piece of a stream names the role
            self._begun = True

    def _head(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        head = {"id": raw.get("id"), "model": raw.get("model") or self._model}
        return {key: value for key, value in head.items() if isinstance(value, str)}


def _plain(raw: Any) -> dict[str, Any]:
    if isinstance(raw, BaseModel):
        return raw.model_dump(exclude_none=True)
    return dict(raw) if isinstance(raw, Mapping) else {}


def _thought(response: ChatResponse) -> str:
    kwargs = (response.additional_kwargs, response.message.additional_kwargs)
    return next((one["thinking_delta"] for one in kwargs if isinstance(one.get("thinking_delta"), str)), "")


def _usage(response: ChatResponse, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return usage in the OpenAI form, from where LLMs put it."""
    for place in (raw.get("usage"), response.message.additional_kwargs.get("usage"), response.additional_kwargs):
        found = _plain(place)
        if isinstance(found.get("prompt_tokens"), int):
            return {"usage": {key: value for key, value in found.items() if key in _COUNTED}}
        if isinstance(found.get("input_tokens"), int):  # Anthropic counts what its cache holds apart
            cached = found.get("cache_read_input_tokens") or 0
            prompt = found["input_tokens"] + cached + (found.get("cache_creation_input_tokens") or 0)
            block = {"prompt_tokens": prompt, "completion_tokens": found.get("output_tokens") or 0}
            details = {"prompt_tokens_details": {"cached_tokens": cached}} if cached else {}
            return {"usage": {**block, "total_tokens": sum(block.values()), **details}}
    return {}


_COUNTED = frozenset(
    {
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "cached_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
    }
)
