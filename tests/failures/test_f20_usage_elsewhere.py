"""F20: usage stands in `choices[0].usage`, or the cached tokens flat beside it: LangChain's generic client reports none.

pi#2017, go-moonshot#17.
"""

from __future__ import annotations

from typing import Any

import pytest

from refrase_integrations.simulator import KimiSimulator, Reply
from tests import conversations
from tests.surfaces import MODES, STREAMS, chat_openai, everywhere, exchange, langchain_messages, user

MODEL = "kimi-k2.6"
ASKED = [user("Hello.")]
COUNTS = {"prompt_tokens": 300, "completion_tokens": 5, "total_tokens": 305}
FLAT = {**COUNTS, "cached_tokens": 256}
PLACES = [["choice"], ["final"], ["choice", "final"]]


@pytest.mark.parametrize("mode", STREAMS)
async def test_a_generic_client_finds_none_in_a_stream(mode: str) -> None:
    with KimiSimulator(
        script=[Reply("Yes.", reasoning="Hm.", usage=FLAT)], quirks={"usage_in": ["choice"]}
    ) as simulator:
        reply = await conversations.ask(
            mode, chat_openai(simulator, MODEL, stream_usage=True), langchain_messages(ASKED)
        )
    assert reply.usage_metadata is None


@pytest.mark.parametrize("mode", MODES)
async def test_a_generic_client_loses_the_flat_cached_tokens(mode: str) -> None:
    with KimiSimulator(script=[Reply("Yes.", usage=FLAT)]) as simulator:
        model = chat_openai(simulator, MODEL, stream_usage=True)
        reply = await conversations.ask(mode, model, langchain_messages(ASKED))
    assert (reply.usage_metadata or {}).get("input_token_details", {}).get("cache_read") is None


@everywhere
@pytest.mark.parametrize("places", PLACES)
async def test_read_in_every_place(surface: str, mode: str, places: list[str]) -> None:
    script: Any = [Reply("Yes.", usage=FLAT)]
    answer, _ = await exchange(surface, mode, ASKED, script=script, quirks={"usage_in": places}, model=MODEL)
    assert answer.usage == {"prompt": 300, "completion": 5, "cached": 256}


@everywhere
async def test_cached_tokens_at_the_top_level(surface: str, mode: str) -> None:
    last = {"index": 0, "finish_reason": "stop"}
    named = {"id": "r", "model": MODEL, "usage": COUNTS, "cached_tokens": 256}
    said = {"role": "assistant", "content": "Yes."}
    chunks = [{**named, "choices": [{**last, ("delta" if mode in STREAMS else "message"): said}]}]
    answer, _ = await exchange(surface, mode, ASKED, script=[Reply(chunks=chunks)], model=MODEL)
    assert answer.usage == {"prompt": 300, "completion": 5, "cached": 256}
