"""Two LlamaIndex agents that hand over to one another, put away after every turn and taken up again by new objects.

LlamaIndex leaves the memory out of a saved `Context`: it is kept beside it here, reasoning and tool calls included,
which thinking models want back. Runs against a local simulator of Kimi's API; with MOONSHOT_API_KEY set, against
Moonshot's.

    pip install "refrase-integrations[llamaindex,simulator]"
    python examples/06_llamaindex_agents.py
"""

import asyncio
import json
import os
import tempfile
import warnings
from contextlib import nullcontext
from pathlib import Path

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ToolCallResult
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.workflow import Context

from refrase_integrations.llamaindex import Kimi
from refrase_integrations.simulator import KimiSimulator

TURNS = (
    "Hand off to the agent 'weather', please.",
    "What is the weather in Paris?",
    "And what is the weather in Tokyo?",
)


def get_time(city: str) -> str:
    """Return the local time in a city."""
    return f"It is noon in {city}."


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return f"It is sunny in {city}."


def build(llm: Kimi) -> AgentWorkflow:
    front = FunctionAgent(
        name="front",
        description="Greets people and knows the time.",
        system_prompt="You are the front desk. Hand off what others know better.",
        llm=llm,
        tools=[get_time],
        can_handoff_to=["weather"],
    )
    weather = FunctionAgent(
        name="weather",
        description="Knows the weather.",
        system_prompt="You know the weather.",
        llm=llm,
        tools=[get_weather],
        can_handoff_to=["front"],
    )
    return AgentWorkflow(agents=[front, weather], root_agent="front")


def load(path: Path, agents: AgentWorkflow) -> tuple[Context, ChatMemoryBuffer]:
    if not path.exists():
        return Context(agents), ChatMemoryBuffer.from_defaults(token_limit=100_000)
    saved = json.loads(path.read_text("utf-8"))
    history = [ChatMessage.model_validate(message) for message in saved["memory"]]
    memory = ChatMemoryBuffer.from_defaults(chat_history=history, token_limit=100_000)
    return Context.from_dict(agents, saved["context"]), memory


def save(path: Path, context: Context, memory: ChatMemoryBuffer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it leaves the memory out
        kept = context.to_dict()
    history = [message.model_dump(mode="json") for message in memory.get_all()]
    path.write_text(json.dumps({"context": kept, "memory": history}), "utf-8")


async def turn(question: str, path: Path, llm: Kimi) -> None:
    agents = build(llm)
    context, memory = load(path, agents)
    handler = agents.run(question, ctx=context, memory=memory)
    print(f"user: {question}")
    async for event in handler.stream_events():
        if isinstance(event, ToolCallResult):
            print(f"  {event.tool_name}: {str(event.tool_output)[:80]!r}")
    result = await handler
    print(f"{result.current_agent_name}: {str(result)[:200]!r}")
    save(path, context, memory)


async def main() -> None:
    key = os.environ.get("MOONSHOT_API_KEY")
    with nullcontext() if key else KimiSimulator() as simulator, tempfile.TemporaryDirectory() as folder:
        where = {"base_url": simulator.base_url, "api_key": "simulator"} if simulator else {}
        for question in TURNS:
            llm = Kimi(model="kimi-k2.6", host="moonshot", thinking=True, **where)
            await turn(question, Path(folder) / "conversation.json", llm)


if __name__ == "__main__":
    asyncio.run(main())
