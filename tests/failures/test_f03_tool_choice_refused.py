"""F3: 400 `tool_choice 'required' is incompatible with thinking enabled`; K2.7: `only type=enabled is allowed`.

oh-my-pi#827, inspect_ai#5152, Kimi-K2#141.
"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from refrase_integrations.errors import RequestRefused, ThinkingRefused, ToolChoiceRefused
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.surfaces import SURFACES, build, everywhere, exchange, failure, tool, user

ASKED = [user("Weather in Paris?")]
TOOLS = [tool("get_weather", city="string"), tool("get_time", city="string")]
CALL = Reply(reasoning="I look.", tool_calls=[("get_weather", {"city": "Paris"})])
OFF = {"tool_choice": "off"}
CHOICES = [("any", "tool_choice 'required' is incompatible with thinking enabled"),
           ("get_weather", "tool_choice 'specified' is incompatible with thinking enabled")]  # fmt: skip


@everywhere
@pytest.mark.parametrize(("choice", "words"), CHOICES)
async def test_refused_without(surface: str, mode: str, choice: str, words: str) -> None:
    call = {"tools": TOOLS, "tool_choice": choice}
    error, _ = await failure(surface, mode, ASKED, ToolChoiceRefused, model="kimi-k2.6", call=call, practices=OFF)
    assert words in error.seen


@everywhere
@pytest.mark.parametrize(("choice", "words"), CHOICES)
async def test_auto_and_one_more_try(surface: str, mode: str, choice: str, words: str) -> None:
    call = {"tools": TOOLS, "tool_choice": choice}
    script = [Reply("I could.", reasoning="Hm."), CALL]
    answer, bodies = await exchange(surface, mode, ASKED, script=script, model="kimi-k2.6", call=call)
    assert answer.calls == [("get_weather", {"city": "Paris"})]
    assert [body["tool_choice"] for body in bodies] == ["auto", "auto"]
    assert len(bodies[0]["tools"]) == (2 if choice == "any" else 1), "a named tool is sent alone"
    assert all("disabled" not in str(body["thinking"]) for body in bodies), "thinking stays on"


@everywhere
async def test_k3_takes_required_but_no_name(surface: str, mode: str) -> None:
    call = {"tools": TOOLS, "tool_choice": "get_weather"}
    await failure(surface, mode, ASKED, ToolChoiceRefused, model="kimi-k3", call=call, practices=OFF)
    _, (body,) = await exchange(surface, mode, ASKED, script=[CALL], model="kimi-k3", call=call)
    assert (body["tool_choice"], len(body["tools"])) == ("required", 1)


@everywhere
async def test_the_switch_of_a_model_that_always_thinks(surface: str, mode: str) -> None:
    off: Any = {"extra_body": {"thinking": {"type": "disabled"}}}  # the user's own fields go out as they are
    error, _ = await failure(surface, mode, ASKED, ThinkingRefused, model="kimi-k2.7-code", **off)
    assert "invalid thinking: only type=enabled is allowed for this model" in error.seen
    answer, (body,) = await exchange(surface, mode, ASKED, model="kimi-k2.7-code", thinking=False)
    assert "disabled" not in str(body)
    assert answer.said("thinking", "changes") == [("advise", "thinking=False asked, but on this model it is always on")]


class City(BaseModel):
    """A city."""

    city: str


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("practices", [OFF, {}])
def test_the_frameworks_force_a_tool_for_a_structured_answer(surface: str, practices: dict[str, str]) -> None:
    """LangChain a named one, LlamaIndex's own function-calling program "required"."""
    from llama_index.core.program import FunctionCallingProgram
    from llama_index.core.prompts import PromptTemplate

    script = [Reply(reasoning="Hm.", tool_calls=[("City", {"city": "Paris"})])]
    with KimiSimulator(script=script) as simulator:
        model = build(surface, simulator, model="kimi-k2.6", practices=practices, max_retries=0)

        def find() -> Any:
            if surface == "ChatKimi":
                return model.with_structured_output(City, method="function_calling").invoke("Where?")
            prompt = PromptTemplate("Where?")
            return FunctionCallingProgram.from_defaults(output_cls=City, llm=model, prompt=prompt)()

        if practices:
            with pytest.raises(RequestRefused, match="is incompatible with thinking enabled"):
                find()
        else:
            assert find() == City(city="Paris")
            assert simulator.refusals == []
