"""F1: 400 `reasoning_content is missing`, because a generic client drops the reasoning on its way through the app.

langchain#39370, llama_index#20786, deer-flow#3043, mastra#12592, opencode#10996, litellm#26156; openclaw#70565.
"""

from __future__ import annotations

import openai
import pytest

from refrase_integrations.errors import ReasoningMissing
from refrase_integrations.simulator import KimiSimulator, Reply
from tests import conversations
from tests.surfaces import (
    MODES,
    ask,
    build,
    called,
    chat_openai,
    everywhere,
    exchange,
    failure,
    langchain_messages,
    result,
    tool,
    user,
)

MODEL = "kimi-k2.6"
TOOLS = {"tools": [tool("get_weather", city="string")]}
ASKED = [user("Weather in Paris?")]
LOST = [*ASKED, called(("c-1", "get_weather", {"city": "Paris"})), result("c-1")]


def script(reasoning: str = "I look it up.") -> list[Reply]:
    return [Reply(reasoning=reasoning, tool_calls=[("get_weather", {"city": "Paris"})]), Reply("Sunny.")]


@pytest.mark.parametrize("mode", MODES)
async def test_a_generic_client_is_refused_on_its_second_call(mode: str) -> None:
    with KimiSimulator(script=script()) as simulator:
        model = chat_openai(simulator, MODEL).bind_tools(TOOLS["tools"])
        messages = langchain_messages(ASKED)
        reply = await conversations.ask(mode, model, messages)
        answer = langchain_messages([result(reply.tool_calls[0]["id"] or "")])
        with pytest.raises(openai.BadRequestError, match="reasoning_content is missing in assistant tool call message"):
            await conversations.ask(mode, model, [*messages, reply, *answer])


@everywhere
async def test_kept_byte_for_byte(surface: str, mode: str) -> None:
    with KimiSimulator(script=script("I look\n it  up. ")) as simulator:
        model = build(surface, simulator, model=MODEL)
        first = await ask(surface, mode, model, ASKED, **TOOLS)
        second = await ask(surface, mode, model, [*ASKED, first.message, result(first.ids[0])], **TOOLS)
        assert (first.reasoning, second.text, simulator.refusals) == ("I look\n it  up. ", "Sunny.", [])
        assert simulator.requests[1].body["messages"][2]["reasoning_content"] == "I look\n it  up. "


@everywhere
@pytest.mark.parametrize(("persona", "sent"), [("moonshot", {"reasoning_content": " "}), ("vllm", {"reasoning": ""})])
async def test_reasoned_and_nothing_said(surface: str, mode: str, persona: str, sent: dict[str, str]) -> None:
    """An empty text is kept in the app; on the wire it is a space where the host refuses empty ones."""
    with KimiSimulator(persona, script=script("")) as simulator:
        model = build(surface, simulator, model="moonshotai/Kimi-K2-Thinking" if persona == "vllm" else MODEL)
        first = await ask(surface, mode, model, ASKED, **TOOLS)
        await ask(surface, mode, model, [*ASKED, first.message, result(first.ids[0])], **TOOLS)
        replayed = simulator.requests[1].body["messages"][2]
    assert first.reasoning == ""
    assert {key: value for key, value in replayed.items() if key.startswith("reasoning")} == sent


@everywhere
async def test_what_was_lost_before_is_refused_without(surface: str, mode: str) -> None:
    error, _ = await failure(
        surface, mode, LOST, ReasoningMissing, model=MODEL, call=TOOLS, practices={"reasoning_replay": "off"}
    )
    assert "reasoning_content is missing in assistant tool call message at index 2" in error.seen


@everywhere
async def test_what_was_lost_before_becomes_a_space(surface: str, mode: str) -> None:
    answer, (body,) = await exchange(surface, mode, LOST, model=MODEL, call=TOOLS)
    assert body["messages"][2]["reasoning_content"] == " "
    assert answer.text == "Yes."
