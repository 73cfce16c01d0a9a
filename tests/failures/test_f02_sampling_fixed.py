"""F2: 400 `invalid temperature: only 1 is allowed for this model`; the same for top_p, penalties and n.

inspect_ai#5156, litellm#29687.
"""

from __future__ import annotations

from typing import Any

import pytest

from refrase_integrations.errors import SamplingRefused
from tests.surfaces import everywhere, exchange, failure, user

ASKED = [user("Hello.")]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "invalid temperature: only 1 is allowed for this model": ("temperature", {"temperature": 0.2}),
    "invalid temperature: only 0.6 is allowed for this model": ("temperature", {"temperature": 1.0, "thinking": False}),
    "invalid top_p": ("sampling", {"top_p": 0.5}),
    "invalid presence_penalty": ("sampling", {"presence_penalty": 1.0}),
    "invalid frequency_penalty": ("sampling", {"frequency_penalty": 1.0}),
}


@everywhere
@pytest.mark.parametrize("model", ["kimi-k2.5", "kimi-k2.6"])
@pytest.mark.parametrize("words", CASES)
class TestMoonshot:
    async def test_refused_without(self, surface: str, mode: str, model: str, words: str) -> None:
        practice, fields = CASES[words]
        off = {practice: "off"}
        error, _ = await failure(surface, mode, ASKED, SamplingRefused, model=model, practices=off, **fields)
        assert words in error.seen

    async def test_left_out_and_said(self, surface: str, mode: str, model: str, words: str) -> None:
        practice, fields = CASES[words]
        answer, (body,) = await exchange(surface, mode, ASKED, model=model, **fields)
        assert not (fields.keys() - {"thinking"}) & body.keys()
        assert [action for action, _ in answer.said(practice, "changes")] == ["drop"]


@everywhere
@pytest.mark.parametrize(
    ("model", "value"), [("moonshotai/Kimi-K2-Instruct-0905", 0.6), ("moonshotai/Kimi-K2-Thinking", 1.0)]
)
async def test_the_open_weights_get_their_documented_value(surface: str, mode: str, model: str, value: float) -> None:
    _, (body,) = await exchange(surface, mode, ASKED, persona="vllm", model=model, temperature=0.2)
    assert body["temperature"] == value
    off = {"temperature": "off"}
    _, (body,) = await exchange(surface, mode, ASKED, persona="vllm", model=model, temperature=0.2, practices=off)
    assert body["temperature"] == 0.2
