"""The README is true: its snippets run, its table of practices is the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from refrase_integrations.kimi.catalogue import reload
from refrase_integrations.kimi.practices import ORDER
from refrase_integrations.simulator import KimiSimulator

README = Path(__file__).parents[1] / "README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs_as_it_stands(number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With nothing but the documented variables pointing at the simulator."""
    monkeypatch.chdir(tmp_path)
    with KimiSimulator() as simulator:
        monkeypatch.setenv("MOONSHOT_API_KEY", "sk-test")
        monkeypatch.setenv("MOONSHOT_BASE_URL", simulator.base_url)
        try:
            exec(compile(SNIPPETS[number], f"README.md, snippet {number}", "exec"), {"__name__": "__main__"})
        finally:
            reload()
        assert simulator.refusals == []


def test_the_first_screen_has_eight_lines_that_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = [line for line in SNIPPETS[0].splitlines() if line.strip()]
    assert len(lines) <= 8
    test_a_snippet_runs_as_it_stands(0, monkeypatch, tmp_path)
    assert "2048472" in capsys.readouterr().out.replace(",", "").replace("_", "")


def test_the_table_of_practices_is_the_codes() -> None:
    text = README.read_text("utf-8")
    table = text[text.index("<!-- practices") : text.index("<!-- /practices")]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    wanted = [
        f"| `{practice.id}` | {practice.statement} | {practice.sources[0].address} | {practice.default} |"
        for practice in ORDER
    ]
    assert rows == wanted
