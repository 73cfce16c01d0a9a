"""What the tests of agents share: the four ways of a run, and the models to run them on."""

from __future__ import annotations

from typing import Any

from langchain_openai import ChatOpenAI

from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator
from tests.langchain import wrapped

MODELS = {
    "moonshot hybrid": ("moonshot", "kimi-k2.6"),
    "moonshot thinking": ("moonshot", "kimi-k2-thinking"),
    "moonshot instruct": ("moonshot", "kimi-k2-0905-preview"),
    "vllm thinking": ("vllm", "moonshotai/Kimi-K2-Thinking"),
    "vllm instruct": ("vllm", "moonshotai/Kimi-K2-Instruct-0905"),
}
"""Host and model by a name for the test."""


def thinks(name: str) -> bool:
    """Whether the model of this name sends reasoning."""
    return "instruct" not in name


def chat_kimi(simulator: KimiSimulator, name: str = "moonshot hybrid", **fields: Any) -> ChatKimi:
    """A ChatKimi that talks to the simulator."""
    host, model = MODELS[name]
    return ChatKimi(**{"model": model, "host": host, "base_url": simulator.base_url, "api_key": "sk-test", **fields})


def chat_openai(simulator: KimiSimulator, name: str = "moonshot hybrid", **fields: Any) -> ChatOpenAI:
    """A plain ChatOpenAI that talks to the simulator."""
    return wrapped.chat_openai(simulator, **{"model": MODELS[name][1], **fields})


SURFACES = {"ChatKimi": chat_kimi, "ChatOpenAI": chat_openai}
"""Models that an agent may be given, by a name for the test."""


async def run(mode: str, agent: Any, given: Any, config: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run an agent in one of the four modes, and return its last state. ``given``: a text is a user message."""
    start = {"messages": [("user", given)]} if isinstance(given, str) else given
    if mode == "invoke":
        return agent.invoke(start, config)  # type: ignore[no-any-return]
    if mode == "ainvoke":
        return await agent.ainvoke(start, config)  # type: ignore[no-any-return]
    if mode == "stream":
        return list(agent.stream(start, config, stream_mode="values"))[-1]  # type: ignore[no-any-return]
    return [state async for state in agent.astream(start, config, stream_mode="values")][-1]  # type: ignore[no-any-return]


def kinds(state: dict[str, Any]) -> list[str]:
    """The kinds of the messages, in order."""
    return [message.type for message in state["messages"]]


def texts(state: dict[str, Any], kind: str) -> list[str]:
    """The texts of the messages of one kind."""
    return [message.text for message in state["messages"] if message.type == kind]
