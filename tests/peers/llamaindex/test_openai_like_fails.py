"""What the strictness of the simulator is worth: LlamaIndex's generic LLM fails where `Kimi` runs thirty turns."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.prompts import PromptTemplate
from llama_index.core.workflow import Context
from pydantic import BaseModel

from refrase_integrations.llamaindex import Kimi
from refrase_integrations.simulator import KimiSimulator
from tests.llamaindex.handoffs import MEMORIES, run_turn, scripted, workflow

openai_like = pytest.importorskip("llama_index.llms.openai_like", reason="openai<3: `make peers` runs this")


class Answer(BaseModel):
    """The answer."""

    city: str


def generic(simulator: KimiSimulator, **fields: Any) -> Any:
    return openai_like.OpenAILike(
        model="kimi-k2.6",
        api_base=simulator.base_url,
        api_key="sk-test",
        is_chat_model=True,
        is_function_calling_model=True,
        context_window=262_144,
        max_retries=0,
        **fields,
    )


async def turns(llm: Any, count: int) -> None:
    """The agents of `test_thirty_turns`: hand-offs and parallel tools."""
    agents = workflow(llm)
    context, memory = Context(agents), MEMORIES["ChatMemoryBuffer"]([])
    for turn in range(count):
        assert (await run_turn(agents, turn, context, memory)).startswith(f"Turn {turn}: It is noon")


async def test_kimi_runs_thirty_turns_on_this_openai_line_too() -> None:
    with KimiSimulator("moonshot", script=scripted) as simulator:
        await turns(Kimi(model="kimi-k2.6", host="moonshot", base_url=simulator.base_url, api_key="sk-test"), 30)
        assert simulator.refusals == []


async def test_openai_like_fails_on_its_first_call_by_its_temperature() -> None:
    with KimiSimulator("moonshot", script=scripted) as simulator:
        with pytest.raises(Exception, match="invalid temperature"):
            await turns(generic(simulator), 1)
        assert len(simulator.requests) == 1


async def test_openai_like_fails_on_its_second_call_by_the_lost_reasoning() -> None:
    with KimiSimulator("moonshot", script=scripted) as simulator:
        with pytest.raises(Exception, match="reasoning_content is missing in assistant tool call message"):
            await turns(generic(simulator, temperature=1.0), 30)
        assert len(simulator.requests) == 2


def test_openai_like_is_refused_a_structured_answer() -> None:
    prompt = PromptTemplate("The largest city of {country}?")
    with KimiSimulator("moonshot") as simulator:
        with pytest.raises(Exception, match="tool_choice 'required' is incompatible with thinking enabled"):
            generic(simulator, temperature=1.0).structured_predict(Answer, prompt, country="France")
        llm = Kimi(model="kimi-k2.6", host="moonshot", base_url=simulator.base_url, api_key="sk-test")
        assert llm.structured_predict(Answer, prompt, country="France").city
