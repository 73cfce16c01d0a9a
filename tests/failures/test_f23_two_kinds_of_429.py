"""F23: 429 `engine_overloaded_error` passes, 429 `exceeded_current_quota_error` does not.

kimi-cli#2209. A generic client sees only the status and asks an exhausted account again.
"""

from __future__ import annotations

from typing import Any

import openai
import pytest

from refrase_integrations.errors import HostOverloaded, QuotaExceeded
from refrase_integrations.simulator import KimiSimulator, Reply
from tests import conversations
from tests.surfaces import MODES, chat_openai, everywhere, exchange, failure, langchain_messages, user

MODEL = "kimi-k2.6"
ASKED = [user("Hello.")]
WAIT = {"retry-after": "7"}
QUOTA = Reply(
    status=429,
    error_type="exceeded_current_quota_error",
    message="Your account is suspended",
    headers={"retry-after-ms": "1"},
)
BUSY = Reply(
    status=429, error_type="engine_overloaded_error", message="The engine is currently overloaded", headers=WAIT
)


@pytest.mark.parametrize("mode", MODES)
async def test_a_generic_client_asks_an_exhausted_account_again(mode: str) -> None:
    with KimiSimulator(script=[QUOTA] * 3) as simulator:
        with pytest.raises(openai.RateLimitError):
            await conversations.ask(mode, chat_openai(simulator, MODEL, max_retries=2), langchain_messages(ASKED))
        assert len(simulator.requests) == 3


@everywhere
async def test_an_exhausted_account_is_asked_once(surface: str, mode: str) -> None:
    error, bodies = await failure(surface, mode, ASKED, QuotaExceeded, script=[QUOTA] * 3, model=MODEL, max_retries=2)
    assert (len(bodies), error.retryable) == (1, False)
    assert "Top up the account" in str(error)


@everywhere
async def test_an_overloaded_engine_is_asked_again_after_the_wait_it_wants(
    surface: str, mode: str, no_waits: list[float]
) -> None:
    fields: Any = {"script": [BUSY, BUSY, Reply("Yes.")], "model": MODEL}
    await failure(surface, mode, ASKED, HostOverloaded, max_retries=0, **fields)
    answer, bodies = await exchange(surface, mode, ASKED, max_retries=2, **fields)
    assert (answer.text, len(bodies)) == ("Yes.", 3)
    assert all(7 <= wait < 8 for wait in no_waits)
