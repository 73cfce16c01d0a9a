"""F9: pieces of tool calls without an index, or all with the same: LangChain makes four calls out of two."""

from __future__ import annotations

import pytest

from refrase_integrations.simulator import KimiSimulator, Reply
from tests import conversations
from tests.surfaces import STREAMS, chat_openai, everywhere, exchange, langchain_messages, tool, user

MODEL = "moonshotai/Kimi-K2-Instruct-0905"
ASKED = [user("Weather in Paris and Rome?")]
TOOLS = [tool("get_weather", city="string")]
TWO = [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
quirks = pytest.mark.parametrize("quirk", ["missing_index", "wrong_index"])


@quirks
@pytest.mark.parametrize("mode", STREAMS)
async def test_a_generic_client_takes_them_for_other_calls(mode: str, quirk: str) -> None:
    with KimiSimulator("vllm", script=[Reply(tool_calls=TWO)], quirks={quirk: True}) as simulator:
        model = chat_openai(simulator, MODEL).bind_tools(TOOLS)
        reply = await conversations.ask(mode, model, langchain_messages(ASKED))
        assert [(made["name"], made["args"]) for made in reply.tool_calls] != TWO


@everywhere
@quirks
async def test_put_together_by_id_and_order(surface: str, mode: str, quirk: str) -> None:
    answer, _ = await exchange(
        surface, mode, ASKED, persona="vllm", script=[Reply(tool_calls=TWO)], quirks={quirk: True}, model=MODEL,
        call={"tools": TOOLS},
    )  # fmt: skip
    assert answer.calls == TWO
    assert len(set(answer.ids)) == 2
