"""F5: a foreign tool-call id in the history: the model copies its form, and the server's parser drops its next call.

vllm#50768, #50782, exo#2281.
"""

from __future__ import annotations

import pytest

from refrase_integrations.simulator import Reply
from tests.surfaces import called, everywhere, exchange, result, tool, user

MODEL = "moonshotai/Kimi-K2-Instruct-0905"
CALL = {"tools": [tool("get_weather", city="string")]}
ASKED = [user("Weather in Paris and Rome?")]
ROME = Reply(tool_calls=[("get_weather", {"city": "Rome"})])
NO_RECOVERY = {"tool_call_recovery": "off"}  # it would mend what this practice prevents


@everywhere
@pytest.mark.parametrize("persona", ["vllm", "sglang"])
@pytest.mark.parametrize("foreign", ["call_abc", "functions_get_weather_1"])
class TestForeign:
    async def test_the_next_call_is_dropped_without(self, surface: str, mode: str, persona: str, foreign: str) -> None:
        history = [*ASKED, called((foreign, "get_weather", {"city": "Paris"})), result(foreign)]
        practices = {**NO_RECOVERY, "tool_ids": "off"}
        answer, _ = await exchange(
            surface, mode, history, persona=persona, script=[ROME], model=MODEL, call=CALL, practices=practices
        )
        assert (answer.calls, foreign in answer.text, answer.finish) == ([], True, "stop")

    async def test_native_on_the_wire(self, surface: str, mode: str, persona: str, foreign: str) -> None:
        history = [*ASKED, called((foreign, "get_weather", {"city": "Paris"})), result(foreign)]
        answer, (body,) = await exchange(
            surface, mode, history, persona=persona, script=[ROME], model=MODEL, call=CALL, practices=NO_RECOVERY
        )
        assert answer.calls == [("get_weather", {"city": "Rome"})]
        made, answered = body["messages"][-2:]
        assert made["tool_calls"][0]["id"] == answered["tool_call_id"] == "functions.get_weather:0"
