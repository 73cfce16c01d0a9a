from __future__ import annotations

from typing import Any, cast

import pytest
from inline_snapshot import snapshot
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from refrase_integrations.errors import PracticeError, ReasoningMissing
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.practice import Call
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.tokens import estimate
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, OPENAPI, ask, exchange, sent, violations_of_openapi

THINKING = "moonshotai/Kimi-K2-Thinking"
INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def history(**kwargs: Any) -> list[Any]:
    call = {"name": "get_weather", "args": {"city": "Paris"}, "id": "call_1"}
    return [
        HumanMessage("Paris?"),
        AIMessage("", tool_calls=[call], additional_kwargs=kwargs),
        ToolMessage("sunny", tool_call_id="call_1"),
    ]


THOUGHT = history(reasoning_content="I look it up.")
LOST = history()


def entries(reply: Any) -> list[tuple[str, str]]:
    changes = reply.response_metadata["refrase"]["changes"]
    return [(entry["action"], entry["detail"]) for entry in changes if entry["practice"] == "reasoning-replay"]


def reasoning(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The reasoning fields of each assistant message."""
    fields = ("reasoning_content", "reasoning", "reasoning_details")
    return [
        {key: message[key] for key in fields if key in message}
        for message in body["messages"]
        if message["role"] == "assistant"
    ]


@pytest.mark.parametrize("mode", MODES)
class TestBodies:
    async def test_moonshot(self, mode: str) -> None:
        assert await sent(mode, THOUGHT, model="kimi-k2.6") == snapshot(
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
                    {"role": "user", "content": "Paris?"},
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {
                                "id": "call_1",
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                            }
                        ],
                        "reasoning_content": "I look it up.",
                    },
                    {"role": "tool", "content": "sunny", "tool_call_id": "call_1", "name": "get_weather"},
                ],
                "thinking": {"type": "enabled", "keep": "all"},
                "max_completion_tokens": 32768,
            }
        )

    async def test_moonshot_lost(self, mode: str) -> None:
        assert await sent(mode, LOST, model="kimi-k2-thinking") == snapshot(
            {
                "model": "kimi-k2-thinking",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                    },
                    {"role": "user", "content": "Paris?"},
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {
                                "id": "call_1",
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                            }
                        ],
                        "reasoning_content": " ",
                    },
                    {"role": "tool", "content": "sunny", "tool_call_id": "call_1", "name": "get_weather"},
                ],
                "temperature": 1.0,
                "max_completion_tokens": 32768,
            }
        )

    async def test_moonshot_lost_off(self, mode: str) -> None:
        practices = {"reasoning_replay": "off"}
        assert await sent(mode, LOST, model="kimi-k2-thinking", practices=practices, strict=False) == snapshot(
            {
                "model": "kimi-k2-thinking",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                    },
                    {"role": "user", "content": "Paris?"},
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {
                                "id": "call_1",
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                            }
                        ],
                    },
                    {"role": "tool", "content": "sunny", "tool_call_id": "call_1", "name": "get_weather"},
                ],
                "temperature": 1.0,
                "max_completion_tokens": 32768,
            }
        )

    async def test_vllm(self, mode: str) -> None:
        assert await sent(mode, THOUGHT, persona="vllm", model=THINKING) == snapshot(
            {
                "model": "moonshotai/Kimi-K2-Thinking",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                    },
                    {"role": "user", "content": "Paris?"},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {
                                "id": "functions.get_weather:0",
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                            }
                        ],
                        "reasoning": "I look it up.",
                    },
                    {
                        "role": "tool",
                        "content": "sunny",
                        "tool_call_id": "functions.get_weather:0",
                        "name": "get_weather",
                    },
                ],
                "temperature": 1.0,
                "max_tokens": 32768,
            }
        )

    async def test_vllm_lost(self, mode: str) -> None:
        assert await sent(mode, LOST, persona="vllm", model=THINKING) == snapshot(
            {
                "model": "moonshotai/Kimi-K2-Thinking",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                    },
                    {"role": "user", "content": "Paris?"},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {
                                "id": "functions.get_weather:0",
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                            }
                        ],
                    },
                    {
                        "role": "tool",
                        "content": "sunny",
                        "tool_call_id": "functions.get_weather:0",
                        "name": "get_weather",
                    },
                ],
                "temperature": 1.0,
                "max_tokens": 32768,
            }
        )


@pytest.mark.skipif(not OPENAPI.exists(), reason="needs Moonshot's OpenAPI document in ../shared/data")
@pytest.mark.parametrize("model", ["kimi-k2-0905-preview", "kimi-k2-thinking", "kimi-k2.6"])
async def test_what_is_sent_is_documented(model: str) -> None:
    for messages in (THOUGHT, LOST, history(reasoning="x")):
        assert violations_of_openapi(await sent("invoke", messages, model=model)) == []


@pytest.mark.parametrize("mode", MODES)
class TestMissing:
    """F1 (langchain#39370, llama_index#20786, opencode#10996): lost by every generic wrapper, refused by Moonshot."""

    @pytest.mark.parametrize(
        ("model", "kwargs"),
        [
            ("kimi-k2-thinking", {}),
            ("kimi-k2.6", {}),
            ("kimi-k2.6", {"reasoning_content": ""}),
            ("kimi-k3", {}),
        ],
    )
    async def test_one_space_stands_in(self, mode: str, model: str, kwargs: dict[str, Any]) -> None:
        with pytest.raises(ReasoningMissing, match="reasoning_content is missing"):
            await exchange(mode, history(**kwargs), model=model, practices={"reasoning_replay": "off"})
        reply, (body,) = await exchange(mode, history(**kwargs), model=model)
        assert reasoning(body) == [{"reasoning_content": " "}]
        assert entries(reply) == [("add", "an assistant tool call without its reasoning: a single space")]

    async def test_it_does_not_depend_on_this_calls_switch(self, mode: str) -> None:
        """A message keeps its form, or the prompt cache misses."""
        assert reasoning(await sent(mode, LOST, model="kimi-k2.6", thinking=False)) == [{"reasoning_content": " "}]

    async def test_an_instruct_model_needs_none(self, mode: str) -> None:
        assert reasoning(await sent(mode, LOST, model="kimi-k2-0905-preview")) == [{}]

    async def test_warn_ends_at_the_host(self, mode: str) -> None:
        with pytest.raises(ReasoningMissing):
            await exchange(mode, LOST, model="kimi-k2.6", practices={"reasoning_replay": "warn"})


@pytest.mark.parametrize("mode", MODES)
class TestTurns:
    async def test_a_reply_goes_back_as_it_came(self, mode: str) -> None:
        script = [
            Reply(reasoning="Let me see: 你好 ", tool_calls=[("get_weather", {"city": "Paris"})]),
            Reply("Sunny."),
        ]
        for persona, model, field in [
            ("moonshot", "kimi-k2.6", "reasoning_content"),
            ("vllm", THINKING, "reasoning"),
            ("sglang", THINKING, "reasoning_content"),
            ("fireworks", "accounts/fireworks/models/kimi-k2-thinking", "reasoning_content"),
        ]:
            with KimiSimulator(persona, script=script) as simulator:
                model_ = ChatKimi(host=persona, base_url=simulator.base_url, api_key="sk-test", model=model)
                bound = model_.bind_tools([WEATHER])
                first = await ask(mode, bound, [HumanMessage("Paris?")])
                assert first.additional_kwargs["reasoning_content"] == "Let me see: 你好 "
                answer = ToolMessage("sunny", tool_call_id=first.tool_calls[0]["id"])
                second = await ask(mode, bound, [HumanMessage("Paris?"), first, answer])
                assert second.text == "Sunny."
                assert reasoning(simulator.requests[1].body) == [{field: "Let me see: 你好 "}]

    async def test_empty_reasoning_is_kept_in_the_app_and_a_space_on_the_wire(self, mode: str) -> None:
        """An empty text means "reasoned, nothing said"; some routes refuse it (openclaw#70565)."""
        call = {"id": "get_weather:0", "type": "function", "index": 0,
                "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}  # fmt: skip
        said = {"role": "assistant", "content": "", "reasoning_content": "", "tool_calls": [call]}
        streamed = mode in ("stream", "astream")
        choice = {"index": 0, "delta" if streamed else "message": said, "finish_reason": "tool_calls"}
        script = [Reply(chunks=[{"id": "r-1", "model": "kimi-k2.6", "choices": [choice]}]), Reply("Sunny.")]
        with KimiSimulator(script=script) as simulator:
            model = ChatKimi(host="moonshot", base_url=simulator.base_url, api_key="sk-test").bind_tools([WEATHER])
            first = await ask(mode, model, [HumanMessage("Paris?")])
            assert first.additional_kwargs["reasoning_content"] == ""
            answer = ToolMessage("sunny", tool_call_id=first.tool_calls[0]["id"])
            await ask(mode, model, [HumanMessage("Paris?"), first, answer])
            assert reasoning(simulator.requests[1].body) == [{"reasoning_content": " "}]

    async def test_a_thread_that_moves_between_hosts(self, mode: str) -> None:
        calls = [("get_weather", {"city": "Paris"})]
        with (
            KimiSimulator("moonshot", script=[Reply(reasoning="One.", tool_calls=calls), Reply("Done.")]) as moonshot,
            KimiSimulator("vllm", script=[Reply(reasoning="Two.", tool_calls=calls)]) as vllm,
        ):
            at_moonshot = ChatKimi(
                host="moonshot", base_url=moonshot.base_url, api_key="sk-test", model="kimi-k2-thinking"
            ).bind_tools([WEATHER])
            at_vllm = ChatKimi(host="vllm", base_url=vllm.base_url, model=THINKING).bind_tools([WEATHER])
            thread: list[Any] = [HumanMessage("Paris?")]
            for model in (at_moonshot, at_vllm):
                reply = await ask(mode, model, thread)
                thread += [reply, ToolMessage("sunny", tool_call_id=reply.tool_calls[0]["id"])]
            await ask(mode, at_moonshot, thread)
            assert reasoning(vllm.requests[0].body) == [{"reasoning": "One."}]
            assert reasoning(moonshot.requests[1].body) == [
                {"reasoning_content": "One."},
                {"reasoning_content": "Two."},
            ]

    async def test_details_go_back_to_openrouter_only(self, mode: str) -> None:
        with (
            KimiSimulator(
                "openrouter",
                script=[Reply(reasoning="Hm.", tool_calls=[("get_weather", {"city": "Paris"})]), Reply("Sunny.")],
            ) as openrouter,
            KimiSimulator("vllm", script=["Sunny."]) as vllm,
        ):
            there = ChatKimi(
                host="openrouter", base_url=openrouter.base_url, api_key="sk-test", model="moonshotai/kimi-k2-thinking"
            ).bind_tools([WEATHER])
            first = await ask(mode, there, [HumanMessage("Paris?")])
            thread = [HumanMessage("Paris?"), first, ToolMessage("sunny", tool_call_id=first.tool_calls[0]["id"])]
            await ask(mode, there, thread)
            (back,) = reasoning(openrouter.requests[1].body)
            assert back["reasoning"] == "Hm."
            assert "".join(part["text"] for part in back["reasoning_details"]) == "Hm."
            assert len(back["reasoning_details"]) == 1, "the pieces of a stream are one entry again"
            await ask(mode, ChatKimi(host="vllm", base_url=vllm.base_url, model=THINKING), thread)
            assert reasoning(vllm.requests[0].body) == [{"reasoning": "Hm."}]


class TestFields:
    @pytest.mark.parametrize(
        ("persona", "model", "kwargs", "field"),
        [
            ("moonshot", "kimi-k2.6", {"reasoning": "x"}, {"reasoning_content": "x"}),
            ("moonshot", "kimi-k2.6", {"reasoning_content": "x", "reasoning": "y"}, {"reasoning_content": "x"}),
            ("groq", INSTRUCT, {"reasoning_content": "x"}, {"reasoning": "x"}),
            ("moonshot", "kimi-k2-0905-preview", {"reasoning_content": "x"}, {"reasoning_content": "x"}),
        ],
    )
    async def test_the_hosts_own(self, persona: str, model: str, kwargs: dict[str, str], field: dict[str, str]) -> None:
        assert reasoning(await sent("invoke", history(**kwargs), persona=persona, model=model)) == [field]

    @pytest.mark.parametrize(
        ("host", "model", "fields", "wire"),
        [
            ("moonshot", "kimi-k2.6", {"reasoning": "x"}, {"reasoning_content": "x"}),
            ("moonshot", "kimi-k2.6", {"reasoning_content": "x", "reasoning": "y"}, {"reasoning_content": "x"}),
            ("groq", INSTRUCT, {"reasoning_content": "x"}, {"reasoning": "x"}),
            ("vllm", THINKING, {"reasoning_content": "x"}, {"reasoning_content": "x"}),
            ("vllm", THINKING, {"reasoning": "x"}, {"reasoning": "x"}),
            ("vllm", THINKING, {"reasoning": ""}, {"reasoning": ""}),
            ("moonshot", "kimi-k2.6", {"reasoning": ""}, {"reasoning_content": " "}),
        ],
    )
    def test_whatever_a_wire_message_remembers(
        self, host: str, model: str, fields: dict[str, Any], wire: dict[str, Any]
    ) -> None:
        """The field that the message came in, where this host takes it; else the host's own."""
        dialect = compile_dialect(find_model(model), find_host(host, None), None, model)
        made = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        messages: Any = [
            {"role": "user", "content": "Hi."},
            {"role": "assistant", "tool_calls": [made], **fields},
            {"role": "tool", "tool_call_id": "c", "content": "x"},
        ]
        body: Any = {"model": model, "messages": messages}
        assert reasoning(cast(Any, prepare(Call(body, dialect, Practices(), estimate)).body)) == [wire]
        assert fields.items() <= messages[1].items()

    async def test_a_reasoning_block_of_another_library(self) -> None:
        call = {"name": "get_weather", "args": {"city": "Paris"}, "id": "call_1"}
        block = AIMessage([{"type": "reasoning", "reasoning": "Hm."}], tool_calls=[call])
        body = await sent("invoke", [THOUGHT[0], block, THOUGHT[2]], model="kimi-k2.6")
        assert reasoning(body) == [{"reasoning_content": "Hm."}]

    async def test_answers_without_calls_get_no_stand_in(self) -> None:
        thread = [HumanMessage("Hi."), AIMessage("Hello."), HumanMessage("Bye.")]
        assert reasoning(await sent("invoke", thread, model="kimi-k2.6")) == [{}]


class TestModes:
    async def test_a_stand_in_is_no_override(self) -> None:
        _, (body,) = await exchange("invoke", LOST, model="kimi-k2.6", practices={"reasoning_replay": "error"})
        assert reasoning(body) == [{"reasoning_content": " "}]

    async def test_warn_says_so(self) -> None:
        reply, (body,) = await exchange(
            "invoke", LOST, model="kimi-k2.6", practices={"reasoning_replay": "warn"}, strict=False
        )
        assert reasoning(body) == [{}]
        assert entries(reply) == [("advise", "an assistant tool call without its reasoning: a single space")]

    async def test_many_messages_are_one_line_with_a_count(self) -> None:
        thread: list[Any] = []
        for number in range(9):
            call = {"name": "get_weather", "args": {}, "id": f"c{number}"}
            thread += [HumanMessage("?"), AIMessage("", tool_calls=[call]), ToolMessage("x", tool_call_id=f"c{number}")]
        reply, _ = await exchange("invoke", thread, model="kimi-k2.6")
        (entry,) = [e for e in reply.response_metadata["refrase"]["changes"] if e["practice"] == "reasoning-replay"]
        assert entry == snapshot(
            {
                "practice": "reasoning-replay",
                "action": "add",
                "detail": "an assistant tool call without its reasoning: a single space",
                "source": "platform.kimi.ai/docs/guide/use-kimi-k2-thinking-model",
                "count": 9,
            }
        )

    def test_the_error_is_typed(self) -> None:
        assert not issubclass(ReasoningMissing, PracticeError), "the host's own refusal, not the practice's"
