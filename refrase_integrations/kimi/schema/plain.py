"""A schema as plain JSON, or the error that says where it is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from refrase_integrations.kimi.schema.facts import join

_DEEPEST = 200
"""Most levels of Python objects in a schema."""


class InvalidToolSchema(ValueError):
    """A schema that cannot be rewritten.

    Attributes:
        path: where: keywords and names joined by dots; empty at the root.
        reason: what is wrong there.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"invalid tool schema{f' at {path!r}' if path else ''}: {reason}")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[type[InvalidToolSchema], tuple[str, str]]:
        return type(self), (self.path, self.reason)


def plain(value: Any, path: str = "", above: set[int] | None = None) -> Any:
    """Copy a JSON value into plain dicts and lists.

    Args:
        value: any value.
        path: where it stands in the schema.
        above: the ids of the objects around it.

    Raises:
        InvalidToolSchema: it is not JSON; names the place.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidToolSchema(path, "NaN and Infinity are not JSON")
        return value
    if not isinstance(value, (Mapping, list, tuple)):
        raise InvalidToolSchema(path, f"a Python {type(value).__name__} is not JSON")
    above = set() if above is None else above
    if id(value) in above:
        raise InvalidToolSchema(path, "it contains itself")
    if len(above) >= _DEEPEST:
        raise InvalidToolSchema(path, "it is nested too deeply")
    above.add(id(value))
    try:
        if isinstance(value, Mapping):
            return {str(key): plain(child, join(path, key), above) for key, child in value.items()}
        return [plain(child, join(path, index), above) for index, child in enumerate(value)]
    finally:
        above.discard(id(value))
