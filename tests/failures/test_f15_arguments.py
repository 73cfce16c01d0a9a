"""F15: arguments that are no JSON, or JSON in the wrong form: nested JSON as text, raw control characters, trailing
commas, cut short.

kimi-cli#2406, vllm#41739.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from refrase_integrations.errors import ToolCallMissing
from refrase_integrations.simulator import Reply
from tests.surfaces import everywhere, exchange, failure, tool, user

MODEL = "moonshotai/Kimi-K2-Instruct-0905"
ASKED = [user("Write it down.")]
TODOS = {"type": "array", "items": {"type": "object", "properties": {"text": {"type": "string"}}}}
CALL = {"tools": [tool("write_todos", todos=TODOS)]}
WANTED = ("write_todos", {"todos": [{"text": "milk\nand\tbread"}]})
SOUND = Reply(tool_calls=[WANTED])
CUT = Reply(tool_calls=[("write_todos", '{"todos": [{"text": "milk\\nand')])
OFF = {"tool_schemas": "off"}
MENDED = ["nested_json_text", "trailing_comma", "raw_control_characters"]


@everywhere
@pytest.mark.parametrize("quirk", MENDED)
async def test_unusable_without(surface: str, mode: str, quirk: str) -> None:
    fields: Any = {"script": [SOUND], "quirks": {quirk: True}, "model": MODEL, "call": CALL, "practices": OFF}
    answer, bodies = await exchange(surface, mode, ASKED, persona="vllm", **fields)
    assert len(bodies) == 1
    assert answer.calls != [WANTED]


@everywhere
@pytest.mark.parametrize("quirk", MENDED)
async def test_mended_by_the_schema(surface: str, mode: str, quirk: str) -> None:
    fields: Any = {"script": [SOUND], "quirks": {quirk: True}, "model": MODEL, "call": CALL}
    answer, bodies = await exchange(surface, mode, ASKED, persona="vllm", **fields)
    assert (answer.calls, len(bodies)) == ([WANTED], 1)
    assert [action for action, _ in answer.said("tool-schemas")] == ["encode"]


@everywhere
async def test_cut_short_is_asked_for_again(surface: str, mode: str) -> None:
    """What was cut is not guessed: half a path must not be run."""
    fields: Any = {"persona": "vllm", "script": [CUT, SOUND], "model": MODEL, "call": CALL}
    answer, bodies = await exchange(surface, mode, ASKED, practices=OFF, **fields)
    assert (answer.calls == [WANTED], len(bodies)) == (False, 1)
    answer, bodies = await exchange(surface, mode, ASKED, **fields)
    assert (answer.calls, len(bodies)) == ([WANTED], 2)
    assert "cut short" in bodies[1]["messages"][-1]["content"]


@everywhere
async def test_the_thoughts_of_the_second_try_are_not_told_behind_those_of_the_first(surface: str, mode: str) -> None:
    script = [replace(CUT, reasoning="Milk first."), replace(SOUND, reasoning="Once more.")]
    fields: Any = {"script": script, "model": "kimi-k2-thinking", "call": CALL}
    answer, bodies = await exchange(surface, mode, ASKED, **fields)
    assert (answer.calls, len(bodies), answer.reasoning) == ([WANTED], 2, "Milk first.")
    script = [CUT, replace(SOUND, reasoning="Once more.")]  # the first one had none
    answer, _ = await exchange(surface, mode, ASKED, **{**fields, "script": script})
    assert (answer.calls, answer.reasoning) == ([WANTED], "Once more.")


@everywhere
@pytest.mark.parametrize("again", [Reply(""), Reply("I cannot.")], ids=["nothing", "text"])
async def test_calls_that_do_not_come_again_behind_a_text_are_an_error(surface: str, mode: str, again: Reply) -> None:
    """The text was handed out: without an error the turn would look as if it had ended with it."""
    fields: Any = {"model": MODEL, "call": CALL, "persona": "vllm"}
    script = [replace(CUT, content="One moment."), again]
    error, bodies = await failure(surface, mode, ASKED, ToolCallMissing, script=script, **fields)
    assert (len(bodies), error.practice) == (2, "tool-schemas")
    assert "no call came when they were asked for once more" in str(error)


@everywhere
async def test_what_still_fails_is_an_invalid_call_that_the_model_reads_of(surface: str, mode: str) -> None:
    fields: Any = {"persona": "vllm", "model": MODEL, "call": CALL}
    answer, bodies = await exchange(surface, mode, ASKED, script=[CUT] * 4, **fields)
    ((name, arguments),) = answer.calls
    assert (name, isinstance(arguments, str), len(bodies)) == ("write_todos", True, 2)
    _, (body,) = await exchange(surface, mode, [*ASKED, answer.message, user("Well?")], **fields)
    told = next(message for message in body["messages"] if message["role"] == "tool")
    assert told["content"].startswith("Error: the arguments were cut short")
