"""A clock whose waits take no time, for whoever waits for the limits of an account."""

from __future__ import annotations

import asyncio
import math
import threading

from refrase_integrations.client.limits import Clock


class FakeClock(Clock):
    """Who waits until a known time is there at once; who waits for somebody else waits for real."""

    def __init__(self, now: float = 1_000.0) -> None:
        self._now = now
        self._lock = threading.Lock()
        self.slept = 0.0
        """Seconds that were waited in all."""

    def now(self) -> float:
        return self._now

    def pass_by(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds

    def wait(self, event: threading.Event, seconds: float) -> None:
        if event.is_set():
            return
        if math.isinf(seconds):
            assert event.wait(30), "nobody woke it"
            return
        self.slept += seconds
        self.pass_by(seconds)

    async def await_(self, event: asyncio.Event, seconds: float) -> None:
        if event.is_set():
            return
        if math.isinf(seconds):
            await asyncio.wait_for(event.wait(), 30)
            return
        self.slept += seconds
        self.pass_by(seconds)
        await asyncio.sleep(0)
