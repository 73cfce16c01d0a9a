"""What hosts do differently, quirk by quirk: the table of all switches, and how their values combine.

The *form* of a host is how it always is (its reasoning field, its ids). A *fault* goes wrong now and then.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

from refrase_integrations.errors import ConfigurationError

Kind = Literal["flag", "chance", "fields", "one", "number"]


@dataclass(frozen=True, kw_only=True)
class Quirk:
    """One switch of a simulated host."""

    name: str
    statement: str
    """What it does when it is on."""
    kind: Kind
    """``flag``: bool; ``chance``: bool or probability; ``fields``: list; ``one``: choice; ``number``: int."""
    default: Any
    """Value where neither the persona nor the user sets it."""
    choices: tuple[str, ...] = ()
    """Allowed values of ``fields`` and ``one``; empty: any."""
    source: str = ""
    """Where such behaviour was documented or seen."""

    def parse(self, value: object) -> Any:
        """Return ``value`` in the quirk's own type; texts, as a command line gives them, are understood.

        Raises:
            ConfigurationError: the value does not fit.
        """
        try:
            return _PARSERS[self.kind](self, value)
        except (KeyError, TypeError, ValueError, OverflowError):
            wanted = _WANTED[self.kind] + (f" of {', '.join(self.choices)}" if self.choices else "")
            given = repr(value[:80]) if isinstance(value, str) else f"a {type(value).__name__}"
            raise ConfigurationError(f"quirk {self.name}: {given} is not {wanted}") from None


@cache
def known_quirks() -> Mapping[str, Quirk]:
    """Return every quirk by name (``quirks.toml``)."""
    table = tomllib.loads((files(__package__) / "quirks.toml").read_text(encoding="utf-8"))
    return MappingProxyType({name: _quirk(name, entry) for name, entry in table.items()})


def resolve(*layers: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the value of every quirk: that of the last layer which sets it, else its default.

    Raises:
        ConfigurationError: a name is unknown or a value does not fit.
    """
    known = known_quirks()
    values = {name: quirk.default for name, quirk in known.items()}
    for layer in layers:
        for name, value in layer.items():
            if name not in known:
                close = get_close_matches(name, known, n=3)
                hint = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(known)}"
                raise ConfigurationError(f"unknown quirk {name!r}; {hint}")
            values[name] = known[name].parse(value)
    return MappingProxyType(values)


def _quirk(name: str, entry: dict[str, Any]) -> Quirk:
    choices = tuple(entry.get("choices", ()))
    default = tuple(entry["default"]) if entry["kind"] == "fields" else entry["default"]
    return Quirk(name=name, **{**entry, "choices": choices, "default": default})


# -- values ----------------------------------------------------------------------------------------------

_SWITCH = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


def _flag(_quirk: Quirk, value: object) -> bool:
    return value if isinstance(value, bool) else _SWITCH[_text(value)]


def _chance(_quirk: Quirk, value: object) -> float:
    if isinstance(value, str):
        text = _text(value)
        value = _SWITCH.get(text, text)
    if not isinstance(value, (str, bool, int, float)) or not 0 <= float(value) <= 1:
        raise ValueError
    return float(value)


def _fields(quirk: Quirk, value: object) -> tuple[str, ...]:
    items = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, set, frozenset)):
        raise TypeError
    chosen = tuple(sorted(items) if isinstance(items, (set, frozenset)) else items)
    if not all(isinstance(item, str) and (not quirk.choices or item in quirk.choices) for item in chosen):
        raise ValueError
    return chosen


def _one(quirk: Quirk, value: object) -> str:
    if value not in quirk.choices:
        raise ValueError
    return str(value)


def _number(_quirk: Quirk, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or int(value) < 0:
        raise ValueError
    return int(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value.strip().lower()


_PARSERS: Mapping[Kind, Callable[[Quirk, object], Any]] = {
    "flag": _flag,
    "chance": _chance,
    "fields": _fields,
    "one": _one,
    "number": _number,
}
_WANTED: Mapping[Kind, str] = {
    "flag": "true or false",
    "chance": "true, false or a probability from 0 to 1",
    "fields": "a list (or a comma-separated text)",
    "one": "one",
    "number": "a whole number from 0 on",
}
