"""The simulator's Formula tools, over HTTP; and that client and simulator, written apart, mean the same ones."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from refrase_integrations.kimi.catalogue.formulas import formulas
from refrase_integrations.simulator import KimiSimulator
from refrase_integrations.simulator.formulas import FORMULAS


def call(simulator: KimiSimulator, path: str, body: Any = None, key: str = "sk") -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{simulator.base_url}{path}", data=data, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_declarations_and_runs() -> None:
    with KimiSimulator() as simulator:
        status, declared = call(simulator, "/formulas/moonshot/date:latest/tools")
        assert (status, declared["tools"][0]["function"]["name"]) == (200, "date")
        assert call(simulator, "/formulas/moonshot/date/tools")[0] == 200
        asked = {"name": "date", "arguments": "{}"}
        status, fiber = call(simulator, "/formulas/moonshot/date:latest/fibers", asked)
        assert (status, fiber["status"], fiber["formula"]) == (200, "succeeded", "moonshot/date:latest")
        assert fiber["context"]["output"]["simulated"] is True
        assert call(simulator, "/formulas/moonshot/date:latest/fibers", asked)[1]["context"] == fiber["context"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/formulas/moonshot/quickjs:latest/tools", None, 404),
        ("/formulas/moonshot/date:latest/other", None, 404),
        ("/formulas/moonshot/date:latest/tools", {}, 405),
        ("/formulas/moonshot/date:latest/fibers", None, 405),
        ("/formulas/moonshot/date:latest/fibers", {"name": "date", "arguments": {}}, 400),
        ("/formulas/moonshot/date:latest/fibers", [], 400),
    ],
)
def test_refusals(path: str, body: Any, status: int) -> None:
    with KimiSimulator() as simulator:
        assert call(simulator, path, body)[0] == status


@pytest.mark.parametrize(
    "asked",
    [{"name": "fetch", "arguments": "{"}, {"name": "other", "arguments": "{}"}, {"name": "fetch", "arguments": "[]"}],
)
def test_a_run_that_fails_is_an_answer(asked: dict[str, str]) -> None:
    with KimiSimulator() as simulator:
        status, fiber = call(simulator, "/formulas/moonshot/fetch:latest/fibers", asked)
    assert (status, fiber["status"]) == (200, "failed")
    assert fiber["error"]


def test_the_key_is_asked_for_and_other_hosts_have_none() -> None:
    with KimiSimulator(api_key="sk-right") as simulator:
        assert call(simulator, "/formulas/moonshot/date:latest/tools", key="sk-wrong")[0] == 401
    with KimiSimulator("vllm") as simulator:
        assert call(simulator, "/formulas/moonshot/date:latest/tools")[0] == 404


def test_both_mean_the_same_formulas() -> None:
    facts = formulas()
    known = {f"{facts.namespace}/{name}:{facts.tag}" for name in (*facts.live, *facts.others)}
    assert set(FORMULAS) <= known
    assert {f"{facts.namespace}/{name}:{facts.tag}" for name in facts.live} <= set(FORMULAS)
