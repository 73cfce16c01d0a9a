"""LlamaIndex's agents on Kimi against the strict simulator: no refusal, whatever the agent does."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from llama_index.core.agent.workflow import (
    AgentStream,
    AgentStreamStructuredOutput,
    AgentWorkflow,
    FunctionAgent,
    ReActAgent,
    ToolCallResult,
)
from llama_index.core.base.llms.types import ChatMessage, ThinkingBlock, ToolCallBlock
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from refrase_integrations.simulator import KimiSimulator, Reply
from tests.llamaindex.exchanges import bodies, kimi

MODELS = {
    "moonshot thinking": ("moonshot", "kimi-k2-thinking"),
    "moonshot hybrid": ("moonshot", "kimi-k2.6"),
    "moonshot instruct": ("moonshot", "kimi-k2-0905-preview"),
    "vllm thinking": ("vllm", "moonshotai/Kimi-K2-Thinking"),
    "vllm instruct": ("vllm", "moonshotai/Kimi-K2-Instruct-0905"),
}
CITIES = ("Paris", "Tokyo")


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return f"It is sunny in {city}."


def get_time(city: str) -> str:
    """Return the local time in a city."""
    return f"It is noon in {city}."


def scripted(body: dict[str, Any]) -> Reply:
    """Two parallel calls for a user turn, an answer for their results; ids count from 0 in every reply."""
    messages = body["messages"]
    turn = sum(message["role"] == "user" for message in messages) - 1
    if messages[-1]["role"] == "user":
        city = CITIES[turn % 2]
        calls = [("get_weather", {"city": city}, "get_weather:0"), ("get_time", {"city": city}, "get_time:1")]
        return Reply(reasoning=f"I look both up for turn {turn}.", tool_calls=calls)
    results = sorted((message["content"] for message in messages[-2:]), reverse=True)  # tools end in any order
    return Reply(reasoning=f"Both are there for turn {turn}.", content=f"Turn {turn}: {' '.join(results)}")


def thinks(name: str) -> bool:
    return "instruct" not in name


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("name", MODELS)
async def test_parallel_tools_and_streamed_events(name: str, streaming: bool) -> None:
    persona, model = MODELS[name]

    def answer(body: dict[str, Any]) -> Reply:
        made = scripted(body)
        return made if thinks(name) else Reply(made.content, tool_calls=made.tool_calls)

    with KimiSimulator(persona, script=answer) as simulator:
        agent = FunctionAgent(llm=kimi(simulator, model=model), tools=[get_weather, get_time], streaming=streaming)
        handler = agent.run("Weather and time, please.")
        events = [event async for event in handler.stream_events()]
        result = await handler
        assert simulator.refusals == []
        sent = bodies(simulator)
    assert str(result) == "Turn 0: It is sunny in Paris. It is noon in Paris."
    assert {event.tool_name for event in events if isinstance(event, ToolCallResult)} == {"get_weather", "get_time"}
    assert result.raw["refrase"]["host"] == persona
    assert len(sent) == 2
    ids = [made["id"] for made in sent[1]["messages"][-3]["tool_calls"]]
    assert sorted(message["tool_call_id"] for message in sent[1]["messages"][-2:]) == sorted(ids)
    streamed = [event for event in events if isinstance(event, AgentStream)]
    if not streaming:
        assert streamed == []
        return
    assert "".join(event.delta for event in streamed) == str(result)
    thought = "".join(event.thinking_delta or "" for event in streamed)
    assert thought == ("I look both up for turn 0.Both are there for turn 0." if thinks(name) else "")
    offered = [len(event.tool_calls) for event in streamed if event.tool_calls]
    assert set(offered) == {2}, "no partial calls"


async def run_turns(llm: Any, memory: Any, turns: int) -> None:
    agent = FunctionAgent(llm=llm, tools=[get_weather, get_time])
    for turn in range(turns):
        result = await agent.run(f"Turn {turn}: weather and time, please.", memory=memory)
        city = CITIES[turn % 2]
        assert str(result) == f"Turn {turn}: It is sunny in {city}. It is noon in {city}."


@pytest.mark.parametrize(("name", "turns"), [("moonshot hybrid", 30), ("vllm thinking", 8)])
async def test_thirty_turns_with_parallel_tools(name: str, turns: int) -> None:
    persona, model = MODELS[name]
    with KimiSimulator(persona, script=scripted) as simulator:
        memory = ChatMemoryBuffer.from_defaults(token_limit=100_000)
        await run_turns(kimi(simulator, model=model, thinking=True), memory, turns)
        assert simulator.refusals == []
        sent = bodies(simulator)
    assert len(sent) == 2 * turns
    field = "reasoning_content" if persona == "moonshot" else "reasoning"
    calls = [message for message in sent[-1]["messages"] if message.get("tool_calls")]
    assert [message[field] for message in calls] == [f"I look both up for turn {turn}." for turn in range(turns)]
    ids = [made["id"] for message in calls for made in message["tool_calls"]]
    assert len(ids) == len(set(ids)) == 2 * turns
    for earlier, later in zip(sent, sent[1:], strict=False):
        assert later["messages"][: len(earlier["messages"])] == earlier["messages"], "the prefix cache hits"


# -- memory ----------------------------------------------------------------------------------------------


def memories() -> dict[str, Any]:
    return {
        "ChatMemoryBuffer": ChatMemoryBuffer.from_defaults(token_limit=100_000),
        "Memory": Memory.from_defaults(session_id="s", token_limit=100_000),
    }


@pytest.mark.parametrize("kind", ["ChatMemoryBuffer", "Memory"])
async def test_memory_keeps_reasoning_and_calls(kind: str) -> None:
    memory = memories()[kind]
    with KimiSimulator("moonshot", script=scripted) as simulator:
        await run_turns(kimi(simulator, model="kimi-k2-thinking"), memory, 3)
        assert simulator.refusals == []
        last = bodies(simulator)[-1]["messages"]
    assert [message["reasoning_content"] for message in last if message.get("tool_calls")] == [
        f"I look both up for turn {turn}." for turn in range(3)
    ]
    kept = await memory.aget_all()
    assert [message.role.value for message in kept] == ["user", "assistant", "tool", "tool", "assistant"] * 3
    assert isinstance(kept[1].blocks[0], ThinkingBlock)
    assert isinstance(kept[1].blocks[-1], ToolCallBlock)


async def test_a_stored_conversation_goes_on_as_before() -> None:
    """Through JSON and back, as a store on disk does it."""
    with KimiSimulator("moonshot", script=scripted) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking")
        memory = ChatMemoryBuffer.from_defaults(token_limit=100_000)
        await run_turns(llm, memory, 1)
        text = json.dumps([message.model_dump(mode="json") for message in memory.get_all()])
        again = ChatMemoryBuffer.from_defaults(
            token_limit=100_000, chat_history=[ChatMessage.model_validate(one) for one in json.loads(text)]
        )
        agent = FunctionAgent(llm=llm, tools=[get_weather, get_time])
        await agent.run("Turn 1: weather and time, please.", memory=again)
        assert simulator.refusals == []
    first, second = bodies(simulator)[1], bodies(simulator)[2]
    assert second["messages"][: len(first["messages"])] == first["messages"]


def test_a_chat_engine_remembers() -> None:
    with KimiSimulator("moonshot", script=["One.", "Two."]) as simulator:
        engine = SimpleChatEngine.from_defaults(
            llm=kimi(simulator, practices={"fresh_data": "off"}), system_prompt="Be brief."
        )
        assert str(engine.chat("First?")) == "One."
        stream = engine.stream_chat("Second?")
        assert "".join(stream.response_gen) == "Two."
        said = [message["content"] for message in bodies(simulator)[-1]["messages"]]
    assert said == ["Be brief.", "First?", "One.", "Second?"]


# -- several agents --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["moonshot thinking", "vllm instruct"])
async def test_a_hand_off(name: str) -> None:
    persona, model = MODELS[name]

    def answer(body: dict[str, Any]) -> Reply:
        names = [tool["function"]["name"] for tool in body.get("tools") or ()]
        reasoning = "Hm." if thinks(name) else None
        results = [message for message in body["messages"] if message["role"] == "tool"]
        if "get_weather" not in names:
            return Reply(reasoning=reasoning, tool_calls=[("handoff", {"to_agent": "weather", "reason": "It knows."})])
        if "sunny" not in str(results):
            return Reply(reasoning=reasoning, tool_calls=[("get_weather", {"city": "Paris"})])
        return Reply("Sunny, says the weather agent.", reasoning=reasoning)

    with KimiSimulator(persona, script=answer) as simulator:
        llm = kimi(simulator, model=model)
        front = FunctionAgent(
            name="front",
            description="Greets.",
            system_prompt="Greet.",
            llm=llm,
            tools=[get_time],
            can_handoff_to=["weather"],
        )
        weather = FunctionAgent(
            name="weather", description="Knows it.", system_prompt="Forecast.", llm=llm, tools=[get_weather]
        )
        workflow = AgentWorkflow(agents=[front, weather], root_agent="front")
        result = await workflow.run("Weather in Paris?")
        assert simulator.refusals == []
        systems = [body["messages"][0]["content"].partition("\n")[0] for body in bodies(simulator)]
    assert str(result) == "Sunny, says the weather agent."
    assert result.current_agent_name == "weather"
    assert systems == ["Greet.", "Forecast.", "Forecast."]


async def test_a_workflow_from_tools_takes_a_function_agent() -> None:
    with KimiSimulator("moonshot", script=scripted) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking")
        workflow = AgentWorkflow.from_tools_or_functions([get_weather, get_time], llm=llm)
        assert isinstance(workflow.agents[workflow.root_agent], FunctionAgent)
        assert "sunny" in str(await workflow.run("Weather and time, please."))


async def test_a_return_direct_tool_ends_the_run_and_the_next_turn_goes_on() -> None:
    direct = FunctionTool.from_defaults(fn=get_weather, return_direct=True)
    script = [Reply(reasoning="Hm.", tool_calls=[("get_weather", {"city": "Paris"})]), Reply("Fine.", reasoning="Ok.")]
    with KimiSimulator("moonshot", script=script) as simulator:
        agent = FunctionAgent(llm=kimi(simulator, model="kimi-k2-thinking"), tools=[direct])
        memory = ChatMemoryBuffer.from_defaults(token_limit=10_000)
        assert str(await agent.run("Weather?", memory=memory)) == "It is sunny in Paris."
        assert str(await agent.run("Thanks.", memory=memory)) == "Fine."
        assert simulator.refusals == []


async def test_a_broken_call_is_told_to_the_model_and_not_run() -> None:
    ran = []

    def get_weather(city: str = "nowhere") -> str:
        """Return the weather in a city."""
        ran.append(city)
        return "sunny"

    broken = Reply(tool_calls=[("get_weather", {"city": "Paris"}), ("get_weather", '{"city": 5 5 5')])
    with KimiSimulator("moonshot", script=[broken, "I see."]) as simulator:
        agent = FunctionAgent(llm=kimi(simulator, model="kimi-k2-0905-preview"), tools=[get_weather])
        assert str(await agent.run("Weather?")) == "I see."
        told = [message["content"] for message in bodies(simulator)[1]["messages"] if message["role"] == "tool"]
        assert simulator.refusals == []
    assert ran == ["Paris"]
    assert len(told) == 2
    assert "sunny" in told
    assert any("not run" in one for one in told)


async def test_an_initial_tool_choice_is_kept_to() -> None:
    script = ["No, I think.", Reply(tool_calls=[("get_time", {"city": "Paris"})]), "Noon."]
    with KimiSimulator("moonshot", script=script) as simulator:
        llm = kimi(simulator, model="kimi-k2-0905-preview")
        agent = FunctionAgent(llm=llm, tools=[get_weather, get_time], initial_tool_choice="get_time")
        assert str(await agent.run("Hello.")) == "Noon."
        assert simulator.refusals == []


class Verdict(BaseModel):
    """What the agent found."""

    city: str
    sunny: bool


def function_agent(llm: Any) -> Any:
    return FunctionAgent(llm=llm, tools=[get_weather, get_time], output_cls=Verdict)


def react_agent(llm: Any) -> Any:
    return ReActAgent(llm=llm, tools=[get_weather], output_cls=Verdict)


def several_agents(llm: Any) -> Any:
    made = FunctionAgent(name="one", description="One.", llm=llm, tools=[get_weather, get_time])
    return AgentWorkflow(agents=[made], output_cls=Verdict)


@pytest.mark.parametrize("name", ["moonshot thinking", "moonshot hybrid", "vllm instruct"])
@pytest.mark.parametrize("build", [function_agent, react_agent, several_agents])
async def test_an_output_class(build: Any, name: str) -> None:
    persona, model = MODELS[name]

    def answer(body: dict[str, Any]) -> Reply:
        if "response_format" in body:
            return Reply('{"city": "Paris", "sunny": true}', reasoning="In form." if thinks(name) else None)
        if build is react_agent:
            return Reply("Thought: I can answer now.\nAnswer: Sunny in Paris.")
        made = scripted(body)
        return made if thinks(name) else Reply(made.content, tool_calls=made.tool_calls)

    with KimiSimulator(persona, script=answer) as simulator:
        handler = build(kimi(simulator, model=model)).run("Weather and time, please.")
        events = [event async for event in handler.stream_events()]
        result = await handler
        assert simulator.refusals == []
        asked = [body for body in bodies(simulator) if "response_format" in body]
    assert result.get_pydantic_model(Verdict) == Verdict(city="Paris", sunny=True)
    streamed = [event.output for event in events if isinstance(event, AgentStreamStructuredOutput)]
    assert streamed == [{"city": "Paris", "sunny": True}]
    assert len(asked) == 1
    assert "tool_choice" not in asked[0]


# -- ReAct -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
async def test_a_react_agent(name: str) -> None:
    persona, model = MODELS[name]
    reasoning = "Hm." if thinks(name) else None
    script = [
        Reply('Thought: I look it up.\nAction: get_weather\nAction Input: {"city": "Paris"}', reasoning=reasoning),
        Reply("Thought: I can answer now.\nAnswer: Sunny.", reasoning=reasoning),
    ]
    with KimiSimulator(persona, script=script) as simulator:
        agent = ReActAgent(llm=kimi(simulator, model=model), tools=[get_weather])
        handler = agent.run("Weather in Paris?")
        results = [event async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
        assert str(await handler) == "Sunny."
        assert simulator.refusals == []
    assert [str(event.tool_output) for event in results] == ["It is sunny in Paris."]


# -- event loops -----------------------------------------------------------------------------------------


def test_one_llm_in_two_event_loops() -> None:
    with KimiSimulator("moonshot", script=scripted) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking")

        async def once() -> str:
            agent = FunctionAgent(llm=llm, tools=[get_weather, get_time])
            return str(await agent.run("Weather and time, please."))

        assert asyncio.run(once()) == asyncio.run(once())
        assert llm.complete("And now without a loop?").text
        assert simulator.refusals == []


async def test_callers_messages_stay_as_they_are() -> None:
    history = [ChatMessage(role="user", content="Weather and time, please.")]
    before = [message.model_copy(deep=True) for message in history]
    tools = [FunctionTool.from_defaults(fn=get_weather), FunctionTool.from_defaults(fn=get_time)]
    with KimiSimulator("moonshot", script=[scripted({"messages": [{"role": "user"}]}), "Yes."]) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking")
        reply = await llm.achat_with_tools(tools, user_msg="Go on.", chat_history=history)
        kept = reply.message.model_copy(deep=True)
        llm.chat([*history, reply.message], tools=tools)
    assert history == before
    assert reply.message == kept
