"""`Refraser`: rewrites prompts with any LlamaIndex LLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.llms.llm import LLM

from refrase_integrations.client.refraser import PromptRefraser
from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.prompt.thresholds import DEFAULTS, PromptThresholds
from refrase_integrations.kimi.wire import Message
from refrase_integrations.llamaindex.tools import tool_names


class Refraser(PromptRefraser):
    """Rewrites prompts for Kimi K2 with a model of your choice, and proves that nothing was lost; see `PromptRefraser`.

    ```python
    from refrase_integrations.llamaindex import Kimi, Refraser
    refraser = Refraser(Kimi())
    prompt = refraser.rewrite("You MUST answer in French!!! Never guess. Please never guess.")
    print(prompt.how, prompt.text, prompt.note)
    ```

    Args:
        model: any LLM of LlamaIndex.
        tools: the tools that are given beside the prompt, or their names.
        thresholds: when a prompt counts as long, rule-heavy and so on.
        remember: most prompts whose rewrite is kept.

    Raises:
        ConfigurationError: ``model`` is no LLM, or one of ``tools`` no tool.
    """

    def __init__(
        self,
        model: LLM,
        *,
        tools: Sequence[Any] = (),
        thresholds: PromptThresholds = DEFAULTS,
        remember: int = 256,
    ) -> None:
        if not isinstance(model, LLM):
            raise ConfigurationError(f"Refraser needs a LlamaIndex LLM, not {type(model).__name__}")

        def ask(messages: list[Message]) -> str:
            return _text(model.chat(_chat(messages)))

        async def aask(messages: list[Message]) -> str:
            return _text(await model.achat(_chat(messages)))

        super().__init__(ask, aask, tools=tool_names(tools), thresholds=thresholds, remember=remember)


def _chat(messages: list[Message]) -> list[ChatMessage]:
    return [ChatMessage(role=message["role"], content=message["content"]) for message in messages]


def _text(response: ChatResponse) -> str:
    return response.message.content or ""
