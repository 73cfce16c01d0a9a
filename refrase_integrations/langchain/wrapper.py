"""`with_kimi_practices`: the practices around any chat model that talks to Kimi."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, overload

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableBinding, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase

from refrase_integrations.client.budgets import Budget
from refrase_integrations.client.limits import Limiter, Limits
from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.catalogue import knows_model
from refrase_integrations.kimi.settings import Practices, Settings, Thinking
from refrase_integrations.langchain.base import PracticedChatModel
from refrase_integrations.langchain.chat import ChatKimi
from refrase_integrations.langchain.vendors import host_of, model_name_of
from refrase_integrations.langchain.wrapped import WrappedChatModel

_log = logging.getLogger("refrase_integrations")


@overload
def with_kimi_practices(
    model: BaseChatModel,
    model_name: str | None = None,
    host: str | None = None,
    practices: Settings = None,
    *,
    thinking: Thinking = None,
    budget: Budget | None = None,
    limits: Limits | Limiter | None = None,
) -> PracticedChatModel: ...


@overload
def with_kimi_practices(
    model: Runnable[Any, Any],
    model_name: str | None = None,
    host: str | None = None,
    practices: Settings = None,
    *,
    thinking: Thinking = None,
    budget: Budget | None = None,
    limits: Limits | Limiter | None = None,
) -> Any: ...


def with_kimi_practices(
    model: BaseChatModel | Runnable[Any, Any],
    model_name: str | None = None,
    host: str | None = None,
    practices: Settings = None,
    *,
    thinking: Thinking = None,
    budget: Budget | None = None,
    limits: Limits | Limiter | None = None,
) -> Any:
    """Return a chat model that sends through ``model``, by Kimi K2's documented practices.

    ```python
    from langchain_openai import ChatOpenAI
    from refrase_integrations.langchain import with_kimi_practices

    model = with_kimi_practices(ChatOpenAI(model="kimi-k2.6", base_url="https://api.moonshot.ai/v1", api_key="sk-..."))
    ```

    The result is a chat model like any other: tools, structured output, streaming, async, batches, callbacks, cache
    and rate limiter work as they do on ``model``, whose retries and errors stay its own.

    What ``model`` drops cannot be kept: ChatOpenAI and ChatTogether hand out no reasoning, so a single space goes back
    in its place. The log says so once, and the report of each reply. ChatAnthropic, ChatDeepSeek, ChatFireworks,
    ChatLiteLLM, ChatNVIDIA, ChatOpenRouter and `ChatKimi` keep it. Clients stay ``model``'s too: a ChatOpenAI that was
    awaited in one event loop may fail in the next, wrapped or not; `ChatKimi` does not.

    A pickle and a dump carry no key and no header that authenticates. Out of a pickle ``model`` is built anew, with the
    key in its host's own variable (``MOONSHOT_API_KEY``, not ``OPENAI_API_KEY``); where a secret cannot be taken out,
    pickling is a `ConfigurationError` that names the field.

    Args:
        model: any chat model. Also a binding of one (``bind``, ``bind_tools``), whose arguments are taken over; and one
            with fallbacks or retries, of which every chat model is wrapped (a fallback of another vendor stays as
            it is). `ChatKimi` already has the practices: only their settings are laid over its own; model, host and
            thinking are set on itself.
        model_name: which Kimi it is, in any host's spelling, where ``model`` does not tell or has a name of its own for
            it. What is sent stays the model's own name.
        host: id of the host (``refrase-kimi hosts``), where the model's address or class does not tell.
        practices: `Practices`, a dict such as ``{"system_prompt": "off"}``, or "off".
        thinking: of every call, as in `ChatKimi`: True, False or "auto"; a call may say otherwise. It is switched where
            ``model`` sends the host's switch: ChatOpenAI, what is built on it, ChatFireworks, ChatGroq, ChatLiteLLM and
            ChatNVIDIA do. Through others True and False are only reported, and "auto" is an error before the request.
        budget: what may be spent. What ``model`` itself tries again is counted once.
        limits: what the account may do, shared by all wrapped models of the host with equal limits.

    Returns:
        A chat model; for a model with fallbacks or retries, the same kind of runnable.

    Raises:
        ConfigurationError: ``model`` is no chat model, or neither it nor the arguments tell model and host.
    """
    settings = {"budget": budget, "limits": limits, "thinking": thinking}
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    if isinstance(model, ChatKimi):
        model._confirm(model_name, host, thinking)
        return _merged(model, practices, given)
    if isinstance(model, WrappedChatModel):
        known = {name: value for name, value in (("model_name", model_name), ("host", host)) if value is not None}
        return _merged(model, practices, {**known, **given})
    if isinstance(model, BaseChatModel):
        return WrappedChatModel(inner=model, model_name=model_name or "", host=host, practices=practices, **given)
    if isinstance(model, RunnableWithFallbacks):
        first = _one_of_several(model.runnable, model_name, host, practices, given)
        others = [_fallback(other, model_name, host, practices, given) for other in model.fallbacks]
        return model.model_copy(update={"runnable": first, "fallbacks": others})
    if isinstance(model, RunnableBindingBase):
        wrapped = with_kimi_practices(model.bound, model_name, host, practices, **given)
        return _rebound(model, wrapped)
    raise ConfigurationError(
        f"with_kimi_practices takes a chat model, not {type(model).__name__}. Wrap the model first and build on the "
        "result: with_kimi_practices(model).with_structured_output(...), with_kimi_practices(model) | parser."
    )


def _merged(model: Any, practices: Settings, changes: Mapping[str, Any]) -> Any:
    """Lay settings over a model's own; the same model where that changes nothing."""
    merged = Practices.merged(practices, model.practices)
    if merged != Practices.of(model.practices):
        changes = {**changes, "practices": merged}
    return _remade(model, **changes) if changes else model


def _remade(model: Any, **changes: Any) -> Any:
    # Not model_copy: it would keep what was worked out from the old values (profile, cache key).
    own = {name: getattr(model, name) for name in model.model_fields_set if name != "profile"}
    return type(model)(**{**own, **changes})


def _fallback(
    model: Runnable[Any, Any], model_name: str | None, host: str | None, practices: Settings, given: Mapping[str, Any]
) -> Any:
    core = _core(model)
    if isinstance(core, BaseChatModel) and not isinstance(core, PracticedChatModel):
        own = model_name_of(core)
        if own is not None and not knows_model(own):
            _log.info("fallback %s (%s) is no known Kimi model: it stays as it is", type(core).__name__, own)
            return model
        model_name, host = (None if own else model_name), (None if _tells_host(core) else host)
    return _one_of_several(model, model_name, host, practices, given)


def _one_of_several(
    model: Runnable[Any, Any], model_name: str | None, host: str | None, practices: Settings, given: Mapping[str, Any]
) -> Any:
    if isinstance(_core(model), PracticedChatModel):  # it has told already: the arguments are meant for others
        shared = {name: value for name, value in given.items() if name != "thinking"}
        return with_kimi_practices(model, practices=practices, **shared)
    return with_kimi_practices(model, model_name, host, practices, **given)


def _core(model: Any) -> Any:
    while isinstance(model, RunnableBindingBase):
        model = model.bound
    return model


def _tells_host(model: BaseChatModel) -> bool:
    try:
        host_of(model)
    except ConfigurationError:
        return False
    return True


def _rebound(binding: RunnableBindingBase[Any, Any], wrapped: Any) -> Any:
    """Take a binding's arguments into the wrapped model, or an agent would lose them; what else it carries stays."""
    carried = {key: value for key, value in (binding.config or {}).items() if value}
    plain = isinstance(binding, RunnableBinding) and not carried and not binding.config_factories
    if not isinstance(wrapped, WrappedChatModel):
        return binding.model_copy(update={"bound": wrapped})
    own = _remade(wrapped, arguments={**wrapped.arguments, **binding.kwargs})
    return own if plain else binding.model_copy(update={"bound": own, "kwargs": {}})
