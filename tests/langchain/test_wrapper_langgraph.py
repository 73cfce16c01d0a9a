"""A wrapped ChatOpenAI inside LangGraph and LangChain's agents."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessageChunk
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from refrase_integrations.simulator import KimiSimulator, Reply
from tests.langchain.wrapped import chat_openai, wrapped


class Weather(BaseModel):
    """Weather report."""

    city: str
    degrees: int


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return f"It is 21 degrees in {city}."


async def pieces(graph: Any, is_async: bool) -> list[str]:
    question = {"messages": [("user", "Count, please.")]}
    if is_async:
        found = [piece async for piece, _ in graph.astream(question, stream_mode="messages")]
    else:
        found = [piece for piece, _ in graph.stream(question, stream_mode="messages")]
    return [piece.text for piece in found if isinstance(piece, AIMessageChunk) and piece.text]


@pytest.mark.parametrize("is_async", [False, True])
async def test_tokens_arrive_once(is_async: bool) -> None:
    said = "One two three four five six seven eight nine."

    def graph_of(model: Any) -> Any:
        async def speak(state: MessagesState) -> Any:
            return {"messages": await model.ainvoke(state["messages"])}

        def speak_now(state: MessagesState) -> Any:
            return {"messages": model.invoke(state["messages"])}

        graph = StateGraph(MessagesState).add_node("speak", speak if is_async else speak_now).add_edge(START, "speak")
        return graph.compile()

    with KimiSimulator(script=[said, said], chunk_size=3) as simulator:
        plain = await pieces(graph_of(chat_openai(simulator, disable_streaming=False)), is_async)
        simulator.reset()
        own = await pieces(graph_of(wrapped(simulator)), is_async)
    assert "".join(own) == "".join(plain) == said
    assert len(own) > 5


@pytest.mark.parametrize(
    "strategy", [Weather, ToolStrategy(Weather), ProviderStrategy(Weather)], ids=["raw", "tool", "provider"]
)
async def test_an_agent_with_a_structured_answer(strategy: Any) -> None:
    def script(body: dict[str, Any]) -> Reply:
        if body["messages"][-1]["role"] == "user":
            return Reply(tool_calls=[("get_weather", {"city": "Paris"})], reasoning="I look.")
        answer = {"city": "Paris", "degrees": 21}
        if "Weather" in [tool["function"]["name"] for tool in body["tools"]]:
            return Reply(tool_calls=[("Weather", answer)], reasoning="I report.")
        return Reply(content='{"city": "Paris", "degrees": 21}', reasoning="I report.")

    with KimiSimulator(script=script) as simulator:
        agent = create_agent(wrapped(simulator), tools=[get_weather], response_format=strategy)
        state = await agent.ainvoke({"messages": [("user", "What is the weather in Paris?")]})
        assert simulator.refusals == []
    assert state["structured_response"] == Weather(city="Paris", degrees=21)


async def test_the_arguments_of_a_binding_reach_an_agents_calls() -> None:
    from refrase_integrations.langchain import with_kimi_practices

    with KimiSimulator("vllm") as simulator:
        inner = chat_openai(simulator, model="moonshotai/Kimi-K2-Instruct-0905")
        agent = create_agent(with_kimi_practices(inner.bind(max_tokens=77), host="vllm"), tools=[get_weather])
        agent.invoke({"messages": [("user", "What is the weather in Paris?")]})
        assert [request.body["max_tokens"] for request in simulator.requests] == [77, 77]
