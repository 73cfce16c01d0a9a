"""Server-sent events: the same events however the bytes are cut, and the same as the SDK's own decoder finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from refrase_integrations.client.connection import connect
from refrase_integrations.client.events import DONE, EventReader, parsed
from refrase_integrations.client.sdk import asend, send
from tests.client.loopback import KEY, RawServer, http, piece, request

Serve = Callable[..., RawServer]


def read(raw: bytes, cuts: list[int] | None = None) -> list[Any]:
    places = sorted({min(cut, len(raw)) for cut in cuts or ()})
    reader, found = EventReader(), []
    for start, end in zip([0, *places], [*places, len(raw)], strict=True):
        found += reader.feed(raw[start:end])
    found += reader.close()
    return ["[DONE]" if event == DONE else parsed(event) for event in found]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NOISE = st.sampled_from([": keep-alive", ":", "event: message", "id: 7", "retry: 10", "unknown: x", ""])


@given(
    values=st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=3), max_size=5),
    noise=st.lists(NOISE, max_size=5),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    space=st.sampled_from(["", " "]),
    bom=st.booleans(),
    ascii_only=st.booleans(),
    cuts=st.lists(st.integers(0, 600), max_size=12),
)
def test_any_cut_gives_the_same_events(  # noqa: PLR0917
    values: list[Any], noise: list[str], end: str, space: str, bom: bool, ascii_only: bool, cuts: list[int]
) -> None:
    lines = [
        line
        for place, value in enumerate(values)
        for line in (*noise[place : place + 1], "", f"data:{space}{json.dumps(value, ensure_ascii=ascii_only)}", "")
    ]
    text = end.join([*lines, f"data:{space}[DONE]", "", ""])
    raw = (b"\xef\xbb\xbf" if bom else b"") + text.encode("utf-8", "surrogatepass")
    assert read(raw, cuts) == [*values, "[DONE]"]


@given(
    raw=st.lists(
        st.sampled_from([b"data: {}\n\n", b"data: 1", b"\n", b"\r", b"\r\n", b":x", b"event: a\n", b"dat"]),
        max_size=12,
    ).map(b"".join),
    cuts=st.lists(st.integers(0, 120), max_size=8),
)
def test_odd_bytes_are_read_as_the_sdk_reads_them(raw: bytes, cuts: list[int]) -> None:
    places = sorted({min(cut, len(raw)) for cut in cuts})
    reader, found = EventReader(), []
    for start, end in zip([0, *places], [*places, len(raw)], strict=True):
        found += reader.feed(raw[start:end])
    found += reader.feed(b"\n\n")  # the SDK drops a last event without its blank line
    assert found == [event.data.encode() for event in SSEDecoder().iter_bytes(iter([raw + b"\n\n"])) if event.data]


def test_half_a_surrogate_pair_is_taken_as_the_json_module_takes_it() -> None:
    assert read(b'data: {"a": "\\ud83d"}\n\n') == [{"a": "\ud83d"}]


PROMISED = [piece("Ünï"), piece("cödé 北京 🙂"), piece(finish="stop")]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("size", [1, 3, 7, 64, 10_000])
async def test_both_ways_to_read_a_stream_give_the_same_chunks(way: str, plain: bool, size: int, serve: Serve) -> None:
    body = "".join(f": ping\r\ndata: {json.dumps(chunk, ensure_ascii=False)}\r\n\r\n" for chunk in PROMISED).encode()
    body += b"data: [DONE]\r\n\r\n"

    def dribble(client: Any) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for start in range(0, len(body), size):
            part = body[start : start + size]
            client.sendall(b"%x\r\n" % len(part) + part + b"\r\n")
        client.sendall(b"0\r\n\r\n")

    connection = connect("moonshot", serve(dribble).base_url, KEY, plain_stream=plain)
    if way == "sync":
        assert list(send(request(stream=True), connection)) == PROMISED
    else:
        assert [chunk async for chunk in asend(request(stream=True), connection)] == PROMISED


def test_the_variable_chooses_the_plain_way(serve: Serve) -> None:
    url = serve(http("")).base_url
    assert connect("moonshot", url, KEY, environ={"REFRASE_PLAIN_STREAM": "1"}).plain_stream
    assert not connect("moonshot", url, KEY, environ={"REFRASE_PLAIN_STREAM": "1"}, plain_stream=False).plain_stream
    assert not connect("moonshot", url, KEY, environ={}).plain_stream
