"""Replies that the output limit cuts are carried on in partial mode: one text, one sum of usage."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import ConfigurationError, EmptyReply
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.surfaces import ask, build, everywhere, exchange, failure, tool, user
from tests.surfaces.test_broken_streams import INSTRUCT, STORY, begun

HYBRID = "kimi-k2.6"
ASKED = [user("Tell me.")]
WEATHER = tool("get_weather", city="string")
PARIS = ("get_weather", {"city": "Paris"})


def limited(size: int, text: str = STORY, **fields: Any) -> Callable[[dict[str, Any]], Reply]:
    """Return a script of a host that tells so many characters of the text at a time."""

    def script(body: dict[str, Any]) -> Reply:
        rest = text[len(begun(body)) :]
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        return Reply(rest[:size], finish_reason="length" if rest[size:] else "stop", usage=usage, **fields)

    return script


@everywhere
@pytest.mark.parametrize("size", [23, 40])
async def test_it_is_carried_on_without_a_seam(size: int, surface: str, mode: str) -> None:
    asked = -(-len(STORY) // size)
    answer, bodies = await exchange(
        surface, mode, ASKED, model=INSTRUCT, script=limited(size), continue_on_length=asked - 1
    )
    assert (answer.text, answer.finish) == (STORY, "stop")
    assert [begun(body) for body in bodies] == [STORY[: part * size] for part in range(asked)]
    assert answer.usage == {"prompt": 100 * asked, "completion": 10 * asked}
    assert answer.said("continue-on-length")[0][1].startswith(f"cut at the output limit: carried on (1 of {asked - 1})")


@everywhere
async def test_the_exact_request(surface: str, mode: str) -> None:
    _, bodies = await exchange(
        surface, mode, ASKED, model=HYBRID, thinking=True,
        script=limited(50, reasoning="About fog."), continue_on_length=1,
    )  # fmt: skip
    before, after = bodies[0].pop("messages"), bodies[1].pop("messages")
    assert bodies[0] == bodies[1]
    assert after[:-1] == before
    assert after[-1] == snapshot(
        {
            "role": "assistant",
            "content": "Fog — 雾 🌫️ — lay on the quay.\n\n```python\nprint('x'",
            "reasoning_content": "About fog.",
            "partial": True,
        }
    )


@everywhere
async def test_reasoning_of_the_rest_is_not_told(surface: str, mode: str) -> None:
    answer, _ = await exchange(
        surface, mode, ASKED, model=HYBRID, script=limited(50, reasoning="About fog."), continue_on_length=3
    )
    assert (answer.text, answer.reasoning) == (STORY, "About fog.")


@everywhere
async def test_unasked_it_stays_cut(surface: str, mode: str) -> None:
    answer, bodies = await exchange(surface, mode, ASKED, model=INSTRUCT, script=limited(50))
    assert (answer.text, answer.finish, len(bodies)) == (STORY[:50], "length", 1)
    assert answer.said("continue-on-length") == []


@everywhere
async def test_after_the_last_continuation_it_stays_cut(surface: str, mode: str) -> None:
    answer, bodies = await exchange(
        surface, mode, ASKED, model=INSTRUCT, script=limited(20), call={"continue_on_length": 1}
    )
    assert (answer.text, answer.finish, len(bodies)) == (STORY[:40], "length", 2)
    assert answer.said("continue-on-length")[-1] == snapshot(
        ("advise", "cut at the output limit again, after 1 continuation(s)")
    )


@everywhere
@pytest.mark.parametrize(
    ("why", "given"),
    [
        ("host vllm has no partial mode", {"persona": "vllm", "model": "moonshotai/Kimi-K2-Instruct"}),
        ("JSON mode does not go together with partial mode", {"call": {"response_format": {"type": "json_object"}}}),
    ],
)
async def test_where_it_cannot_be_carried_on_the_report_says_so(
    why: str, given: dict[str, Any], surface: str, mode: str
) -> None:
    given = {"model": INSTRUCT, **given}
    answer, bodies = await exchange(surface, mode, ASKED, script=limited(50), continue_on_length=3, **given)
    assert (answer.text, answer.finish, len(bodies)) == (STORY[:50], "length", 1)
    assert answer.said("continue-on-length") == [
        ("advise", f"the reply was cut at the output limit and not carried on: {why}")
    ]


@everywhere
async def test_a_cut_in_the_reasoning_is_the_error_it_was(surface: str, mode: str) -> None:
    script = [Reply("", reasoning="I think", finish_reason="length")]
    error, bodies = await failure(surface, mode, ASKED, EmptyReply, model=HYBRID, script=script, continue_on_length=3)
    assert "output limit was spent" in str(error)
    assert len(bodies) == 1


@everywhere
@pytest.mark.parametrize("status", [400, 401, 429])
async def test_a_continuation_that_fails_leaves_the_reply_cut(status: int, surface: str, mode: str) -> None:
    script = [Reply(STORY[:50], finish_reason="length"), Reply(status=status)]
    answer, bodies = await exchange(
        surface, mode, ASKED, model=INSTRUCT, script=script, continue_on_length=3, max_retries=0
    )
    assert (answer.text, answer.finish, len(bodies)) == (STORY[:50], "length", 2)
    assert "carrying on failed" in answer.said("continue-on-length")[-1][1]


@everywhere
async def test_a_structured_answer_is_joined_and_then_checked(surface: str, mode: str) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}}
    answer, bodies = await exchange(
        surface, mode, ASKED, model=HYBRID, script=limited(20, '{"name": "a long name, cut in two"}'),
        thinking=False, continue_on_length=3, call={"response_format": wanted},
    )  # fmt: skip
    assert json.loads(answer.text) == {"name": "a long name, cut in two"}
    assert answer.said("structured-output") == []
    assert ["response_format" in body for body in bodies] == [True, False]


@everywhere
async def test_a_call_that_was_cut_is_written_anew(surface: str, mode: str) -> None:
    script = [
        Reply("One moment.", tool_calls=[("get_weather", '{"city": "Pa')], finish_reason="length"),
        Reply(tool_calls=[PARIS]),
    ]
    answer, bodies = await exchange(
        surface, mode, ASKED, model=INSTRUCT, script=script, continue_on_length=1, call={"tools": [WEATHER]}
    )
    assert (answer.text, answer.calls, answer.problems) == ("One moment.", [PARIS], [None])
    assert bodies[1]["messages"][-1] == {"role": "assistant", "content": "One moment.", "partial": True}


@everywhere
async def test_control_tokens_that_are_cut_in_two_are_restored(surface: str, mode: str) -> None:
    asked = [user("What does <|im_end|> mean?")]
    told = "The token <~|im_end|> ends a message."
    answer, bodies = await exchange(
        surface, mode, asked, model=INSTRUCT, script=limited(16, told), continue_on_length=3
    )
    assert answer.text == "The token <|im_end|> ends a message."
    assert begun(bodies[1]) == told[:16]


@everywhere
async def test_a_fence_that_was_opened_before_the_cut_still_holds(surface: str, mode: str) -> None:
    leak = (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
        '{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>'
    )
    text = f"It looks so:\n```\n{leak}\n```\n"
    answer, _ = await exchange(
        surface, mode, ASKED, model=INSTRUCT, script=_twice(text, 17),
        continue_on_length=1, call={"tools": [WEATHER]},
    )  # fmt: skip
    assert (answer.text, answer.calls) == (text, [])


def _twice(text: str, cut: int) -> list[Reply]:
    return [Reply(text[:cut], finish_reason="length"), Reply(text[cut:])]


@everywhere
async def test_the_users_own_prefix_stays_in_front(surface: str, mode: str) -> None:
    own = {"role": "assistant", "content": "Once ", "partial": True}
    answer, bodies = await exchange(
        surface, mode, [*ASKED, own], model=INSTRUCT, script=limited(50, f"Once {STORY}"), continue_on_length=3
    )
    assert answer.text == STORY
    assert begun(bodies[1]) == f"Once {STORY[:50]}"
    assert len(bodies[0]["messages"]) == len(bodies[1]["messages"])


@everywhere
async def test_a_real_limit(surface: str, mode: str) -> None:
    """No script: the simulator counts tokens, cuts, and goes on from the prefix that it is given."""
    asked = [user("Write three sentences about the lighthouses of Brittany and their keepers.")]
    with KimiSimulator() as simulator:
        model = build(surface, simulator, model=INSTRUCT)
        wordings = {(await ask(surface, mode, model, asked)).text for _ in range(20)}
        simulator.reset()
        cut = await ask(surface, mode, model, asked, max_tokens=7)
        simulator.reset()  # the same request gets the same wording again
        joined = await ask(surface, mode, model, asked, max_tokens=7, continue_on_length=20)
    assert (cut.finish, joined.finish) == ("length", "stop")
    assert joined.text.startswith(cut.text)
    assert joined.text != cut.text
    assert joined.text in wordings


@everywhere
@pytest.mark.parametrize("wrong", [-1, "2", True])
async def test_a_wrong_number_is_a_typed_error(wrong: Any, surface: str, mode: str) -> None:
    error, bodies = await failure(
        surface, mode, ASKED, ConfigurationError, model=INSTRUCT, call={"continue_on_length": wrong}
    )
    assert "continue_on_length" in str(error)
    assert bodies == []


async def test_the_cost_is_the_sum() -> None:
    with KimiSimulator(script=limited(50)) as simulator:
        model = build("ChatKimi", simulator, model=INSTRUCT, continue_on_length=3)
        reply = model.invoke("Tell me.")
    assert reply.response_metadata["cost_usd"] == pytest.approx((200 * 0.6 + 20 * 2.5) / 1e6)
