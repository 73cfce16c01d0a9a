"""F14: the model announces an action and stops; an agent ends there (MoonshotAI/Kimi-K2#81)."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver

from refrase_integrations.kimi.announcements import nudge
from refrase_integrations.langchain import KimiMiddleware
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES
from tests.langchain.agents import MODELS, chat_kimi, kinds, run, texts, thinks

ANNOUNCED = {
    "en": "The population is easy to look up. Let me check the registry for Paris.",
    "zh": "这个数字不难查到。我先查询一下巴黎的人口。",
}


def get_population(city: str) -> str:
    """Return how many people live in a city."""
    return "2048472"


def forgetful(text: str, reasoning: str | None) -> Any:
    """A model that calls its tool only when it is reminded of it."""

    def answer(body: dict[str, Any]) -> Reply:
        last = body["messages"][-1]
        if last["role"] == "tool":
            return Reply(f"Paris has {last['content']} people.", reasoning=reasoning)
        if last["content"] in (nudge("en"), nudge("zh")):
            return Reply(reasoning=reasoning, tool_calls=[("get_population", {"city": "Paris"})])
        return Reply(text, reasoning=reasoning)

    return answer


def agent_of(simulator: KimiSimulator, name: str = "moonshot hybrid", nudges: int = 1, **kwargs: Any) -> Any:
    return create_agent(
        chat_kimi(simulator, name), [get_population], middleware=[KimiMiddleware(nudge=nudges)], **kwargs
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("language", ANNOUNCED)
@pytest.mark.parametrize("name", MODELS)
async def test_the_step_is_taken_when_asked_for_once(name: str, language: str, mode: str) -> None:
    reasoning = "Hm." if thinks(name) else None
    for nudges, wanted in ((0, ["human", "ai"]), (1, ["human", "ai", "human", "ai", "tool", "ai"])):
        with KimiSimulator(MODELS[name][0], script=forgetful(ANNOUNCED[language], reasoning)) as simulator:
            state = await run(mode, agent_of(simulator, name, nudges), "How many people live in Paris?")
            assert simulator.refusals == []
        assert kinds(state) == wanted
    assert texts(state, "human")[1] == nudge(language)  # type: ignore[arg-type]
    assert state["messages"][-1].text == "Paris has 2048472 people."


@pytest.mark.parametrize("mode", MODES)
async def test_it_is_reported(mode: str) -> None:
    with KimiSimulator(script=lambda body: Reply(ANNOUNCED["en"], reasoning="Hm.")) as simulator:
        updates: list[Any] = []
        agent = agent_of(simulator)
        start = {"messages": [("user", "How many people live in Paris?")]}
        if mode in ("invoke", "stream"):
            updates = list(agent.stream(start, stream_mode="updates"))
        else:
            updates = [update async for update in agent.astream(start, stream_mode="updates")]
    reports = [
        step["refrase_report"] for update in updates for step in update.values() if step and "refrase_report" in step
    ]
    nudged = [line for report in reports for line in report["healed"] if line["practice"] == "nudge"]
    assert len(nudged) == 1
    assert nudged[0]["source"] == "MoonshotAI/Kimi-K2#81"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("nudges", [1, 3])
async def test_a_model_that_only_ever_announces_is_asked_that_often_in_a_turn(nudges: int, mode: str) -> None:
    with KimiSimulator(script=lambda body: Reply(ANNOUNCED["en"], reasoning="Hm.")) as simulator:
        agent = agent_of(simulator, nudges=nudges, checkpointer=InMemorySaver())
        thread = {"configurable": {"thread_id": "1"}}
        for turn in (1, 2):
            await run(mode, agent, "How many people live in Paris?", thread)
            assert len(simulator.requests) == turn * (1 + nudges)


@pytest.mark.parametrize("mode", MODES)
async def test_answers_and_questions_are_left_alone(mode: str) -> None:
    for text in ("Paris has 2,048,472 people.", "Which Paris do you mean?", "I'll check it if you tell me the year."):
        with KimiSimulator(script=[Reply(text, reasoning="Hm.")]) as simulator:
            assert kinds(await run(mode, agent_of(simulator), "How many people live in Paris?")) == ["human", "ai"]
