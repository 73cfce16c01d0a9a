"""What reading a reply for leaked tool calls costs where nothing leaks: plain text, with the recovery and without.

    python -m benchmarks recovery [--rounds N]

The two take turns, round by round, each first in every other round. A figure is CPU time of this process; what is
printed is the median over the rounds of the ratio within a round, so that a machine that is slow for a while is slow for
both. The pipeline that heals a reply is measured alone, over text and reasoning; and the whole stream of `ChatKimi`
against a local server, there over code with ``<`` in two of five pieces, too.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from benchmarks.server import deltas, serving
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.practice import Call
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.stream import Healer
from refrase_integrations.kimi.tokens import estimate
from refrase_integrations.kimi.wire import Body
from refrase_integrations.langchain import ChatKimi

GOAL = 1.03
PLAIN = ("text", "reasoning")
CHUNKS = 4_000
MODEL, HOST = "moonshotai/Kimi-K2-Thinking", "vllm"
OFF = {"tool_call_recovery": "off"}
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks a word up.",
        "parameters": {"type": "object", "properties": {}},
    },
}

Run = Callable[[], Any]


def reply(kind: str) -> list[dict[str, Any]]:
    """Return the raw chunks of a reply, in pieces as long as tokens are."""
    named = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    choices = [*({"index": 0, "delta": delta} for delta in deltas(kind, CHUNKS)), last]
    return [{**named, "choices": [choice]} for choice in choices]


def pipeline(chunks: Sequence[dict[str, Any]], practices: Mapping[str, Any] | None) -> Run:
    """Return a pass of the healing pipeline alone over the chunks of one reply."""
    body = cast(
        Body, {"model": MODEL, "messages": [{"role": "user", "content": "Go on."}], "tools": [TOOL], "stream": True}
    )
    dialect = compile_dialect(find_model(MODEL), find_host(HOST), name=MODEL)
    prepared = prepare(Call(body=body, dialect=dialect, practices=Practices.of(practices), count=estimate))

    def run() -> None:
        healer = Healer(prepared)
        for chunk in chunks:
            healer.feed(chunk)
        healer.close()

    return run


def chat(url: str, practices: Mapping[str, Any] | None) -> Run:
    """Return a pass of a whole stream of `ChatKimi`, from the socket to the user."""
    model = ChatKimi(model=MODEL, host=HOST, base_url=url, api_key="sk-not-a-key", practices=practices)
    bound = model.bind_tools([TOOL])
    return lambda: sum(len(chunk.text) for chunk in bound.stream("Is water wet?"))


def compare(with_it: Run, without: Run, rounds: int) -> tuple[float, float, float]:
    """Return the median ratio, and the median seconds of a pass with and without."""
    passes = (with_it, without)
    for one in passes:
        one()
    seconds: tuple[list[float], list[float]] = ([], [])
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            for place in (0, 1) if number % 2 else (1, 0):
                start = time.process_time()
                passes[place]()
                seconds[place].append(time.process_time() - start)
    finally:
        gc.enable()
    ratio = statistics.median(one / other for one, other in zip(*seconds, strict=True))
    return ratio, statistics.median(seconds[0]), statistics.median(seconds[1])


def main(arguments: Sequence[str]) -> int:
    """Measure, print a line each; return 1 where plain text costs more than 3% with the recovery."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks recovery", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="measured rounds of each line (default %(default)s)")
    options = parser.parse_args(arguments)
    slow = []
    with serving() as server:
        lines = {f"pipeline, {kind}": (pipeline(reply(kind), None), pipeline(reply(kind), OFF)) for kind in PLAIN}
        for kind in (*PLAIN, "code"):
            url = f"{server}/{kind}/{CHUNKS}/v1"
            lines[f"ChatKimi.stream, {kind}"] = (chat(url, None), chat(url, OFF))
        for name, (with_it, without) in lines.items():
            ratio, ours, bare = compare(with_it, without, options.rounds)
            if ratio > GOAL:
                slow.append(name)
            figures = f"{ours / CHUNKS * 1e6:.2f} us a chunk, {bare / CHUNKS * 1e6:.2f} without"
            print(f"{name}: {ratio:.3f} ({figures}){'  MISSED' if ratio > GOAL else ''}", flush=True)
    print(f"goal {GOAL:.2f}: {'met' if not slow else 'missed in ' + '; '.join(slow)}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
