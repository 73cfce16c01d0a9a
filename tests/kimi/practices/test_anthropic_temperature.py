"""The temperature on its way to Moonshot's Anthropic endpoint; tests/langchain/test_wrapper_anthropic.py has the wire."""

from __future__ import annotations

from typing import Any

import pytest

from refrase_integrations import Practices
from refrase_integrations.errors import PracticeError
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.practice import Call
from refrase_integrations.kimi.prepare import leaving, prepare
from refrase_integrations.kimi.tokens import counter


def call_of(model: str, host: str = "moonshot-anthropic", practices: Any = None, **fields: Any) -> Call:
    return Call(
        body={"model": model, "messages": [{"role": "user", "content": "Hello"}], **fields},  # type: ignore[typeddict-item]
        dialect=compile_dialect(find_model(model), find_host(host), name=model),
        practices=Practices.of(practices),
        count=counter(),
    )


@pytest.mark.parametrize(
    ("model", "fields", "real", "sent"),
    [
        ("kimi-k2-0905-preview", {}, 0.6, 1.0),
        ("kimi-k2-0905-preview", {"temperature": 0.2}, 0.6, 1.0),
        ("kimi-k2-thinking", {}, 1.0, 1.0),  # 1.67 is more than the protocol takes
        ("kimi-k3", {"temperature": 0.3}, None, None),  # the host fixes it
    ],
)
def test_what_is_sent(model: str, fields: dict[str, Any], real: float | None, sent: float | None) -> None:
    prepared = prepare(call_of(model, **fields))
    assert prepared.body.get("temperature") == real
    assert leaving(prepared).get("temperature") == sent
    assert prepared.body.get("temperature") == real  # the request itself keeps the real one


def test_a_temperature_of_the_users_own_is_divided() -> None:
    prepared = prepare(call_of("kimi-k2-0905-preview", practices={"temperature": "off"}, temperature=0.3))
    assert leaving(prepared).get("temperature") == 0.5
    [line] = [line for line in prepared.report.as_dict()["changes"] if line["practice"] == "anthropic-temperature"]
    assert (line["action"], line["detail"]) == ("encode", "temperature 0.3 is sent as 0.5")
    assert line["source"] == "MoonshotAI/Kimi-K2 README"


def test_what_cannot_be_had_is_reported() -> None:
    prepared = prepare(call_of("kimi-k2-thinking"))
    leaving(prepared)
    [line] = [line for line in prepared.report.as_dict()["changes"] if line["practice"] == "anthropic-temperature"]
    assert (line["action"], line["detail"]) == ("replace", "temperature 1.0: 0.6 is the most there is")


def test_modes() -> None:
    assert (
        leaving(prepare(call_of("kimi-k2-thinking", practices={"anthropic_temperature": "off"})))["temperature"] == 1.0
    )
    warned = prepare(call_of("kimi-k2-0905-preview", practices={"anthropic_temperature": "warn"}))
    assert leaving(warned)["temperature"] == 0.6
    assert (
        leaving(prepare(call_of("kimi-k2-0905-preview", practices={"anthropic_temperature": "error"})))["temperature"]
        == 1.0
    )
    with pytest.raises(PracticeError, match="anthropic-temperature: temperature 1.0: 0.6 is the most there is"):
        leaving(prepare(call_of("kimi-k2-thinking", practices={"anthropic_temperature": "error"})))


@pytest.mark.parametrize("host", ["moonshot", "vllm"])
def test_other_hosts_get_the_real_one(host: str) -> None:
    prepared = prepare(call_of("kimi-k2-0905-preview", host))
    assert leaving(prepared) is prepared.body
