"""The doctor against every persona of the simulator: each quirk that is on is found, and none that is not."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from refrase_integrations.client.connection import connect
from refrase_integrations.doctor import Examination, examine
from refrase_integrations.simulator import KimiSimulator, known_quirks, load_persona, persona_ids
from refrase_integrations.simulator.quirks import resolve

MODEL = "kimi-k2.6"
ALL_FIELDS = ("reasoning_content", "reasoning", "reasoning_details")
HOST = "generic"


def flag(id: str) -> Callable[[Examination], Any]:
    return lambda seen: seen[id].value


def values(id: str) -> Callable[[Examination], Any]:
    return lambda seen: None if seen[id].value is None else sorted(seen[id].value)


TABLE: dict[str, Callable[[Examination], Any]] = {
    "reasoning_out": values("reasoning-field"),
    "reasoning_fields": values("reasoning-fields"),
    "unknown_fields": flag("foreign-fields"),
    "tool_ids": flag("tool-ids"),
    "thinking_switch": values("thinking-switch"),
    "foreign_id_leak": flag("foreign-ids"),
    "usage_in": values("stream-usage"),
    "cached_in": values("prompt-cache"),
    "output_cap": lambda seen: int(seen["output-default"].value),
    "think_in_content": flag("think-tags"),
    "leak_tool_calls": flag("leaks-in-content"),
    "leak_in_reasoning": flag("leaks-in-reasoning"),
    "leak_open_section": flag("leaks-open"),
    "leak_bare_ids": flag("leaks-bare-ids"),
    "lost_calls": flag("lost-calls"),
    "missing_index": flag("index-missing"),
    "wrong_index": flag("index-wrong"),
    "duplicate_ids": flag("ids-twice"),
    "nested_json_text": flag("arguments-nested"),
    "trailing_comma": flag("arguments-comma"),
    "raw_control_characters": flag("arguments-control"),
    "cut_arguments": flag("arguments-cut"),
    "undeclared_tool": flag("undeclared-calls"),
    "ignore_tool_choice": flag("choice-none"),
    "ignore_json_schema": flag("schema-ignored"),
    "reasoning_only": flag("reasoning-only"),
    "rules.sampling": lambda seen: seen["sampling"].value == "fixed",
    "rules.thinking": flag("two-switches"),
    "rules.tool_choice": lambda seen: seen["tool-choice"].value == ["none", "auto"],
    "rules.schemas": flag("tool-schemas"),
    "rules.names": flag("tool-names"),
    "rules.history": flag("unanswered-calls"),
    "rules.reasoning": flag("reasoning-required"),
    "rules.window": lambda seen: not seen["window"].value,
    "rules.content": flag("blank-turns"),
}
"""From each quirk of the simulator to what the doctor says of it."""
ELSEWHERE = {
    "message_fields": "unknown_fields",  # which fields those are, the one refusal tells
    "prompt_cache": "cached_in",  # without a cache there is no such place
    "documented": "the faults that it turns on",
}
HIDES = {
    "leak_tool_calls": {"tool_ids", "duplicate_ids", "undeclared_tool", "missing_index", "wrong_index", "nested_json_text",
                        "trailing_comma", "raw_control_characters", "cut_arguments"},
    "lost_calls": {"missing_index", "wrong_index"},
    "reasoning_only": {"tool_ids", "duplicate_ids", "undeclared_tool", "missing_index", "wrong_index", "nested_json_text",
                       "trailing_comma", "raw_control_characters", "cut_arguments", "thinking_switch", "ignore_json_schema",
                       "output_cap"},
    "think_in_content": {"reasoning_out"},
    "cut_arguments": {"nested_json_text", "trailing_comma", "raw_control_characters"},
}  # fmt: skip
HIDES["leak_in_reasoning"] = HIDES["leak_tool_calls"]
"""What a fault in every reply leaves nothing to see of: there, and only there, the doctor may say "unknown"."""
NEEDS = {"leak_open_section": {"leak_tool_calls": True}, "leak_bare_ids": {"leak_tool_calls": True}}


def expected(quirks: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in quirks.items() if name in TABLE}
    found = {name: sorted(value) if isinstance(value, tuple) else value for name, value in found.items()}
    found = {name: value > 0 if known_quirks()[name].kind == "chance" else value for name, value in found.items()}
    found["unknown_fields"] = quirks["unknown_fields"] != "ignore"
    found["cached_in"] = found["cached_in"] if quirks["prompt_cache"] else []
    if not found["unknown_fields"]:
        found["reasoning_fields"] = sorted(ALL_FIELDS)  # taken and not read: no reply could tell
    return found


async def observed(persona: str, quirks: dict[str, Any]) -> dict[str, Any]:
    with KimiSimulator(persona, quirks=quirks) as simulator:
        seen = await examine(connect(HOST, simulator.base_url, "sk-test"), MODEL, tries=1)
    return {name: look(seen) for name, look in TABLE.items()}


def compare(persona: str, quirks: dict[str, Any]) -> None:
    wanted = expected(dict(resolve(load_persona(persona).form, quirks)))
    found = asyncio.run(observed(persona, quirks))
    hidden = set().union(
        *(HIDES[name] for name, value in {**load_persona(persona).form, **quirks}.items() if name in HIDES and value)
    )
    unknown = {name for name, value in found.items() if value is None}
    assert unknown <= hidden
    # What a fault hides may also look otherwise than it is: only what it leaves to see counts.
    seen = {name: value for name, value in found.items() if name not in hidden or value == wanted[name]}
    assert seen == {name: value for name, value in wanted.items() if name in seen}
    assert all(name in seen for name in wanted if name not in hidden)


def test_every_quirk_is_in_the_table():
    assert TABLE.keys() | ELSEWHERE.keys() == known_quirks().keys()


@pytest.mark.parametrize("persona", persona_ids())
def test_a_persona_as_it_always_is(persona):
    compare(persona, {})


FAULTS = [(persona, fault) for persona in persona_ids() for fault in load_persona(persona).faults]


@pytest.mark.parametrize(("persona", "fault"), FAULTS)
def test_a_persona_with_each_fault_that_was_reported_of_it(persona, fault):
    compare(persona, {fault: True, **NEEDS.get(fault, {})})


QUIRKS = [
    (name, choice)
    for name, quirk in known_quirks().items()
    if name in TABLE
    for choice in {
        "flag": [not quirk.default],
        "chance": [True],
        "number": [512],
        "one": [choice for choice in quirk.choices if choice != quirk.default],
        "fields": [[choice] for choice in quirk.choices if (choice,) != quirk.default] or [["enable_thinking"]],
    }[quirk.kind]
]


@pytest.mark.parametrize(("quirk", "value"), QUIRKS)
def test_each_quirk_alone_on_a_host_without_any(quirk, value):
    known = {"message_fields": ["role", "content", "name", "tool_calls", "tool_call_id"]}
    together = {
        "cached_in": {"prompt_cache": True},
        "unknown_fields": known,
        "reasoning_fields": {**known, "unknown_fields": "groq"},
    }
    compare("generic", {quirk: value, **NEEDS.get(quirk, {}), **together.get(quirk, {})})


@pytest.mark.slow
@pytest.mark.parametrize("persona", sorted({persona for persona, _ in FAULTS}))
def test_faults_at_the_rates_that_were_reported(persona):
    """By chance, which is the same in every run: seeded by what a request says and how often it came."""
    faults = load_persona(persona).faults
    with KimiSimulator(persona, quirks={"documented": True}) as simulator:
        seen = asyncio.run(examine(connect(HOST, simulator.base_url, "sk-test"), MODEL, tries=20))
    known, form = known_quirks(), load_persona(persona).form
    chances = [name for name in TABLE if known[name].kind == "chance" and name not in form]
    assert {name for name in chances if TABLE[name](seen)} == set(faults)
