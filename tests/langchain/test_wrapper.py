"""A wrapped ChatOpenAI on the wire: the body that ChatKimi sends, and the reply healed as ChatKimi heals it."""

from __future__ import annotations

import logging
from typing import Any

import openai
import pytest
from inline_snapshot import snapshot
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.langchain import ChatKimi, with_kimi_practices
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, ask
from tests.langchain.wrapped import Streaming, chat_openai, wrapped

ODD = {
    "type": "function",
    "function": {
        "name": "21st_magic",
        "description": "Search.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}, "kind": {"enum": ["a"]}},
            "$defs": {"unused": {"type": "string"}},
        },
    },
}  # fmt: skip
"""A name and a schema that Moonshot's API refuses."""


class City(BaseModel):
    """A city."""

    name: str


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return f"It is sunny in {city}."


HISTORY = [
    SystemMessage("You are terse."),
    HumanMessage("Weather in Paris?"),
    AIMessage(
        "",
        tool_calls=[{"name": "get_weather", "args": {"city": "Paris"}, "id": "call_1", "type": "tool_call"}],
        additional_kwargs={"reasoning_content": "I look it up.", "tool_arguments": {"call_1": '{"city":"Paris"}'}},
    ),
    ToolMessage("It is sunny.", tool_call_id="call_1"),
    AIMessage("Sunny."),
    HumanMessage("And <|im_end|> in Tokyo?"),
]
MOONSHOT = {"persona": "moonshot", "model": "kimi-k2.6"}
THINKING = {"persona": "moonshot", "model": "kimi-k2-thinking"}
INSTRUCT = {"persona": "moonshot", "model": "kimi-k2-0905-preview"}
VLLM = {"persona": "vllm", "model": "moonshotai/Kimi-K2-Thinking"}
OPENROUTER = {"persona": "openrouter", "model": "moonshotai/kimi-k2.6"}
FIREWORKS = {"persona": "fireworks", "model": "accounts/fireworks/models/kimi-k2p6"}

SCENES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "plain": ("Hello", {}, {}),
    "history": (HISTORY, {}, {}),
    "sampling": ("Hello", {"temperature": 0.1, "top_p": 0.5, "presence_penalty": 1.5, "seed": 7, "max_tokens": 500}, {}),
    "stop": ("Hello", {"stop": ["END"]}, {}),
    "extra_body": ("Hello", {"extra_body": {"thinking": {"type": "disabled"}, "top_k": 3}}, {}),
    "thinking off": ("Hello", {}, {"thinking": False}),
    "thinking auto, easy": ("What is the capital of Australia?", {}, {"thinking": "auto"}),
    "thinking auto, hard": ("Prove that the square root of 2 is irrational.", {}, {"thinking": "auto"}),
    "tools": ("Weather?", {}, {"tools": [get_weather, ODD]}),
    "history and tools": (HISTORY, {}, {"tools": [get_weather, ODD]}),
    "any": ("Weather?", {}, {"tools": [get_weather, ODD], "tool_choice": "any"}),
    "named": ("Weather?", {}, {"tools": [get_weather, ODD], "tool_choice": "get_weather"}),
    "response_format": ("A city?", {}, {"response_format": City}),
    "call": ("Hello", {"temperature": 0.1}, {"temperature": 0.2, "max_tokens": 300, "user": "u"}),
}  # fmt: skip
"""Messages, fields of the model, arguments of the call."""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "target", [MOONSHOT, THINKING, INSTRUCT, VLLM, OPENROUTER, FIREWORKS], ids=lambda t: t["model"]
)
async def test_the_body_is_chat_kimis(target: dict[str, str], mode: str) -> None:
    with KimiSimulator(target["persona"]) as simulator:
        where = {"model": target["model"], "base_url": simulator.base_url, "api_key": "sk-test"}
        for scene, (messages, fields, arguments) in SCENES.items():
            bodies = []
            for model in (wrapped(simulator, **where, **fields), ChatKimi(host=target["persona"], **where, **fields)):
                simulator.reset()
                await ask(mode, model, messages, **arguments)
                bodies.append([{**{"stream": False}, **request.body} for request in simulator.requests])
                assert simulator.refusals == [], scene
            assert bodies[0] == bodies[1], scene


async def test_the_body_in_full() -> None:
    with KimiSimulator() as simulator:
        model = wrapped(simulator, temperature=0.3, max_tokens=4_000)
        model.bind_tools([ODD], tool_choice="any").invoke(HISTORY)
        body = simulator.requests[0].body
    assert body == snapshot(
        {
            "model": "kimi-k2.6",
            "stream": False,
            "messages": [
                {
                    "role": "system",
                    "content": """\
You are terse.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                },
                {"role": "user", "content": "Weather in Paris?"},
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'},
                        }
                    ],
                    "reasoning_content": "I look it up.",
                },
                {"role": "tool", "content": "It is sunny.", "tool_call_id": "call_1", "name": "get_weather"},
                {"role": "assistant", "content": "Sunny."},
                {"role": "user", "content": "And <~|im_end|> in Tokyo?"},
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "t_21st_magic_223895",
                        "description": "Search.",
                        "parameters": {
                            "type": "object",
                            "properties": {
                                "query": {
                                    "description": "default: null",
                                    "anyOf": [{"type": "string"}, {"type": "null"}],
                                },
                                "kind": {"type": "string", "enum": ["a"]},
                            },
                        },
                    },
                }
            ],
            "tool_choice": "auto",
            "thinking": {"type": "enabled", "keep": "all"},
            "max_completion_tokens": 4000,
        }
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", ["kimi-k2.6", "kimi-k2-thinking", "kimi-k3"])
async def test_turns_with_tools_get_no_400(model: str, mode: str) -> None:
    """F1: ChatOpenAI loses the reasoning, and the next request would be refused (test_thirty_turns.py shows it)."""
    with KimiSimulator() as simulator:
        agent = create_agent(wrapped(simulator, model=model), tools=[get_weather], checkpointer=InMemorySaver())
        thread: Any = {"configurable": {"thread_id": mode}}
        for city in ("Paris", "Tokyo", "Rome"):
            question = {"messages": [("user", f"What is the weather in {city}?")]}
            if mode == "invoke":
                agent.invoke(question, thread)
            elif mode == "ainvoke":
                await agent.ainvoke(question, thread)
            elif mode == "stream":
                list(agent.stream(question, thread, stream_mode="messages"))
            else:
                [piece async for piece in agent.astream(question, thread, stream_mode="messages")]
        state = agent.get_state(thread).values
        assert simulator.refusals == []
        bodies = [request.body for request in simulator.requests]
    assert len(bodies) == 6
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"] * 3
    calls = [message for message in bodies[-1]["messages"] if message.get("tool_calls")]
    assert [call["reasoning_content"] for call in calls] == [" "] * 3
    for earlier, later in zip(bodies, bodies[1:], strict=False):
        assert later["messages"][: len(earlier["messages"])] == earlier["messages"]


async def test_lost_reasoning_is_said_once_in_the_log_and_in_the_report(caplog: pytest.LogCaptureFixture) -> None:
    with KimiSimulator(script=[Reply(reasoning="Hm.", content="Yes.")] * 3, quirks={}) as simulator:
        model = wrapped(simulator, model="kimi-k2.7-code")
        with caplog.at_level(logging.WARNING, "refrase_integrations"):
            replies = [await ask(mode, model, "Hello") for mode in ("invoke", "stream", "ainvoke")]
    said = [record.getMessage() for record in caplog.records if "reasoning" in record.getMessage()]
    assert said == snapshot(
        [
            "kimi-k2.7-code on moonshot: wrapper: no reasoning came through ChatOpenAI: your app and the next turn do without. ChatKimi keeps it."
        ]
    )
    for reply in replies:
        lines = [line for line in reply.response_metadata["refrase"]["healed"] if line["practice"] == "wrapper"]
        assert [line["detail"] for line in lines] == snapshot(
            ["no reasoning came through ChatOpenAI: your app and the next turn do without. ChatKimi keeps it."]
        )


@pytest.mark.parametrize("mode", MODES)
async def test_a_leaked_call_is_recovered(mode: str) -> None:
    leak = (
        "Let me see.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
        '<|tool_call_argument_begin|>{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>'
    )
    with KimiSimulator("vllm", script=[Reply(content=leak, finish_reason="stop")]) as simulator:
        model = wrapped(simulator, model="moonshotai/Kimi-K2-Instruct-0905").bind_tools([get_weather])
        reply = await ask(mode, model, "Weather in Paris?")
    assert [(call["name"], call["args"]) for call in reply.tool_calls] == [("get_weather", {"city": "Paris"})]
    assert reply.text == "Let me see."
    assert reply.response_metadata["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("mode", MODES)
async def test_calls_that_the_stream_lost_are_asked_for_once_more(mode: str) -> None:
    """F8 and F9: ChatOpenAI drops every tool-call delta that has no index."""
    with KimiSimulator("vllm", quirks={"missing_index": True}) as simulator:
        model = wrapped(simulator, model="moonshotai/Kimi-K2-Instruct-0905").bind_tools([get_weather])
        reply = await ask(mode, model, "What is the weather in Paris?")
    assert [call["args"] for call in reply.tool_calls] == [{"city": "Paris"}]


@pytest.mark.parametrize("mode", MODES)
async def test_names_come_back_as_the_users(mode: str) -> None:
    with KimiSimulator(
        script=lambda body: Reply(tool_calls=[(body["tools"][0]["function"]["name"], {"kind": "a"})])
    ) as simulator:
        reply = await ask(mode, wrapped(simulator).bind_tools([ODD]), "Search")
        assert simulator.requests[0].body["tools"][0]["function"]["name"] == snapshot("t_21st_magic_223895")
    assert [call["name"] for call in reply.tool_calls] == ["21st_magic"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_forced_choice_is_asked_for_once_more(mode: str) -> None:
    script = ["I will not.", Reply(tool_calls=[("get_weather", {"city": "Rome"})])]
    with KimiSimulator(script=script) as simulator:
        model = wrapped(simulator).bind_tools([get_weather], tool_choice="any")
        reply = await ask(mode, model, "Weather in Rome?")
        assert [request.body["tool_choice"] for request in simulator.requests] == ["auto", "auto"]
    assert [call["args"] for call in reply.tool_calls] == [{"city": "Rome"}]


@pytest.mark.parametrize("mode", MODES)
async def test_structured_output(mode: str) -> None:
    with KimiSimulator(script=['{"name": "Rome"}']) as simulator:
        runnable = wrapped(simulator).with_structured_output(City)
        if mode == "invoke":
            found = runnable.invoke("A city?")
        elif mode == "ainvoke":
            found = await runnable.ainvoke("A city?")
        elif mode == "stream":
            found = list(runnable.stream("A city?"))[-1]
        else:
            found = [piece async for piece in runnable.astream("A city?")][-1]
        assert simulator.requests[0].body["response_format"]["type"] == "json_schema"
    assert found == City(name="Rome")


@pytest.mark.parametrize("mode", MODES)
async def test_usage_and_cost(mode: str) -> None:
    usage = {"prompt_tokens": 1_000, "completion_tokens": 10, "total_tokens": 1_010, "cached_tokens": 600}
    with KimiSimulator(script=[Reply(content="Yes.", usage=usage)]) as simulator:
        reply = await ask(mode, wrapped(simulator), "Hello")
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["total_tokens"] == 1_010
    assert reply.response_metadata["cost_usd"] > 0
    assert reply.response_metadata["model_name"] == "kimi-k2.6"
    if mode in ("invoke", "ainvoke"):
        assert reply.usage_metadata["input_token_details"] == {"cache_read": 600}


# -- thinking --------------------------------------------------------------------------------------------

EASY, HARD = "What is the capital of Australia?", "Prove that the square root of 2 is irrational."


@pytest.mark.parametrize("mode", MODES)
async def test_thinking_auto_switches_as_chat_kimi_does(mode: str) -> None:
    with KimiSimulator() as simulator:
        model = with_kimi_practices(chat_openai(simulator), host="moonshot", thinking="auto")
        for turn, state, why in ((EASY, "disabled", "a look-up"), (HARD, "enabled", "mathematics")):
            reply = await ask(mode, model, turn)
            assert simulator.requests[-1].body["thinking"]["type"] == state
            said = [
                line["detail"]
                for line in reply.response_metadata["refrase"]["changes"]
                if line["practice"] == "thinking"
            ]
            assert said[0].startswith(f"auto: {'on' if state == 'enabled' else 'off'}, {why}")
        await ask(mode, model, EASY, thinking=True)
        assert simulator.requests[-1].body["thinking"]["type"] == "enabled", "the call has the last word"
        await ask(mode, with_kimi_practices(model, thinking=False), HARD)
        assert simulator.requests[-1].body["thinking"]["type"] == "disabled"
        assert simulator.refusals == []


async def test_thinking_auto_stays_on_within_a_turn_of_an_agent() -> None:
    with KimiSimulator() as simulator:
        model = with_kimi_practices(chat_openai(simulator), host="moonshot", thinking="auto")
        create_agent(model, tools=[get_weather]).invoke({"messages": [("user", "What is the weather in Paris?")]})
        states = [request.body["thinking"]["type"] for request in simulator.requests]
        assert len(states) == 2
        assert len(set(states)) == 1
        assert simulator.refusals == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("turn", [EASY, HARD])
async def test_thinking_auto_is_refused_where_the_switch_would_be_lost(mode: str, turn: str) -> None:
    inner = Streaming()
    model = with_kimi_practices(inner, "kimi-k2.6", "moonshot", thinking="auto")
    with pytest.raises(
        ConfigurationError, match="'auto' cannot work through Streaming: it does not send thinking.*ChatKimi"
    ):
        await ask(mode, model, turn)
    assert inner.calls == []
    thinks = with_kimi_practices(inner, "kimi-k2-thinking", "moonshot", thinking="auto")  # nothing to switch
    reply = await ask(mode, thinks, turn)
    [line] = [line for line in reply.response_metadata["refrase"]["changes"] if line["practice"] == "thinking"]
    assert line["detail"] == "auto: on, cannot be switched here"


# -- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, openai.RateLimitError), (500, openai.InternalServerError), (401, openai.AuthenticationError)],
)
async def test_errors_are_the_inner_models_and_nothing_is_retried(
    mode: str, status: int, kind: type[Exception]
) -> None:
    with KimiSimulator(script=[Reply(status=status)] * 3) as simulator:
        with pytest.raises(kind):
            await ask(mode, wrapped(simulator), "Hello")
        assert len(simulator.requests) == 1


async def test_the_inner_models_own_retries_stand() -> None:
    with KimiSimulator(script=[Reply(status=500, headers={"retry-after-ms": "1"}), "Yes."]) as simulator:
        reply = wrapped(simulator, max_retries=1).invoke("Hello")
        assert len(simulator.requests) == 2
    assert reply.text == "Yes."


@pytest.mark.parametrize("mode", MODES)
async def test_a_refused_history_is_mended_and_sent_once_more(mode: str) -> None:
    """As ChatKimi does, though the error is the openai SDK's."""
    refusal = Reply(status=400, message="the message at position 1 with role 'assistant' must not be empty")
    history = [HumanMessage("Hello"), AIMessage("  x "), HumanMessage("and?"), HumanMessage("well?")]
    with KimiSimulator(script=[refusal, "Yes."]) as simulator:
        kimi = ChatKimi(host="moonshot", base_url=simulator.base_url, api_key="sk-test")
        expected = await ask(mode, kimi, history)
        bodies = [request.body["messages"] for request in simulator.requests]
        simulator.reset()
        reply = await ask(mode, wrapped(simulator), history)
        assert [request.body["messages"] for request in simulator.requests] == bodies
    assert len(bodies) == 2
    assert reply.text == expected.text == "Yes."
