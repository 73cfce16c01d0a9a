"""A tool that its user marked as live is named in the prompt, whatever surface it goes through."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.practices.fresh_data import WITH, WITHOUT
from refrase_integrations.langchain import ChatKimi, KimiMiddleware, RefraseNode
from refrase_integrations.langchain import with_kimi_practices as practised_chat_model
from refrase_integrations.llamaindex import Kimi, RefraseStep
from refrase_integrations.llamaindex import with_kimi_practices as practised_llm
from refrase_integrations.simulator import KimiSimulator
from tests.llamaindex.homemade import Homemade
from tests.surfaces import ask, build, everywhere, exchange, tool

LOOK, LIST = tool("look_up", id="string"), tool("list_orders", day="string")
HELLO = [{"role": "user", "content": "Hello."}]
NAMED = WITH.format(tools="look_up")


def look_up(id: str) -> str:
    """Look a thing up."""
    return id


def line(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"]).split("\n\n")[-1]


def plain() -> StructuredTool:
    return StructuredTool.from_function(look_up)


def tagged() -> StructuredTool:
    return StructuredTool.from_function(look_up, tags=["mine", "live"])


def described() -> StructuredTool:
    return StructuredTool.from_function(look_up, metadata={"live": True})


@everywhere
class TestNames:
    async def test_of_the_model(self, surface: str, mode: str) -> None:
        call: dict[str, Any] = {"tools": [LIST, LOOK]}
        _, [unmarked] = await exchange(surface, mode, HELLO, call=call)
        _, [marked] = await exchange(surface, mode, HELLO, call=call, live_tools=["look_up", "not_bound"])
        assert (line(unmarked), line(marked)) == (WITHOUT, NAMED)
        rest = [{key: value for key, value in body.items() if key != "messages"} for body in (unmarked, marked)]
        assert rest[0] == rest[1]

    async def test_of_a_call_add_up(self, surface: str, mode: str) -> None:
        call: dict[str, Any] = {"tools": [LIST, LOOK], "live_tools": ["look_up"]}
        _, [body] = await exchange(surface, mode, HELLO, call=call, live_tools=["list_orders"])
        assert line(body) == WITH.format(tools="list_orders or look_up")

    async def test_a_single_text_is_no_list(self, surface: str, mode: str) -> None:
        with KimiSimulator() as simulator:
            for fields, call in (({"live_tools": "look_up"}, {}), ({}, {"live_tools": "look_up"})):
                with pytest.raises(ConfigurationError, match="live_tools"):
                    await ask(surface, mode, build(surface, simulator, **fields), HELLO, **call)
            assert simulator.requests == []


class TestLangChain:
    @pytest.mark.parametrize(("made", "expected"), [(plain, WITHOUT), (tagged, NAMED), (described, NAMED)])
    def test_marks_of_a_tool(self, made: Any, expected: str) -> None:
        with KimiSimulator(script=["Yes."] * 2) as simulator:
            model = build("ChatKimi", simulator)
            model.bind_tools([made()]).invoke("Hello.")
            model.invoke("Hello.", tools=[made()])
            assert [line(request.body) for request in simulator.requests] == [expected] * 2

    def test_marks_add_to_names(self) -> None:
        with KimiSimulator(script=["Yes."]) as simulator:
            model = build("ChatKimi", simulator, live_tools=["list_orders"])
            model.bind_tools([LIST, tagged()], live_tools=["elsewhere"]).invoke("Hello.")
            assert line(simulator.requests[0].body) == WITH.format(tools="list_orders or look_up")

    def test_a_form_for_the_answer_is_no_live_tool(self) -> None:
        class Weather(BaseModel):
            """Current weather in a city, as the web says."""

            city: str

        with KimiSimulator() as simulator:
            build("ChatKimi", simulator).with_structured_output(Weather, method="function_calling").invoke("Paris")
            assert line(simulator.requests[0].body) == WITHOUT

    @pytest.mark.parametrize("kind", ["ChatKimi", "wrapper", "middleware", "middleware over ChatKimi"])
    def test_an_agent(self, kind: str) -> None:
        with KimiSimulator(script=["Yes."]) as simulator:
            plain_model = ChatOpenAI(model="kimi-k2.6", base_url=simulator.base_url, api_key="sk-test")
            kimi = build("ChatKimi", simulator)
            models: dict[str, Any] = {
                "ChatKimi": (kimi, []),
                "wrapper": (practised_chat_model(plain_model, host="moonshot"), []),
                "middleware": (plain_model, [KimiMiddleware(host="moonshot")]),
                "middleware over ChatKimi": (kimi, [KimiMiddleware()]),
            }
            model, middleware = models[kind]
            create_agent(model, [tagged()], middleware=middleware).invoke({"messages": [("user", "Hello.")]})
            assert line(simulator.requests[0].body) == NAMED

    def test_a_binding_of_a_wrapped_model(self) -> None:
        with KimiSimulator(script=["Yes."]) as simulator:
            inner = ChatOpenAI(model="kimi-k2.6", base_url=simulator.base_url, api_key="sk-test")
            model = practised_chat_model(inner, host="moonshot")
            model.bind_tools([LOOK], live_tools=["look_up"]).invoke("Hello.")
            assert line(simulator.requests[0].body) == NAMED

    def test_the_node(self) -> None:
        for made, expected in ((plain, WITHOUT), (tagged, NAMED)):
            [system, _] = RefraseNode(tools=[made()]).invoke([("user", "Hello.")])
            assert str(system.content).split("\n\n")[-1] == expected

    def test_the_names_are_kept_in_pickles_and_tell_models_apart(self) -> None:
        model = ChatKimi(host="vllm", base_url="http://localhost:1/v1", live_tools=["look_up"])
        assert pickle.loads(pickle.dumps(model)).live_tools == ["look_up"]
        assert model._identifying_params["live_tools"] == ["look_up"]


class TestLlamaIndex:
    def marked(self, live: bool) -> FunctionTool:
        made = FunctionTool.from_defaults(look_up)
        made.live = live  # type: ignore[attr-defined]
        return made

    @pytest.mark.parametrize(("live", "expected"), [(False, WITHOUT), (True, NAMED)])
    async def test_marks_of_a_tool(self, live: bool, expected: str) -> None:
        with KimiSimulator(script=["Yes."] * 3) as simulator:
            llm = build("Kimi", simulator)
            llm.chat_with_tools([self.marked(live)], user_msg="Hello.")
            llm.chat([ChatMessage(content="Hello.")], tools=[self.marked(live)])
            await FunctionAgent(llm=llm, tools=[self.marked(live)]).run("Hello.")
            assert [line(request.body) for request in simulator.requests] == [expected] * 3

    def test_a_wrapped_llm(self) -> None:
        with KimiSimulator(script=["Yes."]) as simulator:
            inner = Homemade(model="kimi-k2-0905-preview", base_url=simulator.base_url)
            llm: Any = practised_llm(inner, host="moonshot")
            llm.chat([ChatMessage(content="Hello.")], live_tools=["look_up"], tools=[LOOK])
            assert line(simulator.requests[0].body) == NAMED

    def test_the_step(self) -> None:
        for live, expected in ((False, WITHOUT), (True, NAMED)):
            [system, _] = RefraseStep(tools=[self.marked(live)])([ChatMessage(content="Hello.")])
            assert (system.content or "").split("\n\n")[-1] == expected

    def test_the_names_are_kept_in_the_dict(self) -> None:
        llm = Kimi(api_key="sk-test", live_tools=["look_up"])
        assert llm.to_dict()["live_tools"] == ["look_up"]
