"""Announced actions: precision and recall on labelled texts, English and Chinese; a part of them is held out."""

from __future__ import annotations

from pathlib import Path

import pytest

from refrase_integrations.kimi.announcements import announced, is_nudge, nudge

ROWS = [line.split("\t") for line in Path(__file__).with_name("announcements.tsv").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("part", ["fit", "held"])
def test_answers_are_not_taken_for_announcements_and_most_announcements_are_found(part: str, language: str) -> None:
    texts = [
        (label == "yes", text.replace("\\n", "\n")) for which, label, said, text in ROWS if (which, said) == (part, language)
    ]  # fmt: skip
    assert [text for wanted, text in texts if not wanted and announced(text) is not None] == []
    missed = [text for wanted, text in texts if wanted and announced(text) != language]
    assert len(missed) <= 0.15 * sum(wanted for wanted, _ in texts), missed


@pytest.mark.parametrize(
    "text", ["", "  \n", "```", "```python\nx = 1", "?", "：：", "\u2028", "a" * 100_000, "let me " * 9_999]
)
def test_odd_texts_are_no_announcements(text: str) -> None:
    assert announced(text) in (None, "zh" if "：" in text else None)


def test_only_the_last_sentence_counts() -> None:
    assert announced("Let me check the weather. It is sunny.") is None
    assert announced("It was sunny yesterday. Let me check the weather.") == "en"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_nudge_is_recognised_and_is_no_announcement(language: str) -> None:
    line = nudge(language)  # type: ignore[arg-type]
    assert is_nudge(line)
    assert announced(line) is None
    assert not is_nudge(line + " ")
