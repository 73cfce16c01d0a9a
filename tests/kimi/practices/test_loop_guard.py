"""loop-guard: reminders under the third, fifth and eighth identical result, a stop before the twelfth call."""

from __future__ import annotations

from typing import Any

import pytest
from inline_snapshot import snapshot
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from refrase_integrations.errors import ConfigurationError, LoopStopped
from refrase_integrations.kimi.practices.loop_guard import MARKER, REMINDERS
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.simulator import Reply
from tests.conversations import MODES, OPENAPI, exchange, sent, violations_of_openapi

ON = {"loop_guard": "apply"}
MOONSHOT = {"persona": "moonshot", "model": "kimi-k2-0905-preview"}
VLLM = {"persona": "vllm", "model": "moonshotai/Kimi-K2-Instruct-0905"}
PARIS = {"city": "Paris"}


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return f"It is sunny in {city}."


def step(
    *calls: dict[str, Any], number: int = 0, name: str = "get_weather", result: Any = "sunny"
) -> list[BaseMessage]:
    """One assistant message with calls, and their results."""
    made = [{"name": name, "args": args, "id": f"c{number}-{place}"} for place, args in enumerate(calls)]
    return [AIMessage("", tool_calls=made), *(ToolMessage(result, tool_call_id=one["id"]) for one in made)]


def loop(times: int, **kwargs: Any) -> list[BaseMessage]:
    return [HumanMessage("Weather?"), *(message for n in range(times) for message in step(PARIS, number=n, **kwargs))]


def results(body: dict[str, Any]) -> list[str]:
    return [message["content"] for message in body["messages"] if message["role"] == "tool"]


def reminded(body: dict[str, Any]) -> list[int]:
    """At which results reminders stand, counted from one."""
    return [number for number, text in enumerate(results(body), 1) if MARKER in text]


@pytest.mark.parametrize("mode", MODES)
class TestBodies:
    async def test_moonshot(self, mode: str) -> None:
        body = await sent(mode, loop(3), practices=ON, **MOONSHOT)
        assert not OPENAPI.exists() or violations_of_openapi(body) == []
        assert body["messages"][-3:] == snapshot(
            [
                {"role": "tool", "content": "sunny", "tool_call_id": "c1-0", "name": "get_weather"},
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "c2-0",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                        }
                    ],
                },
                {
                    "role": "tool",
                    "content": """\
sunny

[loop guard] This is the third identical request in a row. Take the next step of the task with what it returned, or ask for something else.\
""",
                    "tool_call_id": "c2-0",
                    "name": "get_weather",
                },
            ]
        )

    async def test_vllm(self, mode: str) -> None:
        body = await sent(mode, loop(8), practices=ON, **VLLM)
        assert reminded(body) == [3, 5, 8]
        assert body["messages"][-1] == snapshot(
            {
                "role": "tool",
                "content": """\
sunny

[loop guard] Eight identical requests in a row. Finish now: give the answer as far as it is known, and say what is missing and what kept you from it.\
""",
                "tool_call_id": "functions.get_weather:7",
                "name": "get_weather",
            }
        )

    async def test_off_is_the_default(self, mode: str) -> None:
        for where in (MOONSHOT, VLLM):
            assert results(await sent(mode, loop(8), **where)) == ["sunny"] * 8

    async def test_the_twelfth_call_is_not_made(self, mode: str) -> None:
        call = Reply("I look again.", tool_calls=[("get_weather", '{ "city":"Paris" }')])
        for where in (MOONSHOT, VLLM):
            again, _ = await exchange(mode, loop(10), practices=ON, tools=[get_weather], script=[call], **where)
            assert [made["args"] for made in again.tool_calls] == [PARIS]
            reply, bodies = await exchange(mode, loop(11), practices=ON, tools=[get_weather], script=[call], **where)
            assert reply.tool_calls == []
            assert reply.text == snapshot("""\
I look again.

[loop guard] Stopped: the same call of get_weather was asked for 12 times in a row. The last one was not made; what the earlier ones returned stands above.\
""")
            assert reply.response_metadata["finish_reason"] == "stop"
            assert reply.usage_metadata is not None
            healed = reply.response_metadata["refrase"]["healed"]
            assert [entry for entry in healed if entry["practice"] == "loop-guard"] == snapshot(
                [
                    {
                        "practice": "loop-guard",
                        "action": "replace",
                        "detail": "get_weather: 12 identical calls in a row: stopped before the last one",
                        "source": "platform.kimi.ai/docs/guide/tool-call-repeat",
                    }
                ]
            )
            assert len(bodies) == 1

    async def test_error_mode_raises(self, mode: str) -> None:
        call = Reply(tool_calls=[("get_weather", PARIS)])
        with pytest.raises(LoopStopped, match="get_weather: 12 identical calls in a row"):
            await exchange(mode, loop(11), practices={"loop_guard": "error"}, tools=[get_weather], script=[call])

    async def test_warn_mode_changes_nothing(self, mode: str) -> None:
        call = Reply(tool_calls=[("get_weather", PARIS)])
        reply, bodies = await exchange(
            mode, loop(11), practices={"loop_guard": "warn"}, tools=[get_weather], script=[call], **VLLM
        )
        assert reminded(bodies[0]) == []
        assert len(reply.tool_calls) == 1
        said = {
            (where, entry["action"], entry.get("count", 1))
            for where in ("changes", "healed")
            for entry in reply.response_metadata["refrase"][where]
            if entry["practice"] == "loop-guard"
        }
        assert said == {("changes", "advise", 3), ("healed", "advise", 1)}


CONVERSATIONS: dict[str, tuple[list[BaseMessage], list[int]]] = {
    "spacing and order aside": (
        [
            HumanMessage("Weather?"),
            *step({"city": "Paris", "day": 1}, number=0),
            *step({"day": 1, "city": "Paris"}, number=1),
            *step({"city": "Paris", "day": 1}, number=2),
        ],
        [3],
    ),
    "other arguments": ([HumanMessage("?"), *(m for n in range(9) for m in step({"n": n}, number=n))], []),
    "another call in between": (
        [HumanMessage("?"), *step(PARIS), *step(PARIS, number=1), *step({"city": "Rome"}, number=2), *step(PARIS, number=3)],
        [],
    ),
    "tests after every edit": (
        [
            HumanMessage("Fix it."),
            *(m for n in range(12) for m in [*step({"edit": n}, number=n), *step({}, number=100 + n, name="run_tests")]),
        ],
        [],
    ),
    "a new user turn": ([*loop(2), AIMessage("Sunny."), *loop(2)], []),
    "in parallel": ([HumanMessage("?"), *step(PARIS, PARIS, PARIS, {"city": "Rome"}, PARIS)], [3]),
    "beside others in every step": (
        [HumanMessage("?"), *(m for n in range(3) for m in step(PARIS, {"n": n}, number=n))],
        [5],
    ),
    "another tool": (
        [HumanMessage("?"), *step(PARIS), *step(PARIS, number=1), *step(PARIS, number=2, name="get_time")],
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CONVERSATIONS)
async def test_what_counts_as_a_repetition(case: str) -> None:
    messages, where = CONVERSATIONS[case]
    assert reminded(await sent("invoke", messages, practices=ON, **VLLM)) == where


async def test_reminders_stay_where_they_are_in_later_turns() -> None:
    earlier = await sent("invoke", loop(5), practices=ON, **MOONSHOT)
    later = await sent("invoke", [*loop(8), AIMessage("Sunny."), HumanMessage("Thanks.")], practices=ON, **MOONSHOT)
    assert later["messages"][: len(earlier["messages"])] == earlier["messages"]


async def test_the_same_id_again_and_again() -> None:
    """Hosts that count ids from 0 in every reply."""
    messages = [HumanMessage("?"), *(message for _ in range(5) for message in step(PARIS))]
    assert reminded(await sent("invoke", messages, practices=ON, **VLLM)) == [3, 5]


async def test_unreadable_arguments_and_blank_or_structured_results() -> None:
    broken = [
        AIMessage("", invalid_tool_calls=[{"name": "get_weather", "args": '{"city": ', "id": f"c{n}", "error": "cut"}])
        for n in range(3)
    ]
    body = await sent("invoke", [HumanMessage("?"), *broken], practices=ON, **VLLM)
    assert reminded(body) == [3]
    blank = await sent("invoke", loop(3, result=""), practices={**ON, "history": "off"}, strict=False, **VLLM)
    assert results(blank)[-1] == REMINDERS[3]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    seen = await sent(
        "invoke", loop(3, result=[image]), practices=ON, persona="moonshot", model="kimi-k2.6", strict=False
    )
    assert seen["messages"][-1]["content"] == [image, {"type": "text", "text": REMINDERS[3]}]


async def test_the_limit_is_a_setting() -> None:
    call = Reply(tool_calls=[("get_weather", PARIS)])
    for limit, made in ((4, 0), (5, 1), (0, 1)):
        settings = {"loop_guard": "apply", "loop_limit": limit}
        reply, _ = await exchange("invoke", loop(3), practices=settings, tools=[get_weather], script=[call], **VLLM)
        assert len(reply.tool_calls) == made, limit
    with pytest.raises(ConfigurationError, match="loop_limit"):
        Practices.of({"loop_limit": 1})


async def test_calls_beside_a_stuck_one_are_not_made_either_and_that_is_said() -> None:
    call = Reply(tool_calls=[("get_weather", {"city": "Rome"}), ("get_weather", PARIS)])
    reply, _ = await exchange("stream", loop(11), practices=ON, tools=[get_weather], script=[call], **VLLM)
    assert reply.tool_calls == []
    healed = reply.response_metadata["refrase"]["healed"]
    details = [entry["detail"] for entry in healed if entry["practice"] == "loop-guard"]
    assert details == snapshot(
        ["get_weather: 12 identical calls in a row: stopped before the last one, and 1 other call(s) of the reply"]
    )
