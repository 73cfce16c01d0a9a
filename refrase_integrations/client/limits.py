"""The limits of an account, kept by everybody who shares it: requests at once, requests and tokens a minute.

Windows are exact and slide. The ``limits`` library was tried first: its sliding counter let 198 requests through in 60
seconds where 100 were allowed, its exact window keeps one entry for each token, and neither takes tokens back.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refrase_integrations.errors import ConfigurationError, LimitReached

_MINUTE, _DAY = 60.0, 86_400.0
SLACK = 1.0
"""Seconds by which a window is longer than the host's: two requests arrive less far apart than they left."""
_GRAIN = 1_000  # parts of a window; what falls into one of them is kept as one entry, so that memory is bounded
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_LONGEST_SLEEP = 3_600.0  # no wait is longer in one piece; platforms have their own largest timeout
_log = logging.getLogger("refrase_integrations")


class Limits(BaseModel):
    """What an account may do on a host. None means no limit.

    Models and LLMs of one process that have the same account (address and key) and equal limits share them; so do
    their copies, and threads and event loops alike. A pickle carries the figures, and the process that reads it counts
    anew.

    ```python
    ChatKimi(limits=Limits(concurrency=20, tokens_per_minute=500_000))
    ChatKimi(limits=Limits.of_tier(1))
    ```
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: int | None = Field(default=None, ge=1)
    """Requests at the same time."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests in any 60 seconds, retries included."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens in any 60 seconds. A request counts with its prompt and its output limit until the reply says what was
    used: that is how Moonshot's platform counts."""
    tokens_per_day: int | None = Field(default=None, ge=1)
    """Tokens in any 24 hours, counted likewise."""
    patience: float = Field(default=3_600.0, gt=0)
    """Longest wait in seconds once it is a request's turn; `LimitReached` where more would be needed. (A stream holds
    its place until it is read: whoever asks again in the middle of one needs a concurrency of 2.)"""
    account: str = ""
    """Name of what the limits belong to, for models that share an account but not address and key."""

    def __init__(self, **limits: Any) -> None:
        try:
            super().__init__(**limits)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise ConfigurationError(f"{type(self).__name__}: {wrong}") from None

    @classmethod
    def of_tier(cls, tier: int | str, host: str = "moonshot", **changes: Any) -> Self:
        """Return the documented limits of an account's tier; they are the host's to change: see its console.

        Args:
            tier: such as ``1`` or ``"tier1"``.
            host: id of the host.
            changes: fields that are different for you.

        Raises:
            ConfigurationError: the catalogue knows no such tier of the host.
        """
        from refrase_integrations.kimi.catalogue import find_host

        known = {level.name: level for level in find_host(host).tiers.levels}
        found = known.get(f"tier{tier}" if isinstance(tier, int) else tier)
        if found is None:
            names = ", ".join(known) or "none is recorded"
            raise ConfigurationError(f"host {host!r} has no tier {tier!r}; known: {names}. Limits(...) takes figures.")
        figures = {name: getattr(found, name) for name in _OF_TIERS}
        return cls(**{**figures, **changes})


_OF_TIERS = ("concurrency", "requests_per_minute", "tokens_per_minute", "tokens_per_day")


class Clock:
    """Time as a `Limiter` sees it; a test passes one whose waits take none."""

    def now(self) -> float:
        """Return seconds on a clock that never goes back."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Wait until the event is set, at most ``seconds``."""
        event.wait(min(seconds, _LONGEST_SLEEP))

    async def await_(self, event: asyncio.Event, seconds: float) -> None:
        """The async twin of `wait`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, _LONGEST_SLEEP)):
                await event.wait()


class Limiter:
    """Lets requests go as `Limits` allow, in the order in which they came. Threads and event loops may share one.

    Models make their own from `Limits`; build one where models share an account under different keys or addresses, and
    give it to each: ``ChatKimi(limits=limiter)``. A copy is the same limiter; a pickle carries the limits alone.

    Args:
        limits: what is allowed.
        clock: time; None: the machine's.
    """

    def __init__(self, limits: Limits, clock: Clock | None = None) -> None:
        self.limits = limits
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._queue: deque[_Waiter] = deque()
        self._running = 0
        self._requests = _window("requests a minute", limits.requests_per_minute, _MINUTE)
        self._tokens = [
            window
            for window in (
                _window("tokens a minute", limits.tokens_per_minute, _MINUTE),
                _window("tokens a day", limits.tokens_per_day, _DAY),
            )
            if window is not None
        ]
        self._paused_until = -math.inf
        self._refusals = 0

    def __repr__(self) -> str:
        return f"Limiter({self.limits!r}, {self._running} running, {len(self._queue)} waiting)"

    def __copy__(self) -> Limiter:
        return self

    def __deepcopy__(self, memo: Any) -> Limiter:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (Limiter, (self.limits,))

    @property
    def running(self) -> int:
        """Requests that have left and not come back."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._queue)

    def idle(self) -> bool:
        """Tell whether there is nothing to remember: a new limiter would do the same."""
        with self._lock:
            now = self._clock.now()
            windows = [*self._tokens, *([self._requests] if self._requests else ())]
            busy = self._running or self._queue or now < self._paused_until
            return not busy and all(window.empty(now) for window in windows)

    def enter(self, tokens: int = 0, longest: float = math.inf) -> Place:
        """Wait until a request may leave.

        Args:
            tokens: what it may use at most, prompt and output together.
            longest: seconds that it may wait, for its turn too.

        Returns:
            Its place; `Place.leave` gives it back.

        Raises:
            LimitReached: it would have to wait longer, or is larger than a limit.
        """
        event = threading.Event()
        waiter = self._joined(tokens, event.set, longest)
        try:
            while not isinstance(step := self._step(waiter), Place):
                self._clock.wait(event, step)
                event.clear()
        except BaseException:
            self._give_up(waiter)
            raise
        return step

    async def aenter(self, tokens: int = 0, longest: float = math.inf) -> Place:
        """The async twin of `enter`."""
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        waiter = self._joined(tokens, lambda: loop.call_soon_threadsafe(event.set), longest)
        try:
            while not isinstance(step := self._step(waiter), Place):
                await self._clock.await_(event, step)
                event.clear()
        except BaseException:
            self._give_up(waiter)
            raise
        return step

    def slow_down(self, retry_after: float | None = None) -> None:
        """The host said that it is too much (429): nobody leaves for a while, twice as long each time it says so again.

        Args:
            retry_after: seconds that the host asked to wait, if it did.
        """
        with self._lock:
            now = self._clock.now()
            if now >= self._paused_until:  # requests that were refused together count once
                self._refusals += 1
            pause = min(_FIRST_PAUSE * 2 ** (self._refusals - 1), _LONGEST_PAUSE)
            until = now + (pause if retry_after is None else retry_after)
            if until > self._paused_until:
                self._paused_until = until
                _log.info("rate limit reached: everybody on this account waits %.1f s", until - now)

    def _joined(self, tokens: int, wake: Callable[[], Any], longest: float) -> _Waiter:
        for window in self._tokens:
            if tokens > window.limit:
                raise LimitReached(
                    f"this request may use {tokens:,} tokens (prompt and output limit), and {window.limit:,} "
                    f"{window.name} are allowed: it can never be sent. Lower max_tokens, or shorten the prompt.",
                    retryable=False,
                )
        waiter = _Waiter(tokens, wake, self._clock.now() + longest)
        with self._lock:
            self._queue.append(waiter)
        return waiter

    def _step(self, waiter: _Waiter) -> Place | float:
        """Return the place of a request whose turn it is, or the seconds after which to ask again; a change asks
        earlier."""
        with self._lock:
            now = self._clock.now()
            left = waiter.until - now
            if self._queue[0] is not waiter:
                if left <= 0:
                    raise self._reached("its turn", None)
                return left
            why, delay = self._delay(waiter.tokens, now)
            if delay <= 0:
                self._queue.popleft()
                place = self._taken(waiter.tokens, now)
                self._wake()
                return place
            if waiter.turn is None:
                waiter.turn = now
            patience = waiter.turn + self.limits.patience - now
            if min(left, patience) <= 0 or min(left, self.limits.patience) < delay < math.inf:
                raise self._reached(why, delay)
            return min(delay, left, patience)

    def _reached(self, why: str, delay: float | None) -> LimitReached:
        known = delay is not None and delay != math.inf
        after = f"in {delay:.0f} s" if known else "later"
        return LimitReached(
            f"the account's limits leave no room in time: {why} ({self.limits.model_dump(exclude_defaults=True)}). "
            f"Try again {after}, or raise Limits(patience=...) or the call's deadline.",
            retry_after=delay if known else None,
        )

    def _delay(self, tokens: int, now: float) -> tuple[str, float]:
        """Return why, and for how many seconds, a request has to wait; infinite: until another one ends."""
        if self.limits.concurrency is not None and self._running >= self.limits.concurrency:
            return "requests at once", math.inf
        waits = [("a pause after a 429", self._paused_until - now)]
        if self._requests is not None:
            waits.append((self._requests.name, self._requests.delay(1, now)))
        waits += [(window.name, window.delay(tokens, now)) for window in self._tokens]
        return max(waits, key=lambda wait: wait[1])

    def _taken(self, tokens: int, now: float) -> Place:
        self._running += 1
        if self._requests is not None:
            self._requests.add(1, now)
        return Place(self, tokens, now, [(window, window.add(tokens, now)) for window in self._tokens])

    def _left(self, place: Place, used: int, *, well: bool) -> None:
        with self._lock:
            self._running -= 1
            for window, entry in place.entries:
                window.correct(entry, used - place.tokens)
            if well and place.since >= self._paused_until:
                self._refusals = 0
            self._wake()

    def _give_up(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter in self._queue:
                self._queue.remove(waiter)
            self._wake()

    def _wake(self) -> None:
        if self._queue:
            with suppress(RuntimeError):  # its event loop is closed; whoever waited there is gone
                self._queue[0].wake()


class Place:
    """The right of one request to be under way."""

    __slots__ = ("_limiter", "entries", "since", "tokens")

    def __init__(self, limiter: Limiter, tokens: int, since: float, entries: list[tuple[_Window, _Entry]]) -> None:
        self._limiter: Limiter | None = limiter
        self.tokens, self.since, self.entries = tokens, since, entries

    def leave(self, used: int | None = None, *, well: bool = True) -> None:
        """The request has ended. Safe to call again.

        Args:
            used: tokens that it used; None: all that it reserved.
            well: False: it was refused or failed.
        """
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter._left(self, self.tokens if used is None else used, well=well)


class _Waiter:
    __slots__ = ("tokens", "turn", "until", "wake")

    def __init__(self, tokens: int, wake: Callable[[], Any], until: float) -> None:
        self.tokens, self.wake, self.until = tokens, wake, until
        self.turn: float | None = None
        """Since when it is the first that waits."""


class _Entry:
    __slots__ = ("amount", "first", "gone", "last")

    def __init__(self, amount: int, now: float) -> None:
        self.amount, self.first, self.last, self.gone = amount, now, now, False


class _Window:
    """What was used in the last seconds. An entry leaves when its latest part does: never too early."""

    __slots__ = ("_entries", "_grain", "_used", "limit", "name", "seconds")

    def __init__(self, name: str, limit: int, seconds: float) -> None:
        self.name, self.limit, self.seconds = name, limit, seconds + SLACK
        self._grain = seconds / _GRAIN
        self._entries: deque[_Entry] = deque()
        self._used = 0

    def empty(self, now: float) -> bool:
        while self._entries and self._entries[0].last + self.seconds <= now:
            gone = self._entries.popleft()
            gone.gone = True
            self._used -= gone.amount
        return not self._entries

    def delay(self, amount: int, now: float) -> float:
        """Return the seconds until there is room; 0 or less: there is."""
        self.empty(now)
        missing = self._used + amount - self.limit
        if missing <= 0:
            return 0.0
        for entry in self._entries:
            missing -= entry.amount
            if missing <= 0:
                return entry.last + self.seconds - now
        return self.seconds  # corrected to more than the limit: all of it has to go

    def add(self, amount: int, now: float) -> _Entry:
        last = self._entries[-1] if self._entries else None
        if last is not None and now - last.first < self._grain:
            last.amount, last.last = last.amount + amount, now
        else:
            last = _Entry(amount, now)
            self._entries.append(last)
        self._used += amount
        return last

    def correct(self, entry: _Entry, by: int) -> None:
        if not entry.gone:
            entry.amount += by
            self._used += by


def _window(name: str, limit: int | None, seconds: float) -> _Window | None:
    return None if limit is None else _Window(name, limit, seconds)


_MOST_LIMITERS = 256  # from there on those that have nothing to remember are forgotten
_limiters: dict[tuple[str, Limits], Limiter] = {}
_limiters_lock = threading.Lock()


def limiter_of(limits: Limits | Limiter | None, account: str) -> Limiter | None:
    """Return the limiter that everybody with this account and these limits shares.

    Args:
        limits: None: none.
        account: names whose limits they are, where they do not name it themselves. No secret: it is kept.
    """
    if not isinstance(limits, Limits):
        return limits
    key = (limits.account or account, limits)
    with _limiters_lock:
        found = _limiters.get(key)
        if found is None:
            if len(_limiters) >= _MOST_LIMITERS:
                for known in [known for known, limiter in _limiters.items() if limiter.idle()]:
                    del _limiters[known]
            found = _limiters[key] = Limiter(limits)
        return found


def _reset_after_fork() -> None:
    """A lock may have been held by a thread that the child does not have."""
    global _limiters_lock  # noqa: PLW0603
    _limiters_lock = threading.Lock()
    _limiters.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
