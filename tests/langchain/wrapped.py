"""What the tests of wrapped models share: ChatOpenAI on a simulator, and a model that only remembers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import Field

from refrase_integrations.langchain import with_kimi_practices
from refrase_integrations.simulator import KimiSimulator


def chat_openai(simulator: KimiSimulator, **fields: Any) -> ChatOpenAI:
    """Return a ChatOpenAI that sends to a simulator. It has an async client of its own: event loops come and go."""
    given = {
        "model": "kimi-k2.6",
        "base_url": simulator.base_url,
        "api_key": "sk-test",
        "max_retries": 0,
        "http_async_client": openai.DefaultAsyncHttpxClient(),
    }
    return ChatOpenAI(**{**given, **fields})


def wrapped(simulator: KimiSimulator, *, practices: Any = None, **fields: Any) -> Any:
    """Return a wrapped ChatOpenAI that sends to a simulator."""
    return with_kimi_practices(chat_openai(simulator, **fields), host=simulator.host.persona.id, practices=practices)


class Remembering(BaseChatModel):
    """Remembers what it was called with; says what it was given."""

    replies: list[AIMessage] = Field(default_factory=lambda: [AIMessage("Yes.")])
    chunks: list[AIMessageChunk] = Field(default_factory=lambda: [AIMessageChunk("Yes"), AIMessageChunk(".")])
    calls: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "remembering"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.calls.append({"messages": messages, "stop": stop, **kwargs})
        reply = self.replies[min(len(self.calls), len(self.replies)) - 1]
        return ChatResult(generations=[ChatGeneration(message=reply)])


class Streaming(Remembering):
    """The same, in pieces."""

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        self.calls.append({"messages": messages, "stop": stop, **kwargs})
        for chunk in self.chunks:
            yield ChatGenerationChunk(message=chunk)
