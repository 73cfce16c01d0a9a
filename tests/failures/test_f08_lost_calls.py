"""F8: a stream ends with `finish_reason: "tool_calls"` but without a call; the same request unstreamed is fine.

vllm#54701 (5-30% under load), #38579, sglang#23363.
"""

from __future__ import annotations

import pytest

from refrase_integrations.simulator import Reply
from tests.surfaces import STREAMS, everywhere, exchange, in_streams, tool, user

MODEL = "moonshotai/Kimi-K2-Instruct-0905"
ASKED = [user("Weather in Paris?")]
CALL = {"tools": [tool("get_weather", city="string")]}
REPLY = Reply("Let me look.", tool_calls=[("get_weather", {"city": "Paris"})])
LOST = {"lost_calls": True}


@in_streams
@pytest.mark.parametrize("persona", ["vllm", "sglang"])
async def test_lost_without(surface: str, mode: str, persona: str) -> None:
    off = {"tool_call_recovery": "off"}
    answer, bodies = await exchange(
        surface, mode, ASKED, persona=persona, script=[REPLY], quirks=LOST, model=MODEL, call=CALL, practices=off
    )
    assert (answer.calls, answer.finish, len(bodies)) == ([], "tool_calls", 1)


@everywhere
@pytest.mark.parametrize("persona", ["vllm", "sglang"])
async def test_one_retry_without_streaming(surface: str, mode: str, persona: str) -> None:
    answer, bodies = await exchange(
        surface, mode, ASKED, persona=persona, script=[REPLY, REPLY], quirks=LOST, model=MODEL, call=CALL
    )
    assert (answer.calls, answer.text) == ([("get_weather", {"city": "Paris"})], "Let me look.")
    streamed = [body.get("stream", False) for body in bodies]
    assert streamed == ([True, False] if mode in STREAMS else [False])
    told = [("replace", "a tool call was announced and none came: asked once without streaming")]
    assert answer.said("tool-call-recovery") == (told if mode in STREAMS else [])
