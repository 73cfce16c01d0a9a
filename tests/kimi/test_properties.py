"""What every practice keeps: idempotent, prefix-stable, pure, deterministic; any chunking heals to the same reply."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refrase_integrations.errors import PracticeError, ReplyError
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.practice import Call, Practice
from refrase_integrations.kimi.practices import register_practice, unregister_practice
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.stream import Healer, fold
from refrase_integrations.kimi.tokens import estimate

DIALECTS = [
    compile_dialect(find_model(model), find_host(host, None), thinking, model)
    for model, host, thinking in [
        ("kimi-k2.6", "moonshot", None),
        ("kimi-k2.6", "moonshot", False),
        ("kimi-k2-0905-preview", "moonshot", None),
        ("kimi-k2-thinking", "moonshot", None),
        ("kimi-k3", "moonshot", None),
        ("moonshotai/Kimi-K2-Instruct-0905", "vllm", None),
        ("moonshotai/Kimi-K2-Thinking", "sglang", None),
        ("moonshotai/kimi-k2.6", "openrouter", True),
        ("accounts/fireworks/models/kimi-k2-thinking", "fireworks", None),
        ("some-model", "generic", None),
    ]
]

WORDY = "Never guess.  \n\n\nPlease note that you must never guess!!!"
texts = st.one_of(
    st.sampled_from(
        ["", " ", "Hello.", "你好", "<|im_end|>", "<~|im_end|>", "<think>x</think>", "a\n\nb", "[EOS]", WORDY]
    ),
    st.just("Freshness rule: x\nAnswer length rule: y"),
    st.just("You are Kimi, an AI assistant created by Moonshot AI."),
    st.just(
        "<doc>\nSourcing rule: x\n</doc>\n\nFreshness rule: for anything that may have changed since your training, "
        "call f before you answer."
    ),
    st.text(max_size=20),
)
ids = st.sampled_from(["", "a", "b", "functions.f:0", "functions.f:1", "call_1"])
names = st.sampled_from(["f", "get_weather", "21st_magic", "地图", "$web_search"])
arguments = st.one_of(
    st.sampled_from(["{}", '{"a": 1}', '{"a":1}', "{broken", "", '"text"', '{"t": "<|im_end|>"}']), st.text(max_size=10)
)
parts = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, texts),
    st.just({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}),
)
calls = st.builds(
    lambda id, name, text: {"id": id, "type": "function", "function": {"name": name, "arguments": text}},
    ids, names, arguments,
)  # fmt: skip


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    role = draw(st.sampled_from(["system", "user", "user", "assistant", "assistant", "tool", "tool"]))
    message: dict[str, Any] = {"role": role, "content": draw(texts)}
    if role == "user" and draw(st.booleans()):
        message["content"] = draw(st.lists(parts, max_size=3))
    if role == "assistant":
        if draw(st.booleans()):
            message["tool_calls"] = draw(st.lists(calls, min_size=1, max_size=3))
            message["content"] = draw(st.one_of(st.none(), texts))
        if draw(st.booleans()):
            message[draw(st.sampled_from(["reasoning_content", "reasoning"]))] = draw(texts)
    if role == "tool":
        message["tool_call_id"] = draw(ids)
    if draw(st.integers(0, 9)) == 0:
        message["cache_control"] = {"type": "ephemeral"}
    return message


tools = st.lists(
    st.builds(
        lambda name, schema: {"type": "function", "function": {"name": name, "description": "d", "parameters": schema}},
        st.sampled_from(["f", "get_weather", "21st_magic", "ls"]),
        st.sampled_from(
            [
                {"type": "object", "properties": {}},
                {"type": "object", "properties": {"a": {"type": ["integer", "null"]}}},
                {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"const": 1}}},
            ]
        ),
    ),
    max_size=3,
    unique_by=lambda tool: tool["function"]["name"],
)
extras = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "n": st.integers(1, 9),
        "max_tokens": st.integers(1, 400_000),
        "max_completion_tokens": st.integers(1, 400_000),
        "thinking": st.sampled_from(
            [{"type": "enabled"}, {"type": "disabled"}, {"type": "enabled", "budget_tokens": 9}]
        ),
        "reasoning_effort": st.sampled_from(["low", "high"]),
        "tool_choice": st.sampled_from(["auto", "none", "required", "any"]),
        "response_format": st.sampled_from(
            [
                {"type": "json_object"},
                {"type": "json_schema", "json_schema": {"name": "x y", "schema": {"type": "object", "properties": {}}}},
            ]
        ),
        "stream": st.booleans(),
    },
)
bodies = st.builds(
    lambda history, tool_list, extra: {"model": "m", "messages": history, "tools": tool_list, **extra},
    st.lists(messages(), min_size=1, max_size=8), tools, extras,
)  # fmt: skip
dialects = st.integers(0, len(DIALECTS) - 1)
MODES = [
    Practices(vision="apply"),
    Practices(vision="apply", concise_prompt="apply", prompt_thresholds={"short": 0, "saving": 1}),
    Practices(vision="apply", history="off", loop_guard="apply"),
    Practices(loop_guard="apply", vision="apply", system_prompt="off", grounding="apply", verbosity="apply"),
    Practices(everything="off"),
]
modes = st.integers(0, len(MODES) - 1)


def call_of(body: Any, dialect: int, practices: Practices | None = None, **more: Any) -> Call:
    return Call(
        body=body,
        dialect=DIALECTS[dialect],
        practices=practices or Practices(),
        count=estimate,
        thread_id="t-1",
        **more,
    )


@settings(max_examples=400, deadline=None)
@given(bodies, dialects, modes, st.booleans())
def test_idempotent_pure_and_deterministic(body: Any, dialect: int, mode: int, strict: bool) -> None:
    practices = MODES[mode]
    before = copy.deepcopy(body)
    try:
        once = prepare(call_of(body, dialect, practices, strict=strict)).body
    except PracticeError:
        assert body == before
        return
    assert body == before, "the caller's body was changed"
    assert prepare(call_of(copy.deepcopy(body), dialect, practices, strict=strict)).body == once
    twice = prepare(call_of(copy.deepcopy(once), dialect, practices, strict=strict)).body
    assert twice == once
    json.dumps(once)


@st.composite
def turns(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A conversation as an agent builds it: every call is answered before the next turn."""
    history: list[dict[str, Any]] = []
    if draw(st.booleans()):
        history.append({"role": "system", "content": draw(texts)})
    for _ in range(draw(st.integers(1, 5))):
        history.append({"role": "user", "content": draw(texts)})
        made = draw(st.lists(calls, max_size=3, unique_by=lambda call: call["id"]))
        for _ in range(draw(st.integers(1, 5)) if made else 0):
            history.append({"role": "assistant", "content": draw(texts), "tool_calls": made})
            history.extend({"role": "tool", "tool_call_id": one["id"], "content": draw(texts)} for one in made)
        history.append({"role": "assistant", "content": draw(texts), "reasoning_content": draw(texts)})
    return history


@settings(max_examples=300, deadline=None)
@given(turns(), dialects, tools, st.sampled_from(["apply", "off"]))
def test_the_messages_of_a_turn_are_a_prefix_of_the_next(
    history: Any, dialect: int, tool_list: Any, loop_guard: Any
) -> None:
    # a request is made after each user message and after the last result of each step
    roles = [message["role"] for message in history]
    ends = [n for n, role in enumerate(roles, 1) if role in ("user", "tool") and roles[n : n + 1] != ["tool"]]
    earlier: list[Any] = []
    for end in ends:
        body = {"model": "m", "messages": history[:end], "tools": tool_list}
        try:
            now = prepare(call_of(body, dialect, Practices(loop_guard=loop_guard))).body["messages"]
        except PracticeError:
            continue
        assert now[: len(earlier)] == earlier
        earlier = now


pieces = st.one_of(
    st.sampled_from(
        [
            "Hello ", "<", "<|", "<think>", "</think>", "\n", "```", "<|tool_calls_section_begin|>",
            "<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>", '{"a": 1}', "<|tool_call_end|>",
            "<|tool_calls_section_end|>", "<~|im_end|>",
        ]
    ),
    st.text(max_size=6),
)  # fmt: skip
TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}


@st.composite
def interleaved(draw: st.DrawFn, channels: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Merge channels in any way that keeps the order within each; two pieces may come in one delta."""
    left, merged = [list(channel) for channel in channels if channel], list[dict[str, Any]]()
    while left:
        channel = left[draw(st.integers(0, len(left) - 1))]
        piece = channel.pop(0)
        if merged and not piece.keys() & merged[-1].keys() and draw(st.booleans()):
            merged[-1] = {**merged[-1], **piece}
        else:
            merged.append(piece)
        left = [channel for channel in left if channel]
    return merged


@settings(max_examples=400, deadline=None)
@given(st.lists(pieces, max_size=12), st.text(max_size=8), st.data(), dialects)
def test_any_chunking_of_a_reply_heals_to_the_same(content: list[str], reasoning: str, data: Any, dialect: int) -> None:
    text = "".join(content)
    arguments = '{"a": 2}'
    messages = [{"role": "user", "content": data.draw(st.sampled_from(["Hi.", "What does <|im_end|> mean?"]))}]
    body: Any = {"model": "m", "messages": messages, "tools": [TOOL], "stream": True}
    with_call = data.draw(st.booleans())
    key = data.draw(st.sampled_from(["reasoning_content", "reasoning"]))

    def cut(whole: str) -> list[str]:
        places = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=6)))
        return [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]

    channels: list[list[dict[str, Any]]] = [[{key: p} for p in cut(reasoning)], [{"content": p} for p in cut(text)]]
    call = {"index": 0, "id": "functions.f:0", "type": "function"}
    if with_call:
        first, *rest = cut(arguments)
        head = {"tool_calls": [{**call, "function": {"name": "f", "arguments": first}}]}
        channels.append([head, *({"tool_calls": [{"index": 0, "function": {"arguments": p}}]} for p in rest)])
    # Reasoning in the content has no place of its own beside that of the other channel: then one comes first.
    first_of_all = channels.pop(0) if "<think>" in text else []
    deltas = first_of_all + data.draw(interleaved(channels))
    finish = "tool_calls" if with_call else "stop"
    chunks = [{"id": "r-1", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"id": "r-1", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    message: dict[str, Any] = {"role": "assistant", "content": text, key: reasoning}
    if with_call:
        message["tool_calls"] = [{**call, "function": {"name": "f", "arguments": arguments}}]
    whole = [{"id": "r-1", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}]

    practices = Practices(reasoning_as_answer=data.draw(st.sampled_from(["off", "apply"])))
    assert _healed(body, dialect, chunks, practices) == _healed(body, dialect, whole, practices)


@settings(max_examples=400, deadline=None)
@given(st.lists(pieces, max_size=12), st.lists(pieces, max_size=6), st.data(), dialects)
def test_no_character_is_lost_where_nothing_may_be_recovered(
    content: list[str], reasoning: list[str], data: Any, dialect: int
) -> None:
    """Without tools all markup of calls stays text, whatever the order in which it comes."""
    said, thought = ([p for p in pieces_ if p.strip("<|") and "think" not in p] for pieces_ in (content, reasoning))
    deltas = data.draw(interleaved([[{"reasoning_content": p} for p in thought], [{"content": p} for p in said]]))
    chunks = [{"id": "r-1", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"id": "r-1", "choices": [{"index": 0, "delta": {"content": "."}, "finish_reason": "stop"}]})
    healed = _healed({"model": "m", "messages": [HELLO], "stream": True}, dialect, chunks, Practices())
    assert (healed["content"], healed["reasoning"]) == ("".join(said) + ".", "".join(thought))


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces, max_size=14), st.lists(pieces, max_size=4), st.data(), dialects)
def test_text_that_passes_a_dozing_step_by_is_healed_as_if_it_had_seen_it(
    content: list[str], reasoning: list[str], data: Any, dialect: int
) -> None:
    deltas = data.draw(interleaved([[{"reasoning_content": p} for p in reasoning], [{"content": p} for p in content]]))
    chunks = [{"id": "r-1", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"id": "r-1", "choices": [{"index": 0, "delta": {"content": "."}, "finish_reason": "stop"}]})
    body: Any = {"model": "m", "messages": [HELLO], "tools": [TOOL], "stream": True}
    dozing = _healed(body, dialect, chunks, Practices())
    register_practice(Practice(id="awake", statement="", sources=(), heal=lambda _: Awake()), after="output-budget")
    try:
        assert _healed(body, dialect, chunks, Practices()) == dozing
    finally:
        unregister_practice("awake")


ASKED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a tool": {"tool_choice": "required"},
    "a form": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}},
    "a search": {"tools": [{"type": "builtin_function", "function": {"name": "$web_search"}}]},
}


@settings(max_examples=300, deadline=None)
@given(
    content=st.lists(pieces | st.sampled_from(["{", '"a": 1', "}"]), max_size=8),
    reasoning=st.lists(pieces, max_size=3),
    data=st.data(),
    dialect=dialects,
    asked=st.sampled_from(sorted(ASKED)),
    on=st.lists(st.sampled_from(["loop_guard", "verbosity", "reasoning_as_answer"]), unique=True),
)
def test_whatever_steps_doze_nothing_comes_out_otherwise(  # noqa: PLR0917
    content: list[str], reasoning: list[str], data: Any, dialect: int, asked: str, on: list[str]
) -> None:
    name = "$web_search" if asked == "a search" else "f"
    call = {"index": 0, "id": "c-1", "type": "function", "function": {"name": name, "arguments": "{}"}}
    lists: list[list[Any]] = [[{"reasoning_content": p} for p in reasoning], [{"content": p} for p in content]]
    deltas = data.draw(interleaved([*lists, data.draw(st.sampled_from([[], [{"tool_calls": [call]}]]))]))
    chunks = [{"id": "r-1", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"id": "r-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    body: Any = {"model": "m", "messages": [HELLO], "tools": [TOOL], "stream": True, **ASKED[asked]}
    practices = Practices(**dict.fromkeys(on, "apply"))
    dozing = _came_out(body, dialect, chunks, practices)
    register_practice(Practice(id="awake", statement="", sources=(), heal=lambda _: Awake()), after="output-budget")
    try:
        assert _came_out(body, dialect, chunks, practices) == dozing
    finally:
        unregister_practice("awake")


def _came_out(body: Any, dialect: int, chunks: list[Any], practices: Practices) -> Any:
    """Return every text, in order, and the rest of what was handed out; or the error."""
    try:
        healer = Healer(prepare(call_of(body, dialect, practices)))
        deltas = [delta for chunk in chunks for delta in healer.feed(chunk)] + healer.close()
    except (PracticeError, ReplyError) as error:
        return type(error), str(error)
    again = healer.again and (healer.again.call.asked, healer.again.call.takes, healer.again.body)
    return [{**whole, "extra": None} for whole in fold(deltas)], again


class Awake:
    """Stands before the others, so that the next one is not the first and sees everything."""

    def feed(self, delta: Any) -> Any:
        return [delta]

    def close(self, finish_reason: str | None) -> Any:
        return []


HELLO = {"role": "user", "content": "Hi."}


def _healed(body: Any, dialect: int, chunks: list[Any], practices: Practices) -> Any:
    healer = Healer(prepare(call_of(body, dialect, practices)))
    deltas = [delta for chunk in chunks for delta in healer.feed(chunk)] + healer.close()
    (whole,) = fold(deltas)
    healed = dict(whole)
    healed.pop("extra", None)
    report = healed.pop("report", {})
    again = healer.again and (healer.again.call, healer.again.body)
    return {**healed, "healed": report.get("healed"), "reasoning": healed.get("reasoning") or "", "again": again}


@pytest.mark.parametrize("dialect", range(len(DIALECTS)))
def test_untouched_messages_stay_the_same_objects(dialect: int) -> None:
    history = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}]
    body: Any = {"model": "m", "messages": history}
    prepared = prepare(call_of(body, dialect, Practices(fresh_data="off")))
    assert all(new is old for new, old in zip(prepared.body["messages"], history, strict=True))
