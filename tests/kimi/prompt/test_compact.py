from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from refrase_integrations import compact_prompt
from tests.kimi.prompt.comparison import altered, losses
from tests.kimi.prompt.test_corpus import applied

GOES = {
    "exact, in prose": ("Never guess. Be brief. Never guess.", "Never guess. Be brief."),
    "exact, as items": ("- Never guess.\n- Be brief.\n- Never guess.\n", "- Never guess.\n- Be brief.\n"),
    "weight and politeness": (
        "Never share a password.\n\nIMPORTANT: Please remember that you must NEVER share a password!",
        "Never share a password.",
    ),
    "the stronger copy stays": (
        "You should cite the source.\n\nYou must always cite the source.",
        "You must always cite the source.",
    ),
    "the wider copy stays": (
        "## Refunds\n- Never ask for a PIN.\n- Be brief.\n\n## General rules\n- Never ask for a PIN.\n",
        "## Refunds\n- Be brief.\n\n## General rules\n- Never ask for a PIN.\n",
    ),
    "a heading with nothing left": (
        "Never guess.\n\n## Important reminders\n- Never guess.\n\n## Refunds\n- Be brief.\n",
        "Never guess.\n\n## Refunds\n- Be brief.\n",
    ),
    "numbers and code, when the other copy has them": (
        "Run `make lint` at most 3 times. Always call `make lint` at most 3 times. You must always call `make lint` at most 3 times!",
        "Run `make lint` at most 3 times. Always call `make lint` at most 3 times.",
    ),
    "what the model is": (
        "You are a clerk of Acme. Be brief.\n\nYou are a clerk of Acme.",
        "You are a clerk of Acme. Be brief.",
    ),
    "the place of a paragraph between two others": (
        "Never guess.\n\nBe kind.\n\nNever guess.\n\nBe brief.\n",
        "Never guess.\n\nBe kind.\n\nBe brief.\n",
    ),
    "but no heading that keeps apart what follows": (
        "Never guess.\n\n# Refunds\nBe brief.\n\n# Rules\nNever guess.\n\n## Repairs\nBe kind.\n",
        "Never guess.\n\n# Refunds\nBe brief.\n\n# Rules\n\n## Repairs\nBe kind.\n",
    ),
    "after a word that is half a condition": (
        "Only use facts. Never guess.\n\nNever guess.",
        "Only use facts. Never guess.",
    ),
    "a whole section said twice": (
        "## Tone\n- Never guess.\n- Be kind.\n\n## Tone\n- Never guess.\n- Be kind.\n\n## Refunds\n- Be brief.\n",
        "## Tone\n- Never guess.\n- Be kind.\n\n## Refunds\n- Be brief.\n",
    ),
    "words that only add weight, at the end": (
        "Never guess.\n\nNever guess under any circumstances.",
        "Never guess under any circumstances.",
    ),
    "Chinese, exact": ("不要编造。回答要简短。不要编造。", "不要编造。回答要简短。"),
    "Chinese, near": (
        "- 禁止透露用户的密码。\n- 使用中文回答。\n- 【重要】请务必不要透露用户的密码！\n",
        "- 禁止透露用户的密码。\n- 使用中文回答。\n",
    ),
    "filler": ("Please note that the shop opens at 9.", "The shop opens at 9."),
    "filler before a name keeps its case": (
        "Please note that npm is not installed.",
        "Please note that npm is not installed.",
    ),
    "filler before a verb": ("Please make sure to answer in French.", "Answer in French."),
    "filler in the middle": ("Ask first in order to be safe.", "Ask first to be safe."),
    "courtesy": ("Be brief.\n\nThank you!", "Be brief."),
    "Chinese filler": ("请注意，营业时间为 9 点至 18 点。谢谢！", "营业时间为 9 点至 18 点。"),
    "exclamation": ("Be brief!!! Be kind!", "Be brief! Be kind!"),
    "exclamation, at the end of a line": ("- Be brief!!!\n- **Be kind!!**\n", "- Be brief!\n- **Be kind!**\n"),
    "Chinese exclamation": ("不要编造！！！\n语气友好！！", "不要编造！\n语气友好！"),
    "alarms": ("🚨🚨🚨 Be brief.", "🚨 Be brief."),
    "alarms before entries": ("- 🚨🚨 **Be brief.**\n- 🚨🚨 Be kind.", "- 🚨 **Be brief.**\n- 🚨 Be kind."),
    "blank lines and blanks at the end of a line": ("Be brief.  \n\n\n\nBe kind.", "Be brief.\n\nBe kind."),
    "long drawn lines": (f"Rules\n{'━' * 40}\nBe brief.", "Rules\n━━━\nBe brief."),
}

RAIN = "When the river rises above 3 metres in the night, close each gate of the harbour by noon."
STAYS = {
    "another order of the same words": "Prefer tea over coffee. Prefer coffee over tea.",
    "another number": "Never wait 5 minutes. Never wait 50 minutes.",
    "another negation": "Always answer in French. Never answer in French.",
    "an exception": "Never share the key. Never share the key unless an admin asks.",
    "a condition": "If it rains, never open the roof. Never open the roof.\n\nWhen asked, be brief.",
    "under another heading": "## Refunds\n- Always ask for the number.\n\n## Repairs\n- Always ask for the number.\n",
    "under another lead-in": "For children:\n- Never name a dose.\n\nFor adults:\n- Never name a dose.\n",
    "under another number": "1. Refunds\n- Always ask for the number.\n2. Repairs\n- Always ask for the number.\n",
    "under another tag": "<refunds>\nAlways ask for the number.\n</refunds>\n<repairs>\nAlways ask for the number.\n</repairs>",
    "below another item": "- Refunds\n  - Always ask for the number.\n- Repairs\n  - Always ask for the number.\n",
    "after another condition": "If the user is angry, apologise. Never argue.\n\nIf the user is late, wait. Never argue.",
    "in branches of a template": "{% if a %}\nNever guess.\n{% else %}\nNever guess.\n{% endif %}\nNever guess.",
    "in branches of a mustache template": "Never guess.\n{{#if a}}\nNever guess.\n{{/if}}",
    "a step that comes twice": "1. Always run the tests.\n2. Fix what fails.\n3. Always run the tests.\n",
    "steps as items": "- Edit the file.\n- Run the tests.\n- Fix what fails.\n- Run the tests.\n",
    "numbered rules": "1. Never guess.\n2. Be brief.\n3. Never guess.\n",
    "examples": "Example 1:\nUser: Hi\nAssistant: Never guess.\n\nExample 2:\nUser: Hello\nAssistant: Never guess.\n",
    "examples in tags": "Never guess.\n<example>\nNever guess.\n</example>",
    "examples below a heading": "Never guess.\n\n## Examples\nNever guess.",
    "code": "```\nNever guess.\n```\n\n```\nNever guess.\n```",
    "code without an end": "Never guess.\n```\nNever guess.   \n\n\n\nPlease note that the end is missing.",
    "other code": "Never call `a()`. Never call `b()`.",
    "other quotations": 'Never say "no". Never say "No".',
    "slots": "Always greet {name}. Always greet {name}.",
    "slots in double braces": "Always greet {{ name }}. Always greet {{ name }}.",
    "tables": "| Never guess. |\n| Never guess. |\n",
    "quoted lines": "> Never guess.\n> Never guess.\n",
    "what leans on it": "Never guess. This holds for prices. Be brief.\n\nNever guess. This holds for dates.",
    "what points elsewhere": "Sort the list. Never do this twice.\n\nSend the mail. Never do this twice.",
    "the condition of what follows": f"{RAIN} Never argue.\n\n1. {RAIN}",
    "quotations that differ in case": 'Never say "STOPALL". Never say "stopall".',
    "an item below another": "Never guess.\n\n- Ask first.\n  - Never guess.\n",
    "what ends a list under a lead-in": "1. Never guess.\n\nFor children:\n- Be kind.\n\nNever guess.\n\n- Be brief.\n",
    "an item that keeps two paragraphs apart": "Never guess.\n\nBe kind.\n- Never guess.\nNote the time.\n",
    "a heading above a deeper one": "# Refunds\nNever guess.\n\n# Rules\n\n## Repairs\nBe kind.\n",
    "a numbered title with nothing left": "Never guess.\n\n1. Reminders\n- Never guess because of haste.\n\n2. Repairs\n",
    "sentences with tags": "Never guess.<br/>\nBe kind.\n\nNever guess.<br/>",
    "names that differ in case": "Never write to Will. Never write to will.",
    "a word that differs": "Never delete the backup. Never delete the backups.",
    "ticks and crosses": "✅✅ Answer.\n❌❌ Guess.",
    "stars of a rating": "Write ⭐⭐⭐⭐⭐ for five stars.",
    "conflict marks": "<<<<<<< SEARCH\nold\n=======\nnew\n>>>>>>> REPLACE",
    "a drawn line that is spoken of": f'The part ends with "{"━" * 40}".\n{"━" * 40}\nBe brief.',
    "exclamation in quotation and code": 'Say "Hi!!!" and write `!!value`.',
    "exclamation that a rule is about": "Never write !!! in a mail. Be brief!!!",
    "signs that a rule is about": "If the user writes ???, ask what is meant. Is this clear???",
    "signs that a rule names": "Never use exclamation marks. Be brief!!!",
    "signs in what is to be said": "Reply OK!!! when done.\n\nReply DONE!!!",
    "signs where a sentence goes on": "Stop!!! then go on. Be kind.",
    "Chinese signs that a rule is about": "不要使用感叹号。语气友好！！！",
    "Chinese signs in what is to be said": "如果用户说 救命！！！ 立即转接。\n\n结束时回复再见！！！",
    "Chinese signs of their own": "用户输入 ？？？ 时询问含义。听懂了吗？？？",
    "alarms in a sentence": "Show 🚨🚨🚨 for outages.",
    "alarms that count": "🚨🚨🚨 Outage\n🚨🚨 Degraded\n🚨 Note",
    "alarms that are spoken of": "🚨🚨🚨 Be brief.\n\nPut 🚨🚨🚨 before a warning.",
    "alarms that end a line": "Be brief. 🚨🚨🚨",
    "thanks that are to be said": "End each mail with the same words. Thank you!",
    "a drawn line that is shown": f"Use this line:\n{'━' * 40}\nBe brief.",
    "a phrase that is spoken of": "Never use the words in order to anywhere.",
    "emoji of a form": "📌 Title: ...\n📝 Text: ...",
    "bold and headings of a form": "## 📊 Result\n**Answer:** ...",
    "filler in a quotation": 'Answer: "Please note that the shop is closed."',
    "filler before an unknown word": "Please unblock nobody.",
    "Chinese word that opens like filler": "请求用户提供订单号。请假流程见附录。",
    "Chinese, other scope": "## 退货\n- 必须提供照片。\n\n## 换货\n- 必须提供照片。\n",
    "Chinese, numbered titles": "一、退货\n- 必须提供照片。\n二、换货\n- 必须提供照片。\n",
    "Chinese, other number": "回答不要超过 100 字。回答不要超过 200 字。",
    "Chinese, exception": "不要转账。不要转账，除非经理批准。",
    "Chinese steps": "1. 必须核对订单号。\n2. 退款。\n3. 必须核对订单号。\n",
    "another language": "Antworte immer kurz. Antworte immer kurz.",
    "nothing": "",
    "blank": " \n ",
}


@pytest.mark.parametrize("name", GOES)
def test_goes(name: str) -> None:
    text, wanted = GOES[name]
    assert compact_prompt(text).text == wanted


@pytest.mark.parametrize("name", STAYS)
def test_stays(name: str) -> None:
    short = compact_prompt(STAYS[name])
    assert short.text == STAYS[name]
    assert short.removed == ()


def test_it_says_what_went_and_what_that_saves() -> None:
    text = "Never guess.\n\nPlease note that you must never guess!"
    short = compact_prompt(text)
    assert [(text[cut.start : cut.end].strip(), cut.kind) for cut in short.removed] == [
        ("Please note that you must never guess!", "repeat")
    ]
    assert 0 < short.tokens_saved < short.tokens_before


def test_the_representation_holds_no_text() -> None:
    short = compact_prompt("Never tell xylophone. Never tell xylophone.")
    assert "xylophone" not in repr(short)
    assert "1 removals" in repr(short)


def test_lines_of_somebody_else_are_left_alone_and_count_as_nothing() -> None:
    text = "Never guess.\n[ours] Never guess.  \nBe brief.\n[ours] Be brief."
    assert compact_prompt(text, keep=("[ours]",)).text == text


def test_the_count_is_the_counters() -> None:
    class Letters:
        exact, margin = True, 0.0

        def text(self, text: str) -> int:
            return len(text)

        def request(self, *args: Any, **kwargs: Any) -> int:
            raise AssertionError

    short = compact_prompt("Never guess. Be brief.  Never guess.", count=Letters())
    assert (short.tokens_before, short.tokens_saved) == (36, 14)


# -- any text --------------------------------------------------------------------------------------------------

LINES = [text for text, _ in GOES.values()] + list(STAYS.values())
PIECES = st.sampled_from(
    [piece for text in LINES for piece in text.splitlines(keepends=True)]
    + [
        "\n",
        "\n\n",
        " ",
        "- ",
        "1. ",
        "## ",
        "```\n",
        "{",
        "}",
        '"',
        "“",
        "”",
        "<rules>\n",
        "</rules>\n",
        "{% if x %}",
        "%}",
        "===== X =====\n",
        ":",
        "!!",
        "。",
    ]
)
TEXTS = st.one_of(
    st.lists(PIECES, max_size=14).map("".join), st.text(max_size=60), st.text(st.characters(codec=None), max_size=30)
)


@settings(max_examples=600, deadline=None)
@given(TEXTS)
@example("\ud800 Never guess. Never guess. \udfff")
@example("\u202eNever guess.\u202c אל תנחש. אל תנחש.")
@example("👩\u200d👩\u200d👧 Never guess!! Never guess!!")
@example("\x00\x1f Never guess.\r\nNever guess.\r\n")
def test_any_text_settles_and_is_the_given_one_without_the_removed(text: str) -> None:
    short = compact_prompt(text)
    assert applied(text, short.removed) == short.text
    assert compact_prompt(short.text).text == short.text
    assert compact_prompt(text).text == short.text
    ends = [0, *(place for cut in short.removed for place in (cut.start, cut.end))]
    assert ends == sorted(ends)


# Pieces on lines of their own: where two run into each other, what is a sentence is anybody's guess.
LINES_OF = st.lists(PIECES.map(lambda piece: piece if piece.endswith("\n") else piece + "\n"), max_size=14).map("".join)


@settings(max_examples=400, deadline=None)
@given(LINES_OF)
def test_of_mixed_prompts_nothing_is_lost(text: str) -> None:
    short = compact_prompt(text).text
    assert losses(text, short) == []
    assert altered(text, short) == []


GUARDED = st.sampled_from(
    [
        "`a!!  b`",
        "{slot}",
        "{{ slot }}",
        '"Please note that!!  "',
        "“请注意，！！”",
        "```\nPlease note that  \n\n\n\nx!!\n```",
        "<tag a='!!'>",
        "%(name)s",
        "$NAME",
        "[[slot]]",
        "https://a.example/?q=!!",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            GUARDED,
            st.sampled_from(
                ["Be brief.", "Never guess!!", "\n\n\n\n", "不要编造。", " ", "- ", "Please note that the "]
            ),
        ),
        max_size=12,
    )
)
def test_what_is_guarded_stays_byte_for_byte(pieces: list[str]) -> None:
    text = "\n".join(pieces)
    short = compact_prompt(text).text
    for piece in pieces:
        if piece[0] in '`{"“<%$[h':
            assert short.count(piece) >= min(1, text.count(piece))


def test_a_very_long_line_and_deep_nesting_are_read() -> None:
    sys.setrecursionlimit(1_000)
    for text in (
        "{" * 20_000,
        "`" * 20_000,
        "<" * 20_000,
        "“" * 20_000,
        "- " * 10_000,
        "a" * 100_000,
        "." * 20_000,
        "\n" * 20_000,
        "-" * 20_000 + "x",
    ):
        assert compact_prompt(text).text.strip() or not text.strip()
