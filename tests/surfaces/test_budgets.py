"""Budgets: the request that would pass one is not sent, on every surface, in every mode."""

from __future__ import annotations

import asyncio
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refrase_integrations.client.budgets import Budget, Cost
from refrase_integrations.errors import (
    BudgetExceeded,
    ConfigurationError,
    ConnectionFailed,
    HostError,
    StreamInterrupted,
)
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.surfaces import ask, build, everywhere, exchange, in_streams, user

ASKED = [user("Tell me.")]
USAGE = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
MODEL = {"model": "kimi-k2.6", "thinking": False}
"""0.95 dollars a million prompt tokens, 4 a million reply tokens."""
COST = (100 * 0.95 + 50 * 4) / 1e6


def reply(text: str = "Yes.", **fields: Any) -> Reply:
    return Reply(text, **{"usage": USAGE, **fields})


@everywhere
async def test_what_was_spent_is_counted_and_told(surface: str, mode: str) -> None:
    budget = Budget(usd=1.0, tokens=100_000)
    answer, _ = await exchange(surface, mode, ASKED, **MODEL, script=[reply()], budget=budget)
    assert (budget.spent.requests, budget.spent.tokens, budget.spent.usd) == (1, 150, pytest.approx(COST))
    assert budget.spent.usage == USAGE
    assert answer.said("budget") == [("add", f"150 tokens, ${COST:.6f} spent so far in 1 request(s)")]


@everywhere
async def test_the_request_that_could_pass_it_is_not_sent(surface: str, mode: str) -> None:
    with KimiSimulator(script=lambda _: reply()) as simulator:
        budget = Budget(tokens=1_000)
        model = build(surface, simulator, **MODEL, max_tokens=800, budget=budget)
        await ask(surface, mode, model, ASKED)
        with pytest.raises(BudgetExceeded, match=r"1,000 tokens has 150 tokens spent.*could cost .* up to 800 output"):
            await ask(surface, mode, model, ASKED)
        assert len(simulator.requests) == budget.spent.requests == 1


@everywhere
async def test_a_budget_in_dollars(surface: str, mode: str) -> None:
    with KimiSimulator() as simulator:
        model = build(surface, simulator, **MODEL, max_tokens=1_000, budget=Budget(usd=0.001))
        with pytest.raises(BudgetExceeded, match=r"the budget of \$0.001000 has \$0.000000 spent") as caught:
            await ask(surface, mode, model, ASKED)
        error = caught.value
        assert (error.budget, error.limit, error.spent, error.passing) == ("usd", 0.001, 0, False)
        assert error.needed == pytest.approx(0.004, rel=0.02)
        assert simulator.requests == []
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


@everywhere
async def test_extra_calls_and_retries_of_one_call_count(surface: str, mode: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("refrase_integrations.client.retries._wait", lambda state: 0.0)
    budget, script = Budget(), [reply(""), Reply(status=503), reply("Yes.")]  # empty: asked once more
    answer, bodies = await exchange(surface, mode, ASKED, **MODEL, script=script, budget=budget)
    assert (answer.text, len(bodies)) == ("Yes.", 3)
    assert (budget.spent.requests, budget.spent.tokens) == (3, 300)


@everywhere
async def test_an_extra_call_that_could_pass_it_is_not_made(surface: str, mode: str) -> None:
    with KimiSimulator(script=lambda _: reply("")) as simulator:
        model = build(surface, simulator, **MODEL, max_tokens=800, budget=Budget(tokens=1_000))
        with pytest.raises(BudgetExceeded):
            await ask(surface, mode, model, ASKED)
        assert len(simulator.requests) == 1


@everywhere
async def test_a_reply_that_was_paid_for_is_kept_where_the_rest_is_too_dear(surface: str, mode: str) -> None:
    answer, bodies = await exchange(
        surface, mode, ASKED, **MODEL, max_tokens=800, continue_on_length=3, budget=Budget(tokens=1_000),
        script=lambda _: reply("The beginning of", finish_reason="length"),
    )  # fmt: skip
    assert (answer.text, answer.finish, len(bodies)) == ("The beginning of", "length", 1)
    assert ("advise", "carrying on failed (BudgetExceeded): the reply ends where it was cut") in answer.said(
        "continue-on-length"
    )


@everywhere
async def test_each_thread_has_its_own(surface: str, mode: str) -> None:
    from langchain_core.runnables.config import var_child_runnable_config

    def thread(id: str) -> dict[str, Any]:
        if surface == "Kimi":
            return {"thread_id": id}
        var_child_runnable_config.set({"configurable": {"thread_id": id}})
        return {}

    with KimiSimulator(script=lambda _: reply()) as simulator:
        budget = Budget(thread_tokens=1_000)
        model = build(surface, simulator, **MODEL, max_tokens=700, budget=budget)
        try:
            for _ in range(2):
                answer = await ask(surface, mode, model, ASKED, **thread("a"))
            with pytest.raises(BudgetExceeded, match="this thread's budget"):
                await ask(surface, mode, model, ASKED, **thread("a"))
            await ask(surface, mode, model, ASKED, **thread("b"))
        finally:
            var_child_runnable_config.set(None)
    assert (budget.spent_by("a").tokens, budget.spent_by("b").tokens, budget.spent.tokens) == (300, 150, 450)
    assert answer.said("budget")[0][1].endswith("this thread: 300 tokens, $0.000590")
    budget.forget("a")
    assert budget.spent_by("a").tokens == 0


@everywhere
async def test_a_block_counts_whatever_model_is_called_in_it(surface: str, mode: str) -> None:
    with KimiSimulator(script=lambda _: reply()) as simulator:
        own = Budget()
        with Budget() as run, run:
            await ask(surface, mode, build(surface, simulator, **MODEL, budget=own), ASKED)
            await asyncio.gather(ask(surface, mode, build(surface, simulator, **MODEL, budget=run), ASKED))
        await ask(surface, mode, build(surface, simulator, **MODEL), ASKED)
    assert (run.spent.requests, own.spent.requests) == (2, 1)


@everywhere
async def test_a_host_that_tells_no_usage(surface: str, mode: str) -> None:
    budget = Budget()
    await exchange(surface, mode, ASKED, **MODEL, script=[Reply("One two three four.", usage={})], budget=budget)
    assert budget.spent.usage is None
    assert 60 < budget.spent.tokens < 90


@in_streams
async def test_a_stream_that_breaks_counts_its_prompt_and_what_came(surface: str, mode: str) -> None:
    with KimiSimulator("vllm", script=lambda _: reply("word " * 100, cut_after=50)) as simulator:
        budget = Budget()
        model = build(
            surface, simulator, model="moonshotai/Kimi-K2-Instruct-0905", budget=budget, max_retries=0
        )  # fmt: skip
        with pytest.raises(StreamInterrupted):
            await ask(surface, mode, model, ASKED)
    assert budget.spent.requests == 1
    assert 90 < budget.spent.tokens < 250


@everywhere
async def test_a_request_that_was_refused_costs_nothing(surface: str, mode: str) -> None:
    budget = Budget(tokens=100_000)
    with KimiSimulator(script=[Reply(status=400)]) as simulator:
        with pytest.raises(HostError):
            await ask(surface, mode, build(surface, simulator, budget=budget, max_retries=0), ASKED)
    assert (budget.spent.requests, budget.spent.tokens, budget._all.tokens) == (1, 0, 0)


@everywhere
async def test_a_request_that_never_arrived_costs_nothing_one_whose_reply_was_lost_its_prompt(
    surface: str, mode: str
) -> None:
    budget = Budget(tokens=100_000)
    with KimiSimulator(script=[Reply(cut_after=0)]) as simulator:
        model = build(surface, simulator, budget=budget, max_retries=0)
        with pytest.raises(ConnectionFailed):
            await ask(surface, mode, model, ASKED)
    lost = budget.spent.tokens
    assert 50 < lost < 100
    with pytest.raises(ConnectionFailed):  # nobody is there any more
        await ask(surface, mode, model, ASKED)
    assert (budget.spent.requests, budget.spent.tokens) == (2, lost)


@everywhere
async def test_dollars_need_a_price(surface: str, mode: str) -> None:
    with KimiSimulator("vllm") as simulator:
        model = build(surface, simulator, model="moonshotai/Kimi-K2-Instruct-0905", budget=Budget(usd=1))
        with pytest.raises(ConfigurationError, match="price on this host"):
            await ask(surface, mode, model, ASKED)
        assert simulator.requests == []


@pytest.mark.parametrize("surface", ["ChatKimi", "Kimi"])
async def test_calls_at_once_cannot_pass_it_together(surface: str) -> None:
    with KimiSimulator(script=lambda _: reply(delay=0.01)) as simulator:
        budget = Budget(tokens=2_000)
        model = build(surface, simulator, **MODEL, max_tokens=400, budget=budget)

        async def one() -> None:
            with suppress(BudgetExceeded):
                await ask(surface, "ainvoke", model, ASKED)

        def other() -> None:
            asyncio.run(one_sync())

        async def one_sync() -> None:
            with suppress(BudgetExceeded):
                await ask(surface, "invoke", model, ASKED)

        with ThreadPoolExecutor(8) as pool:
            running = [pool.submit(other) for _ in range(8)]
            await asyncio.gather(*(one() for _ in range(8)))
            for each in running:
                each.result()
    assert 0 < budget.spent.tokens <= 2_000
    assert budget._all.tokens == 0
    assert budget.spent.requests == len(simulator.requests)


requests = st.lists(
    st.tuples(st.integers(1, 50), st.integers(0, 50), st.integers(0, 50), st.booleans()), min_size=1, max_size=60
)


@given(requests, st.integers(50, 500))
def test_what_is_spent_never_passes_it_whatever_the_order(plan: Any, limit: int) -> None:
    budget, running = Budget(tokens=limit, thread_tokens=limit // 2), []
    for prompt, output, used, waits in plan:
        with suppress(BudgetExceeded):
            thread = "odd" if prompt % 2 else "even"
            running.append((budget.reserve(Cost(prompt, output, None), thread), prompt, min(used, output)))
        while running and not waits:
            reservation, prompt, used = running.pop(0)
            reservation.settle(Cost(prompt, used, None))
        assert budget.spent.tokens <= limit
        assert all(budget.spent_by(thread).tokens <= limit // 2 for thread in ("odd", "even"))
    for reservation, _, _ in running:
        reservation.settle(None)
    assert budget._all.tokens == 0


def test_the_expected_rule_counts_on_replies_as_long_as_those_so_far() -> None:
    worst, expected = Budget(tokens=1_000), Budget(tokens=1_000, rule="expected")
    for budget in (worst, expected):
        budget.reserve(Cost(100, 500, None), None).settle(Cost(100, 60, None))
        budget.reserve(Cost(100, 500, None), None)
    expected.reserve(Cost(100, 500, None), None)
    with pytest.raises(BudgetExceeded) as caught:
        worst.reserve(Cost(100, 500, None), None)
    assert caught.value.passing
    assert caught.value.reserved == 600


def test_copies_share_it_and_a_pickle_goes_on_apart() -> None:
    budget = Budget(tokens=1_000, thread_tokens=500)
    budget.reserve(Cost(10, 10, None), "a").settle(Cost(10, 5, None))
    assert copy.deepcopy(budget) is copy.copy(budget) is budget
    read = pickle.loads(pickle.dumps(budget))
    assert (read.spent, read.spent_by("a")) == (budget.spent, budget.spent_by("a"))
    read.reserve(Cost(10, 10, None), "a").settle(Cost(10, 5, None))
    assert (read.spent.tokens, budget.spent.tokens) == (30, 15)
    assert repr(read) == "Budget(tokens=1000, thread_tokens=500): 30 tokens, $0.0000 spent in 2 requests"


@pytest.mark.parametrize("wrong", [{"usd": 0}, {"tokens": -5}, {"usd": float("nan")}, {"tokens": True}, {"rule": "x"}])
def test_figures_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"Budget\\({next(iter(wrong))}="):
        Budget(**wrong)
