"""An instruct model behind a reasoning parser: all that it says arrives as reasoning (llama_index#21337)."""

from __future__ import annotations

from typing import Any

import pytest

from refrase_integrations.errors import EmptyReply, PracticeError
from refrase_integrations.simulator import Reply
from tests.surfaces import Answer, called, everywhere, exchange, result, tool, user

INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"
ASKED = [user("Weather in Paris?")]
MISPLACED = Reply(reasoning="It is sunny in Paris.\n")
WEATHER = tool("get_weather", city="string")
ON = {"reasoning_as_answer": "apply"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FORM = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
TAKEN = ("replace", "the answer stood in the reasoning: taken as text")

pytestmark = everywhere


async def answered(surface: str, mode: str, *script: Reply, **fields: Any) -> tuple[Answer, list[Any]]:
    given = {"persona": "vllm", "model": INSTRUCT, "practices": ON, **fields}
    return await exchange(surface, mode, given.pop("asked", ASKED), script=script, **given)


async def test_taken_where_asked_for(surface: str, mode: str) -> None:
    answer, bodies = await answered(surface, mode, MISPLACED)
    assert (answer.text, answer.finish, len(bodies)) == ("It is sunny in Paris.", "stop", 1)
    assert answer.reasoning == "It is sunny in Paris.\n", "it was streamed as reasoning already"
    assert answer.said("reasoning-as-answer") == [TAKEN]
    assert answer.said("empty-reply") == []


async def test_not_by_default(surface: str, mode: str) -> None:
    with pytest.raises(EmptyReply, match=r"practices=\{'reasoning_as_answer': 'apply'\}"):
        await answered(surface, mode, MISPLACED, MISPLACED, practices={})


async def test_it_may_be_the_structured_answer(surface: str, mode: str) -> None:
    said = Reply(reasoning='{"city": "Paris"}')
    answer, bodies = await answered(surface, mode, said, call={"response_format": FORM})
    assert (answer.text, len(bodies)) == ('{"city": "Paris"}', 1)


async def test_behind_tool_results(surface: str, mode: str) -> None:
    acted = [*ASKED, called(("c-1", "get_weather", {"city": "Paris"})), result("c-1")]
    answer, bodies = await answered(surface, mode, MISPLACED, asked=acted, call={"tools": [WEATHER]})
    assert (answer.text, len(bodies)) == ("It is sunny in Paris.", 1)


async def test_a_call_that_leaked_there_is_a_call(surface: str, mode: str) -> None:
    leak = (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
        '{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>'
    )
    reply = Reply(reasoning=f"I look. {leak}", finish_reason="stop")
    answer, _ = await answered(surface, mode, reply, call={"tools": [WEATHER]})
    assert (answer.calls, answer.text) == ([("get_weather", {"city": "Paris"})], "")


@pytest.mark.parametrize(
    "reply",
    [
        Reply("Sunny.", reasoning="Hm."),
        Reply(reasoning="Hm.", tool_calls=[("get_weather", {"city": "Paris"})]),
    ],
)
async def test_not_beside_an_answer_or_a_call(surface: str, mode: str, reply: Reply) -> None:
    answer, _ = await answered(surface, mode, reply, call={"tools": [WEATHER]})
    assert (answer.text, answer.reasoning) == (reply.content, "Hm.")
    assert answer.said("reasoning-as-answer") == []


async def test_not_where_the_reply_was_cut(surface: str, mode: str) -> None:
    """Half a thought is no answer."""
    with pytest.raises(EmptyReply, match="limit was spent"):
        await answered(surface, mode, Reply(reasoning="It is", finish_reason="length"))


async def test_the_other_modes(surface: str, mode: str) -> None:
    warn: dict[str, Any] = {"reasoning_as_answer": "warn", "empty_reply": "off"}
    answer, _ = await answered(surface, mode, MISPLACED, practices=warn)
    assert (answer.text, answer.said("reasoning-as-answer")) == ("", [("advise", TAKEN[1])])
    with pytest.raises(PracticeError, match="stood in the reasoning"):
        await answered(surface, mode, MISPLACED, practices={"reasoning_as_answer": "error"})


async def test_the_request_is_not_its_business(surface: str, mode: str) -> None:
    for persona, model in (("moonshot", "kimi-k2.6"), ("vllm", INSTRUCT)):
        _, on = await answered(surface, mode, Reply("Yes."), persona=persona, model=model)
        _, off = await answered(surface, mode, Reply("Yes."), persona=persona, model=model, practices={})
        assert on == off
