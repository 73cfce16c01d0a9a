"""F21: `<think>...</think>` inside the content.

koog#1436 (Bedrock), Kimi-K3#45.
"""

from __future__ import annotations

from typing import Any

import pytest

from refrase_integrations.simulator import Reply
from tests.surfaces import everywhere, exchange, user

ASKED = [user("Weather in Paris?")]
SCRIPT = [Reply("Sunny.", reasoning="They ask for the weather.")]
HOSTS = [("bedrock", {"host": "bedrock-mantle"}), ("vllm", {})]
TAGS = {"think_in_content": True}


@everywhere
@pytest.mark.parametrize(("persona", "fields"), HOSTS)
class TestTags:
    async def test_text_without(self, surface: str, mode: str, persona: str, fields: dict[str, Any]) -> None:
        off = {"tool_call_recovery": "off"}
        fields = {**fields, "model": "moonshotai/Kimi-K2-Thinking", "script": SCRIPT, "quirks": TAGS}
        answer, _ = await exchange(surface, mode, ASKED, persona=persona, practices=off, **fields)
        assert answer.text == "<think>They ask for the weather.</think>Sunny."
        assert answer.reasoning is None

    async def test_split_into_reasoning(self, surface: str, mode: str, persona: str, fields: dict[str, Any]) -> None:
        fields = {**fields, "model": "moonshotai/Kimi-K2-Thinking", "script": SCRIPT, "quirks": TAGS}
        answer, _ = await exchange(surface, mode, ASKED, persona=persona, **fields)
        assert (answer.text, answer.reasoning) == ("Sunny.", "They ask for the weather.")
        assert answer.said("tool-call-recovery") == [("encode", "<think> in the content: split into reasoning")]
