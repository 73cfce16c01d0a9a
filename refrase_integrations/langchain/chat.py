"""`ChatKimi`: the drop-in chat model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from pydantic import ConfigDict, Field

from refrase_integrations.client.dropin import DropIn
from refrase_integrations.kimi.fields import CALL_FIELDS, MODEL_FIELDS
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.langchain.base import PracticedChatModel
from refrase_integrations.langchain.failures import sorted_kinds

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.language_models import LanguageModelInput
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import Runnable
    from langchain_core.runnables.retry import ExponentialJitterParams

    from refrase_integrations.kimi.dialect import Dialect
    from refrase_integrations.kimi.tokens import TokenCounter


class ChatKimi(DropIn, PracticedChatModel):
    """Kimi K2 on any host, by its documented practices.

    Setup:
        Install ``refrase-integrations[langchain]`` and set ``MOONSHOT_API_KEY`` (for another host its own variable,
        such as ``OPENROUTER_API_KEY``; a self-hosted server needs none).

        ```bash
        pip install "refrase-integrations[langchain]"
        export MOONSHOT_API_KEY="sk-..."
        ```

    Key arguments:
        model: the model, in any host's spelling: ``"kimi-k2.6"``, ``"moonshotai/Kimi-K2-Instruct-0905"`` ...
            None: the catalogue's default.
        host: id of the host, such as ``"moonshot"``, ``"moonshot-cn"``, ``"vllm"``, ``"openrouter"``. None: read from
            ``base_url``, else Moonshot's international API.
        base_url: the endpoint. None: the host's own.
        api_key: the key. None: the host's own environment variable; without one the model is not built.
        thinking: True or False switches a hybrid model; None: the model's default. "auto" (a hybrid model only): on
            where the user's turn needs it, off for easy ones; the report says why.
        temperature: leave it out. What the documentation asks for is pinned; ``practices={"temperature": "off"}``
            lets yours through.
        max_tokens: output limit in tokens, reasoning included. None: the documented default.
        practices: `Practices`, a dict such as ``{"system_prompt": "off"}``, or "off".
        live_tools: names of tools that bring live data, beside those whose names and descriptions say so. The prompt
            names them for what may have changed; a tool may say so itself, with the tag ``"live"`` or the metadata
            ``{"live": True}``.
        timeout: seconds for one request. Default 600.
        deadline: seconds for a whole call, retries, waits and reading the stream included; then `DeadlineExceeded`.
        stall_timeout: seconds without an event after which a stream counts as dead. Default 300.
        max_retries: tries after the first one, for what may pass (overload, rate limit, connection), and as often a
            stream that broke is taken up where it ended. Default 2.
        continue_on_length: how often a reply that was cut at the output limit is carried on, on hosts with partial
            mode (Moonshot's); usage and cost are summed. Default 0.
        budget: a `Budget` in US dollars or tokens; a request that could pass it is not sent (`BudgetExceeded`).
        limits: `Limits` of the account, such as ``Limits.of_tier(1)``: requests at once, requests and tokens a minute.

    Instantiate:
        ```python
        from refrase_integrations.langchain import ChatKimi

        model = ChatKimi(model="kimi-k2.6")
        served_here = ChatKimi(model="moonshotai/Kimi-K2-Instruct-0905", host="vllm", base_url="http://localhost:8000/v1")
        ```

    Invoke:
        ```python
        reply = model.invoke("In one sentence: what is a mixture of experts?")
        reply.text
        reply.usage_metadata                        # cached and reasoning tokens included
        reply.response_metadata["refrase"]          # what was changed, why, and its source
        reply.response_metadata.get("cost_usd")     # where the price is known
        ```

    Stream:
        ```python
        for chunk in model.stream("Count to five."):
            print(chunk.text, end="")
        ```

    Async:
        ```python
        reply = await model.ainvoke("Hello")
        async for chunk in model.astream("Hello"):
            ...
        replies = await model.abatch(["Hello", "Good morning"])
        ```

    Per call:
        ```python
        model.invoke("Hello", thinking=False, max_tokens=500, practices={"system_prompt": "off"})
        creative = model.bind(model="kimi-k2-0905-preview", temperature=0.9, practices={"temperature": "off"})
        ```
        Also ``stop``, ``tool_choice`` and ``extra_body``. Host, URL and key belong to the model itself.

    Tools:
        ```python
        def get_weather(city: str) -> str:
            \"\"\"Return the weather in a city.\"\"\"
            return "sunny"

        model.bind_tools([get_weather]).invoke("Weather in Paris?").tool_calls
        model.bind_tools([get_weather], tool_choice="any")  # one more request where the model takes no forced choice
        ```

    Agent:
        ```python
        from langchain.agents import create_agent
        from langgraph.checkpoint.memory import InMemorySaver

        agent = create_agent(model, tools=[get_weather], checkpointer=InMemorySaver())
        thread = {"configurable": {"thread_id": "1"}}  # also names the host's prompt cache
        agent.invoke({"messages": [("user", "Weather in Paris?")]}, thread)
        ```

    Live data:
        ```python
        from refrase_integrations.langchain import formula_tools

        searching = model.bind_tools(formula_tools(["date", "fetch"]))  # they run on Moonshot's platform
        searching.invoke("What is today's date?")
        model.bind_tools([{"type": "builtin_function", "function": {"name": "$web_search"}}])  # the host's own search
        ```
        The prompt names live tools for what may have changed; without one it says that there is no live data, and
        ``practices={"fresh_data": "error"}`` refuses a question that needs it. No tool node sees the host's own search.

    Structured output:
        ```python
        from pydantic import BaseModel

        class City(BaseModel):
            name: str
            population: int

        model.with_structured_output(City).invoke("The largest city of France?")
        model.with_structured_output(City, include_raw=True).invoke("The largest city of Spain?")["parsing_error"]
        ```
        Thinking stays on. A reply that does not fit is a `StructuredOutputError`, after one more try where possible.

    Reasoning:
        ```python
        reply = model.invoke("Is 1,001 a prime?")
        [block["reasoning"] for block in reply.content_blocks if block["type"] == "reasoning"]
        ```
        Keep the message as it is: its reasoning goes back with the next turn, which thinking models ask for.

    Budget and limits:
        ```python
        from refrase_integrations import Budget, Limits

        frugal = ChatKimi(budget=Budget(usd=5.0, thread_usd=0.25), limits=Limits.of_tier(1), max_tokens=500)
        with Budget(usd=0.10) as run:  # whatever Kimi model is called in the block
            frugal.batch(["Hello", "Good morning"])
        run.spent.usd
        ```
        A request that could pass a budget is not sent: `BudgetExceeded`. For many rows see
        ``refrase_integrations.batch.run_batch``.

    Images:
        ```python
        pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
        image = {"type": "image", "base64": pixel, "mime_type": "image/png"}
        model.invoke([("user", [{"type": "text", "text": "What is this?"}, image])])
        ```
        A model that does not see is an error before any request.

    Errors:
        ```python
        from langchain_core.exceptions import ContextOverflowError
        from refrase_integrations.errors import HostError

        try:
            model.invoke("A long story. " * 100_000)
        except ContextOverflowError:  # LangChain's own kinds, so its middlewares know what to retry and what to shorten
            ...
        except HostError as error:
            print(error.status, error.retryable)
        ```

    Serialization:
        ```python
        from langchain_core.load import dumpd, load

        wire = dumpd(model)  # names the key's variable, never holds the key; a pickle likewise
        load(wire, allowed_objects=[ChatKimi], valid_namespaces=["refrase_integrations"], secrets_from_env=True)
        ```
    """

    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True, protected_namespaces=()
    )

    n: int | None = None
    """Replies to one request; None: one."""
    streaming: bool | None = None
    """True: ``invoke`` streams under the hood. False: ``stream`` does not stream. None: as it is called."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """``extra_body``, under the name that other chat models use."""
    tokenizer: str | None = None
    """Path of Kimi's ``tiktoken.model``; None: looked for in the Hugging Face cache."""

    # -- identity ----------------------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "kimi"

    @property
    def model_name(self) -> str:
        """The model's name, under the attribute that other chat models use."""
        return self.model

    @property
    def _identifying_params(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in sorted(self.model_fields_set) if name in _IDENTIFYING}
        return {**own, "model": self.model, "host": self.host, "base_url": self.base_url}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It is."""
        return True

    @property
    def lc_secrets(self) -> dict[str, str]:
        """The key's variable: a serialized model names it and never holds the key."""
        from refrase_integrations.kimi.catalogue import find_host

        host = find_host(self.host, self.base_url)
        return {"api_key": next(iter(host.endpoint.key_env), f"{host.id.upper().replace('-', '_')}_API_KEY")}

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """The practices as a plain dict: as an object they would be left out of serialized forms and cache keys."""
        given = self.practices
        return {"practices": given.model_dump(exclude_unset=True)} if isinstance(given, Practices) else {}

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        return {**state, "__dict__": {**state["__dict__"], **self._pickled()}}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        settings = self._settings(stop, kwargs)
        dialect, _ = self._dialect(settings)
        params = LangSmithParams(ls_provider="kimi", ls_model_name=dialect.model_id, ls_model_type="chat")
        if settings.get("temperature") is not None:
            params["ls_temperature"] = settings["temperature"]
        if settings.get("max_tokens") is not None:
            params["ls_max_tokens"] = settings["max_tokens"]
        if settings.get("stop"):
            params["ls_stop"] = [settings["stop"]] if isinstance(settings["stop"], str) else settings["stop"]
        return params

    def _resolve_model_profile(self) -> ModelProfile:
        dialect, _ = self._dialect(self._settings(None, {}))
        return model_profile(dialect)

    def with_retry(
        self,
        *,
        retry_if_exception_type: tuple[type[BaseException], ...] | Callable[[BaseException], bool] = (Exception,),
        wait_exponential_jitter: bool = True,
        exponential_jitter_params: ExponentialJitterParams | None = None,
        stop_after_attempt: int = 3,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return a model that tries again.

        Two layers of retries would multiply, so what a host or the network failed is tried again by this package alone,
        ``stop_after_attempt`` times in all: only what may pass, streams too. LangChain's layer repeats the other kinds
        of ``retry_if_exception_type``. (Around a chain that holds the model, LangChain's layer knows nothing of this
        one: give the model ``max_retries=0`` there.)

        Args:
            retry_if_exception_type: kinds of errors; those that are no `HostError` go to LangChain's layer. A function
                (where langchain-core takes one) goes there alone, and this package's retries are off.
            wait_exponential_jitter: of LangChain's layer.
            exponential_jitter_params: of LangChain's layer.
            stop_after_attempt: most attempts.
        """
        kinds = retry_if_exception_type
        hosts, others = sorted_kinds(kinds) if isinstance(kinds, tuple) else ((), kinds)
        update = {"max_retries": max(stop_after_attempt, 1) - 1} if hosts else {}
        model = self.model_copy(update=update if isinstance(kinds, tuple) else {"max_retries": 0})
        if not others:
            return model
        return super(ChatKimi, model).with_retry(
            retry_if_exception_type=others,
            wait_exponential_jitter=wait_exponential_jitter,
            exponential_jitter_params=exponential_jitter_params,
            stop_after_attempt=stop_after_attempt,
        )

    # -- one call ----------------------------------------------------------------------------------------

    def _settings(self, stop: list[str] | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        from refrase_integrations.kimi.request import layered

        given = kwargs if stop is None else {**kwargs, "stop": stop}
        return layered(
            self._own_settings(n=self.n, extra_body=self.model_kwargs),
            given,
            takes=_CALL_FIELDS,
            instead="build another ChatKimi, or use configurable_fields",
        )

    def _counter(self) -> TokenCounter:
        from refrase_integrations.kimi.tokens import counter

        return counter(self.tokenizer)


_CALL_FIELDS = CALL_FIELDS | {"n", "stream", "ls_structured_output_format"}
_IDENTIFYING = frozenset(MODEL_FIELDS) | {"n", "practices", "extra_body", "model_kwargs"}


def model_profile(dialect: Dialect) -> ModelProfile:
    """Return LangChain's model profile of a dialect."""
    return ModelProfile(
        name=dialect.model.name or dialect.model_id,
        max_input_tokens=dialect.window,
        max_output_tokens=dialect.output_max,
        text_inputs=True,
        image_inputs=dialect.vision,
        image_url_inputs=dialect.vision and not dialect.media,
        audio_inputs=False,
        pdf_inputs=False,
        video_inputs=dialect.video,
        text_outputs=True,
        image_outputs=False,
        audio_outputs=False,
        video_outputs=False,
        reasoning_output=dialect.thinking,
        tool_calling=True,
        tool_choice="required" in dialect.tool_choices,
        structured_output="json_schema" in dialect.response_formats,
    )
