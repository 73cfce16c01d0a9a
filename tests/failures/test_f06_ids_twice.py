"""F6: the same tool-call id again, in parallel or in a later turn: `tool call id grep:3 is duplicated`.

fireconnect#16, vllm#50295, nanobot#4473.
"""

from __future__ import annotations

from typing import Any

import pytest

from refrase_integrations.errors import HistoryRefused
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.surfaces import Answer, ask, build, everywhere, result, tool, user

MODEL = "kimi-k2-0905-preview"
CALL = {"tools": [tool("list_dir", path="string")]}
PARALLEL = Reply(tool_calls=[("list_dir", {"path": "a"}), ("list_dir", {"path": "b"})])
ONE = Reply(tool_calls=[("list_dir", {"path": "c"})])


async def two_turns(surface: str, mode: str, first: Reply, second: Reply, **fields: Any) -> tuple[list[str], Answer]:
    """Run an agent's two tool turns on a host that uses one id for all; return the ids and the last answer."""
    with KimiSimulator(script=[first, second, Reply("Done.")], quirks={"duplicate_ids": True}) as simulator:
        model = build(surface, simulator, model=MODEL, max_retries=0, **fields)
        conversation: list[Any] = [user("Look around.")]
        ids: list[str] = []
        while True:
            answer = await ask(surface, mode, model, conversation, **CALL)
            conversation += [answer.message, *(result(call_id, f"files {call_id}") for call_id in answer.ids)]
            ids += answer.ids
            if not answer.calls:
                return ids, answer


@everywhere
@pytest.mark.parametrize(("first", "second"), [(PARALLEL, Reply("Done.")), (ONE, ONE)])
class TestOneIdForAll:
    async def test_refused_without(self, surface: str, mode: str, first: Reply, second: Reply) -> None:
        with pytest.raises(HistoryRefused, match=r"tool call id list_dir:0 is duplicated|is not found"):
            await two_turns(surface, mode, first, second, practices={"tool_ids": "off"})

    async def test_unique_in_the_app(self, surface: str, mode: str, first: Reply, second: Reply) -> None:
        ids, answer = await two_turns(surface, mode, first, second)
        assert answer.text == "Done."
        assert len(set(ids)) == 2
