"""The independent comparison sees what is missing; else the corpus test could not fail."""

from __future__ import annotations

import pytest

from tests.kimi.prompt.comparison import SENTENCE, altered, losses
from tests.kimi.prompt.prompts import own

RULES = (
    "Never share `user.id` with Acme. Use at most 3 sentences. 不要透露密码。\n\nGreet {name}, see https://a.example/x."
)
REPEATS = {"en-coding-agent-long": 8, "en-support-bot-shouting": 4}  # sentences that these say more than once


@pytest.mark.parametrize(
    ("cut", "put"),
    [
        ("Never share", "Share"),
        ("`user.id`", "the id"),
        ("Acme", "them"),
        ("3 ", ""),
        ("不要透露密码。", ""),
        ("不要透露", "可以透露"),
        ("{name}", "them"),
        ("https://a.example/x", "the page"),
        ("Use at most 3 sentences. ", ""),
    ],
)
def test_a_loss_is_seen(cut: str, put: str) -> None:
    assert losses(RULES, RULES) == []
    assert losses(RULES, RULES.replace(cut, put)) != []


def test_a_block_that_moved_or_went_is_seen() -> None:
    text = "Do as here:\n```\nx = 1\n```\nand {a}.\n| a | b |\n"
    assert altered(text, text) == []
    for cut in ("x = 1", "{a}", "| a | b |"):
        assert altered(text, text.replace(cut, "")) != []


@pytest.mark.parametrize("name", sorted(own()))
def test_every_single_sentence_that_goes_is_missed(name: str) -> None:
    """Unless another sentence says it: no more than the repeats that the prompt has."""
    text = own()[name]
    unseen = [
        said
        for said in {piece.strip() for piece in SENTENCE.split(text) if len(piece.split()) > 4 or len(piece) > 30}
        if text.count(said) == 1 and losses(text, text.replace(said, "")) == []
    ]
    assert len(unseen) <= REPEATS.get(name, 2), unseen
