"""The headline: two thinking agents that hand over to one another, 30 turns with parallel tools, their `Context` saved
and restored after each, the process restarted in the middle, without one 400.

`tests/peers/llamaindex/test_openai_like_fails.py` has the same agents on a generic LLM, which fail.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from refrase_integrations.simulator import KimiSimulator
from tests.llamaindex.handoffs import CITIES, scripted

TURNS = 30
PROCESS = """
import asyncio, json, sys
from pathlib import Path
from llama_index.core.workflow import Context
from refrase_integrations.llamaindex import Kimi
from tests.llamaindex.handoffs import MEMORIES, run_turn, stored, workflow

base_url, kind, host, path, first, last = *sys.argv[1:4], Path(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6])

async def main():
    model = {"moonshot": "kimi-k2.6", "vllm": "moonshotai/Kimi-K2-Thinking"}[host]
    for turn in range(first, last):
        llm = Kimi(model=model, host=host, base_url=base_url, api_key="sk-test", thinking=True)
        agents = workflow(llm)
        saved = json.loads(path.read_text()) if path.exists() else None
        memory = MEMORIES[kind](saved["memory"] if saved else [])
        context = Context.from_dict(agents, saved["context"]) if saved else Context(agents)
        print(json.dumps(await run_turn(agents, turn, context, memory)))
        path.write_text(json.dumps({"context": context.to_dict(), "memory": await stored(memory)}))

asyncio.run(main())
"""


def run_process(simulator: KimiSimulator, kind: str, path: Path, first: int, last: int) -> list[str]:
    arguments = [simulator.base_url, kind, simulator.host.persona.id, str(path), str(first), str(last)]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROCESS, *arguments],
        capture_output=True, text=True, check=False, timeout=300, cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((root, os.environ.get("PYTHONPATH", "")))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("kind", "persona"), [("ChatMemoryBuffer", "moonshot"), ("Memory", "vllm")])
def test_thirty_turns_through_a_restart_of_the_process(kind: str, persona: str, tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    with KimiSimulator(persona, script=scripted) as simulator:
        said = run_process(simulator, kind, path, 0, TURNS // 2)
        said += run_process(simulator, kind, path, TURNS // 2, TURNS)
        bodies: list[Any] = [request.body for request in simulator.requests]
        assert simulator.refusals == []
    cities = [CITIES[turn % 2] for turn in range(TURNS)]
    assert said == [f"Turn {n}: It is noon in {city}. It is sunny in {city}." for n, city in enumerate(cities)]
    messages = bodies[-1]["messages"]
    field = "reasoning_content" if persona == "moonshot" else "reasoning"
    calling = [message for message in messages if message.get("tool_calls")]
    parallel = [message for message in calling if len(message["tool_calls"]) == 2]
    assert [message[field] for message in parallel] == [f"Turn {turn}: I look both up." for turn in range(TURNS)]
    handed = [message[field] for message in calling if message["tool_calls"][0]["function"]["name"] == "handoff"]
    assert len(handed) == 1 + 2 * (TURNS // 3 - 1), "one hand-off to begin with, then to and fro every third turn"
    ids = [made["id"] for message in calling for made in message["tool_calls"]]
    assert len(ids) == len(set(ids))
    # Each agent's request begins as its own last one: the prompt cache hits, also across the restart.
    for system in ("Greet.", "Forecast."):
        own = [body["messages"] for body in bodies if body["messages"][0]["content"].startswith(system)]
        assert len(own) >= TURNS // 3
        for earlier, later in zip(own, own[1:], strict=False):
            assert later[: len(earlier)] == earlier
