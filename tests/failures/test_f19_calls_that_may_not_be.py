"""F19: a call to a tool that was never declared (316 of 1,325 on vLLM), and calls although `tool_choice` is "none".

vllm#43155, vLLM blog of 2025-10-28.
"""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from refrase_integrations.llamaindex.messages import selections
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.surfaces import SURFACES, ask, build, everywhere, exchange, tool, user

MODEL = "moonshotai/Kimi-K2-Instruct-0905"
ASKED = [user("Weather in Paris?")]
TOOLS = [tool("get_weather", city="string"), tool("get_time", city="string")]
REPLY = Reply(tool_calls=[("get_weather", {"city": "Paris"})])
TOLD = "Error: there is no tool 'get_weather_tool'; there are: get_weather, get_time"
FORBID = {"tools": TOOLS, "tool_choice": "none"}
UNDECLARED = {"undeclared_tool": True}


@everywhere
class TestUndeclared:
    async def test_nobody_says_so_without(self, surface: str, mode: str) -> None:
        fields: Any = {"persona": "vllm", "script": [REPLY], "quirks": UNDECLARED, "model": MODEL}
        off = {"tool_schemas": "off"}
        answer, _ = await exchange(surface, mode, ASKED, call={"tools": TOOLS}, practices=off, **fields)
        assert (answer.calls, answer.report["healed"]) == ([("get_weather_tool", {"city": "Paris"})], [])

    async def test_the_model_reads_which_tools_there_are(self, surface: str, mode: str) -> None:
        fields: Any = {"persona": "vllm", "quirks": UNDECLARED, "model": MODEL, "call": {"tools": TOOLS}}
        answer, bodies = await exchange(surface, mode, ASKED, script=[REPLY, Reply("Sorry.")], **fields)
        assert (answer.text, answer.calls) == ("Sorry.", [])
        assert bodies[1]["messages"][-1]["content"].startswith(TOLD)

    async def test_also_where_it_insists(self, surface: str, mode: str) -> None:
        with KimiSimulator("vllm", script=[REPLY, REPLY, Reply("Sorry.")], quirks=UNDECLARED) as simulator:
            model = build(surface, simulator, model=MODEL)
            answer = await ask(surface, mode, model, ASKED, tools=TOOLS)
            assert answer.problems == ["there is no tool 'get_weather_tool'; there are: get_weather, get_time"]
            assert ready(surface, answer.message) == [], "the app may have such a tool, and keep it from the model"
            await ask(surface, mode, model, [*ASKED, answer.message, user("Well?")], tools=TOOLS)
            (told,) = [m for m in simulator.requests[2].body["messages"] if m["role"] == "tool"]
        assert told["content"].startswith(TOLD)


def ready(surface: str, message: Any) -> list[str]:
    """Return the names under which a framework's own tool node would look for a tool to run."""
    if surface == "ChatKimi":
        return [call["name"] for call in message.tool_calls]
    return [chosen.tool_name for chosen in selections(message, strict=False) if "(not run" not in chosen.tool_name]


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_a_tool_node_that_knows_more_tools_does_not_run_them(way: str) -> None:
    """A model that is given the tools that read, before a tool node that has the others too."""
    ran: list[str] = []

    def delete_city(city: str) -> str:
        """Delete a city from the register."""
        ran.append(city)
        return "gone"

    asked = Reply(tool_calls=[("delete_city", {"city": "Paris"})])
    for practices, deleted in (({}, []), ({"undeclared_calls": "keep"}, ["Paris"])):
        ran.clear()
        with KimiSimulator("vllm", script=[asked, asked, Reply("Done.")], strict=False) as simulator:
            model = build("ChatKimi", simulator, model=MODEL, practices=practices).bind_tools(TOOLS)
            builder = StateGraph(MessagesState)
            builder.add_node("model", lambda state, model=model: {"messages": [model.invoke(state["messages"])]})
            builder.add_node("tools", ToolNode([delete_city]))
            builder.add_edge(START, "model")
            builder.add_conditional_edges("model", tools_condition)
            builder.add_edge("tools", "model")
            graph, question = builder.compile(), {"messages": [("user", "Weather?")]}
            _ = graph.invoke(question) if way == "invoke" else await graph.ainvoke(question)
        assert ran == deleted


@pytest.mark.parametrize("surface", SURFACES)
async def test_an_agent_runs_nothing_and_tells_the_model(surface: str) -> None:
    ran: list[str] = []

    def get_weather(city: str) -> str:
        """Return the weather in a city."""
        ran.append(city)
        return "Sunny."

    with KimiSimulator("vllm", script=[REPLY, Reply("Sorry.")], quirks=UNDECLARED) as simulator:
        model = build(surface, simulator, model=MODEL)
        if surface == "ChatKimi":
            from langchain.agents import create_agent

            await create_agent(model, tools=[get_weather]).ainvoke({"messages": [("user", "Weather?")]})
        else:
            from llama_index.core.agent.workflow import FunctionAgent

            await FunctionAgent(llm=model, tools=[get_weather]).run("Weather?")
        told = simulator.requests[1].body["messages"][-1]
    assert (ran, told["role"]) == ([], "tool")
    assert "get_weather_tool" in told["content"]
    assert "get_weather" in told["content"].replace("get_weather_tool", ""), "the tool that there is"


@everywhere
class TestForbidden:
    async def test_called_without(self, surface: str, mode: str) -> None:
        off = {"tool_schemas": "off"}
        answer, _ = await exchange(
            surface, mode, ASKED, persona="vllm", script=[REPLY], model=MODEL, call=FORBID, practices=off
        )
        assert answer.calls == [("get_weather", {"city": "Paris"})]

    async def test_answered_in_words(self, surface: str, mode: str) -> None:
        script = [REPLY, Reply("I may not look.")]
        answer, bodies = await exchange(surface, mode, ASKED, persona="vllm", script=script, model=MODEL, call=FORBID)
        assert (answer.calls, answer.text, answer.finish) == ([], "I may not look.", "stop")
        assert bodies[1]["messages"][-1]["role"] == "tool"
        assert answer.said("tool-schemas") == [("drop", "1 tool call(s) although tool_choice is none")]
