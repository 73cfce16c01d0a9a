from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refrase_integrations.kimi.prompt.survival import Loss, losses
from tests.kimi.prompt.prompts import corpus, own

PROMPT = """You are a clerk of Harbor Bank in {city}. Answer within 24 hours, see https://bank.example/faq for the rules.

- Never ask for a PIN or for user_id 000731.
- Use `lookup_card` before anything else; say "One moment, please." while it runs.
- Do not speak of Northgate or of fees above 3.50 EUR.
- Transfers are free within 2 days.
- 不要透露客户的余额。

| a | b |
"""
REWRITE = """You are a clerk of Harbor Bank in {city}. Answer within 24 hours (rules: https://bank.example/faq).

Call `lookup_card` first and say "One moment, please." meanwhile. Never ask for a PIN or for user_id 000731. Do not speak
of Northgate or of fees above 3.50 EUR. Transfers: free within 2 days. 切勿透露客户的余额。
"""
TOOLS = ["lookup_card", "other_tool"]


def kinds(after: str, before: str = PROMPT) -> list[str]:
    return sorted({loss.kind for loss in losses(before, after, tools=TOOLS)})


def test_a_good_rewrite_passes() -> None:
    assert losses(PROMPT, REWRITE, tools=TOOLS) == []


@pytest.mark.parametrize(
    ("cut", "put", "kind"),
    [
        ("{city}", "the city", "placeholder"),
        ("{city}", "{town}", "placeholder"),
        ("24 hours", "a day", "number"),
        ("000731", "731", "number"),
        ("3.50", "3.5", "number"),
        ("Northgate", "competitors", "name"),
        ("Harbor Bank", "the bank", "name"),
        ("user_id", "user id", "name"),
        ("PIN", "code", "name"),
        ("https://bank.example/faq", "the page", "address"),
        ("`lookup_card`", "the tool", "tool"),
        ('"One moment, please."', "something kind", "quotation"),
        ("Never ask", "Ask", "negation"),
        ("Do not speak", "Speak", "negation"),
        ("切勿透露", "可以透露", "negation"),
        ("切勿透露客户的余额。", "", "negation"),
        ("Transfers:", "Transfers up to 900 EUR:", "added"),
        ("Transfers:", "{greeting} Transfers:", "added"),
        ("Transfers:", "Transfers (https://x.example):", "added"),
        ("Transfers:", "Transfers: " + "and so on and so forth, as the case may be, " * 9, "longer"),
    ],
)
def test_each_loss_is_seen(cut: str, put: str, kind: str) -> None:
    assert cut in REWRITE
    assert kind in kinds(REWRITE.replace(cut, put))


@pytest.mark.parametrize("after", ["", " \n"])
def test_nothing_is_no_rewrite(after: str) -> None:
    assert losses(PROMPT, after) == [Loss("empty", "")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1. Be kind.\n2. Be brief.", "- Be kind.\n- Be brief."),
        ("Never guess. Never guess.", "Never guess."),
        ("You must never share the passwords of users.", "Don't share users' passwords."),
        ("Do not use emojis or slang.", "No emojis, no slang."),
        ("# Output Format\nBe brief.", "Be brief."),
        ("You MUST answer in French. IMPORTANT: be kind!", "Answer in French. Be kind."),
        ('```json\n{\n  "a": 1\n}\n```\nBe kind to everybody.', 'Be kind to all.\n```\n{"a": 1}\n```'),
        ("切勿透露密码，也不要透露余额。", "不得透露密码和余额。"),
        ("Use {{ name }} and %(total)d and $PRICE.", "Use {{ name }}, %(total)d, $PRICE."),
    ],
)
def test_other_words_for_the_same_are_no_loss(before: str, after: str) -> None:
    assert losses(before, after) == []


@pytest.mark.parametrize("name", sorted(corpus()))
def test_every_prompt_survives_itself(name: str) -> None:
    text = corpus()[name]
    assert losses(text, text, tools=TOOLS) == []


@pytest.mark.parametrize("name", sorted(own()))
def test_what_a_prompt_forbids_cannot_go_unseen(name: str) -> None:
    text = own()[name]
    said_twice = {"en-translator-rules", "en-tutor-socratic", "en-voice-agent"}
    for word in ("Never ", "Do not ", "不要", "禁止", "不得"):
        if text.count(word) == 1 and name not in said_twice:
            start = text.index(word)
            asked = text[:start] + text[start + len(word) :][:1].upper() + text[start + len(word) + 1 :]
            assert "negation" in kinds(asked, text)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80), st.text(max_size=80), st.lists(st.text(max_size=5), max_size=2))
def test_any_texts_are_compared(before: str, after: str, tools: list[str]) -> None:
    found = losses(before, after, tools=tools)
    assert found == losses(before, after, tools=tools)
    if before.strip():
        assert losses(before, before, tools=tools) == []
