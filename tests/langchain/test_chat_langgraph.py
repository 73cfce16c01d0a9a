"""ChatKimi inside LangGraph: what a checkpointer keeps, the thread's cache key, agents with structured answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, ask
from tests.langchain.graphs import thread, turn, user

ODD = '{"city":"Paris"}'
"""Arguments without the space that Python's JSON writer puts."""


class Weather(BaseModel):
    """Weather report."""

    city: str
    degrees: int


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return f"It is 21 degrees in {city}."


def chat(simulator: KimiSimulator, **fields: Any) -> ChatKimi:
    return ChatKimi(
        **{
            "model": "kimi-k2.6",
            "host": simulator.host.persona.id,
            "base_url": simulator.base_url,
            "api_key": "sk-test",
            **fields,
        }
    )


def calls_then_tells(body: dict[str, Any]) -> Reply:
    asked = body["messages"][-1]["role"] == "user"
    if asked:
        return Reply(reasoning="I look.", tool_calls=[("get_weather", ODD, "get_weather:0")])
    return Reply(reasoning="There it is.", content="Sunny.")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("saver", ["memory", "sqlite"])
async def test_reasoning_and_bytes_survive_a_checkpointer(mode: str, saver: str, tmp_path: Path) -> None:
    path = str(tmp_path / "threads.sqlite")
    with KimiSimulator(script=calls_then_tells) as simulator:
        if saver == "memory":
            agent: Any = create_agent(chat(simulator), tools=[get_weather], checkpointer=InMemorySaver())
            for _ in range(3):
                await turn(mode, agent, user("Weather?"), thread("t"))
        elif mode in ("invoke", "stream"):
            for _ in range(3):  # a new connection each time: everything comes from the file
                with SqliteSaver.from_conn_string(path) as sqlite:
                    agent = create_agent(chat(simulator), tools=[get_weather], checkpointer=sqlite)
                    await turn(mode, agent, user("Weather?"), thread("t"))
        else:
            for _ in range(3):
                async with AsyncSqliteSaver.from_conn_string(path) as asqlite:
                    agent = create_agent(chat(simulator), tools=[get_weather], checkpointer=asqlite)
                    await turn(mode, agent, user("Weather?"), thread("t"))
        assert simulator.refusals == []
        bodies = [request.body for request in simulator.requests]
    assert len(bodies) == 6
    for earlier, later in zip(bodies, bodies[1:], strict=False):
        assert later["messages"][: len(earlier["messages"])] == earlier["messages"]
    told = [message for message in bodies[-1]["messages"] if message.get("tool_calls")]
    assert [message["reasoning_content"] for message in told] == ["I look."] * 3
    assert [message["tool_calls"][0]["function"]["arguments"] for message in told] == [ODD] * 3


@pytest.mark.parametrize("mode", MODES)
async def test_the_thread_names_the_prompt_cache(mode: str) -> None:
    with KimiSimulator(script=lambda body: "Yes.") as simulator:
        agent: Any = create_agent(chat(simulator), checkpointer=InMemorySaver())
        for name in ("ada@example.com", "ada@example.com", "bob"):
            await turn(mode, agent, user("Hi."), thread(name))
        keys = [request.body.get("prompt_cache_key") for request in simulator.requests]
    assert keys[0] == keys[1] != keys[2]
    assert all(isinstance(key, str) and key for key in keys)
    assert not any("ada" in key for key in keys if key)


@pytest.mark.parametrize("mode", MODES)
async def test_a_plain_graph_streams_each_token_once(mode: str) -> None:
    text = "one two three four five six seven"
    with KimiSimulator(script=lambda body: Reply(text, reasoning="Hm, hm, hm.")) as simulator:
        model = chat(simulator)
        sync: Callable[[MessagesState], Any] = {
            "invoke": lambda state: {"messages": [model.invoke(state["messages"])]},
            "stream": lambda state: {"messages": [sum_of(list(model.stream(state["messages"])))]},
        }.get(mode) or (lambda state: {})

        async def node(state: MessagesState) -> Any:
            if mode == "ainvoke":
                return {"messages": [await model.ainvoke(state["messages"])]}
            if mode == "astream":
                return {"messages": [sum_of([part async for part in model.astream(state["messages"])])]}
            return sync(state)

        graph = StateGraph(MessagesState)
        if mode in ("invoke", "stream"):
            graph.add_node("model", sync)
        else:
            graph.add_node("model", node)
        graph.add_edge(START, "model")
        compiled: Any = graph.compile()
        if mode in ("invoke", "stream"):
            parts = [part for part, _ in compiled.stream(user("Count."), stream_mode="messages")]
        else:
            parts = [part async for part, _ in compiled.astream(user("Count."), stream_mode="messages")]
    chunks = [part for part in parts if part.type == "AIMessageChunk"]
    assert "".join(part.text for part in chunks) == text
    assert "".join(part.additional_kwargs.get("reasoning_content", "") for part in chunks) == "Hm, hm, hm."
    assert len(chunks) > 4


def sum_of(chunks: list[Any]) -> Any:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return whole


TARGETS = [
    ("moonshot", "kimi-k2-0905-preview", None),
    ("moonshot", "kimi-k2-thinking", None),
    ("moonshot", "kimi-k2.6", True),
    ("moonshot", "kimi-k2.6", False),
    ("moonshot", "kimi-k3", None),
    ("vllm", "moonshotai/Kimi-K2-Instruct-0905", None),
    ("vllm", "moonshotai/Kimi-K2-Thinking", None),
]


def works_then_answers(body: dict[str, Any]) -> Reply:
    """Look the weather up first; then answer in the form asked for, where one is forced only once asked again."""
    tools = {tool["function"]["name"] for tool in body.get("tools", ())}
    results = [message for message in body["messages"] if message["role"] == "tool"]
    reasoning = "Hm." if "thinking" in body["model"].lower() or "k2.6" in body["model"] else None
    if body["model"] == "kimi-k2.6" and (body.get("thinking") or {}).get("type") == "disabled":
        reasoning = None
    if not results:
        return Reply(reasoning=reasoning, tool_calls=[("get_weather", {"city": "Paris"})])
    fits = '{"city": "Paris", "degrees": 21}'
    if body.get("response_format"):
        return Reply(fits, reasoning=reasoning)
    last = body["messages"][-1]
    if "Weather" in tools and (last["role"] == "user" or body["tool_choice"] == "required"):
        return Reply(reasoning=reasoning, tool_calls=[("Weather", fits)])
    return Reply("It is 21 degrees.", reasoning=reasoning)


@pytest.mark.parametrize("mode", ["invoke", "astream"])
@pytest.mark.parametrize("form", [Weather, ToolStrategy(Weather), ProviderStrategy(Weather)])
@pytest.mark.parametrize(("persona", "model", "thinking"), TARGETS)
async def test_an_agent_that_works_first_ends_with_a_structured_response(
    mode: str, form: Any, persona: str, model: str, thinking: bool | None
) -> None:
    with KimiSimulator(persona, script=works_then_answers) as simulator:
        agent: Any = create_agent(
            chat(simulator, model=model, thinking=thinking), tools=[get_weather], response_format=form
        )
        state = await turn(mode, agent, user("Weather in Paris?"), {"recursion_limit": 8})
        assert simulator.refusals == []
        assert len(simulator.requests) <= 3
    assert state["structured_response"] == Weather(city="Paris", degrees=21)
    assert next(message.name for message in state["messages"] if message.type == "tool") == "get_weather"


@pytest.mark.parametrize("mode", MODES)
async def test_bound_settings_reach_the_request_of_a_chain_and_its_thread_too(mode: str) -> None:
    with KimiSimulator(script=lambda body: "Yes.") as simulator:
        bound = chat(simulator).bind(thinking=False, max_tokens=77)
        chain = ChatPromptTemplate.from_messages([("user", "{question}")]) | bound | StrOutputParser()
        await ask(mode, chain, {"question": "Hi."}, config=thread("t"))
        body = simulator.requests[0].body
    assert (body["thinking"], body["max_completion_tokens"]) == ({"type": "disabled"}, 77)
    assert body["prompt_cache_key"]


def test_the_summarization_middleware_reads_the_profile_and_counts_with_the_model() -> None:
    with KimiSimulator(script=lambda body: Reply("In short.")) as simulator:
        model = chat(simulator)
        middleware = SummarizationMiddleware(model, trigger=("fraction", 0.005), keep=("messages", 1))
        agent: Any = create_agent(model, middleware=[middleware])
        long = [HumanMessage("Tell me. " * 400), AIMessage("Well. " * 400), HumanMessage("And now?")]
        state = agent.invoke({"messages": long})
        assert simulator.refusals == []
        assert len(simulator.requests) == 2  # the summary, then the answer
    assert "In short." in state["messages"][0].text
    assert state["messages"][-1].text == "In short."


def test_threads_and_several_event_loops_share_a_model() -> None:
    with KimiSimulator(script=lambda body: body["messages"][-1]["content"]) as simulator:
        model = chat(simulator)

        def work(number: int) -> list[str]:
            async def both() -> list[str]:
                replies = await asyncio.gather(*(model.ainvoke(f"{number}-{part}") for part in range(3)))
                return [reply.text for reply in replies]

            return [*asyncio.run(both()), *asyncio.run(both()), model.invoke(f"{number}").text]

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(work, range(8)))
    for number, texts in enumerate(results):
        assert texts == [*[f"{number}-{part}" for part in range(3)] * 2, f"{number}"]
