"""F19: a call to a tool that was never declared (316 of 1,325 on vLLM), and calls although `tool_choice` is "none".

vllm#43155, vLLM blog of 2025-10-28.
"""

from __future__ import annotations

from typing import Any

import pytest

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
            assert answer.calls == [("get_weather_tool", {"city": "Paris"})], "left to the app, which has no such tool"
            await ask(surface, mode, model, [*ASKED, answer.message, user("Well?")], tools=TOOLS)
            (told,) = [m for m in simulator.requests[2].body["messages"] if m["role"] == "tool"]
        assert told["content"].startswith(TOLD)


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
