"""The benchmark of chaos in small: our clients lose and double nothing, and its judgement tells what others do."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import chaos
from benchmarks.chaos import BAD, CLIENTS, ENDS, OURS, Got, Plan, Tally, judge, plans, reached, run, table, verdict
from benchmarks.leaks import Held, slope
from refrase_integrations.errors import HostFailed

QUICK = "chaos,stall_seconds=20,slow_seconds=0.05,trickle_seconds=0.002,retry_after_seconds=0"


@pytest.mark.parametrize("name", OURS)
def test_every_call_ends_right_or_in_a_typed_error(name: str) -> None:
    tally = run(name, 160, seed=5, faults=QUICK)
    assert verdict({name: tally}) == []
    assert tally.ends["right"] > 120
    assert sum(tally.ends.values()) == 160
    assert len(tally.faults) > 15
    assert tally.hit / tally.requests > 0.2


def test_worse_than_that() -> None:
    tally = run(
        "ChatKimi", 64, seed=2, faults=f"{QUICK},cut=0.3,truncated_arguments=0.3,empty_reply=0.1,crlf=0.5,bom=0.3"
    )
    assert verdict({"ChatKimi": tally}) == []
    assert tally.ends["right"] > 40


def test_a_client_without_retries_and_repair_is_told_from_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("langchain_openai")
    monkeypatch.setattr(chaos, "RETRIES", 0)
    tally = run("ChatOpenAI", 64, seed=5, faults=f"{QUICK},cut=0.3,truncated_arguments=0.3")
    assert sum(tally.ends[end] for end in (*BAD, "typed error", "refused call")) > 20
    assert tally.ends["lost"] > 0
    assert verdict({"ChatOpenAI": tally}) == []  # it judges ours


def test_every_way_is_asked() -> None:
    kinds = Counter((plan.mode, plan.tools, plan.thinking) for plan in plans(64))
    assert len(kinds) == 16
    assert set(kinds.values()) == {4}


TEXT = Plan(1, "stream", tools=False, thinking=True)
CALLS = Plan(next(n for n in range(99) if len(Plan(n, "", True, False).answer.calls) == 2), "stream", True, False)


def got(plan: Plan, **fields: Any) -> Got:
    answer = plan.answer
    return Got(**{"text": answer.text, "reasoning": answer.reasoning, "calls": answer.calls, **fields})


def judged(plan: Plan, reply: Any, said: str | None = None, ours: bool = True, **met: int) -> str:
    return judge(plan, reply, reply.text if said is None else said, met, ours=ours)


def test_each_end_of_a_call_is_told_apart() -> None:
    text, calls = TEXT.answer.text, CALLS.answer.calls
    assert judged(TEXT, got(TEXT)) == judged(CALLS, got(CALLS)) == "right"
    assert judged(TEXT, HostFailed("x"), text[:20]) == "typed error"
    assert judged(TEXT, HostFailed("x"), text[:20], ours=False) == "untyped error"
    assert judged(TEXT, ValueError("x"), text[:20]) == "untyped error"
    assert judged(TEXT, HostFailed("x"), text[1:20]) == "wrong"
    assert judged(TEXT, got(TEXT, text=text[:-1])) == "lost"
    assert judged(TEXT, got(TEXT, text=text[:9] + text[4:])) == "doubled"
    assert judged(TEXT, got(TEXT, text=text[:9] + text[4:]), repeated_text=1) == "as sent"
    assert judged(TEXT, got(TEXT, text="x" + text[1:])) == "wrong"
    assert judged(TEXT, got(TEXT, reasoning=None)) == "lost"
    assert judged(TEXT, got(TEXT, reasoning=TEXT.answer.reasoning * 2)) == "doubled"  # type: ignore[operator]
    assert judged(TEXT, got(TEXT, reasoning=None), ours=False) == "right"
    assert judged(CALLS, got(CALLS, calls=calls[:1])) == "lost"
    assert judged(CALLS, got(CALLS, calls=[*calls, calls[0]])) == "doubled"
    assert judged(CALLS, got(CALLS, calls=[calls[1], calls[0]])) == "wrong"
    assert judged(CALLS, got(CALLS, calls=[calls[0], ("write_note", {})])) == "wrong"
    assert judged(CALLS, got(CALLS, calls=calls[:1], refused=1)) == "refused call"


def test_how_far_a_text_with_a_piece_twice_has_come() -> None:
    assert reached("the fog", "the fog lay") == 7
    assert reached("the fogfog", "the fog lay") == 7
    assert reached("thethe fogfog", "the fog lay") == 7
    for said in ("the dog", "fog", "the fogfog"):
        with pytest.raises(ValueError):
            reached(said, "the fog lay", 0)


@pytest.mark.parametrize("end", BAD)
def test_every_fault_of_ours_fails_the_command(end: str) -> None:
    tally = Tally()
    tally.ends[end] += 1
    tally.examples[end].append(7)
    assert verdict({"ChatKimi": tally}) == [f"ChatKimi: {end}: 1 (calls [7])"]
    assert verdict({"ChatKimi": Tally(leaks=["1 task(s)"], kept=2)}) == [
        "ChatKimi: leaked 1 task(s)",
        "ChatKimi: 2 descriptor(s) stay open after aclose()",
    ]
    assert all(column in table({"ChatKimi": tally}) for column in ENDS)


async def test_leaks_are_seen() -> None:
    before = Held.now()
    assert Held.now().beyond(before) == []
    task = asyncio.ensure_future(asyncio.sleep(60))
    assert Held.now().beyond(before) == ["1 task(s)"]
    task.cancel()


def test_a_connection_in_use_is_seen() -> None:
    from refrase_integrations.langchain import ChatKimi
    from refrase_integrations.simulator import KimiSimulator, Reply

    with KimiSimulator(script=[Reply("A long text. " * 50)]) as simulator:
        before = Held.now()
        stream = ChatKimi(host="moonshot", base_url=simulator.base_url, api_key="k").stream("Hi")
        next(stream)
        assert Held.now().beyond(before) == ["1 connection(s) in use"]
        stream.close()
        assert Held.now().beyond(before) == []


@pytest.fixture
def own_settings() -> Iterator[None]:
    """The command sets the level of the log for its process."""
    logger = logging.getLogger("refrase_integrations")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("own_settings")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "result.json"
    assert chaos.main(["--calls", "16", "--client", "ChatKimi", "--faults", QUICK, "--json", str(file)]) == 0
    assert "ChatKimi" in capsys.readouterr().out.splitlines()[1]
    assert sum(json.loads(file.read_text("utf-8"))["ChatKimi"]["ends"].values()) == 16


def test_slope() -> None:
    assert slope([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
    assert slope([(0, 1)]) == 0


def test_clients_are_named_with_what_they_need() -> None:
    assert set(OURS) <= set(CLIENTS)
