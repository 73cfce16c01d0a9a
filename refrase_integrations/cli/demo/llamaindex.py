"""The demo's second part: a LlamaIndex agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from llama_index.core.agent.workflow import AgentOutput, AgentStream, FunctionAgent, ToolCall, ToolCallResult

from refrase_integrations.cli.demo.task import TASK, TOOLS
from refrase_integrations.cli.demo.transcript import Transcript, Turn
from refrase_integrations.llamaindex import Kimi

NAME = "LlamaIndex FunctionAgent"


def run(transcript: Transcript, **fields: Any) -> list[Turn]:
    """Let an agent on ``Kimi(**fields)`` work on the task; return what its model calls tell of themselves."""
    return asyncio.run(_run(transcript, Kimi(**fields)))


async def _run(transcript: Transcript, llm: Kimi) -> list[Turn]:
    handler = FunctionAgent(llm=llm, tools=list(TOOLS)).run(TASK)
    turns: list[Turn] = []
    async for event in handler.stream_events():
        if isinstance(event, AgentStream):
            transcript.add("thinking", event.thinking_delta or "")
            transcript.add("kimi", event.delta)
        elif isinstance(event, ToolCallResult):
            transcript.start(event.tool_name, str(event.tool_output))
        elif isinstance(event, ToolCall):
            transcript.start("call", f"{event.tool_name}({json.dumps(event.tool_kwargs, ensure_ascii=False)})")
        elif isinstance(event, AgentOutput):
            turns.append(_turn(event.raw or {}))
    await handler
    return turns


def _turn(raw: Mapping[str, Any]) -> Turn:
    usage = raw.get("usage") or {}
    names = ("prompt_tokens", "cached_tokens", "reasoning_tokens", "completion_tokens")
    return Turn(raw.get("refrase", {}), [usage.get(name) for name in names], raw.get("cost_usd"))
