"""What is known of other packages' chat models: which model they are, where they send it, what they let through.

Read from the packages' own source; ``make peers`` tries them. A class that is not listed is read by the usual attribute
names, and handed LangChain's standard arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel

from refrase_integrations.kimi.catalogue.profile import HostProfile
from refrase_integrations.kimi.vendors import LITELLM_ROUTES, SETTINGS, Vendor

_BODY: Mapping[str, tuple[str, ...]] = {
    name: (name,) for name in ("reasoning_effort", "logprobs", "top_logprobs", "logit_bias", "extra_body")
}
_STANDARD = frozenset({*SETTINGS, *_BODY, "response_format", "parallel_tool_calls", "user"}) - {"extra_body", "stop"}


Form = Literal["fields", "blocks", "kwargs"]
"""fields: tool calls in ``tool_calls``, reasoning in ``additional_kwargs``. blocks: reasoning as content blocks.
kwargs: tool calls in ``additional_kwargs`` too, and reasoning only where it says that the host sent it."""


@dataclass(frozen=True, kw_only=True)
class ChatVendor(Vendor):
    """How one package's chat model is read and spoken to."""

    body: str | None = None
    """Call argument that is laid over the request's JSON as it is, where the host speaks the OpenAI protocol: what the
    class would drop or rewrite goes in it."""
    arguments: frozenset[str] | None = _STANDARD
    """Fields of the body that it takes as call arguments; None: all."""
    choices: Mapping[str, Any] = field(default_factory=lambda: {"required": "any", "none": "none"})
    """How its ``bind_tools`` spells a tool choice; a tool's name is its own spelling, auto the default."""
    form: Form = "fields"
    """Where it reads an earlier reply's reasoning and tool calls from a message."""
    fills: Mapping[str, Any] = field(default_factory=dict)
    """Values that it gives itself where the user set none."""


_VENDORS: Mapping[str, ChatVendor] = {
    # The openai SDK lays extra_body over the request's JSON, messages included.
    "langchain_openai.BaseChatOpenAI": ChatVendor(
        model=("model_name", "deployment_name"),
        address=("root_client.base_url", "root_async_client.base_url", "openai_api_base"),
        elsewhere="https://api.openai.com",
        body="extra_body",
    ),
    # Its SDK is made by the same generator.
    "langchain_groq.ChatGroq": ChatVendor(
        model=("model_name",), address=("groq_api_base",), host="groq", body="extra_body"
    ),
    "langchain_fireworks.ChatFireworks": ChatVendor(
        model=("model_name",), address=("fireworks_api_base",), host="fireworks", body="extra_body"
    ),
    "langchain_openrouter.ChatOpenRouter": ChatVendor(
        model=("model_name",),
        address=("openrouter_api_base",),
        host="openrouter",
        arguments=_STANDARD | {"prompt_cache_key"},  # not reasoning: its SDK drops the switch, enabled
    ),
    "langchain_nvidia_ai_endpoints.ChatNVIDIA": ChatVendor(
        model=("model",), address=("base_url",), host="nvidia", arguments=None, form="kwargs"
    ),
    # Its routes to hosts of the OpenAI protocol lay extra_body over the request's JSON too.
    "langchain_litellm.ChatLiteLLM": ChatVendor(
        address=("api_base",),
        body="extra_body",
        routes=LITELLM_ROUTES,
    ),
    "langchain_aws.ChatBedrockConverse": ChatVendor(
        model=("base_model_id", "model_id"),
        address=("endpoint_url",),
        host="bedrock",
        arguments=frozenset({"temperature", "top_p", "max_tokens", "response_format"}),
        choices={"required": "any"},
    ),
    "langchain_aws.ChatBedrock": ChatVendor(
        model=("base_model_id", "model_id"),
        address=("endpoint_url",),
        host="bedrock",
        arguments=frozenset({"temperature", "top_p", "max_tokens"}),
        choices={"required": "any"},
    ),
    "langchain_anthropic.ChatAnthropic": ChatVendor(
        model=("model",),
        address=("anthropic_api_url",),
        elsewhere="https://api.anthropic.com",
        arguments=frozenset({"temperature", "top_p", "max_tokens", "response_format", "parallel_tool_calls"}),
        choices={"required": "any", "none": {"type": "none"}},
        form="blocks",
        fills={"max_tokens": 4096},
    ),
}
_UNKNOWN = ChatVendor()


def vendor_of(model: BaseChatModel) -> ChatVendor:
    """Return what is known of a chat model's class, or of the nearest class above it."""
    for kind in type(model).__mro__:
        known = _VENDORS.get(f"{kind.__module__.partition('.')[0]}.{kind.__name__}")
        if known is not None:
            return known
    return _UNKNOWN


def model_name_of(model: BaseChatModel) -> str | None:
    """Return the name under which a chat model asks for its model, or None where it does not tell."""
    return vendor_of(model).name_of(model)


def host_of(model: BaseChatModel, host: str | None = None) -> HostProfile:
    """Return the host that a chat model sends to; see `Vendor.host_of`."""
    return vendor_of(model).host_of(model, host)


def url_of(model: BaseChatModel) -> str | None:
    """Return the endpoint that is set on a chat model, or None where none is."""
    return vendor_of(model).url_of(model)


def settings_of(model: BaseChatModel) -> dict[str, Any]:
    """Return what the user set on a chat model, under our names."""
    vendor = vendor_of(model)
    names = {**SETTINGS, **_BODY} if vendor.body else SETTINGS
    settings: dict[str, Any] = {}
    for name, attributes in names.items():
        for attribute in attributes:
            value = getattr(model, attribute, None) if attribute in model.model_fields_set else None
            if value is not None and value != vendor.fills.get(attribute) and (name, value) != ("n", 1):
                settings[name] = value
                break
    if vendor.body:
        settings.update({name: value for name, value in _kwargs_of(model).items() if name in names})
    return settings


def without_settings(model: BaseChatModel, kept: Mapping[str, Any]) -> BaseChatModel:
    """Return a chat model that adds nothing of its own to what a call hands it; the same one where it would not.

    Args:
        model: the chat model. It is not changed.
        kept: fields that the call hands over as arguments: those override the model's own anyway.
    """
    vendor = vendor_of(model)
    names = {**SETTINGS, **_BODY} if vendor.body else SETTINGS
    unset: dict[str, Any] = {}
    for name, attributes in names.items():
        for attribute in attributes:
            if attribute in type(model).model_fields and name not in kept and name != "n":
                unset[attribute] = None
    if vendor.body:
        # What is sent and how it is read is decided here.
        unset.update(streaming=False, stream_usage=False, use_responses_api=False)
        unset["model_kwargs"] = {name: value for name, value in _kwargs_of(model).items() if name not in names}
    changed = {
        name: value
        for name, value in unset.items()
        if name in type(model).model_fields and (getattr(model, name) or None) != (value or None)
    }
    return model.model_copy(update=changed) if changed else model


def _kwargs_of(model: BaseChatModel) -> Mapping[str, Any]:
    return getattr(model, "model_kwargs", None) or {}
