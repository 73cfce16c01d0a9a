"""What is tried again, after how long, and where that can be seen. No test waits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from refrase_integrations import errors
from refrase_integrations.client.connection import connect
from refrase_integrations.client.retries import FIRST_WAIT, LONGEST_ASKED, LONGEST_WAIT
from refrase_integrations.client.sdk import asend, send
from refrase_integrations.kimi.practice import Prepared
from tests.client.loopback import KEY, OK, RawServer, http, piece, request, sse

Serve = Callable[..., RawServer]
WAYS = [(way, stream) for way in ("sync", "async") for stream in (False, True)]


async def sent(way: str, prepared: Prepared, server: RawServer, **kwargs: Any) -> list[Any]:
    connection = connect("moonshot", server.base_url, KEY)
    if way == "sync":
        return list(send(prepared, connection, **kwargs))
    return [chunk async for chunk in asend(prepared, connection, **kwargs)]


def refusal(status: int, kind: str, message: str = "no", **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http({"error": {"type": kind, "message": message}}, status=status, headers=named)


def good(stream: bool) -> bytes:
    return sse(piece("Yes."), piece(finish="stop")) if stream else http(OK)


MAY_PASS = [
    refusal(429, "engine_overloaded_error"),
    refusal(429, "rate_limit_reached_error"),
    refusal(500, "server_error"),
    refusal(500, "unexpected_output"),
    refusal(502, ""),
    refusal(503, "server_unavailable"),
    refusal(504, ""),
    refusal(529, ""),
    refusal(408, ""),
    refusal(409, ""),
    b"",
    http("{"),
    http({"choices": []}),
]


@pytest.mark.parametrize(("way", "stream"), WAYS)
@pytest.mark.parametrize("answer", MAY_PASS, ids=range(len(MAY_PASS)))
async def test_what_may_pass_is_tried_again(
    way: str, stream: bool, answer: bytes, serve: Serve, no_waits: list[float]
) -> None:
    server = serve(answer, answer, good(stream))
    assert await sent(way, request(stream=stream), server)
    assert len(server.requests) == 3
    assert len({text.partition("\r\n\r\n")[2] for text in server.requests}) == 1  # the same bytes each time


WILL_NOT_PASS = [
    refusal(429, "exceeded_current_quota_error", retry_after="1"),
    refusal(402, ""),
    refusal(401, "invalid_authentication_error"),
    refusal(403, "permission_denied_error"),
    refusal(400, "invalid_request_error"),
    refusal(400, "content_filter"),
    refusal(404, "resource_not_found_error"),
    refusal(413, ""),
    refusal(422, ""),
    http("<html>", kind="text/html"),
]


@pytest.mark.parametrize(("way", "stream"), WAYS)
@pytest.mark.parametrize("answer", WILL_NOT_PASS, ids=range(len(WILL_NOT_PASS)))
async def test_what_will_not_pass_is_sent_once(
    way: str, stream: bool, answer: bytes, serve: Serve, no_waits: list[float]
) -> None:
    server = serve(answer, good(stream))
    with pytest.raises(errors.HostError) as caught:
        await sent(way, request(stream=stream), server)
    assert len(server.requests) == 1
    assert no_waits == []
    assert caught.value.attempts == 1


@pytest.mark.parametrize(("way", "stream"), WAYS)
@pytest.mark.parametrize("max_retries", [0, 1, 3])
async def test_the_last_error_says_how_often_it_was_sent(
    way: str, stream: bool, max_retries: int, serve: Serve, no_waits: list[float]
) -> None:
    server = serve(refusal(429, "rate_limit_reached_error"), refusal(503, "server_unavailable"))
    kind = errors.RateLimited if max_retries == 0 else errors.HostOverloaded
    with pytest.raises(kind) as caught:
        await sent(way, request(stream=stream), server, max_retries=max_retries)
    assert len(server.requests) == caught.value.attempts == max_retries + 1
    assert caught.value.__context__ is None


@pytest.mark.parametrize(("way", "stream"), WAYS)
async def test_retries_stop_at_an_error_that_will_not_pass(
    way: str, stream: bool, serve: Serve, no_waits: list[float]
) -> None:
    server = serve(refusal(503, "server_unavailable"), refusal(401, "invalid_authentication_error"))
    with pytest.raises(errors.WrongKey) as caught:
        await sent(way, request(stream=stream), server)
    assert caught.value.attempts == 2


@pytest.mark.parametrize(("way", "stream"), WAYS)
async def test_the_report_and_the_log_show_the_attempts(
    way: str, stream: bool, serve: Serve, no_waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    prepared = request(stream=stream)
    with caplog.at_level(logging.INFO, "refrase_integrations"):
        await sent(way, prepared, serve(refusal(429, "rate_limit_reached_error"), b"", good(stream)))
    (line,) = prepared.report.as_dict()["healed"]
    assert line["practice"] == "retries"
    assert line["detail"] == "sent 3 times: first RateLimited 429, ConnectionFailed"
    assert "attempt 1 of 3 at host moonshot failed (RateLimited, HTTP 429)" in caplog.text


async def test_a_request_that_was_sent_once_says_nothing(serve: Serve) -> None:
    prepared = request()
    await sent("sync", prepared, serve(http(OK)))
    assert prepared.report.as_dict()["healed"] == []


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(("header", "seconds"), [({"retry_after": "7"}, 7.0), ({"retry_after_ms": "1500"}, 1.5)])
async def test_the_host_says_how_long(
    way: str, header: dict[str, str], seconds: float, serve: Serve, no_waits: list[float]
) -> None:
    await sent(way, request(), serve(refusal(429, "rate_limit_reached_error", **header), http(OK)))
    (wait,) = no_waits
    assert seconds <= wait <= seconds + FIRST_WAIT


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_wait_that_is_too_long_is_left_to_the_caller(way: str, serve: Serve, no_waits: list[float]) -> None:
    server = serve(refusal(429, "rate_limit_reached_error", retry_after=str(LONGEST_ASKED + 1)), http(OK))
    with pytest.raises(errors.RateLimited) as caught:
        await sent(way, request(), server)
    assert caught.value.retry_after == LONGEST_ASKED + 1
    assert len(server.requests) == 1


async def test_without_a_word_of_the_host_waits_double_at_random(serve: Serve, no_waits: list[float]) -> None:
    server = serve(refusal(503, "server_unavailable"))
    for _ in range(3):
        with pytest.raises(errors.HostOverloaded):
            await sent("sync", request(), server, max_retries=9)
    rounds = [no_waits[start : start + 9] for start in (0, 10, 20)]  # the tenth is computed, and not waited
    for waits in rounds:
        for turn, wait in enumerate(waits):
            assert 0 <= wait <= min(FIRST_WAIT * 2**turn, LONGEST_WAIT)
    assert len({wait for waits in rounds for wait in waits}) == 27  # full jitter: no two clients come back together


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_nothing_is_tried_again_after_the_first_chunk(way: str, serve: Serve, no_waits: list[float]) -> None:
    server = serve(sse(piece("Yes"), done=False), good(True))
    with pytest.raises(errors.StreamInterrupted):
        await sent(way, request(stream=True), server)
    assert len(server.requests) == 1
    assert no_waits == []
