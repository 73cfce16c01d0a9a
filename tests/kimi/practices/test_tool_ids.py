from __future__ import annotations

import re
from typing import Any

import pytest
from inline_snapshot import snapshot
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from refrase_integrations.errors import HistoryRefused
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, OPENAPI, ask, exchange, sent, violations_of_openapi

INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"
THINKING = "moonshotai/Kimi-K2-Thinking"
NATIVE = re.compile(r"functions\.[\w.-]+:\d+")


def tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {"type": "function", "function": {"name": name, "description": "Look it up.", "parameters": parameters}}


TOOLS = [tool("get_weather"), tool("get_time")]


def asked(name: str, city: str, identity: str) -> dict[str, Any]:
    return {"name": name, "args": {"city": city}, "id": identity}


def history(first: str = "call_a", second: str = "call_b", third: str = "call_c") -> list[Any]:
    return [
        HumanMessage("Paris?"),
        AIMessage("", tool_calls=[asked("get_weather", "Paris", first), asked("get_time", "Paris", second)]),
        ToolMessage("noon", tool_call_id=second),
        ToolMessage("sunny", tool_call_id=first),
        AIMessage("Sunny, noon."),
        HumanMessage("And Rome?"),
        AIMessage("", tool_calls=[asked("get_weather", "Rome", third)]),
        ToolMessage("rain", tool_call_id=third),
    ]


def ids(body: dict[str, Any]) -> list[str]:
    """Every id of calls and answers, in order."""
    found = []
    for message in body["messages"]:
        found += [call["id"] for call in message.get("tool_calls") or ()]
        found += [message["tool_call_id"]] if "tool_call_id" in message else []
    return found


@pytest.mark.parametrize("mode", MODES)
class TestBodies:
    async def test_vllm_numbers_by_position(self, mode: str) -> None:
        assert await sent(mode, history(), persona="vllm", model=INSTRUCT) == snapshot(
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
                    {"role": "user", "content": "Paris?"},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {
                                "id": "functions.get_weather:0",
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                            },
                            {
                                "id": "functions.get_time:1",
                                "type": "function",
                                "function": {"name": "get_time", "arguments": '{"city": "Paris"}'},
                            },
                        ],
                    },
                    {"role": "tool", "content": "noon", "tool_call_id": "functions.get_time:1", "name": "get_time"},
                    {
                        "role": "tool",
                        "content": "sunny",
                        "tool_call_id": "functions.get_weather:0",
                        "name": "get_weather",
                    },
                    {"role": "assistant", "content": "Sunny, noon."},
                    {"role": "user", "content": "And Rome?"},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {
                                "id": "functions.get_weather:2",
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
                            }
                        ],
                    },
                    {
                        "role": "tool",
                        "content": "rain",
                        "tool_call_id": "functions.get_weather:2",
                        "name": "get_weather",
                    },
                ],
                "temperature": 0.6,
                "max_tokens": 32768,
            }
        )

    async def test_vllm_off(self, mode: str) -> None:
        body = await sent(mode, history(), persona="vllm", model=INSTRUCT, practices={"tool_ids": "off"})
        assert body == snapshot(
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
                    {"role": "user", "content": "Paris?"},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {
                                "id": "call_a",
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                            },
                            {
                                "id": "call_b",
                                "type": "function",
                                "function": {"name": "get_time", "arguments": '{"city": "Paris"}'},
                            },
                        ],
                    },
                    {"role": "tool", "content": "noon", "tool_call_id": "call_b", "name": "get_time"},
                    {"role": "tool", "content": "sunny", "tool_call_id": "call_a", "name": "get_weather"},
                    {"role": "assistant", "content": "Sunny, noon."},
                    {"role": "user", "content": "And Rome?"},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {
                                "id": "call_c",
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
                            }
                        ],
                    },
                    {"role": "tool", "content": "rain", "tool_call_id": "call_c", "name": "get_weather"},
                ],
                "temperature": 0.6,
                "max_tokens": 32768,
            }
        )

    async def test_moonshot_keeps_unique_ones(self, mode: str) -> None:
        body = await sent(mode, history(), model="kimi-k2.6")
        assert body == snapshot(
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
                                "id": "call_a",
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                            },
                            {
                                "id": "call_b",
                                "type": "function",
                                "function": {"name": "get_time", "arguments": '{"city": "Paris"}'},
                            },
                        ],
                        "reasoning_content": " ",
                    },
                    {"role": "tool", "content": "noon", "tool_call_id": "call_b", "name": "get_time"},
                    {"role": "tool", "content": "sunny", "tool_call_id": "call_a", "name": "get_weather"},
                    {"role": "assistant", "content": "Sunny, noon."},
                    {"role": "user", "content": "And Rome?"},
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {
                                "id": "call_c",
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
                            }
                        ],
                        "reasoning_content": " ",
                    },
                    {"role": "tool", "content": "rain", "tool_call_id": "call_c", "name": "get_weather"},
                ],
                "thinking": {"type": "enabled", "keep": "all"},
                "max_completion_tokens": 32768,
            }
        )

    async def test_moonshot_off(self, mode: str) -> None:
        on = await sent(mode, history(), model="kimi-k2.6")
        assert await sent(mode, history(), model="kimi-k2.6", practices={"tool_ids": "off"}) == on


@pytest.mark.skipif(not OPENAPI.exists(), reason="needs Moonshot's OpenAPI document in ../shared/data")
@pytest.mark.parametrize("model", ["kimi-k2-0905-preview", "kimi-k2-thinking", "kimi-k2.6"])
async def test_what_is_sent_is_documented(model: str) -> None:
    for messages in (history(), history("x", "x", "x")):
        assert violations_of_openapi(await sent("invoke", messages, model=model, tools=TOOLS)) == []


@pytest.mark.parametrize("mode", MODES)
class TestForeignIds:
    """F5 (vllm#50768, #50782, exo#2281): the model copies the form of the ids in the history, and the parser of the
    server drops a call whose id does not name its function."""

    @pytest.mark.parametrize("foreign", ["call_abc", "functions_get_weather_1", "toolu_01", "chatcmpl-tool-9"])
    async def test_the_next_call_arrives(self, mode: str, foreign: str) -> None:
        messages = [*history("a1", "a2", foreign), AIMessage("Rain."), HumanMessage("Weather in Oslo?")]
        only: dict[str, Any] = {"tool_call_recovery": "off"}  # which would cure what is only a symptom
        fields: dict[str, Any] = {"persona": "vllm", "model": INSTRUCT, "tools": TOOLS[:1], "script": None}
        reply, _ = await exchange(mode, messages, practices={**only, "tool_ids": "off"}, **fields)
        assert reply.tool_calls == []
        assert "<|tool_call_begin|>" in reply.text
        reply, (body,) = await exchange(mode, messages, practices=only, **fields)
        assert [(call["name"], call["args"]) for call in reply.tool_calls] == [("get_weather", {"city": "Oslo"})]
        assert all(NATIVE.fullmatch(one) for one in ids(body))


@pytest.mark.parametrize("mode", MODES)
class TestRepeatedIds:
    """F6 (fireconnect#16, vllm#50295, nanobot#4473)."""

    async def test_moonshot_refuses_them(self, mode: str) -> None:
        messages = history("grep:3", "get_time:1", "grep:3")
        with pytest.raises(HistoryRefused, match="duplicated"):
            await exchange(mode, messages, model="kimi-k2.6", practices={"tool_ids": "off", "history": "off"})
        reply, (body,) = await exchange(mode, messages, model="kimi-k2.6", practices={"history": "off"})
        assert reply.text == "Yes."
        first, second, *answers, third, last = ids(body)
        assert len({first, second, third}) == 3
        assert (answers, last) == ([second, first], third), "each answer follows its call"

    async def test_in_one_reply_and_again_in_the_next(self, mode: str) -> None:
        with KimiSimulator("vllm", quirks={"duplicate_ids": 1}) as simulator:
            model = ChatKimi(host="vllm", base_url=simulator.base_url, model=INSTRUCT).bind_tools(TOOLS)
            messages: list[Any] = [HumanMessage("Use get_weather and get_time for Paris.")]
            seen: list[str] = []
            for _ in range(2):
                reply = await ask(mode, model, messages)
                made = [str(call["id"]) for call in reply.tool_calls]
                assert made
                seen += made
                messages += [reply, *(ToolMessage("ok", tool_call_id=one) for one in made)]
                messages += [AIMessage("Done."), HumanMessage("Use get_weather and get_time for Rome.")]
            assert len(set(seen)) == len(seen)
            await ask(mode, model, messages)
            wire = ids(simulator.requests[-1].body)
        assert len(seen) == 4
        assert wire == [f"functions.{name}:{place}" for turn in (0, 2) for _ in "ca" for place, name in (
            (turn, "get_weather"), (turn + 1, "get_time"))]  # fmt: skip

    async def test_opaque_ones_too(self, mode: str) -> None:
        calls = [
            ("get_weather", {"city": "a"}, "x"),
            ("get_time", {"city": "b"}, "x"),
            ("get_time", {"city": "c"}, "y"),
        ]
        reply, _ = await exchange(
            mode, history("call_a", "y", "call_c"), persona="generic", model=INSTRUCT, tools=TOOLS,
            script=[Reply(tool_calls=calls)],
        )  # fmt: skip
        made = [call["id"] for call in reply.tool_calls]
        assert made[0] == "x", "the first of its name is unique"
        assert len(set(made)) == 3
        assert "y" not in made, "the thread has one already"

    async def test_off_leaves_them(self, mode: str) -> None:
        reply = Reply(
            tool_calls=[("get_weather", {"city": "a"}, "list_dir:0"), ("get_time", {"city": "b"}, "list_dir:0")]
        )
        kept, _ = await exchange(
            mode, [("user", "Go.")], persona="vllm", model=INSTRUCT, tools=TOOLS, script=[reply],
            practices={"tool_ids": "off"},
        )  # fmt: skip
        assert {call["id"] for call in kept.tool_calls} == {"list_dir:0"}
        healed, _ = await exchange(mode, [("user", "Go.")], persona="vllm", model=INSTRUCT, tools=TOOLS, script=[reply])
        assert len({call["id"] for call in healed.tool_calls}) == 2


def raw(identity: str | None) -> Reply:
    call = {"id": "functions.get_weather:0", "type": "function", "index": 0,
            "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}  # fmt: skip
    body: dict[str, Any] = {"choices": [{"index": 0, "message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    return Reply(chunks=[body if identity is None else {"id": identity, **body}])


class TestAppIds:
    async def answer(self, identity: str | None, messages: Any = (("user", "Paris?"),)) -> str:
        reply, _ = await exchange(
            "invoke", list(messages), persona="vllm", model=INSTRUCT, tools=TOOLS, script=[raw(identity)]
        )
        return str(reply.tool_calls[0]["id"])

    async def test_they_follow_the_hosts_response(self) -> None:
        assert await self.answer("r-1") == await self.answer("r-1")
        assert await self.answer("r-1") != await self.answer("r-2")

    async def test_parallel_branches_differ_where_a_gateway_repeats_its_response_id(self) -> None:
        first, second = await self.answer("r-1"), await self.answer("r-1", [("user", "Rome?")])
        assert first != second

    async def test_without_a_response_id_they_are_unique_all_the_same(self) -> None:
        assert await self.answer(None) != await self.answer(None)
        assert await self.answer("") != await self.answer("")

    async def test_a_gateway_that_repeats_its_response_id(self) -> None:
        first = await self.answer("chatcmpl-1")
        call = asked("get_weather", "Paris", first)
        thread = [
            HumanMessage("Paris?"), AIMessage("", tool_calls=[call]), ToolMessage("sunny", tool_call_id=first),
            AIMessage("Sunny."), HumanMessage("Again?"),
        ]  # fmt: skip
        assert await self.answer("chatcmpl-1", thread) != first

    async def test_an_opaque_unique_id_stays(self) -> None:
        script = [Reply(tool_calls=[("get_weather", {"city": "a"}, "chatcmpl-tool-7")])]
        reply, _ = await exchange(
            "invoke", [("user", "Go.")], persona="generic", model=INSTRUCT, tools=TOOLS, script=script
        )
        assert [call["id"] for call in reply.tool_calls] == ["chatcmpl-tool-7"]


class TestModes:
    async def test_the_native_form_is_no_override(self) -> None:
        """An encoding: said in the report, never an error."""
        for mode in ("apply", "error"):
            reply, (body,) = await exchange(
                "invoke", history(), persona="vllm", model=INSTRUCT, practices={"tool_ids": mode}
            )
            assert ids(body)[0] == "functions.get_weather:0"
            assert [
                entry for entry in reply.response_metadata["refrase"]["changes"] if entry["practice"] == "tool-ids"
            ] == [
                {
                    "practice": "tool-ids",
                    "action": "encode",
                    "detail": "3 tool-call id(s) to the native form",
                    "source": "MoonshotAI/K2-Vendor-Verifier README",
                }
            ]

    async def test_warn_keeps_them(self) -> None:
        reply, (body,) = await exchange(
            "invoke", history(), persona="vllm", model=INSTRUCT, practices={"tool_ids": "warn"}
        )
        assert ids(body)[0] == "call_a"
        assert [
            (entry["action"], entry["detail"])
            for entry in reply.response_metadata["refrase"]["changes"]
            if entry["practice"] == "tool-ids"
        ] == [("advise", "3 tool-call id(s) to the native form")]

    async def test_native_ids_in_order_are_left_alone(self) -> None:
        reply, (body,) = await exchange(
            "invoke",
            history("functions.get_weather:0", "functions.get_time:1", "functions.get_weather:2"),
            persona="vllm", model=THINKING,
        )  # fmt: skip
        assert ids(body)[:2] == ["functions.get_weather:0", "functions.get_time:1"]
        assert not [e for e in reply.response_metadata["refrase"]["changes"] if e["practice"] == "tool-ids"]
