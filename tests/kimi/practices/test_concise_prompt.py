from __future__ import annotations

from typing import Any

import pytest
from inline_snapshot import snapshot
from llama_index.core.agent.react.formatter import ReActChatFormatter
from llama_index.core.chat_engine import condense_plus_context, context
from llama_index.core.prompts import default_prompts
from llama_index.core.tools import FunctionTool

from refrase_integrations.errors import PracticeError
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.lines import own_line
from refrase_integrations.kimi.practice import Call
from refrase_integrations.kimi.practices import concise_prompt
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.prompt.thresholds import PromptThresholds
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.tokens import estimate
from tests.conversations import MODES, OPENAPI, exchange, sent, violations_of_openapi
from tests.kimi.prompt.prompts import own

INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"
WORDY = """You are the assistant of Harbor Bank.

- Never ask for a PIN, a TAN or a full card number.
- Do not give advice on investments.
- Always mention the 24-hour hotline 0800 555 0199 when a card is lost.

Please note that your customers live all over Europe; transfers above 10,000 EUR need a second approval. Within the SEPA area a transfer takes one business
day, outside of it up to five. The branch in the old harbour is open from Monday to Friday, the one at the station on
Saturday too. Cards are sent by mail and arrive within a week.

Important reminders:
- You must NEVER ask for a PIN, a TAN or a full card number!!!
- Please do not give advice on investments."""
SHORT = """You are the assistant of Harbor Bank.

- Never ask for a PIN, a TAN or a full card number.
- Do not give advice on investments.
- Always mention the 24-hour hotline 0800 555 0199 when a card is lost.

Your customers live all over Europe; transfers above 10,000 EUR need a second approval. Within the SEPA area a transfer takes one business
day, outside of it up to five. The branch in the old harbour is open from Monday to Friday, the one at the station on
Saturday too. Cards are sent by mail and arrive within a week."""
ASKED = ("user", "Never guess. Never guess. Please note that I lost my card!!!")
CONVERSATION = [("system", WORDY), ASKED]


def call(*messages: Any, dialect: str = "kimi-k2.6", host: str = "moonshot", **settings: Any) -> Call:
    body: Any = {"model": "m", "messages": [{"role": role, "content": content} for role, content in messages]}
    if "tools" in settings:
        body["tools"] = settings.pop("tools")
    compiled = compile_dialect(find_model(dialect), find_host(host, None), None, dialect)
    practices = Practices.of({"fresh_data": "off", **settings})
    return Call(body=body, dialect=compiled, practices=practices, count=estimate, scope="messages")


def advice(*messages: Any, **settings: Any) -> list[str]:
    """What the practice says of messages, without any other practice."""
    one = call(*messages, **settings)
    return [change.detail for change in concise_prompt.apply(one.body, one).changes]


@pytest.mark.parametrize("mode", MODES)
class TestBodies:
    async def test_moonshot(self, mode: str) -> None:
        body = await sent(
            mode, CONVERSATION, model="kimi-k2.6", practices={"concise_prompt": "apply", "fresh_data": "off"}
        )
        assert body == snapshot(
            {
                "model": "kimi-k2.6",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are the assistant of Harbor Bank.

- Never ask for a PIN, a TAN or a full card number.
- Do not give advice on investments.
- Always mention the 24-hour hotline 0800 555 0199 when a card is lost.

Your customers live all over Europe; transfers above 10,000 EUR need a second approval. Within the SEPA area a transfer takes one business
day, outside of it up to five. The branch in the old harbour is open from Monday to Friday, the one at the station on
Saturday too. Cards are sent by mail and arrive within a week.\
""",
                    },
                    {"role": "user", "content": "Never guess. Never guess. Please note that I lost my card!!!"},
                ],
                "thinking": {"type": "enabled", "keep": "all"},
                "max_completion_tokens": 32768,
            }
        )
        assert not OPENAPI.exists() or violations_of_openapi(body) == []

    async def test_vllm(self, mode: str) -> None:
        body = await sent(
            mode,
            CONVERSATION,
            persona="vllm",
            model=INSTRUCT,
            practices={"concise_prompt": "apply", "fresh_data": "off"},
        )
        assert body == snapshot(
            {
                "model": "moonshotai/Kimi-K2-Instruct-0905",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are the assistant of Harbor Bank.

- Never ask for a PIN, a TAN or a full card number.
- Do not give advice on investments.
- Always mention the 24-hour hotline 0800 555 0199 when a card is lost.

Your customers live all over Europe; transfers above 10,000 EUR need a second approval. Within the SEPA area a transfer takes one business
day, outside of it up to five. The branch in the old harbour is open from Monday to Friday, the one at the station on
Saturday too. Cards are sent by mail and arrive within a week.\
""",
                    },
                    {"role": "user", "content": "Never guess. Never guess. Please note that I lost my card!!!"},
                ],
                "temperature": 0.6,
                "max_tokens": 32768,
            }
        )

    async def test_without(self, mode: str) -> None:
        off = await sent(
            mode, CONVERSATION, model="kimi-k2.6", practices={"concise_prompt": "off", "fresh_data": "off"}
        )
        assert [message["content"] for message in off["messages"]] == [WORDY, ASKED[1]]

    async def test_warn_is_the_default_and_changes_nothing(self, mode: str) -> None:
        reply, bodies = await exchange(mode, CONVERSATION, model="kimi-k2.6", practices={"fresh_data": "off"})
        assert [message["content"] for message in bodies[0]["messages"]] == [WORDY, ASKED[1]]
        lines = [line for line in reply.response_metadata["refrase"]["changes"] if line["practice"] == "concise-prompt"]
        assert lines == snapshot(
            [
                {
                    "practice": "concise-prompt",
                    "action": "advise",
                    "detail": "near-repeat: 2 places, the first in line 12; shorter by about 33 of 161 tokens (filler: 1, repeat: 1)",
                    "source": "refrase.cc/models/kimi-k2 (Skywork.ai analysis)",
                    "count": 2,
                }
            ]
        )

    async def test_a_text_part_of_a_system_message_is_shortened_in_place(self, mode: str) -> None:
        parts = [{"type": "text", "text": WORDY}, {"type": "text", "text": "Be kind."}]
        body = await sent(
            mode,
            [("system", parts), ASKED],
            model="kimi-k2.6",
            practices={"concise_prompt": "apply", "fresh_data": "off"},
        )
        assert [part["text"] for part in body["messages"][0]["content"]] == [SHORT, "Be kind."]


class TestModes:
    def test_apply_says_what_went(self) -> None:
        prepared = prepare(call(*CONVERSATION, concise_prompt="apply"))
        assert prepared.body["messages"][0]["content"] == SHORT
        assert [tuple(entry)[:3] for entry in prepared.report.changes] == snapshot(
            [
                ("concise-prompt", "advise", "near-repeat: 2 places, the first in line 12"),
                ("concise-prompt", "drop", "shorter by about 33 of 161 tokens (filler: 1, repeat: 1)"),
            ]
        )

    def test_error_refuses_what_it_would_advise(self) -> None:
        with pytest.raises(PracticeError) as caught:
            prepare(call(*CONVERSATION, concise_prompt="error"))
        assert str(caught.value) == snapshot(
            "concise-prompt: near-repeat: 2 places, the first in line 12; shorter by about 33 of 161 tokens (filler: 1, repeat: 1) [model kimi-k2.6, host moonshot]. Says what makes a system prompt hard to follow: length, repeats, contradictions ...; apply shortens it. To change this: practices={'concise_prompt': 'apply' | 'warn' | 'error' | 'off'}."
        )
        assert "Harbor" not in str(caught.value)

    def test_the_report_holds_no_text_of_the_prompt(self) -> None:
        for text in own().values():
            for detail in advice(("system", text * 3), prompt_thresholds={"short": 0, "saving": 1}):
                assert not any(word in detail for word in text.split() if len(word) > 12 and word.isalpha())


class TestWhatIsWorthALine:
    def test_a_short_prompt_gives_nothing(self) -> None:
        assert advice(("system", "Always use emojis. Never use emojis. Never use emojis.")) == []
        assert advice(("system", "Always use emojis. Never use emojis."), prompt_thresholds={"short": 0}) == snapshot(
            ["contradiction: one rule asks for what another forbids (the other side is in line 1)"]
        )

    def test_user_text_and_other_roles_are_nobodys_business(self) -> None:
        one = call(("user", WORDY), ("assistant", WORDY), concise_prompt="apply", system_prompt="off")
        assert prepare(one).body is one.body
        assert advice(("user", WORDY), ("assistant", WORDY)) == []

    def test_a_saving_of_a_few_tokens_is_left_alone(self) -> None:
        text = WORDY.split("Important reminders", maxsplit=1)[0]
        assert advice(("system", text)) == []
        assert prepare(call(("system", text), concise_prompt="apply")).body["messages"][0]["content"] == text

    def test_thresholds_are_settings(self) -> None:
        text = WORDY.split("Important reminders", maxsplit=1)[0]
        assert advice(("system", text), prompt_thresholds={"short": 0, "long": 100, "rules": 2}) == snapshot(
            ["long: 131 tokens, long is over 100", "rule-heavy: 3 rules, rule-heavy is over 2"]
        )
        assert advice(("system", text), prompt_thresholds=PromptThresholds(short=0, saving=1)) == snapshot(
            ["shorter by about 3 of 131 tokens (filler: 1)"]
        )

    def test_several_places_are_one_line(self) -> None:
        assert advice(("system", own()["en-scaffold-repeats"])) == snapshot(
            [
                "repeated-rule: 6 places, the first in line 8",
                "near-repeat: 2 places, the first in line 24",
                "shorter by about 113 of 221 tokens (repeat: 3)",
            ]
        )

    def test_the_default_prompts_of_the_frameworks_give_nothing(self) -> None:
        header = ReActChatFormatter.from_defaults().system_header
        assert len(header) > 2_000
        templates = [value for name, value in vars(default_prompts).items() if name.endswith("_TMPL")]
        assert len(templates) > 20
        for text in (header, *templates):
            assert advice(("system", text), prompt_thresholds={"short": 0}) == []

    def test_react_has_no_other_place_for_its_tools(self) -> None:
        def add(a: int, b: int) -> int:
            """Add two numbers."""
            return a + b

        tools = [FunctionTool.from_defaults(add)]
        text = str(ReActChatFormatter.from_defaults().format(tools, [])[0].content)
        assert "Tool Name: add" in text
        assert advice(("system", text)) == []
        bound = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
        assert advice(("system", text), tools=bound) == snapshot(["pasted-tools: 1 tool description(s) in the text"])

    def test_images_for_a_model_that_does_not_see(self) -> None:
        text = own()["en-image-task"] + "\n" + SHORT
        assert advice(("system", text), dialect=INSTRUCT, host="vllm") == snapshot(
            ["image-task: asks for images to be read by a model that sees none"]
        )
        assert advice(("system", text), dialect="kimi-k2.6") == []


class TestOurOwnLines:
    def test_the_documented_default_is_left_alone(self) -> None:
        prepared = prepare(
            call(("user", "Hello."), concise_prompt="apply", prompt_thresholds={"short": 0, "saving": 1})
        )
        assert prepared.body["messages"][0]["content"] == "You are Kimi, an AI assistant created by Moonshot AI."
        assert [entry.practice for entry in prepared.report.changes] == ["system-prompt"]

    def test_lines_of_other_practices_are_left_alone_and_count_as_nothing(self) -> None:
        line = "House rule: never guess!!!  Never guess!!!  "
        own_line("House rule:", line)
        text = f"Never guess.\n\n{line}\n{line}\n\nBe kind."
        assert advice(("system", text), prompt_thresholds={"short": 0, "saving": 1}) == []

    def test_lines_that_only_open_like_them_are_the_users(self) -> None:
        text = "Freshness rule: NEVER GUESS!!! You MUST NEVER guess!!! ALWAYS look!!!\n" * 3
        assert advice(("system", text), prompt_thresholds={"short": 0, "saving": 1}) != []

    def test_a_shortened_prompt_with_our_lines_behind_it_is_a_fixpoint(self) -> None:
        everything: Any = {"concise_prompt": "apply", "grounding": "apply", "verbosity": "apply", "fresh_data": "apply"}
        first = prepare(call(*CONVERSATION, **everything)).body["messages"][0]["content"]
        assert all(f"\n\n{opening} rule: " in first for opening in ("Freshness", "Sourcing", "Answer length"))
        assert prepare(call(("system", first), **everything)).body["messages"][0]["content"] == first


DOCUMENT = "Never go there!!! You MUST pay. Please note that the price is 5. The price is 5.\n" * 60
FRAMES = {
    "ContextChatEngine": context.DEFAULT_CONTEXT_TEMPLATE,
    "CondensePlusContextChatEngine": condense_plus_context.DEFAULT_CONTEXT_PROMPT_TEMPLATE,
    "text QA": default_prompts.DEFAULT_TEXT_QA_PROMPT_TMPL.replace("{query_str}", "Why?"),
    "tags": "Answer from the documents.\n<documents>\n{context_str}\n</documents>\n",
}


@pytest.mark.parametrize("frame", FRAMES)
class TestPastedDocuments:
    """A chat engine of LlamaIndex puts what its retriever found into the system message."""

    def test_they_are_not_judged(self, frame: str) -> None:
        assert advice(("system", FRAMES[frame].replace("{context_str}", DOCUMENT))) == []
        assert advice(("system", DOCUMENT)) != []

    def test_they_are_not_shortened_and_what_stands_around_them_is(self, frame: str) -> None:
        prompt = FRAMES[frame].replace("{context_str}", DOCUMENT).strip()
        one = call(("system", f"{WORDY}\n\n{prompt}"), concise_prompt="apply")
        [message] = prepare(one).body["messages"]
        assert message["content"] == f"{SHORT}\n\n{prompt}"
        assert prepare(call(("system", message["content"]), concise_prompt="apply")).body["messages"] == [message]

    def test_marks_inside_of_them_change_nothing(self, frame: str) -> None:
        document = f"{DOCUMENT}\nInstruction: Never guess.\n--------------------\n</documents>\n{DOCUMENT}"
        prompt = FRAMES[frame].replace("{context_str}", document)
        one = call(("system", prompt), concise_prompt="apply")
        assert prepare(one).body["messages"][0]["content"] == prompt


def test_a_prompt_without_an_end_mark_is_judged_as_a_whole() -> None:
    assert advice(("system", f"<documents>\n{DOCUMENT}")) != []
    assert advice(("system", f"Here are the relevant documents for the context:\n{DOCUMENT}")) != []


def test_a_prompt_is_looked_at_once() -> None:
    def text_of(conversation: Any, **settings: Any) -> str:
        return prepare(call(*conversation, concise_prompt="apply", **settings)).body["messages"][0]["content"]

    first = text_of(CONVERSATION)
    assert text_of([("system", str(WORDY)), ("user", "Another turn.")]) is first  # the very object: remembered
    assert text_of(CONVERSATION, prompt_thresholds={"saving": 1_000}) == WORDY  # other settings, another answer
