"""What the tests of graphs share: a turn in each of the four ways, threads, a plain model that is not ours."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import BaseMessage
from langchain_openai import ChatOpenAI

from refrase_integrations.simulator import KimiSimulator

DEFAULT = "You are Kimi, an AI assistant created by Moonshot AI."


def user(text: str) -> dict[str, Any]:
    return {"messages": [("user", text)]}


def thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}}


async def turn(mode: str, graph: Any, state: Any, config: Any = None) -> Any:
    """Run a graph once in one of the four ways; return its last state."""
    if mode == "invoke":
        return graph.invoke(state, config)
    if mode == "ainvoke":
        return await graph.ainvoke(state, config)
    if mode == "stream":
        return list(graph.stream(state, config, stream_mode="values"))[-1]
    return [part async for part in graph.astream(state, config, stream_mode="values")][-1]


def plain(simulator: KimiSimulator, **fields: Any) -> ChatOpenAI:
    """Return a model as people have it, without thinking, which it would lose."""
    given = {"model": "kimi-k2.6", "extra_body": {"thinking": {"type": "disabled"}}, "max_tokens": 4_096, **fields}
    return ChatOpenAI(base_url=simulator.base_url, api_key="sk-test", **given)


def prompts(simulator: KimiSimulator) -> list[list[dict[str, Any]]]:
    """Return the messages of every request that reached the host."""
    return [request.body["messages"] for request in simulator.requests]


def said(messages: list[BaseMessage]) -> list[tuple[str, str]]:
    """Return type and text of each message."""
    return [(message.type, str(message.text)) for message in messages]
