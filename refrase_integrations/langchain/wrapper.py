"""`with_kimi_practices`: the practices around any chat model that talks to Kimi."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, cast, overload

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.runnables import Runnable, RunnableBinding, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from pydantic import ConfigDict, Field, model_validator

from refrase_integrations.client.budgets import Budget
from refrase_integrations.client.failures import meaning
from refrase_integrations.client.frozen import freeze, masked, opened, thaw, without_secrets
from refrase_integrations.client.limits import Limiter, Limits
from refrase_integrations.client.passage import passage
from refrase_integrations.errors import STRUCTURAL, ConfigurationError
from refrase_integrations.kimi.catalogue import knows_model
from refrase_integrations.kimi.dialect import Dialect
from refrase_integrations.kimi.fields import CALL_FIELDS
from refrase_integrations.kimi.practice import Prepared
from refrase_integrations.kimi.request import dialect_of, layered
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.tokens import TokenCounter, counter
from refrase_integrations.kimi.vendors import WRAPPER
from refrase_integrations.kimi.wire import Chunk
from refrase_integrations.langchain.base import PracticedChatModel
from refrase_integrations.langchain.chat import ChatKimi, model_profile
from refrase_integrations.langchain.handover import Handover, hand_over
from refrase_integrations.langchain.replies import Reader
from refrase_integrations.langchain.vendors import host_of, model_name_of, settings_of, url_of

_log = logging.getLogger("refrase_integrations")
Settings = Practices | dict[str, Any] | Literal["off"] | None
Thinking = bool | Literal["auto"] | None


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

    What ``model`` drops cannot be kept: ChatOpenAI and ChatTogether hand out no reasoning, so that a single space goes
    back in its place. The log says so once, and the report of each reply. ChatAnthropic, ChatDeepSeek, ChatFireworks,
    ChatLiteLLM, ChatNVIDIA and ChatOpenRouter keep it, and so does `ChatKimi`.

    A pickle and a dump of it carry no key and no header that authenticates. Pickled, ``model`` is built anew from its
    fields, with the key that its host's own variable holds (``MOONSHOT_API_KEY``, not ``OPENAI_API_KEY``); where that
    cannot be done without a secret, pickling is a `ConfigurationError` that names the field.

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
    given: dict[str, Any] = {"budget": budget, "limits": limits, "thinking": thinking}
    given = {name: value for name, value in given.items() if value is not None}
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


class WrappedChatModel(PracticedChatModel):
    """What `with_kimi_practices` returns. See there."""

    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True, protected_namespaces=()
    )

    inner: BaseChatModel = Field(repr=False, exclude=True)
    """The model that sends. Only a dump of LangChain's shows it, without its keys."""
    model_name: str = ""
    """Which Kimi it is, in any host's spelling; empty: as the inner model says."""
    host: str | None = None
    """Id of the host; None: read from the inner model."""
    practices: Practices | dict[str, Any] | Literal["off"] | None = None
    """How each practice applies."""
    thinking: bool | Literal["auto"] | None = None
    """Of every call; None: as the model has it."""
    arguments: dict[str, Any] = Field(default_factory=dict, repr=False, exclude=True)
    """Arguments of every call, under those of the call itself."""
    streaming: bool | None = None
    """As the inner model has it."""
    budget: Budget | None = Field(default=None, repr=False, exclude=True)
    """What may be spent. Never serialized."""
    limits: Limits | Limiter | None = Field(default=None, repr=False, exclude=True)
    """What the account may do. Never serialized."""

    @model_validator(mode="before")
    @classmethod
    def _take_over(cls, values: Any) -> Any:
        """Take over what LangChain does around a call: the inner model is called below all of it."""
        inner = values.get("inner") if isinstance(values, Mapping) else None
        if not isinstance(inner, BaseChatModel):
            return values
        if not values.get("model_name"):
            name = model_name_of(inner)
            if name is None:
                raise ConfigurationError(
                    f"{type(inner).__name__} does not tell its model: say which Kimi it is with "
                    "with_kimi_practices(model, model_name='kimi-k2.6')"
                )
            values = {**values, "model_name": name}
        taken = {name: getattr(inner, name, None) for name in _TAKEN_OVER if name in inner.model_fields_set}
        return {**{name: value for name, value in taken.items() if value is not None}, **values}

    @model_validator(mode="after")
    def _check(self) -> WrappedChatModel:
        Practices.of(self.practices)
        self._dialect(self._settings(None, {}))  # model and host not told: better said here than by the first call
        return self

    # -- identity ----------------------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "kimi-practices"

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        yield "inner", type(self.inner).__name__
        yield "model", self.model_name
        if self.host is not None:
            yield "host", self.host
        if self.practices is not None:
            yield "practices", Practices.of(self.practices).model_dump(exclude_unset=True)

    @property
    def model(self) -> str:
        """The model's name, under the attribute that other chat models use."""
        return self.model_name

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "inner": {"_type": self.inner._llm_type, **without_secrets(self.inner._identifying_params)},
            "model_name": self.model_name,
            "host": self.host,
            "practices": Practices.of(self.practices).model_dump(exclude_unset=True),
            "thinking": self.thinking,
            "arguments": without_secrets(self.arguments),
        }

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It is, as far as the inner model is."""
        return True

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """What a dump holds beside the plain fields. Practices as a dict: as an object they would be left out of
        serialized forms and cache keys. The inner model without what only a request may carry."""
        given = self.practices
        plain = {"practices": given.model_dump(exclude_unset=True)} if isinstance(given, Practices) else {}
        shown = {"inner": self._shown(), "arguments": without_secrets(self.arguments)}
        return {**plain, **{name: value for name, value in shown.items() if value}}

    def _shown(self) -> BaseChatModel:
        """Return the inner model for whoever dumps it: LangChain knows its keys, but not its headers, and shows the
        fields of a class that cannot be serialized."""
        inner = self.inner
        return masked(inner, inner.lc_secrets if inner.is_lc_serializable() else ())

    def __getstate__(self) -> dict[Any, Any]:
        state, kind = super().__getstate__(), type(self)
        fields = {name: value for name, value in state["__dict__"].items() if name in kind.model_fields}
        inner = freeze(fields.pop("inner"), host_of(self.inner, self.host), url_of(self.inner))
        return {**state, "__dict__": {**opened(fields, kind), "inner": inner}}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        fields = state["__dict__"]
        super().__setstate__({**state, "__dict__": {**fields, "inner": thaw(fields["inner"], url_of)}})

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> WrappedChatModel:
        # The inner model is never changed, and its clients cannot be copied.
        return super().__deepcopy__({**(memo or {}), id(self.inner): self.inner})

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        # The key of the cache. A dump of this model does not tell apart inner models that cannot be dumped.
        return f"{super()._get_llm_string(stop, **kwargs)}---{self._shown()._get_llm_string()}"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        told = {name: value for name, value in {**self.arguments, **kwargs}.items() if name in _TRACED}
        own = LangSmithParams(ls_model_name=told.get("model") or self.model_name)
        return cast(LangSmithParams, {**own, **self.inner._get_ls_params(stop=stop, **told)})

    def _resolve_model_profile(self) -> ModelProfile:
        dialect, _ = self._dialect(self._settings(None, {}))
        return cast(ModelProfile, {**(self.inner.profile or {}), **model_profile(dialect)})

    # -- one call ----------------------------------------------------------------------------------------

    def _settings(self, stop: list[str] | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        own = self.arguments
        if kwargs.get("tools") is not None:  # what was chosen among others does not count for these
            own = {name: value for name, value in own.items() if name not in ("tool_choice", "live_tools")}
        given = {**own, **{name: value for name, value in kwargs.items() if value is not None}}
        if stop is not None:
            given["stop"] = stop
        set_here = {"practices": self.practices, "thinking": self.thinking}
        own = {"model": self.model_name, **settings_of(self.inner), **set_here}
        return layered(own, given, takes=frozenset(given), instead="wrap another model")

    def _dialect(self, settings: Mapping[str, Any]) -> tuple[Dialect, bool | None]:
        return dialect_of(settings, host_of(self.inner, self.host))

    def _send(self, prepared: Prepared, settings: Mapping[str, Any]) -> Iterator[Chunk]:
        way = passage(prepared, self.budget, self.limits, lambda: prepared.call.dialect.host.id)
        sending = partial(self._handed, prepared, settings)
        return sending() if way is None else way.through(sending)

    def _asend(self, prepared: Prepared, settings: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        way = passage(prepared, self.budget, self.limits, lambda: prepared.call.dialect.host.id)
        sending = partial(self._ahanded, prepared, settings)
        return sending() if way is None else way.athrough(sending)

    def _handed(self, prepared: Prepared, settings: Mapping[str, Any]) -> Iterator[Chunk]:
        handed, reader = self._handover(prepared, settings), Reader(prepared)
        if prepared.stream and _streams(handed.model, "_stream"):
            for chunk in handed.model._stream(handed.messages, handed.stop, **handed.arguments):
                yield reader.chunk(chunk)
        else:
            yield reader.whole(handed.model._generate(handed.messages, handed.stop, **handed.arguments))
        prepared.report.heal(WRAPPER, reader.lost(self.inner))

    async def _ahanded(self, prepared: Prepared, settings: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        handed, reader = self._handover(prepared, settings), Reader(prepared)
        if prepared.stream and _streams(handed.model, "_stream", "_astream"):
            async for chunk in handed.model._astream(handed.messages, handed.stop, **handed.arguments):
                yield reader.chunk(chunk)
        else:
            yield reader.whole(await handed.model._agenerate(handed.messages, handed.stop, **handed.arguments))
        prepared.report.heal(WRAPPER, reader.lost(self.inner))

    def _handover(self, prepared: Prepared, settings: Mapping[str, Any]) -> Handover:
        passed = {name: value for name, value in settings.items() if name not in _OURS}
        # A name of the user's own for the model (a deployment, an alias on a server) stays as it is.
        own = self.model_name == model_name_of(self.inner)
        respell = True if settings["model"] != self.model_name else None if own else False
        return hand_over(self.inner, prepared, passed, respell=respell)

    def _is_structural(self, error: Exception) -> bool:
        found = meaning(error)
        return found is not None and issubclass(found, STRUCTURAL)

    def _counter(self) -> TokenCounter:
        return counter()


_TAKEN_OVER = (
    "name", "cache", "verbose", "callbacks", "tags", "metadata", "custom_get_token_ids", "rate_limiter",
    "disable_streaming", "output_version", "streaming",
)  # fmt: skip
_TRACED = frozenset({"model", "temperature", "max_tokens"})
_OURS = (CALL_FIELDS | {"n", "stream", "ls_structured_output_format"}) - {
    *("timeout", "deadline", "stall_timeout"),  # what belongs to the inner model's own client
}


def _streams(model: BaseChatModel, *methods: str) -> bool:
    return any(getattr(type(model), method) is not getattr(BaseChatModel, method) for method in methods)
