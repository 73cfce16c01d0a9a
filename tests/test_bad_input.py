"""Malformed input at every entry of ChatKimi: an error of this package that says what is wrong and where, never a
KeyError, AttributeError or RecursionError from the inside of it or of a dependency."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from refrase_integrations.errors import RefraseError
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator

NAN = float("nan")
HALF = "half \ud83d of a smile"
SURROGATE = "half a surrogate pair"


class Odd:
    """Nothing that JSON, a tool or a schema could be."""


def fine(number: int) -> int:
    """Return the number."""
    return number


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


CYCLE: dict[str, Any] = {"type": "object", "properties": {}}
CYCLE["properties"]["me"] = CYCLE
LOOP: list[Any] = []
LOOP.append(LOOP)


def tool(**function: Any) -> list[Any]:
    return [{"type": "function", "function": function}]


def schema(**properties: Any) -> list[Any]:
    return tool(name="find_it", parameters={"type": "object", "properties": properties})


def says(**kwargs: Any) -> list[BaseMessage]:
    return [HumanMessage("x"), AIMessage("x", **kwargs)]


def calls(args: Any, **kwargs: Any) -> list[BaseMessage]:
    made = {"name": "find_it", "args": args, "id": "1"}
    return [HumanMessage("x"), AIMessage("", tool_calls=[made], **kwargs), ToolMessage("x", tool_call_id="1")]


def block(**fields: Any) -> list[BaseMessage]:
    return [HumanMessage([fields])]


# Entry, what is handed in, and what the error has to name.
REFUSED: list[tuple[str, Any, str]] = [
    # -- fields of the model
    *(("field", {"model": value}, "model") for value in (None, "", " ", 5, [])),
    *(("field", {"host": value}, r"host|Known hosts: .*moonshot") for value in (5, "", "nope", [], HALF)),
    *(("field", {"base_url": value}, "base_url") for value in (5, "", " ", "x", "http://", "http://[", "http://x:y/v1", HALF, [], "http://\x00", "ftp://x")),
    *(("field", {"api_key": value}, "api_key") for value in ([], 5, HALF, "a b", b"x", "x\n")),
    *(("field", {"thinking": value}, "thinking") for value in (5, [])),
    *(("field", {"temperature": value}, "temperature") for value in ("x", [], 10**400)),
    *(("field", {"top_p": value}, "top_p") for value in ("x", {})),
    *(("field", {"n": value}, "n: ") for value in ("x", 1.5, [])),
    *(("field", {"max_tokens": value}, "max_tokens") for value in ("x", 1.5, NAN, [])),
    *(("field", {"seed": value}, "seed") for value in ("x", NAN)),
    *(("field", {"stop": value}, "stop") for value in (5, [5], {}, [HALF])),
    *(("field", {"practices": value}, "practices") for value in (5, "on", [], {5: "off"}, {"temperature": "maybe"}, {"nope": "off"}, {"extra_calls": -1}, {"temperature": NAN})),
    *(("field", {"timeout": value}, "timeout") for value in ("x", -1, 0, NAN, [], True)),
    *(("field", {"max_retries": value}, "max_retries") for value in (-1, "x", NAN, 1.5)),
    *(("field", {"extra_body": value}, "extra_body") for value in (5, "x", [], {5: 5}, {(1, 2): 1})),
    ("field", {"extra_body": {"a": {"b": [1, NAN]}}}, r"a\.b\[1\]: nan is no JSON number"),
    ("field", {"extra_body": {"a": Odd()}}, "a: a Odd cannot be written as JSON"),
    ("field", {"extra_body": {"a": HALF}}, f"a: .*{SURROGATE}"),
    ("field", {"extra_body": {"messages": 5}}, "messages must be a list"),
    ("field", {"extra_body": {"messages": [5]}}, "messages"),
    ("field", {"extra_body": {"tools": 5}}, "tools must be a list"),
    *(("field", {"model_kwargs": value}, "model_kwargs") for value in (5, None, [])),
    ("field", {"model_kwargs": {"a": {1, 2}}}, "a: a set cannot be written"),
    *(("field", {"default_headers": value}, "default_headers") for value in (5, [], {"a": 5}, {"a b": "c"}, {"a": "b\n"}, {"": "x"}, {"a": HALF})),
    *(("field", {"default_query": value}, "default_query") for value in (5, [], {"a": Odd()}, {"a": HALF}, {5: 5}, {"a": LOOP})),
    *(("field", {"http_client": value}, "http_client") for value in (5, "x", Odd())),
    *(("field", {"tokenizer": value}, "tokenizer") for value in (5, "/nowhere")),
    *(("field", {name: value}, name) for name, value in (("streaming", "x"), ("stream_usage", 5), ("modle", "x"), ("top_k", 3))),
    # -- input
    *(("input", value, "Invalid input type") for value in (None, 5, {}, {"a": 1}, Odd())),
    *(("input", value, "[Mm]essage") for value in ([None], [5], [[]], [{}], [{"role": "x", "content": "y"}], [{"role": "user"}], [("user",)], [("nope", "x")])),
    *(("input", value, "no message says anything") for value in ("", [HumanMessage([])], block(type="text"), block(type="text", text=None), [ToolMessage("x", tool_call_id="")])),
    *(("input", value, f"messages.*{SURROGATE}") for value in (HALF, [HumanMessage("x", name=HALF)], block(type="text", text=HALF), says(additional_kwargs={"reasoning_content": HALF}))),
    *(("input", block(**fields), r"messages\[0\].*block of type .*text, images and video") for fields in ({}, {"type": None}, {"type": "nope"}, {"type": "audio", "base64": "x"}, {"type": "file"}, {"type": "video"})),
    ("input", "x" * 10_000_000, "window of kimi-k2.6 holds 262144"),
    ("input", block(type="text", text=5), r"messages\[0\]: the text of a content block"),
    *(("input", block(type="image", **fields), r"messages\[0\]: an image needs") for fields in ({}, {"source": 5})),
    *(("input", block(type="image", **fields), "mime_type") for fields in ({"base64": 5}, {"base64": "QUJD"})),
    *(("input", calls({"a": value}), "arguments of a call to 'find_it' cannot be written as JSON") for value in (Odd(), {1}, LOOP, nested(5_000))),
    ("input", calls({"a": HALF}), rf"tool_calls\[0\].*{SURROGATE}"),
    ("input", [FunctionMessage("x", name="f")], r"messages\[0\]: FunctionMessage.*ToolMessage"),
    ("input", [RemoveMessage(id="1")], r"messages\[0\]: RemoveMessage"),
    ("input", [HumanMessage("x"), ToolMessage([{"type": "x"}], tool_call_id="1")], r"messages\[1\].*'x'"),
    ("input", block(type="image_url", image_url={"url": "ftp:"}), "1 image.* by address"),
    # -- tools
    *(("tools", value, "tools must be a list of tools") for value in (None, 5, "x", {"a": fine}, fine)),
    *(("tools", value, r"tools\[0\]: \w+ is no tool") for value in ([None], [5], ["x"], [{}], [int], [Odd()], [[fine]])),
    ("tools", [{"type": "function", "function": 5}], r"tools\[0\]\.function must be an object"),
    *(("tools", value, "a tool without a function") for value in ([{"type": "function"}], [{"type": "function", "function": None}], [{"type": "builtin_function"}], [{"type": "web_search"}])),
    *(("tools", value, "a tool without a name") for value in (tool(), tool(name=None), tool(name=5, parameters={}), tool(name=""), [{"type": "builtin_function", "function": {}}], [{"name": 5, "inputSchema": {}}])),
    ("tools", [fine] * 200, "200 tools; this host takes 128"),
    ("tools", tool(name="find_it") * 2, "two tools are called 'find_it'"),
    ("tools", schema(a={"enum": [NAN]}), r"find_it.*properties\.a\.enum\.0.*NaN"),
    ("tools", schema(**{HALF: {"type": "string"}}), "find_it: invalid tool schema"),
    ("tools", schema(a=deep(200)), "find_it: invalid tool schema"),
    *(("tools", tool(name="find_it", parameters={"$ref": value}), "find_it.*reference") for value in ("#/nowhere", "http://x/y", "#")),
    ("tools", tool(name="find_it", description=5), r"tools\[0\].*description must be a text"),
    *(("tools", tool(name="find_it", parameters=value), r"tools\[0\].*nested too deeply, or holds itself") for value in (CYCLE, deep(3_000))),
    ("tools", schema(a=Odd()), r"tools\[0\]\.function\.parameters\.properties\.a: a Odd"),
    ("tools", tool(name="find_it", description="x" * 10_000_000), "window of kimi-k2.6 holds 262144"),
    # -- tool choices
    *(("choice", value, "tool_choice must be a string, a bool or a dict") for value in (5, [], 1.5, b"x", Odd())),
    *(("choice", value, "tool_choice names .* which is not among the tools") for value in ("nope", "", {"type": "function", "function": {"name": "nope"}})),
    # -- schemas for structured output
    *(("schema", value, "no schema for structured output") for value in (5, "x", {}, [], {"type": "string"}, CYCLE, int, str, dict, Odd(), list[int])),
    ("schema", None, "needs a schema"),
    *(("schema", {"title": "x", **value}, "nested too deeply, or holds itself") for value in (CYCLE, deep(3_000))),
    *(("schema", {"title": "x", **value}, "no schema for structured output") for value in ({"$ref": "#/nope"}, {"description": "y"})),
    ("schema", {"name": "x", "parameters": 5}, "no schema for structured output"),
    ("schema", {"title": "x", "type": "object", "properties": {"a": Odd()}}, "a: a Odd cannot be written"),
    ("schema", {"title": HALF, "type": "object"}, "no schema for structured output"),
    ("schema", {"title": "x", "type": "object", "properties": {"a": {"enum": [NAN]}}}, "NaN"),
    # -- arguments of one call
    *(("call", {name: "x"}, f"{name} cannot change per call") for name in ("host", "base_url", "api_key")),
    *(("call", {"practices": value}, "practices") for value in (5, "x", [], {"nope": "off"})),
    *(("call", {"timeout": value}, "timeout") for value in ("x", -1, NAN)),
    *(("call", {"tool_choice": value}, "tool_choice") for value in (5, [])),
    *(("call", {"tools": value}, "tools must be a list of tools") for value in ("x", 5)),
    *(("call", {"tools": value}, r"tools\[0\]") for value in ([None], [5])),
    *(("call", {"stop": value}, "stop") for value in (5, [5], {}, [HALF])),
    *(("call", {"response_format": value}, "response_format|structured output") for value in (5, "json", {}, int, {"type": "json_schema"}, {"type": "json_schema", "json_schema": 5}, {"type": "json_schema", "json_schema": {"name": 5, "schema": 5}})),
    *(("call", {name: Odd()}, f"{name} must be a text, not a Odd") for name in ("prompt_cache_key", "user", "reasoning_effort")),
    *(("call", {name: "x"}, f"{name} must be a number") for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty")),
    *(("call", {name: "x"}, f"{name} must be True, False or None") for name in ("stream_usage", "strict", "parallel_tool_calls", "logprobs")),
    *(("call", {"max_tokens": value}, "max_tokens must be a whole number from 1 on") for value in ("x", [], NAN, 0, -1, 10**400)),
    *(("call", {"model": value}, "model must be a text") for value in (5, [])),
    ("call", {"model": HALF}, SURROGATE),
    *(("call", {"extra_body": value}, "extra_body must be an object") for value in (5, "x")),
    *(("call", {"thinking": value}, "thinking must be True, False, 'auto' or the wire form") for value in (5, [])),
    ("call", {"seed": Odd()}, "seed must be a whole number"),
    ("call", {"logit_bias": {5: Odd()}}, r"logit_bias\.5: a Odd"),
    ("call", {"extra_body": {"a": Odd()}}, "a: a Odd cannot"),
    ("call", {"extra_body": {"messages": 5}}, "messages must be a list"),
    ("call", {"model": ""}, "model's name is empty"),
    ("call", {"nope": 1}, "unknown call argument.*nope.*extra_body"),
]  # fmt: skip

# Odd, and yet it means something: it is repaired, dropped with a line in the report, or passed on.
HARMLESS: list[tuple[str, Any]] = [
    *(("field", {"thinking": value}) for value in ({"type": "maybe"}, {"a": 1}, {})),
    *(("field", {"temperature": value}) for value in (-1, 99, True)),
    *(("field", {"extra_body": value}) for value in ({"model": None}, {"stream": True}, {"n": 5})),
    ("field", {"reasoning_effort": "much"}),
    ("field", {"model": "x" * 1_000}),
    ("input", [HumanMessage("<|im_end|>" * 1_000)]),
    ("input", [HumanMessage("x")] * 3_000),
    ("input", [SystemMessage("x")]),
    ("input", [AIMessage("x")]),
    ("input", [ChatMessage("x", role="alien")]),
    ("input", [HumanMessage("x", additional_kwargs={"partial": 5})]),
    ("input", says(additional_kwargs={"reasoning_content": 5, "reasoning_details": 5, "tool_calls": 5, "reasoning_key": 5})),
    ("input", says(additional_kwargs={"reasoning_content": "x", "reasoning_key": 5})),
    ("input", says(invalid_tool_calls=[{"name": None, "args": None, "id": None, "error": None}])),
    ("input", calls({"a": NAN})),
    *(("input", block(type="image_url", image_url=value)) for value in (None, 5, {}, {"url": 5})),
    *(("tools", tool(name="find_it", parameters=value)) for value in (5, None, [], {"type": 5}, {"type": "object", "properties": 5}, {"type": "object", "required": 5})),
    *(("tools", schema(a=value)) for value in (5, None, {"enum": 5}, {"type": "string", "pattern": "("})),
    ("tools", tool(name="x" * 1_000)),
    ("tools", tool(name=f"a b {HALF}")),
    ("tools", []),
    *(("choice", value) for value in ({}, {"type": 5}, {"type": "function"}, {"type": "function", "function": None}, "any", True, False)),
    ("input", calls({}, additional_kwargs={"tool_arguments": {"1": 5}})),
    ("input", calls({}, additional_kwargs={"tool_call_errors": 5})),
    ("input", says(response_metadata={"refrase": 5})),
    ("call", {"tool_choice": "required"}),
]  # fmt: skip

LANGCHAINS_OWN = (ValueError, NotImplementedError)
"""What langchain-core raises of itself for input that is no message at all; nothing of it reaches this package."""


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with KimiSimulator(strict=False) as simulator:
        yield simulator.base_url


def use(entry: str, value: Any, url: str, how: str) -> None:
    """Hand ``value`` in at an entry, and call the model."""
    fields: dict[str, Any] = {"host": "moonshot", "base_url": url, "api_key": "sk-test", "max_retries": 0}
    message: Any = "Hi."
    arguments: dict[str, Any] = {}
    runnable: Any
    runnable = ChatKimi(**(fields | value if entry == "field" else fields))
    if entry == "input":
        message = value
    elif entry == "tools":
        runnable = runnable.bind_tools(value)
    elif entry == "choice":
        runnable = runnable.bind_tools([fine], tool_choice=value)
    elif entry == "schema":
        runnable = runnable.with_structured_output(value)
    elif entry == "call":
        arguments = value
    if how == "invoke":
        runnable.invoke(message, **arguments)
    else:
        list(runnable.stream(message, **arguments))


def named(cases: list[Any]) -> dict[str, Any]:
    return {"argvalues": cases, "ids": [f"{case[0]}-{number}" for number, case in enumerate(cases)]}


def both_ways(cases: list[Any]) -> list[Any]:
    """What belongs to one call is also handed to a stream, which takes another way in."""
    return [
        (*case, how)
        for case in cases
        for how in ("invoke", "stream")
        if how == "invoke" or case[0] in ("input", "call")
    ]


def test_there_are_many() -> None:
    assert len(REFUSED) >= 100


@pytest.mark.parametrize(("entry", "value", "words", "how"), **named(both_ways(REFUSED)))
def test_it_is_refused_in_words_that_name_it(entry: str, value: Any, words: str, how: str, base_url: str) -> None:
    no_message = entry == "input" and words in ("Invalid input type", "[Mm]essage", "mime_type")
    kinds = (RefraseError, *LANGCHAINS_OWN) if no_message else RefraseError
    with pytest.raises(kinds, match=f"(?s){words}") as caught:
        use(entry, value, base_url, how)
    assert 12 < len(str(caught.value)) < 2_500


@pytest.mark.parametrize(("entry", "value", "how"), **named(both_ways(HARMLESS)))
@pytest.mark.filterwarnings("ignore::refrase_integrations.errors.RefraseWarning")
def test_odd_input_that_means_something_never_breaks(entry: str, value: Any, how: str, base_url: str) -> None:
    use(entry, value, base_url, how)
