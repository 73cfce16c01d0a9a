from __future__ import annotations

from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import PracticeError
from refrase_integrations.kimi.practices.verbosity import MARKER, target
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.tokens import counter
from refrase_integrations.simulator import Reply
from tests.conversations import MODES, OPENAPI, exchange, sent, violations_of_openapi

HELLO = [("user", "Hello.")]
ON = {"verbosity": "apply", "fresh_data": "off"}
INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"
LONG = "Many words are said here. " * 60

each_mode = pytest.mark.parametrize("mode", MODES)


def measured(reply: Any) -> list[tuple[str, str]]:
    lines = reply.response_metadata["refrase"]["healed"]
    return [(line["action"], line["detail"]) for line in lines if line["practice"] == "verbosity"]


def spent(text: str) -> str:
    count = counter()
    return f"{'' if count.exact else 'about '}{count.text(text)} output tokens"


@each_mode
class TestBodies:
    async def test_moonshot(self, mode: str) -> None:
        body = await sent(mode, HELLO, model="kimi-k2.6", practices=ON)
        assert body["messages"] == snapshot(
            [
                {
                    "role": "system",
                    "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Answer length rule: at most 5 sentences, unless the user asks for more; no preamble, no recap.\
""",
                },
                {"role": "user", "content": "Hello."},
            ]
        )
        assert not OPENAPI.exists() or violations_of_openapi(body) == []

    async def test_vllm(self, mode: str) -> None:
        asked = [("system", "You know music."), *HELLO]
        body = await sent(mode, asked, persona="vllm", model=INSTRUCT, practices={**ON, "answer_sentences": 1})
        assert body["messages"] == snapshot(
            [
                {
                    "role": "system",
                    "content": """\
You know music.

Answer length rule: at most one sentence, unless the user asks for more; no preamble, no recap.\
""",
                },
                {"role": "user", "content": "Hello."},
            ]
        )

    async def test_a_chinese_prompt_gets_a_chinese_line(self, mode: str) -> None:
        body = await sent(mode, [("system", "你是音乐专家。"), *HELLO], model="kimi-k2.6", practices=ON)
        assert body["messages"][0]["content"] == snapshot(
            """\
你是音乐专家。

Answer length rule: 回答最多 5 句，用户另有要求时除外；不要开场白，不要重复总结。\
"""
        )

    @pytest.mark.parametrize("practices", [None, {"verbosity": "off"}, {"verbosity": "warn"}])
    async def test_it_is_off_by_default_and_warn_changes_nothing(self, mode: str, practices: Any) -> None:
        for host in ({"model": "kimi-k2.6"}, {"persona": "vllm", "model": INSTRUCT}):
            assert MARKER not in str(await sent(mode, HELLO, practices=practices, **host))


@each_mode
class TestMeasure:
    @pytest.mark.parametrize("model", [{"model": "kimi-k2.6"}, {"persona": "vllm", "model": INSTRUCT}])
    async def test_a_long_answer_is_told_with_its_tokens(self, mode: str, model: dict[str, str]) -> None:
        reply, _ = await exchange(mode, HELLO, practices=ON, script=[LONG], **model)
        assert measured(reply) == [("advise", f"{spent(LONG)}, target 200")]
        assert reply.text == LONG, "it is measured, never cut"

    async def test_a_short_answer_is_measured_quietly(self, mode: str, caplog: pytest.LogCaptureFixture) -> None:
        reply, _ = await exchange(mode, HELLO, model="kimi-k2.6", practices=ON, script=["Yes, it is."])
        assert measured(reply) == [("add", f"{spent('Yes, it is.')}, target 200")]
        assert "verbosity" not in caplog.text

    async def test_reasoning_is_not_counted(self, mode: str) -> None:
        script = [Reply("Yes, it is.", reasoning=LONG)]
        reply, _ = await exchange(mode, HELLO, model="kimi-k2.6", practices=ON, script=script)
        assert measured(reply) == [("add", f"{spent('Yes, it is.')}, target 200")]

    async def test_warn_measures_too(self, mode: str) -> None:
        reply, _ = await exchange(mode, HELLO, practices={"verbosity": "warn", "answer_tokens": 10}, script=[LONG])
        assert measured(reply) == [("advise", f"{spent(LONG)}, target 10")]

    async def test_error_refuses_a_long_answer(self, mode: str) -> None:
        with pytest.raises(PracticeError, match="output tokens, target 200"):
            await exchange(mode, HELLO, practices={"verbosity": "error"}, script=[LONG])

    async def test_off_and_calls_and_json_are_not_measured(self, mode: str) -> None:
        off, _ = await exchange(mode, HELLO, script=[LONG])
        tool = {"type": "function", "function": {"name": "f_one", "parameters": {"type": "object"}}}
        call, _ = await exchange(
            mode, HELLO, practices=ON, tools=[tool], script=[Reply(reasoning="Hm.", tool_calls=[("f_one", {})])]
        )
        wanted = {"response_format": {"type": "json_object"}}
        json, _ = await exchange(mode, HELLO, practices=ON, bind=wanted, script=['{"a": "' + LONG + '"}'])
        assert [measured(reply) for reply in (off, call, json)] == [[], [], []]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (5, 200)),
        ({"answer_tokens": 400}, (10, 400)),
        ({"answer_tokens": 10}, (1, 10)),
        ({"answer_sentences": 3}, (3, 120)),
        ({"answer_sentences": 3, "answer_tokens": 500}, (3, 500)),
    ],
)
def test_the_target_in_sentences_and_tokens(settings: dict[str, int], expected: tuple[int, int]) -> None:
    assert target(Practices.of(settings)) == expected


@pytest.mark.parametrize("wrong", [0, -1, "many"])
def test_a_target_that_is_none_is_an_error(wrong: Any) -> None:
    with pytest.raises(ValueError, match="answer_tokens"):
        Practices.of({"answer_tokens": wrong})
