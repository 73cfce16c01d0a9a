"""F4: 400 `not a valid moonshot flavored json schema`, for what pydantic and MCP servers write.

kimi-cli#2061, #2531, opencode#27054, logfire#2191.
"""

from __future__ import annotations

from typing import Any

import pytest

from refrase_integrations.errors import SchemaRefused
from refrase_integrations.simulator import Reply
from tests.surfaces import everywhere, exchange, failure, tool, user

MODEL = "kimi-k2.6"
ASKED = [user("Go.")]
ENUM = {"enum": ["a", "b"]}
CASES = {
    "type is not defined": ({"kind": ENUM}, {"kind": "a"}),
    "references must start with #/$defs/": ({"place": {"$ref": "#/properties/other"}, "other": {"type": "string"}}, {"place": "x", "other": "y"}),
    "conflicting keywords found after $ref expansion": ({"place": {"$ref": "#/$defs/Place", "description": "Where."}}, {"place": "x"}),
    "when using anyOf, type should be defined in anyOf items instead of the parent schema": (
        {"size": {"type": "integer", "anyOf": [{"minimum": 1}, {"maximum": -1}]}}, {"size": 3},
    ),
}  # fmt: skip


def tools(properties: dict[str, Any]) -> dict[str, Any]:
    made = tool("run_it")
    made["function"]["parameters"] |= {
        "properties": properties,
        "$defs": {"Place": {"type": "string", "description": "A place."}},
    }
    return {"tools": [made]}


@everywhere
@pytest.mark.parametrize("words", CASES)
async def test_refused_without(surface: str, mode: str, words: str) -> None:
    properties, _ = CASES[words]
    off = {"tool_schemas": "off"}
    error, _ = await failure(surface, mode, ASKED, SchemaRefused, model=MODEL, call=tools(properties), practices=off)
    assert "is not a valid moonshot flavored json schema, details: <At path" in error.seen
    assert words in error.seen


@everywhere
@pytest.mark.parametrize("words", CASES)
async def test_rewritten(surface: str, mode: str, words: str) -> None:
    properties, arguments = CASES[words]
    script = [Reply(reasoning="Hm.", tool_calls=[("run_it", arguments)])]
    answer, bodies = await exchange(surface, mode, ASKED, script=script, model=MODEL, call=tools(properties))
    assert len(bodies) == 1
    assert answer.calls == [("run_it", arguments)]
    assert [action for action, _ in answer.said("tool-schemas", "changes")] == ["encode"]


@everywhere
async def test_arguments_are_judged_by_the_users_own_schema(surface: str, mode: str) -> None:
    """What the host's flavour has no word for still holds."""
    even = tools({"n": {"type": "integer", "multipleOf": 2}})
    script = [Reply(reasoning="Hm.", tool_calls=[("run_it", {"n": number})]) for number in (3, 4)]
    answer, bodies = await exchange(surface, mode, ASKED, script=script, model=MODEL, call=even)
    assert "multipleOf" not in bodies[0]["tools"][0]["function"]["parameters"]["properties"]["n"]
    assert (answer.calls, len(bodies)) == ([("run_it", {"n": 4})], 2)
