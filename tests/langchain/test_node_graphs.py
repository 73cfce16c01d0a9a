"""RefraseNode in the life of a graph: interrupts, time travel, trimming, subgraphs, parallel nodes, streams, many threads."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    trim_messages,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph, add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, Send, interrupt

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.langchain import ChatKimi, KimiMiddleware, RefraseNode
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES
from tests.langchain.graphs import DEFAULT, plain, prompts, said, thread, turn, user


def echo(body: dict[str, Any]) -> Reply:
    return Reply(f"Yes to {body['messages'][-1]['content']}")


def caller(model: Any, key: str = "messages") -> Any:
    return lambda state: {key: [model.invoke(state[key])]}


def line(*nodes: tuple[str, Any], schema: Any = MessagesState, **options: Any) -> Any:
    """Build a graph of nodes that follow one another."""
    builder = StateGraph(schema)
    for before, (name, node) in zip([START, *(name for name, _ in nodes)], nodes, strict=False):
        builder.add_node(name, node)
        builder.add_edge(before, name)
    return builder.compile(**options)


def kinds(state: Any) -> list[str]:
    return [message.type for message in state["messages"]]


def grows(sent: list[list[dict[str, Any]]]) -> bool:
    return all(later[: len(earlier)] == earlier for earlier, later in zip(sent, sent[1:], strict=False))


# -- interrupts and time travel --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
async def test_an_interrupt_behind_the_node_is_resumed(mode: str) -> None:
    def ask(state: Any) -> Any:
        return {"messages": [HumanMessage(interrupt("Which city?"))]}

    with KimiSimulator(script=echo) as simulator:
        steps = [
            ("refrase", RefraseNode()),
            ("ask", ask),
            ("again", RefraseNode()),
            ("model", caller(plain(simulator))),
        ]
        app = line(*steps, checkpointer=InMemorySaver())
        for number in range(2):
            await turn(mode, app, user(f"Weather {number}?"), thread("t"))
            state = await turn(mode, app, Command(resume="Paris"), thread("t"))
        sent = prompts(simulator)
    assert kinds(state) == ["system", *["human", "human", "ai"] * 2]
    assert grows(sent)
    assert [one["content"] for one in sent[0]] == [DEFAULT, "Weather 0?", "Paris"]


@pytest.mark.parametrize("where", ["interrupt_before", "interrupt_after"])
def test_a_break_at_the_node_is_gone_on_from(where: str) -> None:
    with KimiSimulator(script=echo) as simulator:
        steps = [("refrase", RefraseNode()), ("model", caller(plain(simulator)))]
        app = line(*steps, checkpointer=InMemorySaver(), **{where: ["refrase"]})
        for number in range(2):
            app.invoke(user(f"Hi {number}."), thread("t"))
            app.update_state(thread("t"), {"messages": [HumanMessage("By the way.")]})
            state = app.invoke(None, thread("t"))
    assert kinds(state) == ["system", *["human", "human", "ai"] * 2]


def test_an_earlier_state_is_gone_on_from() -> None:
    with KimiSimulator(script=echo) as simulator:
        steps = [("refrase", RefraseNode()), ("model", caller(plain(simulator)))]
        app = line(*steps, checkpointer=InMemorySaver())
        for number in range(3):
            app.invoke(user(f"Hi {number}."), thread("t"))
        history = list(app.get_state_history(thread("t")))
        assert all(kinds(old.values).count("system") <= 1 for old in history)
        for old in history:
            if old.next == ("__start__",):
                continue
            again = app.invoke(None, old.config)  # replays what came after, on a branch of its own
            assert kinds(again)[0] == "system"
            assert kinds(again).count("system") == 1
            assert len({message.id for message in again["messages"]}) == len(again["messages"])
        first = next(old for old in history if kinds(old.values) == ["system", "human", "ai"])
        branch = app.invoke(user("Another way."), first.config)
    assert said(branch["messages"]) == [
        ("system", DEFAULT),
        ("human", "Hi 0."),
        ("ai", "Yes to Hi 0."),
        ("human", "Another way."),
        ("ai", "Yes to Another way."),
    ]


# -- a prompt that joins later ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tools", [None, []])
async def test_the_default_leaves_the_state_where_the_apps_own_prompt_comes(mode: str, tools: Any) -> None:
    with KimiSimulator(script=echo) as simulator:
        steps = [("refrase", RefraseNode(tools=tools)), ("model", caller(plain(simulator)))]
        app = line(*steps, checkpointer=InMemorySaver())
        await turn(mode, app, user("Hi."), thread("t"))
        await turn(mode, app, {"messages": [SystemMessage("You are a lawyer."), HumanMessage("And?")]}, thread("t"))
        state = await turn(mode, app, user("So?"), thread("t"))
        assert simulator.refusals == []
        first, *later = prompts(simulator)
    assert first[0]["content"].startswith(DEFAULT)
    assert grows(later)
    assert all(DEFAULT not in str(messages) for messages in later)
    assert [text for _, text in said(state["messages"])][-6:] == [
        "Yes to Hi.",
        "You are a lawyer.",
        "And?",
        "Yes to And?",
        "So?",
        "Yes to So?",
    ]
    ids = [message.id for message in state["messages"]]
    assert ("refrase-system" in ids) is (tools == []), "with known tools the line on live data stays in front"
    assert len(set(ids)) == len(ids)


# -- nodes that remove messages --------------------------------------------------------------------------


def test_a_removed_system_message_comes_back_in_front() -> None:
    def forget(state: Any) -> Any:
        return {"messages": [RemoveMessage(id=message.id) for message in state["messages"][:2]]}

    with KimiSimulator(script=echo) as simulator:
        steps = [("refrase", RefraseNode()), ("model", caller(plain(simulator))), ("forget", forget)]
        app = line(*steps, checkpointer=InMemorySaver())
        for number in range(3):
            state = app.invoke(user(f"Hi {number}."), thread("t"))
        assert simulator.refusals == []
        sent = prompts(simulator)
    assert [[one["role"] for one in messages] for messages in sent] == [
        ["system", "user"],
        ["system", "assistant", "user"],
        ["system", "user", "assistant", "user"],
    ]
    assert kinds(state) == ["human", "ai"] or kinds(state)[0] != "system"


@pytest.mark.parametrize("keeps_system", [True, False])
def test_a_trimming_node_before_it(keeps_system: bool) -> None:
    def trim(state: Any) -> Any:
        kept = trim_messages(
            state["messages"], max_tokens=4, token_counter=len, include_system=keeps_system, start_on="human"
        )
        ids = {message.id for message in kept}
        return {"messages": [RemoveMessage(id=one.id) for one in state["messages"] if one.id not in ids]}

    with KimiSimulator(script=echo) as simulator:
        steps = [("trim", trim), ("refrase", RefraseNode()), ("model", caller(plain(simulator)))]
        app = line(*steps, checkpointer=InMemorySaver())
        for number in range(6):
            state = app.invoke(user(f"Hi {number}."), thread("t"))
        assert simulator.refusals == []
        sent = prompts(simulator)
    assert all([one["role"] for one in messages].count("system") == 1 for messages in sent)
    assert all(messages[0]["content"] == DEFAULT for messages in sent)
    assert kinds(state)[0] == "system"
    assert said(state["messages"])[-2:] == [("human", "Hi 5."), ("ai", "Yes to Hi 5.")]


def last_three(left: Any, right: Any) -> Any:
    merged: Any = add_messages(left, right)
    return merged[:1] + merged[1:][-3:]


class Short(TypedDict):
    messages: Annotated[list[AnyMessage], last_three]


def test_a_reducer_that_trims_is_left_its_way() -> None:
    with KimiSimulator(script=echo) as simulator:
        steps = [("refrase", RefraseNode()), ("model", caller(plain(simulator)))]
        app = line(*steps, schema=Short, checkpointer=InMemorySaver())
        for number in range(4):
            state = app.invoke(user(f"Hi {number}."), thread("t"))
    assert kinds(state) == ["system", "ai", "human", "ai"]


# -- subgraphs, Send, parallel nodes ---------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("own_memory", [None, True])
async def test_in_a_subgraph_its_message_is_first_for_the_model_in_every_turn(mode: str, own_memory: Any) -> None:
    """The parent appends the message behind what it has: mid-conversation there, once, and first again inside."""
    with KimiSimulator(script=echo) as simulator:
        inner = line(("refrase", RefraseNode()), ("model", caller(plain(simulator))), checkpointer=own_memory)
        app = line(("inner", inner), checkpointer=InMemorySaver())
        for number in range(4):
            state = await turn(mode, app, user(f"Hi {number}."), thread("t"))
        assert simulator.refusals == []
        sent = prompts(simulator)
    assert grows(sent)
    assert [[one["role"] for one in messages] for messages in sent][-1] == [
        "system",
        *["user", "assistant"] * 3,
        "user",
    ]
    assert kinds(state).count("system") == 1
    assert [pair for pair in said(state["messages"]) if pair[0] != "system"] == [
        pair for n in range(4) for pair in (("human", f"Hi {n}."), ("ai", f"Yes to Hi {n}."))
    ]


def test_nodes_in_parent_and_subgraph_share_one_message() -> None:
    with KimiSimulator(script=echo) as simulator:
        inner = line(("refrase", RefraseNode()), ("model", caller(plain(simulator))))
        app = line(("refrase", RefraseNode()), ("inner", inner), checkpointer=InMemorySaver())
        for number in range(3):
            state = app.invoke(user(f"Hi {number}."), thread("t"))
        assert grows(prompts(simulator))
    assert kinds(state) == ["system", *["human", "ai"] * 3]


@pytest.mark.parametrize("mode", MODES)
async def test_many_workers_each_with_a_node_in_a_subgraph(mode: str) -> None:
    class Job(TypedDict):
        messages: Annotated[list[AnyMessage], add_messages]
        answers: Annotated[list[str], lambda left, right: left + right]

    class Worker(TypedDict):
        answers: Annotated[list[str], lambda left, right: left + right]

    with KimiSimulator(script=echo) as simulator:
        model = plain(simulator)
        worker = StateGraph(Job, output_schema=Worker)
        worker.add_node("refrase", RefraseNode())
        worker.add_node("model", lambda state: {"answers": [model.invoke(state["messages"]).text]})
        worker.add_edge(START, "refrase")
        worker.add_edge("refrase", "model")
        builder = StateGraph(Job)
        builder.add_node("worker", worker.compile())
        cities = ["Paris", "Rome", "Oslo", "Kyiv"]
        builder.add_conditional_edges(
            START, lambda state: [Send("worker", {"messages": [HumanMessage(city)]}) for city in cities], ["worker"]
        )
        state = await turn(mode, builder.compile(), user("Go."))
        sent = prompts(simulator)
    assert sorted(state["answers"]) == sorted(f"Yes to {city}" for city in cities)
    assert kinds(state) == ["human"]
    assert all([one["role"] for one in messages] == ["system", "user"] for messages in sent)


def test_messages_of_ones_own_by_send_are_refused_where_they_would_overwrite_the_graphs() -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("refrase", RefraseNode())
    builder.add_conditional_edges(START, lambda state: [Send("refrase", user("Other."))], ["refrase"])
    with pytest.raises(ConfigurationError, match="came by Send"):
        builder.compile().invoke({"messages": [HumanMessage("Mine."), AIMessage("Well.")]})


def beside(node: Any, name: str, **options: Any) -> Any:
    """Build a graph in which ``name`` writes a message in the same step as the node."""
    builder = StateGraph(MessagesState)
    builder.add_node("refrase", node)
    builder.add_node(name, lambda state: {"messages": [AIMessage("Written beside.")]})
    builder.add_edge(START, "refrase")
    builder.add_edge(START, name)
    return builder.compile(**options)


@pytest.mark.parametrize("name", ["a-node", "z-node"])  # LangGraph applies writes of one step in the order of names
def test_a_parallel_node_loses_nothing_where_the_system_message_is_first_already(name: str) -> None:
    app = beside(RefraseNode(tools=[]), name)  # its line changes the system message, by id
    given = [SystemMessage("You review code."), HumanMessage("Hi.")]
    messages = app.invoke({"messages": given})["messages"]
    assert sorted(message.type for message in messages) == ["ai", "human", "system"]
    assert "Freshness rule:" in messages[0].text


@pytest.mark.parametrize(("name", "kept"), [("a-node", False), ("z-node", True)])
def test_a_parallel_node_can_lose_its_message_where_one_has_to_be_put_in_front(name: str, kept: bool) -> None:
    """As the manual says; there the node belongs into a step of its own, or writes a key of its own."""
    messages = beside(RefraseNode(), name).invoke(user("Hi."))["messages"]
    assert [message.type for message in messages] == ["system", "human", *(["ai"] if kept else [])]


@pytest.mark.parametrize("shape", ["before ChatKimi", "before an agent with the middleware", "in a subgraph", "twice"])
def test_over_many_turns_the_state_grows_by_what_was_said_and_ids_stay(shape: str) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    with KimiSimulator(script=echo) as simulator:
        node = RefraseNode(tools=[add], practices={"grounding": "apply"})
        model: Any = plain(simulator)
        behind: Any = caller(model)
        if shape == "before ChatKimi":
            behind = caller(ChatKimi(host="moonshot", base_url=simulator.base_url, api_key="sk-test"))
        elif shape == "before an agent with the middleware":
            behind = create_agent(model, [add], middleware=[KimiMiddleware("moonshot")])
        steps = [("refrase", node), *([("again", node)] if shape == "twice" else []), ("model", behind)]
        saver = InMemorySaver()
        app = line(*steps, checkpointer=saver)
        if shape == "in a subgraph":
            app = line(("inner", line(*steps)), checkpointer=saver)
        ids: list[str | None] = []
        for number in range(40):
            state = app.invoke(user(f"Hi {number}."), thread("t"))
            now = [message.id for message in state["messages"]]
            assert now[: len(ids)] == ids
            assert len(set(now)) == len(now) == 2 * number + 3
            ids = now
        assert simulator.refusals == []
        sent = prompts(simulator)
    assert grows(sent)
    assert sent[-1][0]["content"].count("rule:") == 2


# -- streams ---------------------------------------------------------------------------------------------


class Told(MessagesState):
    refrase_report: dict[str, Any]


async def parts_of(mode: str, app: Any, given: Any, config: Any, **how: Any) -> list[Any]:
    if mode == "stream":
        return list(app.stream(given, config, **how))
    return [part async for part in app.astream(given, config, **how)]


@pytest.mark.parametrize("mode", ["stream", "astream"])
@pytest.mark.parametrize("output_key", [None, "llm_input_messages"])
async def test_the_stream_of_messages_shows_the_models_tokens_and_no_prompt(mode: str, output_key: str | None) -> None:
    class State(MessagesState):
        llm_input_messages: list[AnyMessage]

    reads = output_key or "messages"
    with KimiSimulator(script=lambda body: "one two three four") as simulator:
        model = plain(simulator)

        def answer(state: Any) -> Any:
            return {"messages": [model.invoke(state[reads])]}

        app = line(("refrase", RefraseNode(output_key=output_key)), ("model", answer), schema=State)
        for name in ("refrase", "RefraseNode"):
            if name != "refrase":
                app = line((name, RefraseNode(output_key=output_key)), ("model", answer), schema=State)
            parts = await parts_of(mode, app, user("Count."), None, stream_mode="messages")
            assert {meta["langgraph_node"] for _, meta in parts} == {"model"}
            assert "".join(chunk.text for chunk, _ in parts) == "one two three four"


@pytest.mark.parametrize("mode", ["stream", "astream"])
async def test_the_other_streams(mode: str) -> None:
    def work(state: Any) -> Any:
        get_stream_writer()({"progress": 1})
        return {"messages": [AIMessage("Done.", id="a")]}

    app = line(("refrase", RefraseNode()), ("work", work), schema=Told, checkpointer=InMemorySaver())
    [update, _] = await parts_of(mode, app, user("Hi."), thread("t"), stream_mode="updates")
    written = update["refrase"]["messages"]
    assert [type(message) for message in written] == [RemoveMessage, SystemMessage, HumanMessage]
    assert update["refrase"]["refrase_report"]["changes"][0]["practice"] == "system-prompt"
    [update, _] = await parts_of(mode, app, user("Again."), thread("t"), stream_mode="updates")
    assert set(update["refrase"]) == {"refrase_report"}
    values = await parts_of(mode, app, user("Hi."), thread("u"), stream_mode="values")
    assert [kinds(state) for state in values] == [["human"], ["system", "human"], ["system", "human", "ai"]]
    assert await parts_of(mode, app, user("Hi."), thread("v"), stream_mode="custom") == [{"progress": 1}]
    several = await parts_of(mode, app, user("Hi."), thread("w"), stream_mode=["custom", "updates", "values", "debug"])
    assert {name for name, _ in several} == {"custom", "updates", "values", "debug"}


async def test_events_name_the_node() -> None:
    app = line(("refrase", RefraseNode()), ("work", lambda state: {"messages": [AIMessage("Done.")]}))
    events = [event async for event in app.astream_events(user("Hi."), version="v2")]
    [end] = [event for event in events if event["event"] == "on_chain_end" and event["name"] == "refrase"]
    assert end["metadata"]["langgraph_node"] == "refrase"


# -- many threads ----------------------------------------------------------------------------------------

THREADS, TURNS = 50, 20


def look_up(code: str) -> str:
    """Look up a code."""
    return f"Found {code}."


def works(body: dict[str, Any]) -> Reply:
    """Call the tool for a user turn; then repeat what the tool found."""
    last = body["messages"][-1]
    if last["role"] == "user":
        return Reply(tool_calls=[("look_up", {"code": last["content"]})])
    return Reply(f"Told {last['content']}")


def agent(simulator: KimiSimulator, checkpointer: Any) -> Any:
    model = plain(simulator).bind_tools([look_up])

    def call(state: Any) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    async def acall(state: Any) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(Told)
    builder.add_node("refrase", RefraseNode(tools=[look_up]))
    builder.add_node("model", acall if isinstance(checkpointer, AsyncSqliteSaver) else call)
    builder.add_node("tools", ToolNode([look_up]))
    builder.add_edge(START, "refrase")
    builder.add_edge("refrase", "model")
    builder.add_conditional_edges("model", tools_condition, {"tools": "tools", END: END})
    builder.add_edge("tools", "refrase")
    return builder.compile(checkpointer=checkpointer)


def verify(simulator: KimiSimulator, states: list[Any], turns: int) -> None:
    assert simulator.refusals == []
    assert len(simulator.requests) == 2 * turns * len(states)
    for name, state in enumerate(states):
        messages = state.values["messages"]
        assert messages[0].id == "refrase-system"
        assert len({message.id for message in messages}) == len(messages)
        wanted: list[tuple[str, str]] = []
        for number in range(turns):
            code = f"{name}-{number}"
            wanted += [("human", code), ("ai", ""), ("tool", f"Found {code}."), ("ai", f"Told Found {code}.")]
        assert said(messages[1:]) == wanted
        for asked, answer in zip(messages[2::4], messages[3::4], strict=True):
            assert isinstance(answer, ToolMessage)
            assert [call["id"] for call in asked.tool_calls] == [answer.tool_call_id]
    per_thread: dict[str, list[list[dict[str, Any]]]] = {}
    for sent in prompts(simulator):
        per_thread.setdefault(sent[1]["content"].split("-")[0], []).append(sent)
    assert len(per_thread) == len(states)
    assert all(grows(sent) and len(sent) == 2 * turns for sent in per_thread.values())


def connect(path: Path) -> sqlite3.Connection:
    """Open a database that does not wait for the disk at every step: 5,000 waits would be most of the test's time."""
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


@pytest.mark.slow
def test_fifty_threads_of_twenty_turns_over_one_sqlite_file(tmp_path: Path) -> None:
    with KimiSimulator(script=works) as simulator, closing(connect(tmp_path / "t.sqlite")) as connection:
        app = agent(simulator, SqliteSaver(connection))

        def talk(name: int) -> Any:
            for number in range(TURNS):
                app.invoke(user(f"{name}-{number}"), thread(str(name)))
            return app.get_state(thread(str(name)))

        with ThreadPoolExecutor(THREADS) as pool:
            states = list(pool.map(talk, range(THREADS)))
        verify(simulator, states, TURNS)


async def test_ten_threads_on_one_event_loop(tmp_path: Path) -> None:
    path = str(tmp_path / "t.sqlite")
    with KimiSimulator(script=works) as simulator:
        async with AsyncSqliteSaver.from_conn_string(path) as saver:
            app = agent(simulator, saver)

            async def talk(name: int) -> Any:
                for number in range(4):
                    await app.ainvoke(user(f"{name}-{number}"), thread(str(name)))
                return await app.aget_state(thread(str(name)))

            states = await asyncio.gather(*(talk(name) for name in range(10)))
        verify(simulator, list(states), 4)
