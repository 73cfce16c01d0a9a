"""Streams that die in the middle: every character once, every call once, or a typed error with what came before."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations.client import retries
from refrase_integrations.errors import HostOverloaded, StreamInterrupted
from refrase_integrations.simulator import Reply
from tests.surfaces import exchange, failure, in_streams, tool, user

INSTRUCT, HYBRID = "kimi-k2-0905-preview", "kimi-k2.6"
STORY = "Fog — 雾 🌫️ — lay on the quay.\n\n```python\nprint('x')  \n```\n  Then it lifted, and the ships went out."
WEATHER = tool("get_weather", city="string")
PARIS = ("get_weather", {"city": "Paris"})
ASKED = [user("Tell me.")]


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.0)


def begun(body: dict[str, Any]) -> str:
    """Return the prefix that a request gives."""
    last = body["messages"][-1]
    return last["content"] if last.get("partial") else ""


def told(*cuts: int, text: str = STORY, **fields: Any) -> Callable[[dict[str, Any]], Reply]:
    """Return a script that tells the text, or the rest of it, and breaks off after so many chunks each time."""
    left = list(cuts)
    return lambda body: Reply(text[len(begun(body)) :], cut_after=left.pop(0) if left else None, **fields)


def event(**delta: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


@in_streams
async def test_a_stream_goes_on_where_it_ended(surface: str, mode: str) -> None:
    answer, bodies = await exchange(surface, mode, ASKED, model=INSTRUCT, script=told(4, 3))
    assert answer.text == STORY
    assert answer.finish == "stop"
    first, second, third = (dict(body) for body in bodies)
    for later in (second, third):
        *before, last = later.pop("messages")
        assert before == first["messages"]
        assert last == {"role": "assistant", "content": last["content"], "partial": True}
        assert last["content"]
        assert STORY.startswith(last["content"])
        assert later == {name: value for name, value in first.items() if name != "messages"}
    assert [action for action, _ in answer.said("broken-streams")] == ["encode"]
    assert "taken up again after" in answer.said("broken-streams")[0][1]


BREAKS = {
    "no [DONE]": [""],
    "an error in the stream": [{"error": {"type": "engine_overloaded_error", "message": "The engine is overloaded"}}],
    "a proxy's page": ["<html><body><h1>502 Bad Gateway</h1></body></html>\r\n"],
    "half an event": ['data: {"choices": [{"index": 0, "del'],
    "no JSON": ["data: {oops\n\n"],
    "another protocol": ["data: [1, 2]\n\n"],
}


@in_streams
@pytest.mark.parametrize("broken", BREAKS.values(), ids=list(BREAKS))
async def test_whatever_breaks_it(broken: list[Any], surface: str, mode: str) -> None:
    parts = ["Fog — ", "雾 lay"]
    noise = [": keep-alive\r\n\r\n", *(f"data: {json.dumps(event(content=part))}\r\n\r\n" for part in parts)]
    script = [Reply(chunks=["\ufeff", *noise, *broken, ""]), Reply(" on the quay.")]
    answer, bodies = await exchange(surface, mode, ASKED, model=INSTRUCT, script=script)
    assert answer.text == "Fog — 雾 lay on the quay."
    assert [begun(body) for body in bodies] == ["", "Fog — 雾 lay"]


@in_streams
async def test_reasoning_goes_back_with_the_text_and_is_not_told_twice(surface: str, mode: str) -> None:
    script = told(12, text=STORY, reasoning="A story about fog.")
    answer, bodies = await exchange(surface, mode, ASKED, model=HYBRID, script=script)
    assert (answer.text, answer.reasoning) == (STORY, "A story about fog.")
    assert bodies[1]["messages"][-1]["reasoning_content"] == "A story about fog."
    assert bodies[1]["thinking"] == bodies[0]["thinking"]


@in_streams
async def test_a_stream_that_dies_in_its_reasoning_is_an_error_with_what_came(surface: str, mode: str) -> None:
    script = [Reply("Yes.", reasoning="Let me think about this. " * 9, cut_after=4)]
    error, bodies = await failure(surface, mode, ASKED, StreamInterrupted, model=HYBRID, script=script, max_retries=2)
    assert len(bodies) == 1
    assert "still reasoning" in "".join(error.__notes__)
    assert "Let me think" in str(error.partial.model_dump())


@in_streams
async def test_where_nothing_was_handed_out_it_starts_over(surface: str, mode: str) -> None:
    script = [Reply(STORY, cut_after=1), Reply(STORY)]
    answer, bodies = await exchange(
        surface, mode, ASKED, persona="vllm", script=script, model="moonshotai/Kimi-K2-Instruct"
    )
    assert answer.text == STORY
    assert bodies[0] == bodies[1]
    assert answer.said("broken-streams") == snapshot(
        [
            (
                "encode",
                "the stream broke before anything was handed out: sent again; the tokens of the broken part were not told and are missing from usage",
            )
        ]
    )


@in_streams
async def test_a_host_without_partial_mode_is_an_error_with_what_came(surface: str, mode: str) -> None:
    error, bodies = await failure(
        surface, mode, ASKED, StreamInterrupted, persona="vllm", script=[Reply(STORY, cut_after=4)],
        model="moonshotai/Kimi-K2-Instruct", max_retries=2,
    )  # fmt: skip
    assert len(bodies) == 1
    assert error.__notes__ == ["The stream was not taken up again: host vllm has no partial mode."]
    said = error.partial.content
    assert said
    assert STORY.startswith(said)
    assert error.retryable


@in_streams
@pytest.mark.parametrize(("text", "reasoning"), [("One moment.", None), ("", "I look."), ("One moment.", "I look.")])
async def test_a_call_that_had_begun_is_made_once(text: str, reasoning: str | None, surface: str, mode: str) -> None:
    arguments = json.dumps(PARIS[1])
    pieces = [event(reasoning_content=reasoning)] if reasoning else []
    pieces += [event(content=text)] if text else []
    whole = {"index": 0, "id": "call_a", "type": "function", "function": {"name": PARIS[0], "arguments": arguments}}
    half = {"index": 1, "id": "call_b", "type": "function", "function": {"name": PARIS[0], "arguments": arguments[:9]}}
    script = [
        Reply(chunks=[*pieces, event(tool_calls=[whole]), event(tool_calls=[half]), ""]),
        Reply(tool_calls=[PARIS]),
    ]
    model = HYBRID if reasoning else INSTRUCT
    answer, bodies = await exchange(surface, mode, ASKED, model=model, script=script, call={"tools": [WEATHER]})
    assert (answer.text, answer.calls) == (text, [PARIS])
    assert answer.finish == "tool_calls"
    last = bodies[1]["messages"][-1]
    assert (last["content"], last.get("reasoning_content"), last["partial"]) == (text, reasoning, True)
    assert "tool_calls" not in last


LEAK = (
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
    '{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>'
)


@in_streams
async def test_a_leaked_call_that_breaks_off_is_made_once(surface: str, mode: str) -> None:
    script = [Reply(chunks=[event(content=LEAK[:60]), ""]), Reply(chunks=[event(content=LEAK)])]
    answer, bodies = await exchange(surface, mode, ASKED, model=INSTRUCT, script=script, call={"tools": [WEATHER]})
    assert (answer.text, answer.calls) == ("", [PARIS])
    assert bodies[0] == bodies[1]  # control tokens do not go out in a message: it starts over


@in_streams
async def test_a_leaked_call_that_breaks_off_behind_text_is_an_error(surface: str, mode: str) -> None:
    script = [Reply(chunks=[event(content="One moment." + LEAK[:60]), ""])]
    error, bodies = await failure(
        surface, mode, ASKED, StreamInterrupted, model=INSTRUCT, script=script, max_retries=2, call={"tools": [WEATHER]}
    )
    assert len(bodies) == 1
    assert error.partial.content == "One moment."
    assert "control tokens" in error.__notes__[0]


@in_streams
async def test_an_empty_rest_is_not_taken_for_the_end(surface: str, mode: str) -> None:
    left = [Reply(STORY, cut_after=4), Reply(""), Reply("", finish_reason="length")]
    script = lambda body: left.pop(0) if left else told()(body)  # noqa: E731
    answer, bodies = await exchange(surface, mode, ASKED, model=INSTRUCT, script=script, max_retries=3)
    assert answer.text == STORY
    assert [begun(body) for body in bodies[1:]] == [begun(bodies[1])] * 3
    left = [Reply(STORY, cut_after=4), Reply(""), Reply("")]
    error, bodies = await failure(surface, mode, ASKED, StreamInterrupted, model=INSTRUCT, script=left, max_retries=2)
    assert (len(bodies), error.attempts) == (3, 3)
    assert "came back empty" in str(error)
    assert error.partial.content == begun(bodies[1])


@in_streams
async def test_a_call_that_had_begun_is_not_lost_with_an_empty_rest(surface: str, mode: str) -> None:
    half = {"index": 0, "id": "call_b", "type": "function", "function": {"name": PARIS[0], "arguments": '{"ci'}}
    begun_call = Reply(chunks=[event(content="One moment."), event(tool_calls=[half]), ""])
    script = [begun_call, Reply(""), Reply(tool_calls=[PARIS])]
    answer, _ = await exchange(surface, mode, ASKED, model=INSTRUCT, script=script, call={"tools": [WEATHER]})
    assert (answer.text, answer.calls) == ("One moment.", [PARIS])


@in_streams
async def test_what_the_host_repeats_word_by_word(surface: str, mode: str) -> None:
    """A model may well say the same piece twice, and nothing numbers the pieces: both are handed out. Events that say
    nothing new when they come twice double nothing."""
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    last = {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    counted = {"id": "chatcmpl-1", "choices": [], "usage": usage}
    function = {"name": PARIS[0], "arguments": ""}
    head = event(tool_calls=[{"index": 0, "id": "call_a", "type": "function", "function": function}])
    rest = event(tool_calls=[{"index": 0, "function": {"arguments": json.dumps(PARIS[1])}}])
    role, ha = event(role="assistant", content=""), event(content="ha ")
    chunks = [role, role, ha, ha, ha, head, head, rest, last, last, counted, counted]
    script = [Reply(chunks=[*chunks, "data: [DONE]\n\n", "data: [DONE]\n\n"])]
    answer, _ = await exchange(surface, mode, ASKED, model=INSTRUCT, script=script, call={"tools": [WEATHER]})
    assert (answer.text, answer.calls, answer.finish) == ("ha ha ha ", [PARIS], "tool_calls")
    assert answer.usage == {"prompt": 9, "completion": 5}


@in_streams
async def test_it_ends_after_max_retries(surface: str, mode: str) -> None:
    error, bodies = await failure(
        surface, mode, ASKED, StreamInterrupted, model=INSTRUCT, script=told(3, 3, 3, 3), max_retries=2
    )
    assert len(bodies) == error.attempts == 3
    assert STORY.startswith(error.partial.content)
    assert len(error.partial.content) > len(begun(bodies[2]))


@in_streams
async def test_a_resumption_that_is_refused_ends_in_the_interruption(surface: str, mode: str) -> None:
    script = [Reply(STORY, cut_after=4), Reply(status=400, message="partial is not supported")]
    error, bodies = await failure(surface, mode, ASKED, StreamInterrupted, model=INSTRUCT, script=script, max_retries=2)
    assert len(bodies) == 2
    assert error.partial.content == begun(bodies[1])


@in_streams
async def test_a_resumption_is_retried_like_any_request(surface: str, mode: str) -> None:
    left = [Reply(STORY, cut_after=4), Reply(status=503)]
    script = lambda body: left.pop(0) if left else told()(body)  # noqa: E731
    answer, bodies = await exchange(surface, mode, ASKED, model=INSTRUCT, script=script)
    assert answer.text == STORY
    assert len(bodies) == 3
    assert answer.said("retries") == [("encode", "sent 2 times: first HostOverloaded 503")]


@in_streams
async def test_an_error_before_anything_came_has_no_partial_message(surface: str, mode: str) -> None:
    error, _ = await failure(surface, mode, ASKED, HostOverloaded, model=INSTRUCT, script=[Reply(status=503)])
    assert error.partial is None


@in_streams
async def test_a_resumption_uses_up_a_retry(surface: str, mode: str) -> None:
    script = [Reply(STORY, cut_after=4), *[Reply(status=503)] * 9]
    error, bodies = await failure(surface, mode, ASKED, StreamInterrupted, model=INSTRUCT, script=script, max_retries=2)
    assert len(bodies) == 3  # the first one, and the resumption twice
    assert error.partial.content == begun(bodies[2])


@in_streams
async def test_a_structured_answer_is_joined_and_then_checked(surface: str, mode: str) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}}
    script = told(5, text='{"name": "a rather long name, cut in two"}')
    answer, bodies = await exchange(
        surface, mode, ASKED, model=HYBRID, script=script, call={"response_format": wanted, "thinking": False}
    )
    assert json.loads(answer.text) == {"name": "a rather long name, cut in two"}
    assert "response_format" in bodies[0]
    assert "response_format" not in bodies[1]


@in_streams
async def test_the_users_own_prefix_stays_in_front(surface: str, mode: str) -> None:
    own = {"role": "assistant", "content": "Once ", "partial": True}
    script = lambda body: told(*([4] if begun(body) == "Once " else []), text=f"Once {STORY}")(body)  # noqa: E731
    answer, bodies = await exchange(surface, mode, [*ASKED, own], model=INSTRUCT, script=script)
    assert answer.text == STORY
    assert begun(bodies[1]).startswith("Once Fog")
    assert [message["role"] for message in bodies[1]["messages"]] == ["system", "user", "assistant"]


@in_streams
async def test_a_stream_that_breaks_after_the_end_is_whole(surface: str, mode: str) -> None:
    last = {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    script = [Reply(chunks=[event(content="Yes."), last, "data: {oops\n\n"])]
    answer, bodies = await exchange(surface, mode, ASKED, model=INSTRUCT, script=script)
    assert (answer.text, answer.finish, len(bodies)) == ("Yes.", "stop", 1)
    assert answer.said("retries") == snapshot(
        [("advise", "the stream broke after the end of the reply (HostFailed): usage may be missing")]
    )


@in_streams
async def test_usage_is_summed_as_far_as_the_host_tells_it(surface: str, mode: str) -> None:
    def script(body: dict[str, Any]) -> Reply:
        usage = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}
        return Reply(STORY[len(begun(body)) :], usage=usage, cut_after=None if begun(body) else 4)

    answer, _ = await exchange(surface, mode, ASKED, model=INSTRUCT, script=script)
    assert answer.usage == {"prompt": 20, "completion": 7}  # the part that broke never told
