"""The native tool-call text against the cases of the reference parsers, and its single rules."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from refrase_integrations.kimi.tokenformat import (
    Event,
    K2Parser,
    K3Parser,
    NativeCall,
    Reasoning,
    Section,
    Tag,
    Text,
    ThinkSplitter,
    native_id,
    split_native_id,
    write_section,
)

CASES_FILE = Path(__file__).parents[2].parent / "shared" / "data" / "tool-call-cases.jsonl"
CASES: list[dict[str, Any]] = (
    [json.loads(line) for line in CASES_FILE.read_text().splitlines()] if CASES_FILE.exists() else []
)
BEGIN, END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
CALL, ARGS, CALL_END = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"

# Where the reference parsers differ, the content that ours gives, and why.
DISPUTED = {
    # No tool is declared, so nothing says that "functions.invalid.0" means a function "invalid". With the
    # tool declared the call is recovered: test_an_id_that_spells_a_declared_name.
    "vllm-malformed-id-skipped": "Help. ",
    # Text behind a section is the model's answer: nothing that it said is dropped.
    "vllm-mid-begin-ws-end": "Reasoning  Done",
    "sgl-e2e-between-text": "Prefix text: Now calling next: ",
}


def one(*chunks: str) -> list[str]:
    return ["".join(chunks)]


def characters(*chunks: str) -> list[str]:
    return list("".join(chunks))


def as_given(*chunks: str) -> list[str]:
    return list(chunks)


def run(parser: K2Parser | K3Parser | ThinkSplitter, chunks: Iterable[str]) -> list[Event]:
    return [event for chunk in chunks for event in parser.feed(chunk)] + parser.close()


def text_of(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def reasoning_of(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Reasoning))


def calls_of(events: Iterable[Event]) -> list[NativeCall]:
    return [call for event in events if isinstance(event, Section) for call in event.calls]


def sections_of(events: Iterable[Event]) -> list[Section]:
    return [event for event in events if isinstance(event, Section)]


def parse(case: dict[str, Any], chunks: Sequence[str]) -> list[Event]:
    """Run a case as a caller would: K3 by its own parser, K2 by splitter and parser in a line."""
    thinking = case.get("thinking", False)
    if case["family"] == "k3":
        return run(K3Parser(), chunks)
    if case["family"] == "k2":
        return run(K2Parser(case["tools"]), chunks)
    split = run(ThinkSplitter(inside=thinking), chunks)
    if case["family"] == "k2_reasoning":
        return split  # the reasoning parser alone
    content = [event.text for event in split if isinstance(event, Text)]
    return [event for event in split if not isinstance(event, Text)] + run(K2Parser(case["tools"]), content)


@pytest.mark.skipif(not CASES, reason=f"the cases of the reference parsers are not at {CASES_FILE}")
def test_the_cases_are_all_there() -> None:
    assert len(CASES) == 56
    assert {case["id"] for case in CASES if case.get("disputed")} == set(DISPUTED)


@pytest.mark.parametrize("chunking", [one, as_given, characters])
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_reference_case(case: dict[str, Any], chunking: Any) -> None:
    events = parse(case, chunking(*case["chunks"]))
    expected, how = case["expect"], case["assert"]
    content, calls = text_of(events), [call for call in calls_of(events) if call.name]
    if how["content"] == "exact":
        assert content == (expected["content"] or "")
    elif how["content"] == "contains":
        assert expected["content"] in content
    for forbidden in case.get("content_must_not_contain", ()):
        assert forbidden not in content
    if how.get("reasoning") == "exact":
        assert reasoning_of(events) == expected["reasoning"]
    if case["id"] in DISPUTED:
        assert content == DISPUTED[case["id"]]
    assert [call.name for call in calls] == [call["name"] for call in expected["tool_calls"]]
    for call, wanted in zip(calls, expected["tool_calls"], strict=True):
        if wanted["id"] is not None:
            assert call.id == wanted["id"]
        if how["arguments"] == "exact":
            assert call.arguments == wanted["arguments"]
        else:
            assert json.loads(call.arguments) == json.loads(wanted["arguments"])
    assert [call.position for call in calls_of(events)] == list(range(len(calls_of(events))))


# -- K2: sections ------------------------------------------------------------------------------------------


def section(*calls: str) -> str:
    return BEGIN + "".join(calls) + END


def call(header: str, arguments: str = "{}") -> str:
    return CALL + header + ARGS + arguments + CALL_END


def tool(name: str, **properties: Any) -> Any:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def test_a_section_is_one_event_with_its_raw_text() -> None:
    raw = section(call("functions.f:3", '{"a": 1}'))
    assert run(K2Parser(), ["before " + raw + " after"]) == [
        Text("before "),
        Section(raw, (NativeCall("functions.f:3", "f", '{"a": 1}', True, 0),), complete=True, inside_fence=False),
        Text(" after"),
    ]


def test_plain_text_passes_at_once_and_a_possible_marker_waits() -> None:
    parser = K2Parser()
    assert parser.feed("a > b") == [Text("a > b")]
    assert parser.feed("a <") == [Text("a ")]
    assert parser.feed("|tool_cal") == []
    assert parser.feed(" b") == [Text("<|tool_cal b")]
    assert parser.feed("x < y <=") == [Text("x < y <=")]
    assert parser.feed("") == []
    assert parser.close() == []


def test_a_possible_marker_at_the_end_is_text() -> None:
    parser = K2Parser()
    assert parser.feed("see <|tool_calls_") == [Text("see ")]
    assert parser.close() == [Text("<|tool_calls_")]


def test_a_missing_section_end_still_gives_the_finished_calls() -> None:
    raw = BEGIN + call("functions.f:0") + CALL + "functions.g:1" + ARGS + '{"a": "<|tool_call_e'
    (found,) = sections_of(run(K2Parser(), [raw]))
    assert not found.complete
    assert found.raw == raw
    assert found.calls == (
        NativeCall("functions.f:0", "f", "{}", True, 0),
        NativeCall("functions.g:1", "g", '{"a": "', False, 1),  # the marker cut in two is no part of them
    )


def test_a_call_cut_off_inside_its_id_has_no_name() -> None:
    (found,) = sections_of(run(K2Parser(), [BEGIN + call("functions.f:0") + CALL + "functions.g"]))
    assert [(item.id, item.name, item.complete) for item in found.calls] == [
        ("functions.f:0", "f", True),
        ("functions.g", None, False),
    ]


def test_words_about_a_marker_are_no_call() -> None:
    (found,) = sections_of(run(K2Parser(), ["Look for " + CALL + " in the log."]))
    assert found.calls == ()


def test_a_missing_call_end_is_made_up_by_the_next_marker() -> None:
    (found,) = sections_of(run(K2Parser(), [f"{BEGIN}{CALL}f:0{ARGS}{{}}{CALL}g:1{ARGS}" + '{"a": 1}' + END]))
    assert [(item.name, item.arguments, item.complete) for item in found.calls] == [
        ("f", "{}", True),
        ("g", '{"a": 1}', True),
    ]


def test_a_call_without_arguments_keeps_them_empty() -> None:
    (found,) = sections_of(run(K2Parser(), [f"{BEGIN}{CALL}functions.now:0{CALL_END}{END}"]))
    assert found.calls == (NativeCall("functions.now:0", "now", "", True, 0),)


def test_a_section_that_begins_inside_another_ends_it() -> None:
    mention = BEGIN + " opens a section. "
    real = section(call("functions.f:0"))
    first, second = sections_of(run(K2Parser(), [mention + real]))
    assert (first.raw, first.calls, first.complete) == (mention, (), False)
    assert (second.raw, second.complete, second.calls[0].name) == (real, True, "f")


def test_a_call_without_section_markers_is_a_section_of_its_own() -> None:
    events = run(K2Parser(), [call("functions.f:0") + call("functions.g:1") + "done"])
    assert [(found.complete, [item.name for item in found.calls]) for found in sections_of(events)] == [
        (True, ["f"]),
        (True, ["g"]),
    ]
    assert [item.position for item in calls_of(events)] == [0, 1]
    assert events[-1] == Text("done")


def test_a_marker_that_stands_alone_is_a_section_without_calls() -> None:
    assert run(K2Parser(), ["a" + CALL_END + "b"]) == [
        Text("a"),
        Section(CALL_END, (), complete=True, inside_fence=False),
        Text("b"),
    ]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_section_over_the_limit_is_text_up_to_its_end(size: int) -> None:
    long = section(call("functions.f:0", json.dumps("x" * 500)))
    short = section(call("functions.g:0"))
    reply = long + " then " + short
    parser = K2Parser(hold_limit=200)
    events = run(parser, [reply[start : start + size] for start in range(0, len(reply), size)])
    assert text_of(events) == long + " then "
    assert [item.name for item in calls_of(events)] == ["g"]
    # The limit counts the whole section, its end marker too.
    assert calls_of(run(K2Parser(hold_limit=len(short)), [short]))
    assert text_of(run(K2Parser(hold_limit=len(short) - 1), [short])) == short


def test_a_huge_section_can_come_character_by_character() -> None:
    arguments = json.dumps({"text": "y < x " * 50_000})  # quadratic work would not come to an end here
    events = run(K2Parser(hold_limit=10**6), section(call("functions.f:0", arguments)))
    assert [item.arguments for item in calls_of(events)] == [arguments]


@pytest.mark.parametrize(
    ("before", "inside"),
    [
        ("", False),
        ("```json\n", True),
        ("```json\n{}\n```\n", False),
        ("Inline ```code``` here: ", False),
        ("````md\n```\n", True),  # a shorter run does not close a longer fence
        ("````md\n```\n````\n", False),
        ("a `b` c ``d`` ", False),
    ],
)
def test_code_fences(before: str, inside: bool) -> None:
    for chunks in ([before + section(call("f:0"))], list(before + section(call("f:0")))):
        assert sections_of(run(K2Parser(), chunks))[0].inside_fence is inside


def test_a_fence_counts_across_sections() -> None:
    events = run(K2Parser(), ["```\n", section(call("f:0")), "\n```\n", section(call("g:1"))])
    assert [found.inside_fence for found in sections_of(events)] == [True, False]


# -- K2: ids and names -------------------------------------------------------------------------------------


def name_of(header: str, arguments: str = "{}", tools: Sequence[Any] = ()) -> str | None:
    (found,) = calls_of(run(K2Parser(tools), [section(call(header, arguments))]))
    assert found.id == (header.strip() or None)
    return found.name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("functions.get_weather:0", "get_weather"),
        (" get_weather:12 \n", "get_weather"),
        ("functions.mcp.files-read:7", "mcp.files-read"),
        ("functions.functions.f:0", "functions.f"),
        ("functions.invalid.0", None),
        ("functions.f", None),
        ("call_3", None),
        ("", None),
    ],
)
def test_the_id_tells_the_name(header: str, name: str | None) -> None:
    assert name_of(header) == name


@pytest.mark.parametrize(
    "header", ["functions_get_weather_1", "functions.get_weather", "get_weather", "functions.get_weather.0"]
)
def test_an_id_that_spells_a_declared_name(header: str) -> None:
    assert name_of(header, tools=[tool("get_weather"), tool("search")]) == "get_weather"


def test_a_builtin_whose_name_no_native_id_can_carry() -> None:
    builtin = {"type": "builtin_function", "function": {"name": "$web_search"}}
    assert name_of("functions.$web_search:0", tools=[builtin, tool("f")]) == "$web_search"


def test_an_id_that_fits_two_declared_names_is_no_name() -> None:
    tools = [tool("get", a={"type": "string"}), tool("get_1", b={"type": "string"})]
    assert name_of("functions_get_1", '{"c": 1}', tools) is None


def test_an_id_of_another_function_never_becomes_the_only_tool() -> None:
    assert name_of("functions.remove.0", tools=[tool("search")]) is None
    assert name_of("call_9", tools=[tool("search")]) == "search"


def test_inference_needs_arguments_that_one_schema_alone_accepts() -> None:
    tools = [tool("f", a={"type": "string"}), tool("g", a={"type": "integer"})]
    assert name_of("call_1", '{"a": 1}', tools) == "g"
    assert name_of("call_1", '{"a": null}', tools) is None
    assert name_of("call_1", '["a"]', tools) is None
    assert name_of("call_1", '{"a": 1', tools) is None
    assert name_of("call_1", "[" * 20_000, tools) is None


@pytest.mark.parametrize(
    "parameters",
    [
        {"$ref": "https://example.invalid/schema.json"},
        {"type": "no-such-type"},
        {"type": "object", "properties": {"a": {"pattern": "("}}},
    ],
)
def test_a_schema_that_cannot_be_read_stops_inference(parameters: dict[str, Any]) -> None:
    broken = {"type": "function", "function": {"name": "broken", "parameters": parameters}}
    assert name_of("call_1", '{"a": "1"}', [tool("f", a={"type": "string"}), broken]) is None


def test_no_schema_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[object] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda request, *_: fetched.append(request))
    remote = {"$ref": "https://example.invalid/schema.json"}
    tools = [tool("f"), {"type": "function", "function": {"name": "remote", "parameters": remote}}]
    assert name_of("call_1", '{"a": 1}', tools) is None
    assert fetched == []


def test_references_and_the_draft_of_a_schema_are_no_obstacle() -> None:
    parameters = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"point": {"$ref": "#/$defs/Point"}},
        "$defs": {"Point": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
    }
    draw = {"type": "function", "function": {"name": "draw", "parameters": parameters}}
    assert name_of("call_1", '{"point": {"x": 1}}', [draw, tool("f", a={"type": "string"})]) == "draw"


# -- K2: the writer ----------------------------------------------------------------------------------------


def test_the_writer_writes_the_documented_form() -> None:
    assert write_section([("f", "{}"), ("g", '{"a": 1}')], first=2) == (
        "<|tool_calls_section_begin|>"
        "<|tool_call_begin|>functions.f:2<|tool_call_argument_begin|>{}<|tool_call_end|>"
        '<|tool_call_begin|>functions.g:3<|tool_call_argument_begin|>{"a": 1}<|tool_call_end|>'
        "<|tool_calls_section_end|>"
    )


def test_the_writer_escapes_markers_inside_json() -> None:
    arguments = json.dumps({"code": f"a{CALL_END}b\\{BEGIN}"})
    written = write_section([("f", arguments)])
    (found,) = calls_of(run(K2Parser(), [written]))
    assert json.loads(found.arguments) == json.loads(arguments)


@pytest.mark.parametrize("calls", [[], [("get weather", "{}")], [("", "{}")], [("f", "oops " + CALL_END)]])
def test_the_writer_refuses_what_cannot_be_read_back(calls: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError) as caught:
        write_section(calls)
    assert "oops" not in str(caught.value)


def test_native_ids() -> None:
    assert native_id("get_weather", 4) == "functions.get_weather:4"
    assert split_native_id("functions.get_weather:4") == ("get_weather", 4)
    assert split_native_id("get_weather:4") == ("get_weather", 4)
    assert split_native_id("call_abc") is None
    with pytest.raises(ValueError, match="counts from 0"):
        native_id("f", -1)


# -- <think> -----------------------------------------------------------------------------------------------


def split(text: str, *, inside: bool = False) -> tuple[str, str]:
    events = run(ThinkSplitter(inside=inside), [text])
    assert "".join(event.raw for event in events) == text
    return reasoning_of(events), text_of(events)


def test_think_is_split_off() -> None:
    assert run(ThinkSplitter(), ["<think>a<b", "</think>c"]) == [
        Tag("<think>"),
        Reasoning("a<b"),
        Tag("</think>"),
        Text("c"),
    ]


@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("\n <think>plan</think>\nanswer", "plan", "\n \nanswer"),
        ("<think>never closed", "never closed", ""),
        ("answer\n<think>more</think>", "more", "answer\n"),
        ("<think>a</think><think>b</think>c", "ab", "c"),
        ("the `<think>` tag", "", "the `<think>` tag"),
        ("```\n<think>x</think>\n```", "", "```\n<think>x</think>\n```"),
        ("thought</think>answer", "", "thought</think>answer"),
        ("", "", ""),
    ],
)
def test_where_think_counts(text: str, reasoning: str, content: str) -> None:
    assert split(text) == (reasoning, content)


def test_a_reply_that_starts_inside_reasoning() -> None:
    assert split("plan</think>answer", inside=True) == ("plan", "answer")
    assert split("\n<think>plan</think>answer", inside=True) == ("\nplan", "answer")
    assert split("a <think> b</think>c", inside=True) == ("a <think> b", "c")


@pytest.mark.parametrize("opening", [BEGIN, "<|tool_call_section_begin|>", CALL])
def test_a_tool_call_ends_reasoning(opening: str) -> None:
    assert split("<think>plan" + opening + "x") == ("plan", opening + "x")


def test_a_late_end_tag_after_a_tool_call_is_markup() -> None:
    calls = section(call("f:0", '{"html": "</think>"}'))
    assert split("<think>plan" + calls + "</think>answer") == ("plan", calls + "answer")
    assert split("<think>plan" + call("f:0") + "</think>answer</think>") == (
        "plan",
        call("f:0") + "answer</think>",
    )


def test_tags_inside_a_section_belong_to_it() -> None:
    calls = section(call("f:0", '{"text": "\n<think>x</think>"}'))
    assert split(calls) == ("", calls)


# -- K3 ----------------------------------------------------------------------------------------------------


def k3_call(name: str, *values: tuple[str, str, str]) -> str:
    arguments = "".join(
        f'<|open|>argument key="{key}" type="{kind}"<|sep|>{value}<|close|>argument<|sep|>'
        for key, kind, value in values
    )
    return f'<|open|>call tool="{name}" index="1"<|sep|>{arguments}<|close|>call<|sep|>'


def k3_tools(*calls: str) -> str:
    return "<|open|>tools<|sep|>" + "".join(calls) + "<|close|>tools<|sep|>"


def k3(text: str, **settings: Any) -> list[Event]:
    events = run(K3Parser(**settings), [text])
    assert "".join(event.raw for event in events) == text
    return events


def k3_arguments(*values: tuple[str, str, str]) -> Any:
    (found,) = calls_of(k3(k3_tools(k3_call("f", *values))))
    assert found.complete
    return json.loads(found.arguments)


def test_k3_values_have_their_types() -> None:
    found = k3_arguments(
        ("text", "string", ' New\n"York" '),
        ("n", "number", " 1 "),
        ("o", "object", '{"a": [1]}'),
        ("none", "null", "null"),
        ("wrong", "number", "NaN"),
        ("bad", "boolean", "tru"),
    )
    wanted = {"text": ' New\n"York" ', "n": 1, "o": {"a": [1]}, "none": None, "wrong": "NaN", "bad": "tru"}
    assert found == wanted


def test_k3_attributes_are_unescaped() -> None:
    (found,) = calls_of(k3(k3_tools(k3_call("a&amp;b", ("say &quot;&amp;quot;&quot;", "string", "x < y")))))
    assert found.name == "a&b"
    assert json.loads(found.arguments) == {'say "&quot;"': "x < y"}


def test_k3_markup_inside_a_value_belongs_to_the_value() -> None:
    value = 'tags: <|open|>argument key="k"<|sep|> and <|close|>response<|sep|>'
    assert k3_arguments(("text", "string", value)) == {"text": value}


def test_k3_json_block() -> None:
    raw = k3_tools(
        '<|open|>call tool="f" index="1"<|sep|>'
        '<|open|>json type="object"<|sep|> {"a": 1}<|close|>json<|sep|><|close|>call<|sep|>'
    )
    assert calls_of(k3(raw)) == [NativeCall(None, "f", '{"a": 1}', True, 0)]


def test_k3_a_call_that_was_cut_off_has_no_readable_arguments() -> None:
    raw = "<|open|>tools<|sep|>" + k3_call("f") + k3_call("g", ("a", "number", "1")).rsplit("<|close|>call")[0]
    done, cut = calls_of(k3(raw))
    assert (done.name, done.arguments, done.complete) == ("f", "{}", True)
    assert (cut.name, cut.complete) == ("g", False)
    with pytest.raises(ValueError):
        json.loads(cut.arguments)


def test_k3_a_call_without_the_tools_channel() -> None:
    events = k3("a" + k3_call("f") + "b")
    assert [type(event) for event in events] == [Text, Section, Text]
    assert calls_of(events)[0].name == "f"


def test_k3_channels() -> None:
    reply = (
        "<|open|>think<|sep|>plan <b><|close|>think<|sep|>"
        "<|open|>response<|sep|>answer<|close|>response<|sep|><|close|>message<|sep|><|end_of_msg|>"
    )
    events = k3(reply)
    assert (reasoning_of(events), text_of(events)) == ("plan <b>", "answer")
    forced = k3("plan<|close|>think<|sep|>answer", inside=True)
    assert (reasoning_of(forced), text_of(forced)) == ("plan", "answer")
    unclosed = k3("<|open|>think<|sep|>plan" + k3_tools(k3_call("f")) + "answer")
    assert (reasoning_of(unclosed), text_of(unclosed)) == ("plan", "answer")


def test_k3_unknown_tags_and_loose_markers_are_text() -> None:
    for text in ("<|open|>html<|sep|>x", "a <|open|> b", "<|open|>" + "long " * 200 + "<|open|>x"):
        assert text_of(k3(text)) == text


def test_k3_a_section_over_the_limit_is_text() -> None:
    raw = k3_tools(k3_call("f", ("a", "string", "x" * 500)))
    events = k3(raw + k3_tools(k3_call("g")), hold_limit=200)
    assert text_of(events) == raw
    assert [item.name for item in calls_of(events)] == ["g"]


# -- nothing in a repr -------------------------------------------------------------------------------------


def test_no_event_shows_its_text() -> None:
    reply = "secret" + section(call("functions.f:0", '{"a": "secret"}'))
    assert "secret" not in repr(run(K2Parser(), [reply]) + run(ThinkSplitter(), ["<think>secret"]))
