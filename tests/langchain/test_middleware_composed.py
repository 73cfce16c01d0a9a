"""KimiMiddleware beside LangChain's own middleware, before and behind it, sync and async, over several turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent, middleware
from langchain.agents.middleware import (
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    HumanInTheLoopMiddleware,
    LLMToolSelectorMiddleware,
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
    ToolCallLimitMiddleware,
    ToolErrorMiddleware,
    ToolRetryMiddleware,
    dynamic_prompt,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from refrase_integrations.langchain import KimiMiddleware
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.langchain.agents import SURFACES, chat_kimi, kinds, run, texts
from tests.langchain.test_middleware import BROKEN, PARIS, calling

ORDERS = ("before", "behind")
WAYS = ("invoke", "ainvoke")
ASKED = "What is the population of Paris?"

pytestmark = [
    pytest.mark.parametrize("way", WAYS),
    pytest.mark.parametrize("order", ORDERS),
    pytest.mark.parametrize("surface", SURFACES),
]


def get_population(city: str) -> str:
    """Return how many people live in a city."""
    return "2048472"


def get_mayor(city: str) -> str:
    """Return who is mayor of a city."""
    return "somebody"


def diligent(body: dict[str, Any]) -> Reply:
    """A model that looks it up and answers."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return Reply(f"It is {last['content']}.", reasoning="There it is.")
    return calling(PARIS)


def stacked(order: str, *others: Any, **settings: Any) -> list[Any]:
    """Our middleware before or behind the others."""
    ours = KimiMiddleware("moonshot", **settings)
    return [ours, *others] if order == "before" else [*others, ours]


async def turns(
    surface: str,
    way: str,
    middleware: list[Any],
    *,
    count: int = 1,
    script: Any = diligent,
    tools: Any = (get_population, get_mayor),
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run some turns of one thread without a refusal; return the state and the bodies."""
    with KimiSimulator(script=script) as simulator:
        model = SURFACES[surface](simulator, max_retries=0)
        agent = create_agent(model, list(tools), middleware=middleware, checkpointer=InMemorySaver())
        state: dict[str, Any] = {}
        for _ in range(count):
            state = await run(way, agent, ASKED, {"configurable": {"thread_id": "1"}})
        assert [refusal for refusal in simulator.refusals if refusal.status != 500] == []
        return state, [request.body for request in simulator.requests]


async def test_summarization(surface: str, order: str, way: str) -> None:
    with KimiSimulator(script=lambda body: Reply("They asked for Paris.", reasoning="Short.")) as other:
        summarize = SummarizationMiddleware(chat_kimi(other), trigger=("messages", 6), keep=("messages", 2))
        state, bodies = await turns(surface, way, stacked(order, summarize), count=4)
        assert other.refusals == []
        assert other.requests
    assert state["messages"][-1].text == "It is 2048472."
    assert any("They asked for Paris." in str(message["content"]) for message in bodies[-1]["messages"])
    assert state["refrase_report"]["changes"]


@pytest.mark.parametrize("limit", [1, 2])
async def test_a_limit_of_model_calls_counts_replies_that_are_sent_back(
    surface: str, order: str, way: str, limit: int
) -> None:
    middleware = stacked(order, ModelCallLimitMiddleware(run_limit=limit), practices={"tool_repair": "off"})
    state, bodies = await turns(surface, way, middleware, script=lambda body: calling(BROKEN))
    assert len(bodies) == limit
    assert "limit" in state["messages"][-1].text


async def test_a_limit_of_tool_calls(surface: str, order: str, way: str) -> None:
    state, _ = await turns(surface, way, stacked(order, ToolCallLimitMiddleware(run_limit=1)), count=2)
    assert texts(state, "tool") == ["2048472", "2048472"]
    state, _ = await turns(
        surface,
        way,
        stacked(order, ToolCallLimitMiddleware(run_limit=1, exit_behavior="end")),
        script=lambda body: calling(PARIS),
    )
    assert texts(state, "tool")[0] == "2048472"
    assert len(texts(state, "tool")) == 2


@pytest.mark.parametrize("decision", ["approve", "reject", "edit"])
async def test_a_human_in_the_loop(surface: str, order: str, way: str, decision: str) -> None:
    human = HumanInTheLoopMiddleware({"get_population": True})
    verdict: dict[str, Any] = {"type": decision}
    if decision == "edit":
        verdict["edited_action"] = {"name": "get_population", "args": {"city": "Lyon"}}
    seen: list[str] = []

    def get_population(city: str) -> str:
        """Return how many people live in a city."""
        seen.append(city)
        return "2048472"

    with KimiSimulator(script=diligent) as simulator:
        agent = create_agent(
            SURFACES[surface](simulator),
            [get_population],
            middleware=stacked(order, human),
            checkpointer=InMemorySaver(),
        )
        thread = {"configurable": {"thread_id": "1"}}
        assert "__interrupt__" in await run(way, agent, ASKED, thread)
        state = await run(way, agent, Command(resume={"decisions": [verdict]}), thread)
        assert simulator.refusals == []
    assert seen == {"approve": ["Paris"], "reject": [], "edit": ["Lyon"]}[decision]
    assert kinds(state)[:3] == ["human", "ai", "tool"]
    assert state["messages"][-1].type == "ai"


async def test_a_fallback_model(surface: str, order: str, way: str) -> None:
    with KimiSimulator(script=diligent) as other:
        fallback = ModelFallbackMiddleware(chat_kimi(other, "moonshot thinking"))
        with KimiSimulator(script=lambda body: Reply(status=500)) as simulator:
            model = SURFACES[surface](simulator, max_retries=0)
            agent = create_agent(model, [get_population], middleware=stacked(order, fallback))
            state = await run(way, agent, ASKED)
        assert other.refusals == []
    assert state["messages"][-1].text == "It is 2048472."
    assert state["refrase_report"]["model"] == "kimi-k2-thinking"


@pytest.mark.parametrize("failures", [1, 3])
async def test_retries_of_the_model(surface: str, order: str, way: str, failures: int) -> None:
    left = [failures]

    def shaky(body: dict[str, Any]) -> Reply:
        left[0] -= 1
        return Reply(status=500) if left[0] >= 0 else diligent(body)

    state, _ = await turns(
        surface, way, stacked(order, ModelRetryMiddleware(max_retries=2, initial_delay=0)), script=shaky
    )
    if failures == 1:
        assert state["messages"][-1].text == "It is 2048472."
    else:
        assert kinds(state) == ["human", "ai"]  # LangChain's own message on the failure


async def test_retries_of_tools(surface: str, order: str, way: str) -> None:
    tried: list[str] = []

    def get_population(city: str) -> str:
        """Return how many people live in a city."""
        tried.append(city)
        if len(tried) == 1:
            raise ConnectionError("no line")
        return "2048472"

    state, _ = await turns(surface, way, stacked(order, ToolRetryMiddleware(initial_delay=0)), tools=[get_population])
    assert tried == ["Paris", "Paris"]
    assert state["messages"][-1].text == "It is 2048472."


async def test_errors_of_tools(surface: str, order: str, way: str) -> None:
    def get_population(city: str) -> str:
        """Return how many people live in a city."""
        raise ConnectionError("no line")

    told = ToolErrorMiddleware(lambda error, request: f"{type(error).__name__} in {request.tool_call['name']}")
    state, _ = await turns(surface, way, stacked(order, told), tools=[get_population])
    assert texts(state, "tool") == ["ConnectionError in get_population"]


async def test_a_todo_list(surface: str, order: str, way: str) -> None:
    todos = {"todos": [{"content": "Look it up", "status": "in_progress"}]}
    script = [calling(todos, name="write_todos"), calling(PARIS), Reply("It is 2048472.", reasoning="There.")]
    state, bodies = await turns(surface, way, stacked(order, TodoListMiddleware()), script=script)
    assert state["todos"] == todos["todos"]
    assert "write_todos" in bodies[0]["messages"][0]["content"]
    assert kinds(state) == ["human", "ai", "tool", "ai", "tool", "ai"]


async def test_a_tool_selector(surface: str, order: str, way: str) -> None:
    with KimiSimulator(script=lambda body: Reply('{"tools": ["get_population"]}', reasoning="That one.")) as other:
        selector = LLMToolSelectorMiddleware(model=chat_kimi(other), max_tools=1)
        state, bodies = await turns(surface, way, stacked(order, selector))
        assert other.refusals == []
    assert [tool["function"]["name"] for tool in bodies[0]["tools"]] == ["get_population"]
    assert state["messages"][-1].text == "It is 2048472."


async def test_context_editing(surface: str, order: str, way: str) -> None:
    edits = ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=1, keep=1)])
    state, bodies = await turns(surface, way, stacked(order, edits), count=3)
    results = [message["content"] for message in bodies[-1]["messages"] if message["role"] == "tool"]
    assert results == ["[cleared]", "[cleared]", "2048472"]
    assert state["messages"][-1].text == "It is 2048472."


async def test_pii(surface: str, order: str, way: str) -> None:
    guard = PIIMiddleware("email", strategy="redact", apply_to_output=True, apply_to_tool_results=True)
    with KimiSimulator(script=lambda body: Reply("Write to me@example.com.", reasoning="So.")) as simulator:
        agent = create_agent(SURFACES[surface](simulator), [], middleware=stacked(order, guard))
        state = await run(way, agent, "I am you@example.com.")
        assert simulator.refusals == []
        assert simulator.requests[0].body["messages"][-1]["content"] == "I am [REDACTED_EMAIL]."
    assert state["messages"][-1].text == "Write to [REDACTED_EMAIL]."


async def test_refusals_and_a_dynamic_prompt(surface: str, order: str, way: str) -> None:
    @dynamic_prompt
    def prompt(request: Any) -> str:
        return f"You are a clerk. {len(request.messages)} messages so far."

    @dynamic_prompt
    async def aprompt(request: Any) -> str:
        return f"You are a clerk. {len(request.messages)} messages so far."

    prompts: dict[str, Callable[..., Any] | Any] = {"invoke": prompt, "ainvoke": aprompt}
    others = [prompts[way]]
    if hasattr(middleware, "ModelRefusalMiddleware"):  # since langchain 1.5
        others.insert(0, middleware.ModelRefusalMiddleware())
    state, bodies = await turns(surface, way, stacked(order, *others))
    assert [body["messages"][0]["content"].partition("\n")[0] for body in bodies] == [
        "You are a clerk. 1 messages so far.",
        "You are a clerk. 3 messages so far.",
    ]
    assert state["messages"][-1].text == "It is 2048472."


async def test_all_of_them_together(surface: str, order: str, way: str) -> None:
    with KimiSimulator(script=lambda body: Reply("They asked for Paris.", reasoning="Short.")) as other:
        others = [
            SummarizationMiddleware(chat_kimi(other), trigger=("messages", 8), keep=("messages", 3)),
            ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=1, keep=2)]),
            TodoListMiddleware(),
            ModelCallLimitMiddleware(run_limit=20),
            ToolCallLimitMiddleware(run_limit=20),
            ModelRetryMiddleware(initial_delay=0),
            ToolRetryMiddleware(initial_delay=0),
            PIIMiddleware("email"),
        ]
        state, bodies = await turns(surface, way, stacked(order, *others, nudge=1), count=6)
        assert other.refusals == []
    assert state["messages"][-1].text == "It is 2048472."
    assert len(bodies) == 12
