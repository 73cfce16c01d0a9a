"""F7: a tool call stands as native text in the content or the reasoning, with `finish_reason: "stop"`.

hermes-agent#24534, vllm#24478, #28543, #31207, llxprt#749, Kimi-K2#89. What must not be recovered: test_injection.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from refrase_integrations.simulator import Reply
from tests.surfaces import everywhere, exchange, tool, user

ASKED = [user("Weather in Paris?")]
CALL = {"tools": [tool("get_weather", city="string")]}
REPLY = Reply("Let me look. ", reasoning="A call.", tool_calls=[("get_weather", {"city": "Paris"})])
LEAKS = [
    pytest.param("openrouter", {"leak_tool_calls": True}, id="content"),
    pytest.param("vllm", {"leak_in_reasoning": True}, id="reasoning"),
    pytest.param("vllm", {"leak_tool_calls": True, "leak_open_section": True}, id="open section"),
    pytest.param("vllm", {"leak_tool_calls": True, "leak_bare_ids": True}, id="bare ids"),
    pytest.param("bedrock-mantle", {"leak_tool_calls": True, "think_in_content": True}, id="behind think"),
]


async def answered(surface: str, mode: str, persona: str, quirks: dict[str, bool], **fields: Any) -> Any:
    fields["model"] = "moonshotai/Kimi-K2-Thinking"
    if persona == "bedrock-mantle":  # the persona of both endpoints of Bedrock
        fields["host"], persona = persona, "bedrock"
    answer, _ = await exchange(
        surface, mode, ASKED, persona=persona, script=[REPLY], quirks=quirks, call=CALL, **fields
    )
    return answer


@everywhere
@pytest.mark.parametrize(("persona", "quirks"), LEAKS)
class TestLeaks:
    async def test_text_without(self, surface: str, mode: str, persona: str, quirks: dict[str, bool]) -> None:
        answer = await answered(surface, mode, persona, quirks, practices={"tool_call_recovery": "off"})
        assert (answer.calls, answer.finish) == ([], "stop")
        assert "<|tool_call_begin|>" in f"{answer.text}{answer.reasoning}"

    async def test_a_call(self, surface: str, mode: str, persona: str, quirks: dict[str, bool]) -> None:
        answer = await answered(surface, mode, persona, quirks)
        assert (answer.calls, answer.finish) == ([("get_weather", {"city": "Paris"})], "tool_calls")
        assert answer.text.strip() == "Let me look."
        assert answer.reasoning == "A call."
