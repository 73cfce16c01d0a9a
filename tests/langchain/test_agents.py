"""create_agent over ChatKimi: structured responses of every strategy without a 400, no doubled tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, StructuredOutputValidationError, ToolStrategy
from pydantic import BaseModel

from refrase_integrations.errors import StructuredOutputError, ToolCallMissing
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES


class City(BaseModel):
    """A city and how many people live there."""

    name: str
    population: int


def get_population(city: str) -> int:
    """Return how many people live in a city."""
    return 2_048_472


MODELS = ["kimi-k2-0905-preview", "kimi-k2-thinking", "kimi-k2.6"]
FORMS: dict[str, Any] = {"tool": ToolStrategy(City), "provider": ProviderStrategy(City), "schema": City}
QUESTION = {
    "messages": [("user", "What is the population of Paris? The name of the city is Paris, its population 2048472.")]
}


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", MODELS)
async def test_a_structured_response_without_a_refusal(model: str, form: str, way: str) -> None:
    with KimiSimulator() as simulator:
        chat = ChatKimi(model=model, host="moonshot", base_url=simulator.base_url, api_key="sk-test")
        agent: Any = create_agent(chat, tools=[get_population], response_format=FORMS[form])
        state = agent.invoke(QUESTION) if way == "invoke" else await agent.ainvoke(QUESTION)
        assert simulator.refusals == []
    assert isinstance(state["structured_response"], City)


K2_THINKING = "moonshotai/Kimi-K2-Thinking"
THINKING = [("moonshot", "kimi-k2.6"), ("moonshot", "kimi-k3"), ("vllm", K2_THINKING), ("deepinfra", K2_THINKING)]
CITY = {"name": "Paris", "population": 2_048_472}
LOOK_UP = Reply(reasoning="I look it up.", tool_calls=[("get_population", {"city": "Paris"})])
NOTHING = Reply("About two million.", reasoning="I know that.")


async def structured(mode: str, persona: str, model: str, form: str, script: list[Any]) -> tuple[Any, int]:
    with KimiSimulator(persona, script=script) as simulator:
        chat = ChatKimi(model=model, host=persona, base_url=simulator.base_url, api_key="sk-test")
        agent: Any = create_agent(chat, tools=[get_population], response_format=FORMS[form])
        if mode.endswith("invoke"):
            state = agent.invoke(QUESTION) if mode == "invoke" else await agent.ainvoke(QUESTION)
        else:
            how: Any = {"stream_mode": ["messages", "values"]}
            parts = agent.stream(QUESTION, **how) if mode == "stream" else agent.astream(QUESTION, **how)
            *_, (_, state) = list(parts) if mode == "stream" else [part async for part in parts]
        assert simulator.refusals == []
        return state, len(simulator.requests)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["tool", "provider"])
@pytest.mark.parametrize(("persona", "model"), THINKING)
class TestAnAnswerInTextWhereAStructureWasWanted:
    """framework-notes: create_agent ends with ``structured_response=None`` and not a word; thinking is on throughout."""

    async def test_is_asked_for_once_more(self, mode: str, form: str, persona: str, model: str) -> None:
        native = form == "provider" and persona != "deepinfra"  # which has no json_schema: a tool takes the answer
        answer = Reply(reasoning="In form.", tool_calls=[("City", CITY)])
        if native:
            answer = Reply(json.dumps(CITY), reasoning="In form.")
        script = [LOOK_UP, NOTHING, answer]
        if native and mode.endswith("stream"):
            script = [LOOK_UP, answer]  # what the host itself keeps in form streams live, and is not asked for again
        state, requests = await structured(mode, persona, model, form, script)
        assert state["structured_response"] == City(**CITY)
        assert requests == len(script)

    async def test_is_an_error_when_that_fails_too(self, mode: str, form: str, persona: str, model: str) -> None:
        error = ToolCallMissing if form == "tool" else StructuredOutputValidationError
        with pytest.raises(error) as caught:
            await structured(mode, persona, model, form, [LOOK_UP, NOTHING, NOTHING])
        if form == "tool":
            assert isinstance(caught.value, StructuredOutputError)
            assert "two million" not in str(caught.value)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("persona", "model"), THINKING)
async def test_a_structure_that_cannot_be_read_is_an_error(mode: str, persona: str, model: str) -> None:
    """create_agent ends the run on a message with nothing but invalid calls."""
    broken = Reply(reasoning="In form.", tool_calls=[("City", '{"name": "Par')])
    with pytest.raises(ToolCallMissing, match="no usable tool call"):
        await structured(mode, persona, model, "tool", [LOOK_UP, broken, broken])


@pytest.mark.parametrize("mode", MODES)
async def test_a_structure_that_misses_the_schema_goes_back_to_the_model(mode: str) -> None:
    wrong = Reply(reasoning="In form.", tool_calls=[("City", {"name": "Paris"})])
    right = Reply(reasoning="In form.", tool_calls=[("City", CITY)])
    state, requests = await structured(mode, "moonshot", "kimi-k2.6", "tool", [LOOK_UP, wrong, wrong, right])
    assert state["structured_response"] == City(**CITY)
    assert requests == 4


@pytest.mark.parametrize("model", MODELS)
def test_streamed_tokens_come_once(model: str) -> None:
    with KimiSimulator() as simulator:
        chat = ChatKimi(model=model, host="moonshot", base_url=simulator.base_url, api_key="sk-test")
        agent: Any = create_agent(chat, tools=[get_population])
        question = {"messages": [("user", "What is the population of Paris?")]}
        streamed, final = "", ""
        for kind, part in agent.stream(question, stream_mode=["messages", "values"]):
            if kind == "values":
                final = part["messages"][-1].text
            elif part[0].type == "AIMessageChunk":
                streamed += part[0].text
        assert simulator.refusals == []
    assert streamed.endswith(final)
    assert streamed.count(final) == 1
