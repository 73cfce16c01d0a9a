from __future__ import annotations

import json
from typing import Any

import pytest
from inline_snapshot import snapshot
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from refrase_integrations.errors import HostError, PracticeError
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.practice import Call
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.tokens import estimate
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply, SimulatedHost
from tests.conversations import MODES, OPENAPI, ask, exchange, sent, violations_of_openapi


def called(call_id: str, text: str = "") -> AIMessage:
    return AIMessage(text, tool_calls=[{"name": "get_time", "args": {"city": "Paris"}, "id": call_id}])


STUCK: dict[str, list[BaseMessage]] = {
    "blank assistant turn": [HumanMessage("Hi."), AIMessage(""), HumanMessage("Are you there?")],
    "blank text part": [HumanMessage([{"type": "text", "text": ""}, {"type": "text", "text": "Hi."}])],
    "unanswered call": [HumanMessage("Time?"), called("call_1"), HumanMessage("Never mind.")],
    "orphaned result": [HumanMessage("Hi."), ToolMessage("noon", tool_call_id="call_9"), HumanMessage("Still there?")],
    "answer after another turn": [HumanMessage("Time?"), called("call_1"), HumanMessage("Well?"), ToolMessage("noon", tool_call_id="call_1")],
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", STUCK)
async def test_a_stuck_thread_goes_through_and_is_refused_without(mode: str, case: str) -> None:
    body = await sent(mode, STUCK[case], model="kimi-k2-0905-preview")  # the strict simulator takes it
    assert not OPENAPI.exists() or violations_of_openapi(body) == []
    with KimiSimulator() as simulator:
        model = ChatKimi(
            model="kimi-k2-0905-preview", host="moonshot", base_url=simulator.base_url, api_key="sk-test",
            practices={"history": "off"},
        )  # fmt: skip
        with pytest.raises(HostError):
            await ask(mode, model, STUCK[case])
        assert simulator.refusals


@pytest.mark.parametrize("mode", MODES)
async def test_bodies_on_moonshot(mode: str) -> None:
    bodies = {
        case: (await sent(mode, thread, model="kimi-k2-0905-preview"))["messages"][1:] for case, thread in STUCK.items()
    }
    assert bodies == snapshot(
        {
            "blank assistant turn": [{"role": "user", "content": "Hi."}, {"role": "user", "content": "Are you there?"}],
            "blank text part": [{"role": "user", "content": [{"type": "text", "text": "Hi."}]}],
            "unanswered call": [
                {"role": "user", "content": "Time?"},
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "get_time", "arguments": '{"city": "Paris"}'},
                        }
                    ],
                },
                {
                    "role": "tool",
                    "tool_call_id": "call_1",
                    "content": "Error: the tool call was interrupted before it gave a result. Call the tool again if it is still needed.",
                    "name": "get_time",
                },
                {"role": "user", "content": "Never mind."},
            ],
            "orphaned result": [{"role": "user", "content": "Hi."}, {"role": "user", "content": "Still there?"}],
            "answer after another turn": [
                {"role": "user", "content": "Time?"},
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "get_time", "arguments": '{"city": "Paris"}'},
                        }
                    ],
                },
                {"role": "tool", "content": "noon", "tool_call_id": "call_1", "name": "get_time"},
                {"role": "user", "content": "Well?"},
            ],
        }
    )


@pytest.mark.parametrize("mode", MODES)
async def test_bodies_on_vllm(mode: str) -> None:
    bodies = {
        case: (await sent(mode, thread, persona="vllm", model="moonshotai/Kimi-K2-Instruct-0905"))["messages"][1:]
        for case, thread in STUCK.items()
    }
    assert bodies == snapshot(
        {
            "blank assistant turn": [{"role": "user", "content": "Hi."}, {"role": "user", "content": "Are you there?"}],
            "blank text part": [{"role": "user", "content": [{"type": "text", "text": "Hi."}]}],
            "unanswered call": [
                {"role": "user", "content": "Time?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "functions.get_time:0",
                            "type": "function",
                            "function": {"name": "get_time", "arguments": '{"city": "Paris"}'},
                        }
                    ],
                },
                {
                    "role": "tool",
                    "tool_call_id": "functions.get_time:0",
                    "content": "Error: the tool call was interrupted before it gave a result. Call the tool again if it is still needed.",
                    "name": "get_time",
                },
                {"role": "user", "content": "Never mind."},
            ],
            "orphaned result": [{"role": "user", "content": "Hi."}, {"role": "user", "content": "Still there?"}],
            "answer after another turn": [
                {"role": "user", "content": "Time?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "functions.get_time:0",
                            "type": "function",
                            "function": {"name": "get_time", "arguments": '{"city": "Paris"}'},
                        }
                    ],
                },
                {"role": "tool", "content": "noon", "tool_call_id": "functions.get_time:0", "name": "get_time"},
                {"role": "user", "content": "Well?"},
            ],
        }
    )


@pytest.mark.parametrize("mode", MODES)
async def test_a_sound_thread_is_left_alone(mode: str) -> None:
    thread = [
        HumanMessage("Time?"),
        called("call_1", "I look."),
        ToolMessage("noon", tool_call_id="call_1", name="get_time"),
    ]
    reply, _ = await exchange(mode, thread, model="kimi-k2-0905-preview")
    assert not [line for line in reply.response_metadata["refrase"]["changes"] if line["practice"] == "history"]


@pytest.mark.parametrize("mode", MODES)
async def test_error_refuses_before_any_request(mode: str) -> None:
    with KimiSimulator() as simulator:
        model = ChatKimi(
            host="moonshot", base_url=simulator.base_url, api_key="sk-test", practices={"history": "error"}
        )
        with pytest.raises(PracticeError, match="a blank assistant message"):
            await ask(mode, model, STUCK["blank assistant turn"])
        assert simulator.requests == []


@pytest.mark.parametrize("mode", MODES)
async def test_broken_arguments_of_an_earlier_call_stop_no_later_turn(mode: str) -> None:
    broken: Any = {
        "name": "get_time",
        "args": '{"city": "Par',
        "id": "call_1",
        "error": "cut off",
        "type": "invalid_tool_call",
    }
    thread = [HumanMessage("Time?"), AIMessage("", invalid_tool_calls=[broken]), HumanMessage("Again?")]
    body = await sent(mode, thread, model="kimi-k2-0905-preview")
    assert body["messages"][2:4] == snapshot(
        [
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {
                            "name": "get_time",
                            "arguments": '{"unreadable_arguments": "{\\"city\\": \\"Par"}',
                        },
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "Error: cut off", "name": "get_time"},
        ]
    )


@pytest.mark.parametrize("mode", MODES)
async def test_off_sends_the_thread_as_it_is(mode: str) -> None:
    target = {"persona": "vllm", "model": "moonshotai/Kimi-K2-Instruct-0905"}
    body = await sent(mode, STUCK["unanswered call"], practices={"history": "off"}, **target)
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][2]["content"] == ""


@pytest.mark.parametrize("mode", MODES)
async def test_warn_only_says_so(mode: str) -> None:
    thread = [HumanMessage("xylophone?"), called("call_1"), HumanMessage("Never mind.")]
    target = {"persona": "vllm", "model": "moonshotai/Kimi-K2-Instruct-0905"}
    reports = {}
    for setting in ("apply", "warn"):
        reply, bodies = await exchange(mode, thread, practices={"history": setting}, **target)
        lines = reply.response_metadata["refrase"]["changes"]
        reports[setting] = [line for line in lines if line["practice"] == "history"]
        assert ("tool" in {message["role"] for message in bodies[0]["messages"]}) is (setting == "apply")
        assert "xylophone" not in str(reply.response_metadata)
    assert reports["apply"] == snapshot(
        [
            {
                "practice": "history",
                "action": "encode",
                "detail": "blank content beside tool calls: null",
                "source": "MoonshotAI/kimi-cli#2035, #1977; router-for-me/CLIProxyAPI#1730",
            },
            {
                "practice": "history",
                "action": "add",
                "detail": "an unanswered tool call: an interrupted result stands in",
                "source": "MoonshotAI/kimi-cli#2035, #1977; router-for-me/CLIProxyAPI#1730",
            },
        ]
    )
    assert {line["action"] for line in reports["warn"]} == {"advise"}


@pytest.mark.parametrize("mode", MODES)
async def test_a_thread_that_says_nothing_is_an_error_before_any_request(mode: str) -> None:
    chat = ChatKimi(host="moonshot", base_url="http://127.0.0.1:9/v1", api_key="sk-test")
    with pytest.raises(PracticeError) as caught:
        await ask(mode, chat, [("system", "Be brief."), ("user", " ")])
    assert caught.value.practice == "history"
    assert caught.value.details == ("no message says anything",)
    assert "practices={'history': 'apply'" in str(caught.value)


@pytest.mark.parametrize("mode", MODES)
async def test_a_blank_result_and_a_second_one(mode: str) -> None:
    thread = [
        HumanMessage("Time?"),
        called("call_1"),
        *[ToolMessage(text, tool_call_id="call_1") for text in ("", "noon")],
    ]
    body = await sent(mode, thread, model="kimi-k2-0905-preview")
    assert body["messages"][3:] == snapshot(
        [{"role": "tool", "content": "(no output)", "tool_call_id": "call_1", "name": "get_time"}]
    )


@pytest.mark.parametrize("mode", MODES)
async def test_one_id_in_two_turns_keeps_each_answer_with_its_call(mode: str) -> None:
    thread = [
        HumanMessage("Time?"),
        called("list_dir:0"),
        ToolMessage("noon", tool_call_id="list_dir:0"),
        called("list_dir:0"),
        ToolMessage("one", tool_call_id="list_dir:0"),
    ]
    body = await sent(mode, thread, model="kimi-k2-0905-preview")
    made = [message["tool_calls"][0]["id"] for message in body["messages"] if message.get("tool_calls")]
    answers = [(m["tool_call_id"], m["content"]) for m in body["messages"] if m["role"] == "tool"]
    assert len(set(made)) == 2
    assert answers == list(zip(made, ["noon", "one"], strict=True))


@pytest.mark.parametrize("mode", MODES)
async def test_a_structural_refusal_is_tried_once_more_in_a_stricter_form(mode: str) -> None:
    refusal = Reply(status=400, message="the message at position 1 with role 'user' must not be empty")
    thread = [
        HumanMessage([{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]),
        HumanMessage("Three."),
    ]
    reply, bodies = await exchange(mode, thread, script=[refusal, "Yes."], model="kimi-k2-0905-preview")
    assert reply.text == "Yes."
    assert [body["messages"][1:] for body in bodies] == snapshot(
        [
            [
                {"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]},
                {"role": "user", "content": "Three."},
            ],
            [
                {
                    "role": "user",
                    "content": """\
One.Two.

Three.\
""",
                }
            ],
        ]
    )
    with pytest.raises(HostError):
        await exchange(mode, thread, script=[refusal, refusal, "Yes."], model="kimi-k2-0905-preview")


def prepared(host: str, model: str, messages: list[Any]) -> list[Any]:
    dialect = compile_dialect(find_model(model), find_host(host), None, model)
    call = Call(body={"model": model, "messages": messages}, dialect=dialect, practices=Practices(), count=estimate)
    return prepare(call).body["messages"]


def test_a_system_message_that_only_carries_tools_is_not_blank() -> None:
    """guide/use-dynamic-tool-loading: Kimi K3 is given tools in the middle of a conversation."""
    tool = {"type": "function", "function": {"name": "f_one", "description": "", "parameters": {"type": "object"}}}
    messages = [{"role": "user", "content": "Hi."}, {"role": "system", "tools": [tool]}]
    assert prepared("moonshot", "kimi-k3", messages)[1:] == messages, "behind the line on live data"


FOREIGN_FIELDS = [
    ("fireworks", "accounts/fireworks/models/kimi-k2-thinking", {"reasoning": "Hm."}, "messages[1].reasoning"),
    ("groq", "moonshotai/kimi-k2-instruct-0905", {"cache_control": {"type": "ephemeral"}}, "'cache_control'"),
]


@pytest.mark.parametrize(("host", "model", "fields", "words"), FOREIGN_FIELDS, ids=["fireworks", "groq"])
def test_only_fields_that_the_host_knows_leave_the_house(host: str, model: str, fields: Any, words: str) -> None:
    """400 Extra inputs are not permitted (pi#4514); property is unsupported (claude-code-router#337)."""
    messages = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello.", **fields},
        {"role": "user", "content": "Bye."},
    ]
    refused, taken = (
        SimulatedHost(host).respond(
            "POST",
            "/v1/chat/completions",
            query={},
            headers={},
            raw=json.dumps({"model": model, "messages": sent_as}).encode(),
        )[1]
        for sent_as in (messages, prepared(host, model, messages))
    )
    assert refused.refusal is not None
    assert words in refused.refusal.message
    assert (taken.status, taken.refusal) == (200, None)


@pytest.mark.parametrize("mode", MODES)
async def test_broken_arguments_beside_a_blank_part_are_mended_too(mode: str) -> None:
    broken: Any = {"name": "get_time", "args": '{"city": "Par', "id": "call_1", "error": "cut off"}
    parts: Any = [{"type": "text", "text": ""}, {"type": "text", "text": "I look."}]
    said = AIMessage(parts, invalid_tool_calls=[{**broken, "type": "invalid_tool_call"}])
    body = await sent(mode, [HumanMessage("Time?"), said, HumanMessage("Again?")], model="kimi-k2-0905-preview")
    assert body["messages"][2]["content"] == [{"type": "text", "text": "I look."}]
    arguments = body["messages"][2]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"unreadable_arguments": '{"city": "Par'}
