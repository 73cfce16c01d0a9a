"""The four surfaces put the same prompt practices on the wire, and several of them together what one of them does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph

from refrase_integrations.langchain import KimiMiddleware, RefraseNode, with_kimi_practices
from refrase_integrations.simulator import KimiSimulator
from tests.conversations import MODES, ask
from tests.langchain.agents import MODELS, chat_kimi, chat_openai, run

HOSTS = {"moonshot": "moonshot instruct", "vllm": "vllm instruct"}
"""A model without thinking on each: a plain ChatOpenAI could not go on after a tool call of one that thinks."""


def get_weather(city: str) -> str:
    """Return the current weather in a city."""
    return "sunny"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


CALLED = AIMessage("", tool_calls=[{"name": "get_weather", "args": {"city": "Paris"}, "id": "call_1"}])
RULES = "Rule: always answer in full sentences. "
CONVERSATIONS: dict[str, list[BaseMessage]] = {
    "no system prompt": [HumanMessage("What is the weather in Paris today?")],
    "a task of its own": [SystemMessage("You are a travel agent."), HumanMessage("Where to go in June?")],
    "Chinese": [SystemMessage("你是一名旅行顾问。"), HumanMessage("今天北京天气怎么样？")],
    "a long prompt": [SystemMessage(f"You are a travel agent.\n\n{RULES * 40}"), HumanMessage("Where to go in June?")],
    "several turns": [
        SystemMessage("You are a travel agent."),
        HumanMessage("What is the weather in Paris?"),
        CALLED,
        ToolMessage("sunny", tool_call_id="call_1"),
        AIMessage("It is sunny."),
        HumanMessage("And who is mayor there?"),
    ],
}
TOOLS: dict[str, list[Any]] = {"none": [], "live": [get_weather, add], "others": [add]}
PRACTICES: dict[str, Any] = {
    "defaults": None,
    "all": {"concise_prompt": "apply", "grounding": "apply", "verbosity": "apply"},
    "off": "off",
}


class Talk(NamedTuple):
    """What is said to a model, and how the practices are set."""

    messages: list[BaseMessage]
    tools: list[Any]
    practices: Any


def talk_of(case: str, tools: str, practices: str) -> Talk:
    return Talk(CONVERSATIONS[case], TOOLS[tools], PRACTICES[practices])


def bound(model: Any, tools: list[Any]) -> Any:
    return model.bind_tools(tools) if tools else model


async def over_chat_kimi(mode: str, simulator: KimiSimulator, host: str, talk: Talk) -> None:
    model = chat_kimi(simulator, HOSTS[host], practices=talk.practices)
    await ask(mode, bound(model, talk.tools), talk.messages)


async def over_wrapper(mode: str, simulator: KimiSimulator, host: str, talk: Talk) -> None:
    model = with_kimi_practices(chat_openai(simulator, HOSTS[host]), host=host, practices=talk.practices)
    await ask(mode, bound(model, talk.tools), talk.messages)


async def over_node(mode: str, simulator: KimiSimulator, host: str, talk: Talk) -> None:
    node = RefraseNode(MODELS[HOSTS[host]][1], host, talk.tools, talk.practices)
    await ask(mode, node | bound(chat_openai(simulator, HOSTS[host]), talk.tools), talk.messages)


async def over_middleware(mode: str, simulator: KimiSimulator, host: str, talk: Talk) -> None:
    first, *rest = talk.messages
    prompt = first if isinstance(first, SystemMessage) else None
    middleware = [KimiMiddleware(host, practices=talk.practices)]
    agent = create_agent(chat_openai(simulator, HOSTS[host]), talk.tools, system_prompt=prompt, middleware=middleware)
    await run(mode, agent, {"messages": rest if prompt else talk.messages})


async def over_all(mode: str, simulator: KimiSimulator, host: str, talk: Talk) -> None:
    """The node in front of an agent with the middleware, on a model that is wrapped already."""
    model = with_kimi_practices(chat_openai(simulator, HOSTS[host]), host=host, practices=talk.practices)
    agent = create_agent(model, talk.tools, middleware=[KimiMiddleware(host, practices=talk.practices)])
    builder = StateGraph(MessagesState)
    builder.add_node("refrase", RefraseNode(MODELS[HOSTS[host]][1], host, talk.tools, talk.practices))
    builder.add_node("agent", agent)
    builder.add_edge(START, "refrase")
    builder.add_edge("refrase", "agent")
    await run(mode, builder.compile(), {"messages": talk.messages})


@pytest.fixture(scope="module")
def simulators() -> Iterator[dict[str, KimiSimulator]]:
    """A simulator for each host, for all tests: they only look at what reached it."""
    with ExitStack() as stack:
        yield {host: stack.enter_context(KimiSimulator(host, script=lambda body: "It is so.")) for host in HOSTS}


async def body_of(surface: Any, mode: str, simulator: KimiSimulator, talk: Talk) -> dict[str, Any]:
    """Return what reaches the host, less what only streams carry."""
    simulator.reset()
    await surface(mode, simulator, simulator.host.persona.id, talk)
    assert simulator.refusals == []
    [request] = simulator.requests
    return {key: value for key, value in request.body.items() if key not in ("stream", "stream_options")}


ROWS = [(case, tools, practices, "invoke") for case in CONVERSATIONS for tools in TOOLS for practices in PRACTICES]
ROWS += [("several turns", "live", practices, mode) for practices in PRACTICES for mode in MODES[1:]]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("row", ROWS, ids="-".join)
async def test_the_same_body(row: tuple[str, str, str, str], host: str, simulators: dict[str, KimiSimulator]) -> None:
    *said, mode = row
    talk, simulator = talk_of(*said), simulators[host]
    wanted = await body_of(over_chat_kimi, mode, simulator, talk)
    for surface in (over_wrapper, over_middleware, over_all):
        assert await body_of(surface, mode, simulator, talk) == wanted, surface.__name__
    # The node leaves the wire to the model behind it: the prompt alone is its own.
    sent = await body_of(over_node, mode, simulator, talk)
    prompts = [
        [(message["role"], message["content"]) for message in body["messages"] if message["role"] in ("system", "user")]
        for body in (wanted, sent)
    ]
    assert prompts[0] == prompts[1]


LAWYER = SystemMessage("You are a lawyer.")


@pytest.mark.parametrize("tools", TOOLS)
@pytest.mark.parametrize("mode", MODES)
async def test_the_default_of_a_node_does_not_stand_beside_the_apps_own_prompt(
    mode: str, tools: str, simulators: dict[str, KimiSimulator]
) -> None:
    """An app that puts its prompt in front of the state's messages: the node could not see it."""
    bound_tools, simulator = TOOLS[tools], simulators["moonshot"]
    asked = [HumanMessage("May I?")]
    node = RefraseNode(MODELS[HOSTS["moonshot"]][1], "moonshot", bound_tools)
    stated = node.invoke({"messages": asked})["messages"][1:]
    assert stated[0].id == "refrase-system"
    wanted = await body_of(over_chat_kimi, mode, simulator, Talk([LAWYER, *asked], bound_tools, None))
    assert wanted["messages"][0]["content"].startswith("You are a lawyer.")
    for surface in (over_chat_kimi, over_wrapper, over_middleware):
        talk = Talk([LAWYER, *stated], bound_tools, None)
        assert await body_of(surface, mode, simulator, talk) == wanted, surface.__name__


async def test_the_practices_are_there_at_all(simulators: dict[str, KimiSimulator]) -> None:
    """Equal bodies prove nothing where nothing was added."""
    prompts = {}
    for practices in PRACTICES:
        body = await body_of(
            over_chat_kimi, "invoke", simulators["moonshot"], talk_of("a long prompt", "live", practices)
        )
        prompts[practices] = body["messages"][0]["content"]
    assert prompts["off"] == CONVERSATIONS["a long prompt"][0].content
    assert "get_weather" in prompts["defaults"]
    assert len(prompts["all"]) < len(prompts["defaults"])
    assert "source" in prompts["all"]
