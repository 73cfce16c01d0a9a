"""F10: 400 `the message at position 82 with role 'assistant' must not be empty`; `text content is empty`.

CLIProxyAPI#1730, kimi-code#1985, #3017, kimi-cli#2035.
"""

from __future__ import annotations

from typing import Any

import pytest

from refrase_integrations.errors import HistoryRefused
from refrase_integrations.simulator import Reply
from tests.surfaces import called, everywhere, exchange, failure, result, tool, user

MODEL = "kimi-k2-0905-preview"
OFF = {"history": "off"}
BLANK = {
    "must not be empty": [user("Hi."), {"role": "assistant", "content": " "}, user("Are you there?")],
    "text content is empty": [{"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "Hi."}]}],
}  # fmt: skip
ACTED = [user("Weather?"), called(("c-1", "get_weather", {"city": "Paris"})), result("c-1")]
CALL = {"tools": [tool("get_weather", city="string")]}


@everywhere
@pytest.mark.parametrize("words", BLANK)
async def test_refused_without(surface: str, mode: str, words: str) -> None:
    error, _ = await failure(surface, mode, BLANK[words], HistoryRefused, model=MODEL, practices=OFF)
    assert words in error.seen


@everywhere
@pytest.mark.parametrize("words", BLANK)
async def test_what_says_nothing_is_left_out(surface: str, mode: str, words: str) -> None:
    answer, (body,) = await exchange(surface, mode, BLANK[words], model=MODEL)
    assert answer.text == "Yes."
    assert all(message["role"] != "assistant" for message in body["messages"])
    assert [action for action, _ in answer.said("history", "changes")] == ["drop"]


def fussy(body: dict[str, Any]) -> Reply:
    """A LiteLLM proxy wants the key (kimi-code#3017); vLLM makes a blank text part out of ''."""
    made = next(message for message in body["messages"] if message.get("tool_calls"))
    wanted = "content" in made and made["content"] is None
    return Reply("Yes.") if wanted else Reply(status=400, message="messages: content must not be empty")


@everywhere
async def test_beside_tool_calls(surface: str, mode: str) -> None:
    fields: Any = {"persona": "vllm", "model": "moonshotai/Kimi-K2-Instruct-0905", "call": CALL, "script": fussy}
    await failure(surface, mode, ACTED, HistoryRefused, practices=OFF, **fields)
    answer, _ = await exchange(surface, mode, ACTED, **fields)
    assert answer.text == "Yes."
    _, (body,) = await exchange(surface, mode, ACTED, model=MODEL, call=CALL)
    assert "content" not in body["messages"][-2], "Moonshot's own client leaves it out"
