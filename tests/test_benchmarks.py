"""The benchmarks run, and their judgement tells sound clients from faulty ones."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool

from benchmarks import environment, prompts, tool_accuracy
from benchmarks.tool_accuracy import (
    CLIENTS,
    ENDS,
    FAULTS,
    Delivered,
    Host,
    Plan,
    Result,
    Tally,
    judge,
    plans,
    run,
    table,
    tool_sets,
    verdict,
)
from refrase_integrations.kimi.tokens import estimate
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import ask

ROOT = Path(__file__).parents[1]
SEED = 3


@pytest.fixture(scope="module")
def result() -> Result:
    return run(60, SEED)


def test_what_the_replies_carry_arrives(result: Result) -> None:
    ours = result.tallies["ChatKimi"]
    assert ours.counts["requests"] == 60
    assert ours.counts["carried"] > 30
    assert ours.accuracy == 1.0
    assert ours.counts["meant"] == ours.counts["arrived"] + ours.counts["errors"]
    assert verdict(result) == []


def test_peers_lose_calls_on_the_same_requests(result: Result) -> None:
    for peer in ("openai SDK", "ChatOpenAI"):
        tally = result.tallies[peer]
        assert tally.counts["requests"] == 60
        assert (tally.accuracy or 0) < 1.0
        assert tally.counts["lost"] > result.tallies["ChatKimi"].counts["lost"]


def test_the_table_names_every_client_and_what_is_missing(result: Result) -> None:
    lines = table(result).splitlines()
    assert [line.split("  ")[0].split(":")[0] for line in lines[1:]] == [*result.tallies, *result.skipped]
    assert "100.00%" in next(line for line in lines if line.startswith("ChatKimi"))
    for name, module in result.skipped.items():
        assert f"{name}: skipped, {module} is not installed" in lines
    assert {*result.tallies, *result.skipped} == {*CLIENTS}


def test_the_same_seed_gives_the_same_result() -> None:
    first, second = (run(14, SEED, ["openai SDK"]).as_dict() for _ in range(2))
    assert first == second
    assert plans(20, 1) == plans(20, 1) != plans(20, 2)


def test_the_requests_are_varied() -> None:
    assert len(tool_sets(1)) >= 40
    asked = plans(600, 1)
    assert {plan.kind for plan in asked} == {"call", "answer", "quote", "forbidden"}
    assert {plan.route.persona for plan in asked} >= {
        "vllm",
        "sglang",
        "openrouter",
        "fireworks",
        "together",
        "bedrock",
    }
    assert {plan.stream for plan in asked} == {True, False}
    assert any(len(plan.meant) > 1 for plan in asked)


def test_compaction_loses_nothing_and_its_savings_are_told() -> None:
    saved = prompts.savings()
    assert {name for name, row in saved.items() if row["lost"]} == set()
    told = prompts.table(saved, {"en": {"tokens": 10_000, "compact, cold": 12.0}})
    assert f"{len(saved)} prompts" in told
    assert "saved: median" in told
    assert "compact, cold: 12.00" in told
    for language in ("en", "zh"):
        assert 9_000 < estimate.text(prompts.long_prompt(language)) < 11_000


# -- the environment of the peers ----------------------------------------------------------------------------


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """An environment that counts as made: this one's packages, and no others."""
    place = tmp_path / "there"
    venv.create(place, system_site_packages=True)
    library = next(place.glob("lib/python*/site-packages"), place / "Lib" / "site-packages")
    (library / "here.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    (library / "a_peer.py").write_text("")
    (place / ".made").write_text(environment.fingerprint())
    return place


def test_what_is_all_here_runs_here(there: Path) -> None:
    assert environment.elsewhere("tool_accuracy", [], ["json", "benchmarks.speed"], there) is None
    assert environment.missing(["json", "no_such.module", "json.no_such"]) == ["no_such.module", "json.no_such"]


def test_what_misses_a_peer_runs_in_the_environment(
    there: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    few = ["--requests", "2", "--client", "openai SDK"]
    assert environment.elsewhere("tool_accuracy", few, ["json", "a_peer"], there) == 0
    told = capfd.readouterr()
    assert "openai SDK" in told.out
    assert f"not installed here: a_peer; going on in {there}" in told.err
    assert environment.elsewhere("tool_accuracy", ["--requests", "no"], ["a_peer"], there) == 2, "its own exit status"


def test_in_the_environment_what_is_missing_is_left_out(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(there))
    assert environment.elsewhere("tool_accuracy", [], ["a_peer"], there) is None


def test_an_environment_that_cannot_be_made_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert environment.elsewhere("tool_accuracy", [], ["a_peer"], tmp_path / "file" / "there") is None
    assert "cannot be made" in capfd.readouterr().err


def command(*words: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    done = command("tool_accuracy", "--requests", "12", "--seed", "3", "--client", "ChatKimi", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "ChatKimi" in done.stdout
    told = json.loads(file.read_text("utf-8"))
    assert told["clients"]["ChatKimi"]["accuracy"] == 1.0
    unknown = command("nothing")
    assert unknown.returncode == 2
    assert "tool_accuracy" in unknown.stderr


def test_the_command_for_recovery() -> None:
    """It runs; its figures are no matter of a test."""
    done = command("recovery", "--rounds", "1")
    assert done.returncode in (0, 1), done.stderr
    *lines, goal = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "pipeline, text", "pipeline, reasoning",
        "ChatKimi.stream, text", "ChatKimi.stream, reasoning", "ChatKimi.stream, code",
    ]  # fmt: skip
    assert goal.startswith("goal 1.03: ")
    assert ("missed" in goal) is (done.returncode == 1)


# -- the judgement ---------------------------------------------------------------------------------------

FILES: dict[str, Any] = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "deep": {"type": "boolean"}},
    "required": ["path"],
}
MEANT = {"path": "/a", "deep": True}


def plan(kind: str = "call", **fields: Any) -> Plan:
    named = [{"name": name, "parameters": FILES} for name in ("delete", "copy")]
    values: dict[str, Any] = {
        "number": 0,
        "route": tool_accuracy.ROUTES[0],
        "kind": kind,
        "tools": [{"type": "function", "function": function} for function in named],
        "messages": [],
        "meant": [] if kind in ("answer", "quote") else [(0, MEANT)],
        "content": "",
        "reasoning": None,
        "stream": False,
    }
    return Plan(**{**values, **fields})


@pytest.mark.parametrize(
    ("kind", "got", "carried", "counts"),
    [
        ("call", [Delivered("delete", MEANT)], True, {"meant": 1, "carried": 1, "right": 1, "arrived": 1}),
        ("call", [], True, {"meant": 1, "carried": 1, "missed": 1, "lost": 1}),
        ("call", [], False, {"meant": 1, "lost": 1}),
        ("call", [Delivered("delete", None, "cut")], False, {"meant": 1, "errors": 1}),
        ("call", [Delivered("delete", None)], False, {"meant": 1, "errors": 1, "untold": 1}),
        ("call", [Delivered("remove", MEANT, "none")], False, {"meant": 1, "errors": 1}),
        ("call", [Delivered("delete", {"deep": True}, "path")], False, {"meant": 1, "errors": 1}),
        ("call", [Delivered("delete", {"path": "/"})], False, {"meant": 1, "altered": 1}),
        ("call", [Delivered("delete", {"path": "/"})], True, {"meant": 1, "carried": 1, "right": 1, "altered": 1}),
        (
            "call",
            [Delivered("delete", MEANT)] * 2,
            True,
            {"meant": 1, "carried": 1, "right": 1, "arrived": 1, "invented": 1},
        ),
        ("call", [Delivered("copy", MEANT)], False, {"meant": 1, "lost": 1, "invented": 1}),
        ("answer", [], None, {}),
        ("answer", [Delivered("delete", MEANT)], None, {"invented": 1}),
        ("quote", [Delivered("delete", MEANT)], None, {"quoted": 1}),
        ("forbidden", [], True, {"forbidden": 1}),
        ("forbidden", [Delivered("delete", MEANT)], True, {"forbidden": 1, "invented": 1}),
    ],
)
def test_each_end_of_a_call_is_told_apart(
    kind: str, got: list[Delivered], carried: bool | None, counts: dict[str, int]
) -> None:
    tally = Tally()
    judge(plan(kind), got, [] if carried is None else [carried], tally)
    assert dict(tally.counts) == counts
    assert sum(tally.counts[end] for end in ENDS) == tally.counts["meant"]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_ours_fails_the_command(fault: str) -> None:
    tally = Tally()
    tally.add("meant")
    tally.add(fault, 7)
    assert verdict(Result(1, 1, {"ChatKimi": tally}, {}, {})) == [f"ChatKimi: {fault}: 1 (requests 7)"]
    assert verdict(Result(1, 1, {"ChatOpenAI": tally}, {}, {})) == []


def test_a_client_that_raises_has_refused_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        def ask(plan: Plan, base_url: str) -> list[Delivered]:
            raise OSError

        return ask

    monkeypatch.setitem(CLIENTS, "ChatKimi", (broken, "json"))
    tally = run(14, SEED, ["ChatKimi"]).tallies["ChatKimi"]
    assert tally.counts["meant"] == tally.counts["refused"] > 5
    assert tally.counts["failed"] == tally.counts["failed: OSError"] == 14


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ([("delete", '{"path": "/a", "deep": true}')], True),
        ([("delete", '{"path": "/a", "deep": true,}')], True),
        ([("delete", '{"path": "/a", "deep": true')], False),
        ([("delete", '{"path": "/a"')], False),
        ([("remove", '{"path": "/a", "deep": true}')], False),
        ("<|tool_call_begin|>functions.delete:0<|tool_call_argument_begin|>{}<|tool_call_end|>", True),
        ("<|tool_call_begin|>functions.remove:0<|tool_call_argument_begin|>{}<|tool_call_end|>", False),
        ("<|tool_call_begin|>call_1<|tool_call_argument_begin|>{}<|tool_call_end|>", False),
    ],
)
def test_what_a_reply_carries(wire: Any, expected: bool) -> None:
    """Read from the bytes that were sent, streamed or whole."""
    text = wire.replace("{}", json.dumps(MEANT)) if isinstance(wire, str) else ""
    calls = [] if isinstance(wire, str) else wire
    one = plan(messages=[{"role": "user", "content": "[request 0]"}])
    for stream in (False, True):
        host = Host(tool_accuracy.Route("any", "generic", "generic", tool_accuracy.INSTRUCT, {}), {0: one}, 1)
        host.simulator.host._script._function = lambda body: Reply(text, tool_calls=calls)
        host.names = {0: "delete"}
        raw = json.dumps({"model": "kimi-k2-0905-preview", "messages": [*one.messages], "stream": stream}).encode()
        host.simulator.host.respond("POST", "/v1/chat/completions", query={}, headers={}, raw=raw)
        assert host.carried(0, MEANT) is expected


# -- what it found ---------------------------------------------------------------------------------------


@tool
def delete_files(path: str, force: bool = False) -> str:
    """Delete everything below a path."""
    raise AssertionError("nothing may be executed here")


def kimi(simulator: KimiSimulator, **fields: Any) -> Any:
    model = ChatKimi(
        model=tool_accuracy.INSTRUCT, host="vllm", base_url=simulator.base_url, api_key="sk-test", **fields
    )
    return model.bind_tools([delete_files])


async def test_a_call_lost_by_the_stream_that_leaks_when_it_is_asked_for_again() -> None:
    """The second reply is taken for its calls only: its text must still be read for leaked ones."""
    call = Reply(tool_calls=[("delete_files", {"path": "/a"})])
    leak = "<|tool_call_begin|>functions.delete_files:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
    script = [call, Reply(f"I will. {leak.replace('{}', json.dumps({'path': '/a'}))}")]
    with KimiSimulator("vllm", script=script, quirks={"lost_calls": True}) as simulator:
        reply = await ask("stream", kimi(simulator), "Delete /a.")
    assert [(made["name"], made["args"]) for made in reply.tool_calls] == [("delete_files", {"path": "/a"})]


@pytest.mark.parametrize("mode", ["invoke", "stream"])
async def test_cut_arguments_never_become_a_call(mode: str) -> None:
    """langchain-core closes the JSON of a stream's chunks by itself: ``/`` would be deleted for ``/home/user/tmp``."""
    with KimiSimulator("vllm", script=[Reply(tool_calls=[("delete_files", '{"path": "/')])]) as simulator:
        reply = await ask(mode, kimi(simulator, practices={"tool_repair": "off"}), "Delete /home/user/tmp.")
    assert reply.tool_calls == []
    assert len(reply.invalid_tool_calls) == 1


async def test_a_code_fence_inside_a_string_survives_a_trailing_comma() -> None:
    text = "```json\n{}\n```"
    broken = json.dumps({"path": text})[:-1] + ",}"
    with KimiSimulator("vllm", script=[Reply(tool_calls=[("delete_files", broken)])]) as simulator:
        reply = await ask("invoke", kimi(simulator), "Delete it.")
    assert [made["args"] for made in reply.tool_calls] == [{"path": text}]
