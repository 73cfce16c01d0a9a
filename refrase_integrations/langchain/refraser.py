"""`Refraser`: rewrites prompts with any LangChain model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import convert_to_messages
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableConfig

from refrase_integrations.client.refraser import PromptRefraser
from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.prompt.thresholds import DEFAULTS, PromptThresholds
from refrase_integrations.kimi.wire import Message
from refrase_integrations.langchain.tools import tool_names

_CONFIG: RunnableConfig = {"run_name": "Refraser", "tags": ["nostream"]}  # LangGraph: its tokens are nobody's chat


class Refraser(PromptRefraser):
    """Rewrites prompts for Kimi K2 with a model of your choice, and proves that nothing was lost; see `PromptRefraser`.

    ```python
    from refrase_integrations.langchain import ChatKimi, Refraser
    refraser = Refraser(ChatKimi())
    prompt = refraser.rewrite("You MUST answer in French!!! Never guess. Please never guess.")
    print(prompt.how, prompt.text, prompt.note)
    ```

    Args:
        model: a chat model, a text model, or any runnable that takes messages and gives a message or text.
        tools: the tools that are bound beside the prompt, or their names.
        thresholds: when a prompt counts as long, rule-heavy and so on.
        remember: most prompts whose rewrite is kept.

    Raises:
        ConfigurationError: ``model`` is no runnable, or one of ``tools`` no tool.
    """

    def __init__(
        self,
        model: Runnable[Any, Any],
        *,
        tools: Sequence[Any] = (),
        thresholds: PromptThresholds = DEFAULTS,
        remember: int = 256,
    ) -> None:
        if not isinstance(model, Runnable):
            raise ConfigurationError(f"Refraser needs a LangChain model, not {type(model).__name__}")
        chain = model | StrOutputParser()

        def ask(messages: list[Message]) -> str:
            return chain.invoke(convert_to_messages(messages), _CONFIG)  # type: ignore[arg-type]

        async def aask(messages: list[Message]) -> str:
            return await chain.ainvoke(convert_to_messages(messages), _CONFIG)  # type: ignore[arg-type]

        super().__init__(ask, aask, tools=tool_names(tools), thresholds=thresholds, remember=remember)
