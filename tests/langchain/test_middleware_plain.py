"""A plain ChatOpenAI on Moonshot's strict rules: with KimiMiddleware an agent runs, without it it ends on a 400."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from pydantic import BaseModel

from refrase_integrations.errors import RefraseError
from refrase_integrations.langchain import KimiMiddleware, with_kimi_practices
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES
from tests.langchain.agents import MODELS, chat_kimi, chat_openai, kinds, run, thinks

TURNS = 12
CITIES = ("Paris", "Tokyo")


class Weather(BaseModel):
    """Weather and time in a city."""

    city: str
    weather: str


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return f"It is sunny in {city}."


def get_time(city: str, zone: str | None = None) -> str:
    """Return the local time in a city."""
    return f"It is noon in {city}."


def scripted(body: dict[str, Any]) -> Reply:
    """Two parallel calls for a user turn, ids that count from 0 in every reply; then the answer, by a tool where asked."""
    messages = body["messages"]
    turn = sum(message["role"] == "user" for message in messages) - 1
    city = CITIES[turn % 2]
    if messages[-1]["role"] == "user":
        calls = [("get_weather", {"city": city}, "get_weather:0"), ("get_time", {"city": city}, "get_time:1")]
        return Reply(reasoning=f"I look both up for turn {turn}.", tool_calls=calls)
    if any(tool["function"]["name"] == "Weather" for tool in body["tools"]):
        return Reply(reasoning="Now the form.", tool_calls=[("Weather", {"city": city, "weather": f"turn {turn}"})])
    return Reply(reasoning=f"Both are there for turn {turn}.", content=f"Turn {turn}: sunny and noon in {city}.")


def agent_of(simulator: KimiSimulator, middleware: Any, name: str = "moonshot hybrid", **kwargs: Any) -> Any:
    return create_agent(chat_openai(simulator, name), [get_weather, get_time], middleware=middleware, **kwargs)


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
@pytest.mark.parametrize("form", [None, ToolStrategy(Weather)])
async def test_many_turns_through_a_checkpointer(form: Any, mode: str, tmp_path: Path) -> None:
    path = str(tmp_path / "thread.sqlite")
    thread = {"configurable": {"thread_id": "1"}}

    async def converse(saver: Any) -> dict[str, Any]:
        agent = agent_of(simulator, [KimiMiddleware("moonshot")], checkpointer=saver, response_format=form)
        state: dict[str, Any] = {}
        for turn in range(TURNS):
            state = await run(mode, agent, f"Turn {turn}, please.", thread)
            if form is not None:
                assert state["structured_response"] == Weather(city=CITIES[turn % 2], weather=f"turn {turn}")
        return state

    with KimiSimulator(script=scripted) as simulator:
        if mode == "invoke":
            with SqliteSaver.from_conn_string(path) as saver:
                state = await converse(saver)
        else:
            async with AsyncSqliteSaver.from_conn_string(path) as asaver:
                state = await converse(asaver)
        assert simulator.refusals == []
        bodies = [request.body for request in simulator.requests]
    assert len(bodies) == 2 * TURNS
    last = ["ai", "tool"] if form else ["ai"]
    assert kinds(state) == ["human", "ai", "tool", "tool", *last] * TURNS
    ids = [made["id"] for message in bodies[-1]["messages"] for made in message.get("tool_calls", ())]
    assert len(ids) == len(set(ids))
    for earlier, later in zip(bodies, bodies[1:], strict=False):  # so the cache hits
        assert later["messages"][: len(earlier["messages"])] == earlier["messages"]


REFUSED: dict[str, tuple[Any, list[Any], str]] = {
    "schema": (None, [get_weather, get_time], "not a valid moonshot flavored json schema"),
    "reasoning": (None, [get_weather], "reasoning_content is missing"),
    "forced choice": (ToolStrategy(Weather), [get_weather], "tool_choice 'required' is incompatible"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", REFUSED)
async def test_without_it_the_host_refuses(case: str, mode: str) -> None:
    form, tools, why = REFUSED[case]
    with KimiSimulator(script=scripted) as simulator:
        agent = create_agent(chat_openai(simulator), tools, response_format=form)
        with pytest.raises(openai.BadRequestError, match=why):
            await run(mode, agent, "Turn 0, please.")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MODELS)
async def test_every_model_in_every_mode(name: str, mode: str) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        made = scripted(body)
        return made if thinks(name) else Reply(made.content, tool_calls=made.tool_calls)

    host = MODELS[name][0]
    with KimiSimulator(host, script=answer) as simulator:
        agent = agent_of(simulator, [KimiMiddleware(host)], name, checkpointer=InMemorySaver())
        for turn in range(3):
            state = await run(mode, agent, f"Turn {turn}, please.", {"configurable": {"thread_id": "1"}})
            assert state["messages"][-1].text == f"Turn {turn}: sunny and noon in {CITIES[turn % 2]}."
        assert simulator.refusals == []
    assert state["refrase_report"]["host"] == host


@pytest.mark.parametrize("mode", ["stream", "astream"])
@pytest.mark.parametrize("leak", [0.0, 1.0])
async def test_streamed_tokens_come_once_and_leaked_calls_are_calls(leak: float, mode: str) -> None:
    with KimiSimulator("vllm", quirks={"leak_tool_calls": leak}) as simulator:
        agent = agent_of(simulator, [KimiMiddleware("vllm")], "vllm instruct")
        start = {"messages": [HumanMessage("What is the weather in Paris?")]}
        streamed, final = "", {}
        if mode == "stream":
            pairs = list(agent.stream(start, stream_mode=["messages", "values"]))
        else:
            pairs = [pair async for pair in agent.astream(start, stream_mode=["messages", "values"])]
        for kind, part in pairs:
            if kind == "values":
                final = part
            elif part[0].type == "AIMessageChunk":
                streamed += part[0].text
        assert simulator.refusals == []
    assert kinds(final) == ["human", "ai", "tool", "ai"]
    assert "<|" not in streamed
    assert streamed.count(final["messages"][-1].text) == 1


class TestWhichModel:
    async def test_what_is_bound_to_it_is_kept(self) -> None:
        """create_agent alone loses it."""
        with KimiSimulator("vllm", script=["Hello."] * 4) as simulator:
            bound = chat_openai(simulator, "vllm instruct").bind(seed=7, max_tokens=77)
            for middleware in ([], [KimiMiddleware("vllm")]):
                await run("invoke", create_agent(bound, [get_weather], middleware=middleware), "Hi.")
            bodies = [request.body for request in simulator.requests]
        assert ["seed" in body for body in bodies] == [False, True]
        assert bodies[1]["max_tokens"] == 77

    async def test_a_name_of_its_own_is_told(self) -> None:
        with KimiSimulator("vllm", script=["Hello."] * 2, strict=False) as simulator:
            model = chat_openai(simulator, model="our-deployment")
            middleware = KimiMiddleware("vllm", model_name="moonshotai/Kimi-K2-Instruct-0905")
            state = await run("invoke", create_agent(model, [], middleware=[middleware]), "Hi.")
            body = simulator.requests[0].body
        assert body["model"] == "our-deployment"
        assert body["temperature"] == 0.6
        assert state["refrase_report"]["host"] == "vllm"

    async def test_one_with_fallbacks(self) -> None:
        with KimiSimulator("vllm", script=lambda body: Reply(status=500)) as down, KimiSimulator(script=scripted) as up:
            model = chat_openai(down, "vllm instruct").with_fallbacks([chat_kimi(up)])
            agent = create_agent(model, [get_weather, get_time], middleware=[KimiMiddleware("moonshot")])
            state = await run("invoke", agent, "Turn 0, please.")
            assert up.refusals == []
        assert state["messages"][-1].text == "Turn 0: sunny and noon in Paris."

    async def test_one_that_already_has_the_practices_is_wrapped_once(self) -> None:
        bodies = []
        for wrapped in (False, True):
            with KimiSimulator(script=scripted) as simulator:
                model: Any = chat_openai(simulator)
                model = with_kimi_practices(model, host="moonshot") if wrapped else model
                agent = create_agent(model, [get_weather, get_time], middleware=[KimiMiddleware("moonshot")])
                await run("invoke", agent, "Turn 0, please.")
                bodies.append([request.body for request in simulator.requests])
        assert bodies[0] == bodies[1]

    async def test_a_host_that_cannot_be_told_is_an_error_that_says_what_to_do(self) -> None:
        from langchain_core.language_models.fake_chat_models import ParrotFakeChatModel

        agent = create_agent(ParrotFakeChatModel(), [], middleware=[KimiMiddleware(model_name="kimi-k2.6")])
        with pytest.raises(RefraseError, match="host"):
            await run("invoke", agent, "Hi.")
