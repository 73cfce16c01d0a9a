"""`PracticedLLM`: an LLM whose every call goes through the practices; subclasses say only how to send."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.instrumentation.dispatcher import active_instrument_tags  # type: ignore[attr-defined]
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM, ToolSelection
from llama_index.core.tools import BaseTool
from pydantic import ValidationError

from refrase_integrations.errors import HostError, ReplyError
from refrase_integrations.kimi.dialect import Dialect
from refrase_integrations.kimi.inputs import instance
from refrase_integrations.kimi.practice import Call, Prepared
from refrase_integrations.kimi.request import build_call, field_error
from refrase_integrations.kimi.stream import fold
from refrase_integrations.kimi.tokens import TokenCounter
from refrase_integrations.kimi.turn import arun, is_structural, run
from refrase_integrations.kimi.wire import Chunk
from refrase_integrations.llamaindex.messages import Decoder, encode, given_messages, selections
from refrase_integrations.llamaindex.structured import StructuredPrediction, response_format
from refrase_integrations.llamaindex.tools import marked_live, wire_tools


class PracticedLLM(LLM):
    """An LLM that prepares each request and heals each reply by the documented practices."""

    def __init__(self, **kwargs: Any) -> None:
        try:
            super().__init__(**kwargs)
        except ValidationError as error:
            # pydantic's own text quotes the input, and with it the key.
            raise field_error(type(self), error) from None

    @abstractmethod
    def _dialect(self, settings: Mapping[str, Any]) -> tuple[Dialect, bool | None]:
        """Return the dialect of a call with these settings, and the user's wish about thinking."""

    @abstractmethod
    def _settings(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
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
        """Tell whether what was raised while sending is a refusal of the history's form."""
        return is_structural(error)

    @property
    def metadata(self) -> LLMMetadata:
        """Window, output limit and name, from the catalogue; both limits in tokens."""
        settings = self._settings({})
        dialect, _ = self._dialect(settings)
        return LLMMetadata(
            context_window=dialect.window,
            num_output=settings.get("max_tokens") or dialect.output_default,
            is_chat_model=True,
            is_function_calling_model=isinstance(self, FunctionCallingLLM),
            model_name=settings["model"],
        )

    @property
    def tokenizer(self) -> Callable[[str], list[int]]:
        """From text to token ids: ``Settings.tokenizer = llm.tokenizer``.

        Where Kimi's vocabulary is not found, as many placeholders as a calibrated estimate counts: LlamaIndex only
        takes the length.
        """
        return self._token_ids

    def _token_ids(self, text: str) -> list[int]:
        counter = self._counter()
        ids: Callable[[str], list[int]] | None = getattr(counter, "token_ids", None)
        return ids(text) if ids else [0] * counter.text(text)

    # -- the eight methods -------------------------------------------------------------------------------

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Reply to a conversation. ``kwargs`` override fields for this call; see `Kimi` for those that may."""
        return self._reply(messages, kwargs)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The async twin of `chat`."""
        return await self._areply(messages, kwargs)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Stream a reply: each response has the message so far and the new text as its ``delta``.

        Reasoning is in ``additional_kwargs["thinking_delta"]``. A tool call comes whole, once it was checked. The last
        response carries usage, finish reason and report.
        """
        return self._replies(messages, kwargs)

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """The async twin of `stream_chat`."""
        return self._areplies(messages, kwargs)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Reply to a prompt, as a conversation of one user message."""
        return self._completion(prompt, formatted, kwargs)

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The async twin of `complete`."""
        return await self._acompletion(prompt, formatted, kwargs)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Stream the reply to a prompt; see `stream_chat`."""
        return self._completions(prompt, formatted, kwargs)

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """The async twin of `stream_complete`."""
        return self._acompletions(prompt, formatted, kwargs)

    # -- one call ----------------------------------------------------------------------------------------

    def _reply(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatResponse:
        settings, call = self._call(messages, kwargs, stream=False)
        deltas = run(call, lambda prepared: self._send(prepared, settings), self._is_structural)
        return self._decoder(call, settings).whole(fold(deltas)[0])

    async def _areply(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatResponse:
        settings, call = self._call(messages, kwargs, stream=False)
        deltas = [
            delta async for delta in arun(call, lambda prepared: self._asend(prepared, settings), self._is_structural)
        ]
        return self._decoder(call, settings).whole(fold(deltas)[0])

    def _replies(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatResponseGen:
        settings, call = self._call(messages, kwargs, stream=True)  # here, so that what is wrong is said at once

        def replies() -> ChatResponseGen:
            decoder = self._decoder(call, settings)
            try:
                for delta in run(call, lambda prepared: self._send(prepared, settings), self._is_structural):
                    reply = decoder.chunk(delta)
                    if reply is not None:
                        yield reply
            except HostError as error:
                error.partial = decoder.so_far()
                raise

        return replies()

    def _areplies(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatResponseAsyncGen:
        settings, call = self._call(messages, kwargs, stream=True)

        async def replies() -> ChatResponseAsyncGen:
            decoder = self._decoder(call, settings)
            try:
                deltas = arun(call, lambda prepared: self._asend(prepared, settings), self._is_structural)
                async with aclosing(deltas):  # a stream that is left in the middle lets its connection go at once
                    async for delta in deltas:
                        reply = decoder.chunk(delta)
                        if reply is not None:
                            yield reply
            except HostError as error:
                error.partial = decoder.so_far()
                raise

        return replies()

    def _completion(self, prompt: str, formatted: bool, kwargs: Mapping[str, Any]) -> CompletionResponse:
        return _of_chat(self._reply(self._prompted(prompt, formatted), kwargs))

    async def _acompletion(self, prompt: str, formatted: bool, kwargs: Mapping[str, Any]) -> CompletionResponse:
        return _of_chat(await self._areply(self._prompted(prompt, formatted), kwargs))

    def _completions(self, prompt: str, formatted: bool, kwargs: Mapping[str, Any]) -> CompletionResponseGen:
        replies = self._replies(self._prompted(prompt, formatted), kwargs)
        return (_of_chat(reply) for reply in replies)

    def _acompletions(self, prompt: str, formatted: bool, kwargs: Mapping[str, Any]) -> CompletionResponseAsyncGen:
        replies = self._areplies(self._prompted(prompt, formatted), kwargs)
        return (_of_chat(reply) async for reply in replies)

    def _call(
        self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any], *, stream: bool
    ) -> tuple[dict[str, Any], Call]:
        settings = self._settings(kwargs)
        dialect, wish = self._dialect(settings)
        given = given_messages(messages)
        if self.system_prompt and all(message.role not in _SYSTEM for message in given):
            given.insert(0, ChatMessage(role=MessageRole.SYSTEM, content=self.system_prompt))
        formed = dict(settings)
        if isinstance(formed.get("response_format"), type):
            formed["response_format"] = response_format(formed["response_format"])
        if formed.get("tools"):
            formed["live_tools"] = marked_live(formed["tools"]) | formed["live_tools"]
            formed["tools"] = wire_tools(formed["tools"], formed.get("strict"))
        call = build_call(
            formed,
            encode(given, dialect.host.id, dialect.reasoning_out),
            dialect,
            stream=stream,
            count=self._counter(),
            thinking=wish,
            thread_id=settings.get("thread_id") or _tagged(),
            now=datetime.now(UTC),
            salt=uuid.uuid4().hex,
            origins=given,
        )
        return settings, call

    def _decoder(self, call: Call, settings: Mapping[str, Any]) -> Decoder:
        return Decoder(
            call.dialect.host.id, call.dialect.cost, one_call=settings.get("allow_parallel_tool_calls") is False
        )

    def _prompted(self, prompt: str, formatted: bool) -> list[ChatMessage]:
        to_prompt = self.completion_to_prompt
        text = prompt if formatted or to_prompt is None else to_prompt(instance(prompt, str, "prompt", "a text"))
        return [_said(instance(text, str, "prompt", "a text"))]


class PracticedFunctionCallingLLM(StructuredPrediction, PracticedLLM):
    """The same for an LLM that takes tools."""

    def _prepare_chat_with_tools(  # noqa: PLR0917 - core's own signature
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the arguments for `chat` and its kin; core looks for the parameter ``tool_required`` by its name."""
        messages = given_messages(chat_history or [])
        if user_msg is not None:
            said = (
                user_msg if isinstance(user_msg, ChatMessage) else _said(instance(user_msg, str, "user_msg", "a text"))
            )
            messages.append(said)
        chosen = kwargs.pop("tool_choice", None)
        if chosen is None and tool_required:
            chosen = "required"
        if live := marked_live(tools or ()):
            kwargs["live_tools"] = sorted(live.union(kwargs.get("live_tools") or ()))
        return {
            "messages": messages,
            "tools": wire_tools(tools or (), kwargs.pop("strict", None)),
            "tool_choice": chosen,
            "allow_parallel_tool_calls": allow_parallel_tool_calls,
            **kwargs,
        }

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the tool calls of a reply, ready to be run.

        Args:
            response: the reply.
            error_on_no_tool_call: raise where there is no call, or one that cannot be used. False (agents): a call that
                cannot be used gets a name that no tool has, with the reason in it, so that the model reads it.
            kwargs: not used.

        Raises:
            ReplyError: see ``error_on_no_tool_call``.
        """
        instance(response, ChatResponse, "response", "a ChatResponse")
        chosen = selections(response.message, strict=error_on_no_tool_call)
        if not chosen and error_on_no_tool_call:
            raise ReplyError("expected at least one tool call, but the reply has none")
        return chosen


def _said(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, content=text)


def _tagged() -> str | None:
    """Return the thread that LlamaIndex's own tags name: ``with instrument_tags({"thread_id": "42"}): ...``."""
    tags = active_instrument_tags.get()
    found = next((tags[name] for name in ("thread_id", "session_id") if tags.get(name)), None)
    return None if found is None else str(found)


_SYSTEM = (MessageRole.SYSTEM, MessageRole.DEVELOPER)


def _of_chat(reply: ChatResponse) -> CompletionResponse:
    return CompletionResponse(
        text=reply.message.content or "",
        delta=reply.delta,
        raw=reply.raw,
        logprobs=reply.logprobs,
        additional_kwargs={**reply.message.additional_kwargs, **reply.additional_kwargs},
    )
