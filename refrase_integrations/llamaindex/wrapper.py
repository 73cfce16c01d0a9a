"""`with_kimi_practices`: the practices around any LLM that talks to Kimi."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self
from weakref import WeakKeyDictionary

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from refrase_integrations.client.budgets import Budget
from refrase_integrations.client.failures import meaning
from refrase_integrations.client.frozen import freeze, opened, thaw
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
from refrase_integrations.llamaindex.base import PracticedFunctionCallingLLM, PracticedLLM
from refrase_integrations.llamaindex.handover import Handover, Reader, hand_over, lays_over
from refrase_integrations.llamaindex.llm import Kimi
from refrase_integrations.llamaindex.vendors import sender_of, settings_of, vendor_of

_Senders = dict[str, tuple[LLM, LLM]]
"""By the fields that are set on it: the inner LLM that it was made of, and what sends."""


def with_kimi_practices(
    llm: LLM,
    model_name: str | None = None,
    host: str | None = None,
    practices: Settings = None,
    *,
    thinking: Thinking = None,
    budget: Budget | None = None,
    limits: Limits | Limiter | None = None,
) -> LLM:
    """Return an LLM that sends through ``llm``, by Kimi K2's documented practices.

    ```python
    from llama_index.llms.openai_like import OpenAILike
    from refrase_integrations.llamaindex import with_kimi_practices

    llm = OpenAILike(model="kimi-k2.6", api_base="https://api.moonshot.ai/v1", api_key="sk-...")
    llm = with_kimi_practices(llm)
    ```

    The result is a `FunctionCallingLLM` where ``llm`` is one, else an `LLM`. Events and callbacks are those of ``llm``,
    one for each call that it makes, and so are retries and errors. What ``llm`` cannot carry stands in the report.

    Neither `to_dict` nor a pickle carries a key. Pickled, ``llm`` is built anew from its fields, with the key that its
    host's own variable holds; where that cannot be done without a secret, pickling is a `ConfigurationError` that names
    the field. A dict never holds ``llm``: ``type(wrapped).from_dict(data, inner=llm)``.

    Args:
        llm: any LLM of LlamaIndex. `Kimi` already has the practices: only their settings are laid over its own, and
            model, host and thinking are set on itself.
        model_name: which Kimi it is, in any host's spelling, where ``llm`` does not tell or has a name of its own for
            it. What is sent stays the LLM's own name.
        host: id of the host (``refrase-kimi hosts``), where the LLM's address or class does not tell.
        practices: `Practices`, a dict such as ``{"system_prompt": "off"}``, or "off".
        thinking: of every call, as in `Kimi`: True, False or "auto"; a call may say otherwise. It is switched where
            ``llm`` sends the host's switch: OpenAI, OpenAILike, OpenRouter and LiteLLM do. Through others True and
            False are only reported, and "auto" is an error before the request.
        budget: what may be spent. What ``llm`` itself tries again is counted once.
        limits: what the account may do, shared by all wrapped LLMs of the host with equal limits.

    Raises:
        ConfigurationError: ``llm`` is no LLM, or neither it nor the arguments tell model and host.
    """
    given: dict[str, Any] = {"budget": budget, "limits": limits, "thinking": thinking}
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(llm, Kimi):
        llm._confirm(model_name, host, thinking)
        return llm.model_copy(update={**_merged(llm, practices), **given})
    if isinstance(llm, WrappedLLM):
        known = {name: value for name, value in (("model_name", model_name), ("host", host)) if value is not None}
        own = {name: getattr(llm, name) for name in llm.model_fields_set}
        return type(llm)(**{**own, **known, **given, **_merged(llm, practices)})
    if not isinstance(llm, LLM):
        raise ConfigurationError(f"with_kimi_practices takes an LLM of LlamaIndex, not {type(llm).__name__}")
    kind = WrappedFunctionCallingLLM if _calls_functions(llm) else WrappedLLM
    return kind(inner=llm, model_name=model_name or "", host=host, practices=practices, **given)


def _merged(llm: Kimi | WrappedLLM, practices: Settings) -> dict[str, Any]:
    """Return the practices as a field to change, laid over an LLM's own; empty where that changes nothing."""
    merged = Practices.merged(practices, llm.practices)
    return {} if merged == Practices.of(llm.practices) else {"practices": merged}


def _calls_functions(llm: LLM) -> bool:
    """Tell whether an LLM carries tools, by its class and by what the user said of it. What a class believes of a model
    it does not know does not count."""
    said = llm.model_fields_set & {"is_function_calling_model"}
    return isinstance(llm, FunctionCallingLLM) and (not said or bool(llm.is_function_calling_model))  # type: ignore[attr-defined]


class WrappedLLM(PracticedLLM):
    """What `with_kimi_practices` returns. See there."""

    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True, protected_namespaces=()
    )

    inner: LLM = Field(repr=False, exclude=True)
    """The LLM that sends. Never serialized: it may hold a key."""
    model_name: str = ""
    """Which Kimi it is, in any host's spelling; empty: as the inner LLM says."""
    host: str | None = None
    """Id of the host; None: read from the inner LLM."""
    practices: Settings = None
    """How each practice applies."""
    thinking: Thinking = None
    """Of every call; None: as the model has it."""
    budget: Budget | None = Field(default=None, repr=False, exclude=True)
    """What may be spent. Never serialized."""
    limits: Limits | Limiter | None = Field(default=None, repr=False, exclude=True)
    """What the account may do. Never serialized."""

    _senders: _Senders = PrivateAttr(default_factory=dict)
    _of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Senders] = PrivateAttr(default_factory=WeakKeyDictionary)

    @model_validator(mode="before")
    @classmethod
    def _take_over(cls, values: Any) -> Any:
        """Take over what LlamaIndex does around a call: the inner LLM is called below all of it."""
        inner = values.get("inner") if isinstance(values, Mapping) else None
        if not isinstance(inner, LLM):
            return values
        if not values.get("model_name"):
            name = vendor_of(inner).name_of(inner)
            if name is None or name == "unknown":
                raise ConfigurationError(
                    f"{type(inner).__name__} does not tell its model: say which Kimi it is with "
                    "with_kimi_practices(llm, model_name='kimi-k2.6')"
                )
            values = {**values, "model_name": name}
        return {**{name: getattr(inner, name) for name in _TAKEN_OVER}, **values}

    @model_validator(mode="after")
    def _check(self) -> WrappedLLM:
        Practices.of(self.practices)
        self._dialect(self._settings({}))  # model and host not told: better said here than by the first call
        return self

    # -- identity ----------------------------------------------------------------------------------------

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex reports the class."""
        return "refrase_kimi_practices"

    @property
    def model(self) -> str:
        """The model's name, under the attribute that other LLMs use."""
        return self.model_name

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        yield "inner", type(self.inner).__name__
        yield "model", self.model_name
        if self.host is not None:
            yield "host", self.host
        if self.practices is not None:
            yield "practices", Practices.of(self.practices).model_dump(exclude_unset=True)

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """Build it from what `to_dict` gave and the LLM that sends: ``from_dict(data, inner=llm)``.

        Args:
            data: from `to_dict`. It holds model, host, practices and prompts, and never the LLM, which may hold a key.
            kwargs: ``inner``, and fields that override those of the dict.

        Raises:
            ConfigurationError: there is no ``inner``.
        """
        if not isinstance(kwargs.get("inner"), LLM):
            raise ConfigurationError(
                f"the dict of a {cls.__name__} does not hold the LLM that sends (it may hold a key): pass it as "
                f"{cls.__name__}.from_dict(data, inner=llm), or wrap it again with with_kimi_practices(llm, ...)"
            )
        return super().from_dict(data, **kwargs)

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._senders, copied._of_loops = {}, WeakKeyDictionary()  # they report to its callback manager
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # The inner LLM is never changed, and its clients cannot be copied; events go on to whom they went.
        shared = {id(one): one for one in (self.inner, self.callback_manager)}
        fields = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**copy.deepcopy(fields, {**(memo or {}), **shared}))

    def __getstate__(self) -> dict[str, Any]:
        # Not the base class's, which drops what it cannot pickle and warns of it at the root logger.
        kind, vendor = type(self), vendor_of(self.inner)
        inner = freeze(self.inner, vendor.host_of(self.inner, self.host), vendor.url_of(self.inner), vendor.keys)
        own = self.model_fields_set - {"inner", "callback_manager"}  # events are reported where it is built again
        return {**opened({name: getattr(self, name) for name in own}, kind), "inner": inner}

    def __setstate__(self, state: dict[str, Any]) -> None:
        inner = thaw(state["inner"], lambda llm: vendor_of(llm).url_of(llm))
        self.__init__(**{**state, "inner": inner})  # type: ignore[misc]

    # -- the eight methods: as in the base, without events of their own -------------------------------------

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Reply to a conversation. ``kwargs`` override settings for this call; unknown ones go to the inner LLM."""
        return self._reply(messages, kwargs)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The async twin of `chat`."""
        return await self._areply(messages, kwargs)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Stream a reply, as `Kimi.stream_chat` does."""
        return self._replies(messages, kwargs)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """The async twin of `stream_chat`."""
        return self._areplies(messages, kwargs)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Reply to a prompt, as a conversation of one user message."""
        return self._completion(prompt, formatted, kwargs)

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The async twin of `complete`."""
        return await self._acompletion(prompt, formatted, kwargs)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Stream the reply to a prompt."""
        return self._completions(prompt, formatted, kwargs)

    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """The async twin of `stream_complete`."""
        return self._acompletions(prompt, formatted, kwargs)

    # -- one call ----------------------------------------------------------------------------------------

    def _settings(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        set_here = {"practices": self.practices, "thinking": self.thinking}
        own = {"model": self.model_name, **settings_of(self.inner), **set_here}
        return layered(own, kwargs, takes=frozenset(kwargs), instead="wrap another LLM")

    def _dialect(self, settings: Mapping[str, Any]) -> tuple[Dialect, bool | None]:
        vendor = vendor_of(self.inner)
        dialect, wish = dialect_of(settings, vendor.host_of(self.inner, self.host))
        if not lays_over(vendor, dialect.host.endpoint.protocol):
            dialect = replace(dialect, response_formats=frozenset())  # a tool carries the schema instead
        return dialect, wish

    def _send(self, prepared: Prepared, settings: Mapping[str, Any]) -> Iterator[Chunk]:
        way = passage(prepared, self.budget, self.limits, lambda: prepared.call.dialect.host.id)
        sending = partial(self._handed, prepared, settings)
        return sending() if way is None else way.through(sending)

    def _asend(self, prepared: Prepared, settings: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        way = passage(prepared, self.budget, self.limits, lambda: prepared.call.dialect.host.id)
        sending = partial(self._ahanded, prepared, settings)
        return sending() if way is None else way.athrough(sending)

    def _handed(self, prepared: Prepared, settings: Mapping[str, Any]) -> Iterator[Chunk]:
        handed, sender, reader = self._handover(prepared, settings)
        if prepared.stream:
            for response in sender.stream_chat(handed.messages, **handed.arguments):
                yield reader.piece(response)
            yield from reader.rest()
        else:
            yield reader.whole(sender.chat(handed.messages, **handed.arguments))
        prepared.report.heal(WRAPPER, reader.lost(self.inner))

    async def _ahanded(self, prepared: Prepared, settings: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        drops_first = prepared.stream and vendor_of(self.inner).drops_first
        handed, sender, reader = self._handover(prepared, settings, drops_first=drops_first)
        if prepared.stream:
            stream: Any = await sender.astream_chat(handed.messages, **handed.arguments)
            try:
                async for response in stream:
                    yield reader.piece(response)
            finally:
                if hasattr(stream, "aclose"):
                    await stream.aclose()
            for chunk in reader.rest():
                yield chunk
        else:
            yield reader.whole(await sender.achat(handed.messages, **handed.arguments))
        prepared.report.heal(WRAPPER, reader.lost(self.inner))

    def _handover(
        self, prepared: Prepared, settings: Mapping[str, Any], *, drops_first: bool = False
    ) -> tuple[Handover, LLM, Reader]:
        passed = {name: value for name, value in settings.items() if name not in _OURS}
        # A name of the user's own for the model (a deployment, an alias on a server) stays as it is.
        named = settings["model"] != self.model_name or self.model_name == vendor_of(self.inner).name_of(self.inner)
        handed = hand_over(self.inner, prepared, passed, respell=named)
        return handed, self._sender(handed.fields), Reader(prepared, drops_first=drops_first)

    def _sender(self, fields: Mapping[str, Any]) -> LLM:
        """Return the LLM that sends a call: for each event loop one of its own, because async clients belong to one."""
        try:
            senders = self._of_loops.setdefault(asyncio.get_running_loop(), {})
        except RuntimeError:
            senders = self._senders
        key = repr(sorted(fields.items()))
        made_of, made = senders.get(key, (None, self.inner))
        if made_of is not self.inner:  # it may have been set anew
            made = sender_of(self.inner, fields, self.metadata, self.callback_manager)
            if len(senders) >= _MOST_SENDERS:
                senders.clear()
            if made is not self.inner:
                senders[key] = self.inner, made
        elif made.callback_manager is not self.callback_manager:
            made.callback_manager = self.callback_manager
        return made

    def _is_structural(self, error: Exception) -> bool:
        found = meaning(error)
        return found is not None and issubclass(found, STRUCTURAL)

    def _counter(self) -> TokenCounter:
        return counter()


class WrappedFunctionCallingLLM(PracticedFunctionCallingLLM, WrappedLLM):
    """The same around an LLM that takes tools."""


_MOST_SENDERS = 8
_TAKEN_OVER = (
    "callback_manager", "system_prompt", "messages_to_prompt", "completion_to_prompt", "output_parser",
    "pydantic_program_mode", "query_wrapper_prompt",
)  # fmt: skip
_OURS = (CALL_FIELDS | {"allow_parallel_tool_calls", "thread_id"}) - {"timeout", "deadline", "stall_timeout"}
