"""Threads repaired for good: messages keep what they are, a stuck checkpoint goes on with any client."""

from __future__ import annotations

import operator
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    InvalidToolCall,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from openai import BadRequestError

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.langchain import ChatKimi, arepair_thread, repair_messages, repair_thread
from refrase_integrations.simulator import KimiSimulator, Reply

INSTRUCT = "kimi-k2-0905-preview"


def called(*ids: str, **fields: Any) -> AIMessage:
    calls = [{"name": "weather", "args": {"city": one}, "id": one} for one in ids]
    return AIMessage("", tool_calls=calls, **fields)


# -- messages --------------------------------------------------------------------------------------------


def test_untouched_messages_are_the_same_objects() -> None:
    pdf = {"type": "file", "base64": "JVBERi0=", "mime_type": "application/pdf"}
    messages: list[BaseMessage] = [
        SystemMessage("Be brief.", id="s"),
        HumanMessage([{"type": "text", "text": "What is this?"}, pdf], id="h"),
        AIMessage([{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "A page."}], id="a"),
        called("c1", id="b"),
        ToolMessage("sunny", tool_call_id="c1", id="t"),
        AIMessage("Sunny.", id="d"),
    ]
    repaired, changes = repair_messages(messages)
    assert changes == []
    assert all(new is old for new, old in zip(repaired, messages, strict=True))


def test_a_changed_message_keeps_id_and_metadata() -> None:
    first = called("same", id="m1", response_metadata={"refrase": {"host": "moonshot"}})
    second = called("same", id="m2", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3})
    messages = [first, ToolMessage("1", tool_call_id="same", id="t1"), second, ToolMessage("2", tool_call_id="same")]
    repaired, changes = repair_messages(messages)
    assert [change.detail for change in changes] == ["1 tool-call id(s) made unique"]
    assert repaired[:2] == messages[:2]
    assert repaired[0] is first
    renamed, answer = repaired[2], repaired[3]
    assert isinstance(renamed, AIMessage)
    assert isinstance(answer, ToolMessage)
    assert renamed.id == "m2"
    assert renamed.usage_metadata == second.usage_metadata
    assert renamed.tool_calls[0]["id"] == answer.tool_call_id != "same"
    assert renamed.tool_calls[0]["args"] == {"city": "same"}
    assert second.tool_calls[0]["id"] == "same", "the caller's message is not changed"


def test_broken_arguments_become_a_call_that_is_answered() -> None:
    broken = AIMessage(
        "",
        id="m",
        invalid_tool_calls=[InvalidToolCall(name="weather", args='{"city": "Pa', id="c", error="cut short")],
        additional_kwargs={"tool_calls": [{"id": "c"}], "other": 1},
    )
    repaired, changes = repair_messages([HumanMessage("Weather?"), broken])
    assert {change.kind for change in changes} == {"replace", "add"}
    mended, answer = repaired[1], repaired[2]
    assert isinstance(mended, AIMessage)
    assert mended.id == "m"
    assert mended.invalid_tool_calls == []
    assert mended.tool_calls[0]["args"] == {"unreadable_arguments": '{"city": "Pa'}
    assert mended.additional_kwargs["other"] == 1
    assert "tool_calls" not in mended.additional_kwargs
    assert isinstance(answer, ToolMessage)
    assert (answer.tool_call_id, answer.name, answer.status) == ("c", "weather", "error")
    assert "cut short" in str(answer.content)
    assert repair_messages(repaired)[1] == []


def test_blank_turns_go_and_reasoning_alone_says_nothing() -> None:
    messages = [
        HumanMessage("Hello"),
        AIMessage([{"type": "reasoning", "reasoning": "Hm."}]),
        AIMessage(""),
        HumanMessage([{"type": "text", "text": ""}]),
        HumanMessage([{"type": "text", "text": " "}, {"type": "text", "text": "Still there?"}], id="h"),
    ]
    repaired, changes = repair_messages(messages)
    assert [message.content for message in repaired] == ["Hello", [{"type": "text", "text": "Still there?"}]]
    assert repaired[1].id == "h"
    assert len(changes) == 4


# -- an agent that was killed ----------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


class Weather:
    """A tool that kills the run as long as ``deadly`` names the city."""

    def __init__(self) -> None:
        self.deadly = {"Paris"}
        self.last_wish: Callable[[], object] = lambda: None

    def weather(self, city: str) -> str:
        """Return the weather in a city."""
        if city in self.deadly:
            self.last_wish()
            raise Killed
        return f"It is sunny in {city}."


def agent(model: Any, tool: Weather, saver: Any, **options: Any) -> Any:
    return create_agent(model, [tool.weather], checkpointer=saver, **options)


def config(thread: str = "t") -> RunnableConfig:
    return {"configurable": {"thread_id": thread}}


CALL = Reply(tool_calls=[("weather", {"city": "Paris"})])


def generic(simulator: KimiSimulator) -> ChatOpenAI:
    return ChatOpenAI(model=INSTRUCT, base_url=simulator.base_url, api_key="sk-test", max_retries=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("saver", ["memory", "sqlite"])
def test_a_stuck_thread_goes_on(saver: str, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "threads.db", check_same_thread=False)
    checkpoints = InMemorySaver() if saver == "memory" else SqliteSaver(connection)
    with KimiSimulator(script=[CALL, "It is sunny.", "You are welcome."]) as simulator:
        graph = agent(generic(simulator), Weather(), checkpoints)
        with pytest.raises(Killed):
            graph.invoke({"messages": [("user", "Weather in Paris?")]}, config())
        for _ in range(2):  # stuck: each further turn is refused, whatever the user says
            with pytest.raises(BadRequestError, match="must be followed by tool messages"):
                graph.invoke({"messages": [("user", "Are you there?")]}, config())

        before = graph.get_state(config()).values["messages"]
        changes = repair_thread(graph, config())
        after = graph.get_state(config()).values["messages"]

        assert [change.kind for change in changes] == ["add"]
        assert [message.type for message in after] == ["human", "ai", "tool", "human", "human"]
        kept = [message for message in after if message.type != "tool"]
        assert [message.id for message in kept] == [message.id for message in before]
        assert kept == before
        assert repair_thread(graph, config()) == []

        result = graph.invoke({"messages": [("user", "Thank you.")]}, config())
        assert result["messages"][-1].text == "It is sunny."
        assert graph.invoke({"messages": [("user", "Bye.")]}, config())["messages"][-1].text == "You are welcome."
    connection.close()


async def test_the_async_twin_with_async_sqlite(tmp_path: Path) -> None:
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "threads.db")) as saver:
        async with KimiSimulator(script=[CALL, "It is sunny."]) as simulator:
            graph = agent(generic(simulator), Weather(), saver)
            with pytest.raises(Killed):
                await graph.ainvoke({"messages": [("user", "Weather in Paris?")]}, config())
            changes = await arepair_thread(graph, config())
            assert [change.kind for change in changes] == ["add"]
            assert await arepair_thread(graph, config()) == []
            result = await graph.ainvoke({"messages": [("user", "Well?")]}, config())
            assert result["messages"][-1].text == "It is sunny."


def test_a_broken_off_run_resumes_with_none() -> None:
    """The repaired state leads to the model, which sees that the tool was interrupted."""
    with KimiSimulator(script=[CALL, CALL, "It is sunny."]) as simulator:
        tool = Weather()
        graph = agent(generic(simulator), tool, InMemorySaver())
        with pytest.raises(Killed):
            graph.invoke({"messages": [("user", "Weather in Paris?")]}, config())
        assert repair_thread(graph, config())
        assert graph.get_state(config()).next == ("model",)
        tool.deadly.clear()
        result = graph.invoke(None, config())
        assert [message.type for message in result["messages"]] == ["human", "ai", "tool", "ai", "tool", "ai"]
        assert result["messages"][-2].content == "It is sunny in Paris."


def test_the_result_of_a_finished_parallel_tool_is_kept() -> None:
    both = Reply(tool_calls=[("weather", {"city": "Rome"}), ("weather", {"city": "Paris"})])
    with KimiSimulator(script=[both, "Done."]) as simulator:
        tool = Weather()
        graph = agent(generic(simulator), tool, InMemorySaver())

        def stored() -> bool:
            return any(message.type == "tool" for message in graph.get_state(config()).values["messages"])

        # The run dies only when the other tool's result is on record: which comes first is else left to the threads.
        tool.last_wish = lambda: next(number for number in range(1_000) if stored() or time.sleep(0.01))
        with pytest.raises(Killed):
            graph.invoke({"messages": [("user", "Weather in Rome and Paris?")]}, config())
        finished = graph.get_state(config()).values["messages"]
        assert [message.content for message in finished if message.type == "tool"] == ["It is sunny in Rome."]
        assert len(repair_thread(graph, config())) == 1
        results = [m for m in graph.get_state(config()).values["messages"] if m.type == "tool"]
        assert [result.status for result in results] == ["success", "error"]
        assert results[0].content == "It is sunny in Rome."
        assert graph.invoke({"messages": [("user", "Well?")]}, config())["messages"][-1].text == "Done."


def test_a_thread_that_waits_for_a_human_is_left_alone() -> None:
    with KimiSimulator(script=[CALL]) as simulator:
        asks = HumanInTheLoopMiddleware(interrupt_on={"weather": True})
        graph = agent(generic(simulator), Weather(), InMemorySaver(), middleware=[asks])
        graph.invoke({"messages": [("user", "Weather in Paris?")]}, config())
        before = graph.get_state(config())
        with pytest.raises(ConfigurationError, match="resume"):
            repair_thread(graph, config())
        assert graph.get_state(config()).config == before.config


def test_chatkimi_is_not_stuck_in_the_first_place() -> None:
    with KimiSimulator(script=[CALL, "It is sunny."]) as simulator:
        model = ChatKimi(model=INSTRUCT, host="moonshot", base_url=simulator.base_url, api_key="sk-test")
        graph = agent(model, Weather(), InMemorySaver())
        with pytest.raises(Killed):
            graph.invoke({"messages": [("user", "Weather in Paris?")]}, config())
        result = graph.invoke({"messages": [("user", "Well?")]}, config())
        assert result["messages"][-1].text == "It is sunny."
        assert simulator.refusals == []


# -- updates of the state --------------------------------------------------------------------------------


class Chat(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


class Plain(TypedDict):
    messages: list[AnyMessage]


class Growing(TypedDict):
    messages: Annotated[list[AnyMessage], operator.add]


class Renamed(TypedDict):
    dialogue: Annotated[list[AnyMessage], add_messages]


def holding(state: type, messages: list[AnyMessage], key: str = "messages") -> Any:
    """Return a graph whose thread holds these messages."""
    graph = StateGraph(state)
    graph.add_node("wait", lambda _state: {})
    graph.add_edge(START, "wait")
    compiled = graph.compile(checkpointer=InMemorySaver())
    compiled.invoke({key: messages}, config())
    return compiled


MIDDLE = [HumanMessage("Hi", id="1"), called("c", id="2"), HumanMessage("?", id="3"), AIMessage("Yes.", id="4")]


@pytest.mark.parametrize("state", [Chat, Plain])
def test_what_is_missing_in_the_middle_is_put_there(state: type) -> None:
    graph = holding(state, [*MIDDLE])
    assert repair_thread(graph, config())
    after = graph.get_state(config()).values["messages"]
    assert [message.type for message in after] == ["human", "ai", "tool", "human", "ai"]
    assert [message.id for message in after if message.type != "tool"] == ["1", "2", "3", "4"]
    assert not any(isinstance(message, RemoveMessage) for message in after)
    assert repair_thread(graph, config()) == []


def test_the_update_is_the_least_that_does() -> None:
    """Without anything to put in the middle, only the messages concerned are written."""
    orphan = [HumanMessage("Hi", id="1"), ToolMessage("?", tool_call_id="x", id="2"), AIMessage("Yes.", id="3")]
    graph = holding(Chat, [*orphan])
    written: list[Any] = []
    update_state = graph.update_state
    graph.update_state = lambda where, values, **options: (
        written.append(values),
        update_state(where, values, **options),
    )
    assert repair_thread(graph, config())
    assert written == [{"messages": [RemoveMessage(id="2")]}]
    assert [message.id for message in graph.get_state(config()).values["messages"]] == ["1", "3"]


def test_another_key() -> None:
    graph = holding(Renamed, [*MIDDLE], "dialogue")
    with pytest.raises(ConfigurationError, match="messages_key"):
        repair_thread(graph, config())
    assert repair_thread(graph, config(), "dialogue")
    assert len(graph.get_state(config()).values["dialogue"]) == 5


def test_a_reducer_that_only_adds_is_refused_before_anything_is_written() -> None:
    graph = holding(Growing, [*MIDDLE])
    before = graph.get_state(config())
    with pytest.raises(ConfigurationError, match="add_messages"):
        repair_thread(graph, config())
    assert graph.get_state(config()).config == before.config


def test_a_sound_or_unknown_thread_is_not_written() -> None:
    graph = holding(Chat, [HumanMessage("Hi"), AIMessage("Hello.")])
    before = len(list(graph.get_state_history(config())))
    assert repair_thread(graph, config()) == []
    assert len(list(graph.get_state_history(config()))) == before
    assert repair_thread(graph, config("nobody")) == []
    assert list(graph.get_state_history(config("nobody"))) == []
