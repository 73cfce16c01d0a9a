"""F13: the same call 75 to 90 times in a row (Kimi-K2.5#24, MoonshotAI/kimi-cli#2142)."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langgraph.errors import GraphRecursionError
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.workflow import WorkflowRuntimeError

from refrase_integrations.errors import LoopStopped
from refrase_integrations.kimi.practices.loop_guard import MARKER
from refrase_integrations.langchain import ChatKimi, KimiMiddleware
from refrase_integrations.llamaindex import Kimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES
from tests.langchain.agents import SURFACES, run

QUESTION = "What is the weather in Paris?"


class Tool:
    """Counts how often it is called."""

    def __init__(self) -> None:
        self.calls = 0

    def get_weather(self, city: str) -> str:
        """Return the weather in a city."""
        self.calls += 1
        return f"It is sunny in {city}."


def stuck(body: dict[str, Any]) -> Reply:
    """A model that cannot get away from one call, each time spelled a little differently."""
    spelling = '{"city": "Paris"}' if len(body["messages"]) % 4 else '{"city":"Paris"}'
    return Reply(reasoning="I need the weather.", tool_calls=[("get_weather", spelling)])


def obedient(body: dict[str, Any]) -> Reply:
    """A model that reads the first reminder."""
    if MARKER in str(body["messages"][-1]["content"]):
        return Reply(reasoning="I have it.", content="It is sunny in Paris.")
    return stuck(body)


def made_for(simulator: KimiSimulator, practices: Any) -> dict[str, Any]:
    return {"model": "kimi-k2.6", "host": "moonshot", "base_url": simulator.base_url, "api_key": "sk-test", "practices": practices}  # fmt: skip


async def run_langgraph(simulator: KimiSimulator, tool: Tool, practices: Any, way: str) -> str:
    agent: Any = create_agent(ChatKimi(**made_for(simulator, practices)), tools=[tool.get_weather])
    question, config = {"messages": [("user", QUESTION)]}, {"recursion_limit": 160}
    state = agent.invoke(question, config) if way == "sync" else await agent.ainvoke(question, config)
    return str(state["messages"][-1].text)


async def run_llamaindex(simulator: KimiSimulator, tool: Tool, practices: Any, way: str) -> str:
    llm = Kimi(**made_for(simulator, practices))
    agent = FunctionAgent(llm=llm, tools=[tool.get_weather], streaming=way == "async")
    return str(await agent.run(QUESTION, max_iterations=80))


RUNS = {"langgraph": run_langgraph, "llamaindex": run_llamaindex}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("surface", SURFACES)
async def test_the_middleware_has_the_guard_on(surface: str, mode: str) -> None:
    tool = Tool()
    with KimiSimulator(script=stuck) as simulator:
        model = SURFACES[surface](simulator)
        agent = create_agent(model, [tool.get_weather], middleware=[KimiMiddleware("moonshot")])
        state = await run(mode, agent, QUESTION)
        assert simulator.refusals == []
    assert tool.calls == 11
    assert state["messages"][-1].text.startswith(f"{MARKER} Stopped")


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("framework", RUNS)
class TestAStuckModel:
    async def test_loops_without_end_where_the_guard_is_off(self, framework: str, way: str) -> None:
        tool = Tool()
        with KimiSimulator(script=stuck) as simulator:
            with pytest.raises((GraphRecursionError, WorkflowRuntimeError)):
                await RUNS[framework](simulator, tool, None, way)
        assert tool.calls >= 75

    async def test_is_stopped_before_the_twelfth_call_with_words_that_say_why(self, framework: str, way: str) -> None:
        tool = Tool()
        with KimiSimulator(script=stuck) as simulator:
            said = await RUNS[framework](simulator, tool, {"loop_guard": "apply"}, way)
            assert simulator.refusals == []
            assert len(simulator.requests) == 12
        assert tool.calls == 11
        assert said.startswith(f"{MARKER} Stopped: the same call of get_weather was asked for 12 times")

    async def test_reads_the_reminder_and_answers(self, framework: str, way: str) -> None:
        tool = Tool()
        with KimiSimulator(script=obedient) as simulator:
            said = await RUNS[framework](simulator, tool, {"loop_guard": "apply"}, way)
            assert simulator.refusals == []
        assert (said, tool.calls) == ("It is sunny in Paris.", 3)

    async def test_is_an_error_where_that_is_asked_for(self, framework: str, way: str) -> None:
        tool = Tool()
        with KimiSimulator(script=stuck) as simulator:
            with pytest.raises(LoopStopped, match="get_weather: 12 identical calls in a row"):
                await RUNS[framework](simulator, tool, {"loop_guard": "error"}, way)
        assert tool.calls == 11
