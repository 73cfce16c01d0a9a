"""Moonshot's Anthropic endpoint of the simulator, by plain HTTP and by Anthropic's own SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from inline_snapshot import snapshot

from refrase_integrations.simulator import KimiSimulator, Reply

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"name": "get_weather", "description": "Weather.", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}  # fmt: skip
USE = {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Paris"}}
RESULT = {"type": "tool_result", "tool_use_id": "call_1", "content": "Sunny."}


@pytest.fixture
def simulator() -> Iterator[KimiSimulator]:
    with KimiSimulator() as simulator:
        yield simulator


def url(simulator: KimiSimulator) -> str:
    return simulator.base_url.removesuffix("/v1") + "/anthropic"


def post(simulator: KimiSimulator, **fields: Any) -> httpx.Response:
    body = {"model": "kimi-k2-0905-preview", "max_tokens": 1_000, "messages": HELLO, **fields}
    return httpx.post(
        f"{url(simulator)}/v1/messages", json={key: value for key, value in body.items() if value is not None}
    )


def test_a_whole_message(simulator: KimiSimulator) -> None:
    body = post(simulator, model="kimi-k3", messages=[{"role": "user", "content": "Say exactly: hi"}]).json()
    assert {**body, "id": "", "usage": {}} == snapshot(
        {
            "id": "",
            "type": "message",
            "role": "assistant",
            "model": "kimi-k3",
            "content": [
                {
                    "type": "thinking",
                    "thinking": "The user asks about Say exactly hi. I will answer directly.",
                    "signature": "a58e18fb7db8ac0927d4f30ad7710228",
                },
                {"type": "text", "text": "hi"},
            ],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {},
        }
    )
    assert body["id"].startswith("msg_")
    assert body["usage"]["output_tokens"] > 0


def test_the_events_of_a_stream() -> None:
    reply = Reply(reasoning="Hm.", content="Yes.", tool_calls=[("get_weather", {"city": "Rome"}, "a:b")])
    with KimiSimulator(script=[reply], chunk_size=1_000) as simulator:
        lines = post(simulator, model="kimi-k3", stream=True, tools=[TOOL]).text.split("\n\n")
    events = [event.split("\n") for event in lines if event]
    assert all(json.loads(data.removeprefix("data: "))["type"] == name.removeprefix("event: ") for name, data in events)
    assert [json.loads(data.removeprefix("data: ")) for _, data in events[1:-2]] == snapshot(
        [
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "thinking", "thinking": "", "signature": ""},
            },
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}},
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "signature_delta", "signature": "9813b7120ec33b9798a540ee2d11b7d5"},
            },
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Yes."}},
            {"type": "content_block_stop", "index": 1},
            {
                "type": "content_block_start",
                "index": 2,
                "content_block": {"type": "tool_use", "id": "a_b", "name": "get_weather", "input": {}},
            },
            {
                "type": "content_block_delta",
                "index": 2,
                "delta": {"type": "input_json_delta", "partial_json": '{"city": "Rome"}'},
            },
            {"type": "content_block_stop", "index": 2},
        ]
    )
    assert json.loads(events[-2][1].removeprefix("data: "))["delta"] == snapshot(
        {"stop_reason": "tool_use", "stop_sequence": None}
    )


def test_anthropics_own_sdk_reads_it(simulator: KimiSimulator) -> None:
    client = anthropic.Anthropic(api_key="sk-test", base_url=url(simulator), max_retries=0)
    asked: Any = {"model": "kimi-k3", "max_tokens": 1_000, "messages": [{"role": "user", "content": "Weather in Paris?"}], "tools": [TOOL]}  # fmt: skip
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert [block.type for block in message.content] == ["thinking", "tool_use"]
        assert message.content[1].input == {"city": "Paris"}  # type: ignore[union-attr]
        assert message.stop_reason == "tool_use"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens: Field required"),
    ({"messages": []}, "at least one message"),
    ({"messages": [{"role": "assistant", "content": "Hi"}]}, "first message must use"),
    ({"messages": [{"role": "system", "content": "Hi"}]}, "first message must use"),
    ({"messages": [{"role": "user", "content": ""}]}, "non-empty"),
    ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "'document' is not supported"),
    ({"temperature": 1.2}, "temperature: range: 0..1"),
    ({"model": "kimi-k3", "temperature": 0.3}, "invalid temperature: only 1 is allowed"),
    ({"tools": [{"name": "get_weather"}]}, "tools.0.input_schema: Field required"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "get_weather"}}, "'tool' is not supported"),
    ({"tools": [TOOL], "tool_choice": {"type": "any"}}, "tool_choice"),
    ({"messages": [*HELLO, {"role": "assistant", "content": [{**USE, "id": "functions.f:0"}]}]}, "should match pattern"),
    ({"messages": [*HELLO, {"role": "assistant", "content": [USE]}]}, "must be followed by tool messages"),
    (
        {"model": "kimi-k3", "messages": [*HELLO, {"role": "assistant", "content": [USE]}, {"role": "user", "content": [RESULT]}]},
        "reasoning_content is missing",
    ),
    (
        {"messages": [*HELLO, {"role": "assistant", "content": [{"type": "thinking", "thinking": "a", "signature": "b"}]}, *HELLO]},
        "Invalid `signature`",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_is_refused(simulator: KimiSimulator, fields: dict[str, Any], words: str) -> None:
    answer = post(simulator, **fields)
    assert answer.status_code == 400
    body = answer.json()
    assert body["type"] == "error"
    assert words in body["error"]["message"]
    assert len(simulator.refusals) == 1


def test_the_real_temperature_is_the_requested_one_times_six_tenths() -> None:
    seen: list[Any] = []

    def script(body: dict[str, Any]) -> str:
        seen.append(body.get("temperature"))
        return "Yes."

    with KimiSimulator(script=script) as simulator:
        for fields in ({"temperature": 1.0}, {"temperature": 0.5}, {}, {"model": "kimi-k3", "temperature": 1.0}):
            assert post(simulator, **fields).status_code == 200
    assert seen == [0.6, 0.3, None, 1.0]


def test_a_thinking_block_comes_back_with_its_signature(simulator: KimiSimulator) -> None:
    question = [{"role": "user", "content": "Weather in Paris?"}]
    first = post(simulator, model="kimi-k3", messages=question, tools=[TOOL]).json()
    result = {**RESULT, "tool_use_id": first["content"][1]["id"]}
    turns = [*question, {"role": "assistant", "content": first["content"]}, {"role": "user", "content": [result]}]
    answer = post(simulator, model="kimi-k3", messages=turns, tools=[TOOL])
    assert answer.status_code == 200
    assert "Sunny" in answer.json()["content"][-1]["text"]


def test_the_key_may_be_in_either_header() -> None:
    with KimiSimulator(api_key="sk-right") as simulator:
        for headers, status in (
            ({"x-api-key": "sk-right"}, 200),
            ({"authorization": "Bearer sk-right"}, 200),
            ({"x-api-key": "no"}, 401),
        ):
            body = {"model": "kimi-k3", "max_tokens": 10, "messages": HELLO}
            answer = httpx.post(f"{url(simulator)}/v1/messages", json=body, headers=headers)
            assert answer.status_code == status
        assert "sk-right" not in str([request.headers for request in simulator.requests])


def test_other_hosts_have_no_such_endpoint() -> None:
    with KimiSimulator("vllm") as simulator:
        assert post(simulator).status_code == 404
