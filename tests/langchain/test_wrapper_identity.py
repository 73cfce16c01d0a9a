"""What a wrapped model is: whose settings it has, what wrapping twice changes, how it is copied, cached and saved."""

from __future__ import annotations

import asyncio
import gc
import re
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import RunnableBinding, RunnableWithFallbacks
from langchain_openai import AzureChatOpenAI, ChatOpenAI

from refrase_integrations import Practices
from refrase_integrations.errors import ConfigurationError
from refrase_integrations.langchain import ChatKimi, with_kimi_practices
from refrase_integrations.langchain.wrapped import WrappedChatModel
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, ask
from tests.langchain.wrapped import Remembering, Streaming, chat_openai, wrapped

MOONSHOT = "https://api.moonshot.ai/v1"


def openai(**fields: Any) -> ChatOpenAI:
    return ChatOpenAI(**{"model": "kimi-k2.6", "base_url": MOONSHOT, "api_key": "sk-secret", **fields})


def fake(inner: BaseChatModel, **fields: Any) -> Any:
    return with_kimi_practices(inner, **{"model_name": "kimi-k2-0905-preview", "host": "moonshot", **fields})


def report(reply: AIMessage) -> dict[str, Any]:
    return dict(reply.response_metadata["refrase"])


# -- model and host --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ({}, "moonshot"),
        ({"base_url": "https://api.moonshot.cn/v1"}, "moonshot-cn"),
        ({"base_url": "https://openrouter.ai/api/v1", "model": "moonshotai/kimi-k2.6"}, "openrouter"),
        ({"base_url": "https://api.together.xyz/v1", "model": "moonshotai/Kimi-K2.6"}, "together"),
        ({"base_url": "http://localhost:8000/v1", "model": "moonshotai/Kimi-K2.6"}, "generic"),
    ],
)
def test_model_and_host_are_read_from_the_inner_model(fields: dict[str, Any], host: str) -> None:
    model = with_kimi_practices(openai(**fields))
    dialect, _ = model._dialect(model._settings(None, {}))
    assert (dialect.model.id, dialect.host.id) == ("kimi-k2.6", host)


def test_a_deployment_may_name_the_model() -> None:
    azure = AzureChatOpenAI(
        azure_deployment="Kimi-K2.6", azure_endpoint="https://x.openai.azure.com", api_version="2024-10-21", api_key="k"
    )
    model = with_kimi_practices(azure)
    dialect, _ = model._dialect(model._settings(None, {}))
    assert (dialect.model.id, dialect.host.id) == ("kimi-k2.6", "azure")


def test_the_address_in_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", MOONSHOT)
    model = with_kimi_practices(ChatOpenAI(model="kimi-k2.6", api_key="sk-test"))
    assert model._dialect(model._settings(None, {}))[0].host.id == "moonshot"


@pytest.mark.parametrize(
    ("model", "arguments", "words"),
    [
        (FakeListChatModel(responses=["a"]), {}, "does not tell its model.*model_name='kimi-k2.6'"),
        (FakeListChatModel(responses=["a"]), {"model_name": "kimi-k2.6"}, "does not tell where it sends.*host="),
        (ChatOpenAI(model="kimi-k2.6", api_key="k"), {}, "api.openai.com, which serves no Kimi model.*host="),
        (openai(), {"host": "mooonshot"}, "Unknown host 'mooonshot'. Did you mean 'moonshot'"),
        (openai(), {"practices": {"temprature": "off"}}, "unknown practice 'temprature'"),
        (openai() | StrOutputParser(), {}, "takes a chat model, not RunnableSequence.*Wrap the model first"),
        ("kimi-k2.6", {}, "takes a chat model, not str"),
    ],
)
def test_what_is_missing_is_said_before_any_request(model: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"(?s){words}"):
        with_kimi_practices(model, **arguments)


async def test_a_name_of_the_users_own_is_sent_as_it_is() -> None:
    with KimiSimulator("vllm", strict=False) as simulator:
        model = with_kimi_practices(chat_openai(simulator, model="our-kimi"), "kimi-k2-0905-preview", "vllm")
        reply = model.invoke("Hello")
        model.invoke("Hello", model="moonshotai/Kimi-K2-Thinking")
        assert [request.body["model"] for request in simulator.requests] == ["our-kimi", "moonshotai/Kimi-K2-Thinking"]
        assert [request.body["temperature"] for request in simulator.requests] == [0.6, 1.0]
    assert report(reply)["model"] == "moonshotai/Kimi-K2-Instruct-0905"


@pytest.mark.parametrize("name", ["host", "base_url", "api_key"])
def test_the_host_cannot_change_per_call(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} cannot change per call; wrap another model"):
        with_kimi_practices(openai()).invoke("Hello", **{name: "x"})


# -- a model that only remembers ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
async def test_messages_that_no_practice_touches_stay_the_users_objects(mode: str) -> None:
    inner = Streaming()
    history = [
        SystemMessage("You are terse.", id="s"),
        HumanMessage("Weather?", additional_kwargs={"mine": 1}),
        AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "call_1", "type": "tool_call"}]),
        ToolMessage("Sunny.", tool_call_id="call_1", artifact={"big": 1}, status="error", id="t"),
        AIMessage("  "),
        HumanMessage("And tomorrow <|im_end|>?"),
    ]
    before = [message.model_copy(deep=True) for message in history]
    await ask(mode, fake(inner, practices={"fresh_data": "off"}), history)
    [call] = inner.calls
    assert [any(sent is mine for mine in history) for sent in call["messages"]] == [True, True, False, False, False]
    assert call["messages"][2].tool_calls == history[2].tool_calls  # type: ignore[attr-defined]
    assert call["messages"][3] == history[3].model_copy(
        update={"name": "look"}
    )  # the name is what Kimi's template shows
    assert call["messages"][4].content == "And tomorrow <~|im_end|>?"
    assert history == before
    assert (call["temperature"], call["stop"]) == (0.6, None)


@pytest.mark.parametrize("mode", MODES)
async def test_reasoning_that_comes_through_is_kept_and_goes_back(mode: str) -> None:
    said = AIMessage("Yes.", additional_kwargs={"reasoning_content": "Hm."})
    chunks = [AIMessageChunk("", additional_kwargs={"reasoning_content": part}) for part in ("H", "m.")]
    inner = Streaming(replies=[said], chunks=[*chunks, AIMessageChunk("Yes.")])
    model = fake(inner, model_name="kimi-k2-thinking")
    reply = await ask(mode, model, "Hello")
    assert (reply.text, reply.additional_kwargs["reasoning_content"]) == ("Yes.", "Hm.")
    assert [line["practice"] for line in report(reply)["healed"]] == []
    await ask(mode, model, ["Hello", reply, "And?"])
    assert inner.calls[-1]["messages"][2] is reply


async def test_content_blocks_of_any_protocol_are_read() -> None:
    blocks: list[str | dict[str, Any]] = [
        {"type": "reasoning", "reasoning": "A"},
        {"type": "reasoning_content", "reasoning_content": {"text": "B", "signature": "s"}},
        "Yes",
        {"type": "text", "text": "."},
        {"type": "tool_use", "id": "c", "name": "find", "input": {}},
    ]
    calls: Any = [{"name": "find", "args": {"a": "é"}, "id": "c", "type": "tool_call"}]
    broken: Any = [{"name": "find", "args": '{"a": 1', "id": "d", "error": "cut", "type": "invalid_tool_call"}]
    said = AIMessage(blocks, tool_calls=calls, invalid_tool_calls=broken, response_metadata={"stopReason": "tool_use"})
    inner = Remembering(replies=[said])
    tool = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}
    reply = fake(inner, model_name="kimi-k2-thinking").bind_tools([tool]).invoke("Hello")
    assert (reply.text, reply.additional_kwargs["reasoning_content"]) == ("Yes.", "AB")
    assert reply.tool_calls[0]["args"] == {"a": "é"}
    assert len(reply.tool_calls) + len(reply.invalid_tool_calls) == 2
    assert reply.response_metadata["finish_reason"] == "tool_calls"
    assert inner.calls[0]["tools"][0]["function"]["name"] == "find"


async def test_usage_in_parts_adds_up() -> None:
    parts: Any = [
        {"input_tokens": 7, "output_tokens": 0, "total_tokens": 7, "input_token_details": {"cache_read": 3}},
        {"input_tokens": 0, "output_tokens": 5, "total_tokens": 5, "output_token_details": {"reasoning": 2}},
    ]
    inner = Streaming(chunks=[AIMessageChunk("a", usage_metadata=usage) for usage in parts])
    reply = await ask("stream", fake(inner), "Hello")
    assert reply.usage_metadata == {
        "input_tokens": 7,
        "output_tokens": 5,
        "total_tokens": 12,
        "input_token_details": {"cache_read": 3},
        "output_token_details": {"reasoning": 2},
    }


def test_what_the_inner_model_does_not_take_is_said() -> None:
    inner = Remembering()
    reply = fake(inner, model_name="kimi-k2.6").invoke("Hello", extra_body={"top_k": 3}, service_tier="flex")
    [line] = [line for line in report(reply)["changes"] if line["practice"] == "wrapper"]
    assert re.search(
        r"Remembering does not take thinking, top_k \(fields of the request\): not sent. ChatKimi", line["detail"]
    )
    assert inner.calls[0]["service_tier"] == "flex"
    assert inner.calls[0]["max_tokens"] == 32_768


class Warm(Remembering):
    """Has a temperature of its own, as many classes have; a call may override it."""

    temperature: float | None = 0.7

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        return super()._generate(messages, stop, run_manager, **{"temperature": self.temperature, **kwargs})


@pytest.mark.parametrize(("model", "sent"), [("kimi-k2-0905-preview", 0.6), ("kimi-k2.6", None)])
def test_a_default_of_the_inner_class_does_not_leak_out(model: str, sent: float | None) -> None:
    """F2: the host fixes the temperature of newer models and refuses 0.7."""
    inner = Warm()
    fake(inner, model_name=model).invoke("Hello")
    assert inner.calls[0]["temperature"] == sent
    assert inner.temperature == 0.7


class Chained(Remembering):
    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self | StrOutputParser()


def test_tools_that_cannot_be_sent_are_an_error() -> None:
    with pytest.raises(ConfigurationError, match="bind_tools of Chained gives no chat model"):
        fake(Chained()).bind_tools([{"name": "look", "description": "Look.", "parameters": {}}]).invoke("Hello")


# -- wrapping what is wrapped already --------------------------------------------------------------------


async def test_wrapping_twice_changes_nothing_twice() -> None:
    with KimiSimulator() as simulator:
        once = wrapped(simulator)
        assert with_kimi_practices(once) is once
        nested = WrappedChatModel(inner=once, host="moonshot")
        for model in (once, nested):
            model.invoke([("user", "Hi <|im_end|>")], temperature=0.2)
        one, two = (request.body for request in simulator.requests)
        assert one == two


def test_practices_are_laid_over_those_that_are_there() -> None:
    once = with_kimi_practices(openai(), practices={"system_prompt": "off", "vision": "warn"})
    twice = with_kimi_practices(once, practices={"vision": "off"})
    assert twice.practices == Practices(system_prompt="off", vision="off")
    assert once.practices == Practices(system_prompt="off", vision="warn")
    assert with_kimi_practices(twice, host="vllm").host == "vllm"


def test_chat_kimi_stays_what_it_is() -> None:
    kimi = ChatKimi(api_key="sk-test", temperature=0.3)
    assert with_kimi_practices(kimi) is kimi
    quiet = with_kimi_practices(kimi, practices="off")
    assert (type(quiet), quiet.practices, kimi.practices) == (ChatKimi, Practices(everything="off"), None)
    assert (quiet.temperature, quiet.api_key) == (0.3, kimi.api_key)


def test_chat_kimi_says_itself_what_it_is() -> None:
    kimi = ChatKimi(api_key="sk-test", model="kimi-k2.6")
    assert with_kimi_practices(kimi, "kimi-k2.6", "moonshot") is kimi  # nothing that would be ignored
    for arguments, words in (
        ({"model_name": "kimi-k3"}, r"ChatKimi has its own model, 'kimi-k2.6': set ChatKimi\(model=\.\.\.\)"),
        ({"host": "vllm"}, r"ChatKimi sends to its own host, 'moonshot': set ChatKimi\(host=\.\.\., base_url=\.\.\.\)"),
        ({"host": "nowhere"}, "Unknown host 'nowhere'"),
        ({"thinking": "auto"}, r"set ChatKimi\(thinking='auto'\)"),
    ):
        for one in (kimi, kimi.bind(seed=1), kimi.with_retry()):
            with pytest.raises(ConfigurationError, match=words):
                with_kimi_practices(one, **arguments)  # type: ignore[arg-type]


def test_among_fallbacks_the_names_are_for_those_that_do_not_tell() -> None:
    kimi = ChatKimi(api_key="sk-test", model="kimi-k3")
    chain = kimi.with_fallbacks([Remembering(), fake(Remembering(), host="vllm")])
    model: Any = with_kimi_practices(chain, "kimi-k2.6", "moonshot", thinking=False)
    assert [(type(one), one.model_name, one.host, one.thinking) for one in model.runnables] == [
        (ChatKimi, "kimi-k3", None, None),
        (WrappedChatModel, "kimi-k2.6", "moonshot", False),
        (WrappedChatModel, "kimi-k2-0905-preview", "vllm", None),
    ]


async def test_a_binding_is_taken_apart() -> None:
    def look(place: str) -> str:
        """Look at a place."""
        return place

    with KimiSimulator("vllm") as simulator:
        inner = chat_openai(simulator, model="moonshotai/Kimi-K2-Instruct-0905")
        binding = inner.bind_tools([look], tool_choice="look").bind(max_tokens=77, seed=1)
        model = with_kimi_practices(binding, host="vllm")
        assert isinstance(model, WrappedChatModel)
        model.invoke("Hello")
        model.invoke("Hello", max_tokens=88, tool_choice="none")
        first, second = (request.body for request in simulator.requests)
    assert (first["max_tokens"], first["seed"], first["tools"][0]["function"]["name"]) == (77, 1, "look")
    assert first["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert (second["max_tokens"], second["seed"], second["tool_choice"]) == (88, 1, "none")


async def test_a_configured_binding_stays_around() -> None:
    model = with_kimi_practices(openai().bind(seed=1).with_config(tags=["mine"]))
    assert isinstance(model, RunnableBinding)
    assert model.config["tags"] == ["mine"]
    assert isinstance(model.bound, WrappedChatModel)
    retried = with_kimi_practices(openai().with_retry(stop_after_attempt=2))
    assert type(retried).__name__ == "RunnableRetry"
    assert isinstance(retried.bound, WrappedChatModel)


async def test_fallbacks_are_wrapped_one_by_one() -> None:
    with KimiSimulator(script=[]) as broken, KimiSimulator("vllm") as good:
        broken.stop()
        other = ChatOpenAI(model="gpt-5", api_key="k")
        chain = chat_openai(broken).with_fallbacks([other, chat_openai(good, model="kimi-k2.6"), ChatKimi(api_key="k")])
        practices = {"system_prompt": "off", "fresh_data": "off"}
        model = with_kimi_practices(chain, host="moonshot", practices=practices)
        assert isinstance(model, RunnableWithFallbacks)
        assert [type(one) for one in model.runnables] == [WrappedChatModel, ChatOpenAI, WrappedChatModel, ChatKimi]
        assert [getattr(one, "host", None) for one in model.runnables] == ["moonshot", None, None, None]
        assert model.fallbacks[2].practices == Practices.of(practices)  # type: ignore[attr-defined]
        rest = model.model_copy(update={"fallbacks": model.fallbacks[1:]})
        for mode in MODES:
            assert (await ask(mode, rest, "Say exactly: hi")).text
        assert "system" not in [message["role"] for message in good.requests[0].body["messages"]]


# -- what LangChain does around a call ------------------------------------------------------------------


class Counting(BaseRateLimiter):
    def __init__(self) -> None:
        self.taken = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        self.taken += 1
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return self.acquire()


class Events(BaseCallbackHandler):
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.tokens: list[str] = []
        self.params: list[Any] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self.seen.append("start")
        self.params.append(kwargs["metadata"])

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.tokens.append(token)

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        self.seen.append("end")


@pytest.mark.parametrize("mode", MODES)
async def test_limiter_and_callbacks_are_the_inner_models_and_act_once(mode: str) -> None:
    limiter, events = Counting(), Events()
    with KimiSimulator(script=["One two three four five six seven."] * 2, chunk_size=4) as simulator:
        model = wrapped(simulator, rate_limiter=limiter, callbacks=[events], tags=["mine"], temperature=0.2)
        reply = await ask(mode, model, "Hello")
    assert limiter.taken == 1
    assert events.seen == ["start", "end"]
    assert "".join(events.tokens) == ("" if mode in ("invoke", "ainvoke") else reply.text)
    traced = {name: value for name, value in events.params[0].items() if name.startswith("ls_")}
    assert (traced["ls_provider"], traced["ls_model_name"], traced["ls_temperature"]) == ("openai", "kimi-k2.6", 0.2)


async def test_the_cache_is_the_inner_models_and_knows_the_practices() -> None:
    cache = InMemoryCache()
    with KimiSimulator() as simulator:
        for practices in (None, None, {"system_prompt": "off"}):
            wrapped(simulator, cache=cache, practices=practices).invoke("Hello")
        assert len(simulator.requests) == 2
        wrapped(simulator, cache=cache, model="kimi-k2.7-code").invoke("Hello")
        assert len(simulator.requests) == 3
        model = wrapped(simulator, cache=cache)
        model.invoke("Hello")
        model.model_copy(update={"practices": {"system_prompt": "off", "vision": "warn"}}).invoke("Hello")
        assert len(simulator.requests) == 4
    inner = Remembering(cache=cache)
    for one in (inner, inner, Remembering(cache=cache, replies=[AIMessage("No.")])):
        fake(one).invoke("Hello")
    assert len(inner.calls) == 1


@pytest.mark.parametrize(
    ("fields", "streams"), [({}, True), ({"disable_streaming": True}, False), ({"streaming": False}, False)]
)
async def test_streaming_is_off_where_the_inner_models_is(fields: dict[str, Any], streams: bool) -> None:
    with KimiSimulator() as simulator:
        list(wrapped(simulator, **fields).stream("Hello"))
        assert simulator.requests[0].body["stream"] is streams


async def test_a_model_that_streams_by_itself() -> None:
    with KimiSimulator() as simulator:
        reply = wrapped(simulator, streaming=True).invoke("Hello")
        assert simulator.requests[0].body["stream"] is True
    assert reply.text


async def test_a_model_that_cannot_stream_hands_out_the_whole() -> None:
    model = fake(Remembering())
    assert "".join([chunk.text for chunk in model.stream("Hello")]) == "Yes."
    assert "".join([chunk.text async for chunk in model.astream("Hello")]) == "Yes."
    spoken = fake(GenericFakeChatModel(messages=iter([AIMessage("one two three")])))
    assert [chunk.text for chunk in spoken.stream("Hello") if chunk.text] == ["one", " ", "two", " ", "three"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_stream_that_is_left_lets_the_connection_go(is_async: bool) -> None:
    with KimiSimulator(script=[Reply(content="word " * 2_000, pause=0.001)]) as simulator:
        model = wrapped(simulator)
        if is_async:
            stream = model.astream("Hello")
            async for _ in stream:
                break
            await stream.aclose()
        else:
            for _ in model.stream("Hello"):
                break
        gc.collect()
        [request] = simulator.requests
        for _ in range(2_000):
            if request.disconnected:
                break
            await asyncio.sleep(0.005)
        assert request.disconnected


async def test_batches() -> None:
    with KimiSimulator() as simulator:
        model = wrapped(simulator)
        said = model.batch(["Say exactly: a", "Say exactly: b"])
        assert [reply.text for reply in said] == ["a", "b"]
        assert [reply.text for reply in await model.abatch(["Say exactly: c"])] == ["c"]


def test_profile_and_name() -> None:
    model = with_kimi_practices(openai())
    assert (model.model, model.model_name) == ("kimi-k2.6", "kimi-k2.6")
    assert model.profile["max_input_tokens"] == 262_144
    assert model.profile["structured_output"] is True


# -- what stays untouched --------------------------------------------------------------------------------


def test_the_inner_model_stays_as_it_was() -> None:
    with KimiSimulator() as simulator:
        inner = chat_openai(
            simulator, temperature=0.2, max_tokens=50, extra_body={"top_k": 3}, model_kwargs={"seed": 1}
        )
        before = inner.model_copy(deep=False)
        with_kimi_practices(inner, host="moonshot").invoke("Hello")
        assert inner == before
        [request] = simulator.requests
        assert request.body["seed"] == 1
        assert request.body["top_k"] == 3
        assert "temperature" not in request.body
