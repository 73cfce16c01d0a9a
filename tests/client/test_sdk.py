"""Sending: whatever comes back, or does not, is a raw chunk or a typed error, and no connection is left open."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from refrase_integrations import errors
from refrase_integrations.client.connection import Connection, aclose, close, connect
from refrase_integrations.client.sdk import asend, send
from refrase_integrations.kimi.practice import Prepared
from tests.client.loopback import KEY, OK, RawServer, http, piece, request, sse

Serve = Callable[..., RawServer]
WAYS = ("sync", "async")


def to(server: RawServer, **kwargs: Any) -> Connection:
    return connect("moonshot", server.base_url, KEY, **kwargs)


async def sent(way: str, prepared: Prepared, connection: Connection, max_retries: int = 0) -> list[Any]:
    """Send one way or the other, and return every chunk."""
    if way == "sync":
        return list(send(prepared, connection, max_retries=max_retries))
    return [chunk async for chunk in asend(prepared, connection, max_retries=max_retries)]


# -- what arrives ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_a_whole_reply_is_one_plain_dict(way: str, serve: Serve) -> None:
    assert await sent(way, request(), to(serve(http(OK)))) == [OK]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "application/json; charset=utf-8"])
async def test_json_is_read_whatever_it_is_called(way: str, kind: str, serve: Serve) -> None:
    assert await sent(way, request(), to(serve(http(OK, kind=kind)))) == [OK]


@pytest.mark.parametrize("way", WAYS)
async def test_a_stream_is_plain_dicts(way: str, serve: Serve) -> None:
    events = [piece("Yes"), piece("."), piece(finish="stop"), {"id": "1", "choices": [], "usage": {"total_tokens": 3}}]
    assert await sent(way, request(stream=True), to(serve(sse(*events)))) == events


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "application/json", "text/html"])
@pytest.mark.parametrize(
    ("before", "plain"),  # the SDK's own decoder loses what stands behind a BOM
    [("", False), ("", True), ("\ufeff", False), (": keep-alive\n\n", False), (": keep-alive\n\n", True)],
)
async def test_a_stream_is_read_whatever_it_is_called(
    way: str, kind: str, before: str, plain: bool, serve: Serve
) -> None:
    events = [piece("Yes"), piece("."), piece(finish="stop")]
    head, _, body = sse(*events, kind=kind).partition(b"\r\n\r\n")
    server = serve(head + b"\r\n\r\n" + before.encode() + body)
    assert await sent(way, request(stream=True), to(server, plain_stream=plain)) == events


@pytest.mark.parametrize("way", WAYS)
async def test_a_stream_that_calls_itself_json_is_judged_like_any(way: str, serve: Serve) -> None:
    kind = "application/json"
    for broken, error, words in (
        (sse(done=True, kind=kind), errors.HostFailed, "no event"),
        (sse(piece("Yes"), done=False, kind=kind), errors.StreamInterrupted, "before the reply was finished"),
        (sse(piece("Yes"), {"error": {"message": "busy", "code": 429}}, kind=kind), errors.StreamInterrupted, "busy"),
        (sse({"error": {"message": "busy", "code": 429}}, kind=kind), errors.RateLimited, "busy"),
    ):
        with pytest.raises(error, match=words):
            await sent(way, request(stream=True), to(serve(broken)))


@pytest.mark.parametrize("way", WAYS)
async def test_a_host_that_does_not_stream_is_understood(way: str, serve: Serve) -> None:
    assert await sent(way, request(stream=True), to(serve(http(OK)))) == [OK]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "stream",
    [sse(piece("Yes."), piece(finish="stop"), done=False), sse(piece("Yes."), done=True)],
    ids=["finish reason, no [DONE]", "[DONE], no finish reason"],
)
async def test_either_mark_of_the_end_is_enough(way: str, stream: bytes, serve: Serve) -> None:
    assert (await sent(way, request(stream=True), to(serve(stream))))[0] == piece("Yes.")


async def test_the_body_is_sent_as_it_was_prepared(serve: Serve) -> None:
    server = serve(http(OK))
    prepared = request('naïve 你好 🙂 "q" \\ \u2028')
    await sent("sync", prepared, to(server))
    head, _, body = server.requests[0].partition("\r\n\r\n")
    assert json.loads(body) == prepared.body
    assert head.startswith("POST /v1/chat/completions HTTP/1.1")
    assert f"authorization: bearer {KEY}".lower() in head.lower()
    assert "content-type: application/json" in head.lower()


# -- what does not ---------------------------------------------------------------------------------------

HTML = "<!doctype html><html><body>Sign in to the hotel's network</body></html>"
BROKEN: list[tuple[bytes, type[errors.HostError], str]] = [
    (http(HTML, kind="text/html"), errors.WrongEndpoint, "web page"),
    (http(HTML), errors.WrongEndpoint, "web page"),
    (http(HTML, kind="text/html", status=502), errors.HostFailed, "web page"),
    (http(HTML, kind="text/html", status=404), errors.WrongEndpoint, "base_url"),
    (http("", kind="application/json"), errors.HostFailed, "JSON"),
    (http("", kind="text/plain"), errors.HostFailed, "JSON|no event"),
    (http('{"choices": [{"mess'), errors.HostFailed, "JSON"),
    (http("[" * 100_000), errors.HostFailed, "JSON"),
    (http("null"), errors.HostFailed, "no chat completion"),
    (http("[]"), errors.HostFailed, "no chat completion"),
    (http("{}"), errors.HostFailed, "no choices"),
    (http({"choices": []}), errors.HostFailed, "no choices"),
    (http({"choices": None}), errors.HostFailed, "no choices"),
    (http({"choices": "x"}), errors.HostFailed, "no chat completion"),
    (http({"choices": [None]}), errors.HostFailed, "choice that is none"),
    (http({"choices": [{"message": "Yes."}]}), errors.HostFailed, "choice that is none"),
    (http({"error": {"type": "engine_overloaded_error", "message": "busy"}}), errors.HostOverloaded, "busy"),
    (http({"error": {"message": "broken", "code": 400}}), errors.RequestRefused, "broken"),
    (http({"object": "error", "message": "broken", "code": 400}), errors.RequestRefused, "broken"),
    (http(OK, length=10_000), errors.ConnectionFailed, "connection"),
    (b"", errors.ConnectionFailed, "connection"),
    (b"nonsense\r\n\r\n", errors.ConnectionFailed, "connection"),
    (http(b"\xff\xfe{}", kind="application/json"), errors.HostFailed, "JSON"),
    (b"HTTP/1.1 204 X\r\n\r\n", errors.HostFailed, "no chat completion|JSON|no event"),
]
BROKEN_STREAMS: list[tuple[bytes, type[errors.HostError], str]] = [
    *BROKEN,
    (sse(), errors.HostFailed, "no event"),
    (sse(done=False), errors.HostFailed, "no event"),
    (sse(kind="text/plain", done=False), errors.HostFailed, "no event"),
    (sse("{not json"), errors.HostFailed, "JSON"),
    (sse("5"), errors.HostFailed, "no chat completion"),
    (sse('"text"'), errors.HostFailed, "no chat completion"),
    (sse({"choices": [7]}), errors.HostFailed, "choice that is none"),
    (sse({"choices": [{"delta": "text"}]}), errors.HostFailed, "choice that is none"),
    (sse({"error": {"type": "engine_overloaded_error", "message": "busy"}}), errors.HostOverloaded, "busy"),
    (sse({"error": {"message": "Upstream", "code": 429}}), errors.RateLimited, "Upstream"),
    (sse({"error": "plain words"}), errors.HostFailed, "plain words"),
    (sse({"object": "error", "message": "old vLLM", "code": 400}), errors.RequestRefused, "old vLLM"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("answer", "kind", "words"), BROKEN, ids=map(str, range(len(BROKEN))))
async def test_a_broken_answer_is_a_typed_error(way: str, answer: bytes, kind: Any, words: str, serve: Serve) -> None:
    await _broken(way, request(), serve(answer), kind, words)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("answer", "kind", "words"), BROKEN_STREAMS, ids=map(str, range(len(BROKEN_STREAMS))))
async def test_a_broken_stream_is_a_typed_error(way: str, answer: bytes, kind: Any, words: str, serve: Serve) -> None:
    await _broken(way, request(stream=True), serve(answer), kind, words)


async def _broken(way: str, prepared: Prepared, server: RawServer, kind: Any, words: str) -> None:
    with pytest.raises(errors.HostError, match=words) as caught:
        await sent(way, prepared, to(server))
    assert type(caught.value) is kind
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None  # the SDK's exception holds the request, and the request the key
    assert len(server.requests) == 1
    assert server.wait_closed()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (b"", "ended before"),
        (b'data: {"choices": [{"del', "ended before"),
        (b"data: {not json\n\n", "JSON"),
        (b"data: 5\n\n", "no chat completion"),
        (b'data: {"error": {"message": "fell over", "type": "server_error"}}\n\n', "fell over"),
        (b"data: \xff\xfe\n\n", "JSON"),
    ],
)
async def test_a_stream_that_breaks_later_is_interrupted_and_not_sent_again(
    way: str, tail: bytes, words: str, serve: Serve
) -> None:
    server = serve(sse(piece("Yes"), done=False) + tail)
    got: list[Any] = []
    with pytest.raises(errors.StreamInterrupted, match=words) as caught:
        await _collect(way, request(stream=True), to(server), got, max_retries=2)
    assert got == [piece("Yes")]
    assert len(server.requests) == 1
    assert caught.value.__context__ is None
    assert server.wait_closed()


async def _collect(way: str, prepared: Prepared, connection: Connection, into: list[Any], max_retries: int) -> None:
    if way == "sync":
        into.extend(chunk for chunk in send(prepared, connection, max_retries=max_retries))
    else:
        async for chunk in asend(prepared, connection, max_retries=max_retries):
            into.append(chunk)  # noqa: PERF401 - what came before an error counts


@pytest.mark.parametrize("way", WAYS)
async def test_a_cut_connection_is_interrupted(way: str, serve: Serve) -> None:
    # A chunked body that misses its end, as a reset gives it.
    event = f"data: {json.dumps(piece('Yes'))}\n\n".encode()
    chunk = f"{len(event):x}\r\n".encode() + event + b"\r\n"
    server = serve(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + chunk)
    got: list[Any] = []
    with pytest.raises(errors.StreamInterrupted, match="connection") as caught:
        await _collect(way, request(stream=True), to(server), got, max_retries=2)
    assert got == [piece("Yes")]
    assert caught.value.retryable


@pytest.mark.parametrize("way", WAYS)
async def test_an_interruption_keeps_what_the_host_said(way: str, serve: Serve) -> None:
    said = {"error": {"type": "exceeded_current_quota_error", "message": "no balance"}}
    with pytest.raises(errors.StreamInterrupted, match="no balance") as caught:
        await sent(way, request(stream=True), to(serve(sse(piece("Yes"), said))))
    assert caught.value.type == "exceeded_current_quota_error"
    assert not caught.value.retryable


@pytest.mark.parametrize("way", WAYS)
async def test_nobody_there(way: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(errors.ConnectionFailed, match=f"127.0.0.1:{port}.*ConnectionRefusedError"):
        await sent(way, request(), connect("moonshot", f"http://127.0.0.1:{port}/v1", KEY))


@pytest.mark.parametrize("way", WAYS)
async def test_a_name_that_does_not_exist(way: str) -> None:
    with pytest.raises(errors.ConnectionFailed, match="gaierror|ConnectError"):
        await sent(way, request(), connect("vllm", "https://no-such-host.invalid/v1", KEY))


@pytest.mark.parametrize("way", WAYS)
async def test_tls_where_there_is_none(way: str) -> None:
    def answer_in_clear() -> None:
        client, _ = listener.accept()
        with client:
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer_in_clear, daemon=True).start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        with pytest.raises(errors.ConnectionFailed, match="SSL"):
            await sent(way, request(), connect("vllm", url, KEY))


# -- timeouts --------------------------------------------------------------------------------------------


def _silent(client: socket.socket) -> None:
    client.settimeout(5)
    client.recv(1)  # ends when the other side has gone


def _silent_after_one(client: socket.socket) -> None:
    client.sendall(sse(piece("Yes"), done=False))
    _silent(client)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("own", [False, True])
async def test_a_timeout_in_seconds_or_as_the_sdks_own(way: str, stream: bool, own: bool, serve: Serve) -> None:
    import openai

    server = serve(_silent)
    limit = openai.Timeout(5, read=0.1) if own else 0.1
    begun = time.monotonic()
    with pytest.raises(errors.RequestTimedOut, match="timeout="):
        await sent(way, request(stream=stream), to(server, timeout=limit))
    assert time.monotonic() - begun < 3
    assert server.wait_closed()


@pytest.mark.parametrize("way", WAYS)
async def test_silence_in_the_middle_is_an_interruption(way: str, serve: Serve) -> None:
    server = serve(_silent_after_one)
    with pytest.raises(errors.StreamInterrupted):
        await sent(way, request(stream=True), to(server, timeout=0.1), max_retries=2)
    assert len(server.requests) == 1
    assert server.wait_closed()


def test_one_client_serves_every_timeout(serve: Serve) -> None:
    server = serve(http(OK))
    assert to(server, timeout=3).client() is to(server, timeout=4).client()


# -- connections that are let go ---------------------------------------------------------------------------


def _endless(client: socket.socket) -> None:
    client.sendall(sse(piece("Yes"), done=False))
    while True:
        client.sendall(f"data: {json.dumps(piece('!'))}\n\n".encode())
        time.sleep(0.005)


def test_a_sync_stream_that_is_left_early_lets_its_connection_go(serve: Serve) -> None:
    server = serve(_endless)
    stream = send(request(stream=True), to(server))
    next(stream)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert server.wait_closed()


async def test_an_async_stream_that_is_left_early_lets_its_connection_go(serve: Serve) -> None:
    server = serve(_endless)
    stream = asend(request(stream=True), to(server))
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(server.wait_closed)


@pytest.mark.parametrize(
    ("stream", "answer"), [(False, _silent), (True, _silent), (True, _silent_after_one), (True, _endless)]
)
async def test_cancellation_lets_the_connection_go(answer: Any, stream: bool, serve: Serve) -> None:
    server = serve(answer)
    task = asyncio.create_task(sent("async", request(stream=stream), to(server), 2))
    for _ in range(200):
        if server.requests:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.03)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(server.wait_closed)
    assert len(server.requests) == 1  # cancelled is not failed


async def test_finished_requests_leave_reusable_connections(serve: Serve) -> None:
    """Errors, streams and whole replies one after the other: at most one connection at a time."""
    from refrase_integrations.simulator import KimiSimulator, Reply

    script = [
        Reply(status=400, message="no"),
        "Yes.",
        Reply(status=500, message="x"),
        Reply("a", chunks=["data: {\n\n"]),
    ]
    with KimiSimulator(script=script * 3) as simulator:
        connection = connect("moonshot", simulator.base_url, KEY)
        for turn in range(12):
            prepared = request(stream=bool(turn % 2))
            try:
                await sent("async", prepared, connection)
                await sent("sync", prepared, connection)
            except errors.HostError:
                continue
        pools = [connection.client()._client, connection.async_client()._client]
        busy = [one for pool in pools for one in pool._transport._pool.connections if not one.is_idle()]
        assert [one for one in busy if not one.is_closed()] == []
        assert sum(len(pool._transport._pool.connections) for pool in pools) <= 2
    close()
    await aclose()


def test_a_loop_that_ends_closes_its_sockets() -> None:
    from refrase_integrations.simulator import KimiSimulator

    with KimiSimulator() as simulator, warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        connection = connect("moonshot", simulator.base_url, KEY)
        clients = []

        async def ask() -> None:
            clients.append(connection.async_client())
            assert await sent("async", request(), connection)

        for _ in range(3):
            asyncio.run(ask())
        assert all(client.is_closed() for client in clients)
        gc.collect()
        close()


# -- what cannot be written --------------------------------------------------------------------------------


class _Odd:
    def __repr__(self) -> str:
        return KEY


def _deep() -> Any:
    deep: Any = KEY
    for _ in range(5_000):
        deep = [deep]
    return deep


def _cycle() -> Any:
    cycle: dict[str, Any] = {"key": KEY}
    cycle["again"] = cycle
    return cycle


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "x.y: nan is no JSON number"),
        (float("-inf"), "-inf is no JSON number"),
        ("\ud83d" + KEY, "x.y: the text holds half a surrogate pair"),
        (_Odd(), "x.y: a _Odd cannot be written"),
        (KEY.encode(), "x.y: a bytes cannot"),
        ({KEY}, "x.y: a set cannot"),
        ({(1, KEY): 2}, "x.y: a key is a tuple"),
        ({"n": 10**5000}, "x.y.n: the number has too many digits"),
        (_deep(), "nested too deeply"),
        (_cycle(), "nested too deeply|holds itself"),
    ],
)
async def test_what_json_cannot_write_is_named_with_its_place(way: str, value: Any, words: str, serve: Serve) -> None:
    server = serve(http(OK))
    prepared = request()
    prepared.body["x"] = {"y": value}  # type: ignore[typeddict-unknown-key]
    with pytest.raises(errors.InvalidMessage, match=words) as caught:
        await sent(way, prepared, to(server))
    assert KEY not in str(caught.value)
    assert caught.value.__context__ is None
    assert server.requests == []
