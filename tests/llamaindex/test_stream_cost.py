"""What a chunk costs stays the same however long a stream gets: counted in calls and parsed characters, not in time.

`python -m benchmarks llamaindex_stream` measures the same in microseconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool

from benchmarks.llamaindex_stream import slope
from benchmarks.server import serving
from refrase_integrations.llamaindex import Kimi

HELLO = [ChatMessage(role="user", content="Hello")]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as address:
        yield address


def llm(server: str, kind: str, chunks: int) -> Kimi:
    return Kimi(model="kimi-k2.6", host="moonshot", base_url=f"{server}/{kind}/{chunks}/v1", api_key="sk-test")


async def calls_made(work: Callable[[], Awaitable[Any]]) -> int:
    """Return how many functions, of Python and of C, this thread calls while it works."""
    made = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        await work()
    finally:
        sys.setprofile(None)
    return made


async def read(streaming: Kimi, *, is_async: bool) -> int:
    """Read a stream to its end, and count its responses."""
    if is_async:
        return len([None async for _ in await streaming.astream_chat(HELLO)])
    return len([None for _ in streaming.stream_chat(HELLO)])


@pytest.mark.parametrize("kind", ["text", "reasoning"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_operations_a_chunk_are_flat_from_500_to_20_000(server: str, kind: str, is_async: bool) -> None:
    figures = {}
    for chunks in (500, 20_000):
        work = partial(read, llm(server, kind, chunks), is_async=is_async)
        assert await work() >= chunks  # and what is cached is there
        figures[chunks] = await calls_made(work) / chunks
    assert figures[20_000] < figures[500] * 1.05, figures


async def write_a_file(server: str, chunks: int, *, streaming: bool) -> tuple[str, int]:
    """Let an agent write a file; return its text, and how many pieces of the model's reply the agent showed."""
    written: list[str] = []

    def write(text: str) -> str:
        """Write a text."""
        written.append(text)
        return "written"

    tool = FunctionTool.from_defaults(write, return_direct=True)
    agent = FunctionAgent(llm=llm(server, "arguments", chunks), tools=[tool], streaming=streaming)
    handler = agent.run("Write it.")
    seen = [event async for event in handler.stream_events() if isinstance(event, AgentStream)]
    await handler
    assert written[0].count("\n") == chunks
    return written[0], len(seen)


LENGTHS = (500, 2_000, 8_000)


async def test_a_function_agents_work_is_linear_in_the_pieces_of_a_tools_arguments(server: str) -> None:
    """LlamaIndex asks for the tool calls with every response: partial arguments would be parsed again each time."""
    await write_a_file(server, 500, streaming=True)
    operations = [await calls_made(partial(write_a_file, server, chunks, streaming=True)) for chunks in LENGTHS]
    assert slope(LENGTHS, operations) <= 1.02, operations
    shown = {(await write_a_file(server, chunks, streaming=True))[1] for chunks in LENGTHS}
    assert len(shown) == 1, "no response for partial arguments"


async def test_arguments_are_parsed_a_fixed_number_of_times(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    loads = json.loads

    def counted(text: Any, **kwargs: Any) -> Any:
        parsed.append(len(text))
        return loads(text, **kwargs)

    monkeypatch.setattr(json, "loads", counted)
    readings = []
    for chunks in (2_000, 8_000):
        parsed.clear()
        text, _ = await write_a_file(server, chunks, streaming=True)
        readings.append(len([length for length in parsed if length > len(text) / 2]))
    assert readings[0] == readings[1] <= 16, readings
