"""The demo's first part: a LangGraph agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain.agents import create_agent

from refrase_integrations.cli.demo.task import TASK, TOOLS
from refrase_integrations.cli.demo.transcript import Transcript, Turn
from refrase_integrations.langchain import ChatKimi

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, BaseMessage

NAME = "LangGraph agent"


def run(transcript: Transcript, **fields: Any) -> list[Turn]:
    """Let an agent on ``ChatKimi(**fields)`` work on the task; return what its model calls tell of themselves."""
    agent: Any = create_agent(ChatKimi(**fields), tools=list(TOOLS))
    messages: list[BaseMessage] = []
    for mode, part in agent.stream({"messages": [("user", TASK)]}, stream_mode=["messages", "values"]):
        if mode == "values":
            messages = part["messages"]
        else:
            _show(part[0], transcript)
    return [_turn(message) for message in messages if message.type == "ai"]  # type: ignore[arg-type]


def _show(message: BaseMessage, transcript: Transcript) -> None:
    if message.type == "tool":
        transcript.start(str(message.name), message.text)
        return
    transcript.add("thinking", message.additional_kwargs.get("reasoning_content") or "")
    transcript.add("kimi", message.text)
    for call in getattr(message, "tool_call_chunks", None) or ():
        transcript.start("call", f"{call['name']}({call['args']})")


def _turn(message: AIMessage) -> Turn:
    usage: Any = message.usage_metadata or {}
    cached = usage.get("input_token_details", {}).get("cache_read")
    reasoning = usage.get("output_token_details", {}).get("reasoning")
    return Turn(
        report=message.response_metadata.get("refrase", {}),
        tokens=(usage.get("input_tokens"), cached, reasoning, usage.get("output_tokens")),
        cost=message.response_metadata.get("cost_usd"),
    )
