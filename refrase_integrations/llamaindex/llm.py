"""`Kimi`: the drop-in LLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field

from refrase_integrations.client.dropin import DropIn
from refrase_integrations.kimi.fields import CALL_FIELDS
from refrase_integrations.kimi.request import layered
from refrase_integrations.kimi.tokens import TokenCounter, counter
from refrase_integrations.llamaindex.base import PracticedFunctionCallingLLM


class Kimi(DropIn, PracticedFunctionCallingLLM):
    """Kimi K2 on any host, by its documented practices.

    Setup:
        Install ``refrase-integrations[llamaindex]`` and set ``MOONSHOT_API_KEY`` (for another host its own variable,
        such as ``OPENROUTER_API_KEY``; a self-hosted server needs none).

        ```bash
        pip install "refrase-integrations[llamaindex]"
        export MOONSHOT_API_KEY="sk-..."
        ```

    Key arguments:
        model: the model, in any host's spelling: ``"kimi-k2.6"``, ``"moonshotai/Kimi-K2-Instruct-0905"`` ...
            None: the catalogue's default.
        host: id of the host (``refrase-kimi hosts``), such as ``"moonshot"``, ``"moonshot-cn"``, ``"vllm"``,
            ``"openrouter"``. None: read from ``base_url``, else Moonshot's international API.
        base_url: the endpoint. None: the host's own.
        api_key: the key. None: the host's own environment variable.
        thinking: True or False switches a hybrid model; None: the model's default. "auto" (a hybrid model only): on
            where the user's turn needs it, off for easy ones; the report says why.
        temperature: leave it out. What the documentation asks for is pinned; ``practices={"temperature": "off"}``
            lets yours through.
        max_tokens: output limit in tokens, reasoning included. None: the documented default.
        practices: `Practices`, a dict such as ``{"system_prompt": "off"}``, or "off".
        live_tools: names of tools that bring live data, beside those whose names and descriptions say so. The prompt
            names them for what may have changed; a tool may say so itself: ``tool.live = True``.
        timeout: seconds for one request. Default 600.
        deadline: seconds for a whole call, retries, waits and reading the stream included; then `DeadlineExceeded`.
        stall_timeout: seconds without an event after which a stream counts as dead. Default 300.
        max_retries: tries after the first one, for what may pass (overload, rate limit, connection), and as often a
            stream that broke is taken up where it ended. Default 2.
        continue_on_length: how often a reply that was cut at the output limit is carried on, on hosts with partial
            mode (Moonshot's); usage and cost are summed. Default 0.
        budget: a `Budget` in US dollars or tokens; a request that could pass it is not sent (`BudgetExceeded`).
        limits: `Limits` of the account, such as ``Limits.of_tier(1)``: requests at once, requests and tokens a minute.
        system_prompt: the system message of every call whose messages hold none.
        thread_id: names the conversation, so that a host with a prompt cache finds it again (it gets a digest). None:
            LlamaIndex's tag ``thread_id`` or ``session_id``, as in ``with instrument_tags({"thread_id": "42"})``.
        rate_limiter: one of ``llama_index.core.rate_limiter``.

        What a call may override: model, thinking, reasoning_effort, temperature, top_p, presence_penalty,
        frequency_penalty, seed, stop, max_tokens, timeout, practices, live_tools, extra_body, thread_id, tools,
        tool_choice, response_format and the further fields of the request.

    Chat:
        ```python
        from llama_index.core.llms import ChatMessage
        from refrase_integrations.llamaindex import Kimi

        llm = Kimi(model="kimi-k2.6")
        reply = llm.chat([ChatMessage(role="user", content="In one sentence: what is a mixture of experts?")])
        reply.message.content
        reply.raw["usage"]                    # cached and reasoning tokens included
        reply.additional_kwargs["refrase"]    # what was changed and why; raw has it too, for agents
        reply.raw.get("cost_usd")
        ```

    Stream:
        ```python
        for chunk in llm.stream_chat([ChatMessage(role="user", content="Count to five.")]):
            print(chunk.additional_kwargs.get("thinking_delta", ""), chunk.delta, end="")
        ```

    Async:
        ```python
        reply = await llm.achat([ChatMessage(role="user", content="Hello")])
        async for chunk in await llm.astream_chat([ChatMessage(role="user", content="Hello")]):
            ...
        ```

    Everywhere in LlamaIndex:
        ```python
        from llama_index.core import Settings

        Settings.llm, Settings.tokenizer = llm, llm.tokenizer
        ```

    Agent:
        ```python
        from llama_index.core.agent.workflow import FunctionAgent

        def get_weather(city: str) -> str:
            \"\"\"Return the weather in a city.\"\"\"
            return "sunny"

        agent = FunctionAgent(llm=llm, tools=[get_weather])
        await agent.run("Weather in Paris?")
        ```

    Live data:
        ```python
        from refrase_integrations.llamaindex import formula_tools

        agent = FunctionAgent(llm=llm, tools=formula_tools(["date", "fetch"]))  # they run on Moonshot's platform
        await agent.run("What is today's date?")
        ```
        The prompt names live tools for what may have changed; without one it says that there is no live data, and
        ``practices={"fresh_data": "error"}`` refuses a question that needs it. A tool that is called ``$web_search``
        stands for the host's own search: the host runs it, no agent sees it.

    Save and restore an agent:
        ```python
        from llama_index.core.memory import ChatMemoryBuffer
        from llama_index.core.workflow import Context

        context, memory = Context(agent), ChatMemoryBuffer.from_defaults()
        await agent.run("Weather in Paris?", ctx=context, memory=memory)
        saved = context.to_dict()  # LlamaIndex leaves the memory out: keep it beside
        kept = [message.model_dump(mode="json") for message in memory.get_all()]

        memory = ChatMemoryBuffer.from_defaults(chat_history=[ChatMessage.model_validate(one) for one in kept])
        await agent.run("And in Rome?", ctx=Context.from_dict(agent, saved), memory=memory)
        ```
        A run that was saved in its middle takes no memory: ``handler = agent.run(ctx=context)``, then
        ``await handler.ctx.store.set("memory", memory)``.

    Structured output:
        ```python
        from llama_index.core.prompts import PromptTemplate
        from pydantic import BaseModel

        class Answer(BaseModel):
            city: str
            population: int

        llm.structured_predict(Answer, PromptTemplate("The largest city of {country}?"), country="France")
        llm.as_structured_llm(Answer).complete("The largest city of France?").raw
        ```

    Reasoning:
        ```python
        [block.content for block in reply.message.blocks if block.block_type == "thinking"]
        ```
        Keep the message as it is: its reasoning goes back with the next turn, which thinking models ask for.

    Budget and limits:
        ```python
        from refrase_integrations import Budget, Limits

        frugal = Kimi(budget=Budget(usd=5.0, thread_usd=0.25), limits=Limits.of_tier(1), max_tokens=500)
        with Budget(usd=0.10) as run:  # whatever Kimi model is called in the block
            frugal.complete("Hello")
        run.spent.usd
        ```
        A request that could pass a budget is not sent: `BudgetExceeded`. For many rows see
        ``refrase_integrations.batch.run_batch``.

    Images:
        ```python
        from llama_index.core.llms import ImageBlock, TextBlock

        llm.chat([ChatMessage(blocks=[TextBlock(text="What is this?"), ImageBlock(path="picture.png")])])
        ```
        A model that does not see is an error before any request.

    Serialization:
        ``Kimi.from_dict(llm.to_dict())`` gives the model back. Neither the dict nor a pickle carries the key: it is
        found again in the environment. (LlamaIndex's own ``load_llm`` knows only a fixed list of classes.)
    """

    model_config = ConfigDict(
        arbitrary_types_allowed=True,
        extra="forbid",
        hide_input_in_errors=True,
        populate_by_name=True,
        protected_namespaces=(),
    )

    additional_kwargs: dict[str, Any] = Field(default_factory=dict)
    """``extra_body``, under the name that other LLMs of LlamaIndex use."""
    thread_id: str | None = None
    """The conversation, for the host's prompt cache; None: the one that LlamaIndex's tags name."""
    tokenizer_path: str | None = Field(default=None, alias="tokenizer")
    """Path of Kimi's ``tiktoken.model``; None: looked for in the Hugging Face cache. Given as ``tokenizer=``, as in
    every model of this package; the property of that name is what counts."""

    # -- identity ----------------------------------------------------------------------------------------

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serializes and reports the class."""
        return "refrase_kimi"

    def __getstate__(self) -> dict[str, Any]:
        # Of a copy: the base class takes what cannot be pickled out of the very object.
        return super(Kimi, self.model_copy(update=self._pickled())).__getstate__()

    # -- one call ----------------------------------------------------------------------------------------

    def _settings(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return layered(
            self._own_settings(extra_body=self.additional_kwargs, thread_id=self.thread_id),
            kwargs,
            takes=_CALL_FIELDS,
            instead="build another Kimi",
        )

    def _counter(self) -> TokenCounter:
        return counter(self.tokenizer_path)


_CALL_FIELDS = CALL_FIELDS | {"allow_parallel_tool_calls", "thread_id"}
