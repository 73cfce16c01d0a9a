"""Hosts to play: one TOML file each, which says how the host differs and who documented or reported it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

from refrase_integrations.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Persona:
    """One host as the simulator plays it."""

    id: str
    name: str
    """For people."""
    owner: str
    """``owned_by`` of its models."""
    spelling: Literal["canonical", "any"]
    """Model names it knows: Moonshot's own ids only, or every spelling of a model."""
    endpoints: Literal["moonshot", "openai"]
    """Whether it has Moonshot's own endpoints beside models and chat completions."""
    errors: Literal["moonshot", "openai"]
    """Error bodies: ``{"error": {"type", "message"}}``, or with ``param`` and ``code`` beside them."""
    form: Mapping[str, Any]
    """Quirks that it always has."""
    faults: Mapping[str, Any]
    """Quirks that were reported of it now and then; on with ``quirks={"documented": True}``."""
    sources: Mapping[str, str]
    """By name of the quirk: where that was documented or seen."""


def load_persona(persona: str) -> Persona:
    """Return the persona with the id ``persona``.

    Raises:
        ConfigurationError: there is none.
    """
    if not isinstance(persona, str) or persona not in persona_ids():
        given = repr(persona[:80]) if isinstance(persona, str) else f"of type {type(persona).__name__}"
        raise ConfigurationError(f"unknown persona {given}; known: {', '.join(persona_ids())}")
    return _load(persona)


@cache
def persona_ids() -> tuple[str, ...]:
    """Return the ids of all personas, sorted."""
    names = (entry.name for entry in files(__package__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


@cache
def _load(persona: str) -> Persona:
    table = tomllib.loads((files(__package__) / f"{persona}.toml").read_text(encoding="utf-8"))
    form, faults = table.pop("form", {}), table.pop("faults", {})
    return Persona(
        id=persona,
        form=MappingProxyType({name: entry["value"] for name, entry in form.items()}),
        faults=MappingProxyType({name: entry["value"] for name, entry in faults.items()}),
        sources=MappingProxyType({name: entry["source"] for name, entry in (form | faults).items()}),
        **table,
    )
