"""ChatAnthropic on Moonshot's Anthropic endpoint, wrapped."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from inline_snapshot import snapshot
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from refrase_integrations.langchain import with_kimi_practices
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, ask

INSTRUCT, THINKING, THIRD = "kimi-k2-0905-preview", "kimi-k2-thinking", "kimi-k3"


class City(BaseModel):
    """A city."""

    name: str


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return f"It is sunny in {city}."


def chat_anthropic(simulator: KimiSimulator, **fields: Any) -> ChatAnthropic:
    url = simulator.base_url.removesuffix("/v1") + "/anthropic"
    return ChatAnthropic(**{"model": INSTRUCT, "base_url": url, "api_key": "sk-test", "max_retries": 0, **fields})


def wrapped(simulator: KimiSimulator, *, practices: Any = None, **fields: Any) -> Any:
    return with_kimi_practices(chat_anthropic(simulator, **fields), host="moonshot-anthropic", practices=practices)


def lines(reply: AIMessage, practice: str) -> list[str]:
    report = reply.response_metadata["refrase"]
    return [line["detail"] for line in (*report["changes"], *report["healed"]) if line["practice"] == practice]


def test_the_endpoint_is_known_by_its_address() -> None:
    model = with_kimi_practices(ChatAnthropic(model=THIRD, base_url="https://api.moonshot.ai/anthropic", api_key="k"))
    assert model._dialect(model._settings(None, {}))[0].host.id == "moonshot-anthropic"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("fields", "sent", "said"),
    [
        ({"model": INSTRUCT}, 1.0, ["temperature 0.6 is sent as 1.0"]),
        ({"model": INSTRUCT, "temperature": 0.1}, 1.0, ["temperature 0.6 is sent as 1.0"]),
        ({"model": THINKING}, 1.0, ["temperature 1.0: 0.6 is the most there is"]),
        ({"model": THIRD, "temperature": 0.1}, None, []),
        ({"model": INSTRUCT, "temperature": 0.3, "practices": {"temperature": "off"}}, 0.5, ["temperature 0.3 is sent as 0.5"]),
        ({"model": INSTRUCT, "practices": {"anthropic_temperature": "off"}}, 0.6, []),
    ],
)  # fmt: skip
async def test_the_temperature_is_divided_once(mode: str, fields: dict[str, Any], sent: Any, said: list[str]) -> None:
    with KimiSimulator() as simulator:
        model = wrapped(simulator, **fields)
        for one in (model, with_kimi_practices(model)):
            reply = await ask(mode, one, "Hello")
            assert simulator.requests[-1].body.get("temperature") == sent
            assert lines(reply, "anthropic-temperature") == said
        assert simulator.refusals == []


async def test_the_body_in_full() -> None:
    history = [
        HumanMessage("Weather in Paris?"),
        AIMessage("", tool_calls=[{"name": "get_weather", "args": {"city": "Paris"}, "id": "call_1", "type": "tool_call"}]),
        ToolMessage("No.", tool_call_id="call_1", status="error"),
    ]  # fmt: skip
    with KimiSimulator() as simulator:
        model = wrapped(simulator, temperature=0.1, stop=["END"]).bind_tools([get_weather], parallel_tool_calls=False)
        model.invoke(history)
        assert simulator.requests[0].body == snapshot(
            {
                "max_tokens": 32768,
                "messages": [
                    {"role": "user", "content": "Weather in Paris?"},
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "tool_use", "name": "get_weather", "input": {"city": "Paris"}, "id": "call_1"}
                        ],
                    },
                    {
                        "role": "user",
                        "content": [
                            {"type": "tool_result", "content": "No.", "tool_use_id": "call_1", "is_error": True}
                        ],
                    },
                ],
                "model": "kimi-k2-0905-preview",
                "stop_sequences": ["END"],
                "system": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: for anything that may have changed since your training, call get_weather before you answer.\
""",
                "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
                "tools": [
                    {
                        "name": "get_weather",
                        "input_schema": {
                            "properties": {"city": {"type": "string"}},
                            "required": ["city"],
                            "type": "object",
                        },
                        "description": "Return the weather in a city.",
                    }
                ],
                "temperature": 1.0,
            }
        )


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("model", [INSTRUCT, THINKING, THIRD])
async def test_an_agent_over_several_turns(model: str, is_async: bool) -> None:
    with KimiSimulator() as simulator:
        agent = create_agent(wrapped(simulator, model=model), tools=[get_weather], checkpointer=InMemorySaver())
        thread: Any = {"configurable": {"thread_id": "1"}}
        for city in ("Paris", "Tokyo", "Rome"):
            question = {"messages": [("user", f"What is the weather in {city}?")]}
            if is_async:
                [piece async for piece in agent.astream(question, thread, stream_mode="messages")]
            else:
                agent.invoke(question, thread)
        assert simulator.refusals == []
        bodies = [request.body for request in simulator.requests]
    assert len(bodies) == 6
    thoughts = [
        block
        for message in bodies[-1]["messages"]
        if message["role"] == "assistant"
        for block in message["content"]
        if isinstance(block, dict) and block["type"] == "thinking"
    ]
    assert len(thoughts) == (0 if model == INSTRUCT else 5)
    assert all(block["signature"] for block in thoughts)
    for earlier, later in zip(bodies, bodies[1:], strict=False):
        assert later["messages"][: len(earlier["messages"])] == earlier["messages"]


@pytest.mark.parametrize("mode", MODES)
async def test_reasoning_comes_and_goes_as_blocks(mode: str) -> None:
    with KimiSimulator(script=[Reply(reasoning="Hm, well.", content="Yes."), "No."]) as simulator:
        model = wrapped(simulator, model=THIRD)
        reply = await ask(mode, model, "Hello")
        assert (reply.text, reply.additional_kwargs["reasoning_content"]) == ("Yes.", "Hm, well.")
        assert [block["type"] for block in reply.content_blocks] == ["reasoning", "text"]
        assert lines(reply, "wrapper") == []
        await ask(mode, model, ["Hello", reply, "And?"])
        [thinking, text] = simulator.requests[-1].body["messages"][1]["content"]
    assert (thinking["type"], thinking["thinking"], text["text"]) == ("thinking", "Hm, well.", "Yes.")
    assert thinking["signature"]


async def test_a_native_message_stays_as_it_is() -> None:
    with KimiSimulator(script=[Reply(reasoning="Hm.", content="Yes."), "No."]) as simulator:
        inner = chat_anthropic(simulator, model=THIRD, max_tokens=20_000)
        native = inner.invoke("Hello")
        with_kimi_practices(inner, host="moonshot-anthropic").invoke([("user", "Hello"), native, ("user", "And?")])
        [thinking, _] = simulator.requests[-1].body["messages"][1]["content"]
    assert thinking["signature"] == native.content[0]["signature"]  # type: ignore[index]


@pytest.mark.parametrize("mode", MODES)
async def test_a_forced_choice(mode: str) -> None:
    """Kimi K3 takes "any" on this endpoint; where a model does not, one re-ask."""
    with KimiSimulator() as simulator:
        model = wrapped(simulator, model=THIRD).bind_tools([get_weather], tool_choice="any")
        assert (await ask(mode, model, "Weather in Rome?")).tool_calls
        assert simulator.requests[-1].body["tool_choice"] == {"type": "any"}
    script = ["I will not.", Reply(tool_calls=[("get_weather", {"city": "Rome"})])]
    with KimiSimulator(script=script) as simulator:
        model = wrapped(simulator).bind_tools([get_weather], tool_choice="get_weather")
        assert (await ask(mode, model, "Weather in Rome?")).tool_calls[0]["args"] == {"city": "Rome"}
        assert len(simulator.requests) == 2
        assert simulator.refusals == []


def test_tools_of_a_binding_may_be_in_anthropics_form() -> None:
    with KimiSimulator() as simulator:
        binding = chat_anthropic(simulator, model=THIRD).bind_tools([get_weather], tool_choice="any")
        assert binding.kwargs["tool_choice"] == {"type": "any"}  # type: ignore[attr-defined]
        with_kimi_practices(binding, host="moonshot-anthropic").invoke("Weather in Rome?")
        body = simulator.requests[0].body
    assert (body["tool_choice"], body["tools"][0]["name"]) == ({"type": "any"}, "get_weather")


@pytest.mark.parametrize("mode", MODES)
async def test_usage(mode: str) -> None:
    usage = {"prompt_tokens": 1_000, "completion_tokens": 10, "total_tokens": 1_010, "cached_tokens": 600}
    with KimiSimulator(script=[Reply(content="Yes.", usage=usage)]) as simulator:
        reply = await ask(mode, wrapped(simulator), "Hello")
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["input_tokens"] == 1_000
    assert reply.usage_metadata["input_token_details"] == {"cache_read": 600}


def test_structured_output() -> None:
    script = [Reply(tool_calls=[("City", {"name": "Rome"})]), '{"name": "Rome"}']
    with KimiSimulator(script=script) as simulator:
        assert wrapped(simulator).with_structured_output(City).invoke("A city?") == City(name="Rome")
        assert simulator.refusals == []


def test_the_output_limit_that_chat_anthropic_fills_in_is_no_wish_of_the_users() -> None:
    with KimiSimulator() as simulator:
        wrapped(simulator).invoke("Hello")
        wrapped(simulator, max_tokens=500).invoke("Hello")
        assert [request.body["max_tokens"] for request in simulator.requests] == [32_768, 500]


@pytest.mark.parametrize("mode", MODES)
async def test_errors_are_anthropics_own(mode: str) -> None:
    with KimiSimulator(script=[Reply(status=429)] * 2) as simulator:
        with pytest.raises(anthropic.RateLimitError):
            await ask(mode, wrapped(simulator), "Hello")
        assert len(simulator.requests) == 1
