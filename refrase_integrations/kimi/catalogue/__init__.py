"""What is known of Kimi models and their hosts: facts as data, each with its source.

Nothing is read at import. The files in ``models/`` and ``hosts/`` are read on first use, then the file that
the environment variable ``REFRASE_CATALOG`` names, if any: TOML with ``[[models]]`` and ``[[hosts]]`` tables
of the same form, which may say ``base = "<id>"`` to inherit from an existing profile. `register_model` and
`register_host` do the same from Python.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from refrase_integrations.errors import CatalogueError, CatalogueWarning
from refrase_integrations.kimi.catalogue import addresses, loading, naming
from refrase_integrations.kimi.catalogue.profile import HostProfile, ModelProfile

DEFAULT_MODEL: str
"""Id of the model that is used where the user names none. Read from the data on first use."""

DEFAULT_HOST = "moonshot"
"""Id of the host that is used where the user names neither host nor URL: Moonshot's international API."""

_GENERIC = "generic"
_REMEMBERED = 1024


class Replacement(NamedTuple):
    """What to do where a host does not serve a model any more."""

    model: str | None
    """Id of the model to move to; None: none is documented."""
    hosts: tuple[str, ...]
    """Ids of the hosts that still serve the old model, as far as recorded."""

    def __str__(self) -> str:
        move = f"Use {self.model!r} instead" if self.model else "No replacement is recorded"
        return f"{move}; the old model is still served by: {', '.join(self.hosts) or 'no recorded host'}."


def find_model(name: str) -> ModelProfile:
    """Return the profile of a model.

    Args:
        name: its canonical id, or any host's, router's or file's spelling of it, upper or lower case. A name
            without a version means what its host says: ``kimi-k2`` is OpenRouter's name of the model of July
            2025.

    Returns:
        The profile. For an unknown name one with ``known=False`` and safe defaults, always the same object
        for the same name, after one `CatalogueWarning`.

    Raises:
        CatalogueError: ``name`` is empty or no text, or a catalogue file is wrong.
    """
    if not isinstance(name, str):
        raise CatalogueError(f"A model is given by its name, not as {type(name).__name__}.")
    state = _current()
    found = state.find(name)
    if found is not None:
        return found
    if not name.strip():
        raise CatalogueError("The model's name is empty.")
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise CatalogueError("The model's name holds half a surrogate pair; check how it was pasted.")
    _warn_once(
        f"model:{name}",
        f"The model {name!r} is not in the catalogue: safe defaults are used, thinking cannot be switched. "
        "Describe it with refrase_integrations.kimi.catalogue.register_model(), or in a TOML file named by "
        'REFRASE_CATALOG (base = "<a known id>" inherits the rest).',
    )
    return state.unknown_model(name)


def knows_model(name: str) -> bool:
    """Tell whether `find_model` would find ``name``, without a warning."""
    return _current().find(name) is not None


def find_host(host: str | None = None, base_url: str | None = None) -> HostProfile:
    """Return the profile of a host.

    Args:
        host: its id, such as ``"openrouter"``; wins over ``base_url``.
        base_url: recognised by its host name, over https only. An address of this machine or of a private
            network is a ``generic`` server that needs no key. Any other unknown one is ``generic`` too, after
            a `CatalogueWarning`.

    Returns:
        The profile; Moonshot's international API where both arguments are None.

    Raises:
        CatalogueError: the id is unknown, or ``base_url`` is no http or https URL, or a catalogue file is
        wrong.
    """
    if host is not None and not isinstance(host, str):
        raise CatalogueError(f"A host is given by its id, not as {type(host).__name__}.")
    if base_url is not None and not isinstance(base_url, str):
        raise CatalogueError(f"base_url must be a text, not a {type(base_url).__name__}.")
    state = _current()
    if host is not None:
        return state.host(host)
    if base_url is None:
        return state.host(DEFAULT_HOST)
    found = addresses.matching(base_url, state.hosts.values())
    if found is not None:
        return found
    if addresses.is_private(base_url):
        return state.private
    _warn_once(
        f"host:{base_url}",
        "The base_url belongs to no known host: the rules of a generic OpenAI-compatible server are used. "
        "Name the host with host=..., or describe it with "
        "refrase_integrations.kimi.catalogue.register_host() or in a TOML file named by REFRASE_CATALOG.",
    )
    return state.host(_GENERIC)


def models() -> tuple[ModelProfile, ...]:
    """Return every known model."""
    return tuple(_current().models.values())


def hosts() -> tuple[HostProfile, ...]:
    """Return every known host."""
    return tuple(_current().hosts.values())


def replacement(model: ModelProfile, host: HostProfile) -> Replacement | None:
    """Return where to go with a model that ``host`` does not serve, or will remove.

    Returns:
        The model to move to and the hosts that still serve the old one; None where ``host`` serves it and no
        end is announced, and for servers of the user's own, which serve what they are given.
    """
    served = model.hosts.get(host.id)
    if host.self_hosted or not model.known or (served and served.status == "live" and served.until is None):
        return None
    return Replacement(model.identity.replaced_by, tuple(id for id in model.served_by() if id != host.id))


def wire_model_id(name: str, model: ModelProfile, host: HostProfile) -> str:
    """Return how ``host`` spells ``model``, given the ``name`` that the user wrote.

    - A name that already is one of this host's spellings stays as it is, routing suffix and region prefix
      included.
    - Another spelling becomes this host's own; a routing suffix stays where the host has such (``:free``).
    - On a server that names models after their weights, the bare canonical id becomes the weights' repository
      (``kimi-k2-0905-preview`` -> ``moonshotai/Kimi-K2-Instruct-0905``). Any other name stays: it may be a
      path or a name of the user's own choice. A server that serves under the canonical id itself is described
      with ``register_host({"base": "vllm", "id": ..., "spelling": {"models": {id: [id]}}})`` or used as
      ``host="generic"``.
    - Where no spelling is recorded, the name stays as it is.
    """
    served = model.hosts.get(host.id)
    spellings = (*host.spelling.models.get(model.id, ()), *(served.names if served else ()))
    bare, variant = naming.without_variant(name)
    known = {naming.folded(spelling) for spelling in spellings}
    for written in (name, bare if host.spelling.variants else name):
        if {naming.folded(written), naming.without_region(naming.folded(written))} & known:
            return name
    if spellings:
        return spellings[0] + (variant if host.spelling.variants else "")
    if host.spelling.weights and model.identity.weights and naming.folded(name) == naming.folded(model.id):
        return model.identity.weights
    return name


def register_model(profile: ModelProfile | Mapping[str, Any]) -> ModelProfile:
    """Add a model to the catalogue, or replace the one with the same id.

    Args:
        profile: a profile, or a mapping of the form of a catalogue file, which may say ``base``.

    Returns:
        The profile as it is registered. Its spellings win over those of other models.

    Raises:
        CatalogueError: a key or value does not fit, or the base is unknown.
    """
    with _lock:
        state = _current()
        if not isinstance(profile, ModelProfile):
            profile = state.build_model(profile, "register_model()")
        _publish(replace(state, models=_last(state.models, profile.id, profile)))
    return profile


def register_host(profile: HostProfile | Mapping[str, Any]) -> HostProfile:
    """Add a host to the catalogue, or replace the one with the same id.

    Args:
        profile: a profile, or a mapping of the form of a catalogue file, which may say ``base``.

    Returns:
        The profile as it is registered.

    Raises:
        CatalogueError: a key or value does not fit, or the base is unknown.
    """
    with _lock:
        state = _current()
        if not isinstance(profile, HostProfile):
            profile = state.build_host(profile, "register_host()")
        _publish(replace(state, hosts=_last(state.hosts, profile.id, profile)))
    return profile


def reload() -> None:
    """Forget what was registered and warned of, and read the file of REFRASE_CATALOG again on next use."""
    global _state  # noqa: PLW0603
    with _lock:
        _state = None
        _warned.clear()


def __getattr__(name: str) -> str:
    if name == "DEFAULT_MODEL":
        globals()[name] = value = loading.default_model()
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# -- state: immutable snapshots, replaced as a whole -------------------------------------------------------


@dataclass(frozen=True)
class _Catalogue:
    models: dict[str, ModelProfile]
    hosts: dict[str, HostProfile]
    names: dict[str, ModelProfile] = field(init=False)
    private: HostProfile = field(init=False)
    found: dict[str, ModelProfile] = field(init=False, default_factory=dict)
    unknown: dict[str, ModelProfile] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        names: dict[str, ModelProfile] = {}
        for host in self.hosts.values():
            for id, spellings in host.spelling.models.items():
                if id in self.models:
                    names.update((naming.folded(spelling), self.models[id]) for spelling in spellings)
        for model in self.models.values():
            for spelling in model.spellings():
                whole = naming.folded(spelling)
                names[whole] = model
                # "moonshotai/kimi-k2" is known as "kimi-k2" too; a part never overrides a whole spelling.
                names.setdefault(whole.rpartition("/")[2], model)
        object.__setattr__(self, "names", names)
        generic = self.hosts[_GENERIC]
        endpoint = generic.endpoint.model_copy(update={"keyless": True})
        private = generic.model_copy(update={"endpoint": endpoint, "self_hosted": True})
        object.__setattr__(self, "private", private)

    def find(self, name: str) -> ModelProfile | None:
        if name in self.names:
            return self.names[name]
        found = self.found.get(name)
        if found is None:
            found = next((self.names[other] for other in naming.candidates(name) if other in self.names), None)
            if found is not None:
                if len(self.found) >= _REMEMBERED:
                    self.found.clear()
                self.found[name] = found
        return found

    def unknown_model(self, name: str) -> ModelProfile:
        if len(self.unknown) >= _REMEMBERED:
            self.unknown.clear()
        return self.unknown.setdefault(name, ModelProfile(id=name, name=name, known=False))

    def host(self, id: str) -> HostProfile:
        found = self.hosts.get(id) or self.hosts.get(id.strip().lower().replace("_", "-"))
        if found is None:
            close = get_close_matches(id[:80].strip().lower(), self.hosts, n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise CatalogueError(f"Unknown host {id[:80]!r}.{hint} Known hosts: {', '.join(sorted(self.hosts))}.")
        return found

    def build_model(self, table: Mapping[str, Any], where: str) -> ModelProfile:
        base = None
        if "base" in table:
            base = self.find(str(table["base"]))
            if base is None:
                raise CatalogueError(
                    f"{where}: unknown base {table['base']!r}. Known models: {', '.join(self.models)}."
                )
        return loading.build(ModelProfile, table, where, base)

    def build_host(self, table: Mapping[str, Any], where: str) -> HostProfile:
        base = None
        if "base" in table:
            try:
                base = self.host(str(table["base"]))
            except CatalogueError as error:
                raise CatalogueError(f"{where}: base: {error}") from None
        return loading.build(HostProfile, table, where, base)


_lock = threading.RLock()
_state: _Catalogue | None = None
_warned: set[str] = set()


def _current() -> _Catalogue:
    if _state is None:
        with _lock:
            if _state is None:
                _publish(_load())
    assert _state is not None
    return _state


def _publish(state: _Catalogue) -> None:
    global _state  # noqa: PLW0603 - one snapshot for the process, replaced as a whole
    _state = state


def _load() -> _Catalogue:
    state = _shipped()
    path = os.environ.get("REFRASE_CATALOG")
    if not path:
        return state
    tables = loading.read(Path(path).expanduser())
    shared = tables.get("sources", {})
    for index, table in enumerate(tables.get("models", [])):
        own = state.build_model(_with_sources(table, shared), f"{path}: models[{index}]")
        state = replace(state, models=_last(state.models, own.id, own))
    for index, table in enumerate(tables.get("hosts", [])):
        host = state.build_host(_with_sources(table, shared), f"{path}: hosts[{index}]")
        state = replace(state, hosts=_last(state.hosts, host.id, host))
    return state


@cache
def _shipped() -> _Catalogue:
    return _Catalogue(loading.shipped(ModelProfile, "models"), loading.shipped(HostProfile, "hosts"))


def _with_sources(table: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    return {**table, "sources": {**shared, **table.get("sources", {})}}


def _last(profiles: dict[str, Any], id: str, profile: Any) -> dict[str, Any]:
    """Return ``profiles`` with ``profile`` at the end, where its spellings win."""
    return {**{key: value for key, value in profiles.items() if key != id}, id: profile}


def _warn_once(key: str, text: str) -> None:
    with _lock:
        if key in _warned:
            return
        _warned.add(key)
    warnings.warn(text, CatalogueWarning, stacklevel=3)
