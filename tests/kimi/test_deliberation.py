"""Turns that need thinking, and easy ones: measured on labelled turns, English and Chinese; a part of them is held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refrase_integrations.kimi.announcements import nudge
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.deliberation import decide, needs_thinking
from refrase_integrations.kimi.dialect import Dialect, compile_dialect

ROWS = [line.split("\t") for line in Path(__file__).with_name("deliberation_turns.tsv").read_text("utf-8").splitlines()]
HARD, EASY = "Prove that the square root of 2 is irrational.", "What is the capital of Australia?"


def share(part: str, label: str, language: str) -> float:
    """Return the part of the labelled turns that are judged as labelled."""
    turns = [
        text.replace("\\n", "\n") for which, what, said, text in ROWS if (which, what, said) == (part, label, language)
    ]
    assert len(turns) >= 15
    return sum(bool(needs_thinking(turn)) is (label == "hard") for turn in turns) / len(turns)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(("label", "fit", "held"), [("hard", 0.97, 0.85), ("easy", 0.97, 0.65)])
def test_labelled_turns(language: str, label: str, fit: float, held: float) -> None:
    """A hard turn taken for an easy one costs the answer, an easy one taken for a hard one some seconds."""
    assert share("fit", label, language) >= fit
    assert share("held", label, language) >= held


def test_the_labelled_turns_are_half_chinese() -> None:
    languages = [row[2] for row in ROWS]
    assert 0.45 < languages.count("zh") / len(languages) < 0.55
    assert len({row[3] for row in ROWS}) == len(ROWS) >= 60


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (HARD, "mathematics"),
        ("Refactor this.", "code"),
        ("What does this print?\n```\nx = 1\n```", "code"),
        ("Design a cache for us.", "planning"),
        ("我应该先还房贷还是先投资?", "judgement"),
        ("First read the file, then send it.", "several steps"),
        ("Who? When? Where?", "several parts"),
        ("It has 3 of 4 by 5. What is it?", "several figures"),
        ("Is it? " + "And more of it. " * 60, "a long request"),
        ("Blue. Green. Perhaps.", "not known as easy"),
        ("", "not known as easy"),
        (EASY, "a look-up"),
        ("打开厨房的灯。", "an order"),
        ("你好", "small talk"),
        ("Translate to French: prove that x is even.", "given text"),
        ("Prove it, but don't think about it.", "no thinking wanted"),
        ("Translate this script to Rust: fn f", "code"),
    ],
)
def test_the_reason_is_a_kind_of_turn(turn: str, reason: str) -> None:
    assert needs_thinking(turn).reason == reason


@pytest.mark.parametrize("text", ["word " * 60_000, "帮我看看" * 50_000, "1. " * 50_000, "?" * 100_000, "```" * 50_000])
def test_a_huge_turn_is_a_long_request(text: str) -> None:
    assert needs_thinking(text) == (True, "a long request")


# -- the decision of one call ----------------------------------------------------------------------------


def dialect(model: str = "kimi-k2.6", host: str = "moonshot") -> Dialect:
    return compile_dialect(find_model(model), find_host(host, None), None, model)


def message(role: str, content: Any, **fields: Any) -> Any:
    return {"role": role, "content": content, **fields}


def decided(*messages: Any, model: str = "kimi-k2.6", host: str = "moonshot", **fields: Any) -> bool | None:
    return decide({"model": model, "messages": list(messages), **fields}, dialect(model, host)).thinking


CALL = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
CALLED = message("assistant", "", tool_calls=CALL)
RESULT = message("tool", "Prove that this is the result of ```code```, and compare it.", tool_call_id="c")


@pytest.mark.parametrize(("turn", "wanted"), [(HARD, True), (EASY, False)])
class TestOneTurn:
    """The decision of a user turn holds until the next one."""

    def test_whatever_its_tools_answer(self, turn: str, wanted: bool) -> None:
        asked = message("user", turn)
        assert decided(asked) is wanted
        assert decided(asked, CALLED, RESULT) is wanted
        assert decided(asked, CALLED, RESULT, CALLED, RESULT) is wanted

    def test_whatever_was_said_before(self, turn: str, wanted: bool) -> None:
        earlier = [message("user", other) for other in (HARD, EASY)]
        thought = message("assistant", "Yes.", reasoning_content="Hm.")
        for before in earlier:
            assert decided(message("system", "Think hard."), before, thought, message("user", turn)) is wanted

    @pytest.mark.parametrize(
        "step", [nudge("en"), nudge("zh"), "Observation: it is 21 degrees, compare and analyse it."]
    )
    def test_whatever_an_agent_puts_in(self, turn: str, wanted: bool, step: str) -> None:
        assert decided(message("user", turn), message("assistant", "I will look."), message("user", step)) is wanted

    def test_whatever_tools_are_bound_and_choices_are_forced(self, turn: str, wanted: bool) -> None:
        tools = [{"type": "function", "function": {"name": f"f{n}", "parameters": {}}} for n in range(20)]
        choice = {"type": "function", "function": {"name": "f1"}}
        assert decided(message("user", turn), tools=tools, tool_choice=choice) is wanted


def test_a_turn_that_has_begun_with_thinking_goes_on_with_it() -> None:
    for key in ("reasoning_content", "reasoning"):
        for text in ("Hm.", ""):  # an empty text: reasoned, nothing said
            assert decided(message("user", EASY), {**CALLED, key: text}, RESULT) is True


def test_several_user_messages_in_a_row_are_one_turn() -> None:
    assert decided(message("user", HARD), message("user", EASY)) is True
    parts = [{"type": "text", "text": "Translate: "}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    assert decided(message("user", parts)) is False


def test_an_image_alone_or_nothing_at_all_is_not_known_as_easy() -> None:
    assert decided(message("user", [{"type": "image_url", "image_url": {"url": "data:,"}}])) is True
    assert decided(message("system", "Hi.")) is True
    assert decided() is True


@pytest.mark.parametrize(("effort", "wanted"), [("low", True), ("high", True), ("none", False)])
def test_an_effort_that_is_given_decides(effort: str, wanted: bool) -> None:
    assert decided(message("user", EASY if wanted else HARD), reasoning_effort=effort) is wanted


@pytest.mark.parametrize(
    ("model", "host"),
    [
        ("kimi-k2-thinking", "moonshot"),
        ("kimi-k2-0905-preview", "vllm"),
        ("kimi-k3", "moonshot"),
        ("kimi-k2.6", "generic"),
    ],
)
@pytest.mark.parametrize("turn", [HARD, EASY])
def test_what_cannot_be_switched_is_left_as_it_is(model: str, host: str, turn: str) -> None:
    assert decided(message("user", turn), model=model, host=host) is None
