"""RefraseNode by itself: what it writes into states of every kind, what it sends through a chain, what it refuses."""

from __future__ import annotations

import operator
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, TypedDict

import pytest
from inline_snapshot import snapshot
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph, add_messages
from langgraph.prebuilt import create_react_agent
from pydantic import BaseModel

from refrase_integrations.errors import CatalogueError, ConfigurationError, InvalidMessage, NoLiveData
from refrase_integrations.kimi.lines import own_line, put_line
from refrase_integrations.kimi.practice import Call, Change, Edit, Practice
from refrase_integrations.kimi.practices import register_practice, unregister_practice
from refrase_integrations.kimi.practices.fresh_data import WITHOUT
from refrase_integrations.kimi.wire import Body
from refrase_integrations.langchain import ChatKimi, RefraseNode, route_fresh_data
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, ask
from tests.langchain.graphs import DEFAULT, plain, prompts, said, thread, turn, user


class Typed(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    refrase_report: dict[str, Any]
    needs_fresh_data: bool


@dataclass
class Data:
    messages: Annotated[list[AnyMessage], add_messages] = field(default_factory=list)
    refrase_report: dict[str, Any] = field(default_factory=dict)
    needs_fresh_data: bool | None = None


class Model(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages] = []
    refrase_report: dict[str, Any] = {}
    needs_fresh_data: bool | None = None


class Chat(TypedDict):
    chat: Annotated[list[AnyMessage], add_messages]


@dataclass(frozen=True)
class Frozen:
    messages: Annotated[list[AnyMessage], add_messages] = field(default_factory=list)


class Unreduced(TypedDict):
    messages: list[Any]


class Added(TypedDict):
    messages: Annotated[list[Any], operator.add]


class Beside(MessagesState):
    llm_input_messages: list[AnyMessage]


class BesideUnreduced(TypedDict):
    messages: list[Any]
    llm_input_messages: list[AnyMessage]


def messages_in(state: Any, key: str = "messages") -> list[BaseMessage]:
    return list(state[key] if isinstance(state, dict) else getattr(state, key))


def graph(schema: Any, node: Any, model: Any, *, reads: str = "messages", key: str = "messages", **options: Any) -> Any:
    """Build refrase -> model."""

    def answer(state: Any) -> dict[str, Any]:
        return {key: [model.invoke(messages_in(state, reads))]}

    async def answer_async(state: Any) -> dict[str, Any]:
        return {key: [await model.ainvoke(messages_in(state, reads))]}

    builder = StateGraph(schema)
    builder.add_node("refrase", node)
    builder.add_node("model", RunnableLambda(answer, answer_async))
    builder.add_edge(START, "refrase")
    builder.add_edge("refrase", "model")
    return builder.compile(**options)


# -- what stands in the state ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("schema", "key"),
    [
        (MessagesState, "messages"),
        (Typed, "messages"),
        (Data, "messages"),
        (Model, "messages"),
        (Chat, "chat"),
        (Frozen, "messages"),
    ],
)
async def test_a_plain_model_gets_the_prompt_in_every_kind_of_state(mode: str, schema: Any, key: str) -> None:
    with KimiSimulator(script=lambda body: "Yes.") as simulator:
        node = RefraseNode(messages_key=key)
        app = graph(schema, node, plain(simulator), reads=key, key=key, checkpointer=InMemorySaver())
        for number in range(3):
            state = await turn(mode, app, {key: [("user", f"Hi {number}.")]}, thread("t"))
        assert simulator.refusals == []
        sent = prompts(simulator)
    assert sent[0] == snapshot(
        [
            {"role": "system", "content": "You are Kimi, an AI assistant created by Moonshot AI."},
            {"role": "user", "content": "Hi 0."},
        ]
    )
    for earlier, later in zip(sent, sent[1:], strict=False):
        assert later[: len(earlier)] == earlier
    pairs = [pair for n in range(3) for pair in (("human", f"Hi {n}."), ("ai", "Yes."))]
    assert said(messages_in(state, key)) == [("system", DEFAULT), *pairs]


@pytest.mark.parametrize("schema", [Typed, Data, Model])
def test_report_and_verdict_stand_in_the_state_where_it_has_their_keys(schema: Any) -> None:
    with KimiSimulator(script=lambda body: "Yes.") as simulator:
        app = graph(schema, RefraseNode(tools=[]), plain(simulator), checkpointer=InMemorySaver())
        first = app.invoke(user("What is the weather in Paris today?"), thread("t"))
        second = app.invoke(user("And what is 2 + 2?"), thread("t"))
    assert (first["needs_fresh_data"], second["needs_fresh_data"]) == (True, False)
    done = [(line["practice"], line["action"]) for line in first["refrase_report"]["changes"]]
    assert ("system-prompt", "add") in done
    assert ("fresh-data", "add") in done
    assert second["refrase_report"]["changes"] == []
    assert "weather" not in str(second["refrase_report"])


def test_nothing_changed_is_nothing_written() -> None:
    node = RefraseNode()
    conversation = [SystemMessage("You review code.", id="s"), HumanMessage("Hi.", id="h")]
    update = node.invoke({"messages": conversation})
    assert set(update) == {"refrase_report", "needs_fresh_data"}
    assert node.invoke(node.invoke(conversation)) == conversation


def test_nothing_changed_is_nothing_written_also_without_ids() -> None:
    """Outside of a graph, or in a state whose reducer gives none, messages may have no ids."""
    conversation = [SystemMessage("You review code."), HumanMessage("Hi."), AIMessage("Yes.")]
    update = RefraseNode().invoke({"messages": conversation})
    assert set(update) == {"refrase_report", "needs_fresh_data"}
    assert "messages" in RefraseNode(tools=[]).invoke({"messages": conversation})


@pytest.mark.filterwarnings("ignore::refrase_integrations.errors.CatalogueWarning")
def test_a_model_that_the_catalogue_does_not_know_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    every: Any = {"concise_prompt": "apply", "grounding": "apply", "verbosity": "apply"}
    node = RefraseNode(model="gpt-4o-of-this-test", tools=[], practices=every)
    for conversation in ([HumanMessage("Hi.")], [SystemMessage("You MUST MUST MUST!!!"), HumanMessage("Rain today?")]):
        assert node.invoke(conversation) == conversation
        update = node.invoke({"messages": conversation})
        assert "messages" not in update
        assert update["refrase_report"]["changes"] == []
    assert update["needs_fresh_data"] is True, "that is a matter of the question alone"
    said = [record.message for record in caplog.records if "gpt-4o-of-this-test" in record.message]
    assert len(said) == 1
    assert "register_model()" in said[0]


def test_a_prompt_of_the_apps_own_is_changed_by_its_id_and_keeps_its_metadata() -> None:
    own = SystemMessage(
        [{"type": "text", "text": "You review code.", "cache_control": {"type": "ephemeral"}}],
        id="own",
        additional_kwargs={"from": "cms"},
    )
    [changed] = RefraseNode(tools=[]).invoke({"messages": [own, HumanMessage("Hi.", id="h")]})["messages"]
    assert changed.id == "own"
    assert changed.additional_kwargs == {"from": "cms"}
    assert changed.content == [*own.content, {"type": "text", "text": f"\n\n{WITHOUT}"}]
    assert own.content == [{"type": "text", "text": "You review code.", "cache_control": {"type": "ephemeral"}}]


def test_forms_of_the_wire_stay_out_of_the_state() -> None:
    """What a request needs besides the prompt (native ids, repaired turns, neutral tokens) is no matter of the state."""
    called = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "call_1"}], id="a")
    conversation = [
        SystemMessage("You review code.", id="s"),
        HumanMessage("Read <|im_end|>.", id="h"),
        called,
        HumanMessage("Go on.", id="h2"),
        AIMessage("", id="empty"),
        ToolMessage("late", tool_call_id="call_9", id="t"),
    ]
    assert "messages" not in RefraseNode(host="vllm", model="kimi-k2-0905-preview").invoke({"messages": conversation})


@pytest.mark.parametrize("twice", ["two nodes", "node and ChatKimi", "node and chain"])
def test_a_second_surface_changes_nothing_more(twice: str) -> None:
    with KimiSimulator(script=lambda body: "Yes.") as simulator:
        given = {"model": "kimi-k2.6", "host": "moonshot", "base_url": simulator.base_url, "api_key": "sk-test"}
        kimi = ChatKimi(**given, practices={"prompt_cache": "off", "grounding": "apply"})
        kimi.invoke([("user", "Hi.")])
        kimi.invoke([("user", "Hi."), ("assistant", "Yes."), ("user", "Again.")])
        node = RefraseNode(tools=[], practices={"grounding": "apply"})
        builder = StateGraph(MessagesState)
        builder.add_node("refrase", node)
        builder.add_node("again", node if twice == "two nodes" else lambda state: {})
        model: Any = node | kimi if twice == "node and chain" else kimi
        builder.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
        builder.add_edge(START, "refrase")
        builder.add_edge("refrase", "again")
        builder.add_edge("again", "model")
        app = builder.compile(checkpointer=InMemorySaver())
        app.invoke(user("Hi."), thread("t"))
        app.invoke(user("Again."), thread("t"))
        bodies = [request.body for request in simulator.requests]
        assert simulator.refusals == []
    assert bodies[2:] == bodies[:2]


def test_the_surface_that_knows_the_tools_has_the_last_word() -> None:
    """The node says that there is no live data; the model has a search tool: its line takes the place of the node's."""

    @tool
    def web_search(query: str) -> str:
        """Search the web."""
        return ""

    with KimiSimulator(script=lambda body: "Yes.") as simulator:
        kimi = ChatKimi(model="kimi-k2.6", base_url=simulator.base_url, api_key="sk-test", host="moonshot")
        bound = kimi.bind_tools([web_search])
        bound.invoke([("user", "Hi.")])
        for tools in (None, [], [web_search]):
            app = graph(MessagesState, RefraseNode(tools=tools), bound)
            app.invoke(user("Hi."))
        sent = prompts(simulator)
    assert sent[0][0]["content"].count("Freshness rule:") == 1
    assert "web_search" in sent[0][0]["content"]
    assert sent[1:] == sent[:1] * 3


def test_unknown_tools_say_nothing_about_live_data_and_no_tools_do() -> None:
    unknown, none = (RefraseNode(tools=tools).invoke([HumanMessage("Hi.")])[0].text for tools in (None, []))
    assert unknown == DEFAULT
    assert none == f"{DEFAULT}\n\n{WITHOUT}"


# -- the history left alone ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("schema", [Beside, BesideUnreduced])
async def test_the_history_stays_as_it_is(mode: str, schema: Any) -> None:
    with KimiSimulator(script=lambda body: "Yes.") as simulator:
        node = RefraseNode(output_key="llm_input_messages")
        app = graph(schema, node, plain(simulator), reads="llm_input_messages", checkpointer=InMemorySaver())
        await turn(mode, app, user("Hi."), thread("t"))
        state = await turn(mode, app, user("Again."), thread("t"))
        sent = prompts(simulator)
    assert [one["content"] for one in sent[0]] == [DEFAULT, "Hi."]
    if schema is Beside:
        assert [one["content"] for one in sent[1]] == [DEFAULT, "Hi.", "Yes.", "Again."]
        assert [message.type for message in state["messages"]] == ["human", "ai", "human", "ai"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("output_key", [None, "llm_input_messages"])
@pytest.mark.parametrize("mode", MODES)
async def test_pre_model_hook_of_the_prebuilt_agent(mode: str, output_key: str | None) -> None:
    def get_weather(city: str) -> str:
        """Return the weather in a city."""
        return f"It is 21 degrees in {city}."

    def script(body: dict[str, Any]) -> Reply:
        if body["messages"][-1]["role"] == "user":
            return Reply(tool_calls=[("get_weather", {"city": "Paris"})])
        return Reply("Warm.")

    with KimiSimulator(script=script) as simulator:
        hook = RefraseNode(tools=[get_weather], output_key=output_key)
        agent = create_react_agent(plain(simulator), [get_weather], pre_model_hook=hook, checkpointer=InMemorySaver())
        await turn(mode, agent, user("Weather in Paris?"), thread("t"))
        state = await turn(mode, agent, user("And tomorrow?"), thread("t"))
        assert simulator.refusals == []
        sent = prompts(simulator)
    assert len(sent) == 4
    for earlier, later in zip(sent, sent[1:], strict=False):
        assert later[: len(earlier)] == earlier
    assert [one["role"] for one in sent[-1]].count("system") == 1
    assert "get_weather" in sent[-1][0]["content"]
    kinds = [message.type for message in state["messages"]]
    assert kinds == ([] if output_key else ["system"]) + ["human", "ai", "tool", "ai"] * 2


def test_a_reducer_on_the_models_own_key_keeps_nothing_of_earlier_turns() -> None:
    class Merged(MessagesState):
        llm_input_messages: Annotated[list[AnyMessage], add_messages]

    def forget(state: Any) -> Any:
        return {"messages": [RemoveMessage(id=state["messages"][0].id)]}

    with KimiSimulator(script=lambda body: "Yes.") as simulator:
        model = plain(simulator)
        builder = StateGraph(Merged)
        builder.add_node("refrase", RefraseNode(output_key="llm_input_messages"))
        builder.add_node("model", lambda state: {"messages": [model.invoke(state["llm_input_messages"])]})
        builder.add_node("forget", forget)
        builder.add_edge(START, "refrase")
        builder.add_edge("refrase", "model")
        builder.add_edge("model", "forget")
        app = builder.compile(checkpointer=InMemorySaver())
        for number in range(3):
            app.invoke(user(f"Hi {number}."), thread("t"))
        sent = prompts(simulator)
    assert [[one["content"] for one in messages] for messages in sent] == [
        [DEFAULT, "Hi 0."],
        [DEFAULT, "Yes.", "Hi 1."],
        [DEFAULT, "Hi 1.", "Yes.", "Hi 2."],
    ]


# -- what cannot work ------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [Unreduced, Added])
@pytest.mark.parametrize("given", ["nothing to add", "a prompt to add"])
def test_a_key_that_takes_no_changes_is_an_error_in_the_first_run(schema: Any, given: str) -> None:
    conversation = [SystemMessage("You review code.", id="s"), HumanMessage("Hi.", id="h")]
    app = graph(schema, RefraseNode(), None)
    with pytest.raises(ConfigurationError, match=r"add_messages.*output_key='llm_input_messages'"):
        app.invoke({"messages": conversation[given == "a prompt to add" :]})


def test_a_missing_output_key_is_an_error_in_the_first_run() -> None:
    app = graph(MessagesState, RefraseNode(output_key="llm_input_messages"), None)
    with pytest.raises(ConfigurationError, match="no key 'llm_input_messages'"):
        app.invoke(user("Hi."))


def test_an_output_key_that_cannot_be_replaced_is_an_error_in_the_first_run() -> None:
    class Grows(MessagesState):
        llm_input_messages: Annotated[list[Any], operator.add]

    app = graph(Grows, RefraseNode(output_key="llm_input_messages"), None)
    with pytest.raises(ConfigurationError, match="reducer of the state's key 'llm_input_messages'"):
        app.invoke(user("Hi."))


@pytest.mark.parametrize(
    ("build", "error"),
    [
        (lambda: RefraseNode(host="nowhere"), CatalogueError),
        (lambda: RefraseNode(practices={"no-such": "off"}), ConfigurationError),
        (lambda: RefraseNode(tools=[3]), ConfigurationError),
        (lambda: RefraseNode(tools=3), ConfigurationError),  # type: ignore[arg-type]
        (lambda: RefraseNode(tools="get_weather"), ConfigurationError),  # type: ignore[arg-type]
        (lambda: RefraseNode(model=3), CatalogueError),  # type: ignore[arg-type]
        (lambda: RefraseNode(host=3), CatalogueError),  # type: ignore[arg-type]
        (lambda: RefraseNode(model=" "), CatalogueError),
        (lambda: RefraseNode().invoke({"chat": []}), ConfigurationError),
        (lambda: RefraseNode().invoke(Data(messages=None)), ConfigurationError),
        (lambda: RefraseNode().invoke(3), ConfigurationError),
        (lambda: route_fresh_data({}), ConfigurationError),
    ],
)
def test_what_is_wrong_is_said(build: Callable[[], Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        build()


@pytest.mark.parametrize("way", ["state", "chain", "graph", "edge"])
@pytest.mark.parametrize(
    "wrong",
    [
        3,
        None,
        {"secret": 1},
        ("user",),
        ("user", "secret", 3),
        {"role": "user"},
        {"role": "x", "content": "secret"},
        b"secret",
    ],
)
def test_what_is_no_message_is_said_by_its_place_and_not_shown(wrong: Any, way: str) -> None:
    given: Any = [HumanMessage("Hi."), wrong]
    ways: dict[str, Callable[[], Any]] = {
        "state": lambda: RefraseNode().invoke({"messages": given}),
        "chain": lambda: RefraseNode().invoke(given),
        "graph": lambda: graph(Unreduced, RefraseNode(), None).invoke({"messages": given}),
        "edge": lambda: route_fresh_data({"messages": given}),
    }
    with pytest.raises(InvalidMessage, match=r"messages\[1\]: this .* is no message") as caught:
        ways[way]()
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_one_message_or_a_number_instead_of_a_list() -> None:
    for one in (HumanMessage("Hi."), "Hi.", {"role": "user", "content": "Hi."}):
        assert said(RefraseNode().invoke({"messages": one})["messages"])[1:] == [("system", DEFAULT), ("human", "Hi.")]
    with pytest.raises(InvalidMessage, match="a list of messages was expected, not int"):
        RefraseNode().invoke({"messages": 5})


def test_a_question_that_needs_live_data_can_be_refused() -> None:
    app = graph(MessagesState, RefraseNode(tools=[], practices={"fresh_data": "error"}), None)
    with pytest.raises(NoLiveData) as caught:
        app.invoke(user("What is the price of bitcoin right now?"))
    assert "bitcoin" not in str(caught.value)


# -- further practices, settings, identity ---------------------------------------------------------------


def test_a_practice_of_ones_own_acts_in_the_node() -> None:
    line = "House rule: be kind."
    own = own_line("House rule:", line)

    def apply(body: Body, call: Call) -> Edit:
        edited = put_line(body, own, line)
        return Edit(edited, [Change("add", "a line")] if edited is not body else [])

    practice = Practice(id="house-rule", statement="Kind.", sources=(), scope="messages", apply=apply)
    register_practice(practice, after="system-prompt")
    try:
        node = RefraseNode()
        once = node.invoke([HumanMessage("Hi.")])
        assert once[0].text == f"{DEFAULT}\n\nHouse rule: be kind."
        assert node.invoke(once) == once
    finally:
        unregister_practice("house-rule")


def test_every_practice_on_the_prompt_acts_and_none_twice() -> None:
    rule = "Answer in the language of the user, and be careful to name the source of each figure that you give."
    own = SystemMessage(f"# Role\nYou review contracts.\n\n# Rules\n- {rule}\n- Be kind.\n- {rule}\n", id="own")
    practices: dict[str, Any] = dict.fromkeys(("concise_prompt", "fresh_data", "grounding", "verbosity"), "apply")
    practices["prompt_thresholds"] = {"short": 10, "saving": 5}
    node = RefraseNode(tools=[], practices=practices)
    once = node.invoke([own, HumanMessage("Hi.", id="h")])
    assert once[0].text.count(rule) == 1
    for marker in ("Freshness rule:", "Sourcing rule:", "Answer length rule:"):
        assert once[0].text.count(marker) == 1
    assert node.invoke(once) == once
    assert [message.id for message in once] == ["own", "h"]


@pytest.mark.parametrize(("mode", "text"), [("off", ["Hi."]), ("warn", ["Hi."]), ("apply", [DEFAULT, "Hi."])])
def test_the_modes_of_the_practices_hold(mode: Any, text: list[str]) -> None:
    node = RefraseNode(practices={"system_prompt": mode})
    assert [message.text for message in node.invoke([HumanMessage("Hi.")])] == text
    report = node.invoke({"messages": [HumanMessage("Hi.", id="h")]})["refrase_report"]
    assert [line["action"] for line in report["changes"]] == {"off": [], "warn": ["advise"], "apply": ["add"]}[mode]


def test_a_node_is_pickled_and_shows_no_prompt() -> None:
    node = RefraseNode(model="kimi-k2-thinking", host="vllm", tools=[{"type": "function", "function": {"name": "f"}}])
    again = pickle.loads(pickle.dumps(node))
    assert again.invoke([HumanMessage("Hi.", id="h")]) == node.invoke([HumanMessage("Hi.", id="h")])
    assert repr(node) == "RefraseNode(model='kimi-k2-thinking', host='vllm')"


# -- in a chain ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["text", "messages", "pairs", "prompt"])
async def test_it_stands_in_front_of_a_model(mode: str, form: str) -> None:
    given: Any = {"text": "Hi.", "messages": [HumanMessage("Hi.")], "pairs": [("user", "Hi.")], "prompt": {"q": "Hi."}}
    with KimiSimulator(script=lambda body: "Yes.") as simulator:
        chain: Any = RefraseNode() | plain(simulator)
        if form == "prompt":
            chain = ChatPromptTemplate.from_messages([("user", "{q}")]) | chain
        reply = await ask(mode, chain, given[form])
        assert reply.text == "Yes."
        assert prompts(simulator) == [[{"role": "system", "content": DEFAULT}, {"role": "user", "content": "Hi."}]]


# -- where to go -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "way"),
    [
        ("What is the weather in Paris today?", "fresh"),
        ("今天北京的天气怎么样？", "fresh"),
        ("Who won the league yesterday?", "fresh"),
        ("Explain how a hash map works.", "known"),
        ("讲一个关于狐狸的故事。", "known"),
    ],
)
@pytest.mark.parametrize("schema", [MessagesState, Typed, Data, Model, Chat])
@pytest.mark.parametrize("mode", ["invoke", "astream"])
async def test_the_way_of_a_question(mode: str, schema: Any, question: str, way: str) -> None:
    key = "chat" if schema is Chat else "messages"
    builder = StateGraph(schema)
    builder.add_node("refrase", RefraseNode(messages_key=key))
    builder.add_node("search", lambda state: {key: [AIMessage("fresh")]})
    builder.add_node("answer", lambda state: {key: [AIMessage("known")]})
    builder.add_edge(START, "refrase")
    route = partial(route_fresh_data, messages_key=key) if schema is Chat else route_fresh_data
    builder.add_conditional_edges("refrase", route, {"fresh": "search", "known": "answer"})
    app = builder.compile()
    state = await turn(mode, app, {key: [("user", question)]})
    assert messages_in(state, key)[-1].text == way


def test_without_a_map_the_ways_are_names_of_nodes() -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("fresh", lambda state: {"messages": [AIMessage("fresh")]})
    builder.add_node("known", lambda state: {"messages": [AIMessage("known")]})
    builder.add_conditional_edges(START, route_fresh_data)
    app = builder.compile()
    assert {edge.target for edge in app.get_graph().edges if edge.conditional} == {"fresh", "known"}
    assert app.invoke(user("What is the price of gold today?"))["messages"][-1].text == "fresh"


def test_the_last_question_decides_not_the_tools_answer_after_it() -> None:
    called = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "c"}])
    asked = [HumanMessage("What is the weather in Paris today?"), called, ToolMessage("Latest news!", tool_call_id="c")]
    assert route_fresh_data({"messages": asked}) == "fresh"
    assert route_fresh_data({"messages": [*asked, AIMessage("Sunny."), HumanMessage("Thank you!")]}) == "known"
    assert route_fresh_data({"messages": []}) == "known"
