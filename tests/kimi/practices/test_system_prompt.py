from __future__ import annotations

from typing import Any

import pytest
from inline_snapshot import snapshot

from tests.conversations import MODES, OPENAPI, exchange, sent, violations_of_openapi

HELLO = [("user", "Hello.")]
TASK = [("system", "You translate into French."), ("user", "Hello.")]
OFF = {"system_prompt": "off"}
INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"

pytestmark = pytest.mark.parametrize("mode", MODES)


async def moonshot(mode: str, messages: Any, **fields: Any) -> dict[str, Any]:
    body = await sent(mode, messages, **{"model": "kimi-k2.6", **fields})
    assert not OPENAPI.exists() or violations_of_openapi(body) == []
    return body


def said(reply: Any) -> list[dict[str, Any]]:
    return [line for line in reply.response_metadata["refrase"]["changes"] if line["practice"] == "system-prompt"]


class TestBodies:
    async def test_moonshot(self, mode: str) -> None:
        assert await moonshot(mode, HELLO) == snapshot(
            {
                "model": "kimi-k2.6",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                    },
                    {"role": "user", "content": "Hello."},
                ],
                "thinking": {"type": "enabled", "keep": "all"},
                "max_completion_tokens": 32768,
            }
        )

    async def test_moonshot_off(self, mode: str) -> None:
        assert await moonshot(mode, HELLO, practices=OFF) == snapshot(
            {
                "model": "kimi-k2.6",
                "messages": [
                    {
                        "role": "system",
                        "content": "Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.",
                    },
                    {"role": "user", "content": "Hello."},
                ],
                "thinking": {"type": "enabled", "keep": "all"},
                "max_completion_tokens": 32768,
            }
        )

    async def test_vllm(self, mode: str) -> None:
        assert await sent(mode, HELLO, persona="vllm", model=INSTRUCT) == snapshot(
            {
                "model": "moonshotai/Kimi-K2-Instruct-0905",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                    },
                    {"role": "user", "content": "Hello."},
                ],
                "temperature": 0.6,
                "max_tokens": 32768,
            }
        )

    async def test_vllm_off(self, mode: str) -> None:
        assert await sent(mode, HELLO, persona="vllm", model=INSTRUCT, practices=OFF) == snapshot(
            {
                "model": "moonshotai/Kimi-K2-Instruct-0905",
                "messages": [
                    {
                        "role": "system",
                        "content": "Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.",
                    },
                    {"role": "user", "content": "Hello."},
                ],
                "temperature": 0.6,
                "max_tokens": 32768,
            }
        )

    async def test_a_task_of_the_users_own_stays_as_it_is(self, mode: str) -> None:
        with_it = await moonshot(mode, TASK)
        assert with_it["messages"] == snapshot(
            [
                {
                    "role": "system",
                    "content": """\
You translate into French.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                },
                {"role": "user", "content": "Hello."},
            ]
        )
        assert with_it == await moonshot(mode, TASK, practices=OFF)

    async def test_a_blank_system_message_counts_as_none(self, mode: str) -> None:
        body = await moonshot(mode, [("system", " \n"), *HELLO])
        assert body["messages"] == (await moonshot(mode, HELLO))["messages"]

    async def test_a_system_message_later_on_is_a_prompt_too(self, mode: str) -> None:
        later = [*HELLO, ("system", "You translate into French.")]
        body = await moonshot(mode, later, practices={"fresh_data": "off"})
        assert [message["role"] for message in body["messages"]] == ["user", "system"]

    async def test_a_model_without_a_documented_default_gets_none(self, mode: str) -> None:
        body = await sent(mode, HELLO, model="kimi-k3")
        assert body["messages"] == snapshot(
            [
                {
                    "role": "system",
                    "content": "Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.",
                },
                {"role": "user", "content": "Hello."},
            ]
        )


class TestModes:
    async def test_warn_only_says_so(self, mode: str) -> None:
        warned, bodies = await exchange(
            mode, HELLO, model="kimi-k2.6", practices={"system_prompt": "warn", "fresh_data": "off"}
        )
        assert bodies[0]["messages"] == [{"role": "user", "content": "Hello."}]
        assert said(warned) == snapshot(
            [
                {
                    "practice": "system-prompt",
                    "action": "advise",
                    "detail": "no system prompt: the documented default",
                    "source": "MoonshotAI/Kimi-K2 README",
                }
            ]
        )

    async def test_error_takes_what_only_fills_a_gap(self, mode: str) -> None:
        assert await moonshot(mode, HELLO, practices={"system_prompt": "error"}) == await moonshot(mode, HELLO)

    async def test_the_report_names_the_source_and_nothing_of_the_prompt(self, mode: str) -> None:
        reply, _ = await exchange(mode, [("system", " "), ("user", "xylophone")], model="kimi-k2.6")
        assert said(reply) == snapshot(
            [
                {
                    "practice": "system-prompt",
                    "action": "add",
                    "detail": "no system prompt: the documented default",
                    "source": "MoonshotAI/Kimi-K2 README",
                }
            ]
        )
        assert "xylophone" not in str(reply.response_metadata)

    async def test_off_is_not_in_the_report(self, mode: str) -> None:
        reply, _ = await exchange(mode, HELLO, model="kimi-k2.6", practices=OFF)
        assert said(reply) == []
