"""A bounded memo by content: what was worked out for a text or a schema is not worked out again."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from threading import Lock
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Memo(Generic[T]):
    """Keep the ``maxsize`` values used last, by key. Threads may share it.

    Keys are digests of content (see `digest`), not identities: checkpointers make new objects every turn, and
    users edit objects in place. A value is handed out to every caller, so nobody may change it.
    """

    def __init__(self, maxsize: int) -> None:
        """Start empty.

        Args:
            maxsize: most values to keep, at least 1.
        """
        if maxsize < 1:
            raise ValueError(f"maxsize must be at least 1, got {maxsize}")
        self.maxsize = maxsize
        self._values: OrderedDict[str, T] = OrderedDict()
        self._lock = Lock()

    def __call__(self, key: str, make: Callable[[], T]) -> T:
        """Return the value of ``key``, made with ``make`` where it is not kept.

        Two threads that miss at the same time may both call ``make``: it must be pure. What it raises goes to the
        caller and nothing is kept.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()  # outside the lock: it may be slow, or use this memo
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self.maxsize:
                self._values.popitem(last=False)
        return value

    def get(self, key: str) -> T | None:
        """Return the value of ``key`` where it is kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def __len__(self) -> int:
        """Return how many values are kept."""
        return len(self._values)


def digest(value: Any) -> str:
    """Return a key for a JSON-like value: the same in every process, different for different content.

    The order of keys counts: it is content (a request's bytes follow it). Keys must be strings.

    Args:
        value: text, or what ``json.dumps`` takes.

    Returns:
        32 hexadecimal digits.

    Raises:
        TypeError: the value holds something that JSON has no form for.
        ValueError: the value contains itself.
    """
    text: str = value if isinstance(value, str) else _DUMPS(value)
    made = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
    if text is value:
        made.update(b"\xff")  # no UTF-8 text ends so: a text and the value that it spells stay apart
    return made.hexdigest()


_DUMPS = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
