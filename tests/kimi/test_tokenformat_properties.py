"""What holds for every text and every chunking of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from refrase_integrations.kimi.tokenformat import (
    CONTROL_TOKENS,
    TOOL_SECTION_TOKENS,
    Event,
    K2Parser,
    K3Parser,
    Reasoning,
    Section,
    Text,
    ThinkSplitter,
    may_hold_markup,
    write_section,
)

FRAGMENTS = [
    *CONTROL_TOKENS, "<", "<|", "|>", "<|tool_call", "_begin|>", "</thi", "nk>", "<|op", " ", "\n",
    "functions.f:0", "call_1",
    "```", "`", '{"a": 1}', '{"a"', "think", "response", "tools", "call", ' call tool="f" index="1"',
    ' argument key="a" type="number"', "argument", "json", "x" * 60,
]  # fmt: skip
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=25).map("".join)
tools = [
    {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}}},
    {"type": "function", "function": {"name": "g", "parameters": {"properties": {"b": {"type": "integer"}}}}},
]
PARSERS: dict[str, Callable[[], K2Parser | K3Parser | ThinkSplitter]] = {
    "k2": lambda: K2Parser(tools),  # type: ignore[arg-type]
    "k2-small": lambda: K2Parser(hold_limit=80),
    "k3": K3Parser,
    "k3-inside": lambda: K3Parser(inside=True),
    "k3-small": lambda: K3Parser(hold_limit=80),
    "think": ThinkSplitter,
    "think-inside": lambda: ThinkSplitter(inside=True),
}


@st.composite
def chunked(draw: st.DrawFn) -> tuple[str, list[str]]:
    text = draw(texts)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return text, [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def run(parser: K2Parser | K3Parser | ThinkSplitter, chunks: Iterable[str]) -> list[Event]:
    return [event for chunk in chunks for event in parser.feed(chunk)] + parser.close()


def joined(events: Iterable[Event]) -> list[Event]:
    """Join adjacent events of the same kind of text."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, Text) and isinstance(last, Text):
            out[-1] = Text(last.text + event.text)
        elif isinstance(event, Reasoning) and isinstance(last, Reasoning):
            out[-1] = Reasoning(last.text + event.text)
        else:
            out.append(event)
    return out


@pytest.mark.parametrize("make", PARSERS.values(), ids=PARSERS)
@given(chunked())
@settings(max_examples=150, deadline=None)
def test_no_character_is_lost_and_chunking_does_not_matter(
    make: Callable[[], K2Parser | K3Parser | ThinkSplitter], sample: tuple[str, list[str]]
) -> None:
    text, chunks = sample
    whole = run(make(), [text])
    assert "".join(event.raw for event in whole) == text
    assert all(event.raw for event in whole), "an empty event says nothing"
    assert joined(run(make(), chunks)) == joined(whole)
    assert joined(run(make(), text)) == joined(whole)  # character by character
    positions = [call.position for event in whole if isinstance(event, Section) for call in event.calls]
    assert positions == list(range(len(positions)))


names = st.from_regex(r"[\w.\-]{1,12}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(TOOL_SECTION_TOKENS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(st.tuples(names, st.dictionaries(st.text(), values, max_size=3)), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 10**6),
)
@example([("functions.f", {"a": "<|tool_call_end|>"})], False, 0)
@settings(max_examples=150, deadline=None)
def test_what_the_writer_writes_the_parser_reads(
    calls: list[tuple[str, dict[str, object]]], ascii_only: bool, first: int
) -> None:
    arguments = [json.dumps(value, ensure_ascii=ascii_only) for _, value in calls]
    written = write_section([(name, text) for (name, _), text in zip(calls, arguments, strict=True)], first)
    (section,) = run(K2Parser(), [written])
    assert isinstance(section, Section)
    assert section.complete
    assert section.raw == written
    assert [(call.id, call.name) for call in section.calls] == [
        (f"functions.{name}:{index}", name) for index, (name, _) in enumerate(calls, first)
    ]
    assert [json.loads(call.arguments) for call in section.calls] == [value for _, value in calls]
    for call, text in zip(section.calls, arguments, strict=True):
        if not any(token in text for token in TOOL_SECTION_TOKENS):
            assert call.arguments == text  # byte for byte


@given(st.text().map(lambda text: text.strip(" \t\r\n")))
@settings(max_examples=100, deadline=None)
def test_malformed_arguments_pass_through(arguments: str) -> None:
    (section,) = run(K2Parser(), [write_section([("f", arguments)])])
    assert isinstance(section, Section)
    assert [call.arguments for call in section.calls] == [arguments]


@settings(max_examples=600, deadline=None)
@given(chunked())
@example(("a < b <| c", ["a < b ", "<", "| c"]))
def test_a_piece_that_cannot_hold_markup_is_text_to_a_parser_that_is_idle(text: tuple[str, list[str]]) -> None:
    for name in ("k2", "k2-small", "k3", "k3-small", "think"):
        parser = PARSERS[name]()
        for piece in text[1]:
            idle = parser.idle
            events = parser.feed(piece)
            if idle and not may_hold_markup(piece):
                assert events == ([Text(piece)] if piece else []), name
                assert parser.idle


def test_what_may_hold_markup() -> None:
    assert not any(map(may_hold_markup, ["", "a < b", "<b>", "</div>", "x <= y", "<3", "a <\n", "< "]))
    assert all(map(may_hold_markup, ["<", "a </", "<|", "a<think>", "</think>", "<t", "x <table"]))
