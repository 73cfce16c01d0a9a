"""A line of ours stands once in the system prompt, whatever form that has; the user's own lines stay the user's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refrase_integrations.kimi.lines import in_chinese, own_line, own_lines, put_line
from refrase_integrations.kimi.messages import is_blank, text_of
from refrase_integrations.kimi.practices import fresh_data, grounding, verbosity

LINE, OLD = "House rule: say please.", "House rule: say 3 words."
OURS = own_line("House rule:", "House rule: say {what}.", what=r"please|\d words")
THEIRS = ["House rule: shout.", f"- {OLD}", f"{OLD} Always.", OLD.lower(), "House rule: say 33 words."]
"""Lines of the user's that open or sound like ours."""


def lined(*messages: dict[str, Any]) -> Any:
    return put_line({"model": "m", "messages": list(messages)}, OURS, LINE)["messages"]


def system(content: Any) -> dict[str, Any]:
    return {"role": "system", "content": content}


USER = {"role": "user", "content": "Hi."}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Be brief.", f"Be brief.\n\n{LINE}"),
        ("Be brief.\n", f"Be brief.\n\n{LINE}"),
        ("Be brief.\n\n\n", f"Be brief.\n\n\n{LINE}"),
        (f"{OLD}\nBe brief.", f"{LINE}\nBe brief."),
        (f"Be brief.\n{OLD}\nBe kind.\n{OLD}\n{LINE}", f"Be brief.\n{LINE}\nBe kind."),
        (f"Never say '{OLD}'.", f"Never say '{OLD}'.\n\n{LINE}"),
        ([{"type": "text", "text": "A"}], [{"type": "text", "text": "A"}, {"type": "text", "text": f"\n\n{LINE}"}]),
        (["A"], ["A", f"\n\n{LINE}"]),
        (
            [
                {"type": "text", "text": f"A\n{OLD}", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "B"},
            ],
            [
                {"type": "text", "text": f"A\n{LINE}", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "B"},
            ],
        ),
        ([OLD, OLD], [LINE, ""]),
    ],
)
def test_one_system_message(content: Any, expected: Any) -> None:
    assert lined(system(content), USER) == [system(expected), USER]


def test_no_system_message() -> None:
    assert lined(USER) == [system(LINE), USER]
    assert put_line({"model": "m"}, OURS, LINE)["messages"] == [system(LINE)]


@pytest.mark.parametrize("blank", ["", " \n", None, [], [{"type": "text", "text": ""}]])
def test_a_blank_one_is_passed_over(blank: Any) -> None:
    assert lined(system(blank), system("A"), USER) == [system(blank), system(f"A\n\n{LINE}"), USER]
    assert lined(system(blank), USER) == [system(LINE), system(blank), USER]


def test_several() -> None:
    assert lined(system("A"), system("B"), USER) == [system(f"A\n\n{LINE}"), system("B"), USER]
    assert lined(system("A"), system(f"B\n{OLD}"), USER) == [system("A"), system(f"B\n{LINE}"), USER]
    assert lined(system(f"A\n{OLD}"), USER, system(LINE)) == [system(f"A\n{LINE}"), USER, system("")]


def test_one_in_mid_conversation_is_no_place_for_it() -> None:
    """The head of the prompt must not change because a message further down came."""
    assert lined(USER, system("A")) == [system(LINE), USER, system("A")]
    assert lined(USER, system(OLD)) == [USER, system(LINE)], "a sibling's line is replaced wherever it stands"


@pytest.mark.parametrize("theirs", THEIRS)
def test_a_line_of_the_users_own_stays(theirs: str) -> None:
    for prompt in (theirs, f"Be brief.\n{theirs}\nBe kind.", f"Be brief.\n\n{theirs}"):
        assert lined(system(prompt), USER) == [system(f"{prompt}\n\n{LINE}"), USER]


@pytest.mark.parametrize(
    "document",
    [
        "<doc>\n{}\n</doc>",
        '<doc id="7">\nA\n\n{}\n\nB</doc>',
        "```\n{}\n```",
        "~~~text\n{}\n~~~",
        "<a>\n<b>\n</b>\n{}\n</a>",
    ],
)
@pytest.mark.parametrize("pasted", [OLD, LINE])
def test_so_does_one_in_a_pasted_document(document: str, pasted: str) -> None:
    prompt = f"Answer from this.\n{document.format(pasted)}"
    once = lined(system(prompt), USER)
    assert once == [system(f"{prompt}\n\n{LINE}"), USER]
    assert lined(*once) == once
    assert lined(system(f"{prompt}\n\n{OLD}"), USER) == once


@pytest.mark.parametrize("opened", ["Put the name in <name>.", "<rules>", "```", "1 < 2 and 3 > 2"])
def test_what_is_opened_and_never_closed_is_no_document(opened: str) -> None:
    assert lined(system(f"{opened}\n\n{OLD}"), USER) == [system(f"{opened}\n\n{LINE}"), USER]


@pytest.mark.parametrize(
    "line",
    [
        fresh_data.WITHOUT,
        fresh_data.WITHOUT_ZH,
        fresh_data.WITH.format(tools="get_weather"),
        fresh_data.WITH.format(tools="get_weather or $web_search or a-b"),
        fresh_data.WITH_ZH.format(tools="get_weather 或 news"),
        grounding.LINE,
        grounding.LINE_ZH,
        verbosity.LINE.format(many="one sentence"),
        verbosity.LINE.format(many="12 sentences"),
        verbosity.LINE_ZH.format(count=5),
    ],
)
def test_the_practices_know_their_lines_in_every_form(line: str) -> None:
    assert own_lines(f"Be kind.\n\n{line}\n") == {line}
    opening = line.partition(":")[0]
    for theirs in (f"{opening}: cite the annual report.", f"{line} Always.", f"{opening}:"):
        assert own_lines(f"Be kind.\n\n{theirs}\n") == set()


class TestLanguage:
    """A practice writes in the language of the prompt, whatever was written into it before."""

    @pytest.mark.parametrize("chinese", [True, False])
    def test_lines_of_ours_do_not_count(self, chinese: bool) -> None:
        prompt = "你是合同审查助手。" if chinese else "You review contracts."
        lines = [fresh_data.WITHOUT, grounding.LINE, verbosity.LINE.format(many="2 sentences")]
        for line in (*lines, fresh_data.WITHOUT_ZH, grounding.LINE_ZH):
            for content in (f"{prompt}\n\n{line}", [prompt, f"\n\n{line}"], f"{line}\n\n{prompt}"):
                assert in_chinese({"messages": [{"role": "system", "content": content}]}) is chinese

    def test_the_users_lines_that_open_like_ours_do(self) -> None:
        """Such a line may be all that there is, or stand in front of the rest."""
        theirs = "Freshness rule: 引用年度报告中的数字。\n你是合同审查助手，请用中文回答所有问题。"
        assert in_chinese({"messages": [{"role": "system", "content": theirs}]})
        assert not in_chinese({"messages": [{"role": "system", "content": f"Style rule: 短.\n{'be kind ' * 9}"}]})


def test_only_system_messages_hold_it() -> None:
    quoting = {"role": "user", "content": OLD}
    assert lined(system("A"), quoting) == [system(f"A\n\n{LINE}"), quoting]


parts = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=8)),
    st.text(max_size=8),
    st.just({"type": "image_url", "image_url": {"url": "x"}}),
)
pieces = st.lists(
    st.sampled_from(["", "A", "\n", "B\n", LINE, OLD, f"{OLD}\n", f"\n{LINE}\n", "House rule: shout.\n"]), max_size=5
).map("".join)
contents = st.one_of(st.none(), pieces, st.lists(st.one_of(parts, pieces), max_size=3))
histories = st.lists(
    st.builds(lambda role, content: {"role": role, "content": content}, st.sampled_from(["system", "user"]), contents),
    max_size=5,
)


@settings(max_examples=300, deadline=None)
@given(histories)
def test_it_stands_once_and_nothing_else_changes(history: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(history)
    body: Any = {"model": "m", "messages": history}
    once = put_line(body, OURS, LINE)
    assert history == before, "the caller's messages were changed"
    assert put_line(once, OURS, LINE) is once
    texts = [text for message in once["messages"] if message["role"] == "system" for text in _texts(message["content"])]
    lines = [line for text in texts for line in text.split("\n") if OURS.pattern.fullmatch(line)]
    assert lines == [LINE]
    assert _rest(once["messages"]) == _rest(history)
    assert [m for m in once["messages"] if m["role"] == "user"] == [m for m in history if m["role"] == "user"]


def _texts(content: Any) -> list[str]:
    parts = content if isinstance(content, list) else [content]
    return [text_of([part]) for part in parts if part is not None]


def _rest(messages: list[dict[str, Any]]) -> str:
    """Return what the system messages say beside lines of ours, without line breaks."""
    said = [text for message in messages if message["role"] == "system" for text in _texts(message["content"])]
    return "".join(line for text in said for line in text.split("\n") if not OURS.pattern.fullmatch(line))


def test_a_message_that_only_held_another_copy_is_blank_then() -> None:
    assert is_blank(lined(system(LINE), system(OLD))[1]["content"])
