"""Moonshot's builtin ``$web_search`` in the agents of both frameworks: handed back inside the call, no tool node sees
it, and tools of the app work beside it."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.agent.workflow.workflow_events import ToolCallResult
from llama_index.core.tools import FunctionTool

from refrase_integrations.langchain import KimiMiddleware
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.llamaindex.exchanges import bodies
from tests.surfaces import build

SEARCH = {"type": "builtin_function", "function": {"name": "$web_search"}}
QUERY = '{"query": "population of Paris"}'
SCRIPT = [
    Reply("Let me search.", reasoning="I search.", tool_calls=[("$web_search", QUERY)]),
    Reply(reasoning="Now the sum.", tool_calls=[("double", {"number": 21})]),
    Reply("Let me see.", reasoning="Once more.", tool_calls=[("$web_search", QUERY)]),
    Reply("It is 42.", reasoning="Done."),
]
"""A search, a call of the app's own tool, another search, the answer: two turns of the agent's loop, four requests."""


def double(number: int) -> int:
    """Double a number."""
    return 2 * number


def check(simulator: KimiSimulator) -> None:
    """What reached the host: each search answered with its own arguments, in the same conversation that only grows."""
    assert simulator.refusals == []
    sent = bodies(simulator)
    assert len(sent) == 4
    assert all(SEARCH in body["tools"] for body in sent)
    assert [body["messages"][-1].get("name") for body in sent] == [None, "$web_search", "double", "$web_search"]
    answers = [sent[1]["messages"][-1], sent[3]["messages"][-1]]
    assert [answer["content"] for answer in answers] == [QUERY, QUERY]
    for body in sent:
        calls = [made for message in body["messages"] for made in message.get("tool_calls") or ()]
        results = [message for message in body["messages"] if message["role"] == "tool"]
        assert [result["tool_call_id"] for result in results] == [made["id"] for made in calls]
    assert "call $web_search before you answer" in sent[0]["messages"][0]["content"]


@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_a_langchain_agent(way: str, middleware: bool) -> None:
    with KimiSimulator(script=SCRIPT) as simulator:
        added = [KimiMiddleware()] if middleware else []
        agent: Any = create_agent(build("ChatKimi", simulator), [SEARCH, double], middleware=added)
        asked = {"messages": [("user", "Twice the population?")]}
        streamed = ""
        if way == "invoke":
            messages = agent.invoke(asked)["messages"]
        elif way == "ainvoke":
            messages = (await agent.ainvoke(asked))["messages"]
        else:
            modes = ["messages", "values"]
            parts = [*agent.stream(asked, stream_mode=modes)] if way == "stream" else []
            parts += [part async for part in agent.astream(asked, stream_mode=modes)] if way == "astream" else []
            messages = [part for kind, part in parts if kind == "values"][-1]["messages"]
            said = [part[0] for kind, part in parts if kind == "messages"]
            streamed = "".join(chunk.text for chunk in said if chunk.type == "AIMessageChunk")
        check(simulator)
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"], "no search in the state"
    assert [call["name"] for message in messages if message.type == "ai" for call in message.tool_calls] == ["double"]
    assert (messages[1].text, messages[-1].text) == ("Let me search.", "Let me see.\n\nIt is 42.")
    assert streamed in ("", "Let me search.Let me see.\n\nIt is 42.")


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_llamaindex_agent(streaming: bool) -> None:
    def never(query: str) -> str:
        raise AssertionError("the host runs it, never the app")

    # An agent takes no dicts: a tool of that name stands for the host's.
    search = FunctionTool.from_defaults(never, name="$web_search", description="Searches the web.")
    with KimiSimulator(script=SCRIPT) as simulator:
        agent = FunctionAgent(llm=build("Kimi", simulator), tools=[search, double], streaming=streaming)
        handler = agent.run("Twice the population?")
        results = [event async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
        answer = str(await handler)
        check(simulator)
    assert [result.tool_name for result in results] == ["double"]
    assert answer == "Let me see.\n\nIt is 42."
