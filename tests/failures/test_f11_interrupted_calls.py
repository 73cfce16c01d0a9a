"""F11: 400 `an assistant message with 'tool_calls' must be followed by tool messages`, after an interrupted run.

kimi-cli#1977, #2405. A stuck LangGraph checkpoint: tests/langchain/test_threads.py.
"""

from __future__ import annotations

import pytest

from refrase_integrations.errors import HistoryRefused
from tests.surfaces import called, everywhere, exchange, failure, result, tool, user

MODEL = "kimi-k2-0905-preview"
CALL = {"tools": [tool("get_weather", city="string")]}
MADE = called(("c-1", "get_weather", {"city": "Paris"}), ("c-2", "get_weather", {"city": "Rome"}))
THREADS = {
    "no answer": [user("Weather?"), MADE, user("Never mind.")],
    "one of two answers": [user("Weather?"), MADE, result("c-2"), user("Never mind.")],
    "interrupted at the end": [user("Weather?"), MADE],
}


@everywhere
@pytest.mark.parametrize("thread", THREADS)
async def test_refused_for_good_without(surface: str, mode: str, thread: str) -> None:
    off = {"history": "off"}
    error, _ = await failure(surface, mode, THREADS[thread], HistoryRefused, model=MODEL, call=CALL, practices=off)
    assert "must be followed by tool messages responding to each 'tool_call_id'" in error.seen


@everywhere
@pytest.mark.parametrize("thread", THREADS)
async def test_an_interrupted_result_stands_in(surface: str, mode: str, thread: str) -> None:
    answer, (body,) = await exchange(surface, mode, THREADS[thread], model=MODEL, call=CALL)
    results = [message for message in body["messages"] if message["role"] == "tool"]
    assert {message["tool_call_id"] for message in results} == {"c-1", "c-2"}
    interrupted = [message for message in results if "interrupted" in message["content"]]
    assert len(interrupted) == (1 if thread == "one of two answers" else 2)
    assert answer.text == "Yes."
