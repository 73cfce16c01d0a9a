"""The examples run: by themselves against the simulator, and against a host where a key is set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from refrase_integrations.simulator import KimiSimulator

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def run(example: Path, **variables: str) -> str:
    """Run an example in a process of its own, with no key but the given ones; return what it printed."""
    clean = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    command, env = [sys.executable, str(example)], {**clean, **variables}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_needs_no_key(example: Path) -> None:
    assert run(example).strip()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_takes_the_users_key_and_host(example: Path) -> None:
    with KimiSimulator() as simulator:
        assert run(example, MOONSHOT_API_KEY="sk-test", MOONSHOT_BASE_URL=simulator.base_url).strip()
        assert simulator.requests
        assert simulator.refusals == []


def test_the_node_sends_each_question_its_way() -> None:
    [example] = [path for path in EXAMPLES if path.stem == "02_refrase_node"]
    told = run(example)
    assert "needs fresh data: True" in told
    assert "needs fresh data: False" in told
    assert told.endswith("['system', 'human', 'ai', 'tool', 'ai', 'human', 'ai']\n")
