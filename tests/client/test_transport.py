"""The way past the SDK's machinery sends what the SDK sends, over the HTTP client that it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from refrase_integrations.client.connection import connect
from refrase_integrations.client.sdk import asend, send
from tests.client.loopback import KEY, OK, RawServer, http, request

Serve = Callable[..., RawServer]
SDKS_OWN = {"x-stainless-retry-count", "x-stainless-read-timeout", "x-stainless-raw-response"}
"""Headers with which the SDK tells its maker of its own retries and limits."""


async def ask(way: str, connection: Any) -> list[Any]:
    prepared = request()
    if way == "sync":
        return list(send(prepared, connection))
    return [chunk async for chunk in asend(prepared, connection)]


def parts(raw: str) -> tuple[str, dict[str, str], str]:
    """Return the first line, the headers and the body of a request."""
    head, _, body = raw.partition("\r\n\r\n")
    line, *fields = head.split("\r\n")
    pairs = [field.partition(": ") for field in fields]
    headers = {name.lower(): value for name, _, value in pairs}
    return line, {name: value for name, value in headers.items() if name not in SDKS_OWN}, body


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_the_request_is_the_sdks(way: str, serve: Serve) -> None:
    server = serve(http(OK))
    for plain in (False, True):
        connection = connect(
            "moonshot",
            server.base_url,
            KEY,
            headers={"x-team": "weather", "user-agent": "ours/1"},
            query={"trace": "a b&c", "deep": True},
            plain_stream=plain,
        )
        assert len(await ask(way, connection)) == 1
    fast, plain_one = map(parts, server.requests)
    assert fast == plain_one
    assert fast[0].startswith("POST /v1/chat/completions?")
    assert fast[1]["authorization"] == f"Bearer {KEY}"
    assert fast[1]["x-team"] == "weather"


def test_cookies_of_the_host_come_back(serve: Serve) -> None:
    server = serve(http(OK, headers={"set-cookie": "route=7; Path=/"}))
    connection = connect("moonshot", server.base_url, KEY)
    for _ in range(2):
        list(send(request(), connection))
    first, second = map(parts, server.requests)
    assert "cookie" not in first[1]
    assert second[1]["cookie"] == "route=7"


def test_what_becomes_of_the_users_own_client_counts(serve: Serve) -> None:
    server = serve(http(OK))
    seen: list[str] = []
    own = openai.DefaultHttpxClient(
        headers={"x-turn": "1"}, event_hooks={"request": [lambda sent: seen.append(sent.content.decode())]}
    )
    connection = connect("moonshot", server.base_url, KEY, http_client=own)
    list(send(request(), connection))
    own.headers["x-turn"] = "2"
    list(send(request(), connection))
    assert [parts(raw)[1]["x-turn"] for raw in server.requests] == ["1", "2"]
    assert seen == [parts(raw)[2] for raw in server.requests]


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_redirect_takes_the_body_along(way: str, serve: Serve) -> None:
    target = serve(http(OK))
    moved = serve(http("", status=307, headers={"location": f"{target.base_url}/chat/completions"}))
    assert len(await ask(way, connect("moonshot", moved.base_url, KEY))) == 1
    assert parts(target.requests[0])[2] == parts(moved.requests[0])[2]
