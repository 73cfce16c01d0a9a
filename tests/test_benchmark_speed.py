"""The speed benchmark: its arithmetic, its server, and a run of it. Nothing here is timed."""

from __future__ import annotations

import json
from pathlib import Path

import openai
import pytest

from benchmarks import speed
from benchmarks.server import deltas, serving


def test_figures_are_medians_and_verdicts_compare_them() -> None:
    ticks = iter(range(1000))
    spent = {"ours": [1, 3, 2, 9], "theirs": [8, 8, 8, 8]}  # the first round warms up
    at = [0.0]

    def clock() -> float:
        next(ticks)
        return at[0]

    def contender(name: str) -> speed.Run:
        turns = iter(spent[name])

        def run() -> None:
            at[0] += next(turns)

        return run

    row = speed.Row(
        "x", "s", {name: contender(name) for name in spent}, 1, (("theirs", 0.4), ("absent", 1.0)),
        clock, 1.0, (("theirs", -6),),
    )  # fmt: skip
    result = speed.measure(row, 3)
    assert result.figures == {"ours": 3, "theirs": 8}
    share, more = result.verdicts()
    assert (share, share.met, more, more.met) == (("theirs", 0.4, 0.375, ""), True, ("theirs", -6, -5, "s"), False)
    assert [str(share), str(more)] == ["0.38 of theirs (goal 0.40): met", "-5.0 s over theirs (goal -6): MISSED"]


@pytest.mark.parametrize("kind", ["text", "reasoning", "tools"])
def test_the_server_streams_what_its_address_says(kind: str) -> None:
    with serving() as server:
        client = openai.OpenAI(base_url=f"{server}/{kind}/250/v1", api_key="none", max_retries=0)
        asked = {"model": "m", "messages": [{"role": "user", "content": "Hi."}]}
        chunks = list(client.chat.completions.create(**asked, stream=True))
        assert client.chat.completions.create(**asked).choices[0].message.content == "Yes, it is."
    assert len(chunks) == 252
    assert chunks[-1].usage is not None
    if kind == "tools":
        pieces = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
        for index in (0, 1):
            text = "".join(piece.function.arguments for piece in pieces if piece.index == index)
            assert json.loads(text)["k1"] == 1
    else:
        assert len(deltas(kind, 250)) == 250


def test_a_run_writes_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = tmp_path / "speed.json"
    speed.main(["--here", "--rounds", "1", "--only", "ten models", "--json", str(written)])
    assert "ten models" in capsys.readouterr().out
    [row] = json.loads(written.read_text())["rows"]
    assert row["figures"]["ChatKimi"] > 0
