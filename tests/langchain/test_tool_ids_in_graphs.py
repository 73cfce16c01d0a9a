"""Ids of tool calls in graphs: one call, one id, as long as the thread lives; native and in order on the wire.

The host is self-hosted K2: it numbers the calls of each reply by itself, so that branches and turns get the same ids, and
its model copies a foreign id that it sees in the history (vllm#50768): then its next call leaks as text.
"""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage, trim_messages
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES
from tests.langchain.graphs import thread, turn, user

MODEL = "moonshotai/Kimi-K2-Instruct-0905"
SAME = "functions.get_weather:0"


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return f"Sunny in {city}."


def looks_then_tells(body: dict[str, Any]) -> Reply:
    """Call twice in one reply, with an id that every reply has; then tell."""
    if body["messages"][-1]["role"] == "user":
        return Reply("", tool_calls=[("get_weather", {"city": "Paris"}, SAME), ("get_weather", {"city": "Rome"})])
    return Reply("Sunny in both.")


def kimi(simulator: KimiSimulator) -> ChatKimi:
    return ChatKimi(model=MODEL, host="vllm", base_url=simulator.base_url, api_key="sk-test")


def running(script: Any = looks_then_tells) -> KimiSimulator:
    return KimiSimulator("vllm", script=script, quirks={"foreign_id_leak": True, "duplicate_ids": True})


def made(messages: list[BaseMessage]) -> list[str]:
    return [call["id"] for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]


def answered(messages: list[BaseMessage]) -> list[str]:
    return [message.tool_call_id for message in messages if isinstance(message, ToolMessage)]


def assert_native(simulator: KimiSimulator) -> None:
    """Every request names its calls by position, and answers each of them."""
    assert simulator.refusals == []
    for request in simulator.requests:
        messages = request.body["messages"]
        calls = [call for message in messages for call in message.get("tool_calls") or ()]
        assert [call["id"] for call in calls] == [f"functions.get_weather:{place}" for place in range(len(calls))]
        assert [m["tool_call_id"] for m in messages if m["role"] == "tool"] == [call["id"] for call in calls]


def agent(simulator: KimiSimulator, **fields: Any) -> Any:
    return create_agent(kimi(simulator), tools=[get_weather], **fields)


@pytest.mark.parametrize("mode", MODES)
async def test_under_a_checkpointer_they_stay(mode: str) -> None:
    with running() as simulator:
        graph = agent(simulator, checkpointer=InMemorySaver())
        seen: list[str] = []
        for _ in range(3):
            messages = (await turn(mode, graph, user("Weather?"), thread("t")))["messages"]
            assert made(messages)[: len(seen)] == seen, "an id never changes once it was given"
            seen = made(messages)
            assert answered(messages) == seen
        assert len(set(seen)) == 6
        assert_native(simulator)
        for earlier, later in zip(simulator.requests, simulator.requests[1:], strict=False):
            assert later.body["messages"][: len(earlier.body["messages"])] == earlier.body["messages"]


def test_a_fork_of_a_thread_shares_the_ids_of_its_past(tmp_path: Path) -> None:
    """Two futures of one checkpoint: what both have in common is the same, what came later is each one's own."""
    with running() as simulator, SqliteSaver.from_conn_string(str(tmp_path / "threads.sqlite")) as saver:
        graph = agent(simulator, checkpointer=saver)
        graph.invoke(user("Weather?"), thread("t"))
        past = graph.get_state(thread("t")).config
        first = graph.invoke(user("And tomorrow?"), past)["messages"]
        second = graph.invoke(user("And tomorrow?"), past)["messages"]
        assert made(first)[:2] == made(second)[:2]
        assert len({*made(first), *made(second)}) == 6
        assert_native(simulator)


@pytest.mark.parametrize("mode", MODES)
async def test_where_the_model_sees_only_the_last_messages(mode: str) -> None:
    """Trimming cuts whole turns off the front: the wire counts anew, the app's ids stay."""
    with running() as simulator:
        model = kimi(simulator).bind_tools([get_weather])

        def recent(state: MessagesState) -> list[BaseMessage]:
            cut: Any = trim_messages(
                state["messages"],
                strategy="last",
                token_counter=len,
                max_tokens=5,
                start_on="human",
                allow_partial=False,
            )
            return cut

        async def ask(state: MessagesState) -> Any:
            return {"messages": [await model.ainvoke(recent(state))]}

        sync = mode in ("invoke", "stream")
        builder = StateGraph(MessagesState)
        builder.add_node("model", (lambda state: {"messages": [model.invoke(recent(state))]}) if sync else ask)
        builder.add_node("tools", ToolNode([get_weather]))
        builder.add_edge(START, "model").add_conditional_edges("model", tools_condition).add_edge("tools", "model")
        graph = builder.compile(checkpointer=InMemorySaver())
        for _ in range(3):
            messages = (await turn(mode, graph, user("Weather?"), thread("t")))["messages"]
        assert answered(messages) == made(messages)
        assert len(set(made(messages))) == 6
        assert_native(simulator)
        assert len(simulator.requests[-1].body["messages"]) <= 6


class Branches(TypedDict):
    messages: Annotated[list[AnyMessage], operator.add]


@pytest.mark.parametrize("mode", MODES)
async def test_of_branches_that_run_beside_each_other(mode: str) -> None:
    """The host gives both the same ids, at the same place of the same conversation."""
    with running() as simulator:
        model = kimi(simulator).bind_tools([get_weather])

        async def ask(state: Branches) -> Any:
            return {"messages": [await model.ainvoke(state["messages"])]}

        sync = mode in ("invoke", "stream")
        node: Any = (lambda state: {"messages": [model.invoke(state["messages"])]}) if sync else ask
        builder = StateGraph(Branches)
        for name in ("north", "south"):
            builder.add_node(name, node).add_edge(START, name).add_edge(name, END)
        state = await turn(mode, builder.compile(), {"messages": [HumanMessage("Weather?")]})
        branches = [message for message in state["messages"] if isinstance(message, AIMessage)]
        assert len(branches) == 2
        assert len(set(made(branches))) == 4

        # Both go on in one thread: each answer finds its own call.
        results = [ToolMessage(f"for {call}", tool_call_id=call) for call in made(branches)]
        thread_ = [HumanMessage("Weather?"), branches[0], *results[:2], branches[1], *results[2:], HumanMessage("So?")]
        await model.ainvoke(thread_)
        assert_native(simulator)
        last = simulator.requests[-1].body["messages"]
        assert [m["content"] for m in last if m["role"] == "tool"] == [result.content for result in results]


@pytest.mark.parametrize("mode", MODES)
async def test_of_a_subgraph_whose_messages_the_parent_takes_over(mode: str) -> None:
    with running() as simulator:
        inner = agent(simulator)
        builder = StateGraph(MessagesState)
        builder.add_node("inner", inner).add_node("again", agent(simulator))
        builder.add_node("asked", lambda state: {"messages": [HumanMessage("And tomorrow?")]})
        builder.add_edge(START, "inner").add_edge("inner", "asked").add_edge("asked", "again").add_edge("again", END)
        graph = builder.compile(checkpointer=InMemorySaver())
        first = (await turn(mode, graph, user("Weather?"), thread("t")))["messages"]
        second = (await turn(mode, graph, user("And next week?"), thread("t")))["messages"]
        assert made(second)[: len(made(first))] == made(first)
        assert len(set(made(second))) == len(made(second)) == 8
        assert answered(second) == made(second)
        assert_native(simulator)
