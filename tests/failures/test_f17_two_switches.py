"""F17: 400 `cannot specify both 'thinking' and 'reasoning_effort'`.

nanobot#3939.
"""

from __future__ import annotations

from typing import Any

from refrase_integrations.errors import ThinkingRefused
from tests.surfaces import everywhere, exchange, failure, user

ASKED = [user("Hello.")]
BOTH: Any = {"extra_body": {"thinking": {"type": "enabled"}}, "reasoning_effort": "high", "model": "kimi-k2.6"}


@everywhere
async def test_refused_without(surface: str, mode: str) -> None:
    error, _ = await failure(surface, mode, ASKED, ThinkingRefused, practices={"thinking": "off"}, **BOTH)
    assert "cannot specify both 'thinking' and 'reasoning_effort'" in error.seen


@everywhere
async def test_one_switch(surface: str, mode: str) -> None:
    answer, (body,) = await exchange(surface, mode, ASKED, **BOTH)
    assert ("thinking" in body, "reasoning_effort" in body) == (True, False)
    assert ("drop", 'reasoning_effort="high": not this host\'s switch') in answer.said("thinking", "changes")


@everywhere
async def test_the_argument_is_written_the_hosts_way(surface: str, mode: str) -> None:
    for persona, model, key in (
        ("moonshot", "kimi-k2.6", "thinking"),
        ("vllm", "moonshotai/Kimi-K2.6", "chat_template_kwargs"),
        ("openrouter", "moonshotai/kimi-k2.6", "reasoning"),
    ):
        answer, (body,) = await exchange(
            surface, mode, ASKED, persona=persona, model=model, thinking=False, script=None
        )
        switches = {"thinking", "chat_template_kwargs", "reasoning", "reasoning_effort"} & body.keys()
        assert (switches, answer.reasoning) == ({key}, None), persona
