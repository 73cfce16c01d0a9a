"""`WrappedChatModel`: another package's chat model with the practices around it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from pydantic import ConfigDict, Field, model_validator

from refrase_integrations.client.budgets import Budget
from refrase_integrations.client.failures import meaning
from refrase_integrations.client.frozen import freeze, masked, opened, thaw, without_secrets
from refrase_integrations.client.limits import Limiter, Limits
from refrase_integrations.client.passage import passage
from refrase_integrations.errors import STRUCTURAL, ConfigurationError
from refrase_integrations.kimi.dialect import Dialect
from refrase_integrations.kimi.fields import CALL_FIELDS
from refrase_integrations.kimi.practice import Prepared
from refrase_integrations.kimi.request import dialect_of, layered
from refrase_integrations.kimi.settings import Practices, Settings, Thinking
from refrase_integrations.kimi.tokens import TokenCounter, counter
from refrase_integrations.kimi.vendors import WRAPPER
from refrase_integrations.kimi.wire import Chunk
from refrase_integrations.langchain.base import PracticedChatModel
from refrase_integrations.langchain.chat import model_profile
from refrase_integrations.langchain.handover import Handover, hand_over
from refrase_integrations.langchain.replies import Reader
from refrase_integrations.langchain.vendors import host_of, model_name_of, settings_of, url_of


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
    practices: Settings = None
    """How each practice applies."""
    thinking: Thinking = None
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
_OF_CLIENTS = {"timeout", "deadline", "stall_timeout"}  # the inner model's own business
_OURS = (CALL_FIELDS | {"n", "stream", "ls_structured_output_format"}) - _OF_CLIENTS


def _streams(model: BaseChatModel, *methods: str) -> bool:
    return any(getattr(type(model), method) is not getattr(BaseChatModel, method) for method in methods)
