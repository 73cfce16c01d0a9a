"""Faults by chance: what each does on the wire, that the same seed gives the same, and that requests get through."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.simulator import Faults, KimiSimulator, Reply, SimulatedHost, fault_presets
from refrase_integrations.simulator.faults import CHANCES

TEXT = "Fog — 雾 🌫️ — lay on the quay until noon, and nobody saw the ships."
CALL = ("get_weather", {"city": "Zürich"})
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def asked(text: str = "Tell me.", **fields: Any) -> dict[str, Any]:
    return {"model": "kimi-k2.6", "messages": [{"role": "user", "content": text}], **fields}


def exchange(faults: Any, body: dict[str, Any], script: Any = None, **fields: Any) -> tuple[Any, Any]:
    """Put one request to a host without HTTP; return the record and the outcome."""
    host = SimulatedHost(script=script, faults=faults, **fields)
    return respond(host, body)


def respond(host: SimulatedHost, body: dict[str, Any], path: str = "/v1/chat/completions") -> tuple[Any, Any]:
    raw = json.dumps(body).encode()
    return host.respond("POST", path, query={}, headers={"authorization": "Bearer x"}, raw=raw)


def sent(outcome: Any) -> bytes:
    return b"".join(packet for event in outcome.events for packet in event)


@pytest.mark.parametrize(
    ("fault", "statuses", "kind", "headers"),
    [
        ("request_timeout", {408}, "request_timeout_error", {}),
        ("conflict", {409}, "conflict_error", {}),
        ("overloaded", {429}, "engine_overloaded_error", {}),
        ("overloaded_retry_after", {429}, "engine_overloaded_error", {"retry-after": "7"}),
        ("overloaded_retry_after_ms", {429}, "engine_overloaded_error", {"retry-after-ms": "200"}),
        ("server_error", {500, 502, 503, 504}, "", {}),
        ("site_overloaded", {529}, "overloaded_error", {}),
    ],
)
def test_errors_instead_of_a_reply(fault: str, statuses: set[int], kind: str, headers: dict[str, str]) -> None:
    seen = set()
    for number in range(30):
        record, outcome = exchange({fault: 1, "retry_after_seconds": 7}, asked(str(number), stream=number % 2 == 0))
        assert record.faults == (fault,)
        assert record.status == outcome.status
        told = json.loads(sent(outcome))["error"]
        assert kind in told["type"]
        assert {name: value for name, value in outcome.headers.items() if name.startswith("retry")} == headers
        seen.add(outcome.status)
    assert seen == statuses


def test_what_a_proxy_shows() -> None:
    kinds = Counter[tuple[int, str, bool]]()
    for number in range(60):
        record, outcome = exchange({"proxy_page": 1}, asked(str(number), stream=number % 2 == 0), [TEXT])
        assert record.faults == ("proxy_page",)
        assert b"<html>" in sent(outcome)
        kinds[outcome.status, outcome.media_type, b"data:" in sent(outcome)] += 1
    assert set(kinds) == {(502, "text/html", False), (200, "text/html", False), (200, "text/event-stream", True)}


def streamed(fault: str, number: int = 0, script: Any = None, **fields: Any) -> tuple[bytes, Any]:
    body = asked(str(number), stream=True, stream_options={"include_usage": True}, **fields)
    record, outcome = exchange({fault: 1, "stall_seconds": 9}, body, script or [Reply(TEXT, reasoning="Hm.")])
    assert record.faults == (fault,)
    return sent(outcome), outcome


WHOLE = sent(
    exchange(None, asked("0", stream=True, stream_options={"include_usage": True}), [Reply(TEXT, reasoning="Hm.")])[1]
)


def events(raw: bytes) -> list[bytes]:
    return [part for part in raw.replace(b"\r\n", b"\n").removeprefix(b"\xef\xbb\xbf").split(b"\n\n") if part]


@pytest.mark.parametrize("fault", ["keep_alives", "crlf", "bom", "joined_events", "split_characters"])
def test_other_framing_loses_nothing(fault: str) -> None:
    raw, outcome = streamed(fault)
    packets = [packet for event in outcome.events for packet in event]
    assert [event for event in events(raw) if not event.startswith(b":")] == events(WHOLE)
    shown = {
        "keep_alives": raw.count(b": keep-alive") > 1,
        "crlf": raw.count(b"\r\n") == WHOLE.count(b"\n") and any(packet.endswith(b"\r") for packet in packets),
        "bom": raw == b"\xef\xbb\xbf" + WHOLE,
        "joined_events": raw == WHOLE and all(packet.count(b"data:") > 1 for packet in packets[:-1]),
        "split_characters": raw == WHOLE
        and any(packet[:1] and packet[0] & 0xC0 == 0x80 for packet in packets)
        and not any(packet.endswith(b"\n\n") for packet in packets[:-3]),
    }
    assert shown[fault]


def test_a_stream_that_lacks_its_end_mark() -> None:
    assert streamed("missing_done")[0] == WHOLE.removesuffix(b"data: [DONE]\n\n")


def test_a_stream_that_ends_in_the_middle() -> None:
    ends = Counter[bool]()
    for number in range(40):
        raw, outcome = streamed("cut", number)
        before = b"".join(b"".join(event) for event in outcome.events[: outcome.cut_after])
        assert b"[DONE]" not in before
        assert raw.startswith(before)
        ends[outcome.cut_after is None] += 1
    assert set(ends) == {True, False}  # in good order, and not


def test_an_error_in_the_middle() -> None:
    *begun, last = events(streamed("error_in_stream")[0])
    assert json.loads(last.removeprefix(b"data: "))["error"]["type"] == "engine_overloaded_error"
    assert begun == events(WHOLE)[: len(begun)]
    record, outcome = exchange({"error_in_stream": 1}, asked(), [TEXT])
    assert (record.faults, outcome.status) == (("error_in_stream",), 200)
    assert json.loads(sent(outcome))["error"]["type"] == "engine_overloaded_error"


def test_repeats() -> None:
    for number in range(20):
        raw = events(streamed("repeated_events", number)[0])
        doubled = [first for first, second in zip(raw, raw[1:], strict=False) if first == second]
        assert len(doubled) == 1
        assert b'"content":"' not in doubled[0] or b'"content":""' in doubled[0]
        raw = events(streamed("repeated_text", number)[0])
        doubled = [first for first, second in zip(raw, raw[1:], strict=False) if first == second]
        assert doubled
        assert b'"content":"' in doubled[0]


def test_content_types() -> None:
    kinds = {streamed("wrong_content_type", number)[1].headers["content-type"] for number in range(30)}
    assert kinds == {"text/plain", "application/octet-stream", "application/json"}
    kinds = {
        exchange({"wrong_content_type": 1}, asked(str(number)), [TEXT])[1].headers["content-type"]
        for number in range(30)
    }
    assert kinds == {"text/plain", "application/octet-stream", "text/event-stream"}


def test_time() -> None:
    assert streamed("stall")[1].silence.popitem()[1] == 9
    assert streamed("slow_first_byte")[1].delay == 2
    assert streamed("slow_trickle")[1].pause == 0.05
    _, whole = exchange({"slow_trickle": 1, "stall": 1, "trickle_seconds": 0.5}, asked(), [TEXT])
    assert (len(whole.events), whole.pause, set(whole.silence.values())) == (8, 0.5, {60.0})


@pytest.mark.parametrize("stream", [False, True])
def test_bad_replies(stream: bool) -> None:
    def told(fault: str, reply: Reply, number: int = 0) -> tuple[Any, str]:
        record, outcome = exchange({fault: 1}, asked(str(number), stream=stream, tools=[TOOL]), [reply])
        raw = sent(outcome).decode()
        return record.faults, raw

    met, raw = told("empty_reply", Reply(TEXT, reasoning="Hm."))
    assert met == ("empty_reply",)
    assert "Hm." not in raw
    assert "Fog" not in raw
    assert '"finish_reason":"stop"' in raw
    finishes = set()
    for number in range(20):
        met, raw = told("reasoning_only", Reply(TEXT, reasoning="Hm."), number)
        assert met == ("reasoning_only",)
        assert "Fog" not in raw
        assert "reasoning_content" in raw
        finishes |= {finish for finish in ("stop", "length") if f'"finish_reason":"{finish}"' in raw}
    assert finishes == {"stop", "length"}
    assert told("reasoning_only", Reply(TEXT))[0] == ()  # nothing was reasoned
    met, raw = told("truncated_arguments", Reply(tool_calls=[CALL]))
    assert met == ("truncated_arguments",)
    assert '"finish_reason":"tool_calls"' in raw
    assert told("truncated_arguments", Reply(TEXT))[0] == ()


@pytest.mark.parametrize("fault", ["reset_before_headers", "reset_after_headers"])
@pytest.mark.parametrize("stream", [False, True])
def test_connections_are_reset(fault: str, stream: bool) -> None:
    with KimiSimulator(script=[TEXT], faults={fault: 1}) as simulator, httpx.Client() as client:
        url = simulator.base_url + "/chat/completions"
        if fault == "reset_before_headers":
            with pytest.raises(httpx.TransportError):
                client.post(url, json=asked(stream=stream))
        else:
            with client.stream("POST", url, json=asked(stream=stream)) as response:
                assert response.status_code == 200
                with pytest.raises(httpx.TransportError):
                    response.read()
        assert simulator.requests[0].faults == (fault,)


def test_all_of_it_over_http() -> None:
    """Every mix reaches a client as some answer or a broken connection, never as a failure of the simulator."""
    quick = {"slow_seconds": 0, "trickle_seconds": 0, "stall_seconds": 0}
    for number in range(60):
        faults = dict.fromkeys(Random(number).sample(CHANCES, 4), 1) | quick
        with KimiSimulator(script=[TEXT], faults=faults) as simulator, httpx.Client() as client:
            try:
                answer = client.post(simulator.base_url + "/chat/completions", json=asked(stream=number % 2 == 0))
                assert "Traceback" not in answer.text
            except httpx.TransportError:
                pass
            assert set(simulator.requests[0].faults) <= faults.keys()


def drawn(host: SimulatedHost, texts: list[str]) -> dict[str, list[Any]]:
    met: dict[str, list[Any]] = {}
    for text in texts:
        met.setdefault(text, []).append(respond(host, asked(text, stream=True))[0].faults)
    return met


def test_the_draw_hangs_on_seed_and_request_not_on_the_order() -> None:
    texts = [str(number % 40) for number in range(120)]
    shuffled = sorted(texts, key=lambda text: Random(text).random())
    first, second = (drawn(SimulatedHost(faults="chaos", seed=1), order) for order in (texts, shuffled))
    assert first == second
    assert first != drawn(SimulatedHost(faults="chaos", seed=2), texts)
    assert first == drawn(SimulatedHost(faults="chaos,seed=1", seed=2), texts)
    again = SimulatedHost(faults="chaos", seed=1)
    drawn(again, texts)
    again.reset()
    assert first == drawn(again, texts)
    assert any(len(set(met)) > 1 for met in first.values())  # a new try is a new draw


def test_faults_change_no_reply() -> None:
    def said(faults: Any) -> bytes:
        return sent(exchange(faults, asked("Tell me a joke.", stream=True))[1])

    assert said("missing_done=1") == said(None).removesuffix(b"data: [DONE]\n\n")


def test_chaos_hits_three_in_ten() -> None:
    host = SimulatedHost(script=lambda _body: Reply(TEXT, reasoning="Hm.", tool_calls=[CALL]), faults="chaos")
    met = [respond(host, asked(str(number), stream=number % 2 == 0, tools=[TOOL]))[0].faults for number in range(3000)]
    assert 0.28 < sum(map(bool, met)) / len(met) < 0.33
    assert {name for names in met for name in names} == set(CHANCES)


def test_a_request_that_is_repeated_gets_through() -> None:
    host = SimulatedHost(script=lambda _body: Reply(TEXT), faults="chaos,overloaded=0.5,cut=0.5")
    for number in range(20):
        tries = [respond(host, asked(str(number), stream=True))[0].faults for _ in range(40)]
        assert () in tries


def test_what_is_refused_meets_no_fault_and_what_fails_uses_up_no_reply() -> None:
    record, outcome = exchange({"overloaded": 1}, asked(temperature=0.3))
    assert (record.faults, outcome.status) == ((), 400)
    host = SimulatedHost(script=["One."], faults="overloaded=0.5", after="error")
    for _ in range(50):
        record, outcome = respond(host, asked())
        if not record.faults:
            break
    assert b"One." in sent(outcome)


def test_a_script_that_breaks_the_reply_itself_means_just_that() -> None:
    record, outcome = exchange({"keep_alives": 1, "cut": 1}, asked(stream=True), [Reply(TEXT, cut_after=3)])
    assert (record.faults, outcome.cut_after) == ((), 3)
    record, outcome = exchange({"keep_alives": 1}, asked(stream=True), [Reply(status=503)])
    assert (record.faults, outcome.status) == ((), 503)


def test_other_endpoints_meet_none() -> None:
    with KimiSimulator(faults=dict.fromkeys(CHANCES, 1)) as simulator:
        assert httpx.get(simulator.base_url + "/models").status_code == 200


def test_the_anthropic_endpoint() -> None:
    body = {"model": "kimi-k3", "max_tokens": 500, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    host = SimulatedHost(script=lambda _body: TEXT, faults="error_in_stream=1")
    record, outcome = respond(host, body, "/anthropic/v1/messages")
    assert record.faults == ("error_in_stream",)
    last = events(sent(outcome))[-1].decode()
    assert last.startswith("event: error\ndata: ")
    assert json.loads(last.partition("data: ")[2])["type"] == "error"
    host = SimulatedHost(faults="overloaded=1")
    record, outcome = respond(host, body, "/anthropic/v1/messages")
    assert json.loads(sent(outcome))["type"] == "error"


def test_presets() -> None:
    presets = fault_presets()
    assert {"none", "chaos"} <= set(presets)
    assert presets["none"] == Faults()
    for name, faults in presets.items():
        assert Faults.of(name) == faults
        assert (max(faults.chances().values()) > 0) is (name != "none")
    assert Faults.of("chaos,cut=0.5").cut == 0.5
    assert Faults.of("chaos,cut=0.5").stall == presets["chaos"].stall
    assert Faults.of({"cut": 0.5}) == Faults(cut=0.5) == Faults.of("cut=0.5") == Faults.of(Faults(cut=0.5))
    assert Faults.of(None) == Faults.of("") == Faults()


def test_every_fault_says_what_it_does() -> None:
    assert [name for name, field in Faults.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("chaoss", "unknown preset of faults 'chaoss'; did you mean chaos?"),
        ("cut", "fault cut needs a probability: cut=0.1"),
        ("cutt=0.1", "unknown fault 'cutt'; did you mean cut?"),
        ({"nothing_like_it": 1}, "known: seed, request_timeout"),
        ({"cut": 1.5}, "fault cut: Input should be less than or equal to 1, not 1.5"),
        ("cut=often", "fault cut: Input should be a valid number"),
        ({"cut": float("nan")}, "fault cut"),
        (3, "a Faults, a dict or a text such as 'chaos', not int"),
    ],
)
def test_wrong_faults_are_said(given: Any, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        KimiSimulator(faults=given)
    assert words in str(caught.value)


def test_a_file_of_faults(tmp_path: Path) -> None:
    file = tmp_path / "bad-day.toml"
    file.write_text('preset = "chaos"\ncut = 0.4\n')
    assert Faults.read(file) == Faults.of("chaos,cut=0.4")
    file.write_text("cut = [")
    with pytest.raises(ConfigurationError, match=r"bad-day\.toml cannot be read"):
        Faults.read(file)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Faults.read(tmp_path / "nowhere.toml")
