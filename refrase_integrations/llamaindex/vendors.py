"""What is known of other packages' LLMs: which model they are, where they send it, what they let through.

Read from the packages' own source; ``make peers`` tries them. A class that is not listed is read by the usual attribute
names, and set through its own fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import LLM

from refrase_integrations.kimi.vendors import LITELLM_ROUTES, SETTINGS, Vendor

_SETTINGS = {name: attributes for name, attributes in SETTINGS.items() if name != "n"}  # a chat has one reply
_BODY: Mapping[str, tuple[str, ...]] = {
    name: (name,)
    for name in ("reasoning_effort", "logprobs", "top_logprobs", "logit_bias", "extra_body", "user", "prompt_cache_key")
}


@dataclass(frozen=True, kw_only=True)
class LLMVendor(Vendor):
    """How one package's LLM is read and spoken to."""

    body: str | None = None
    """Call argument that is laid over the request's JSON as it is, where the host speaks the OpenAI protocol: messages,
    tools and every field go in it, and replies are read from the host's own chunks in ``raw``."""
    arguments: Mapping[str, str] | None = None
    """Fields of the body that it takes as call arguments, and what it calls them; None: set through its fields."""
    unset: str | None = None
    """Module whose ``NOT_GIVEN`` keeps an argument out of the request; None: the argument None does."""
    always: tuple[str, ...] = ()
    """Arguments that it sends from its own fields where the call gives none."""
    fills: Mapping[str, Any] = field(default_factory=dict)
    """Values that it gives itself where the user set none."""
    drops_first: bool = False
    """Its async stream drops a first piece that holds neither content nor tool calls, but reasoning perhaps."""
    keys: tuple[str, ...] = ()
    """Arguments of its constructor that take the key and are no fields."""


_OPENAI = LLMVendor(
    model=("model",),
    address=("_client.base_url", "api_base"),
    elsewhere="https://api.openai.com",
    body="extra_body",
    unset="openai",
    always=("temperature",),
    drops_first=True,
)
_VENDORS: Mapping[str, LLMVendor] = {
    # The openai SDK lays extra_body over the request's JSON, messages included. OpenAILike and what is built on it too.
    "llama_index.llms.openai.OpenAI": _OPENAI,
    "llama_index.llms.openrouter.OpenRouter": replace(_OPENAI, fills={"max_tokens": 256}),
    "llama_index.llms.litellm.LiteLLM": LLMVendor(
        model=("model",),
        address=("additional_kwargs.api_base",),
        routes=LITELLM_ROUTES,
        body="extra_body",
        always=("temperature", "max_tokens"),
        keys=("api_key",),
    ),
    "llama_index.llms.anthropic.Anthropic": LLMVendor(
        model=("model",),
        address=("base_url", "_client.base_url"),
        elsewhere="https://api.anthropic.com",
        arguments={
            "temperature": "temperature",
            "top_p": "top_p",
            "max_tokens": "max_tokens",
            "stop": "stop_sequences",
        },
        unset="anthropic",
        always=("temperature",),
        fills={"max_tokens": 512},
        keys=("api_key",),
    ),
    "llama_index.core.llms.MockLLM": LLMVendor(model=(), arguments={}),
    "llama_index.core.llms.MockFunctionCallingLLM": LLMVendor(model=(), arguments={}),
}
_UNKNOWN = LLMVendor(model=("model_name", "model", "model_id", "metadata.model_name"))


def vendor_of(llm: LLM) -> LLMVendor:
    """Return what is known of an LLM's class, or of the nearest class above it."""
    for kind in type(llm).__mro__:
        package = ".".join(kind.__module__.split(".")[:3])
        known = _VENDORS.get(f"{package}.{kind.__name__}")
        if known is not None:
            return known
    return _UNKNOWN


def settings_of(llm: LLM) -> dict[str, Any]:
    """Return what the user set on an LLM, under our names. A value that is the class's default was not set."""
    vendor = vendor_of(llm)
    settings: dict[str, Any] = {}
    for name, attributes in {**_SETTINGS, **_BODY}.items():
        for attribute in attributes:
            known = type(llm).model_fields.get(attribute)
            value = getattr(llm, attribute, None) if known is not None else None
            if known is not None and value not in (None, known.default, vendor.fills.get(attribute, known.default)):
                settings[name] = value
                break
    if vendor.body:
        settings.update({name: value for name, value in _kwargs_of(llm).items() if name in _SETTINGS or name in _BODY})
    return settings


def sender_of(llm: LLM, fields: Mapping[str, Any], metadata: LLMMetadata, callbacks: CallbackManager) -> LLM:
    """Return an LLM that adds nothing of its own to what a call hands it: a copy, where it would not do so as it is.

    Args:
        llm: the LLM. It is not changed; a copy shares its sync clients, and async ones that the user built.
        fields: settings under our names, for a class that takes them through its fields.
        metadata: what it really is: classes that do not know Kimi say otherwise, or raise.
        callbacks: what it reports to.
    """
    vendor = vendor_of(llm)
    update: dict[str, Any] = {} if llm.callback_manager is callbacks else {"callback_manager": callbacks}
    if vendor.body:
        known = {name for names in (_SETTINGS, _BODY) for attributes in names.values() for name in attributes}
        update |= {name: None for name in known & type(llm).model_fields.keys() if name not in vendor.always}
        update["additional_kwargs"] = {name: value for name, value in _kwargs_of(llm).items() if name not in known}
    elif vendor.arguments is None:
        update |= {attribute: value for name, value in fields.items() if (attribute := field_of(llm, name))}
    mistaken = vendor.body is not None or not _describes_itself(llm)
    if not update and not mistaken:
        return llm
    copied = llm.model_copy(update=update)
    _part_from_loop(copied)
    if mistaken:  # OpenAILike takes Kimi for no chat model, OpenAI and Anthropic raise
        copied.__class__ = type(type(llm).__name__, (type(llm),), {"metadata": property(lambda _self: metadata)})
    return copied


def _part_from_loop(llm: LLM) -> None:
    """Give a copied LLM async clients of its own: one that was used holds connections of another event loop.

    Of SDKs that are made as openai's is. A client over an HTTP client of the user's own stays: his to know its loop.
    """
    private: dict[str, Any] = llm.__pydantic_private__ or {}
    for name, client in private.items():
        http: Any = getattr(client, "_client", None)
        if type(http).__name__ == "AsyncHttpxClientWrapper" and hasattr(client, "copy"):
            fresh = type(http)(base_url=client.base_url, timeout=client.timeout)
            private[name] = client.copy(http_client=fresh)


def _describes_itself(llm: LLM) -> bool:
    try:
        return llm.metadata is not None
    except Exception:  # noqa: BLE001 - whatever a class raises for a model that is not in its list
        return False


def field_of(llm: LLM, name: str) -> str | None:
    """Return the field that an LLM keeps one of our settings in, or None where it has none."""
    name = "max_tokens" if name == "max_completion_tokens" else name
    return next((one for one in _SETTINGS.get(name, ()) if one in type(llm).model_fields), None)


def _kwargs_of(llm: LLM) -> Mapping[str, Any]:
    return getattr(llm, "additional_kwargs", None) or {}
