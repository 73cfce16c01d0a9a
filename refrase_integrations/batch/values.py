"""Inputs and results as JSON, and back: plain values, and pydantic objects such as the frameworks' messages."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

from pydantic import BaseModel

from refrase_integrations.errors import ConfigurationError

_CLASS = "$class"
"""Key beside an object's fields: its module and name."""


def written(value: Any) -> Any:
    """Return a value as JSON can hold it; tuples become lists.

    Raises:
        ConfigurationError: it holds something that is neither plain nor a pydantic object.
    """
    if isinstance(value, BaseModel):
        kind = type(value)
        try:
            fields = value.model_dump(mode="json")
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"a {kind.__name__} cannot be written as JSON ({type(error).__name__})") from None
        return {_CLASS: f"{kind.__module__}:{kind.__qualname__}", **fields}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value) or _CLASS in value:
            raise ConfigurationError(f"a dict cannot be written as JSON: its keys must be texts other than {_CLASS!r}")
        return {key: written(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [written(inner) for inner in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise ConfigurationError(f"a {type(value).__name__} cannot be written as JSON")


def read(value: Any) -> Any:
    """Return what `written` was given. Of a class that this process has not loaded the plain fields are returned:
    nothing that a file names is imported."""
    if isinstance(value, list):
        return [read(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    kind = _class(value.get(_CLASS))
    if kind is None:
        return {key: read(inner) for key, inner in value.items()}
    return kind.model_validate({key: inner for key, inner in value.items() if key != _CLASS})


def line_of(value: Any) -> bytes:
    """Return plain values as one line of JSON.

    Raises:
        ConfigurationError: a number is none that JSON has.
    """
    try:
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:  # half a surrogate pair
            text = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"it cannot be written as JSON ({type(error).__name__})") from None
    return text + b"\n"


def digest(value: Any) -> str:
    """Return a digest of an input that stays the same from run to run; see `written`."""
    try:
        text = json.dumps(written(value), sort_keys=True, separators=(",", ":"))
    except RecursionError:
        raise ConfigurationError("it is nested too deeply, or holds itself") from None
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _class(named: Any) -> type[BaseModel] | None:
    if not isinstance(named, str):
        return None
    module, _, path = named.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None
