"""F24: 400 `Your request exceeded model token limit: 262144 (requested: 269030)`.

kimi-cli#2011.
"""

from __future__ import annotations

from refrase_integrations.errors import ContextOverflow, ContextWindowExceeded
from tests.surfaces import everywhere, exchange, failure, user

MODEL = "kimi-k2-0711-preview"  # the smallest window: 131,072 tokens
LONG = [user("Read this: " + "word " * 200_000)]


@everywhere
async def test_the_host_refuses_without(surface: str, mode: str) -> None:
    error, bodies = await failure(
        surface, mode, LONG, ContextOverflow, model=MODEL, practices={"context_window": "off"}
    )
    assert len(bodies) == 1
    assert "Your request exceeded model token limit: 131072 (requested: " in error.seen


@everywhere
async def test_counted_before_anything_is_sent(surface: str, mode: str) -> None:
    error, bodies = await failure(surface, mode, LONG, ContextWindowExceeded, model=MODEL)
    assert bodies == []
    assert "131072" in str(error)
    assert "word" not in str(error).replace("words", "")


@everywhere
async def test_the_oldest_turns_go_where_asked(surface: str, mode: str) -> None:
    conversation = [*LONG, {"role": "assistant", "content": "Done."}, user("And now?")]
    answer, (body,) = await exchange(surface, mode, conversation, model=MODEL, practices={"context_window": "apply"})
    assert [message["content"] for message in body["messages"] if message["role"] == "user"] == ["And now?"]
    assert answer.text == "Yes."
