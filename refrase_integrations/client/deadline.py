"""How long a call may take, and how long a stream may be silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from refrase_integrations.errors import ConfigurationError, DeadlineExceeded, HostError
from refrase_integrations.kimi.inputs import kind_of

STALL = 300.0
"""Seconds without an event after which a stream counts as dead, where nothing else is set: hosts that hold a long tool
call back until it is whole are silent for minutes."""

T = TypeVar("T")


class OutOfTimeError(Exception):
    """A stream was silent for too long, or the deadline has passed."""


class Deadline:
    """The end of a user's call, whatever number of requests, waits and chunks it takes.

    An async call ends on time. A sync one cannot be woken while it waits for bytes: there a host that falls silent in
    the middle of a response is noticed when the read times out, at the latest after as long again.

    Args:
        seconds: from ``begun`` on; None: the call may take as long as it likes.
        begun: when the call began, by `time.monotonic`; None: now.
    """

    def __init__(self, seconds: float | None = None, begun: float | None = None) -> None:
        self.seconds = seconds
        self._end = float("inf") if seconds is None else (time.monotonic() if begun is None else begun) + seconds

    def left(self) -> float:
        """Return the seconds that are left, 0 or less where there are none; infinite without a deadline."""
        return self._end if self.seconds is None else self._end - time.monotonic()

    def exceeded(self, attempts: int, last: HostError | None = None) -> DeadlineExceeded:
        """Return the error to raise; see `DeadlineExceeded.by`."""
        return DeadlineExceeded.by(self.seconds or 0.0, attempts, last)

    async def within(self, result: Awaitable[T]) -> T:
        """Await ``result`` until the deadline.

        Raises:
            TimeoutError: it has passed.
        """
        if self.seconds is None:
            return await result
        async with asyncio.timeout(self.left()):
            return await result

    def each(self, items: AsyncIterator[T]) -> AsyncIterator[T]:
        """Return ``items``, each awaited until the deadline; see `within`."""
        return items if self.seconds is None else _Within(self, items)


class _Within(AsyncIterator[T]):  # no generator: one that is left in the middle is closed late, in a task of its own
    def __init__(self, deadline: Deadline, items: AsyncIterator[T]) -> None:
        self._deadline, self._items = deadline, items

    async def __anext__(self) -> T:
        return await self._deadline.within(anext(self._items))


class Pace:
    """Watches over the packets of one response. Comments that keep a connection open do not hide that the model is
    dead: only events count. The time that the reader of the stream takes does not count as silence.

    Args:
        deadline: of the call.
        stall: longest silence, in seconds.
    """

    __slots__ = ("_deadline", "_since", "_stall")

    def __init__(self, deadline: Deadline, stall: float = float("inf")) -> None:
        self._deadline, self._stall, self._since = deadline, stall, time.monotonic()

    def packet(self) -> None:
        """A packet came.

        Raises:
            OutOfTimeError: too late.
        """
        silent = time.monotonic() - self._since
        if silent > self._stall:
            raise OutOfTimeError(f"the stream stalled: no event for {silent:.0f} s")
        if self._deadline.seconds is not None and self._deadline.left() <= 0:
            raise OutOfTimeError("the answer took too long")

    def event(self) -> None:
        """An event was handed on, and the next is waited for."""
        self._since = time.monotonic()


def timeouts(given: Any, deadline: Deadline, stall: float | None, *, stream: bool) -> Any:
    """Return the SDK's Timeout of one request.

    Args:
        given: seconds, the SDK's own Timeout, or None for no limit.
        deadline: no wait is longer than what is left of it.
        stall: longest silence of a stream, in seconds; None: `STALL`, or the read timeout where that is less.
        stream: whether the answer is streamed.
    """
    import openai

    base = openai.Timeout(given)
    read = base.read
    if stream:
        read = stall or min(STALL, STALL if read is None else read)
    left = max(deadline.left(), 0.001)
    parts = {"connect": base.connect, "read": read, "write": base.write, "pool": base.pool}
    if deadline.seconds is not None:
        parts = {name: left if value is None else min(value, left) for name, value in parts.items()}
    return openai.Timeout(**parts)


def checked_seconds(name: str, value: Any) -> float | None:
    """Return a limit in seconds as it was given; None is none.

    Raises:
        ConfigurationError: it is no number above 0.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise ConfigurationError(f"{name} must be seconds above 0, not {kind_of(value)}")
    return value
