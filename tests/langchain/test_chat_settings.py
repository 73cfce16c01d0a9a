"""Settings of ChatKimi as LangChain's machinery turns them: bound, configured, cached, traced, copied, counted."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField

from refrase_integrations import Practices
from refrase_integrations.errors import ConfigurationError
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator
from tests.conversations import MODES, ask

KEY = "sk-canary-0123456789"


def chat(simulator: KimiSimulator, **fields: Any) -> ChatKimi:
    return ChatKimi(**{"host": "moonshot", "base_url": simulator.base_url, "api_key": KEY, **fields})


def yes(body: dict[str, Any]) -> str:
    return "one two three four five six seven eight"


# -- configured ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
async def test_alternatives(mode: str) -> None:
    with KimiSimulator(script=yes) as simulator:
        model = chat(simulator, model="kimi-k2.6").configurable_alternatives(
            ConfigurableField(id="llm"), default_key="hybrid", instruct=chat(simulator, model="kimi-k2-0905-preview")
        )
        await ask(mode, model, "Hi.")
        await ask(mode, model.with_config(configurable={"llm": "instruct"}), "Hi.")
        assert [request.body["model"] for request in simulator.requests] == ["kimi-k2.6", "kimi-k2-0905-preview"]


def test_a_configured_model_still_streams() -> None:
    with KimiSimulator(script=yes) as simulator:
        model = chat(simulator).configurable_fields(max_tokens=ConfigurableField(id="most"))
        chunks = list(model.with_config(configurable={"most": 500}).stream("Count."))
        assert simulator.requests[0].body["stream"] is True
        assert simulator.requests[0].body["max_completion_tokens"] == 500
    assert len([chunk for chunk in chunks if chunk.text]) > 2


@pytest.mark.parametrize("streaming", [None, True, False])
def test_streaming_decides_how_calls_travel(streaming: bool | None) -> None:
    with KimiSimulator(script=yes) as simulator:
        model = chat(simulator, streaming=streaming)
        model.invoke("Hi.")
        list(model.stream("Hi."))
        streamed = [request.body.get("stream", False) for request in simulator.requests]
    assert streamed == {None: [False, True], True: [True, True], False: [False, False]}[streaming]


def test_every_field_is_accepted_under_its_own_name() -> None:
    model = ChatKimi(api_key=KEY)
    assert ChatKimi(**model.__dict__).model == model.model


@pytest.mark.parametrize("mode", MODES)
async def test_practices_merge_call_over_model(mode: str) -> None:
    with KimiSimulator(script=yes) as simulator:
        model = chat(simulator, model="kimi-k2-0905-preview", practices={"system_prompt": "off", "fresh_data": "off"})
        await ask(mode, model, "Hi.", temperature=0.2, practices=Practices(temperature="off"))
        await ask(mode, model, "Hi.", practices="off")
        first, second = (request.body for request in simulator.requests)
    assert (first["temperature"], [message["role"] for message in first["messages"]]) == (0.2, ["user"])
    assert "temperature" not in second


@pytest.mark.parametrize("mode", MODES)
async def test_your_own_body_fields_go_out_as_they_are(mode: str) -> None:
    with KimiSimulator("vllm", script=yes) as simulator:
        model = ChatKimi(
            model="moonshotai/Kimi-K2-Instruct-0905",
            host="vllm",
            base_url=simulator.base_url,
            model_kwargs={"top_k": 1, "min_p": 0.1},
            extra_body={"top_k": 2, "chat_template_kwargs": {"x": 1}},
            default_headers={"x-mine": "a"},
            default_query={"q": "b"},
        )
        await ask(mode, model, "Hi.", extra_body={"min_p": 0.2})
        request = simulator.requests[0]
    assert (request.body["top_k"], request.body["min_p"], request.body["chat_template_kwargs"]) == (2, 0.2, {"x": 1})
    assert (request.headers["x-mine"], request.query["q"]) == ("a", "b")


# -- cached, limited -------------------------------------------------------------------------------------

OTHERWISE: list[dict[str, Any]] = [
    {"thinking": False},
    {"model": "kimi-k2-thinking"},
    {"practices": {"system_prompt": "off"}},
    {"practices": Practices(system_prompt="off", temperature="off")},
    {"practices": Practices(temperature="off")},
    {"max_tokens": 100},
    {"extra_body": {"safety_identifier": "x"}},
    {"stop": ["x"]},
]


async def test_other_settings_miss_the_cache() -> None:
    cache = InMemoryCache()
    with KimiSimulator(script=yes) as simulator:
        for number, fields in enumerate([{}, *OTHERWISE], 1):
            for _ in range(2):
                await ask("invoke", chat(simulator, cache=cache, **fields), "Hi.")
                await ask("ainvoke", chat(simulator, cache=cache, **fields), "Hi.")
            assert len(simulator.requests) == number, fields
        assert KEY not in str(cache._cache)


def test_a_cached_reply_costs_nothing_and_says_so() -> None:
    with KimiSimulator(script=yes) as simulator:
        model = chat(simulator, cache=InMemoryCache())
        first, second = model.invoke("Hi."), model.invoke("Hi.")
        assert len(simulator.requests) == 1
    assert second.text == first.text
    assert second.usage_metadata is not None
    assert second.usage_metadata.get("total_cost", 0) == 0


@pytest.mark.parametrize("mode", MODES)
async def test_a_rate_limiter_is_asked_before_each_call(mode: str) -> None:
    asked: list[float] = []

    class Noting(InMemoryRateLimiter):
        def acquire(self, *, blocking: bool = True) -> bool:
            asked.append(time.monotonic())
            return True

        async def aacquire(self, *, blocking: bool = True) -> bool:
            return self.acquire(blocking=blocking)

    with KimiSimulator(script=yes) as simulator:
        model = chat(simulator, rate_limiter=Noting())
        await ask(mode, model, "Hi.")
        await ask(mode, model, "Hi.")
    assert len(asked) == 2


# -- traced ----------------------------------------------------------------------------------------------


def test_what_a_trace_is_told() -> None:
    model = ChatKimi(api_key=KEY, model="kimi-k2.6", temperature=0.5, max_tokens=9, stop=["x"])
    assert model._get_ls_params() == {
        "ls_provider": "kimi",
        "ls_model_name": "kimi-k2.6",
        "ls_model_type": "chat",
        "ls_temperature": 0.5,
        "ls_max_tokens": 9,
        "ls_stop": ["x"],
    }
    told = model._get_ls_params(stop=["y"], model="kimi-k2-thinking", temperature=1.0)
    assert (told["ls_model_name"], told["ls_temperature"], told["ls_stop"]) == ("kimi-k2-thinking", 1.0, ["y"])
    served = ChatKimi(model="kimi-k2-0905-preview", host="vllm", base_url="http://localhost:8000/v1")
    assert served._get_ls_params()["ls_model_name"] == "moonshotai/Kimi-K2-Instruct-0905"


# -- profile ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        (
            {"model": "kimi-k2-0905-preview"},
            {"max_input_tokens": 262_144, "image_inputs": False, "reasoning_output": False, "structured_output": True},
        ),
        ({"model": "kimi-k2-thinking"}, {"image_inputs": False, "reasoning_output": True}),
        ({"model": "kimi-k2.6"}, {"image_inputs": True, "reasoning_output": True, "tool_choice": False}),
        ({"model": "kimi-k2.6", "thinking": False}, {"reasoning_output": False}),
        ({"model": "kimi-k3"}, {"max_input_tokens": 1_048_576, "tool_choice": True}),
        (
            {"model": "kimi-k2-0905-preview", "host": "vllm", "base_url": "http://localhost:8000/v1"},
            {"tool_choice": True, "tool_calling": True},
        ),
    ],
)
def test_the_profile_is_that_of_model_and_host(fields: dict[str, Any], wanted: dict[str, Any]) -> None:
    profile: Any = ChatKimi(api_key=KEY, **fields).profile
    assert {key: profile[key] for key in wanted} == wanted


def test_a_profile_of_ones_own_stays() -> None:
    assert ChatKimi(api_key=KEY, profile={"max_input_tokens": 5}).profile == {"max_input_tokens": 5}


# -- counted ---------------------------------------------------------------------------------------------


def test_counting_grows_with_what_is_sent() -> None:
    model = ChatKimi(api_key=KEY)

    def get_weather(city: str) -> str:
        """Return the weather in a city."""
        return city

    short = [HumanMessage("Hi.")]
    call = {"name": "get_weather", "args": {"city": "Paris"}, "id": "1"}
    long = [SystemMessage("Be brief."), *short, AIMessage("", tool_calls=[call]), ToolMessage("x", tool_call_id="1")]
    counts = [
        model.get_num_tokens("Hi."),
        model.get_num_tokens_from_messages(short),
        model.get_num_tokens_from_messages(long),
        model.get_num_tokens_from_messages(long, tools=[get_weather]),
    ]
    assert counts == sorted(set(counts))


def test_a_tokenizer_of_ones_own_is_used() -> None:
    model = ChatKimi(api_key=KEY, custom_get_token_ids=lambda text: [ord(letter) for letter in text])
    assert model.get_token_ids("ab") == [97, 98]
    assert model.get_num_tokens("abc") == 3


def test_token_ids_without_the_vocabulary_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "REFRASE_KIMI_TOKENIZER"):
        monkeypatch.setenv(name, str(tmp_path) if name.startswith("HF") else "")
    with pytest.raises(ConfigurationError, match="REFRASE_KIMI_TOKENIZER"):
        ChatKimi(api_key=KEY).get_token_ids("Hi.")


# -- copied, serialized ----------------------------------------------------------------------------------


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, lambda model: model.model_copy(update={"n": 1})])
def test_a_copy_within_the_process_keeps_its_key(copier: Any) -> None:
    with KimiSimulator(script=yes, api_key=KEY) as simulator:
        assert copier(chat(simulator)).invoke("Hi.").text == yes({})


def test_practices_survive_serialization_in_any_form() -> None:
    for given in (Practices(temperature="off"), {"temperature": "off"}):
        wire = dumpd(ChatKimi(api_key=KEY, practices=given))
        assert "not_implemented" not in str(wire)
        back = load(
            wire,
            allowed_objects=[ChatKimi],
            valid_namespaces=["refrase_integrations"],
            secrets_map={"MOONSHOT_API_KEY": KEY},
        )
        assert Practices.of(back.practices) == Practices(temperature="off")
        assert back.api_key.get_secret_value() == KEY


def test_a_key_without_a_variable_of_its_own_still_comes_back() -> None:
    wire = dumpd(ChatKimi(base_url="https://llm.example.com/v1", api_key=KEY, default_headers={"x-secret": KEY}))
    assert KEY not in str(wire)
    (variable,) = wire["kwargs"]["api_key"]["id"]
    back = load(
        wire, allowed_objects=[ChatKimi], valid_namespaces=["refrase_integrations"], secrets_map={variable: KEY}
    )
    assert (back.base_url, back.api_key.get_secret_value()) == ("https://llm.example.com/v1", KEY)
    assert variable not in ("MOONSHOT_API_KEY", "KIMI_API_KEY", "OPENAI_API_KEY")
