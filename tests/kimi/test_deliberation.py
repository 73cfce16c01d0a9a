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
    """Return the part of the labelled turns that are judged as labelled; a row may hold the user's turns before it."""
    rows = [turns for which, what, said, *turns in ROWS if (which, what, said) == (part, label, language)]
    assert len(rows) >= 15
    right = 0
    for turns in rows:
        answer = message("assistant", "Shall I go on?")
        talk = [one for turn in turns for one in (message("user", turn.replace("\\n", "\n")), answer)]
        right += decided(*talk[:-1]) is (label == "hard")
    return right / len(rows)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("part", "label", "least"),
    [
        ("fit", "hard", 0.97),
        ("fit", "easy", 0.97),
        ("held", "hard", 0.85),
        ("held", "easy", 0.65),
        ("reply", "hard", 0.9),
        ("reply", "easy", 0.9),
    ],
)
def test_labelled_turns(part: str, label: str, language: str, least: float) -> None:
    """A hard turn taken for an easy one costs the answer, an easy one taken for a hard one some seconds.

    "held" and "reply" (turns that open with a greeting, thanks or a yes, or say nothing else) were written before the
    rules that they measure.
    """
    assert share(part, label, language) >= least


def test_the_labelled_turns_are_half_chinese() -> None:
    languages = [row[2] for row in ROWS]
    assert 0.45 < languages.count("zh") / len(languages) < 0.55
    assert len({tuple(row[3:]) for row in ROWS}) == len(ROWS) >= 60


@pytest.mark.parametrize(
    "yes", ["yes", "Yes, go ahead.", "ok, do it", "Continue.", "Sure!", "继续", "好的，做吧", "是的", "Great.", "No."]
)
class TestGoAhead:
    """A turn that only says yes is judged by what it says yes to."""

    def test_it_is_judged_by_the_turn_before_it(self, yes: str) -> None:
        for turn, wanted in ((HARD, True), (EASY, False)):
            asked = [message("user", turn), message("assistant", "Shall I?")]
            assert decided(*asked, message("user", yes)) is wanted
            thanks = [message("user", "Thanks!"), message("assistant", "Shall I go on?")]
            assert decided(*asked, *thanks, message("user", yes), CALLED, RESULT) is wanted
            assert needs_thinking(yes, [turn]).reason == f"a go-ahead for: {needs_thinking(turn).reason}"

    def test_it_is_nothing_by_itself(self, yes: str) -> None:
        """What it answers may have been trimmed away."""
        assert needs_thinking(yes) == (True, "not known as easy")
        assert needs_thinking(yes, ["Hello."]) == (False, "small talk")


@pytest.mark.parametrize(
    ("turn", "wanted"),
    [
        ("Thanks! Now prove it.", True),
        ("Thanks, but the build still fails", True),
        ("Thanks for fixing it but it still fails", True),
        ("hi my server is down", True),
        ("thanks to the cache it is fast", True),
        ("Thank you for your help!", False),
        ("ok thanks", False),
        ("No, thank you.", False),
        ("谢谢，不过编译还是失败", True),
        ("你好帮我看看这个证明", True),
        ("好的，谢谢", False),
        ("谢谢你的帮助", False),
    ],
)
def test_a_greeting_or_thanks_decide_only_where_nothing_else_is_said(turn: str, wanted: bool) -> None:
    assert bool(needs_thinking(turn, [HARD])) is wanted


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
