"""Many inputs: every row answered once, in order, whatever fails and whoever dies in between."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from llama_index.core.base.llms.types import ChatMessage, CompletionResponse
from pydantic import BaseModel

from refrase_integrations.batch import BatchResult, Budget, Limiter, Limits, arun_batch, run_batch
from refrase_integrations.errors import (
    BatchFileError,
    BudgetExceeded,
    ConfigurationError,
    HostFailed,
    RequestRefused,
    WrongKey,
)
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.surfaces import SURFACES, build

USAGE = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
FIELDS: dict[str, Any] = {"model": "kimi-k2.6", "thinking": False, "max_retries": 0, "max_tokens": 1_000}
COST = (100 * 0.95 + 50 * 4) / 1e6

every_way = pytest.mark.parametrize(
    ("surface", "way"),
    [pytest.param(surface, way, id=f"{surface}-{way}") for surface in SURFACES for way in ("run", "arun")],
)


async def run(way: str, model: Any, inputs: Any, **options: Any) -> BatchResult:
    """Run a batch in one of the two ways; the sync one inside a running event loop, as in a notebook."""
    return run_batch(model, inputs, **options) if way == "run" else await arun_batch(model, inputs, **options)


def asked(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[0]["text"]


def echo(body: dict[str, Any]) -> Reply:
    """Say what was asked; what begins with "bad" is refused."""
    text = asked(body)
    return Reply(status=400, message=f"cannot {text}") if text.startswith("bad") else Reply(text.upper(), usage=USAGE)


def same(given: Any) -> Any:
    return given


def questions(simulator: KimiSimulator) -> list[str]:
    return [asked(request.body) for request in simulator.requests]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@every_way
async def test_results_in_order_and_one_failure_loses_nothing(surface: str, way: str, tmp_path: Path) -> None:
    inputs = [f"bad {n}" if n % 5 == 3 else f"q {n}" for n in range(23)]
    for path in (None, tmp_path / "out.jsonl"):
        with KimiSimulator(script=echo) as simulator:
            batch = await run(way, build(surface, simulator, **FIELDS), inputs, path=path, concurrency=6)
            rows = list(batch)
            assert [row.index for row in rows] == list(range(23))
            assert [row.key for row in rows] == [str(n) for n in range(23)]
            told = [getattr(row.result, "text", None) for row in rows]
            assert told == [None if one.startswith("bad") else one.upper() for one in inputs]
            assert {type(row.result) for row in rows} == {
                AIMessage if surface == "ChatKimi" else CompletionResponse,
                type(None),
            }
            assert [row.failure.type for row in rows if row.failure] == ["RequestRefused"] * 4
            assert (batch.done, batch.failed, len(batch), dict(batch.causes)) == (19, 4, 23, {"RequestRefused": 4})
            assert (batch.tokens, batch.cost_usd) == (19 * 150, pytest.approx(19 * COST))
            assert (rows[0].usage, rows[0].cost_usd, rows[3].cost_usd) == (USAGE, pytest.approx(COST), 0)
            assert str(batch).startswith("19 rows done, 4 failed (4 RequestRefused); 2,850 tokens, $0.0056, ")


@every_way
async def test_in_chaos_every_row_has_its_end_and_a_second_run_mends_it(surface: str, way: str, tmp_path: Path) -> None:
    inputs = [f"q {n}" for n in range(60)]
    faults = {"seed": 1, "server_error": 0.2, "reset_before_headers": 0.1, "cut": 0.2, "proxy_page": 0.1}
    with KimiSimulator(script=echo, faults=faults) as simulator:
        model = build(surface, simulator, **FIELDS)
        batch = await run(way, model, inputs, path=tmp_path / "out.jsonl")
        assert (batch.done + batch.failed, batch.failed > 0) == (60, True)
        assert all((row.result is None) == (row.failure is not None) for row in batch)
        for _ in range(20):
            batch = await run(way, model, inputs, path=tmp_path / "out.jsonl")
        assert [row.result.text for row in batch] == [one.upper() for one in inputs]
        assert (batch.resumed, batch.failed) == (60, 0)


@every_way
async def test_run_again_it_goes_on(surface: str, way: str, tmp_path: Path) -> None:
    path, inputs = tmp_path / "out.jsonl", [f"bad {n}" if n % 4 == 3 else f"q {n}" for n in range(12)]
    with KimiSimulator(script=echo) as simulator:
        model = build(surface, simulator, **FIELDS)
        first = await run(way, model, inputs, path=path)
        before = list(first)
        simulator.host._script._function = lambda body: Reply(asked(body).upper(), usage=USAGE)
        simulator.reset()
        again = await run(way, model, [*inputs, "one more"], path=path)
        assert sorted(questions(simulator)) == ["bad 11", "bad 3", "bad 7", "one more"]
        assert (again.done, again.failed, again.resumed) == (4, 0, 9)
        assert [row.result.text for row in again] == [one.upper() for one in [*inputs, "one more"]]
        assert [row.resumed for row in again] == [*(row.failure is None for row in before), False]
        assert Counter(line["key"] for line in lines(path)) == Counter(map(str, range(13)))
        with pytest.raises(BatchFileError, match="written anew"):
            list(first)
        simulator.reset()
        assert (await run(way, model, [*inputs, "one more"], path=path)).resumed == 13
        assert simulator.requests == []


@every_way
async def test_another_input_under_the_same_key_is_asked(surface: str, way: str, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with KimiSimulator(script=echo) as simulator:
        model = build(surface, simulator, **FIELDS)
        await run(way, model, ["q 0", "q 1"], path=path)
        again = await run(way, model, ["q 0", "changed"], path=path)
        assert [row.result.text for row in again] == ["Q 0", "CHANGED"]
        assert questions(simulator)[2:] == ["changed"]


async def test_keys_find_rows_in_another_order(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"

    async def answer(given: dict[str, str]) -> str:
        seen.append(given["id"])
        return given["id"] * 2

    seen: list[str] = []
    inputs = [{"id": name} for name in "abcd"]
    await arun_batch(answer, inputs, path=path, key=lambda given: given["id"])
    seen.clear()
    again = await arun_batch(answer, [{"id": "e"}, *reversed(inputs)], path=path, key=lambda given: given["id"])
    assert seen == ["e"]
    assert again.results == ["ee", "dd", "cc", "bb", "aa"]
    with pytest.raises(ConfigurationError, match="input 1: its key was there before"):
        await arun_batch(answer, [{"id": "a"}, {"id": "a"}], key=lambda given: given["id"])
    with pytest.raises(ConfigurationError, match="no text"):
        await arun_batch(answer, [{"id": "a"}], key=lambda given: 7)  # type: ignore[arg-type,return-value]


KILLED = """
import sys
from refrase_integrations.batch import run_batch
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.llamaindex import Kimi
surface, url, path = sys.argv[1:]
model = {"ChatKimi": ChatKimi, "Kimi": Kimi}[surface](host="moonshot", base_url=url, api_key="sk-test", max_retries=0)
run_batch(model, (f"q {n}" for n in range(60)), path=path, concurrency=4)
"""


@pytest.mark.parametrize("surface", SURFACES)
def test_after_a_kill_each_row_is_there_once_and_none_is_paid_twice(surface: str, tmp_path: Path) -> None:
    path, killed = tmp_path / "out.jsonl", threading.Event()

    def script(body: dict[str, Any]) -> Reply:
        if len(simulator.requests) == 25:
            running.send_signal(signal.SIGKILL)
            killed.set()
        return Reply(asked(body).upper(), usage=USAGE)

    with KimiSimulator(script=script) as simulator:
        command = [sys.executable, "-c", textwrap.dedent(KILLED), surface, simulator.base_url, str(path)]
        running = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        assert running.wait(60) == -signal.SIGKILL
        before = len(path.read_bytes().splitlines())
        with path.open("ab") as file:
            file.write(b'{"key":"59","dig')  # what a kill in the middle of a write leaves
        paid = Counter(questions(simulator))
        again = run_batch(build(surface, simulator, **FIELDS), [f"q {n}" for n in range(60)], path=path, concurrency=4)
        assert [row.result.text for row in again] == [f"Q {n}" for n in range(60)]
        assert Counter(line["key"] for line in lines(path)) == Counter(map(str, range(60)))
        assert (again.resumed, again.done) == (before, 60 - before)
        twice = sum(Counter(questions(simulator)).values()) - 60
        assert 10 <= before <= 25
        assert twice <= 4  # those that were under way
        assert max(paid.values()) == 1


def test_two_runs_on_one_file(tmp_path: Path) -> None:
    path, begun, over = tmp_path / "out.jsonl", threading.Event(), threading.Event()

    def answer(given: str) -> str:
        begun.set()
        assert over.wait(30)
        return given

    thread = threading.Thread(target=run_batch, args=(answer, ["a"]), kwargs={"path": path})
    thread.start()
    assert begun.wait(30)
    try:
        with pytest.raises(BatchFileError, match=r"out\.jsonl is in use by another run"):
            run_batch(answer, ["a"], path=path)
    finally:
        over.set()
        thread.join()
    assert run_batch(answer, ["a"], path=path).resumed == 1


@pytest.mark.parametrize(
    "content", ["my notes\n", '{"key": "1"}\n', "[]\n", '{"key":"0","digest":"x","result":1}\nno\n']
)
def test_a_file_that_is_somebody_elses_is_left_alone(content: str, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(content)
    with pytest.raises(BatchFileError, match=r"out\.jsonl:\d is no row of a batch"):
        run_batch(same, ["a"], path=path)
    assert path.read_text() == content
    with pytest.raises(BatchFileError, match="cannot be opened"):
        run_batch(same, ["a"], path=path / "out.jsonl")


@every_way
async def test_the_first_failure_ends_it_where_asked(surface: str, way: str, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with KimiSimulator(script=echo) as simulator:
        model = build(surface, simulator, **FIELDS)
        with pytest.raises(RequestRefused) as caught:
            await run(
                way,
                model,
                ["q 0", "bad 1", *(f"q {n}" for n in range(2, 50))],
                path=path,
                on_error="raise",
                concurrency=2,
            )
        assert any("1 failed (1 RequestRefused)" in note and "to go on" in note for note in caught.value.__notes__)
        assert len(simulator.requests) < 10
        assert len(lines(path)) == len(simulator.requests)  # what was paid for is there


@every_way
async def test_what_every_row_would_fail_with_stops_it(surface: str, way: str) -> None:
    with KimiSimulator(api_key="sk-other") as simulator:
        with pytest.raises(WrongKey):
            await run(way, build(surface, simulator, **FIELDS), [f"q {n}" for n in range(100)], concurrency=3)
        assert len(simulator.requests) <= 6


@every_way
async def test_a_host_that_is_down_ends_it(surface: str, way: str) -> None:
    def script(body: dict[str, Any]) -> Reply:
        return Reply(status=500) if len(simulator.requests) > 5 else Reply("Yes.")

    with KimiSimulator(script=script) as simulator:
        model = build(surface, simulator, **FIELDS)
        with pytest.raises(HostFailed) as caught:
            await run(way, model, [f"q {n}" for n in range(500)], concurrency=4)
        assert "5 rows done, 2" in caught.value.__notes__[0]
        assert 25 <= len(simulator.requests) < 35


@every_way
async def test_a_budget_ends_it_before_the_request_that_could_pass_it(surface: str, way: str, tmp_path: Path) -> None:
    path, inputs = tmp_path / "out.jsonl", [f"q {n}" for n in range(40)]
    with KimiSimulator(script=echo) as simulator:
        model = build(surface, simulator, **FIELDS)
        budget = Budget(tokens=4_000)
        with pytest.raises(BudgetExceeded):
            await run(way, model, inputs, path=path, concurrency=8, budget=budget)
        # Eight at once reserve 1,070 each: only three fit. None fails for what the others merely reserve.
        assert budget.spent.tokens == 150 * len(simulator.requests)
        assert 4_000 - 1_150 < budget.spent.tokens <= 4_000
        assert len(lines(path)) == len(simulator.requests)
        again = await run(way, model, inputs, path=path)
        assert again.done == 40 - again.resumed
        assert sorted(questions(simulator)) == sorted(inputs)


@every_way
async def test_it_keeps_the_models_limits(surface: str, way: str) -> None:
    limiter, running = Limiter(Limits(concurrency=3)), list[int]()

    def script(body: dict[str, Any]) -> Reply:
        running.append(limiter.running)
        return Reply("Yes.", delay=0.003)

    with KimiSimulator(script=script) as simulator:
        model = build(surface, simulator, **FIELDS, limits=limiter)
        await run(way, model, (f"q {n}" for n in range(20)))
        await run(way, model, (f"q {n}" for n in range(20)), concurrency=10)
    assert max(running) == 3


@pytest.mark.parametrize("way", ["run", "arun"])
async def test_messages_chains_structured_output_and_functions(way: str, tmp_path: Path) -> None:
    class City(BaseModel):
        name: str

    globals()["City"] = City  # found again by its name
    City.__qualname__ = "City"
    with KimiSimulator(
        script=lambda body: Reply('{"name": "Paris"}' if "response_format" in body else "Yes.")
    ) as simulator:
        model = build("ChatKimi", simulator, **FIELDS)
        chain = ChatPromptTemplate.from_template("Where is {thing}?") | model
        for name, runnable, given, expected in (
            ("messages", model, [HumanMessage("Hi.")], "Yes."),
            ("chain", chain, {"thing": "it"}, "Yes."),
            ("schema", model.with_structured_output(City), "Where?", City(name="Paris")),
            ("conversation", build("Kimi", simulator, **FIELDS), [ChatMessage(role="user", content="Hi.")], "Yes."),
            ("message", build("Kimi", simulator, **FIELDS), ChatMessage(role="user", content="Hi."), "Yes."),
            ("function", len, "four", 4),
        ):
            for _ in range(2):  # the second time from the file
                (row,) = await run(way, runnable, [given], path=tmp_path / f"{name}.jsonl")
                said = getattr(row.result, "message", row.result)
                assert getattr(said, "content", said) == expected
            assert row.resumed


async def test_what_of_a_result_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with KimiSimulator(script=echo) as simulator:
        model = build("ChatKimi", simulator, **FIELDS)
        batch = await arun_batch(model, ["secret question"], path=path, store=lambda reply: {"said": reply.text})
        assert batch.results == [{"said": "SECRET QUESTION"}]
        (line,) = lines(path)
        assert sorted(line) == ["cost_usd", "digest", "key", "result", "usage"]
        assert "secret question" not in path.read_text()  # inputs stand there as a digest


async def test_a_result_that_is_no_json_says_so(tmp_path: Path) -> None:
    for result in (object(), float("nan"), {1: 2}, b"bytes"):
        with pytest.raises(ConfigurationError, match=r"result of input 0: .*Say with store="):
            await arun_batch(lambda _, result=result: result, ["a"], path=tmp_path / "out.jsonl")
    assert (await arun_batch(lambda _: "half \ud83d", ["a"], path=tmp_path / "out.jsonl")).results == ["half \ud83d"]


async def test_what_others_say_does_not_reach_the_file(tmp_path: Path) -> None:
    def answer(given: str) -> str:
        raise KeyError(given)

    (row,) = await arun_batch(answer, ["secret question"], path=tmp_path / "out.jsonl")
    assert (row.failure and row.failure.type, row.failure and row.failure.message) == ("KeyError", "")
    assert "secret" not in (tmp_path / "out.jsonl").read_text()


async def test_inputs_are_taken_as_there_is_room() -> None:
    taken, answered, ahead = 0, 0, list[int]()

    async def inputs() -> AsyncIterator[int]:
        nonlocal taken
        for n in range(200):
            taken += 1
            ahead.append(taken - answered)
            yield n

    async def answer(given: int) -> int:
        nonlocal answered
        await asyncio.sleep(0)
        answered += 1
        return given

    assert (await arun_batch(answer, inputs(), concurrency=5)).results == list(range(200))
    assert max(ahead) <= 6


def test_an_input_that_cannot_be_had_loses_nothing(tmp_path: Path) -> None:
    def inputs() -> Iterator[str]:
        yield "a"
        yield "b"
        raise OSError("the disk is gone")

    def answer(given: str) -> str:
        time.sleep(0.01)
        return given

    with pytest.raises(OSError, match="the disk is gone"):
        run_batch(answer, inputs(), path=tmp_path / "out.jsonl")
    assert len(lines(tmp_path / "out.jsonl")) == 2


def test_memory_is_flat(tmp_path: Path) -> None:
    async def answer(given: str) -> str:
        return given * 20

    def inputs(count: int) -> Iterator[str]:
        for n in range(count):
            yield f"the question number {n}, " * 10

    async def peak(count: int, path: Path) -> float:
        tracemalloc.start()
        try:
            await arun_batch(answer, inputs(count), path=path)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small = asyncio.run(peak(500, tmp_path / "small.jsonl"))
    large = asyncio.run(peak(5_000, tmp_path / "large.jsonl"))
    assert (tmp_path / "large.jsonl").stat().st_size > 20_000_000
    assert (large - small) / 4_500 < 100  # bytes a row


INTERRUPTED = """
import sys, time
from refrase_integrations.batch import run_batch
def answer(given):
    print("begun", given, flush=True)
    time.sleep(0.3)
    return given
try:
    run_batch(answer, range(1000), path=sys.argv[1], concurrency=1)
except KeyboardInterrupt as error:
    print("ended", error.__notes__[0], flush=True)
"""


def test_ctrl_c_lets_rows_end_and_says_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", INTERRUPTED, str(path)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert running.stdout.readline() == "begun 0\n"
        running.send_signal(signal.SIGINT)
        said, errors = running.communicate(timeout=30)
    assert "ended The batch ended early: " in said
    assert "to go on" in said
    assert "Stopping: rows under way are finished" in errors
    begun = said.count("begun") + 1
    assert [line["result"] for line in lines(path)] == list(range(begun))
    assert run_batch(same, range(begun), path=path).resumed == begun


async def test_cancelled_it_leaves_nothing_behind(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def answer(given: int) -> int:
        if given > 2:
            begun.set()
            await asyncio.sleep(60)
        return given

    task = asyncio.create_task(arun_batch(answer, range(100), path=tmp_path / "out.jsonl", concurrency=4))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == 1
    assert len(lines(tmp_path / "out.jsonl")) == 3
    assert (await arun_batch(same, range(3), path=tmp_path / "out.jsonl")).resumed == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"inputs": "a text"}, "inputs must be a list"),
        ({"inputs": 7}, "inputs must be a list"),
        ({"model": 7}, "LangChain model or chain, a LlamaIndex LLM or a function, not int"),
        ({"model": int}, "not the class int"),
        ({"model": ChatKimi}, "not the class ChatKimi"),
        ({"concurrency": 0}, "concurrency must be"),
        ({"on_error": "skip"}, "on_error must be"),
        ({"inputs": [object()]}, "input 0: a object cannot be written"),
    ],
)
@pytest.mark.parametrize("way", ["run", "arun"])
async def test_arguments_that_do_not_fit(wrong: dict[str, Any], said: str, way: str) -> None:
    options = {"model": same, "inputs": ["a"], **wrong}
    with pytest.raises(ConfigurationError, match=said):
        await run(way, options.pop("model"), options.pop("inputs"), **options)


def test_the_bar_shows_only_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    run_batch(len, ["a", "bb"], progress=True)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_what_the_bar_says() -> None:
    from refrase_integrations.batch.progress import words

    counts = BatchResult(None)
    counts.done, counts.failed, counts.resumed, counts.tokens, counts.cost_usd = 8, 2, 5, 1_500, 0.01
    assert words(counts, 25) == "2 failed · 1,500 tokens · $0.0100 of about $0.0200"
    assert words(counts, None) == "2 failed · 1,500 tokens · $0.0100"


SHOWN = """
from refrase_integrations.batch import run_batch
def answer(given):
    if given == 3:
        raise ValueError
    return given
run_batch(answer, range(7))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_the_bar_on_a_terminal() -> None:
    import pty

    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm", "COLUMNS": "120"}
    env.pop("CI", None)
    done = subprocess.run([sys.executable, "-c", SHOWN], env=env, stderr=theirs, check=True, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    assert done.returncode == 0
    assert "7/7" in shown
    assert "1 failed" in shown


def test_without_its_extra_it_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['filelock'] = None\n"
        "from refrase_integrations.batch import run_batch\n"
        "assert run_batch(len, ['ab']).results == [2]\n"
        f"run_batch(len, ['ab'], path={str(tmp_path / 'out.jsonl')!r})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (
        "MissingExtra: a batch with path= needs an optional part: pip install 'refrase-integrations[batch]'"
        in done.stderr
    )
