from __future__ import annotations

from typing import Any

import pytest
from inline_snapshot import snapshot
from pydantic import BaseModel

from refrase_integrations.errors import PracticeError, ToolCallMissing, ToolChoiceRefused
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, OPENAPI, ask, exchange, sent, violations_of_openapi

QUESTION = [("user", "Weather in Paris?")]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "description": "Time.", "parameters": {"type": "object", "properties": {}}},
}
CALL = Reply(tool_calls=[("get_weather", {"city": "Paris"})])
OFF = {"tool_choice": "off"}
INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"
THINKING = "moonshotai/Kimi-K2-Thinking"
HOSTS = [("moonshot", "kimi-k2.6"), ("moonshot", "kimi-k3"), ("vllm", INSTRUCT), ("vllm", THINKING)]

pytestmark = pytest.mark.parametrize("mode", MODES)


async def body(mode: str, choice: Any = None, tools: Any = (WEATHER, CLOCK), **fields: Any) -> dict[str, Any]:
    fields = {"model": "kimi-k2.6", **fields}
    made = await sent(mode, QUESTION, tools=tools, bind={"tool_choice": choice}, script=[CALL], **fields)
    assert fields.get("persona") or not OPENAPI.exists() or violations_of_openapi(made) == []
    return made


async def forced(
    mode: str, script: Any, choice: Any = "any", tools: Any = (WEATHER,), **fields: Any
) -> tuple[Any, list[dict[str, Any]]]:
    bind = {"tool_choice": choice}
    return await exchange(mode, QUESTION, tools=tools, bind=bind, script=script, **{"model": "kimi-k2.6", **fields})


def said(reply: Any, part: str) -> list[dict[str, Any]]:
    return [line for line in reply.response_metadata["refrase"][part] if line["practice"] == "tool-choice"]


class TestBodies:
    async def test_moonshot(self, mode: str) -> None:
        assert await body(mode) == snapshot(
            {
                "model": "kimi-k2.6",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: for anything that may have changed since your training, call get_weather or clock before you answer.\
""",
                    },
                    {"role": "user", "content": "Weather in Paris?"},
                ],
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "get_weather",
                            "description": "Weather in a city.",
                            "parameters": {
                                "type": "object",
                                "properties": {"city": {"type": "string"}},
                                "required": ["city"],
                            },
                        },
                    },
                    {
                        "type": "function",
                        "function": {
                            "name": "clock",
                            "description": "Time.",
                            "parameters": {"type": "object", "properties": {}},
                        },
                    },
                ],
                "tool_choice": "auto",
                "thinking": {"type": "enabled", "keep": "all"},
                "max_completion_tokens": 32768,
            }
        )

    async def test_moonshot_off(self, mode: str) -> None:
        assert await body(mode, practices=OFF) == snapshot(
            {
                "model": "kimi-k2.6",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: for anything that may have changed since your training, call get_weather or clock before you answer.\
""",
                    },
                    {"role": "user", "content": "Weather in Paris?"},
                ],
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "get_weather",
                            "description": "Weather in a city.",
                            "parameters": {
                                "type": "object",
                                "properties": {"city": {"type": "string"}},
                                "required": ["city"],
                            },
                        },
                    },
                    {
                        "type": "function",
                        "function": {
                            "name": "clock",
                            "description": "Time.",
                            "parameters": {"type": "object", "properties": {}},
                        },
                    },
                ],
                "thinking": {"type": "enabled", "keep": "all"},
                "max_completion_tokens": 32768,
            }
        )

    async def test_moonshot_takes_no_forced_choice(self, mode: str) -> None:
        assert await body(mode, "any") == await body(mode)

    async def test_moonshot_named_leaves_that_tool_alone(self, mode: str) -> None:
        made = await body(mode, "get_weather")
        assert (made["tool_choice"], made["tools"]) == snapshot(
            (
                "auto",
                [
                    {
                        "type": "function",
                        "function": {
                            "name": "get_weather",
                            "description": "Weather in a city.",
                            "parameters": {
                                "type": "object",
                                "properties": {"city": {"type": "string"}},
                                "required": ["city"],
                            },
                        },
                    }
                ],
            )
        )

    async def test_k3_takes_required_but_no_name(self, mode: str) -> None:
        made = await sent(
            mode, QUESTION, tools=[WEATHER, CLOCK], bind={"tool_choice": "get_weather"}, model="kimi-k3", script=[CALL]
        )
        assert (made["tool_choice"], [tool["function"]["name"] for tool in made["tools"]]) == snapshot(
            ("required", ["get_weather"])
        )

    async def test_vllm(self, mode: str) -> None:
        assert await body(mode, persona="vllm", model=INSTRUCT) == snapshot(
            {
                "model": "moonshotai/Kimi-K2-Instruct-0905",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: for anything that may have changed since your training, call get_weather or clock before you answer.\
""",
                    },
                    {"role": "user", "content": "Weather in Paris?"},
                ],
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "get_weather",
                            "description": "Weather in a city.",
                            "parameters": {
                                "type": "object",
                                "properties": {"city": {"type": "string"}},
                                "required": ["city"],
                            },
                        },
                    },
                    {
                        "type": "function",
                        "function": {
                            "name": "clock",
                            "description": "Time.",
                            "parameters": {"type": "object", "properties": {}},
                        },
                    },
                ],
                "tool_choice": "auto",
                "temperature": 0.6,
                "max_tokens": 32768,
            }
        )

    async def test_vllm_off(self, mode: str) -> None:
        with_it = await body(mode, persona="vllm", model=INSTRUCT)
        without = {key: value for key, value in with_it.items() if key != "tool_choice"}
        assert await body(mode, persona="vllm", model=INSTRUCT, practices=OFF) == without

    @pytest.mark.parametrize(
        "choice",
        [
            "get_weather",
            {"type": "function", "function": {"name": "get_weather"}},
            {"type": "tool", "name": "get_weather"},
        ],
        ids=["name", "openai", "anthropic"],
    )
    async def test_vllm_instruct_takes_a_named_choice(self, mode: str, choice: Any) -> None:
        made = await body(mode, choice, persona="vllm", model=INSTRUCT)
        assert made["tool_choice"] == {"type": "function", "function": {"name": "get_weather"}}
        assert len(made["tools"]) == 2

    @pytest.mark.parametrize("choice", ["any", "required", True, {"type": "any"}], ids=str)
    async def test_vllm_instruct_takes_required(self, mode: str, choice: Any) -> None:
        assert (await body(mode, choice, persona="vllm", model=INSTRUCT))["tool_choice"] == "required"

    async def test_vllm_thinking_takes_auto_only(self, mode: str) -> None:
        assert (await body(mode, "any", persona="vllm", model=THINKING))["tool_choice"] == "auto"

    async def test_none_stays_none(self, mode: str) -> None:
        made = await sent(mode, QUESTION, tools=[WEATHER], bind={"tool_choice": "none"}, model="kimi-k2.6")
        assert made["tool_choice"] == "none"

    async def test_a_choice_without_tools_is_left_out(self, mode: str) -> None:
        reply, bodies = await exchange(mode, QUESTION, bind={"tool_choice": "required"}, model="kimi-k2.6")
        assert "tool_choice" not in bodies[0]
        assert said(reply, "changes") == snapshot(
            [
                {
                    "practice": "tool-choice",
                    "action": "drop",
                    "detail": "tool_choice required without tools",
                    "source": "MoonshotAI/Kimi-K2 README",
                }
            ]
        )


class TestModes:
    async def test_warn_sends_what_was_asked(self, mode: str) -> None:
        with pytest.raises(ToolChoiceRefused, match="tool_choice 'required' is incompatible with thinking enabled"):
            await forced(mode, [CALL], practices={"tool_choice": "warn"})

    async def test_warn_says_so(self, mode: str) -> None:
        reply, bodies = await forced(mode, ["No."], practices={"tool_choice": "warn"}, strict=False)
        assert [made["tool_choice"] for made in bodies] == ["required"]
        assert reply.content == "No."
        assert said(reply, "changes") == snapshot(
            [
                {
                    "practice": "tool-choice",
                    "action": "advise",
                    "detail": "tool_choice required -> auto: this model takes auto, none",
                    "source": "MoonshotAI/Kimi-K2 README",
                }
            ]
        )

    async def test_error_refuses_a_forced_choice_before_any_request(self, mode: str) -> None:
        with KimiSimulator() as simulator:
            model = ChatKimi(
                model="kimi-k2.6",
                base_url=simulator.base_url,
                host="moonshot",
                api_key="sk-test",
                practices={"tool_choice": "error"},
            )
            with pytest.raises(PracticeError) as caught:
                await ask(mode, model.bind_tools([WEATHER], tool_choice="any"), QUESTION)
            assert simulator.requests == []
        assert caught.value.practice == "tool-choice"
        assert caught.value.details == snapshot(("tool_choice required -> auto: this model takes auto, none",))
        assert "kimi-k2.6" in str(caught.value)
        assert "practices={'tool_choice': 'apply'" in str(caught.value)
        assert "Paris" not in str(caught.value)

    async def test_a_tool_that_is_not_there_is_refused_before_any_request(self, mode: str) -> None:
        with KimiSimulator() as simulator:
            model = ChatKimi(model="kimi-k2.6", base_url=simulator.base_url, host="moonshot", api_key="sk-test")
            with pytest.raises(PracticeError) as caught:
                await ask(mode, model.bind_tools([WEATHER], tool_choice="get_wether"), QUESTION)
            assert simulator.requests == []
        assert caught.value.details == snapshot(("tool_choice names 'get_wether', which is not among the tools",))


class TestHealing:
    """The choice is forced, the model takes none: auto, and one bounded re-ask."""

    async def test_a_call_at_once_needs_nothing(self, mode: str) -> None:
        reply, bodies = await forced(mode, [CALL])
        assert len(bodies) == 1
        assert [(call["name"], call["args"]) for call in reply.tool_calls] == [("get_weather", {"city": "Paris"})]
        assert said(reply, "healed") == []

    async def test_an_answer_in_words_is_asked_once_more(self, mode: str) -> None:
        reply, bodies = await forced(mode, [Reply("Sunny, I guess.", reasoning="Easy."), CALL])
        assert [made["tool_choice"] for made in bodies] == ["auto", "auto"]
        assert bodies[1]["messages"][len(bodies[0]["messages"]) :] == snapshot(
            [
                {"role": "assistant", "content": "Sunny, I guess.", "reasoning_content": "Easy."},
                {"role": "user", "content": "Please select a tool to handle the current issue."},
            ]
        )
        assert OPENAPI.exists() is False or violations_of_openapi(bodies[1]) == []
        assert [(call["name"], call["args"]) for call in reply.tool_calls] == [("get_weather", {"city": "Paris"})]
        assert reply.content == ""
        assert reply.response_metadata["finish_reason"] == "tool_calls"
        assert said(reply, "healed") == snapshot(
            [
                {
                    "practice": "tool-choice",
                    "action": "replace",
                    "detail": "no tool call where one was forced: asked once more",
                    "source": "MoonshotAI/Kimi-K2 README",
                }
            ]
        )

    @pytest.mark.parametrize(("persona", "model"), HOSTS)
    async def test_it_is_asked_once_and_then_it_is_an_error(self, mode: str, persona: str, model: str) -> None:
        with KimiSimulator(persona, script=["Sunny.", "Sunny, really.", CALL]) as simulator:
            kimi = ChatKimi(model=model, host=persona, base_url=simulator.base_url, api_key="sk-test")
            with pytest.raises(ToolCallMissing) as caught:
                await ask(mode, kimi.bind_tools([WEATHER], tool_choice="any"), QUESTION)
            assert len(simulator.requests) == 2
        assert caught.value.practice == "tool-choice"
        assert caught.value.details == snapshot(
            (
                "no tool call where one was forced, also when asked once more (finish_reason stop); force no choice, or "
                "catch this; practices={'forced_choice': 'advise'} hands the reply out as it is",
            )
        )
        assert "Sunny" not in str(caught.value)

    async def test_at_the_output_limit_the_error_says_so(self, mode: str) -> None:
        cut = Reply("Well, the weather", finish_reason="length")
        with pytest.raises(ToolCallMissing, match="raise max_tokens="):
            await forced(mode, [cut, cut])

    async def test_as_advice_the_text_is_handed_out(self, mode: str) -> None:
        reply, bodies = await forced(mode, ["Sunny.", "Sunny, really.", CALL], practices={"forced_choice": "advise"})
        assert len(bodies) == 2
        assert (reply.content, reply.tool_calls) == ("Sunny, really.", [])
        assert [line["detail"] for line in said(reply, "healed")] == snapshot(
            [
                "no tool call where one was forced: asked once more",
                "no tool call where one was forced, also when asked once more",
            ]
        )

    async def test_the_allowance_of_extra_calls_bounds_it(self, mode: str) -> None:
        with KimiSimulator(script=["Sunny.", CALL]) as simulator:
            kimi = ChatKimi(base_url=simulator.base_url, host="moonshot", api_key="x", practices={"extra_calls": 0})
            with pytest.raises(ToolCallMissing):
                await ask(mode, kimi.bind_tools([WEATHER], tool_choice="any"), QUESTION)
            assert len(simulator.requests) == 1

    async def test_calls_that_cannot_be_used_are_no_call_that_was_forced(self, mode: str) -> None:
        with pytest.raises(ToolCallMissing, match="no usable tool call") as caught:
            await forced(mode, [Reply(tool_calls=[("get_weather", '{"city": "Par')])] * 2)
        assert caught.value.practice == "tool-schemas"
        wrong = Reply(tool_calls=[("get_weather", {"town": "Paris"})])
        reply, _ = await forced(mode, [wrong, wrong])
        assert len(reply.tool_calls) == 1, "an agent gets this one and answers it"

    async def test_usage_of_both_is_summed(self, mode: str) -> None:
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        first = Reply("Sunny.", usage=usage)
        second = Reply(tool_calls=CALL.tool_calls, usage={**usage, "prompt_tokens": 130, "total_tokens": 140})
        reply, _ = await forced(mode, [first, second])
        counted = reply.usage_metadata
        assert (counted["input_tokens"], counted["output_tokens"], counted["total_tokens"]) == (230, 20, 250)

    @pytest.mark.parametrize("text", ['{"city": "Paris"}', '```json\n{"city": "Paris"}\n```'], ids=["plain", "fenced"])
    async def test_a_plain_json_answer_is_taken_as_the_call(self, mode: str, text: str) -> None:
        reply, bodies = await forced(mode, [text], choice="get_weather", tools=[WEATHER, CLOCK])
        assert len(bodies) == 1
        assert reply.content == ""
        assert [(call["name"], call["args"]) for call in reply.tool_calls] == [("get_weather", {"city": "Paris"})]
        assert reply.tool_calls[0]["id"]
        assert reply.response_metadata["finish_reason"] == "tool_calls"
        assert [line["detail"] for line in said(reply, "healed")] == snapshot(
            ["a plain answer that already was the tool's JSON: taken as the call"]
        )

    @pytest.mark.parametrize("text", ['{"town": "Paris"}', '["Paris"]', '{"city": "Par'], ids=["other", "list", "cut"])
    async def test_json_that_is_not_the_tools_is_asked_again(self, mode: str, text: str) -> None:
        reply, bodies = await forced(mode, [text, CALL])
        assert len(bodies) == 2
        assert reply.content == ""
        assert len(reply.tool_calls) == 1

    async def test_with_several_tools_json_is_not_guessed_at(self, mode: str) -> None:
        _, bodies = await forced(mode, ['{"city": "Paris"}', CALL], tools=[WEATHER, CLOCK])
        assert len(bodies) == 2

    async def test_thinking_stays_on_and_its_text_is_kept(self, mode: str) -> None:
        reply, bodies = await forced(
            mode, [Reply("No.", reasoning="Hm. "), Reply(reasoning="Yes.", tool_calls=CALL.tool_calls)]
        )
        assert all(made["thinking"]["type"] == "enabled" for made in bodies)
        assert reply.additional_kwargs["reasoning_content"] == "Hm. Yes."

    async def test_words_before_a_call_are_kept(self, mode: str) -> None:
        reply, bodies = await forced(mode, [Reply("I look it up.", tool_calls=CALL.tool_calls)])
        assert len(bodies) == 1
        assert reply.content == "I look it up."
        assert len(reply.tool_calls) == 1

    async def test_a_host_that_takes_the_choice_and_ignores_it(self, mode: str) -> None:
        """A stream holds nothing back there: the words have gone out when it turns out that no call came."""
        reply, bodies = await forced(mode, ["No.", CALL], persona="vllm", model=INSTRUCT)
        assert [made["tool_choice"] for made in bodies] == ["required", "required"]
        assert reply.content == ("No." if mode.endswith("stream") else "")
        assert len(reply.tool_calls) == 1

    async def test_what_was_handed_out_is_not_said_again(self, mode: str) -> None:
        broken = Reply("I look. ", tool_calls=[("get_weather", '{"city": "Par')])
        reply, bodies = await forced(mode, [broken, "Hm.", CALL])
        assert len(bodies) == 3
        assert reply.content == "I look. "
        assert len(reply.tool_calls) == 1

    async def test_off_asks_nothing_again(self, mode: str) -> None:
        reply, bodies = await forced(mode, ["No.", CALL], practices=OFF, strict=False)
        assert len(bodies) == 1
        assert reply.content == "No."


class City(BaseModel):
    """A city."""

    city: str


class TestForcedChoicesOfFrameworks:
    """400 tool_choice 'specified' is incompatible with thinking enabled: oh-my-pi#827, inspect_ai#5152, Kimi-K2#141."""

    @pytest.mark.parametrize("choice", ["any", "get_weather"])
    async def test_without_the_practice_the_host_refuses(self, mode: str, choice: str) -> None:
        with pytest.raises(ToolChoiceRefused, match="is incompatible with thinking enabled") as caught:
            await forced(mode, [CALL], choice=choice, practices=OFF)
        assert caught.value.status == 400
        assert "Paris" not in str(caught.value)

    @pytest.mark.parametrize("model", ["kimi-k2.6", "kimi-k2.7-code", "kimi-k2-0905-preview", "kimi-k3"])
    @pytest.mark.parametrize("choice", ["any", "get_weather"])
    async def test_with_it_every_model_takes_the_request(self, mode: str, model: str, choice: str) -> None:
        reply, bodies = await forced(mode, [CALL], choice=choice, model=model)
        assert len(bodies) == 1
        assert len(reply.tool_calls) == 1

    @pytest.mark.parametrize("thinking", [True, False])
    async def test_with_structured_output_by_function_calling(self, mode: str, thinking: bool) -> None:
        script = ["It is Paris.", Reply(tool_calls=[("City", {"city": "Paris"})])]
        with KimiSimulator(script=script) as simulator:
            model = ChatKimi(base_url=simulator.base_url, host="moonshot", api_key="sk-test", thinking=thinking)
            structured = model.with_structured_output(City, method="function_calling")
            answer = await ask(mode, structured, QUESTION) if mode.endswith("invoke") else await last(mode, structured)
            assert answer == City(city="Paris")
            assert simulator.refusals == []
            assert len(simulator.requests) == 2


async def last(mode: str, runnable: Any) -> Any:
    if mode == "stream":
        return list(runnable.stream(QUESTION))[-1]
    return [chunk async for chunk in runnable.astream(QUESTION)][-1]
