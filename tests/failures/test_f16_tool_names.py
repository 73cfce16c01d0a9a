"""F16: 400 `function name is invalid`, for tools of MCP servers such as `21st_magic_component_builder`.

kimi-cli#1773.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from refrase_integrations.errors import ToolNameRefused
from refrase_integrations.simulator import Reply
from tests.surfaces import everywhere, exchange, failure, tool, user

MODEL = "kimi-k2-0905-preview"
ASKED = [user("Build it.")]
NAMES = ["21st_magic_component_builder", "files.read", "ls", "x" * 80]


@everywhere
@pytest.mark.parametrize("name", NAMES)
async def test_refused_without(surface: str, mode: str, name: str) -> None:
    call, off = {"tools": [tool(name, what="string")]}, {"tool_names": "off"}
    error, _ = await failure(surface, mode, ASKED, ToolNameRefused, model=MODEL, call=call, practices=off)
    assert "function name is invalid, must start with a letter" in error.seen


@everywhere
@pytest.mark.parametrize("name", NAMES)
async def test_an_alias_on_the_wire_and_its_own_name_in_the_app(surface: str, mode: str, name: str) -> None:
    def use(body: dict[str, Any]) -> Reply:
        return Reply(tool_calls=[(body["tools"][0]["function"]["name"], {"what": "a"})])

    call = {"tools": [tool(name, what="string")]}
    answer, (body,) = await exchange(surface, mode, ASKED, script=use, model=MODEL, call=call)
    assert re.fullmatch("[a-zA-Z_][a-zA-Z0-9_-]{2,63}", body["tools"][0]["function"]["name"])
    assert answer.calls == [(name, {"what": "a"})]
