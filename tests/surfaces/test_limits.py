"""Requests leave as the account's limits allow, on every surface, in every mode."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from refrase_integrations import llamaindex
from refrase_integrations.client.budgets import Budget
from refrase_integrations.client.limits import Limiter, Limits, limiter_of
from refrase_integrations.errors import BudgetExceeded, DeadlineExceeded, LimitReached, RefraseError
from refrase_integrations.langchain import KimiMiddleware, with_kimi_practices
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.clocks import FakeClock
from tests.surfaces import (
    SURFACES,
    ask,
    build,
    chat_openai,
    everywhere,
    in_streams,
    langchain_messages,
    llamaindex_messages,
    user,
)

ASKED = [user("Tell me.")]
_LANGCHAIN, _LLAMAINDEX = langchain_messages(ASKED), llamaindex_messages(ASKED)
USAGE = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
SHORT = {"model": "kimi-k2.6", "thinking": False, "max_tokens": 1_000}


@everywhere
async def test_requests_a_minute_retries_included(surface: str, mode: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("refrase_integrations.client.retries._wait", lambda state: 0.0)
    clock, came = FakeClock(), list[float]()

    def script(_: Any) -> Reply:
        came.append(clock.now())
        return Reply(status=503) if len(came) % 3 == 1 else Reply("Yes.")

    with KimiSimulator(script=script) as simulator:
        model = build(surface, simulator, **SHORT, limits=Limiter(Limits(requests_per_minute=2), clock))
        for _ in range(4):
            await ask(surface, mode, model, ASKED)
    assert len(came) == 6
    assert all(later - earlier > 60 for earlier, later in zip(came, came[2:], strict=False))


@everywhere
async def test_tokens_are_reserved_and_given_back(surface: str, mode: str) -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(tokens_per_minute=2_000), clock)
    with KimiSimulator(script=lambda _: Reply("Yes.", usage=USAGE)) as simulator:
        model = build(surface, simulator, **SHORT, limits=limiter)
        for _ in range(7):
            await ask(surface, mode, model, ASKED)
        assert clock.slept == 0  # 150 each were used; without giving back it would be two requests a minute
        await ask(surface, mode, model, ASKED)
        assert clock.slept > 60
    assert limiter.running == 0


@everywhere
async def test_a_429_slows_down_everybody(surface: str, mode: str) -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(concurrency=5), clock)
    refused = Reply(status=429, error_type="rate_limit_reached_error", headers={"retry-after": "0"})
    with KimiSimulator(script=[refused, "Yes.", "Yes."]) as simulator:
        await ask(surface, mode, build(surface, simulator, limits=limiter, max_retries=1), ASKED)
        assert clock.slept == 1
        limiter.slow_down(20)  # whoever it was
        await ask(surface, mode, build(surface, simulator, limits=limiter), ASKED)
        assert clock.slept == 21


@everywhere
async def test_a_quota_that_is_used_up_slows_nobody_down(surface: str, mode: str) -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(concurrency=5), clock)
    with KimiSimulator(script=[Reply(status=429, error_type="exceeded_current_quota_error"), "Yes."]) as simulator:
        model = build(surface, simulator, limits=limiter)
        with pytest.raises(Exception, match="429"):
            await ask(surface, mode, model, ASKED)
        await ask(surface, mode, model, ASKED)
    assert clock.slept == 0


@everywhere
async def test_what_can_never_be_sent_is_an_error_before_any_request(surface: str, mode: str) -> None:
    with KimiSimulator() as simulator:
        model = build(surface, simulator, **SHORT, limits=Limits(tokens_per_minute=500))
        with pytest.raises(LimitReached, match="can never be sent"):
            await ask(surface, mode, model, ASKED)
        assert simulator.requests == []


@everywhere
async def test_the_deadline_holds_in_the_queue_too(surface: str, mode: str) -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(requests_per_minute=1), clock)
    with KimiSimulator() as simulator:
        model = build(surface, simulator, limits=limiter, deadline=20)
        await ask(surface, mode, model, ASKED)
        with pytest.raises(DeadlineExceeded):
            await ask(surface, mode, model, ASKED)
        assert len(simulator.requests) == 1
    assert (clock.slept, limiter.running, limiter.waiting) == (0, 0, 0)


@in_streams
async def test_a_stream_that_is_left_gives_its_place_back(surface: str, mode: str) -> None:
    limiter, budget = Limiter(Limits(concurrency=1)), Budget()
    with KimiSimulator(script=lambda _: Reply("word " * 200)) as simulator:
        model = build(surface, simulator, limits=limiter, budget=budget)
        stream = model.stream(_LANGCHAIN) if surface == "ChatKimi" else model.stream_chat(_LLAMAINDEX)
        if mode == "stream":
            next(iter(stream))
            assert limiter.running == 1
            stream.close()
        else:
            stream = model.astream(_LANGCHAIN) if surface == "ChatKimi" else await model.astream_chat(_LLAMAINDEX)
            await anext(stream)
            assert limiter.running == 1
            await stream.aclose()
        del stream
        for _ in range(100):  # LlamaIndex's own wrapper leaves the closing to the event loop
            await asyncio.sleep(0.01 if limiter.running else 0)
        assert limiter.running == 0
        assert budget.spent.requests == 1


FAULTS = {
    "seed": 5, "server_error": 0.1, "overloaded": 0.1, "reset_before_headers": 0.1, "reset_after_headers": 0.1,
    "empty_reply": 0.1, "cut": 0.15, "error_in_stream": 0.15, "missing_done": 0.1,
}  # fmt: skip


@everywhere
async def test_nothing_stays_reserved_whatever_fails(surface: str, mode: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("refrase_integrations.client.retries._wait", lambda state: 0.0)
    monkeypatch.setattr("refrase_integrations.client.sdk.before_resuming", lambda resumed: 0.0)
    limiter, budget, failed = (
        Limiter(Limits(concurrency=2, tokens_per_minute=10_000), FakeClock()),
        Budget(tokens=10**6),
        0,
    )
    with KimiSimulator(script=lambda _: Reply("Yes, indeed.", usage=USAGE), faults=FAULTS) as simulator:
        model = build(surface, simulator, **SHORT, limits=limiter, budget=budget, max_retries=1)
        for number in range(40):
            try:
                await ask(surface, mode, model, [user(f"Question {number}.")])
            except RefraseError:
                failed += 1
        whole = [request for request in simulator.requests if request.status == 200 and not request.faults]
    assert 0 < failed < 40
    assert (limiter.running, limiter.waiting) == (0, 0)
    assert (budget._all.tokens, budget._all.usd) == (0, pytest.approx(0))
    assert budget.spent.requests == len(simulator.requests)
    assert budget.spent.tokens >= 150 * len(whole)  # every reply that arrived whole is paid for


async def test_batches_of_langchain_keep_them_and_return_exceptions() -> None:
    limiter, running = Limiter(Limits(concurrency=3)), list[int]()

    def script(body: dict[str, Any]) -> Reply:
        running.append(limiter.running)
        wrong = body["messages"][-1]["content"] == "4"
        return Reply(status=400) if wrong else Reply(body["messages"][-1]["content"], delay=0.005)

    inputs = [str(number) for number in range(12)]
    with KimiSimulator(script=script) as simulator:
        model = build("ChatKimi", simulator, limits=limiter)
        for replies in (
            model.batch(inputs, return_exceptions=True),
            await model.abatch(inputs, return_exceptions=True),
        ):
            told = [reply if isinstance(reply, Exception) else reply.text for reply in replies]
            assert [one for one in told if isinstance(one, str)] == [one for one in inputs if one != "4"]
            assert type(told[4]).__name__ == "RequestRefused"
    assert max(running) <= 3


async def test_models_of_one_account_share_them_across_frameworks_and_loops() -> None:
    limits, running = Limits(concurrency=2, account="test of sharing"), list[int]()
    limiter = limiter_of(limits, "")
    assert limiter is not None

    def script(_: Any) -> Reply:
        running.append(limiter.running)
        return Reply("Yes.", delay=0.005)

    with KimiSimulator(script=script) as simulator:
        models = [build(surface, simulator, limits=limits) for surface in SURFACES]

        async def both() -> None:
            await asyncio.gather(
                *(
                    ask(surface, "ainvoke", model, ASKED)
                    for surface, model in zip(SURFACES, models, strict=True)
                    for _ in range(4)
                )
            )

        await asyncio.gather(both(), asyncio.to_thread(asyncio.run, both()))
    assert len(running) == 16
    assert max(running) == 2


@pytest.mark.parametrize("surface", SURFACES)
def test_neither_is_serialized_and_copies_share_them(surface: str) -> None:
    with KimiSimulator() as simulator:
        model = build(surface, simulator, limits=Limits(concurrency=3), budget=Budget(usd=3))
        assert "budget" not in repr(model)
        dumped = str(model.model_dump()) + str(model.to_json())
        assert "concurrency" not in dumped
        assert "usd" not in dumped
        copied = model.model_copy()
        assert copied.budget is model.budget
        read = pickle.loads(pickle.dumps(model))
        assert (read.limits, read.budget.spent) == (model.limits, model.budget.spent)


# -- around other makers' models -------------------------------------------------------------------------


async def test_around_a_wrapped_chat_model() -> None:
    with KimiSimulator(script=lambda _: Reply("Yes.", usage=USAGE)) as simulator:
        budget, limiter = Budget(tokens=1_500), Limiter(Limits(concurrency=1))
        inner = chat_openai(simulator, "kimi-k2.6", max_tokens=1_000)
        model = with_kimi_practices(inner, host="moonshot", budget=budget, limits=limiter)
        for each in (
            model.invoke("Hi."),
            await model.ainvoke("Hi."),
            [chunk for chunk in model.stream("Hi.")][-1],
        ):
            assert "spent so far" in str(each.response_metadata["refrase"]["healed"])
        assert (budget.spent.tokens, limiter.running) == (450, 0)
        with pytest.raises(BudgetExceeded):
            [chunk async for chunk in model.astream("Hi.")]


async def test_around_a_wrapped_llm() -> None:
    with KimiSimulator(script=lambda _: Reply("Yes.", usage=USAGE)) as simulator:
        budget = Budget(tokens=1_500)
        inner = build("Kimi", simulator, **SHORT)
        llm = llamaindex.with_kimi_practices(inner, budget=budget)
        llm.complete("Hi.")
        await llm.acomplete("Hi.")
        list(llm.stream_complete("Hi."))
        assert budget.spent.tokens == 450
        with pytest.raises(BudgetExceeded):
            llm.complete("Hi.")


async def test_what_an_agent_may_spend() -> None:
    from langchain.agents import create_agent

    with KimiSimulator(script=lambda _: Reply("Yes.", usage=USAGE)) as simulator:
        budget = Budget(thread_tokens=1_500)
        model = build("ChatKimi", simulator, **SHORT)
        agent = create_agent(model, middleware=[KimiMiddleware(budget=budget)])
        asked = {"messages": [("user", "Hi.")]}
        config = {"configurable": {"thread_id": "7"}}
        agent.invoke(asked, config)
        await agent.ainvoke(asked, config)
        agent.invoke(asked, config)
        with pytest.raises(BudgetExceeded, match="this thread's budget"):
            agent.invoke(asked, config)
        model.invoke("Hi.")  # not the agent's
        assert budget.spent_by("7").tokens == 450


async def test_a_block_around_an_agent() -> None:
    from langchain.agents import create_agent
    from llama_index.core.agent.workflow import FunctionAgent

    with KimiSimulator(script=lambda _: Reply("Yes.", usage=USAGE)) as simulator:
        agent = create_agent(build("ChatKimi", simulator))
        with Budget() as run:
            agent.invoke({"messages": [("user", "Hi.")]})
            await agent.ainvoke({"messages": [("user", "Hi.")]})
            await FunctionAgent(llm=build("Kimi", simulator), tools=[]).run("Hi.")
        assert (run.spent.requests, run.spent.tokens) == (3, 450)
