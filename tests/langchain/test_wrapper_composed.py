"""Wrapped models inside what LangChain builds of models: bindings on bindings, configurable fields, batches, choices."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import ConfigurableField
from pydantic import BaseModel

from refrase_integrations.langchain import ChatKimi, with_kimi_practices
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, ask
from tests.langchain.wrapped import chat_openai, wrapped

OPEN = "moonshotai/Kimi-K2-Instruct-0905"


class City(BaseModel):
    """A city."""

    name: str


def look(place: str) -> str:
    """Look at a place."""
    return place


def listen(place: str) -> str:
    """Listen at a place."""
    return place


@pytest.mark.parametrize("mode", MODES)
async def test_bindings_on_bindings_add_up_and_may_be_wrapped_again(mode: str) -> None:
    with KimiSimulator() as simulator:
        bound = wrapped(simulator).bind_tools([look]).bind(max_tokens=20_000).bind(seed=1)
        for model in (bound, with_kimi_practices(bound), with_kimi_practices(with_kimi_practices(bound))):
            await ask(mode, model, "Hello")
        first, *others = (request.body for request in simulator.requests)
    assert (first["max_completion_tokens"], first["seed"], first["tools"][0]["function"]["name"]) == (20_000, 1, "look")
    assert others == [first, first]


def test_the_last_tools_count() -> None:
    with KimiSimulator() as simulator:
        model = with_kimi_practices(chat_openai(simulator).bind_tools([look], tool_choice="look"), host="moonshot")
        model.bind_tools([listen]).invoke("Hello")
        assert [tool["function"]["name"] for tool in simulator.requests[0].body["tools"]] == ["listen"]


@pytest.mark.parametrize("mode", MODES)
async def test_fields_may_be_configured_by_the_run(mode: str) -> None:
    with KimiSimulator() as simulator:
        model = wrapped(simulator).configurable_fields(
            thinking=ConfigurableField(id="thinking"), practices=ConfigurableField(id="practices")
        )
        chosen = {"thinking": False, "practices": {"system_prompt": "off", "fresh_data": "off"}}
        await ask(mode, model.with_config(configurable=chosen), "Hello")
        await ask(mode, model, "Hello")
        bodies = [request.body for request in simulator.requests]
    assert [body["thinking"]["type"] for body in bodies] == ["disabled", "enabled"]
    assert [len(body["messages"]) for body in bodies] == [1, 2]


def test_models_may_be_chosen_by_the_run() -> None:
    with KimiSimulator() as simulator:
        other = wrapped(simulator, model="kimi-k2-thinking")
        model = wrapped(simulator).configurable_alternatives(ConfigurableField(id="model"), thinker=other)
        model.invoke("Hello", {"configurable": {"model": "thinker"}})
        model.invoke("Hello")
        assert [request.body["model"] for request in simulator.requests] == ["kimi-k2-thinking", "kimi-k2.6"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_one_failure_of_a_batch_stands_in_its_place(is_async: bool) -> None:
    def scripted(body: dict[str, Any]) -> Reply:
        said = body["messages"][-1]["content"]
        return Reply(status=401) if said == "b" else Reply(said)

    with KimiSimulator(script=scripted) as simulator:
        model = wrapped(simulator)
        if is_async:
            found = await model.abatch(["a", "b", "c"], return_exceptions=True)
        else:
            found = model.batch(["a", "b", "c"], return_exceptions=True)
    assert [getattr(one, "content", None) for one in found] == ["a", None, "c"]
    assert getattr(found[1], "status_code", None) == 401, "the inner model's own error"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("surface", ["wrapped", "ChatKimi"])
async def test_structured_output_of_a_chain_with_fallbacks(surface: str, mode: str) -> None:
    with KimiSimulator(script=[Reply(status=500), '{"name": "Rome"}']) as simulator:
        if surface == "ChatKimi":
            kimi = ChatKimi(host="moonshot", base_url=simulator.base_url, api_key="sk-test", max_retries=0)
            chain: Any = kimi.with_fallbacks([kimi])
        else:
            chain = with_kimi_practices(
                chat_openai(simulator).with_fallbacks([chat_openai(simulator)]), host="moonshot"
            )
        runnable = chain.with_structured_output(City)
        if mode in ("stream", "astream"):
            found = [part async for part in runnable.astream("A city?")][-1]
        else:
            found = await runnable.ainvoke("A city?") if mode == "ainvoke" else runnable.invoke("A city?")
        assert found == City(name="Rome")


@pytest.mark.parametrize("given", ["field", "call"])
async def test_several_replies_to_one_request(given: str) -> None:
    with KimiSimulator("vllm") as simulator:
        model = wrapped(simulator, model=OPEN, **({"n": 2} if given == "field" else {}))
        call = {"n": 2} if given == "call" else {}
        whole = model.generate([[HumanMessage("Hello")]], **call)
        later = await model.agenerate([[HumanMessage("Hello")]], **call)
        assert [len(one.generations[0]) for one in (whole, later)] == [2, 2]
        assert [request.body["n"] for request in simulator.requests] == [2, 2]
    told = [generation.message.usage_metadata is not None for generation in whole.generations[0]]
    assert told == [True, False], "the tokens of all, once"


@pytest.mark.parametrize("streams", [True, False])
async def test_a_task_that_is_cancelled_lets_the_connection_go(streams: bool) -> None:
    with KimiSimulator(script=[Reply("word " * 20_000, pause=0.01), "Yes."]) as simulator:
        model = wrapped(simulator)
        begun = asyncio.Event()

        async def reading() -> None:
            async for _ in model.astream("Hello"):
                begun.set()

        async def waiting() -> None:
            begun.set()
            await model.ainvoke("Hello", stream=True)

        task = asyncio.create_task(reading() if streams else waiting())
        await begun.wait()
        for _ in range(2_000):
            if simulator.requests:
                break
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gc.collect()
        for _ in range(2_000):
            if simulator.requests[0].disconnected:
                break
            await asyncio.sleep(0.005)
        assert simulator.requests[0].disconnected
        assert (await model.ainvoke("Hello")).text == "Yes."
