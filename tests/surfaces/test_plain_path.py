"""The SDK's own way to send and read (``plain_stream``) gives the messages that the fast way gives, on every stream."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage

from refrase_integrations.langchain import ChatKimi
from refrase_integrations.llamaindex import Kimi
from refrase_integrations.simulator import KimiSimulator, Reply, persona_ids
from tests.client.loopback import RawServer

MODEL, KEY = "kimi-k2.6", "sk-not-a-key"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
LEAKED = (
    "I look it up.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
    '{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>'
)
REPLIES = {
    "text": Reply("Ünï — 北京 🙂, <b>2 < 3</b>\n\n```py\nx = [1]\n```", reasoning="First, think."),
    "call": Reply("", reasoning="Look it up.", tool_calls=[("get_weather", {"city": "Zürich"})]),
    "leak": Reply(LEAKED),
}


def recorded(persona: str, reply: Reply, **how: Any) -> bytes:
    """Return the bytes of a stream of this host, with its head."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Weather?"}], "tools": [WEATHER], "stream": True}
    with KimiSimulator(persona, script=[reply], models="all", **how) as simulator:
        request = urllib.request.Request(
            f"{simulator.base_url}/chat/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": f"Bearer {KEY}"},
        )
        with urllib.request.urlopen(request) as response:
            kind, data = response.headers["content-type"], response.read()
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n".encode() + data


@pytest.fixture
def replay() -> Iterator[Callable[[bytes], RawServer]]:
    servers: list[RawServer] = []

    def start(raw: bytes) -> RawServer:
        servers.append(RawServer([raw]))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def through_langchain(url: str, *, plain: bool) -> list[Any]:
    """Return every chunk of a stream, and of an async one."""
    model = ChatKimi(model=MODEL, host="vllm", base_url=url, api_key=KEY, plain_stream=plain).bind_tools([WEATHER])

    async def later() -> list[Any]:
        return [chunk async for chunk in model.astream("Weather?")]

    chunks = [*model.stream("Weather?"), *asyncio.run(later())]
    return [chunk.model_dump(exclude={"id"}) for chunk in chunks]


def through_llamaindex(url: str, *, plain: bool) -> list[Any]:
    """Return every response of a stream, and of an async one."""
    llm = Kimi(model=MODEL, host="vllm", base_url=url, api_key=KEY, plain_stream=plain)
    asked = [ChatMessage(role="user", content="Weather?")]

    async def later() -> list[Any]:
        return [reply async for reply in await llm.astream_chat(asked, tools=[WEATHER])]

    return [reply.model_dump() for reply in [*llm.stream_chat(asked, tools=[WEATHER]), *asyncio.run(later())]]


@pytest.mark.parametrize("through", [through_langchain, through_llamaindex])
@pytest.mark.parametrize("kind", REPLIES)
@pytest.mark.parametrize("persona", persona_ids())
def test_on_every_host(persona: str, kind: str, through: Any, replay: Callable[[bytes], RawServer]) -> None:
    server = replay(recorded(persona, REPLIES[kind]))
    fast, plain = through(server.base_url, plain=False), through(server.base_url, plain=True)
    assert fast == plain
    assert len(fast) > 2
    # Both really went their own way: only the SDK counts its retries in a header.
    sdks = [("x-stainless-retry-count" in request.lower()) for request in server.requests]
    assert sdks == sorted(sdks)
    assert set(sdks) == {False, True}


@pytest.mark.parametrize("through", [through_langchain, through_llamaindex])
@pytest.mark.parametrize("seed", range(8))
def test_on_streams_as_gateways_write_them(seed: int, through: Any, replay: Callable[[bytes], RawServer]) -> None:
    server = replay(recorded("vllm", REPLIES["text"], faults="framing", seed=seed))
    assert through(server.base_url, plain=False) == through(server.base_url, plain=True)
