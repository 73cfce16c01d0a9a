from __future__ import annotations

from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import PracticeError
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.practice import Call
from refrase_integrations.kimi.practices.fresh_data import WITHOUT
from refrase_integrations.kimi.practices.system_prompt import apply
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.tokens import estimate
from tests.conversations import MODES, OPENAPI, exchange, sent, violations_of_openapi

HELLO = [("user", "Hello.")]
TASK = [("system", "You translate into French."), ("user", "Hello.")]
OFF = {"system_prompt": "off"}
INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"

DEFAULT = "You are Kimi, an AI assistant created by Moonshot AI."
modes = pytest.mark.parametrize("mode", MODES)


async def moonshot(mode: str, messages: Any, **fields: Any) -> dict[str, Any]:
    body = await sent(mode, messages, **{"model": "kimi-k2.6", **fields})
    assert not OPENAPI.exists() or violations_of_openapi(body) == []
    return body


def said(reply: Any) -> list[dict[str, Any]]:
    return [line for line in reply.response_metadata["refrase"]["changes"] if line["practice"] == "system-prompt"]


@modes
class TestBodies:
    async def test_moonshot(self, mode: str) -> None:
        assert await moonshot(mode, HELLO) == snapshot(
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

    async def test_moonshot_off(self, mode: str) -> None:
        assert await moonshot(mode, HELLO, practices=OFF) == snapshot(
            {
                "model": "kimi-k2.6",
                "messages": [
                    {
                        "role": "system",
                        "content": "Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.",
                    },
                    {"role": "user", "content": "Hello."},
                ],
                "thinking": {"type": "enabled", "keep": "all"},
                "max_completion_tokens": 32768,
            }
        )

    async def test_vllm(self, mode: str) -> None:
        assert await sent(mode, HELLO, persona="vllm", model=INSTRUCT) == snapshot(
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

    async def test_vllm_off(self, mode: str) -> None:
        assert await sent(mode, HELLO, persona="vllm", model=INSTRUCT, practices=OFF) == snapshot(
            {
                "model": "moonshotai/Kimi-K2-Instruct-0905",
                "messages": [
                    {
                        "role": "system",
                        "content": "Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.",
                    },
                    {"role": "user", "content": "Hello."},
                ],
                "temperature": 0.6,
                "max_tokens": 32768,
            }
        )

    async def test_a_task_of_the_users_own_stays_as_it_is(self, mode: str) -> None:
        with_it = await moonshot(mode, TASK)
        assert with_it["messages"] == snapshot(
            [
                {
                    "role": "system",
                    "content": """\
You translate into French.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                },
                {"role": "user", "content": "Hello."},
            ]
        )
        assert with_it == await moonshot(mode, TASK, practices=OFF)

    async def test_a_blank_system_message_counts_as_none(self, mode: str) -> None:
        body = await moonshot(mode, [("system", " \n"), *HELLO])
        assert body["messages"] == (await moonshot(mode, HELLO))["messages"]

    async def test_a_system_message_later_on_is_a_prompt_too(self, mode: str) -> None:
        later = [*HELLO, ("system", "You translate into French.")]
        body = await moonshot(mode, later, practices={"fresh_data": "off"})
        assert [message["role"] for message in body["messages"]] == ["user", "system"]

    async def test_a_model_without_a_documented_default_gets_none(self, mode: str) -> None:
        body = await sent(mode, HELLO, model="kimi-k3")
        assert body["messages"] == snapshot(
            [
                {
                    "role": "system",
                    "content": "Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.",
                },
                {"role": "user", "content": "Hello."},
            ]
        )


@modes
class TestModes:
    async def test_warn_only_says_so(self, mode: str) -> None:
        warned, bodies = await exchange(
            mode, HELLO, model="kimi-k2.6", practices={"system_prompt": "warn", "fresh_data": "off"}
        )
        assert bodies[0]["messages"] == [{"role": "user", "content": "Hello."}]
        assert said(warned) == snapshot(
            [
                {
                    "practice": "system-prompt",
                    "action": "advise",
                    "detail": "no system prompt: the documented default",
                    "source": "MoonshotAI/Kimi-K2 README",
                }
            ]
        )

    async def test_error_takes_what_only_fills_a_gap(self, mode: str) -> None:
        assert await moonshot(mode, HELLO, practices={"system_prompt": "error"}) == await moonshot(mode, HELLO)

    async def test_the_report_names_the_source_and_nothing_of_the_prompt(self, mode: str) -> None:
        reply, _ = await exchange(mode, [("system", " "), ("user", "xylophone")], model="kimi-k2.6")
        assert said(reply) == snapshot(
            [
                {
                    "practice": "system-prompt",
                    "action": "add",
                    "detail": "no system prompt: the documented default",
                    "source": "MoonshotAI/Kimi-K2 README",
                }
            ]
        )
        assert "xylophone" not in str(reply.response_metadata)

    async def test_off_is_not_in_the_report(self, mode: str) -> None:
        reply, _ = await exchange(mode, HELLO, model="kimi-k2.6", practices=OFF)
        assert said(reply) == []


# -- the default beside a prompt of the app's own -------------------------------------------------------------


def call(*messages: tuple[str, Any], **practices: Any) -> Call:
    body: Any = {"model": "m", "messages": [{"role": role, "content": content} for role, content in messages]}
    dialect = compile_dialect(find_model("kimi-k2.6"), find_host("moonshot"), None, "kimi-k2.6")
    return Call(body=body, dialect=dialect, practices=Practices.of(practices), count=estimate, scope="messages")


LAWYER, ASKED = ("system", "You are a lawyer."), ("user", "Hi.")


@pytest.mark.parametrize(
    "default",
    [
        DEFAULT,
        f"{DEFAULT}\n",
        f"{DEFAULT}\n\n{WITHOUT}",
        [{"type": "text", "text": DEFAULT}],
        [DEFAULT, f"\n\n{WITHOUT}"],
    ],
)
def test_it_is_taken_out_wherever_it_stands(default: Any) -> None:
    persona, answer = ("system", default), ("assistant", "Yes.")
    for messages in (
        [LAWYER, persona, ASKED],
        [persona, LAWYER, ASKED],
        [persona, ASKED, answer, LAWYER, ASKED],
        [persona, persona, LAWYER, ASKED],
        [ASKED, LAWYER, answer, persona],
    ):
        one = call(*messages, fresh_data="off")
        prepared = prepare(one)
        assert prepared.body["messages"] == call(*(m for m in messages if m is not persona)).body["messages"]
        assert [(entry.practice, entry.action) for entry in prepared.report.changes] == [("system-prompt", "drop")]
        assert apply(prepared.body, one).body is prepared.body
        assert len(one.body["messages"]) == len(messages), "the caller's messages were changed"


@pytest.mark.parametrize(
    "others",
    [
        [],
        [("system", " ")],
        [("system", WITHOUT)],
        [("system", DEFAULT)],
        [("user", "You are a lawyer."), ("assistant", "You are a lawyer.")],
    ],
)
def test_it_stays_where_nothing_else_is_said(others: Any) -> None:
    one = call(("system", DEFAULT), *others, ASKED)
    assert apply(one.body, one).body is one.body


@pytest.mark.parametrize("longer", [f"{DEFAULT} You know the law.", f"{DEFAULT}\n\nBe brief.", DEFAULT.lower()])
def test_only_the_very_words_are_the_default(longer: str) -> None:
    one = call(("system", longer), LAWYER, ASKED)
    assert apply(one.body, one).body is one.body


def test_it_is_a_drop_under_every_mode() -> None:
    messages = [LAWYER, ("system", DEFAULT), ASKED]
    warned = prepare(call(*messages, system_prompt="warn", fresh_data="off"))
    assert warned.body["messages"] == call(*messages).body["messages"]
    assert [entry.action for entry in warned.report.changes] == ["advise"]
    with pytest.raises(PracticeError, match="documented default"):
        prepare(call(*messages, system_prompt="error"))
