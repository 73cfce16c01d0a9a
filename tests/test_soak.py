"""The soak in small: agents of both kinds work, half are cancelled in the middle of a stream, nothing is left behind."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator

import pytest

from benchmarks import soak
from benchmarks.soak import AGENTS, Result, report, run, serving, verdict


@pytest.mark.slow
def test_ten_seconds_leave_nothing_behind() -> None:
    with serving() as url:
        result = asyncio.run(run(url, 10.0, agents=20))
    assert set(result.answers) == set(AGENTS)
    assert result.failures == {}
    assert result.cancelled == 10
    assert (result.left, max(result.kept, 0)) == ([], 0)
    # A slope over seconds says nothing of minutes: memory is judged by `python -m benchmarks soak`.
    assert len(result.memory) == len(result.open) > 2


@pytest.mark.slow
def test_faults_do_not_stop_agents() -> None:
    faults = "overloaded_retry_after_ms=0.1,server_error=0.1,reset_before_headers=0.1,crlf=0.2,keep_alives=0.2"
    with serving(faults) as url:
        result = asyncio.run(run(url, 4.0, agents=8))
    assert result.answers.total() > 3
    assert {failure.partition(": ")[2] for failure in result.failures} <= {
        "HostOverloaded",
        "HostFailed",
        "ConnectionFailed",
    }
    assert (result.left, max(result.kept, 0)) == ([], 0)


@pytest.fixture
def own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command sets levels and variables for its process."""
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    logger = logging.getLogger("refrase_integrations")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.slow
@pytest.mark.usefixtures("own_settings")
def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--minutes", "0.05", "--agents", "4", "--kind", "LangGraph"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "flat, and nothing left behind"


def sound() -> Result:
    minutes = [0.1 * step for step in range(50)]
    return Result(answers=Counter({"LangGraph": 9}), memory=[(x, 200.0) for x in minutes], open=[40] * 50, cancelled=5)


def test_a_leak_is_told() -> None:
    assert verdict(sound()) == []
    growing = sound()
    growing.memory = [(minute, 200 + 3 * minute) for minute, _ in growing.memory]
    assert verdict(growing) == ["memory grows by 3.00 MB a minute"]
    assert "slope +3.00 MB/min" in report(growing)
    opening = sound()
    opening.open = [*range(40, 90)]
    assert verdict(opening) == ["34 more descriptors at the end"]
    leaving = sound()
    leaving.left, leaving.kept = ["1 task(s)"], 2
    assert verdict(leaving) == ["left behind: 1 task(s)", "2 descriptor(s) stay open"]
    failing = sound()
    failing.failures["LangGraph: wrong answer"] += 1
    assert verdict(failing) == ["LangGraph: wrong answer: 1"]
    assert verdict(Result()) == ["nothing was measured"]
