from __future__ import annotations

import logging
from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import PracticeError
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.practice import Call
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.tokens import estimate
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, OPENAPI, ask, exchange, sent, violations_of_openapi

HELLO = [("user", "Hello.")]
INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"


class Counted:
    """A counter that says what it is told."""

    def __init__(self, tokens: int, *, exact: bool = True) -> None:
        self.tokens, self.exact, self.margin = tokens, exact, 0.0 if exact else 0.1

    def text(self, text: str) -> int:
        return self.tokens

    def request(self, *args: Any, **kwargs: Any) -> int:
        return self.tokens


def prepared(
    model: str = "kimi-k2.6", host: str = "moonshot", count: Any = estimate, practices: Any = None, **fields: Any
) -> Any:
    dialect = compile_dialect(find_model(model), find_host(host, None), None, model)
    # Long enough that a count is worth its time.
    body: Any = {"model": model, "messages": [{"role": "user", "content": "a " * 140_000}], **fields}
    return prepare(Call(body, dialect, Practices.of(practices), count))


def said(result: Any) -> list[tuple[str, str]]:
    return [(entry.action, entry.detail) for entry in result.report.changes if entry.practice == "output-budget"]


def entries(reply: Any) -> list[tuple[str, str]]:
    changes = reply.response_metadata["refrase"]["changes"]
    return [(entry["action"], entry["detail"]) for entry in changes if entry["practice"] == "output-budget"]


@pytest.mark.parametrize("mode", MODES)
class TestBodies:
    async def test_moonshot(self, mode: str) -> None:
        assert await sent(mode, HELLO, model="kimi-k2.6") == snapshot(
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
        assert await sent(mode, HELLO, model="kimi-k2.6", practices={"output_budget": "off"}) == snapshot(
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
            }
        )

    async def test_moonshot_renames_the_users(self, mode: str) -> None:
        assert await sent(mode, HELLO, model="kimi-k2.6", max_tokens=20_000) == snapshot(
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
                "max_completion_tokens": 20000,
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
        assert await sent(mode, HELLO, persona="vllm", model=INSTRUCT, practices={"output_budget": "off"}) == snapshot(
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
            }
        )


@pytest.mark.skipif(not OPENAPI.exists(), reason="needs Moonshot's OpenAPI document in ../shared/data")
@pytest.mark.parametrize("model", ["kimi-k2-0905-preview", "kimi-k2-thinking", "kimi-k2.6"])
async def test_what_is_sent_is_documented(model: str) -> None:
    for fields in ({}, {"max_tokens": 9}, {"max_tokens": 10**9}):
        assert violations_of_openapi(await sent("invoke", HELLO, model=model, **fields)) == []


@pytest.mark.parametrize("mode", MODES)
class TestSilentTruncation:
    """F25: left out, the limit can default to 1,024 tokens (Moonshot's OpenAPI document)."""

    async def test_it_is_always_sent(self, mode: str) -> None:
        story = " ".join(f"word{number}" for number in range(1_500))
        cut, _ = await exchange(
            mode, [("user", f"Say {story}")], script=None, thinking=False, practices={"output_budget": "off"}
        )
        assert cut.response_metadata["finish_reason"] == "length"
        assert not cut.text.endswith("word1499")
        whole, _ = await exchange(mode, [("user", f"Say {story}")], script=None, thinking=False)
        assert whole.response_metadata["finish_reason"] == "stop"
        assert whole.text.endswith("word1499")


@pytest.mark.parametrize("mode", MODES)
class TestReasoningOnly:
    """F12 (kimi-code#520, gonka#1202): a budget that is all spent on reasoning."""

    async def test_the_default_leaves_room(self, mode: str) -> None:
        def spend(body: dict[str, Any]) -> Reply:
            """The model reasons 4,096 tokens long, then answers, if it may."""
            room = body.get("max_completion_tokens", 1_024)
            return Reply("Yes.", reasoning="Hm.") if room >= 16_000 else Reply(reasoning="Hm.", finish_reason="length")

        for model in ("kimi-k2-thinking", "kimi-k2.6"):
            for practice, text in (("off", ""), ("apply", "Yes.")):
                with KimiSimulator(script=spend) as simulator:
                    chat = ChatKimi(
                        host="moonshot", base_url=simulator.base_url, api_key="sk-test", model=model,
                        practices={"output_budget": practice, "empty_reply": "off"},
                    )  # fmt: skip
                    assert (await ask(mode, chat, HELLO)).text == text

    async def test_the_users_own_limit_wins_with_a_warning(self, mode: str, caplog: pytest.LogCaptureFixture) -> None:
        limit = 4_001 + MODES.index(mode)
        with caplog.at_level(logging.WARNING, "refrase_integrations"):
            reply, (body,) = await exchange(mode, HELLO, model="kimi-k2.6", max_tokens=limit)
        assert body["max_completion_tokens"] == limit
        advice = f"{limit} output tokens; thinking wants at least 16000, reasoning included"
        assert ("advise", advice) in entries(reply)
        assert [record.getMessage() for record in caplog.records] == [f"kimi-k2.6 on moonshot: output-budget: {advice}"]

    async def test_not_while_it_does_not_think(self, mode: str) -> None:
        reply, _ = await exchange(mode, HELLO, model="kimi-k2.6", thinking=False, max_tokens=100)
        assert entries(reply) == [("encode", "max_tokens -> max_completion_tokens")]


class TestClamps:
    @pytest.mark.parametrize(
        ("model", "host", "given", "key", "limit"),
        [
            ("kimi-k2.6", "moonshot", None, "max_completion_tokens", 32_768),
            ("kimi-k3", "moonshot", None, "max_completion_tokens", 131_072),
            ("kimi-k2-thinking", "bedrock-mantle", None, "max_tokens", None),
            ("moonshot.kimi-k2-thinking", "bedrock", 30_000, None, 16_000),
            ("accounts/fireworks/models/kimi-k2-instruct-0905", "fireworks", 100_000, None, 32_768),
            ("kimi-k2-thinking", "dashscope", None, None, 16_384),
        ],
    )
    def test_to_what_model_and_host_take(
        self, model: str, host: str, given: int | None, key: str | None, limit: int | None
    ) -> None:
        body = prepared(model, host, Counted(10), max_tokens=given).body
        keys = [name for name in ("max_tokens", "max_completion_tokens") if name in body]
        assert keys == [key or keys[0]]
        if limit is not None:
            assert body[keys[0]] == limit

    def test_to_what_the_window_leaves_counted_exactly(self) -> None:
        result = prepared(count=Counted(240_000))
        assert result.body["max_completion_tokens"] == 262_144 - 240_000
        assert said(result) == [
            ("add", "max_completion_tokens=22144 (prompt about 240000 of 262144 tokens, counted exactly)")
        ]

    def test_to_what_the_window_leaves_estimated(self) -> None:
        result = prepared(count=Counted(220_000, exact=False))
        assert result.body["max_completion_tokens"] == 262_144 - 242_000
        assert said(result) == [
            ("add", "max_completion_tokens=20144 (prompt about 242000 of 262144 tokens, estimated, margin 10%)")
        ]

    def test_a_users_limit_past_the_window_is_said(self) -> None:
        result = prepared(count=Counted(240_000), max_tokens=30_000)
        assert result.body["max_completion_tokens"] == 22_144
        assert said(result)[0] == (
            "replace",
            "30000 -> 22144 tokens: all that fits (prompt about 240000 of 262144 tokens, counted exactly)",
        )

    def test_too_little_room_to_think_is_said(self) -> None:
        assert ("advise", "2144 output tokens; thinking wants at least 16000, reasoning included") in said(
            prepared(count=Counted(260_000))
        )

    def test_caution_leaves_an_answer(self) -> None:
        """With the margin of the estimate nothing would be left; without it, enough."""
        result = prepared(count=Counted(245_000, exact=False))
        assert result.body["max_completion_tokens"] == 262_144 - 245_000

    def test_a_window_that_is_almost_full_is_said(self) -> None:
        result = prepared("kimi-k2-0905-preview", count=Counted(262_000))
        assert said(result)[-1] == (
            "advise",
            "144 output tokens are all that the window leaves (prompt about 262000 of 262144 tokens, counted exactly)",
        )

    def test_never_less_than_one(self) -> None:
        result = prepared(count=Counted(300_000), practices={"context_window": "off"})
        assert result.body["max_completion_tokens"] == 1

    def test_two_limits(self) -> None:
        result = prepared(count=Counted(10), max_tokens=20_000, max_completion_tokens=30_000)
        assert result.body["max_completion_tokens"] == 30_000
        assert "max_tokens" not in result.body
        assert said(result) == [("drop", "two output limits, 30000 and 20000: the first counts")]
        same = prepared(count=Counted(10), max_tokens=20_000, max_completion_tokens=20_000)
        assert said(same) == [("encode", "max_tokens -> max_completion_tokens")]


class TestModes:
    @pytest.mark.parametrize("mode", MODES)
    async def test_error(self, mode: str) -> None:
        with KimiSimulator() as simulator:
            chat = ChatKimi(
                host="moonshot", base_url=simulator.base_url, api_key="sk-test", max_tokens=10**6,
                practices={"output_budget": "error"},
            )  # fmt: skip
            with pytest.raises(PracticeError, match="1000000 -> ") as caught:
                await ask(mode, chat, HELLO)
            assert caught.value.practice == "output-budget"
            assert simulator.requests == []

    @pytest.mark.parametrize("mode", MODES)
    async def test_warn(self, mode: str) -> None:
        reply, (body,) = await exchange(
            mode, HELLO, max_tokens=300_000, practices={"output_budget": "warn"}, strict=False
        )
        assert body["max_tokens"] == 300_000
        assert "max_completion_tokens" not in body
        assert {action for action, _ in entries(reply)} == {"advise"}

    async def test_error_fills_what_was_left_open(self) -> None:
        body = await sent("invoke", HELLO, model="kimi-k2.6", practices={"output_budget": "error"})
        assert body["max_completion_tokens"] == 32_768
