"""Faults by chance: how often a request meets which trouble on its way. `breakage.py` makes it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refrase_integrations.errors import ConfigurationError

Chance = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=3600)]


class Faults(BaseModel):
    """Probabilities, from 0 to 1, of the faults that a chat request meets; several may hit one request.

    A fault is drawn anew for each try, so a request that is repeated gets through in the end. The draw hangs on the
    seed, the bytes of the request and how often the same bytes came before, not on the order of other requests. A
    request that the host's rules refuse meets none, and a request that fails uses up no scripted reply.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    seed: int | None = None
    """Of all draws; None: the simulator's own."""

    # -- instead of a reply ------------------------------------------------------------------------------
    request_timeout: Chance = 0.0
    """408: the host gave up waiting."""
    conflict: Chance = 0.0
    """409."""
    overloaded: Chance = 0.0
    """429 ``engine_overloaded_error`` that names no wait."""
    overloaded_retry_after: Chance = 0.0
    """429 ``engine_overloaded_error`` with ``Retry-After``: ``retry_after_seconds``."""
    overloaded_retry_after_ms: Chance = 0.0
    """429 ``engine_overloaded_error`` with ``retry-after-ms``: a fifth of a second."""
    server_error: Chance = 0.0
    """500, 502, 503 or 504."""
    site_overloaded: Chance = 0.0
    """529."""
    proxy_page: Chance = 0.0
    """A proxy's web page: under 502, under 200, or in the middle of a stream."""
    reset_before_headers: Chance = 0.0
    """The connection is reset before any answer."""
    reset_after_headers: Chance = 0.0
    """The connection is reset after the headers, before the body."""

    # -- another reply than the model's ------------------------------------------------------------------
    empty_reply: Chance = 0.0
    """Neither text nor reasoning nor a call comes, with ``finish_reason: stop``."""
    reasoning_only: Chance = 0.0
    """Only reasoning comes, with ``finish_reason`` ``stop`` or ``length``; replies without reasoning stay."""
    truncated_arguments: Chance = 0.0
    """The arguments of the reply's calls are cut short."""

    # -- on the way --------------------------------------------------------------------------------------
    cut: Chance = 0.0
    """The reply ends in the middle: the connection breaks, or a stream is closed in good order."""
    error_in_stream: Chance = 0.0
    """A stream turns into an error object in the middle; a whole reply is one, under status 200."""
    stall: Chance = 0.0
    """Silence of ``stall_seconds`` in the middle, the connection open."""
    slow_first_byte: Chance = 0.0
    """The first byte comes after ``slow_seconds``."""
    slow_trickle: Chance = 0.0
    """Every event (a whole reply: every eighth of it) comes ``trickle_seconds`` late."""
    missing_done: Chance = 0.0
    """The stream lacks its ``data: [DONE]``."""
    keep_alives: Chance = 0.0
    """Comments stand between the events."""
    crlf: Chance = 0.0
    """Lines end in CRLF, some of them cut between the two."""
    bom: Chance = 0.0
    """The body begins with a byte order mark."""
    joined_events: Chance = 0.0
    """Several events come in one packet."""
    split_characters: Chance = 0.0
    """Each packet ends inside an event, inside a UTF-8 character where there is one."""
    wrong_content_type: Chance = 0.0
    """``text/plain``, ``application/octet-stream``, or JSON for a stream and a stream for JSON."""
    repeated_events: Chance = 0.0
    """Events that say nothing new come twice: the role, the head of a call, the finish reason, usage, [DONE]."""
    repeated_text: Chance = 0.0
    """One piece of the text comes twice. Nothing on the wire numbers the pieces, and models do repeat themselves: no
    client can tell, the right answer has it twice."""

    # -- how long ----------------------------------------------------------------------------------------
    retry_after_seconds: Annotated[int, Field(ge=0, le=3600)] = 1
    """Whole seconds that ``overloaded_retry_after`` asks for."""
    slow_seconds: Seconds = 2.0
    """Of ``slow_first_byte``."""
    trickle_seconds: Seconds = 0.05
    """Of ``slow_trickle``."""
    stall_seconds: Seconds = 60.0
    """Of ``stall``."""

    @classmethod
    def of(cls, value: Faults | Mapping[str, Any] | str | None) -> Faults:
        """Return the faults that a user names.

        Args:
            value: faults, or their fields, or text: ``"chaos"`` (see `fault_presets`), ``"cut=0.1,stall=0.02"``, or
                both: ``"chaos,stall=0"``. None: no faults.

        Raises:
            ConfigurationError: a name is unknown or a value does not fit.
        """
        if isinstance(value, Faults):
            return value
        if isinstance(value, str):
            value = _read(value)
        if value is None or isinstance(value, Mapping):
            return cls._checked(value or {})
        raise ConfigurationError(f"faults are a Faults, a dict or a text such as 'chaos', not {type(value).__name__}")

    @classmethod
    def read(cls, path: Path) -> Faults:
        """Read faults from a TOML file: fields by name, and ``preset = "..."`` for what they are laid over.

        Raises:
            ConfigurationError: the file cannot be read, a name is unknown or a value does not fit.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"faults: {path} cannot be read: {error}") from None
        preset = table.pop("preset", None)
        return cls._checked({**(_preset(str(preset)) if preset is not None else {}), **table})

    def chances(self) -> dict[str, float]:
        """Return the probability of every fault, by name."""
        return {name: getattr(self, name) for name in CHANCES}

    @classmethod
    def _checked(cls, fields: Mapping[str, Any]) -> Self:
        for name in fields:
            if name not in cls.model_fields:
                raise ConfigurationError(_unknown(str(name), cls.model_fields))
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(f"fault {first['loc'][0]}: {first['msg']}, not {first['input']!r}") from None


CHANCES: tuple[str, ...] = tuple(
    name for name in Faults.model_fields if name != "seed" and not name.endswith("_seconds")
)
"""Every fault, by its field."""


@cache
def fault_presets() -> Mapping[str, Faults]:
    """Return every named mix of faults (``faults.toml``)."""
    return MappingProxyType({name: Faults.of(_preset(name)) for name in _tables()})


@cache
def _tables() -> Mapping[str, Mapping[str, Any]]:
    table = tomllib.loads((files(__package__) / "faults.toml").read_text(encoding="utf-8"))
    return MappingProxyType(
        {
            name: MappingProxyType({**dict.fromkeys(CHANCES, mix.get("all", 0.0)), **_named(mix)})
            for name, mix in table.items()
        }
    )


def _named(mix: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in mix.items() if name != "all"}


def _preset(name: str) -> Mapping[str, Any]:
    if name not in _tables():
        raise ConfigurationError(_unknown(name, _tables(), "preset of faults"))
    return _tables()[name]


def _read(text: str) -> Mapping[str, Any]:
    fields: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, given, value = part.partition("=")
        if given:
            fields[name.strip()] = value.strip()
        elif name in _tables():
            fields = {**fields, **_preset(name)}
        elif name in CHANCES:
            raise ConfigurationError(f"fault {name} needs a probability: {name}=0.1")
        else:
            raise ConfigurationError(_unknown(name, _tables(), "preset of faults"))
    return fields


def _unknown(name: str, known: Mapping[str, Any], what: str = "fault") -> str:
    close = get_close_matches(name, known, n=3)
    return f"unknown {what} {name!r}; " + (
        f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(known)}"
    )
