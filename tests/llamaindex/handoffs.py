"""Two agents that hand over to one another, what a model says to them, and how their conversation is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.llms import LLM, ChatMessage
from llama_index.core.memory import BaseMemory, ChatMemoryBuffer, Memory

from refrase_integrations.simulator import Reply

CITIES = ("Paris", "Tokyo")
MEMORIES: dict[str, Callable[[list[Any]], BaseMemory]] = {
    "ChatMemoryBuffer": lambda kept: ChatMemoryBuffer.from_defaults(chat_history=_read(kept), token_limit=100_000),
    "Memory": lambda kept: Memory.from_defaults(chat_history=_read(kept), session_id="s", token_limit=100_000),
}


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return f"It is sunny in {city}."


def get_time(city: str) -> str:
    """Return the local time in a city."""
    return f"It is noon in {city}."


def workflow(llm: LLM) -> AgentWorkflow:
    """Return an agent that greets and one that knows the weather."""
    front = FunctionAgent(
        name="front",
        description="Greets.",
        system_prompt="Greet.",
        llm=llm,
        tools=[get_time],
        can_handoff_to=["weather"],
    )
    weather = FunctionAgent(
        name="weather",
        description="Knows the weather.",
        system_prompt="Forecast.",
        llm=llm,
        tools=[get_weather, get_time],
        can_handoff_to=["front"],
    )
    return AgentWorkflow(agents=[front, weather], root_agent="front")


async def run_turn(agents: AgentWorkflow, turn: int, context: Any, memory: BaseMemory) -> str:
    return str(await agents.run(f"Turn {turn}: weather and time, please.", ctx=context, memory=memory))


async def stored(memory: BaseMemory) -> list[Any]:
    """Return what a memory holds, as JSON."""
    return [message.model_dump(mode="json") for message in await memory.aget_all()]


def _read(kept: list[Any]) -> list[ChatMessage]:
    return [ChatMessage.model_validate(message) for message in kept]


def scripted(body: dict[str, Any]) -> Reply:
    """Think aloud; hand over where the weather is not at hand, and back every third turn; look both up; answer."""
    messages = body["messages"]
    last = messages[-1]
    at_front = "get_weather" not in {tool["function"]["name"] for tool in body["tools"]}
    turn = sum(message["role"] == "user" for message in messages) - 1
    if at_front:
        return _handed_over("weather", turn)
    if last["role"] == "user" and turn and turn % 3 == 0:
        return _handed_over("front", turn)
    if last["role"] == "tool" and "It is" in last["content"]:
        results = sorted(message["content"] for message in messages[-2:])  # tools end in any order
        return Reply(f"Turn {turn}: {' '.join(results)}", reasoning=f"Turn {turn}: both are there.")
    city = {"city": CITIES[turn % 2]}
    calls = [("get_weather", city, "get_weather:0"), ("get_time", city, "get_time:1")]
    return Reply(reasoning=f"Turn {turn}: I look both up.", tool_calls=calls)


def _handed_over(agent: str, turn: int) -> Reply:
    call = ("handoff", {"to_agent": agent, "reason": "It knows."}, "handoff:0")
    return Reply(reasoning=f"Turn {turn}: {agent} knows.", tool_calls=[call])
