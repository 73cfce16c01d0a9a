"""The docstring of ChatKimi is its manual: every snippet in it runs, in order, against the strict simulator."""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any

import pytest

from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator

MANUAL = inspect.getdoc(ChatKimi) or ""
SECTIONS = (
    "Instantiate", "Invoke", "Stream", "Async", "Per call", "Tools", "Agent", "Live data", "Structured output", "Reasoning",
    "Budget and limits", "Images", "Errors", "Serialization",
)  # fmt: skip


def snippets() -> list[tuple[str, str]]:
    """Return the section and the code of every python block."""
    found = list[tuple[str, str]]()
    for match in re.finditer(r"^(\S[^\n]*):\n(.*?)(?=^\S|\Z)", MANUAL, re.MULTILINE | re.DOTALL):
        blocks = re.findall(r"```python\n(.*?)```", match[2], re.DOTALL)
        found.extend((match[1], inspect.cleandoc("\n" + block)) for block in blocks)
    return found


async def test_every_snippet_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "manual"}
    with KimiSimulator() as simulator:
        monkeypatch.setenv("MOONSHOT_API_KEY", "sk-test")
        monkeypatch.setenv("MOONSHOT_BASE_URL", simulator.base_url)
        for section, code in snippets():
            before = len(simulator.requests)
            compiled = compile(code, f"ChatKimi manual: {section}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            made = eval(compiled, names)
            if made is not None:
                await made
            asked = len(simulator.requests) > before
            assert asked is (section not in ("Instantiate", "Errors", "Serialization")), section
        assert simulator.refusals == []
    assert [section for section, _ in snippets()] == list(SECTIONS)
    assert names["reply"].response_metadata["refrase"]["changes"]
    assert capsys.readouterr().out.strip()


def test_the_manual_names_every_key_argument_as_the_fields_do() -> None:
    listed = re.search(r"^Key arguments:\n(.*?)(?=^\S)", MANUAL, re.MULTILINE | re.DOTALL)
    assert listed is not None
    names = re.findall(r"^    (\w+): ", listed[1], re.MULTILINE)
    assert len(names) >= 10
    assert set(names) <= set(ChatKimi.model_fields)
