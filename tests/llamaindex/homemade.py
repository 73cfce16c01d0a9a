"""An LLM as users write their own: a plain client, LlamaIndex's messages there and back, nothing known of Kimi."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import openai
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata, ThinkingBlock, ToolCallBlock
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM

from refrase_integrations.llamaindex.messages import encode


class Homemade(FunctionCallingLLM):
    """Sends what it is given and its own settings; hands out text, reasoning and whole calls, but no raw reply."""

    model: str
    base_url: str
    api_key: str = "none"
    temperature: float = 0.1
    max_tokens: int | None = None

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=self.model, is_chat_model=True, is_function_calling_model=True)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._ask(messages, kwargs)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._ask(messages, kwargs)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Iterator[ChatResponse]:
        return self._in_pieces(messages, kwargs)

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncIterator[ChatResponse]:
        async def pieces() -> AsyncIterator[ChatResponse]:
            for piece in self._in_pieces(messages, kwargs):
                yield piece

        return pieces()

    def _ask(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> ChatResponse:
        wire = [{key: value for key, value in one.items() if value or key != "content"} for one in encode(messages)]
        limit = {"max_tokens": self.max_tokens} if self.max_tokens else {}
        body: Any = {"model": self.model, "messages": wire, "temperature": self.temperature, **limit, **kwargs}
        with openai.OpenAI(base_url=self.base_url, api_key=self.api_key, max_retries=0) as client:
            reply: Any = client.chat.completions.create(**body).choices[0].message
        thought = getattr(reply, "reasoning_content", None) or getattr(reply, "reasoning", None)
        message = ChatMessage(role="assistant", content=reply.content or "")
        message.blocks = [*([ThinkingBlock(content=thought)] if thought else []), *message.blocks]
        message.blocks += [
            ToolCallBlock(tool_call_id=one.id, tool_name=one.function.name, tool_kwargs=one.function.arguments)
            for one in reply.tool_calls or ()
        ]
        return ChatResponse(message=message)

    def _in_pieces(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Iterator[ChatResponse]:
        whole = self._ask(messages, kwargs)
        said = ""
        for block in whole.message.blocks:
            if isinstance(block, ThinkingBlock):
                yield ChatResponse(
                    message=ChatMessage(role="assistant"), additional_kwargs={"thinking_delta": block.content}
                )
        for word in (whole.message.content or "").split(" "):
            delta = f" {word}" if said else word
            said += delta
            yield ChatResponse(message=ChatMessage(role="assistant", content=said), delta=delta)
        yield whole

    def _prepare_chat_with_tools(  # noqa: PLR0917
        self,
        tools: Sequence[Any],
        user_msg: Any = None,
        chat_history: Any = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        formed = [tool.metadata.to_openai_tool() for tool in tools]
        return {
            "messages": list(chat_history or ()),
            "tools": formed,
            "tool_choice": "required" if tool_required else "auto",
        }

    def complete(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    acomplete = stream_complete = astream_complete = complete  # type: ignore[assignment]
