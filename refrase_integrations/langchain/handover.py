"""A prepared request, handed over to another package's chat model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages import ToolCall as LangChainToolCall
from langchain_core.runnables.base import RunnableBindingBase

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.messages import REASONING_KEYS
from refrase_integrations.kimi.practice import Prepared, messages_of
from refrase_integrations.kimi.prepare import leaving
from refrase_integrations.kimi.vendors import WRAPPER, not_sent, refuse_auto
from refrase_integrations.kimi.wire import Body, Message
from refrase_integrations.langchain.vendors import ChatVendor, Form, vendor_of, without_settings

_FROM_HOST = "_reasoning_api_fields"
"""Key by which ChatNVIDIA's own messages name the reasoning fields that the host sent: it sends only those back."""
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

    Raises:
        ConfigurationError: the tools cannot be sent, or ``thinking="auto"`` cannot.
    """
    vendor, body = vendor_of(model), leaving(prepared)
    origins = _Origins(prepared)
    messages = [origins.message(message, vendor) for message in messages_of(body)]
    asked = _asked(prepared, vendor, respell)
    if vendor.body is not None and prepared.call.dialect.host.endpoint.protocol == "openai":
        whole = {key: value for key, value in body.items() if key not in ("model", "stream")}
        return Handover(without_settings(model, {}), messages, None, {**passed, **asked, vendor.body: whole})
    arguments, lost = _arguments(body, vendor)
    refuse_auto(prepared, model, lost, "ChatKimi")
    stop = body.get("stop")
    inner = without_settings(model, {**arguments, "stop": stop})
    if body.get("tools"):
        inner, bound = _bound(inner, body, vendor, arguments)
        arguments |= bound
        choice = body.get("tool_choice")
        if isinstance(choice, str) and choice not in ("auto", *vendor.choices):
            lost.append("tool_choice")
    if lost:
        prepared.report.add(WRAPPER, [not_sent(model, lost, "ChatKimi")])
    return Handover(inner, messages, [stop] if isinstance(stop, str) else stop, {**passed, **asked, **arguments})


def _asked(prepared: Prepared, vendor: ChatVendor, respell: bool | None) -> dict[str, Any]:
    if vendor.routes:  # the first part of the name is not the model's
        return {"model": prepared.call.body["model"]} if respell else {}
    return {"model": prepared.body["model"]} if respell or (respell is None and vendor.body is not None) else {}


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
    given: dict[str, Any] = {}
    if "parallel_tool_calls" in arguments:
        given["parallel_tool_calls"] = arguments.pop("parallel_tool_calls")
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        given["tool_choice"] = (choice.get("function") or {}).get("name") or choice
    elif isinstance(choice, str) and choice in vendor.choices:  # auto is what no choice means
        given["tool_choice"] = vendor.choices[choice]
    binding: Any = model.bind_tools(cast("list[dict[str, Any]]", body["tools"]), **given)
    bound: dict[str, Any] = {}
    while isinstance(binding, RunnableBindingBase):
        bound = {**binding.kwargs, **bound}
        binding = binding.bound
    if not isinstance(binding, BaseChatModel):
        raise ConfigurationError(f"bind_tools of {type(model).__name__} gives no chat model: its tools cannot be sent")
    return binding, {key: value for key, value in bound.items() if value is not None}


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
        if own is not None and _is_in_form(own, wire, vendor.form):
            return own
        made = decode(wire, vendor.form)
        result = self._results.get(wire.get("tool_call_id") or "")
        if result is None:
            return made
        return result.model_copy(update={"content": made.content, "name": made.name})  # status and artifact stay


def _is_in_form(own: BaseMessage, wire: Message, form: Form) -> bool:
    """Tell whether the vendor's class finds in the user's message all that the wire message holds."""
    if form == "blocks":
        return not _reasoning_of(wire) or isinstance(own.content, list)
    if form == "kwargs":
        needed = {"tool_calls": wire.get("tool_calls"), _FROM_HOST: _reasoning_of(wire)}
        return all(key in own.additional_kwargs for key, value in needed.items() if value)
    return True


def decode(message: Message, form: Form = "fields") -> BaseMessage:
    """Return a wire message as LangChain's.

    Args:
        message: from a prepared request.
        form: where reasoning and tool calls go.
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
    if form == "blocks":
        content = [*_blocks(message), *([{"type": "text", "text": content}] if isinstance(content, str) else content)]
        content = [block for block in content if block.get("text") != ""]
    else:
        kwargs = {key: fields[key] for key in (*REASONING_KEYS, "reasoning_details") if key in fields}
    if form == "kwargs":
        kwargs[_FROM_HOST] = [key for key in REASONING_KEYS if key in fields]
        if message.get("tool_calls"):
            kwargs["tool_calls"] = message["tool_calls"]
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
