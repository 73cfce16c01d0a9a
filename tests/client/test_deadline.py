"""How long a call may take, and how long a stream may be silent.

Limits are short, hosts are silent for much longer: what is measured is only that the call ends before the host speaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from refrase_integrations import errors
from refrase_integrations.client.connection import connect
from refrase_integrations.client.deadline import Deadline
from refrase_integrations.client.sdk import asend, send
from refrase_integrations.kimi.practice import Prepared
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.llamaindex import Kimi
from tests.client.loopback import KEY, OK, RawServer, http, piece, request, sse

Serve = Callable[..., RawServer]
WAYS = ("sync", "async")
LONG = 20.0
"""Seconds that a silent host keeps a connection open."""


async def sent(way: str, prepared: Prepared, server: RawServer, *, plain: bool = False, **limits: Any) -> list[Any]:
    connection = connect("moonshot", server.base_url, KEY, plain_stream=plain)
    if way == "sync":
        return list(send(prepared, connection, **limits))
    return [chunk async for chunk in asend(prepared, connection, **limits)]


def silent(client: socket.socket) -> None:
    client.settimeout(LONG)
    client.recv(1)  # ends when the other side has gone


def silent_after(*begun: bytes) -> Callable[[socket.socket], None]:
    def answer(client: socket.socket) -> None:
        for packet in begun:
            client.sendall(packet)
        silent(client)

    return answer


def trickle(begun: bytes, drop: bytes) -> Callable[[socket.socket], None]:
    def answer(client: socket.socket) -> None:
        client.sendall(begun)
        for _ in range(int(LONG / 0.02)):
            client.sendall(drop)
            time.sleep(0.02)

    return answer


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n"
BEGUN = sse(piece("Yes"), done=False)
ENDLESS = {
    "no answer": (silent, False),
    "no answer to a stream": (silent, True),
    "half an answer": (silent_after(HEAD, b'{"choi'), False),
    "a byte at a time": (trickle(HEAD, b" "), False),
    "half a stream": (silent_after(BEGUN), True),
    "keep-alives": (trickle(BEGUN, b": keep-alive\n\n"), True),
    "a model without an end": (trickle(BEGUN, f"data: {json.dumps(piece('!'))}\n\n".encode()), True),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("answer", "stream"), ENDLESS.values(), ids=list(ENDLESS))
async def test_a_call_ends_at_its_deadline(way: str, answer: Any, stream: bool, serve: Serve) -> None:
    server, begun = serve(answer), time.monotonic()
    with pytest.raises(errors.DeadlineExceeded, match="deadline of 0.3 s.*after 1 attempt;") as caught:
        await sent(way, request(stream=stream), server, deadline=Deadline(0.3))
    assert time.monotonic() - begun < LONG / 2
    assert caught.value.attempts == 1
    assert not caught.value.retryable
    assert caught.value.__context__ is None
    assert await asyncio.to_thread(server.wait_closed)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stream", [False, True])
async def test_no_wait_is_begun_that_would_pass_it(way: str, stream: bool, serve: Serve) -> None:
    server = serve(http({"error": {"type": "rate_limit_reached_error"}}, status=429, headers={"retry-after": "60"}))
    begun = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded, match="after 1 attempt; last: RateLimited"):
        await sent(way, request(stream=stream), server, deadline=Deadline(30.0))
    assert time.monotonic() - begun < LONG
    assert len(server.requests) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_what_will_not_pass_is_told_as_it_is(way: str, serve: Serve) -> None:
    server = serve(http({"error": {"type": "exceeded_current_quota_error"}}, status=429))
    with pytest.raises(errors.QuotaExceeded):
        await sent(way, request(), server, deadline=Deadline(30.0))


@pytest.mark.parametrize("way", WAYS)
async def test_after_the_deadline_nothing_is_sent(way: str, serve: Serve) -> None:
    server = serve(http(OK))
    with pytest.raises(errors.DeadlineExceeded, match="after 0 attempts"):
        await sent(way, request(), server, deadline=Deadline(1.0, begun=time.monotonic() - 2))
    assert server.requests == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stream", [False, True])
async def test_in_time_it_changes_nothing(way: str, stream: bool, serve: Serve) -> None:
    server = serve(sse(piece("Yes."), piece(finish="stop")) if stream else http(OK))
    got = await sent(way, request(stream=stream), server, deadline=Deadline(30.0), stall_timeout=30.0)
    assert got == ([piece("Yes."), piece(finish="stop")] if stream else [OK])


async def test_what_is_awaited_ends_at_the_deadline() -> None:
    async def endless() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(LONG)
        yield 2

    begun, items = time.monotonic(), Deadline(0.2).each(endless())
    assert await anext(items) == 1
    with pytest.raises(TimeoutError):
        await anext(items)
    assert time.monotonic() - begun < LONG / 2


# -- silence ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    "answer", [silent_after(BEGUN), trickle(BEGUN, b": keep-alive\n\n")], ids=["dead", "kept alive"]
)
async def test_a_stream_without_events_is_dead(way: str, plain: bool, answer: Any, serve: Serve) -> None:
    server, begun = serve(answer), time.monotonic()
    with pytest.raises(errors.StreamInterrupted) as caught:
        await sent(way, request(stream=True), server, stall_timeout=0.2, plain=plain)
    assert time.monotonic() - begun < LONG / 2
    assert caught.value.retryable
    assert await asyncio.to_thread(server.wait_closed)


@pytest.mark.parametrize("way", WAYS)
async def test_a_stream_whose_first_event_never_comes_is_sent_again(
    way: str, serve: Serve, no_waits: list[float]
) -> None:
    kept = trickle(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n", b": waiting\n\n")
    server = serve(kept, sse(piece("Yes."), piece(finish="stop")))
    got = await sent(way, request(stream=True), server, stall_timeout=0.2)
    assert len(got) == len(server.requests) == 2


def test_the_readers_own_time_is_no_silence(serve: Serve) -> None:
    server = serve(sse(piece("Yes"), piece("."), piece(finish="stop")))
    stream = send(request(stream=True), connect("moonshot", server.base_url, KEY), stall_timeout=0.1)
    for _ in stream:
        time.sleep(0.15)  # longer than a stream may be silent


def test_a_whole_reply_may_take_its_time(serve: Serve) -> None:
    def slow(client: socket.socket) -> None:
        time.sleep(0.3)
        client.sendall(http(OK))

    assert list(send(request(), connect("moonshot", serve(slow).base_url, KEY), stall_timeout=0.1)) == [OK]


# -- through the models ------------------------------------------------------------------------------------


def models(server: RawServer, **fields: Any) -> list[Any]:
    given = {"host": "moonshot", "base_url": server.base_url, "api_key": KEY, **fields}
    return [ChatKimi(**given), Kimi(**given)]


@pytest.mark.parametrize("number", [0, 1])
def test_one_deadline_covers_every_request_of_a_call(number: int, serve: Serve) -> None:
    """The first reply is empty and asked for once more: the second request has only what the first left."""
    empty = http({"choices": [{"index": 0, "message": {"content": ""}, "finish_reason": "stop"}]})
    server = serve(empty, silent)
    model = models(server, deadline=0.5)[number]
    begun = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded):
        model.invoke("Hi.") if number == 0 else model.complete("Hi.")
    assert time.monotonic() - begun < LONG / 2
    assert len(server.requests) == 2


async def collected(model: Any, number: int, way: str, into: list[Any]) -> None:
    if way == "sync":
        into.extend(model.stream("Hi.") if number == 0 else model.stream_complete("Hi."))
        return
    stream: AsyncIterator[Any] = model.astream("Hi.") if number == 0 else await model.astream_complete("Hi.")
    async for chunk in stream:
        into.append(chunk)  # noqa: PERF401 - what came before an error counts


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [0, 1])
async def test_at_the_deadline_a_stream_tells_what_came(number: int, way: str, serve: Serve) -> None:
    server = serve(silent_after(BEGUN))
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await collected(models(server, deadline=0.3)[number], number, way, [])
    assert caught.value.partial.content == "Yes"
    assert len(server.requests) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [0, 1])
async def test_a_stalled_stream_is_taken_up_again(number: int, way: str, serve: Serve) -> None:
    server, got = serve(silent_after(BEGUN), sse(piece(", sir."), piece(finish="stop"))), list[Any]()
    await collected(models(server, stall_timeout=0.2)[number], number, way, got)
    assert "".join(chunk.text if number == 0 else chunk.delta or "" for chunk in got) == "Yes, sir."
    assert json.loads(server.requests[1].partition("\r\n\r\n")[2])["messages"][-1]["content"] == "Yes"


@pytest.mark.parametrize("field", ["deadline", "stall_timeout"])
@pytest.mark.parametrize("wrong", [0, -1, float("nan"), "soon"])
def test_a_limit_that_is_none_is_a_typed_error(field: str, wrong: Any, serve: Serve) -> None:
    server = serve(http(OK))
    for number in (0, 1):
        with pytest.raises(errors.ConfigurationError, match=field):
            models(server, **{field: wrong})[number]
        model = models(server)[number]
        with pytest.raises(errors.ConfigurationError, match=field):
            model.invoke("Hi.", **{field: wrong}) if number == 0 else model.complete("Hi.", **{field: wrong})
    assert server.requests == []


# -- streams that are left in the middle -------------------------------------------------------------------


@pytest.mark.parametrize("deadline", [None, 30.0])
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_a_stream_that_is_left_leaves_nothing(
    number: int, how: str, deadline: float | None, serve: Serve
) -> None:
    server = serve(trickle(BEGUN, f"data: {json.dumps(piece('!'))}\n\n".encode()))
    model = models(server, deadline=deadline)[number]
    before = asyncio.all_tasks()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if how == "closed":
            stream: Any = model.astream("Hi.") if number == 0 else await model.astream_complete("Hi.")
            async for _ in stream:
                break
            await stream.aclose()
        else:
            task = asyncio.create_task(collected(model, number, "async", []))
            for _ in range(500):
                if server.requests:
                    break
                await asyncio.sleep(0.01)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert await asyncio.to_thread(server.wait_closed)
    assert asyncio.all_tasks() == before
    assert len(server.requests) == 1


@pytest.mark.parametrize("number", [0, 1])
def test_a_sync_stream_that_is_left_leaves_nothing(number: int, serve: Serve) -> None:
    server = serve(trickle(BEGUN, f"data: {json.dumps(piece('!'))}\n\n".encode()))
    model = models(server, deadline=30.0)[number]
    stream = model.stream("Hi.") if number == 0 else model.stream_complete("Hi.")
    next(stream)
    stream.close()
    assert server.wait_closed()
