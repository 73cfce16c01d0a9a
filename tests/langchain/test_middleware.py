"""KimiMiddleware over the simulator: reports, layers of practices, calls that cannot be used, tools that fail."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest
from inline_snapshot import snapshot
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel

from refrase_integrations.errors import CatalogueError, ConfigurationError, RefraseWarning, StructuredOutputError
from refrase_integrations.langchain import KimiMiddleware
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES
from tests.langchain.agents import MODELS, SURFACES, chat_kimi, kinds, run, texts, thinks

QUESTION = "What is the population of Paris?"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "year": {"type": "integer"}},
    "required": ["city"],
}


def get_population(city: str) -> str:
    """Return how many people live in a city."""
    return f"{city}: 2048472"


class Remote:
    """A tool as a tool server gives it: its schema is a dict, which LangChain does not validate against."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def call(self, **arguments: Any) -> str:
        self.seen.append(arguments)
        return "2048472"

    def tool(self) -> StructuredTool:
        return StructuredTool.from_function(
            self.call, name="get_population", description="How many people live in a city.", args_schema=SCHEMA
        )


class City(BaseModel):
    """A city and how many people live there."""

    name: str
    population: int


def calling(*arguments: Any, name: str = "get_population", reasoning: str | None = "Look it up.") -> Reply:
    return Reply(reasoning=reasoning, tool_calls=[(name, one) for one in arguments])


PARIS = {"city": "Paris"}
WRONG = {"city": ["Paris", "Lyon"]}
ANSWER = Reply(reasoning="I have it.", content="2,048,472 people.")
BROKEN = '{"city": "Par'


@pytest.fixture(params=SURFACES)
def model(request: pytest.FixtureRequest) -> Any:
    """A model that has the practices by itself, and one that knows nothing of them."""
    return SURFACES[request.param]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MODELS)
async def test_an_agent_runs_and_its_state_tells_what_was_done(name: str, mode: str, model: Any) -> None:
    reasoning = "Look it up." if thinks(name) else None
    script = [calling(PARIS, reasoning=reasoning), Reply("2,048,472 people.", reasoning=reasoning)]
    with KimiSimulator(MODELS[name][0], script=script) as simulator:
        agent = create_agent(model(simulator, name), [get_population], middleware=[KimiMiddleware(MODELS[name][0])])
        state = await run(mode, agent, QUESTION)
        assert simulator.refusals == []
        assert len(simulator.requests) == 2
    assert kinds(state) == ["human", "ai", "tool", "ai"]
    assert state["messages"][-1].text == "2,048,472 people."
    assert state["refrase_report"] == state["messages"][-1].response_metadata["refrase"]
    assert state["refrase_report"]["host"] == MODELS[name][0]
    assert state["refrase_report"]["changes"]


class TestLayers:
    """call > middleware > model > the middleware's own defaults."""

    @pytest.mark.parametrize(
        ("of_model", "of_middleware", "calls"),
        [
            ({}, None, 3),
            ({"loop_guard": "off"}, None, 20),
            ({"everything": "off"}, None, 20),
            ({"loop_guard": "off"}, {"loop_guard": "apply"}, 3),
            ({"loop_guard": "apply"}, "off", 20),
            ({}, {"loop_limit": 6}, 5),
        ],
    )
    async def test_which_setting_wins(self, of_model: Any, of_middleware: Any, calls: int) -> None:
        made: list[str] = []

        def get_time(city: str) -> str:
            """Return the local time."""
            made.append(city)
            return "noon"

        def stuck(body: dict[str, Any]) -> Reply | str:
            return "Noon." if len(made) == 20 else Reply(tool_calls=[("get_time", PARIS)])

        with KimiSimulator("vllm", script=stuck) as simulator:
            model = chat_kimi(simulator, "vllm instruct", practices={"loop_limit": 4, **of_model})
            agent = create_agent(model, [get_time], middleware=[KimiMiddleware(practices=of_middleware)])
            await run("invoke", agent, QUESTION)
        assert len(made) == calls

    async def test_the_users_model_stays_as_it_is(self) -> None:
        with KimiSimulator(script=[ANSWER]) as simulator:
            model = chat_kimi(simulator)
            agent = create_agent(model, [], middleware=[KimiMiddleware(practices="off")])
            await run("invoke", agent, QUESTION)
            assert simulator.requests[0].body["messages"][0]["role"] == "user"
        assert model.practices is None


@pytest.mark.parametrize("mode", MODES)
class TestUnreadableCalls:
    async def test_end_the_run_silently_without_the_middleware(self, mode: str) -> None:
        with KimiSimulator(script=[calling(BROKEN), calling(BROKEN), ANSWER]) as simulator:
            agent = create_agent(chat_kimi(simulator), [get_population])
            state = await run(mode, agent, QUESTION)
        assert kinds(state) == ["human", "ai"]
        assert state["messages"][-1].text == ""

    async def test_go_back_to_the_model_with_what_was_wrong(self, mode: str, model: Any) -> None:
        script = [calling(BROKEN), calling(BROKEN), calling(PARIS), ANSWER]
        with KimiSimulator(script=script) as simulator:
            agent = create_agent(model(simulator), [get_population], middleware=[KimiMiddleware("moonshot")])
            state = await run(mode, agent, QUESTION)
            assert simulator.refusals == []
        assert kinds(state) == ["human", "ai", "tool", "ai", "tool", "ai"]
        assert state["messages"][2].status == "error"
        assert texts(state, "tool") == snapshot(
            [
                "Error: the arguments were cut short; send them again, complete, and split very long content. Correct the call, or go on without it.",
                "Paris: 2048472",
            ]
        )

    async def test_are_sent_back_twice_and_then_the_run_ends_with_words(self, mode: str, model: Any) -> None:
        with KimiSimulator(script=lambda body: calling(BROKEN)) as simulator:
            agent = create_agent(
                model(simulator),
                [get_population],
                middleware=[KimiMiddleware("moonshot", practices={"tool_repair": "off"})],
            )
            state = await run(mode, agent, QUESTION)
            assert simulator.refusals == []
            assert len(simulator.requests) == 3
        assert kinds(state) == ["human", *["ai", "tool"] * 3, "ai"]
        assert state["messages"][-1].text == snapshot(
            "Stopped: the arguments of the call to get_population could not be read, 3 times in this turn."
        )

    async def test_beside_good_ones_are_answered_while_those_run(self, mode: str, model: Any) -> None:
        with KimiSimulator(script=[calling(BROKEN, PARIS), ANSWER]) as simulator:
            agent = create_agent(model(simulator), [get_population], middleware=[KimiMiddleware("moonshot")])
            state = await run(mode, agent, QUESTION)
            assert simulator.refusals == []
        assert kinds(state) == ["human", "ai", "tool", "tool", "ai"]
        assert texts(state, "tool")[1] == "Paris: 2048472"
        assert texts(state, "tool")[0].startswith("Error: the arguments were cut short")

    async def test_in_a_structured_run_are_an_error_in_the_end(self, mode: str, model: Any) -> None:
        with KimiSimulator(script=lambda body: calling(BROKEN)) as simulator:
            agent = create_agent(
                model(simulator),
                [get_population],
                middleware=[KimiMiddleware("moonshot", practices={"tool_repair": "off"})],
                response_format=ToolStrategy(City),
            )
            with pytest.raises(StructuredOutputError, match="get_population could not be read, 3 times"):
                await run(mode, agent, QUESTION)


@pytest.mark.parametrize("mode", MODES)
class TestCallsThatDoNotFit:
    async def test_reach_a_tool_without_the_middleware(self, mode: str) -> None:
        remote = Remote()
        with KimiSimulator(script=[calling(WRONG), calling(WRONG), ANSWER]) as simulator:
            await run(mode, create_agent(chat_kimi(simulator), [remote.tool()]), QUESTION)
        assert remote.seen == [WRONG]

    async def test_are_answered_with_what_is_wrong(self, mode: str, model: Any) -> None:
        remote = Remote()
        script = [calling(WRONG), calling(WRONG), calling(PARIS), ANSWER]
        with KimiSimulator(script=script) as simulator:
            agent = create_agent(model(simulator), [remote.tool()], middleware=[KimiMiddleware("moonshot")])
            state = await run(mode, agent, QUESTION)
            assert simulator.refusals == []
        assert remote.seen == [PARIS]
        assert [message.status for message in state["messages"] if message.type == "tool"] == ["error", "success"]
        assert texts(state, "tool")[0] == snapshot(
            "Error: 'city' must be a string, got an array. Correct the call, or go on without it."
        )

    @pytest.mark.parametrize("wrong", [("get_population", WRONG), ("get_people", PARIS)])
    async def test_are_made_where_a_human_mends_them(self, mode: str, wrong: Any, model: Any) -> None:
        remote, made = Remote(), calling(wrong[1], name=wrong[0])
        human = HumanInTheLoopMiddleware({"get_population": True, "get_people": True})
        with KimiSimulator(script=[made, made, Reply("So it is.", reasoning="There.")]) as simulator:
            agent = create_agent(
                model(simulator),
                [remote.tool()],
                middleware=[human, KimiMiddleware("moonshot")],
                checkpointer=InMemorySaver(),
            )
            thread = {"configurable": {"thread_id": "1"}}
            await run(mode, agent, QUESTION, thread)
            edit = {"type": "edit", "edited_action": {"name": "get_population", "args": PARIS}}
            await run(mode, agent, Command(resume={"decisions": [edit]}), thread)
            assert simulator.refusals == []
        assert remote.seen == [PARIS]

    async def test_of_a_tool_that_nobody_declared_are_answered_with_the_names_that_exist(
        self, mode: str, model: Any
    ) -> None:
        people = calling(PARIS, name="get_people")
        with KimiSimulator(script=[people, people, calling(PARIS), ANSWER]) as simulator:
            agent = create_agent(model(simulator), [get_population], middleware=[KimiMiddleware("moonshot")])
            state = await run(mode, agent, QUESTION)
            assert simulator.refusals == []
        assert "get_population" in texts(state, "tool")[0]
        assert texts(state, "tool")[1] == "Paris: 2048472"


class Narrowing(AgentMiddleware[Any, Any]):
    """Offers the model no tool that deletes: what a permission check does."""

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        return handler(request.override(tools=[tool for tool in request.tools if tool.name != "delete_city"]))

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        return await handler(request.override(tools=[tool for tool in request.tools if tool.name != "delete_city"]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ["before", "behind"])
@pytest.mark.parametrize("guarded", [False, True])
async def test_a_tool_that_was_not_offered_is_not_run(guarded: bool, order: str, mode: str, model: Any) -> None:
    """F19: LangChain runs every tool it knows, offered or not. ChatKimi calls such a call invalid also by itself."""
    deleted: list[str] = []

    def delete_city(city: str) -> str:
        """Delete a city from the register."""
        deleted.append(city)
        return "gone"

    ours = [KimiMiddleware("moonshot")] if guarded else []
    middleware = [*ours, Narrowing()] if order == "before" else [Narrowing(), *ours]
    script = [*[calling(PARIS, name="delete_city")] * 2, ANSWER]
    with KimiSimulator(script=script, strict=guarded) as simulator:
        agent = create_agent(model(simulator), [get_population, delete_city], middleware=middleware)
        state = await run(mode, agent, QUESTION)
        assert simulator.refusals == []
    assert bool(deleted) is (not guarded and model is not chat_kimi)
    if guarded:
        assert texts(state, "tool") == snapshot(
            ["Error: there is no tool 'delete_city'; there are: get_population. Correct the call, or go on without it."]
        )


@pytest.mark.parametrize("mode", MODES)
class TestToolsThatFail:
    @staticmethod
    def agent(simulator: KimiSimulator, handled: Any) -> Any:
        def get_population(city: str) -> str:
            """Return how many people live in a city."""
            raise ConnectionError("the registry does not answer")

        middleware = KimiMiddleware(handle_tool_errors=handled)
        return create_agent(chat_kimi(simulator), [get_population], middleware=[middleware])

    @pytest.mark.parametrize("handled", [False, (KeyError,)])
    async def test_end_the_run_by_default(self, mode: str, handled: Any) -> None:
        with KimiSimulator(script=[calling(PARIS), ANSWER]) as simulator:
            with pytest.raises(ConnectionError):
                await run(mode, self.agent(simulator, handled), QUESTION)

    @pytest.mark.parametrize("handled", [True, (ConnectionError,), ConnectionError])
    async def test_are_an_answer_for_the_model_where_asked_for(self, mode: str, handled: Any) -> None:
        with KimiSimulator(script=[calling(PARIS), ANSWER]) as simulator:
            state = await run(mode, self.agent(simulator, handled), QUESTION)
            assert simulator.refusals == []
        assert texts(state, "tool") == snapshot(
            [
                "Error: the tool failed with ConnectionError: the registry does not answer. Correct the call, or go on without it."
            ]
        )


@pytest.mark.parametrize("mode", MODES)
class TestStructuredResponses:
    """The simulated model answers in text, however often it is asked for the tool."""

    @pytest.mark.parametrize("name", ["moonshot hybrid", "vllm instruct"])
    async def test_a_missing_one_is_an_error(self, mode: str, name: str, model: Any) -> None:
        with KimiSimulator(MODELS[name][0], script=lambda body: Reply("It is a big city.")) as simulator:
            agent = create_agent(
                model(simulator, name),
                [get_population],
                middleware=[KimiMiddleware(MODELS[name][0])],
                response_format=ToolStrategy(City),
            )
            with pytest.raises(StructuredOutputError, match="answered in text"):
                await run(mode, agent, QUESTION)

    async def test_a_stopped_loop_is_an_error_too(self, mode: str, model: Any) -> None:
        with KimiSimulator(script=lambda body: calling(PARIS)) as simulator:
            agent = create_agent(
                model(simulator),
                [get_population],
                middleware=[KimiMiddleware("moonshot")],
                response_format=ToolStrategy(City),
            )
            with pytest.raises(StructuredOutputError, match="the loop guard stopped the model"):
                await run(mode, agent, QUESTION)

    @pytest.mark.parametrize("form", [City, ToolStrategy(City)])
    async def test_it_comes_without_a_refusal(self, mode: str, form: Any, model: Any) -> None:
        with KimiSimulator() as simulator:
            agent = create_agent(
                model(simulator), [get_population], middleware=[KimiMiddleware("moonshot")], response_format=form
            )
            question = "What is the population of Paris? The name of the city is Paris, its population 2048472."
            state = await run(mode, agent, question)
            assert simulator.refusals == []
        assert isinstance(state["structured_response"], City)


class TestOtherModels:
    async def test_a_model_that_is_not_in_the_catalogue_is_left_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        agent = create_agent(
            GenericFakeChatModel(messages=iter([AIMessage("Hi."), AIMessage("Hi again.")])),
            [],
            middleware=[KimiMiddleware()],
        )
        with caplog.at_level(logging.WARNING, logger="refrase_integrations"), warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(2):
                state = await run("invoke", agent, "Hello.")
        assert state["messages"][-1].text == "Hi again."
        assert not state.get("refrase_report")
        said = [record.getMessage() for record in caplog.records if "KimiMiddleware" in record.getMessage()]
        assert len(said) == 1
        assert "model_name=" in said[0]

    @pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
    async def test_a_middleware_inside_that_replaces_the_model_is_warned_of(self, mode: str) -> None:
        with KimiSimulator(script=[ANSWER]) as simulator, KimiSimulator(script=[ANSWER], strict=False) as other:
            agent = create_agent(chat_kimi(simulator), [], middleware=[KimiMiddleware(), Router(other)])
            with pytest.warns(RefraseWarning, match="end of the list"):
                await run(mode, agent, QUESTION)
            assert len(other.requests) == 1

    async def test_around_it_the_chosen_model_is_practised(self) -> None:
        with KimiSimulator(script=[ANSWER]) as simulator, KimiSimulator(script=[ANSWER]) as other:
            chosen = chat_kimi(other)
            agent = create_agent(chat_kimi(simulator), [], middleware=[Router(other, chosen), KimiMiddleware()])
            with warnings.catch_warnings():
                warnings.simplefilter("error", RefraseWarning)
                state = await run("invoke", agent, QUESTION)
        assert state["refrase_report"]["model"] == "kimi-k2.6"

    async def test_what_it_is_told_is_for_models_that_do_not_tell(self) -> None:
        with KimiSimulator(script=[ANSWER]) as simulator:
            middleware = KimiMiddleware(host="vllm", model_name="kimi-k2-thinking")
            state = await run("invoke", create_agent(chat_kimi(simulator), [], middleware=[middleware]), QUESTION)
        assert (state["refrase_report"]["model"], state["refrase_report"]["host"]) == ("kimi-k2.6", "moonshot")


class Router(AgentMiddleware[Any, Any]):
    """Sends every call to another model."""

    def __init__(self, simulator: KimiSimulator, model: Any = None) -> None:
        from langchain_openai import ChatOpenAI

        self.tools = []
        self.model = model or ChatOpenAI(model="gpt-5.5", base_url=simulator.base_url, api_key="sk-test")

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        return handler(request.override(model=self.model))

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        return await handler(request.override(model=self.model))


class TestSettings:
    def test_bad_input_is_an_error_at_once(self) -> None:
        with pytest.raises(CatalogueError):
            KimiMiddleware(host="nowhere")
        with pytest.raises(ConfigurationError, match="unknown practice"):
            KimiMiddleware(practices={"loop_gard": "apply"})
        with pytest.raises(ConfigurationError, match="nudge"):
            KimiMiddleware(nudge=-1)
        for wrong in ("yes", 3, (3,), BaseException, None):
            with pytest.raises(ConfigurationError, match="handle_tool_errors"):
                KimiMiddleware(handle_tool_errors=wrong)  # type: ignore[arg-type]

    async def test_through_a_checkpointer_and_a_second_turn(self, model: Any) -> None:
        script = [
            calling(BROKEN),
            calling(PARIS),
            ANSWER,
            calling({"city": "Lyon"}),
            Reply("519,127.", reasoning="So."),
        ]
        with KimiSimulator(script=script) as simulator:
            agent = create_agent(
                model(simulator),
                [get_population],
                middleware=[KimiMiddleware("moonshot", practices={"tool_repair": "off"})],
                checkpointer=InMemorySaver(),
            )
            thread = {"configurable": {"thread_id": "1"}}
            await run("invoke", agent, QUESTION, thread)
            state = await run("ainvoke", agent, "And Lyon?", thread)
            assert simulator.refusals == []
            bodies = [request.body for request in simulator.requests]
        assert kinds(state) == ["human", "ai", "tool", "ai", "tool", "ai", "human", "ai", "tool", "ai"]
        for earlier, later in zip(bodies, bodies[1:], strict=False):
            assert later["messages"][: len(earlier["messages"])] == earlier["messages"]
