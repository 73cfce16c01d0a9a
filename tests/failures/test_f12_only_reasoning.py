"""F12: only reasoning comes back, no text and no call; the output limit is spent.

kimi-code#520, gonka#1202, llama_index#21337. Every way it can end: tests/kimi/practices/test_empty_reply.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from refrase_integrations.errors import EmptyReply
from refrase_integrations.simulator import Reply
from tests.surfaces import everywhere, exchange, failure, user

MODEL = "kimi-k2-thinking"
ASKED = [user("What is 17 times 3?")]
SPENT = {"reasoning_only": True}
THOUGHT = Reply("51.", reasoning="17 times 3 is 51.")
OFF = {"empty_reply": "off"}


@everywhere
async def test_an_empty_answer_without(surface: str, mode: str) -> None:
    answer, _ = await exchange(surface, mode, ASKED, script=[THOUGHT], quirks=SPENT, model=MODEL, practices=OFF)
    assert (answer.text, answer.calls, answer.finish) == ("", [], "length")


@everywhere
async def test_an_error_that_says_where_the_tokens_went(surface: str, mode: str) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4096, "total_tokens": 4105}
    spent = Reply("51.", reasoning="17 times 3 is 51.", usage=usage)
    error, bodies = await failure(
        surface, mode, ASKED, EmptyReply, script=[spent], quirks=SPENT, model=MODEL, max_tokens=4096
    )
    assert len(bodies) == 1, "the same request would be cut again"
    assert "its output limit was spent (4096 tokens" in str(error)
    assert "thinking wants at least 16000" in str(error)
    assert error.usage == usage


@everywhere
@pytest.mark.parametrize("first", [Reply(reasoning="17 times 3 is 51."), Reply("")])
async def test_one_retry_where_nothing_was_cut(surface: str, mode: str, first: Reply) -> None:
    script: Any = [first, THOUGHT]
    answer, bodies = await exchange(surface, mode, ASKED, script=script, model=MODEL, practices=OFF)
    assert (answer.text, len(bodies)) == ("", 1)
    answer, bodies = await exchange(surface, mode, ASKED, script=script, model=MODEL)
    assert (answer.text, answer.reasoning, len(bodies)) == ("51.", "17 times 3 is 51.", 2)


@everywhere
async def test_there_is_room_for_reasoning_by_default(surface: str, mode: str) -> None:
    _, (body,) = await exchange(surface, mode, ASKED, model=MODEL)
    assert body["max_completion_tokens"] >= 16_000
    _, (body,) = await exchange(surface, mode, ASKED, model=MODEL, practices={"output_budget": "off"})
    assert "max_completion_tokens" not in body
