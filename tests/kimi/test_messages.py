"""`put_line`: a line of ours stands once in the system prompt, whatever form that has."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refrase_integrations.kimi.messages import is_blank, put_line, text_of

MARKER, LINE, OLD = "House rule:", "House rule: say please.", "House rule: shout."


def lined(*messages: dict[str, Any]) -> Any:
    return put_line({"model": "m", "messages": list(messages)}, MARKER, LINE)["messages"]


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
    assert put_line({"model": "m"}, MARKER, LINE)["messages"] == [system(LINE)]


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


def test_only_system_messages_hold_it() -> None:
    quoting = {"role": "user", "content": OLD}
    assert lined(system("A"), quoting) == [system(f"A\n\n{LINE}"), quoting]


parts = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=8)),
    st.text(max_size=8),
    st.just({"type": "image_url", "image_url": {"url": "x"}}),
)
pieces = st.lists(st.sampled_from(["", "A", "\n", "B\n", LINE, OLD, f"{OLD}\n", f"\n{LINE}\n"]), max_size=5).map(
    "".join
)
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
    once = put_line(body, MARKER, LINE)
    assert history == before, "the caller's messages were changed"
    assert put_line(once, MARKER, LINE) is once
    texts = [text for message in once["messages"] if message["role"] == "system" for text in _texts(message["content"])]
    lines = [line for text in texts for line in text.split("\n") if line.startswith(MARKER)]
    assert lines == [LINE]
    assert _rest(once["messages"]) == _rest(history)
    assert [m for m in once["messages"] if m["role"] == "user"] == [m for m in history if m["role"] == "user"]


def _texts(content: Any) -> list[str]:
    parts = content if isinstance(content, list) else [content]
    return [text_of([part]) for part in parts if part is not None]


def _rest(messages: list[dict[str, Any]]) -> str:
    """Return what the system messages say beside marked lines, without line breaks."""
    said = [text for message in messages if message["role"] == "system" for text in _texts(message["content"])]
    return "".join(line for text in said for line in text.split("\n") if not line.startswith(MARKER))


def test_a_message_that_only_held_another_copy_is_blank_then() -> None:
    assert is_blank(lined(system(LINE), system(OLD))[1]["content"])
