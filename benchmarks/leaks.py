"""What a process holds: descriptors, threads, tasks, connections in use, memory. For benchmarks that look for leaks."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from dataclasses import dataclass
from pathlib import Path

_CONNECTIONS = frozenset({"HTTPConnection", "AsyncHTTPConnection"})


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    descriptors: int
    """Open files and sockets; -1 where the system does not say."""
    threads: frozenset[str]
    """Names of the running threads."""
    tasks: int
    """Unfinished tasks of the running event loop, the asking one aside."""
    busy: int
    """HTTP connections that a response still holds: neither idle nor closed."""

    @classmethod
    def now(cls) -> Held:
        """Return what is held after a garbage collection."""
        gc.collect()
        names = frozenset(thread.name for thread in threading.enumerate())
        return cls(descriptors(), names, _tasks(), sum(map(_is_busy, gc.get_objects())))

    def beyond(self, before: Held, but: tuple[str, ...] = ()) -> list[str]:
        """Return in words what is held that was not held before; descriptors aside, which pools may keep.

        Args:
            before: what was held then.
            but: beginnings of the names of threads that may be new.
        """
        found = []
        if more := {name for name in self.threads - before.threads if not name.startswith(but)}:
            found.append(f"threads: {', '.join(sorted(more))}")
        if self.tasks > before.tasks:
            found.append(f"{self.tasks - before.tasks} task(s)")
        if self.busy > before.busy:
            found.append(f"{self.busy - before.busy} connection(s) in use")
        return found


def descriptors() -> int:
    """Return how many files and sockets are open; -1 where the system does not say."""
    place = next((place for place in ("/proc/self/fd", "/dev/fd") if Path(place).is_dir()), None)
    return len(os.listdir(place)) if place else -1


def resident() -> float:
    """Return the memory of this process in MB; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def slope(points: list[tuple[float, float]]) -> float:
    """Return the slope of the straight line that fits the points best; 0 where there are fewer than two."""
    if len(points) < 2:
        return 0.0
    middle = sum(x for x, _ in points) / len(points)
    level = sum(y for _, y in points) / len(points)
    spread = sum((x - middle) ** 2 for x, _ in points)
    return sum((x - middle) * (y - level) for x, y in points) / spread if spread else 0.0


def _tasks() -> int:
    try:
        return len([task for task in asyncio.all_tasks() if not task.done()]) - 1
    except RuntimeError:  # no event loop runs
        return 0


def _is_busy(thing: object) -> bool:
    kind = type(thing)
    if kind.__name__ not in _CONNECTIONS or not kind.__module__.startswith("httpcore"):
        return False
    return not (thing.is_idle() or thing.is_closed())  # type: ignore[attr-defined]
