"""KimiMiddleware in deepagents: its real prompts and tools, subagents in parallel, sync and async."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from langgraph.checkpoint.memory import InMemorySaver

from refrase_integrations.kimi.practices.loop_guard import MARKER
from refrase_integrations.kimi.tools import lint_tools
from refrase_integrations.langchain import KimiMiddleware
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES
from tests.langchain.agents import MODELS, SURFACES, chat_kimi, chat_openai, run, texts, thinks

create_deep_agent = pytest.importorskip("deepagents", reason="needs newer releases than the lowest").create_deep_agent

TASK = "Write down who lives in Paris and in Lyon."


def get_population(city: str) -> str:
    """Return how many people live in a city."""
    return {"Paris": "2048472", "Lyon": "519127"}[city]


def clerk(name: str) -> Any:
    """Looks around, hands two cities to two subagents at once, writes a file and answers; a subagent looks its city up."""
    reasoning = "Step by step." if thinks(name) else None

    def answer(body: dict[str, Any]) -> Reply:
        asked = next(message["content"] for message in body["messages"] if message["role"] == "user")
        done = [message.get("name") for message in body["messages"] if message["role"] == "tool"]
        results = [message["content"] for message in body["messages"] if message["role"] == "tool"]
        if asked != TASK:
            call = ("get_population", {"city": asked.rpartition(" ")[2]})
            return Reply(results[-1], reasoning=reasoning) if done else Reply(reasoning=reasoning, tool_calls=[call])
        if not done:
            listing = next(
                tool["function"]["name"] for tool in body["tools"] if tool["function"]["name"].startswith("ls")
            )
            return Reply(reasoning=reasoning, tool_calls=[(listing, {"path": "/"})])
        if "task" not in done:
            tasks = [
                ("task", {"description": f"Count {city}", "subagent_type": "counter"}) for city in ("Paris", "Lyon")
            ]
            return Reply(reasoning=reasoning, tool_calls=tasks)
        if "write_file" not in done:
            written = {"file_path": "/cities.txt", "content": ", ".join(results[-2:])}
            return Reply(reasoning=reasoning, tool_calls=[("write_file", written)])
        return Reply("Both stand in /cities.txt.", reasoning=reasoning)

    return answer


def deep_agent(model: Any, tools: Any = (), *, host: str = "moonshot", guarded: bool = True, **kwargs: Any) -> Any:
    ours = [KimiMiddleware(host)] if guarded else []
    counter = {
        "name": "counter",
        "description": "Counts the people of one city.",
        "system_prompt": "Count the people of the city.",
        "tools": [get_population],
        "middleware": ours,
    }
    return create_deep_agent(model, list(tools), middleware=ours, subagents=[counter], **kwargs)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("surface", SURFACES)
async def test_two_subagents_at_once_and_a_file(surface: str, name: str, mode: str) -> None:
    host = MODELS[name][0]
    with KimiSimulator(host, script=clerk(name)) as simulator:
        agent = deep_agent(SURFACES[surface](simulator, name), host=host, checkpointer=InMemorySaver())
        state = await run(mode, agent, TASK, {"configurable": {"thread_id": "1"}})
        assert simulator.refusals == []
        assert len(simulator.requests) == 8
    assert state["messages"][-1].text == "Both stand in /cities.txt."
    assert sorted(texts(state, "tool")[1:3]) == ["2048472", "519127"]
    assert state["files"]["/cities.txt"]["content"] == "2048472, 519127"
    assert state["refrase_report"] == state["messages"][-1].response_metadata["refrase"]


@pytest.mark.parametrize("mode", MODES)
async def test_without_it_the_host_refuses_the_agents_own_tools(mode: str) -> None:
    with KimiSimulator(script=clerk("moonshot hybrid")) as simulator:
        with pytest.raises(openai.BadRequestError, match="function name is invalid"):
            await run(mode, deep_agent(chat_openai(simulator), guarded=False), TASK)


@pytest.mark.parametrize("mode", MODES)
async def test_its_own_tools_and_prompt_reach_the_host_as_it_wants_them(mode: str) -> None:
    """The host would refuse some of them as they are; what the agent says stays as it is."""
    with KimiSimulator(script=[Reply("Nothing to do.", reasoning="No.")]) as simulator:
        agent = deep_agent(chat_kimi(simulator), [get_population], system_prompt="You are a clerk.")
        await run(mode, agent, "Hello.")
        assert simulator.refusals == []
        body = simulator.requests[0].body
    assert body["messages"][0]["content"].startswith("You are a clerk.")
    names = {tool["function"]["name"] for tool in body["tools"]}
    assert {"task", "read_file", "write_file", "get_population"} <= names
    assert "ls" not in names  # two letters are too few for Moonshot's API: it has an alias
    assert lint_tools(body["tools"], host="moonshot") == ()


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
async def test_a_subagent_that_is_stuck_is_stopped_and_the_agent_goes_on(mode: str) -> None:
    def stuck(body: dict[str, Any]) -> Reply:
        asked = next(message["content"] for message in body["messages"] if message["role"] == "user")
        if asked != TASK:
            return Reply(reasoning="Again.", tool_calls=[("get_population", {"city": "Paris"})])
        if body["messages"][-1]["role"] == "tool":
            return Reply("The counter is stuck.", reasoning="It says so.")
        return Reply(
            reasoning="Ask.", tool_calls=[("task", {"description": "Count Paris", "subagent_type": "counter"})]
        )

    with KimiSimulator(script=stuck) as simulator:
        state = await run(mode, deep_agent(chat_kimi(simulator)), TASK)
        assert simulator.refusals == []
        assert len(simulator.requests) == 2 + 12
    assert texts(state, "tool")[0].startswith(f"{MARKER} Stopped")
    assert state["messages"][-1].text == "The counter is stuck."
