"""Does a chunk cost more the longer a LlamaIndex stream gets? Kimi's streams, and a FunctionAgent on them.

    python -m benchmarks llamaindex_stream [--rounds N]

Prints microseconds of this process's CPU a chunk for streams of growing length, and the slope of the total: 1.00 is
linear, 2.00 quadratic. Tool arguments of 8,000 chunks are a file of some 100 KB that an agent writes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool

from benchmarks.server import serving
from refrase_integrations.llamaindex import Kimi

HELLO = [ChatMessage(role="user", content="Hello")]
STREAM, ARGUMENTS = (500, 2_000, 8_000, 20_000), (500, 2_000, 8_000)
STEEPEST = 1.15
"""Slope from which on a stream counts as worse than linear."""


def llm(server: str, kind: str, chunks: int) -> Kimi:
    return Kimi(model="kimi-k2.6", host="moonshot", base_url=f"{server}/{kind}/{chunks}/v1", api_key="sk-not-a-key")


def text(server: str, chunks: int) -> None:
    assert sum(1 for _ in llm(server, "text", chunks).stream_chat(HELLO)) >= chunks


def reasoning(server: str, chunks: int) -> None:
    assert sum(1 for _ in llm(server, "reasoning", chunks).stream_chat(HELLO)) >= chunks


def atext(server: str, chunks: int) -> None:
    async def run() -> None:
        stream = await llm(server, "text", chunks).astream_chat(HELLO)
        assert len([None async for _ in stream]) >= chunks

    asyncio.run(run())


def agent(server: str, chunks: int) -> None:
    """A FunctionAgent whose model writes a file: one call, with arguments in so many chunks."""
    written: list[str] = []

    def write(text: str) -> str:
        """Write a text."""
        written.append(text)
        return "written"

    async def run() -> None:
        tool = FunctionTool.from_defaults(write, return_direct=True)
        handler = FunctionAgent(llm=llm(server, "arguments", chunks), tools=[tool]).run("Write it.")
        async for _ in handler.stream_events():
            pass
        await handler

    asyncio.run(run())
    assert written[0].count("\n") == chunks


ROWS: dict[str, tuple[Callable[[str, int], None], Sequence[int]]] = {
    "Kimi.stream_chat, text": (text, STREAM),
    "Kimi.stream_chat, reasoning": (reasoning, STREAM),
    "Kimi.astream_chat, text": (atext, STREAM),
    "FunctionAgent, tool arguments": (agent, ARGUMENTS),
}


def measure(run: Callable[[str, int], None], server: str, lengths: Sequence[int], rounds: int) -> list[float]:
    """Return the seconds of CPU of each length, the least of several rounds."""
    spent: dict[int, list[float]] = {chunks: [] for chunks in lengths}
    run(server, lengths[0])  # warms up
    for _ in range(rounds):
        for chunks in lengths:
            gc.collect()
            start = time.process_time()
            run(server, chunks)
            spent[chunks].append(time.process_time() - start)
    return [min(seconds) for seconds in spent.values()]


def slope(lengths: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the exponent with which the total grows: the slope of a line through the logarithms."""
    found: Any = statistics.linear_regression([math.log(n) for n in lengths], [math.log(one) for one in seconds])
    return float(found.slope)


def main(arguments: list[str]) -> int:
    """Measure and print; 1 where a stream is worse than linear."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks llamaindex_stream", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds of each length")
    chosen = parser.parse_args(arguments)
    steep = []
    with serving() as server:
        for name, (run, lengths) in ROWS.items():
            seconds = measure(run, server, lengths, chosen.rounds)
            each = ", ".join(f"{n:,}: {one / n * 1e6:.0f} us" for n, one in zip(lengths, seconds, strict=True))
            grows = slope(lengths, seconds)
            print(f"{name}: {each}; slope {grows:.2f}", flush=True)
            if grows > STEEPEST:
                steep.append(name)
    print(f"worse than linear: {', '.join(steep)}" if steep else "every stream is linear")
    return 1 if steep else 0
