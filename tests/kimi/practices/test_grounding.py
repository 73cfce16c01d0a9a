from __future__ import annotations

import pytest
from inline_snapshot import snapshot

from refrase_integrations.kimi.practices.grounding import LINE, LINE_ZH, MARKER
from refrase_integrations.kimi.tokens import counter
from tests.conversations import MODES, OPENAPI, exchange, sent, violations_of_openapi

HELLO = [("user", "Hello.")]
ON = {"grounding": "apply", "fresh_data": "off"}
INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"

pytestmark = pytest.mark.parametrize("mode", MODES)


async def test_moonshot(mode: str) -> None:
    body = await sent(mode, HELLO, model="kimi-k2.6", practices=ON)
    assert body["messages"] == snapshot(
        [
            {
                "role": "system",
                "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Sourcing rule: for each specific fact (name, number, date, quote) give your source, or say that you are not sure.\
""",
            },
            {"role": "user", "content": "Hello."},
        ]
    )
    assert not OPENAPI.exists() or violations_of_openapi(body) == []


async def test_vllm(mode: str) -> None:
    asked = [("system", "You know music."), *HELLO]
    body = await sent(mode, asked, persona="vllm", model=INSTRUCT, practices=ON)
    assert body["messages"] == snapshot(
        [
            {
                "role": "system",
                "content": """\
You know music.

Sourcing rule: for each specific fact (name, number, date, quote) give your source, or say that you are not sure.\
""",
            },
            {"role": "user", "content": "Hello."},
        ]
    )


@pytest.mark.parametrize("practices", [None, {"grounding": "off"}, {"grounding": "warn"}])
async def test_it_is_off_by_default_and_warn_changes_nothing(mode: str, practices: dict[str, str] | None) -> None:
    for target in ({"model": "kimi-k2.6"}, {"persona": "vllm", "model": INSTRUCT}):
        assert MARKER not in str(await sent(mode, HELLO, practices=practices, **target))


async def test_the_report_names_the_source(mode: str) -> None:
    reply, _ = await exchange(mode, HELLO, model="kimi-k2.6", practices=ON)
    lines = [line for line in reply.response_metadata["refrase"]["changes"] if line["practice"] == "grounding"]
    assert lines == snapshot(
        [
            {
                "practice": "grounding",
                "action": "add",
                "detail": "a line that asks for sources",
                "source": "refrase.cc/models/kimi-k2 (Skywork.ai analysis)",
            }
        ]
    )


async def test_beside_the_other_lines_each_stands_once(mode: str) -> None:
    practices = {"grounding": "apply", "verbosity": "apply"}
    asked = [("system", f"{LINE}\nYou know music."), *HELLO]
    body = await sent(mode, asked, model="kimi-k2.6", practices=practices)
    assert body["messages"] == snapshot(
        [
            {
                "role": "system",
                "content": """\
Sourcing rule: for each specific fact (name, number, date, quote) give your source, or say that you are not sure.
You know music.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.

Answer length rule: at most 5 sentences, unless the user asks for more; no preamble, no recap.\
""",
            },
            {"role": "user", "content": "Hello."},
        ]
    )


async def test_the_line_is_short(mode: str) -> None:
    assert counter().text(LINE) <= 30


async def test_a_chinese_prompt_gets_a_chinese_line(mode: str) -> None:
    body = await sent(mode, [("system", "你是音乐专家。"), *HELLO], model="kimi-k2.6", practices=ON)
    assert body["messages"][0]["content"] == f"你是音乐专家。\n\n{LINE_ZH}"
