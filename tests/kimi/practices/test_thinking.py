from __future__ import annotations

import logging
from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import PracticeError, ThinkingRefused
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.practice import Call
from refrase_integrations.kimi.practices.thinking import wish
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.tokens import estimate
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator
from tests.conversations import MODES, OPENAPI, ask, exchange, sent, violations_of_openapi

HELLO = [("user", "Hello.")]
HYBRID = "moonshotai/Kimi-K2.6"
BOTH = {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}


def entries(reply: Any) -> list[tuple[str, str]]:
    changes = reply.response_metadata["refrase"]["changes"]
    return [(entry["action"], entry["detail"]) for entry in changes if entry["practice"] == "thinking"]


def prepared(
    model: str, host: str, fields: dict[str, Any] | None = None, *, wanted: bool | None = None, practices: Any = None
) -> Any:
    dialect = compile_dialect(find_model(model), find_host(host, None), wanted, model)
    body: Any = {"model": model, "messages": [{"role": "user", "content": "Hello."}], **(fields or {})}
    return prepare(Call(body, dialect, Practices.of(practices), estimate, thinking=wanted))


def said(result: Any) -> list[tuple[str, str]]:
    return [(entry.action, entry.detail) for entry in result.report.changes if entry.practice == "thinking"]


@pytest.mark.parametrize("mode", MODES)
class TestBodies:
    async def test_moonshot_keeps_earlier_reasoning(self, mode: str) -> None:
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
        assert await sent(mode, HELLO, model="kimi-k2.6", practices={"thinking": "off"}) == snapshot(
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
                "max_completion_tokens": 32768,
            }
        )

    async def test_moonshot_without_thinking(self, mode: str) -> None:
        assert await sent(mode, HELLO, model="kimi-k2.6", thinking=False) == snapshot(
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
                "thinking": {"type": "disabled"},
                "max_completion_tokens": 32768,
            }
        )

    async def test_moonshot_k3(self, mode: str) -> None:
        assert await sent(mode, HELLO, model="kimi-k3", reasoning_effort="low", thinking=True) == snapshot(
            {
                "model": "kimi-k3",
                "messages": [
                    {
                        "role": "system",
                        "content": "Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.",
                    },
                    {"role": "user", "content": "Hello."},
                ],
                "reasoning_effort": "low",
                "max_completion_tokens": 131072,
            }
        )

    async def test_vllm(self, mode: str) -> None:
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

    async def test_vllm_without_thinking(self, mode: str) -> None:
        assert await sent(mode, HELLO, persona="vllm", model=HYBRID, thinking=False) == snapshot(
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
                "chat_template_kwargs": {"thinking": False},
                "top_p": 0.95,
                "temperature": 0.6,
                "max_tokens": 32768,
            }
        )

    async def test_vllm_without_thinking_off(self, mode: str) -> None:
        assert await sent(
            mode, HELLO, persona="vllm", model=HYBRID, thinking=False, practices={"thinking": "off"}
        ) == snapshot(
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
                "temperature": 0.6,
                "max_tokens": 32768,
            }
        )


OFF = {"type": "disabled"}


@pytest.mark.parametrize(
    "fields",
    [
        {"thinking": False},
        {"thinking": {"type": "disabled"}},
        {"extra_body": {"thinking": {"type": "disabled"}}},
        {"model_kwargs": {"thinking": {"type": "disabled"}}},
        {"extra_body": {"chat_template_kwargs": {"thinking": False}}},
        {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}},
        {"extra_body": {"chat_template_args": {"enable_thinking": False}}},
        {"extra_body": {"reasoning": {"enabled": False}}},
        {"extra_body": {"enable_thinking": False}},
        {"bind": {"thinking": False}},
        {"bind": {"extra_body": {"thinking": {"type": "disabled"}}}},
    ],
)
class TestEveryWayToWriteIt:
    async def test_moonshot(self, fields: dict[str, Any]) -> None:
        reply, (body,) = await exchange("invoke", HELLO, model="kimi-k2.6", script=None, **fields)
        assert body["thinking"] == OFF
        assert "reasoning_content" not in reply.additional_kwargs

    async def test_vllm(self, fields: dict[str, Any]) -> None:
        reply, (body,) = await exchange("invoke", HELLO, persona="vllm", model=HYBRID, script=None, **fields)
        assert body["chat_template_kwargs"]["thinking"] is False
        assert body["temperature"] == 0.6, "the sampling of the instant mode"
        assert "reasoning_content" not in reply.additional_kwargs


@pytest.mark.parametrize(
    "body",
    [
        {"thinking": {"type": "enabled", "budget_tokens": 9}},
        {"chat_template_kwargs": {"thinking": True}},
        {"reasoning": {"enabled": True}},
        {"enable_thinking": True},
    ],
)
class TestWish:
    def test_it_is_read_from_every_switch(self, body: dict[str, Any]) -> None:
        assert wish(body) is True
        assert wish({"enable_thinking": False}, body) is False, "the first body that says something wins"
        assert wish({"messages": []}, body) is True

    def test_the_switch_of_another_host_becomes_this_hosts(self, body: dict[str, Any]) -> None:
        result = prepared("moonshotai/kimi-k2.6", "openrouter", body, wanted=True)
        assert {key for key in result.body if key in ("thinking", "chat_template_kwargs", "enable_thinking")} == set()
        assert result.body["reasoning"] == {"enabled": True}


def test_nothing_said_is_no_wish() -> None:
    assert wish({}, {"thinking": {"keep": "all"}}, {"reasoning": {"effort": "high"}}, {"think": "x"}) is None


class TestOneSwitchOnly:
    @pytest.mark.parametrize("mode", MODES)
    async def test_two_are_refused_without_the_practice(self, mode: str) -> None:
        """F17 (nanobot#3939)."""
        with pytest.raises(ThinkingRefused, match="cannot specify both"):
            await exchange(
                mode, HELLO, model="kimi-k2.6", reasoning_effort="high", practices={"thinking": "off"},
                extra_body={"thinking": {"type": "enabled"}},
            )  # fmt: skip
        reply, (body,) = await exchange(mode, HELLO, model="kimi-k2.6", reasoning_effort="high", thinking=True)
        assert "reasoning_effort" not in body
        assert body["thinking"] == {"type": "enabled", "keep": "all"}
        assert entries(reply)[0] == ("drop", 'reasoning_effort="high": not this host\'s switch')

    @pytest.mark.parametrize(
        ("model", "host", "fields", "switches"),
        [
            ("kimi-k2.6", "moonshot", BOTH, {"thinking": {"type": "enabled", "keep": "all"}}),
            ("kimi-k2.5", "moonshot", BOTH, {}),
            ("kimi-k2.7-code", "moonshot", BOTH, {}),
            ("kimi-k2.7-code", "moonshot", {"thinking": {"type": "disabled"}}, {}),
            ("kimi-k3", "moonshot", BOTH, {"reasoning_effort": "high"}),
            ("kimi-k2-0905-preview", "moonshot", BOTH, {}),
            (HYBRID, "vllm", BOTH, {}),
            (HYBRID, "vllm", {"chat_template_kwargs": {"thinking": True, "x": 1}}, {"chat_template_kwargs": {"x": 1}}),
            ("moonshotai/kimi-k2.6", "openrouter", BOTH, {"reasoning": {"enabled": True}}),
            (
                "moonshotai/kimi-k2.6",
                "openrouter",
                {"reasoning": {"max_tokens": 9}},
                {"reasoning": {"max_tokens": 9, "enabled": True}},
            ),
        ],
    )
    def test_each_dialects_own(self, model: str, host: str, fields: dict[str, Any], switches: dict[str, Any]) -> None:
        body = prepared(model, host, fields).body
        known = ("thinking", "reasoning_effort", "reasoning", "chat_template_kwargs", "enable_thinking")
        assert {key: body[key] for key in known if key in body} == switches

    def test_what_else_stood_in_the_switch_goes_and_is_said(self) -> None:
        """Moonshot's schema of the switch takes no other keys."""
        assert said(prepared("kimi-k2.6", "moonshot", {})) == [
            ("add", 'switch: {"thinking": {"type": "enabled", "keep": "all"}}')
        ]
        result = prepared("kimi-k2.6", "moonshot", {"thinking": {"type": "enabled", "budget_tokens": 9}})
        assert result.body["thinking"] == {"type": "enabled", "keep": "all"}
        assert said(result) == [("replace", 'switch: {"thinking": {"type": "enabled", "keep": "all"}}')]

    @pytest.mark.parametrize("mode", MODES)
    async def test_a_switch_in_extra_body_is_not_joined_by_ours(self, mode: str) -> None:
        """The user's own body fields go out as they are: the default switch beside them would be the second one."""
        reply, (body,) = await exchange(mode, HELLO, model="kimi-k2.6", extra_body={"reasoning_effort": "high"})
        assert body["reasoning_effort"] == "high"
        assert "thinking" not in body
        assert entries(reply) == [("advise", "extra_body sets reasoning_effort: not this host's switch")]


@pytest.mark.skipif(not OPENAPI.exists(), reason="needs Moonshot's OpenAPI document in ../shared/data")
@pytest.mark.parametrize("model", ["kimi-k2-0905-preview", "kimi-k2-thinking", "kimi-k2.5", "kimi-k2.6"])
@pytest.mark.parametrize("thinking", [None, True, False])
async def test_what_is_sent_is_documented(model: str, thinking: bool | None) -> None:
    assert violations_of_openapi(await sent("invoke", HELLO, model=model, thinking=thinking)) == []


def test_the_document_refuses_what_the_practice_keeps_back() -> None:
    if not OPENAPI.exists():
        pytest.skip("needs Moonshot's OpenAPI document in ../shared/data")
    given = {"thinking": {"type": "enabled", "budget_tokens": 9}}
    assert violations_of_openapi(prepared("kimi-k2.6", "moonshot", given, practices="off").body)
    assert not violations_of_openapi(prepared("kimi-k2.6", "moonshot", given).body)


@pytest.mark.parametrize(
    ("model", "asked", "state"),
    [
        ("kimi-k2-thinking", False, "always on"),
        ("kimi-k2.7-code", False, "always on"),
        ("kimi-k3", False, "always on"),
        ("kimi-k2-0905-preview", True, "not available"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
class TestWhatCannotBeHad:
    async def test_is_said(self, mode: str, model: str, asked: bool, state: str) -> None:
        reply, _ = await exchange(mode, HELLO, model=model, thinking=asked)
        assert entries(reply) == [("advise", f"thinking={asked} asked, but on this model it is {state}")]

    async def test_is_an_error_where_wanted(self, mode: str, model: str, asked: bool, state: str) -> None:
        with KimiSimulator() as simulator:
            chat = ChatKimi(
                host="moonshot", base_url=simulator.base_url, api_key="sk-test", model=model, thinking=asked,
                practices={"thinking": "error"},
            )  # fmt: skip
            with pytest.raises(PracticeError, match=state) as caught:
                await ask(mode, chat, HELLO)
            assert caught.value.practice == "thinking"
            assert simulator.requests == []


class TestModes:
    @pytest.mark.parametrize("mode", MODES)
    async def test_warn_keeps_and_says(self, mode: str, caplog: pytest.LogCaptureFixture) -> None:
        effort = f"high{MODES.index(mode)}"
        with caplog.at_level(logging.WARNING, "refrase_integrations"):
            reply, (body,) = await exchange(
                mode, HELLO, model="kimi-k2.6", reasoning_effort=effort, practices={"thinking": "warn"}, strict=False
            )
        assert body["reasoning_effort"] == effort
        assert "thinking" not in body
        said = f'reasoning_effort="{effort}": not this host\'s switch'
        assert entries(reply)[0][0] == "advise"
        assert said in entries(reply)[0][1]
        assert f"kimi-k2.6 on moonshot: thinking: {said}" in [record.getMessage() for record in caplog.records]

    def test_error_takes_its_own_switch(self) -> None:
        result = prepared("kimi-k2.6", "moonshot", wanted=False, practices={"thinking": "error"})
        assert result.body["thinking"] == OFF

    def test_the_thinking_model_gets_room(self) -> None:
        """F12: with thinking on, 4,096 tokens can all be reasoning (kimi-code#520)."""
        assert prepared("kimi-k2.6", "moonshot").body["max_completion_tokens"] >= 16_000
        assert prepared("kimi-k2-thinking", "moonshot").body["max_completion_tokens"] >= 16_000
