"""Two hundred agents at once for minutes: does memory grow, do descriptors, and what does cancelling leave behind?

Half of the agents are LangGraph's (``create_agent`` with `ChatKimi`), half LlamaIndex's (`FunctionAgent` with `Kimi`), each
with tools, each asking one question after another of a simulator in a process of its own. At the end half of them are
cancelled in the middle of a stream, and the others finish.

    python -m benchmarks soak --minutes 5
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.environment import missing
from benchmarks.leaks import Held, descriptors, resident, slope

MODEL = "kimi-k2.6"
FAULTS = "slow_trickle=0.3,trickle_seconds=0.02"
"""So that many streams are open at any time."""
WARM = 0.3
"""Share of the time that is not measured: caches fill, pools open."""
FLAT = 1.0
"""MB a minute that may be noise; so may `SHARE` of the memory in all."""
SHARE = 0.02
SPREAD = 20
"""Descriptors by which the largest counts of an earlier and a later part may differ: pools breathe."""

SERVER = """
import sys
from refrase_integrations.simulator import KimiSimulator
with KimiSimulator(faults=sys.argv[1], seed=int(sys.argv[2]), keep=100) as simulator:
    print(simulator.base_url, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def serving(faults: str = FAULTS, seed: int = 1) -> Iterator[str]:
    """Run a simulator in another process, until this one ends; the value is its address."""
    command = [sys.executable, "-c", SERVER, faults, str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


# -- agents ------------------------------------------------------------------------------------------------


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


Ask = Callable[[str, Callable[[], None]], Awaitable[str]]
"""Asks an agent; calls back for each piece of the answer that comes, returns the answer."""


def langgraph_agents(url: str) -> Ask:
    """Return a LangGraph agent."""
    from langchain.agents import create_agent

    from refrase_integrations.langchain import ChatKimi

    agent = create_agent(ChatKimi(model=MODEL, host="moonshot", base_url=url, api_key="sk-test"), [add, multiply])

    async def ask(question: str, came: Callable[[], None]) -> str:
        said = ""
        asked: Any = {"messages": [("user", question)]}
        async for message, _ in agent.astream(asked, stream_mode="messages"):
            came()
            said = said + message.text if message.type == "AIMessageChunk" else ""
        return said

    return ask


def llamaindex_agents(url: str) -> Ask:
    """Return a LlamaIndex agent."""
    from llama_index.core.agent.workflow import FunctionAgent

    from refrase_integrations.llamaindex import Kimi

    llm = Kimi(model=MODEL, host="moonshot", base_url=url, api_key="sk-test")
    agent = FunctionAgent(llm=llm, tools=[add, multiply])

    async def ask(question: str, came: Callable[[], None]) -> str:
        handler = agent.run(question)
        try:
            async for _ in handler.stream_events():
                came()
            return str(await handler)
        except asyncio.CancelledError:
            await handler.cancel_run()  # a workflow runs in tasks of its own: who leaves it has to say so
            raise

    return ask


AGENTS: dict[str, tuple[Callable[[str], Ask], str]] = {
    "LangGraph": (langgraph_agents, "langchain"),
    "LlamaIndex": (llamaindex_agents, "llama_index.core"),
}
"""By name: how to get the agent, and the module that it needs."""


# -- the run -----------------------------------------------------------------------------------------------


@dataclass
class Result:
    """What was seen."""

    answers: Counter[str] = field(default_factory=Counter)
    """Right ones, by kind of agent."""
    failures: Counter[str] = field(default_factory=Counter)
    """Wrong answers and errors, by kind of agent and name."""
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Minutes and MB, after the warm-up."""
    open: list[int] = field(default_factory=list)
    """Descriptors, after the warm-up."""
    cancelled: int = 0
    """Agents that were cancelled in the middle of a stream."""
    swallowed: int = 0
    """Cancellations that the framework swallowed, so that they had to be repeated."""
    left: list[str] = field(default_factory=list)
    """What they left behind."""
    kept: int = 0
    """Descriptors that stay open after `aclose`."""

    @property
    def growth(self) -> float:
        """MB a minute."""
        return slope(self.memory)

    @property
    def minutes(self) -> float:
        """That were measured."""
        return self.memory[-1][0] - self.memory[0][0] if self.memory else 0.0

    @property
    def spread(self) -> int:
        """How many more descriptors were open at most in the last third than in the first."""
        third = max(len(self.open) // 3, 1)
        return max(self.open[-third:], default=0) - max(self.open[:third], default=0)


class _Agent:
    """One agent at work."""

    def __init__(self, name: str, ask: Ask, number: int, result: Result) -> None:
        self._name, self._ask, self._result = name, ask, result
        self._random = Random(number)
        self.streams = False
        """It is in the middle of an answer."""

    async def work(self, over: Callable[[], bool]) -> None:
        while not over():
            await self.once()

    async def once(self) -> None:
        a, b = self._random.randint(2, 10**6), self._random.randint(2, 10**6)
        try:
            said = await self._ask(f"What is {a} + {b}?", self._came)
        except Exception as error:  # noqa: BLE001 - whatever an agent raises is a result
            self._result.failures[f"{self._name}: {type(error).__name__}"] += 1
        else:
            if str(a + b) in said.replace(",", ""):
                self._result.answers[self._name] += 1
            else:
                self._result.failures[f"{self._name}: wrong answer"] += 1
        finally:
            self.streams = False

    def _came(self) -> None:
        self.streams = True


async def run(url: str, seconds: float, agents: int = 200, kinds: Sequence[str] = tuple(AGENTS)) -> Result:
    """Let agents work, look at what the process holds, cancel half of them; return what was seen."""
    from refrase_integrations.client.connection import aclose

    result, empty = Result(), Held.now()
    asks = {name: AGENTS[name][0](url) for name in kinds}
    for name, ask in asks.items():  # what is loaded and kept for good by a first call
        await _Agent(name, ask, 10**6, Result()).once()
    before = Held.now()
    ends = time.monotonic() + seconds
    crew = [_Agent(name, ask, n, result) for n in range(agents // len(asks)) for name, ask in asks.items()]
    leaving, staying = crew[: len(crew) // 2], crew[len(crew) // 2 :]
    # Those that will be cancelled work on until then.
    tasks = {agent: asyncio.create_task(agent.work(lambda: False)) for agent in leaving}
    tasks |= {agent: asyncio.create_task(agent.work(lambda: time.monotonic() >= ends)) for agent in staying}
    await _watch(result, seconds)
    await _cancel({agent: tasks[agent] for agent in leaving}, result)
    await asyncio.gather(*(tasks[agent] for agent in staying))
    del tasks
    result.left = Held.now().beyond(before, but=("asyncio_",))
    await aclose()
    gc.collect()
    for _ in range(100):
        result.kept = descriptors() - empty.descriptors
        if result.kept <= 0:
            break
        await asyncio.sleep(0.05)
    return result


async def _watch(result: Result, seconds: float) -> None:
    begun, step = time.monotonic(), max(0.2, seconds / 300)
    while (passed := time.monotonic() - begun) < seconds:
        await asyncio.sleep(step)
        if passed >= WARM * seconds:
            gc.collect()
            result.memory.append(((time.monotonic() - begun) / 60, resident()))
            result.open.append(descriptors())


async def _cancel(tasks: dict[_Agent, asyncio.Task[None]], result: Result) -> None:
    """Cancel each agent as soon as it is in the middle of a stream."""
    waiting = dict(tasks)
    while waiting:
        for agent, task in list(waiting.items()):
            if agent.streams or task.done():
                result.cancelled += agent.streams
                task.cancel()
                del waiting[agent]
        await asyncio.sleep(0.01)
    pending = set(tasks.values())
    while pending:
        _, pending = await asyncio.wait(pending, timeout=2.0)
        for task in pending:
            # LangGraph's astream swallows a cancellation now and then (1.2.22: 39 of 1,500 with a model of a few lines
            # that only yields), and the agent goes on with its next question.
            result.swallowed += 1
            task.cancel()


# -- the command -------------------------------------------------------------------------------------------


def report(result: Result) -> str:
    """Return the result as text."""
    done = ", ".join(f"{name} {count}" for name, count in sorted(result.answers.items()))
    first, last = (result.memory[place][1] if result.memory else 0.0 for place in (0, -1))
    failed = ", ".join(f"{name} {count}" for name, count in result.failures.most_common()) or "none"
    lines = (
        f"right answers   {sum(result.answers.values())} ({done}); failures: {failed}",
        f"memory          {first:.0f} MB after the warm-up, {last:.0f} MB at the end, slope {result.growth:+.2f} MB/min "
        f"over {result.minutes:.1f} min",
        f"descriptors     {max(result.open, default=0)} at most; last third against first: {result.spread:+d}",
        f"cancelled       {result.cancelled} agents in the middle of a stream ({result.swallowed} had to be told again); "
        f"left behind: {', '.join(result.left) or 'nothing'}",
        f"after aclose()  {max(result.kept, 0)} descriptors more than at the start",
    )
    return "\n".join(lines)


def verdict(result: Result) -> list[str]:
    """Return what is wrong, in words; nothing: all is well."""
    wrong = [f"{name}: {count}" for name, count in result.failures.items()]
    level = result.memory[0][1] if result.memory else 0.0
    if result.growth > FLAT and result.growth * result.minutes > SHARE * level:
        wrong.append(f"memory grows by {result.growth:.2f} MB a minute")
    if result.spread > SPREAD:
        wrong.append(f"{result.spread} more descriptors at the end")
    if not result.answers or not result.cancelled:
        wrong.append("nothing was measured")
    wrong += [f"left behind: {what}" for what in result.left]
    return wrong + ([f"{result.kept} descriptor(s) stay open"] if result.kept > 0 else [])


def main(arguments: Sequence[str]) -> int:
    """Run the soak, print what was seen; return 0 where nothing grew and nothing was left behind."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (default %(default)s)")
    parser.add_argument("--agents", type=int, default=200, help="how many at once (default %(default)s)")
    parser.add_argument("--kind", action="append", choices=[*AGENTS], help="only this kind; may be repeated")
    parser.add_argument("--faults", default=FAULTS, help="what the simulator does (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the faults (default %(default)s)")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args(arguments)
    kinds = [name for name in options.kind or AGENTS if not missing([AGENTS[name][1]])]
    for name in {*(options.kind or AGENTS)} - {*kinds}:
        print(f"{name}: skipped, {AGENTS[name][1]} is not installed")
    if not kinds:
        return 1
    warnings.simplefilter("ignore")
    logging.getLogger("refrase_integrations").setLevel(logging.ERROR)
    os.environ["LANGSMITH_TRACING"] = "false"
    with serving(options.faults, options.seed) as url:
        result = asyncio.run(run(url, options.minutes * 60, options.agents, kinds))
    print(report(result))
    if options.json:
        options.json.write_text(json.dumps(vars(result), indent=2) + "\n", encoding="utf-8")
    wrong = verdict(result)
    print(*(wrong or ["flat, and nothing left behind"]), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
