"""`PracticedChatModel`: a chat model whose every call goes through the practices; subclasses say only how to send."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool
from pydantic import ValidationError

from refrase_integrations.errors import STRUCTURAL, ConfigurationError, HostError
from refrase_integrations.kimi.inputs import diagnosed, instance
from refrase_integrations.langchain.failures import classified
from refrase_integrations.langchain.tools import marked_live, wire_tools

if TYPE_CHECKING:  # what only a call needs is imported by it: importing a model is cheap
    from refrase_integrations.kimi.dialect import Dialect
    from refrase_integrations.kimi.practice import Call, Prepared
    from refrase_integrations.kimi.tokens import TokenCounter
    from refrase_integrations.kimi.wire import Chunk

Method = Literal["json_schema", "function_calling", "json_mode"]
"""How a schema is asked for. Not only for type checkers: LangChain's fallbacks read the hints of public methods."""


class PracticedChatModel(BaseChatModel):
    """A chat model that prepares each request and heals each reply by the documented practices."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except ValidationError as error:
            # pydantic's own text quotes the input, and with it the key.
            from refrase_integrations.kimi.request import field_error

            raise field_error(type(self), error) from None

    @abstractmethod
    def _dialect(self, settings: Mapping[str, Any]) -> tuple[Dialect, bool | None]:
        """Return the dialect of a call with these settings, and the user's wish about thinking."""

    @abstractmethod
    def _settings(self, stop: list[str] | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return what applies to one call: the model's fields under the call's arguments; None where nothing is set."""

    @abstractmethod
    def _send(self, prepared: Prepared, settings: Mapping[str, Any]) -> Iterator[Chunk]:
        """Send a prepared request and yield raw chunks."""

    @abstractmethod
    def _asend(self, prepared: Prepared, settings: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        """Send a prepared request and yield raw chunks, asynchronously."""

    @abstractmethod
    def _counter(self) -> TokenCounter:
        """Return the token counter of this model."""

    def _is_structural(self, error: Exception) -> bool:
        """Tell whether what `_send` raised is a host's refusal of the history's form."""
        return isinstance(error, STRUCTURAL)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the model; what LangChain worked out from the old fields, the cache's key, is not kept."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("_serialized", None)
        return copied

    # -- one call ----------------------------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        from refrase_integrations.langchain import engine

        with classified():
            settings = self._settings(stop, kwargs)
            call = self._call(messages, settings, stream=False)
            deltas = list(engine.run(call, lambda prepared: self._send(prepared, settings), self._is_structural))
        decoder = engine.Decoder(call.dialect.cost)
        return ChatResult(generations=[decoder.generation(whole) for whole in engine.fold(deltas)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        from refrase_integrations.langchain import engine

        with classified():
            settings = self._settings(stop, kwargs)
            call = self._call(messages, settings, stream=False)
            deltas = [
                delta
                async for delta in engine.arun(
                    call, lambda prepared: self._asend(prepared, settings), self._is_structural
                )
            ]
        decoder = engine.Decoder(call.dialect.cost)
        return ChatResult(generations=[decoder.generation(whole) for whole in engine.fold(deltas)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        from refrase_integrations.langchain import engine

        with classified():
            settings = self._settings(stop, kwargs)
            call = self._call(messages, settings, stream=True)
            decoder = engine.Decoder(call.dialect.cost)
            try:
                for delta in engine.run(call, lambda prepared: self._send(prepared, settings), self._is_structural):
                    chunk = decoder.chunk(delta)
                    if run_manager is not None:
                        run_manager.on_llm_new_token(cast(str, chunk.message.content), chunk=chunk)
                    yield chunk
            except HostError as error:
                error.partial = decoder.so_far()
                raise

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        from refrase_integrations.langchain import engine

        with classified():
            settings = self._settings(stop, kwargs)
            call = self._call(messages, settings, stream=True)
            decoder = engine.Decoder(call.dialect.cost)
            try:
                deltas = engine.arun(call, lambda prepared: self._asend(prepared, settings), self._is_structural)
                async with aclosing(deltas):  # a stream that is left in the middle lets its connection go at once
                    async for delta in deltas:
                        chunk = decoder.chunk(delta)
                        if run_manager is not None:
                            await run_manager.on_llm_new_token(cast(str, chunk.message.content), chunk=chunk)
                        yield chunk
            except HostError as error:
                error.partial = decoder.so_far()
                raise

    def _call(self, messages: list[BaseMessage], settings: dict[str, Any], *, stream: bool) -> Call:
        from refrase_integrations.langchain import engine

        dialect, wish = self._dialect(settings)
        if stream and (settings.get("n") or 1) > 1:
            raise ConfigurationError("n > 1 cannot be streamed; use invoke() or batch()")
        formed = dict(settings)
        if isinstance(formed.get("response_format"), type):
            formed["response_format"] = engine.response_format(formed["response_format"])
        if formed.get("tools"):
            formed["live_tools"] = marked_live(formed["tools"]) | formed["live_tools"]
            formed["tools"] = wire_tools(formed["tools"], formed.get("strict"))
        return engine.build_call(
            formed,
            engine.encode(messages, dialect.host.id, dialect.reasoning_out),
            dialect,
            stream=stream,
            count=self._counter(),
            thinking=wish,
            thread_id=_thread_id(),
            now=datetime.now(UTC),
            salt=uuid.uuid4().hex,
            origins=messages,
        )

    # -- binding -----------------------------------------------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools; how they travel is decided at call time, for the model and host of that call.

        Args:
            tools: functions, `BaseTool`s, pydantic or TypedDict classes, OpenAI, Anthropic or MCP dicts, builtin
                functions such as ``{"type": "builtin_function", "function": {"name": "$web_search"}}``. One that brings
                live data may say so: the tag ``"live"``, or the metadata ``{"live": True}``.
            tool_choice: "auto", "none", "any" / "required" / True, a tool's name, or the wire form. A choice the model
                does not take becomes "auto" with one bounded re-ask.
            strict: whether arguments must follow the schema; None leaves it to the host.
            kwargs: further call arguments.

        Returns:
            A binding of this model.

        Raises:
            ConfigurationError: something is no tool, or no tool choice.
        """
        from refrase_integrations.kimi.request import wire_choice

        formed = wire_tools(tools, strict)
        if live := marked_live(tools):
            kwargs["live_tools"] = sorted(live.union(kwargs.get("live_tools") or ()))
        if tool_choice is not None:
            kwargs["tool_choice"] = wire_choice(tool_choice)
        return self.bind(tools=formed, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return a runnable whose output fits ``schema``, with thinking left as it is.

        Args:
            schema: a pydantic class, a TypedDict class or a JSON schema with a title; None only for "json_mode".
            method: "json_schema" (the host's own where it has it, else a tool, validation and one re-ask),
                "function_calling" (always a tool), or "json_mode" (the prompt has to describe the JSON).
            include_raw: return ``{"raw", "parsed", "parsing_error"}``. No reply raises then, nor an empty one; what is
                wrong with it is the parsing error. What keeps a reply from coming (network, quota ...) still raises.
            strict: whether the host must enforce the schema; None: yes where it can.
            kwargs: further call arguments.

        An answer that is streamed was handed out when it ends: one that does not fit is a `StructuredOutputError`
        then, and is not asked for again.

        Raises:
            ConfigurationError: the method is unknown, or there is no schema.
        """
        from refrase_integrations.langchain.structured import structured_output

        return structured_output(self, schema, method, include_raw=include_raw, strict=strict, kwargs=kwargs)

    # -- counting ----------------------------------------------------------------------------------------

    def get_num_tokens(self, text: str) -> int:
        """Return the tokens of a text: exact where Kimi's vocabulary is found, else a calibrated estimate."""
        instance(text, str, "text", "a text")
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return self._counter().text(text)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None, **kwargs: Any
    ) -> int:
        """Return the tokens of a prompt with its template, and of ``tools`` where given."""
        from refrase_integrations.langchain import engine

        formed = wire_tools(tools) if tools else None
        encoded = engine.encode(messages)
        with diagnosed({"messages": encoded, "tools": formed}):
            return self._counter().request(encoded, formed)

    def get_token_ids(self, text: str) -> list[int]:
        """Return token ids; needs Kimi's vocabulary.

        Raises:
            ConfigurationError: the vocabulary was not found.
        """
        instance(text, str, "text", "a text")
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        ids = getattr(self._counter(), "token_ids", None)
        if ids is None:
            raise ConfigurationError(
                "token ids need Kimi's vocabulary: pip install 'refrase-integrations[tokens]' and point "
                "REFRASE_KIMI_TOKENIZER at tiktoken.model"
            )
        return cast("list[int]", ids(text))


def _thread_id() -> str | None:
    """Return the thread of the running graph or chain: the only one that streams and whole calls alike can see."""
    found = ensure_config().get("configurable", {}).get("thread_id")
    return str(found) if found is not None else None
