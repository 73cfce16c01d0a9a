from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import ContextOverflow, ContextWindowExceeded, PracticeError
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.practice import Call
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator
from tests.conversations import MODES, OPENAPI, ask, exchange, sent, violations_of_openapi

HELLO = [("user", "Hello.")]
INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"
WINDOW = 131_072  # of kimi-k2-0711-preview
LONG = "word " * 60_000


class Counter:
    """Counts a token a word; ``exact`` or within ``margin``."""

    def __init__(self, *, exact: bool, count: Callable[[int], int] = lambda words: words) -> None:
        self.exact, self.margin, self._count = exact, 0.0 if exact else 0.1, count

    def text(self, text: str) -> int:
        return len(text.split())

    def request(self, messages: Any, *args: Any, **kwargs: Any) -> int:
        return self._count(sum(self.text(message.get("content") or "") for message in messages))


def prepared(messages: list[dict[str, Any]], *, exact: bool = True, practices: Any = None) -> Any:
    model = find_model("kimi-k2-0711-preview")
    dialect = compile_dialect(model, find_host("moonshot", None), None, model.id)
    body: Any = {"model": model.id, "messages": messages}
    return prepare(Call(body, dialect, Practices.of(practices), Counter(exact=exact)))


def words(number: int) -> str:
    return "w0rd " * number


def turn(number: int, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": words(number)}


def said(result: Any) -> list[tuple[str, str]]:
    return [(entry.action, entry.detail) for entry in result.report.changes if entry.practice == "context-window"]


@pytest.mark.parametrize("mode", MODES)
class TestBodies:
    @pytest.mark.parametrize("practice", ["error", "apply", "warn", "off"])
    async def test_a_prompt_that_fits_is_not_touched(self, mode: str, practice: str) -> None:
        fields: dict[str, Any] = {"practices": {"context_window": practice}}
        assert await sent(mode, HELLO, model="kimi-k2.6", **fields) == snapshot(
            {
                "model": "kimi-k2.6",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                    },
                    {"role": "user", "content": "Hello."},
                ],
                "thinking": {"type": "enabled", "keep": "all"},
                "max_completion_tokens": 32768,
            }
        )
        assert await sent(mode, HELLO, persona="vllm", model=INSTRUCT, **fields) == snapshot(
            {
                "model": "moonshotai/Kimi-K2-Instruct-0905",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                    },
                    {"role": "user", "content": "Hello."},
                ],
                "temperature": 0.6,
                "max_tokens": 32768,
            }
        )


@pytest.mark.parametrize("mode", MODES)
class TestOverflow:
    """F24 (kimi-cli#2011)."""

    async def test_an_error_before_any_request(self, mode: str) -> None:
        messages = [("user", LONG), ("assistant", LONG), ("user", LONG), ("assistant", LONG), ("user", "Secret 4711.")]
        with KimiSimulator() as simulator:
            chat = ChatKimi(
                host="moonshot", base_url=simulator.base_url, api_key="sk-test", model="kimi-k2-0711-preview"
            )
            with pytest.raises(
                ContextWindowExceeded, match="the window of kimi-k2-0711-preview holds 131072"
            ) as caught:
                await ask(mode, chat, messages)
            assert isinstance(caught.value, PracticeError)
            assert caught.value.practice == "context-window"
            assert "4711" not in str(caught.value)
            assert simulator.requests == []

    @pytest.mark.parametrize("practice", ["off", "warn"])
    async def test_without_it_the_host_refuses(self, mode: str, practice: str) -> None:
        messages = [("user", LONG), ("assistant", LONG), ("user", LONG)]
        with pytest.raises(ContextOverflow, match="exceeded model token limit: 131072"):
            await exchange(mode, messages, model="kimi-k2-0711-preview", practices={"context_window": practice})

    async def test_apply_lets_the_oldest_turns_go(self, mode: str) -> None:
        messages = [("user", LONG), ("assistant", LONG), ("user", LONG), ("assistant", "Yes."), ("user", "And now?")]
        reply, (body,) = await exchange(
            mode, messages, model="kimi-k2-0711-preview", practices={"context_window": "apply"}
        )
        assert reply.text == "Yes."
        assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
        (entry,) = [e for e in reply.response_metadata["refrase"]["changes"] if e["practice"] == "context-window"]
        assert entry["action"] == "drop"
        assert entry["detail"].endswith("the 2 oldest messages do not fit")


@pytest.mark.skipif(not OPENAPI.exists(), reason="needs Moonshot's OpenAPI document in ../shared/data")
async def test_what_is_left_is_documented() -> None:
    messages = [("user", LONG), ("assistant", LONG), ("user", LONG), ("assistant", "Yes."), ("user", "And now?")]
    body = await sent("invoke", messages, model="kimi-k2-0711-preview", practices={"context_window": "apply"})
    assert violations_of_openapi(body) == []


class TestCounting:
    def test_an_exact_count_decides_at_the_window(self) -> None:
        practices = {"system_prompt": "off", "fresh_data": "off"}
        assert prepared([turn(WINDOW - 1)], practices=practices)
        with pytest.raises(ContextWindowExceeded, match=f"has {WINDOW} tokens \\(counted\\)"):
            prepared([turn(WINDOW)], practices=practices)

    def test_an_estimate_only_where_it_is_over_all_the_same(self) -> None:
        practices = {"system_prompt": "off", "fresh_data": "off"}
        assert prepared([turn(WINDOW + 10_000)], exact=False, practices=practices)
        with pytest.raises(ContextWindowExceeded, match="has 150000 tokens \\(estimated, at least 135000\\)"):
            prepared([turn(150_000)], exact=False, practices=practices)

    def test_short_prompts_are_not_counted(self) -> None:
        def never(words: int) -> int:
            raise AssertionError("counted")

        model = find_model("kimi-k2-0711-preview")
        dialect = compile_dialect(model, find_host("moonshot", None), None, model.id)
        body: Any = {"model": model.id, "messages": [turn(100)]}
        assert prepare(Call(body, dialect, Practices(), Counter(exact=True, count=never)))


class TestTrimming:
    def kept(self, *messages: dict[str, Any], exact: bool = True) -> Any:
        practices = {"context_window": "apply", "system_prompt": "off", "fresh_data": "off"}
        return prepared(list(messages), exact=exact, practices=practices)

    def test_system_messages_and_the_last_turn_stay(self) -> None:
        system, last = turn(10, "system"), turn(20)
        result = self.kept(system, turn(100_000), turn(5, "assistant"), turn(50_000), turn(6, "assistant"), last)
        assert result.body["messages"] == [system, turn(50_000), turn(6, "assistant"), last]

    def test_calls_and_their_answers_go_together(self) -> None:
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        result = self.kept(
            turn(140_000), {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "x"}, turn(7, "assistant"), turn(8),
        )  # fmt: skip
        assert result.body["messages"] == [turn(8)]
        assert said(result) == [
            ("drop", f"the prompt has 140016 tokens (counted), the window of kimi-k2-0711-preview holds {WINDOW}; "
                     "the 4 oldest messages do not fit")
        ]  # fmt: skip

    def test_room_for_an_answer_is_left(self) -> None:
        result = self.kept(turn(1_000), turn(WINDOW - 500), turn(9))
        assert result.body["messages"] == [turn(9)]
        assert result.body["max_completion_tokens"] >= 1_024

    def test_a_last_turn_that_alone_is_too_long_is_an_error(self) -> None:
        with pytest.raises(ContextWindowExceeded, match="the last turn alone does not fit"):
            self.kept(turn(5), turn(5, "assistant"), turn(WINDOW))

    def test_the_callers_list_stays(self) -> None:
        messages = [turn(100_000), turn(5, "assistant"), turn(50_000)]
        self.kept(*messages)
        assert len(messages) == 3

    def test_error_drops_nothing(self) -> None:
        with pytest.raises(ContextWindowExceeded):
            prepared([turn(100_000), turn(50_000)], practices={"context_window": "error"})
