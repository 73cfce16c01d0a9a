"""F25: `max_completion_tokens` left out can mean 1,024: the answer ends in the middle, and nothing says why.

Moonshot API reference.
"""

from __future__ import annotations

from tests.surfaces import everywhere, exchange, user

MODEL = "kimi-k2-0905-preview"
ASKED = [user("Please repeat: " + "go " * 1_300)]


@everywhere
async def test_cut_without(surface: str, mode: str) -> None:
    off = {"output_budget": "off"}
    answer, (body,) = await exchange(surface, mode, ASKED, script=None, model=MODEL, practices=off)
    assert not {"max_tokens", "max_completion_tokens"} & body.keys()
    assert (answer.finish, answer.usage["completion"]) == ("length", 1_024)


@everywhere
async def test_whole(surface: str, mode: str) -> None:
    answer, (body,) = await exchange(surface, mode, ASKED, script=None, model=MODEL)
    assert body["max_completion_tokens"] > 1_024
    assert answer.finish == "stop"
    assert answer.text.count("go") == 1_300
