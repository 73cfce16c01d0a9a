"""The limits of an account: never above, in any window, whoever asks."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refrase_integrations.client.limits import SLACK, Limiter, Limits, limiter_of
from refrase_integrations.errors import ConfigurationError, LimitReached
from tests.clocks import FakeClock

Departure = tuple[float, int]
"""When a request left, and what it counted with."""


def most(departures: Sequence[Departure], seconds: float) -> int:
    """Return the largest sum in any window of so many seconds."""
    return max(
        (sum(what for when, what in departures if end - seconds <= when <= end) for end, _ in departures), default=0
    )


arrivals = st.lists(
    st.tuples(
        st.floats(0, 40, allow_nan=False),  # seconds since the one before
        st.integers(0, 100),  # tokens that it reserves
        st.one_of(st.none(), st.integers(0, 100)),  # of them used; None: it says nothing
    ),
    min_size=1,
    max_size=60,
)


@given(arrivals, st.integers(1, 8), st.integers(100, 300))
def test_no_window_is_ever_above_its_limits(plan: Any, requests: int, tokens: int) -> None:
    clock = FakeClock()
    limits = Limits(requests_per_minute=requests, tokens_per_minute=tokens, tokens_per_day=10 * tokens, patience=1e6)
    limiter = Limiter(limits, clock)
    left: list[Departure] = []
    kept: list[Departure] = []
    for pause, reserved, used in plan:
        clock.pass_by(pause)
        place = limiter.enter(reserved)
        when = clock.now()
        left.append((when, 1))
        # Until the reply is there it counts in full, and nothing was given back before it left.
        assert most([*kept, (when, reserved)], 60) <= tokens
        assert most([*kept, (when, reserved)], 86_400) <= 10 * tokens
        real = reserved if used is None else min(used, reserved)
        place.leave(None if used is None else real)
        kept.append((when, real))
    assert most(left, 60) <= requests


@given(st.lists(st.floats(0, 3), max_size=200), st.integers(1, 50))
def test_it_waits_no_longer_than_it_has_to(pauses: list[float], limit: int) -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(requests_per_minute=limit), clock)
    left: list[float] = []
    for pause in pauses:
        clock.pass_by(pause)
        asked = clock.now()
        limiter.enter().leave()
        left.append(clock.now())
        free_at = left[-limit - 1] + 60 + SLACK if len(left) > limit else asked
        assert left[-1] <= max(asked, free_at) + 60 / 1_000 + 1e-6


def test_a_whole_minute_is_used() -> None:
    clock, left = FakeClock(), []
    limiter = Limiter(Limits(requests_per_minute=200), clock)
    for _ in range(2_000):
        limiter.enter().leave()
        left.append((clock.now(), 1))
    assert most(left, 60) == 200
    assert len(left) / (clock.now() - 1_000 + 60) * 60 > 0.95 * 200


def test_tokens_are_given_back_when_the_reply_says_what_was_used() -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(tokens_per_minute=1_000), clock)
    limiter.enter(900).leave(100)
    limiter.enter(900).leave(100)
    assert clock.slept == 0
    limiter.enter(900)
    assert clock.slept == pytest.approx(60 + SLACK)


def test_what_is_used_beyond_the_reservation_counts_too() -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(tokens_per_minute=1_000), clock)
    limiter.enter(100).leave(950)
    limiter.enter(100)
    assert clock.slept > 60


def test_what_is_kept_as_one_entry_leaves_with_its_latest_part() -> None:
    clock = FakeClock(0)
    limiter = Limiter(Limits(tokens_per_day=100, patience=1e6), clock)
    limiter.enter(50)
    clock.pass_by(80)  # within a thousandth of a day
    limiter.enter(50)
    limiter.enter(1)
    assert clock.now() >= 80 + 86_400


def test_memory_is_bounded() -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(requests_per_minute=1_000_000, tokens_per_day=10**12), clock)
    for _ in range(50_000):
        clock.pass_by(0.01)
        limiter.enter(10).leave(5)
    windows = [limiter._requests, *limiter._tokens]
    assert all(window is not None and len(window._entries) <= 1_100 for window in windows)


def test_requests_at_once_in_threads_and_event_loops_together() -> None:
    limiter = Limiter(Limits(concurrency=3))
    seen: list[int] = []
    meeting = threading.Barrier(3)  # three are inside at once, or it breaks

    def one() -> None:
        place = limiter.enter()
        seen.append(limiter.running)
        meeting.wait(20)
        place.leave()

    async def another() -> None:
        place = await limiter.aenter()
        seen.append(limiter.running)
        await asyncio.to_thread(meeting.wait, 20)
        place.leave()

    async def several() -> None:
        await asyncio.gather(*(another() for _ in range(6)))

    threads = [threading.Thread(target=one) for _ in range(6)]
    threads += [threading.Thread(target=lambda: asyncio.run(several())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(seen), max(seen), limiter.running, limiter.waiting) == (18, 3, 0, 0)


def test_requests_a_minute_in_threads_and_an_event_loop_together() -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(requests_per_minute=5), clock)
    left: list[Departure] = []

    def one() -> None:
        place = limiter.enter()
        left.append((place.since, 1))
        place.leave()

    async def several() -> None:
        async def another() -> None:
            place = await limiter.aenter()
            left.append((place.since, 1))
            place.leave()

        await asyncio.gather(*(another() for _ in range(20)))

    threads = [threading.Thread(target=one) for _ in range(20)]
    threads.append(threading.Thread(target=lambda: asyncio.run(several())))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(left), most(left, 60)) == (40, 5)


def test_first_come_first_served() -> None:
    limiter = Limiter(Limits(concurrency=1))
    first, order = limiter.enter(), list[int]()
    threads = []
    for number in range(5):
        thread = threading.Thread(target=lambda number=number: (limiter.enter(), order.append(number)))
        thread.start()
        while limiter.waiting == number:
            pass
        threads.append(thread)
    first.leave()
    threads[0].join(10)
    assert order == [0]
    for thread in threads[1:]:
        limiter._left(_place(limiter), 0, well=True)
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]


def _place(limiter: Limiter) -> Any:
    from refrase_integrations.client.limits import Place

    return Place(limiter, 0, 0.0, [])


async def test_one_that_is_cancelled_lets_the_next_go() -> None:
    limiter = Limiter(Limits(concurrency=1))
    first = await limiter.aenter()
    second = asyncio.create_task(limiter.aenter())
    third = asyncio.create_task(limiter.aenter())
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    first.leave()
    await asyncio.wait_for(third, 10)
    assert (limiter.running, limiter.waiting) == (1, 0)


def test_a_429_slows_everybody_down() -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(concurrency=10), clock)
    one, other = limiter.enter(), limiter.enter()
    limiter.slow_down()
    one.leave(well=False)
    limiter.slow_down()  # its neighbour was refused in the same moment: no second offence
    other.leave(well=False)
    limiter.enter().leave(well=False)
    assert clock.slept == 1
    limiter.slow_down()
    limiter.enter().leave()
    assert clock.slept == 3
    limiter.slow_down()  # in between one went well
    limiter.enter()
    assert clock.slept == 4


def test_what_the_host_asks_for_is_waited() -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(concurrency=10), clock)
    limiter.slow_down(17)
    limiter.enter()
    assert clock.slept == 17


def test_a_request_that_can_never_pass_is_an_error() -> None:
    limiter = Limiter(Limits(tokens_per_minute=1_000))
    with pytest.raises(LimitReached, match=r"1,001 tokens .* 1,000 tokens a minute .* max_tokens") as caught:
        limiter.enter(1_001)
    assert not caught.value.retryable


def test_nobody_waits_for_tomorrow() -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(tokens_per_day=1_000), clock)
    limiter.enter(1_000).leave()
    with pytest.raises(LimitReached, match="tokens a day") as caught:
        limiter.enter(10)
    assert (caught.value.retryable, caught.value.retry_after) == (True, pytest.approx(86_401))
    assert (clock.slept, limiter.waiting) == (0, 0)


def test_a_wait_that_would_be_too_long_is_not_begun() -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(requests_per_minute=1), clock)
    limiter.enter().leave()
    with pytest.raises(LimitReached, match="requests a minute"):
        limiter.enter(longest=30)
    assert clock.slept == 0


def test_who_waits_for_himself_is_not_left_waiting() -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(concurrency=1, patience=100), clock)
    place = limiter.enter()
    with pytest.raises(LimitReached, match="requests at once"):
        limiter.enter()
    assert clock.slept == 100
    place.leave()
    limiter.enter()


def test_who_shares_an_account_shares_its_limits() -> None:
    tier = Limits.of_tier(1)
    assert limiter_of(tier, "a") is limiter_of(Limits.of_tier("tier1"), "a")
    assert limiter_of(tier, "a") is not limiter_of(tier, "b")
    named = Limits(concurrency=3, account="ours")
    assert limiter_of(named, "a") is limiter_of(Limits(concurrency=3, account="ours"), "b")
    assert limiter_of(None, "a") is None


def test_a_copy_is_the_same_limiter_and_a_pickle_carries_the_limits() -> None:
    limiter = Limiter(Limits(concurrency=3))
    limiter.enter()
    assert copy.deepcopy(limiter) is copy.copy(limiter) is limiter
    read = pickle.loads(pickle.dumps(limiter))
    assert (read.limits, read.running) == (limiter.limits, 0)


def test_tiers_are_those_that_the_catalogue_records() -> None:
    tier = Limits.of_tier(1, concurrency=20)
    assert (tier.concurrency, tier.requests_per_minute, tier.tokens_per_minute) == (20, 200, 2_000_000)
    assert Limits.of_tier("tier0", host="moonshot-cn").tokens_per_day == 1_500_000
    with pytest.raises(ConfigurationError, match=r"no tier 9; known: tier0, .*tier5"):
        Limits.of_tier(9)
    with pytest.raises(ConfigurationError, match="none is recorded"):
        Limits.of_tier(1, host="vllm")


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"tokens_per_minute": -1}, {"rpm": 3}, {"patience": "long"}])
def test_figures_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"Limits: {next(iter(wrong))}: "):
        Limits(**wrong)
