"""A workflow's `Context` saved and restored: what LlamaIndex drops, and the way that works.

Between turns the memory goes in again with ``run(memory=...)``. In the middle of a turn (a tool waits for a human) a
restored run takes no memory: it has to be set once the run has begun.
"""

import json
from typing import Any

import pydantic
import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ThinkingBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context, HumanResponseEvent, InputRequiredEvent, JsonPickleSerializer

from refrase_integrations.simulator import KimiSimulator, Reply
from tests.llamaindex.exchanges import bodies, kimi
from tests.llamaindex.handoffs import MEMORIES, get_time, get_weather, run_turn, scripted, stored, workflow

pytestmark = pytest.mark.filterwarnings("ignore:Skipping serialization of known unserializable key")
KEY = "sk-canary-4711"


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.skipif(pydantic.VERSION.split(".") < ["2", "14"], reason="LlamaIndex fails to save it with pydantic 2.14")
async def test_the_memory_is_not_in_a_saved_context() -> None:
    """What LlamaIndex does; the day it does not, our manual can be shorter."""
    with KimiSimulator("moonshot", script=scripted) as simulator:
        agents = workflow(kimi(simulator))
        context = Context(agents)
        await run_turn(agents, 0, context, MEMORIES["ChatMemoryBuffer"]([]))
        with pytest.warns(Warning, match="unserializable key: memory"):
            saved = context.to_dict()
        restored = Context.from_dict(agents, saved)
        await run_turn(agents, 0, restored, None)  # type: ignore[arg-type]
        assert [message["role"] for message in bodies(simulator)[-2]["messages"]] == ["system", "user"]


@pytest.mark.parametrize("kind", MEMORIES)
@pytest.mark.parametrize("model", ["kimi-k2-thinking", "kimi-k2.6"])
async def test_between_turns(kind: str, model: str) -> None:
    with KimiSimulator("moonshot", script=scripted) as simulator:
        saved: Any = None
        for turn in range(4):
            agents = workflow(kimi(simulator, model=model, api_key=KEY))
            memory = MEMORIES[kind](saved["memory"] if saved else [])
            context = Context.from_dict(agents, saved["context"]) if saved else Context(agents)
            assert (await run_turn(agents, turn, context, memory)).startswith(f"Turn {turn}: It is noon")
            saved = through_json({"context": context.to_dict(), "memory": await stored(memory)})
            assert KEY not in json.dumps(saved)
        assert simulator.refusals == []
        systems = [body["messages"][0]["content"].partition("\n")[0] for body in bodies(simulator)]
    assert systems == ["Greet.", *["Forecast."] * 7, "Greet.", "Forecast.", "Forecast.", "Forecast."][: len(systems)]


async def test_a_pickled_context_keeps_a_chat_memory_buffer() -> None:
    with KimiSimulator("moonshot", script=scripted) as simulator:
        agents = workflow(kimi(simulator, api_key=KEY))
        context = Context(agents)
        await run_turn(agents, 0, context, MEMORIES["ChatMemoryBuffer"]([]))
        saved = through_json(context.to_dict(serializer=JsonPickleSerializer()))
        agents = workflow(kimi(simulator, api_key=KEY))
        restored = Context.from_dict(agents, saved, serializer=JsonPickleSerializer())
        assert str(await agents.run("Turn 1?", ctx=restored)).startswith("Turn 1: ")
        assert simulator.refusals == []


@pytest.mark.parametrize("kind", MEMORIES)
@pytest.mark.parametrize("as_workflow", [False, True])
async def test_in_the_middle_of_a_turn(kind: str, as_workflow: bool) -> None:
    """Two parallel tools, one of which asks a human; the reasoning that led to them stands in the saved context."""
    ran: list[str] = []

    def get_weather(city: str) -> str:
        """Return the weather in a city."""
        ran.append("weather")
        return f"It is sunny in {city}."

    async def get_time(ctx: Context, city: str) -> str:
        """Return the local time in a city."""
        question = InputRequiredEvent(prefix="Summer time?")  # type: ignore[call-arg]
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_id="time", waiter_event=question)
        ran.append("time")
        return f"It is noon in {city}, {answer.response}."

    def agent(simulator: KimiSimulator) -> Any:
        tools = [get_weather, FunctionTool.from_defaults(async_fn=get_time, name="get_time")]
        made = FunctionAgent(name="one", description="One.", llm=kimi(simulator, model="kimi-k2-thinking"), tools=tools)
        return AgentWorkflow(agents=[made]) if as_workflow else made

    with KimiSimulator("moonshot", script=scripted) as simulator:
        memory = MEMORIES[kind]([])
        handler = agent(simulator).run("Weather and time, please.", memory=memory)
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                break
        saved = through_json({"context": handler.ctx.to_dict(), "memory": await stored(memory)})
        await handler.cancel_run()
        assert "I look both up" in json.dumps(saved["context"])

        again, memory = agent(simulator), MEMORIES[kind](saved["memory"])
        handler = again.run(ctx=Context.from_dict(again, saved["context"]))
        await handler.ctx.store.set("memory", memory)
        handler.ctx.send_event(HumanResponseEvent(response="summer time"))  # type: ignore[call-arg]
        assert str(await handler) == "Turn 0: It is noon in Paris, summer time. It is sunny in Paris."
        assert simulator.refusals == []
        last = bodies(simulator)[-1]["messages"]
    assert ran.count("time") == 1
    assert last[-3]["reasoning_content"] == "Turn 0: I look both up."
    kept = await memory.aget_all()
    assert [message.role.value for message in kept] == ["user", "assistant", "tool", "tool", "assistant"]
    assert isinstance(kept[1].blocks[0], ThinkingBlock)


async def test_a_react_agent_goes_on_too() -> None:
    def answer(body: dict[str, Any]) -> Reply:
        if "Observation" in str(body["messages"][-1]["content"]):
            return Reply("Thought: I can answer now.\nAnswer: Sunny.", reasoning="There.")
        words = 'Thought: I look it up.\nAction: get_weather\nAction Input: {"city": "Paris"}'
        return Reply(words, reasoning="Hm.")

    with KimiSimulator("moonshot", script=answer) as simulator:
        saved: Any = None
        for turn in range(3):
            agent = ReActAgent(llm=kimi(simulator, model="kimi-k2-thinking"), tools=[get_weather, get_time])
            memory = MEMORIES["ChatMemoryBuffer"](saved["memory"] if saved else [])
            context = Context.from_dict(agent, saved["context"]) if saved else Context(agent)
            assert str(await agent.run(f"Weather, turn {turn}?", ctx=context, memory=memory)) == "Sunny."
            saved = through_json({"context": context.to_dict(), "memory": await stored(memory)})
        assert simulator.refusals == []
        said = [message["content"] for message in bodies(simulator)[-2]["messages"] if message["role"] != "system"]
    assert said[::2] == ["Weather, turn 0?", "Weather, turn 1?", "Weather, turn 2?"]
    assert all(
        words.endswith("Observation: It is sunny in Paris.\nThought: I can answer now.\nAnswer: Sunny.")
        for words in said[1::2]
    )


def test_a_memory_of_another_session_reads_the_same() -> None:
    """Reasoning, calls and argument bytes survive JSON; so does what a user wrote."""
    odd = ChatMessage(role="user", content="Ünïcode ☕", additional_kwargs={"name": "Ann"})
    memory = ChatMemoryBuffer.from_defaults(chat_history=[odd], token_limit=100)
    assert [ChatMessage.model_validate(through_json(one.model_dump(mode="json"))) for one in memory.get_all()] == [odd]
