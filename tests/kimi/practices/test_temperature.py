from __future__ import annotations

import logging
from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import PracticeError, SamplingRefused
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator
from tests.conversations import MODES, OPENAPI, ask, exchange, sent, violations_of_openapi

HELLO = [("user", "Hello.")]
INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"
THINKING = "moonshotai/Kimi-K2-Thinking"
HYBRID = "moonshotai/Kimi-K2.6"


def entries(reply: Any) -> list[dict[str, Any]]:
    return [entry for entry in reply.response_metadata["refrase"]["changes"] if entry["practice"] == "temperature"]


@pytest.mark.parametrize("mode", MODES)
class TestBodies:
    async def test_moonshot_instruct(self, mode: str) -> None:
        assert await sent(mode, HELLO, model="kimi-k2-0905-preview") == snapshot(
            {
                "model": "kimi-k2-0905-preview",
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
                "max_completion_tokens": 32768,
            }
        )

    async def test_moonshot_instruct_off(self, mode: str) -> None:
        assert await sent(mode, HELLO, model="kimi-k2-0905-preview", practices={"temperature": "off"}) == snapshot(
            {
                "model": "kimi-k2-0905-preview",
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
                "max_completion_tokens": 32768,
            }
        )

    async def test_moonshot_thinking(self, mode: str) -> None:
        assert await sent(mode, HELLO, model="kimi-k2-thinking") == snapshot(
            {
                "model": "kimi-k2-thinking",
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
                "temperature": 1.0,
                "max_completion_tokens": 32768,
            }
        )

    async def test_moonshot_fixes_it(self, mode: str) -> None:
        assert await sent(mode, HELLO, model="kimi-k2.6", temperature=0.1) == snapshot(
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

    async def test_vllm_instruct(self, mode: str) -> None:
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

    async def test_vllm_instruct_off(self, mode: str) -> None:
        assert await sent(
            mode, HELLO, persona="vllm", model=INSTRUCT, temperature=0.2, practices={"temperature": "off"}
        ) == snapshot(
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
                "temperature": 0.2,
                "max_tokens": 32768,
            }
        )

    async def test_vllm_thinking(self, mode: str) -> None:
        assert await sent(mode, HELLO, persona="vllm", model=THINKING) == snapshot(
            {
                "model": "moonshotai/Kimi-K2-Thinking",
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
                "temperature": 1.0,
                "max_tokens": 32768,
            }
        )


@pytest.mark.parametrize(
    ("persona", "model", "thinking", "temperature"),
    [
        ("moonshot", "kimi-k2-turbo-preview", None, 0.6),
        ("moonshot", "kimi-k2-thinking", None, 1.0),
        ("moonshot", "kimi-k2.6", None, None),
        ("moonshot", "kimi-k2.6", False, None),
        ("moonshot", "kimi-k3", None, None),
        ("vllm", INSTRUCT, None, 0.6),
        ("vllm", THINKING, None, 1.0),
        ("vllm", HYBRID, None, 1.0),
        ("vllm", HYBRID, False, 0.6),
        ("openrouter", "moonshotai/kimi-k2-0905", None, 0.6),
    ],
)
async def test_the_documented_value_of_each_model(
    persona: str, model: str, thinking: bool | None, temperature: float | None
) -> None:
    for given in (None, 0.4):
        body = await sent("invoke", HELLO, persona=persona, model=model, thinking=thinking, temperature=given)
        assert body.get("temperature") == temperature


@pytest.mark.skipif(not OPENAPI.exists(), reason="needs Moonshot's OpenAPI document in ../shared/data")
@pytest.mark.parametrize("model", ["kimi-k2-0905-preview", "kimi-k2-thinking", "kimi-k2.6"])
async def test_what_is_sent_is_documented(model: str) -> None:
    for fields in ({}, {"temperature": 1.7}):
        assert violations_of_openapi(await sent("invoke", HELLO, model=model, **fields)) == []
    if model != "kimi-k2.6":  # there the document says only that it cannot be set
        through = await sent(
            "invoke", HELLO, model=model, temperature=1.7, practices={"temperature": "off"}, strict=False
        )
        assert violations_of_openapi(through), "the document must refuse what the practice keeps back"


@pytest.mark.parametrize("mode", MODES)
class TestUsersValue:
    async def test_it_is_overridden_and_said(self, mode: str, caplog: pytest.LogCaptureFixture) -> None:
        value = 0.31 + MODES.index(mode) / 100  # one log line a value and process
        with caplog.at_level(logging.WARNING, "refrase_integrations"):
            reply, (body,) = await exchange(mode, HELLO, model="kimi-k2-0905-preview", temperature=value)
        assert body["temperature"] == 0.6
        assert entries(reply) == [
            {
                "practice": "temperature",
                "action": "replace",
                "detail": f"temperature {value} -> 0.6",
                "source": "MoonshotAI/Kimi-K2 README",
            }
        ]
        assert [record.getMessage() for record in caplog.records] == [
            f"kimi-k2-0905-preview on moonshot: temperature: temperature {value} -> 0.6"
        ]

    async def test_it_is_left_out_where_the_host_fixes_it(self, mode: str) -> None:
        reply, (body,) = await exchange(mode, HELLO, model="kimi-k2.6", temperature=0.1)
        assert "temperature" not in body
        assert [(entry["action"], entry["detail"]) for entry in entries(reply)] == [
            ("drop", "temperature 0.1: this host fixes it")
        ]

    async def test_warn_keeps_it(self, mode: str, caplog: pytest.LogCaptureFixture) -> None:
        value = 0.21 + MODES.index(mode) / 100
        with caplog.at_level(logging.WARNING, "refrase_integrations"):
            reply, (body,) = await exchange(
                mode, HELLO, persona="vllm", model=INSTRUCT, temperature=value, practices={"temperature": "warn"}
            )
        assert body["temperature"] == value
        assert [(entry["action"], entry["detail"]) for entry in entries(reply)] == [
            ("advise", f"temperature {value} -> 0.6")
        ]
        assert [record.getMessage() for record in caplog.records] == [
            f"{INSTRUCT} on vllm: temperature: temperature {value} -> 0.6"
        ]

    @pytest.mark.parametrize("model", ["kimi-k2-0905-preview", "kimi-k2.6"])
    async def test_error_refuses_it_before_any_request(self, mode: str, model: str) -> None:
        with KimiSimulator() as simulator:
            chat = ChatKimi(
                host="moonshot", base_url=simulator.base_url, api_key="sk-test", model=model, temperature=0.3,
                practices={"temperature": "error"},
            )  # fmt: skip
            with pytest.raises(PracticeError, match="temperature") as caught:
                await ask(mode, chat, HELLO)
            assert caught.value.practice == "temperature"
            assert simulator.requests == []

    async def test_error_fills_what_was_left_open(self, mode: str) -> None:
        body = await sent(mode, HELLO, model="kimi-k2-0905-preview", practices={"temperature": "error"})
        assert body["temperature"] == 0.6

    @pytest.mark.parametrize("practice", ["off", "warn"])
    async def test_without_it_moonshot_refuses(self, mode: str, practice: str) -> None:
        """F2: OpenAILike sends 0.1 by default, Kimi K2.6 takes 1 only (inspect_ai#5156)."""
        with pytest.raises(SamplingRefused, match="invalid temperature"):
            await exchange(mode, HELLO, model="kimi-k2.6", temperature=0.1, practices={"temperature": practice})


async def test_the_documented_value_is_no_change() -> None:
    reply, (body,) = await exchange("invoke", HELLO, persona="vllm", model=INSTRUCT, temperature=0.6)
    assert body["temperature"] == 0.6
    assert entries(reply) == []


@pytest.mark.filterwarnings("ignore::refrase_integrations.errors.CatalogueWarning")
@pytest.mark.parametrize(("given", "kept"), [(None, None), (0.0, 0.0), (0.7, 0.7), (5.0, 2.0), (-1.0, 0.0)])
async def test_an_unknown_model_keeps_the_users_value_in_range(given: float | None, kept: float | None) -> None:
    body = await sent(
        "invoke", HELLO, persona="generic", strict=False, model="some-unheard-of-model", temperature=given
    )
    assert body.get("temperature") == kept
