"""thinking="auto": the exact body of easy and hard turns, what overrides it, and what it must not touch."""

from __future__ import annotations

from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.surfaces import STREAMS, Answer, ask, build, called, everywhere, exchange, exchanges, result, tool, user

HARD, EASY = "Prove that the square root of 2 is irrational.", "What is the capital of Australia?"
FIELDS = {"practices": {"system_prompt": "off", "fresh_data": "off"}, "thinking": "auto"}
HYBRID = "moonshotai/Kimi-K2.6"
MODELS = {"moonshot": "kimi-k2.6", "vllm": HYBRID}
WEATHER = tool("get_weather", city="string")


def on(body: dict[str, Any]) -> bool | None:
    """Return what a body says about thinking, on Moonshot's API or vLLM."""
    for switch in (body.get("thinking", {}).get("type"), body.get("chat_template_kwargs", {}).get("thinking")):
        if switch is not None:
            return switch in (True, "enabled")
    return None


def said(answer: Answer) -> list[tuple[str, str]]:
    """Return what the report says of the decision; the switch that follows from it stands behind."""
    said = [(action, detail.split("; ")[0]) for action, detail in answer.said("thinking", "changes")]
    return [pair for pair in said if pair[1].startswith("auto")]


# -- the bodies ------------------------------------------------------------------------------------------


@everywhere
async def test_moonshot(surface: str, mode: str) -> None:
    hard, [one] = await exchange(surface, mode, [user(HARD)], model="kimi-k2.6", **FIELDS)
    easy, [two] = await exchange(surface, mode, [user(EASY)], model="kimi-k2.6", **FIELDS)
    for body in (one, two):
        body.pop("stream", None)
        body.pop("stream_options", None)
    assert one == snapshot(
        {
            "model": "kimi-k2.6",
            "messages": [{"role": "user", "content": "Prove that the square root of 2 is irrational."}],
            "thinking": {"type": "enabled", "keep": "all"},
            "max_completion_tokens": 32768,
        }
    )
    assert two == snapshot(
        {
            "model": "kimi-k2.6",
            "messages": [{"role": "user", "content": "What is the capital of Australia?"}],
            "thinking": {"type": "disabled"},
            "max_completion_tokens": 32768,
        }
    )
    assert said(hard) == [("add", "auto: on, mathematics")]
    assert said(easy) == [("add", "auto: off, a look-up")]


@everywhere
async def test_vllm(surface: str, mode: str) -> None:
    hard, [one] = await exchange(surface, mode, [user(HARD)], model=HYBRID, persona="vllm", **FIELDS)
    easy, [two] = await exchange(surface, mode, [user(EASY)], model=HYBRID, persona="vllm", **FIELDS)
    for body in (one, two):
        body.pop("stream", None)
        body.pop("stream_options", None)
    assert one == snapshot(
        {
            "model": "moonshotai/Kimi-K2.6",
            "messages": [{"role": "user", "content": "Prove that the square root of 2 is irrational."}],
            "top_p": 0.95,
            "temperature": 1.0,
            "max_tokens": 32768,
        }
    )
    assert two == snapshot(
        {
            "model": "moonshotai/Kimi-K2.6",
            "messages": [{"role": "user", "content": "What is the capital of Australia?"}],
            "chat_template_kwargs": {"thinking": False},
            "top_p": 0.95,
            "temperature": 0.6,
            "max_tokens": 32768,
        }
    )
    assert said(hard) == [("add", "auto: on, mathematics")]
    assert said(easy) == [("add", "auto: off, a look-up")]


@everywhere
@pytest.mark.parametrize(
    ("model", "state"), [("kimi-k2-thinking", "on"), ("kimi-k3", "on"), ("kimi-k2-0905-preview", "off")]
)
async def test_a_model_of_one_kind_keeps_its_state(surface: str, mode: str, model: str, state: str) -> None:
    answer, [body] = await exchange(surface, mode, [user(EASY)], model=model, **FIELDS)
    assert on(body) is None
    assert said(answer) == [("add", f"auto: {state}, cannot be switched here")]
    assert [pair for pair in answer.said("thinking", "changes") if pair[0] == "advise"] == []


@everywhere
async def test_it_is_off_by_default(surface: str, mode: str) -> None:
    answer, [body] = await exchange(surface, mode, [user(EASY)], model="kimi-k2.6")
    assert on(body) is True
    assert said(answer) == []


# -- what has the last word ------------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("wish", [True, False, {"type": "disabled"}])
async def test_a_wish_of_the_call_wins(surface: str, mode: str, wish: Any) -> None:
    for turn in (HARD, EASY):
        answer, [body] = await exchange(
            surface, mode, [user(turn)], model="kimi-k2.6", call={"thinking": wish}, **FIELDS
        )
        assert on(body) is (wish is True)
        assert said(answer) == []


@everywhere
async def test_a_call_may_ask_for_it(surface: str, mode: str) -> None:
    fields = {**FIELDS, "thinking": True}
    answer, [body] = await exchange(surface, mode, [user(EASY)], model="kimi-k2.6", call={"thinking": "auto"}, **fields)
    assert on(body) is False
    assert said(answer) == [("add", "auto: off, a look-up")]


@everywhere
async def test_a_switch_in_extra_body_wins(surface: str, mode: str) -> None:
    extra = {"thinking": {"type": "enabled"}}
    answer, [body] = await exchange(surface, mode, [user(EASY)], model="kimi-k2.6", extra_body=extra, **FIELDS)
    assert on(body) is True
    assert said(answer) == [("add", "auto: on, a switch in extra_body says so")]


@everywhere
async def test_an_effort_wins(surface: str, mode: str) -> None:
    answer, [body] = await exchange(surface, mode, [user(EASY)], model="kimi-k2.6", reasoning_effort="high", **FIELDS)
    assert on(body) is True
    assert "reasoning_effort" not in body  # one switch only
    assert said(answer) == [("add", "auto: on, reasoning_effort is given")]


@pytest.mark.parametrize("surface", ["ChatKimi", "Kimi"])
async def test_another_text_is_an_error(surface: str) -> None:
    with pytest.raises(ConfigurationError, match="'auto'"):
        await exchange(surface, "invoke", [user(EASY)], call={"thinking": "sometimes"})
    with pytest.raises(ConfigurationError):
        await exchange(surface, "invoke", [user(EASY)], thinking="sometimes")


# -- forced choices and structured output ----------------------------------------------------------------


@everywhere
@pytest.mark.parametrize(("turn", "wanted"), [(HARD, True), (EASY, False)])
@pytest.mark.parametrize("choice", ["required", "get_weather"])
async def test_a_forced_choice_is_asked_for_once_more_in_the_same_state(
    surface: str, mode: str, turn: str, wanted: bool, choice: str
) -> None:
    """K2.6 takes a forced choice in neither state: `auto`, and one more request, which thinks as the first did."""
    reasoning = "Hm." if wanted else None
    script = [
        Reply("Well.", reasoning=reasoning),
        Reply(tool_calls=[("get_weather", {"city": "Paris"})], reasoning=reasoning),
    ]
    call = {"tools": [WEATHER], "tool_choice": choice}
    answer, bodies = await exchange(surface, mode, [user(turn)], model="kimi-k2.6", script=script, call=call, **FIELDS)
    assert [on(body) for body in bodies] == [wanted, wanted]
    assert {body["tool_choice"] for body in bodies} == {"auto"}
    assert answer.calls == [("get_weather", {"city": "Paris"})]


@everywhere
@pytest.mark.parametrize(("turn", "wanted"), [(HARD, True), (EASY, False)])
async def test_an_answer_in_a_form_is_asked_for_once_more_in_the_same_state(
    surface: str, mode: str, turn: str, wanted: bool
) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    form = {"type": "json_schema", "json_schema": {"name": "City", "schema": schema}}
    reasoning = "Hm." if wanted else None
    script = [Reply("{}", reasoning=reasoning), Reply('{"city": "Paris"}', reasoning=reasoning)]
    answer, bodies = await exchange(
        surface, mode, [user(turn)], model="kimi-k2.6", script=script, call={"response_format": form}, **FIELDS
    )
    tries = 1 if mode in STREAMS else 2  # what a stream has handed out is not asked for again
    assert [on(body) for body in bodies] == [wanted] * tries
    assert answer.text == ("{}" if mode in STREAMS else '{"city": "Paris"}')


# -- one run, one state; one form of messages ------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("persona", MODELS)
@pytest.mark.parametrize(("turn", "wanted"), [(HARD, True), (EASY, False)])
async def test_the_state_holds_while_tools_are_called(
    surface: str, mode: str, persona: str, turn: str, wanted: bool
) -> None:
    """Also where the results look like hard questions."""

    def script(body: dict[str, Any]) -> Reply:
        reasoning = "Hm." if on(body) is not False else None
        steps = sum(message["role"] == "tool" for message in body["messages"])
        if steps == 3:
            return Reply("Done.", reasoning=reasoning)
        return Reply(tool_calls=[("get_weather", {"city": f"City {steps}"})], reasoning=reasoning)

    with KimiSimulator(persona, script=script) as simulator:
        built = build(surface, simulator, model=MODELS[persona], **FIELDS)
        conversation: list[Any] = [user(turn)]
        for _ in range(4):
            answer = await ask(surface, mode, built, conversation, tools=[WEATHER])
            conversation.append(answer.message)
            conversation.extend(result(call_id, "Compare and analyse: why? 为什么?") for call_id in answer.ids)
        bodies = exchanges.bodies(simulator)
        assert simulator.refusals == []
    states = [on(body) is not False for body in bodies]
    assert states == [wanted] * 4


@everywhere
@pytest.mark.parametrize("persona", MODELS)
async def test_thirty_turns_of_both_kinds_are_one_growing_prompt(surface: str, mode: str, persona: str) -> None:
    def script(body: dict[str, Any]) -> Reply:
        reasoning = "Hm." if on(body) is not False else None
        if body["messages"][-1]["role"] == "user":
            return Reply(tool_calls=[("get_weather", {"city": "Paris"})], reasoning=reasoning)
        return Reply("Yes.", reasoning=reasoning)

    with KimiSimulator(persona, script=script) as simulator:
        built = build(surface, simulator, model=MODELS[persona], **FIELDS)
        conversation: list[Any] = []
        for number in range(30):
            conversation.append(user(f"{HARD if number % 3 else EASY}"))
            answer = await ask(surface, mode, built, conversation, tools=[WEATHER])
            conversation += [answer.message, result(*answer.ids)]
            conversation.append((await ask(surface, mode, built, conversation, tools=[WEATHER])).message)
        bodies = exchanges.bodies(simulator)
        assert simulator.refusals == []
    assert [on(body) is not False for body in bodies] == [number % 3 != 0 for number in range(30) for _ in range(2)]
    for earlier, later in zip(bodies, bodies[1:], strict=False):
        assert later["messages"][: len(earlier["messages"])] == earlier["messages"]
        assert later["tools"] == earlier["tools"]


@everywhere
async def test_a_lost_reasoning_is_no_reason_to_change(surface: str, mode: str) -> None:
    """A host or an app may lose it: the user's turn is still the same."""
    begun = [user(HARD), called(("c0", "get_weather", {"city": "Paris"})), result("c0")]
    _, [body] = await exchange(surface, mode, begun, model="kimi-k2.6", call={"tools": [WEATHER]}, **FIELDS)
    assert on(body) is True
