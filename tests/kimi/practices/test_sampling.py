from __future__ import annotations

import logging
from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import ConfigurationError, PracticeError, SamplingRefused
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator
from tests.conversations import MODES, OPENAPI, ask, exchange, sent, violations_of_openapi

HELLO = [("user", "Hello.")]
HYBRID = "moonshotai/Kimi-K2.6"
ASKED = {"top_p": 0.5, "presence_penalty": 0.5, "frequency_penalty": -0.5}


def entries(reply: Any) -> list[tuple[str, str]]:
    changes = reply.response_metadata["refrase"]["changes"]
    return [(entry["action"], entry["detail"]) for entry in changes if entry["practice"] == "sampling"]


@pytest.mark.parametrize("mode", MODES)
class TestBodies:
    async def test_moonshot_fixes_all_of_it(self, mode: str) -> None:
        assert await sent(mode, HELLO, model="kimi-k2.6", **ASKED) == snapshot(
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
        assert await sent(
            mode, HELLO, model="kimi-k2.6", practices={"sampling": "off"}, strict=False, **ASKED
        ) == snapshot(
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
                "top_p": 0.5,
                "presence_penalty": 0.5,
                "frequency_penalty": -0.5,
                "thinking": {"type": "enabled", "keep": "all"},
                "max_completion_tokens": 32768,
            }
        )

    async def test_moonshot_k2_takes_it(self, mode: str) -> None:
        assert await sent(mode, HELLO, model="kimi-k2-0905-preview", **ASKED) == snapshot(
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
                "top_p": 0.5,
                "presence_penalty": 0.5,
                "frequency_penalty": -0.5,
                "temperature": 0.6,
                "max_completion_tokens": 32768,
            }
        )

    async def test_vllm_k26(self, mode: str) -> None:
        assert await sent(mode, HELLO, persona="vllm", model=HYBRID) == snapshot(
            {
                "model": "moonshotai/Kimi-K2.6",
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
                "top_p": 0.95,
                "temperature": 1.0,
                "max_tokens": 32768,
            }
        )

    async def test_vllm_k26_off(self, mode: str) -> None:
        assert await sent(mode, HELLO, persona="vllm", model=HYBRID, practices={"sampling": "off"}) == snapshot(
            {
                "model": "moonshotai/Kimi-K2.6",
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

    async def test_vllm_keeps_the_users(self, mode: str) -> None:
        assert await sent(mode, HELLO, persona="vllm", model=HYBRID, **ASKED) == snapshot(
            {
                "model": "moonshotai/Kimi-K2.6",
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
                "top_p": 0.5,
                "presence_penalty": 0.5,
                "frequency_penalty": -0.5,
                "temperature": 1.0,
                "max_tokens": 32768,
            }
        )


@pytest.mark.skipif(not OPENAPI.exists(), reason="needs Moonshot's OpenAPI document in ../shared/data")
@pytest.mark.parametrize("model", ["kimi-k2-0905-preview", "kimi-k2-thinking", "kimi-k2.6"])
async def test_what_is_sent_is_documented(model: str) -> None:
    wild = {"top_p": 3.0, "n": 9, "presence_penalty": 7.0, "frequency_penalty": -7.0}
    assert violations_of_openapi(await sent("invoke", HELLO, model=model, **wild)) == []
    if model != "kimi-k2.6":  # there the document says only that they cannot be set
        through = await sent("invoke", HELLO, model=model, practices={"sampling": "off"}, strict=False, **wild)
        assert violations_of_openapi(through), "the document must refuse what the practice keeps back"


@pytest.mark.parametrize("mode", MODES)
class TestModes:
    async def test_what_is_left_out_is_said(self, mode: str, caplog: pytest.LogCaptureFixture) -> None:
        value = 0.51 + MODES.index(mode) / 100
        with caplog.at_level(logging.WARNING, "refrase_integrations"):
            reply, _ = await exchange(mode, HELLO, model="kimi-k2.6", top_p=value)
        assert entries(reply) == [("drop", f"top_p {value}: this host fixes it")]
        assert [record.getMessage() for record in caplog.records] == [
            f"kimi-k2.6 on moonshot: sampling: top_p {value}: this host fixes it"
        ]

    async def test_warn(self, mode: str) -> None:
        reply, (body,) = await exchange(
            mode, HELLO, model="kimi-k2-0905-preview", presence_penalty=9.0, practices={"sampling": "warn"},
            strict=False,
        )  # fmt: skip
        assert body["presence_penalty"] == 9.0
        assert entries(reply) == [("advise", "presence_penalty 9.0 -> 2.0")]

    async def test_error(self, mode: str) -> None:
        with KimiSimulator() as simulator:
            chat = ChatKimi(
                host="moonshot", base_url=simulator.base_url, api_key="sk-test", top_p=0.5,
                practices={"sampling": "error"},
            )  # fmt: skip
            with pytest.raises(PracticeError, match=r"top_p 0\.5: this host fixes it") as caught:
                await ask(mode, chat, HELLO)
            assert caught.value.practice == "sampling"
            assert simulator.requests == []

    @pytest.mark.parametrize(
        ("name", "value"), [("top_p", 0.5), ("presence_penalty", 0.5), ("frequency_penalty", 0.5), ("n", 2)]
    )
    async def test_without_it_moonshot_refuses(self, mode: str, name: str, value: Any) -> None:
        """F2 (inspect_ai#5156, litellm#29687)."""
        if (name, mode) in (("n", "stream"), ("n", "astream")):  # LangChain has no way to stream several replies
            with pytest.raises(ConfigurationError, match="n > 1 cannot be streamed"):
                await exchange(mode, HELLO, model="kimi-k2.6", n=2)
            return
        with pytest.raises(SamplingRefused, match=f"invalid {name}"):
            await exchange(mode, HELLO, model="kimi-k2.6", practices={"sampling": "off"}, **{name: value})
        reply, (body,) = await exchange(mode, HELLO, model="kimi-k2.6", **{name: value})
        assert name not in body
        assert reply.text == "Yes."


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"n": 9}, {"n": 5}),
        ({"top_p": 1.5}, {"top_p": 1.0}),
        ({"frequency_penalty": -3.0}, {"frequency_penalty": -2.0}),
    ],
)
async def test_values_out_of_range_are_clamped_and_said(given: dict[str, Any], kept: dict[str, Any]) -> None:
    reply, (body,) = await exchange("invoke", HELLO, model="kimi-k2-0905-preview", **given)
    (name, value), (limit,) = next(iter(given.items())), kept.values()
    assert body[name] == limit
    assert isinstance(body[name], int) is (name == "n")
    assert entries(reply) == [("replace", f"{name} {value} -> {body[name]}")]


class TestSeveralReplies:
    async def test_near_zero_is_an_error(self) -> None:
        with pytest.raises(PracticeError, match="n=2 needs a temperature above"):
            await exchange(
                "invoke", HELLO, model="kimi-k2-0905-preview", n=2, temperature=0.0, practices={"temperature": "off"}
            )

    async def test_a_pinned_temperature_is_none(self) -> None:
        _, (body,) = await exchange("invoke", HELLO, model="kimi-k2-0905-preview", n=2, temperature=0.0)
        assert (body["n"], body["temperature"]) == (2, 0.6)

    async def test_off_lets_it_through_to_a_refusal(self) -> None:
        with pytest.raises(SamplingRefused, match="n"):
            await exchange(
                "invoke", HELLO, model="kimi-k2-0905-preview", n=2, temperature=0.0,
                practices={"temperature": "off", "sampling": "off"},
            )  # fmt: skip
