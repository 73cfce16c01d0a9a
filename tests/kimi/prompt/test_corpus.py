"""Every prompt of the corpus through lint and compaction: nothing lost, nothing longer, and no finding that is wrong."""

from __future__ import annotations

from statistics import median

import pytest

from refrase_integrations import compact_prompt
from refrase_integrations.kimi.prompt.compact import Removal
from tests.kimi.prompt.comparison import altered, losses
from tests.kimi.prompt.prompts import corpus, own

NAMES = sorted(corpus())


def test_the_corpus_is_large_and_mixed() -> None:
    assert len(NAMES) >= 100
    assert sum(name.startswith("llama_index") for name in NAMES) >= 30
    assert sum(name.startswith("langchain.") for name in NAMES) >= 3
    assert sum(name.startswith("zh-") for name in NAMES) >= 15
    assert len(own()) >= 55


@pytest.mark.parametrize("name", NAMES)
def test_no_rule_number_name_code_or_slot_is_lost(name: str) -> None:
    text = corpus()[name]
    short = compact_prompt(text)
    assert losses(text, short.text) == []
    assert altered(text, short.text) == []


@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_is_the_text_without_the_removed_spans_and_settles(name: str) -> None:
    text = corpus()[name]
    short = compact_prompt(text)
    assert applied(text, short.removed) == short.text
    assert len(short.text) <= len(text)
    assert short.tokens_saved >= 0
    assert compact_prompt(short.text).text == short.text


def applied(text: str, removed: tuple[Removal, ...]) -> str:
    for removal in reversed(removed):
        text = text[: removal.start] + removal.put + text[removal.end :]
    return text


def test_savings_over_the_corpus() -> None:
    shares = {}
    for name, text in corpus().items():
        short = compact_prompt(text)
        shares[name] = short.tokens_saved / short.tokens_before
    assert min(shares.values()) >= 0
    wordy = [
        shares[name] for name in ("en-coding-agent-long", "en-scaffold-repeats", "en-email-writer", "zh-kefu-long")
    ]
    assert median(wordy) > 0.08  # prompts grown by hand
    assert median(shares.values()) < 0.02  # clean ones, such as the frameworks', have nothing to give
