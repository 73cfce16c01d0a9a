"""Models of other packages, saved without their secrets: `freeze` and `thaw` for pickles, `masked` for what is shown.

A frozen model is what it was built from. Clients and private attributes are built anew, a key is found again in the
variable of the host that the model sends to, and in no other vendor's.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from inspect import Parameter, signature
from types import FunctionType, MethodType
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, SecretBytes, SecretStr

from refrase_integrations.client.connection import key_of
from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.catalogue import find_host
from refrase_integrations.kimi.catalogue.profile import HostProfile

_Model = TypeVar("_Model", bound=BaseModel)

_SECRET = re.compile(
    r"((api|access|private|secret|subscription|signing|auth|account)_?key|secret|passw(or)?d|passphrase|credential"
    r"|authorization|bearer|cookie|(^|_)(token|auth|jwt)$)"
)
_PLAIN = re.compile(r"_(name|path|file|url|provider)$|(^|_)(stop|eos|bos|pad|unk|sep|end|start)_token$")
_OF_REQUESTS = re.compile(r"(^|_)(headers|query)$")
_AUTHENTICATES = re.compile(r"key|token|secret|auth|pass|cookie|credential|signature|^sig$|^code$")
_SCHEME = re.compile(r"\s*(bearer|basic|digest|token|apikey)\s+\S", re.IGNORECASE)
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*://)([^/?#@\s]+@)?([^?#@\s]*)(\?\S*)?", re.IGNORECASE)
_CLIENT = re.compile(r"(^|_)client$")
_KEY = re.compile(r"(^|_)api_?key$")
_SHORT = 8  # characters: shorter placeholders ("none", "EMPTY") stand in many a text
_GONE: Any = object()


class Frozen(NamedTuple):
    """A model as it is pickled."""

    kind: type[Any]
    arguments: dict[str, Any]
    """What to build it from."""
    keys: tuple[str, ...]
    """Arguments that take the host's key."""
    host: str
    """Id of the host that it sends to."""
    url: str | None
    """Where it sends, as far as it tells."""


def freeze(model: BaseModel, host: HostProfile, url: str | None, keys: Iterable[str] = ()) -> Frozen:
    """Return what of another package's model may be pickled.

    Args:
        model: the model. It is not changed.
        host: where it sends.
        url: the address that it tells, if it does.
        keys: arguments that take its key, beside the fields that held one.

    Raises:
        ConfigurationError: the model cannot be built from its fields, or one of them holds a secret that cannot be
            taken out, or cannot be pickled. Says which.
    """
    kind = type(model)
    fields = {
        name: getattr(model, name)
        for name in kind.model_fields
        if name in model.model_fields_set and not kind.model_fields[name].exclude and not _CLIENT.search(name)
    }
    held = [name for name, value in fields.items() if _KEY.search(name) and value]
    if "api_key" in held:  # a class of many vendors' keys reads those of the others by itself
        held = ["api_key"]
    spelt = {name: _argument(kind, name) for name in fields}
    arguments = {spelt[name]: value for name, value in opened(fields, kind).items()}
    filled = tuple(dict.fromkeys([*(spelt[name] for name in held), *keys]))
    return Frozen(kind, _taken(kind, arguments, filled), filled, host.id, url)


def thaw(frozen: Frozen, url_of: Callable[[Any], str | None]) -> Any:
    """Return a pickled model, with the key that its host's own variable holds.

    Args:
        frozen: from `freeze`.
        url_of: the address that a model tells.

    Raises:
        MissingKey: there is none. The variables of other vendors, which the class might read, are not meant for it.
        ConfigurationError: it would send elsewhere now.
    """
    arguments = dict(frozen.arguments)
    if frozen.keys:
        host = find_host(frozen.host)
        arguments |= dict.fromkeys(frozen.keys, key_of(host, frozen.url or host.endpoint.base_url or ""))
    model = frozen.kind(**arguments)
    url = url_of(model)
    if (url or "").rstrip("/") != (frozen.url or "").rstrip("/"):
        before, now = frozen.url or "its own address", url or "its own address"
        raise ConfigurationError(
            f"the pickled {frozen.kind.__name__} sent to {before}; built here it would send to {now}, because of the "
            "environment perhaps. Give it its address when you build it."
        )
    return model


def opened(fields: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    """Return fields of a model as they may be pickled.

    Raises:
        ConfigurationError: a field holds a secret that cannot be taken out, or cannot be pickled.
    """
    taken_out: list[str] = []
    clean = {name: _clean(value, name, taken_out) for name, value in fields.items()}
    for name, value in list(clean.items()):
        if value is _GONE:
            del clean[name]
            continue
        where = f"{kind.__name__} cannot be pickled: its field {name!r}"
        instead = "Build the model where it is used instead: pickle a function that returns it."
        try:
            raw = pickle.dumps(value)
        except Exception as error:
            raise ConfigurationError(f"{where} cannot be ({type(error).__name__}). {instead}") from error
        held = _secret_inside(value, set())
        if held is not None:
            raise ConfigurationError(f"{where} holds a secret ({held}). {instead}")
        if any(secret.encode("utf-8", "surrogatepass") in raw for secret in taken_out if len(secret) >= _SHORT):
            raise ConfigurationError(f"{where} repeats a key or another secret. {instead}")
    return clean


def without_secrets(value: Any) -> Any:
    """Return a value without the entries of its mappings that are secrets; the same object where there is none."""
    return _clean(value, "", None)


def masked(model: _Model, kept: Iterable[str] = ()) -> _Model:
    """Return a copy of a model to show, without secrets in its fields; the same one where there is none.

    Args:
        model: the model. It is not changed, and its copy sends nothing.
        kept: fields that mask themselves.
    """
    changed: dict[str, Any] = {}
    for name in type(model).model_fields.keys() - set(kept):
        value = getattr(model, name, None)
        clean = _GONE if value is not None and _CLIENT.search(name) else _clean(value, name, None)
        if clean is not value:
            changed[name] = None if clean is _GONE else clean
    return model.model_copy(update=changed) if changed else model


def _clean(value: Any, name: str, taken_out: list[str] | None) -> Any:
    """Return a value without secrets, or `_GONE` where all of it is one.

    Args:
        value: the value. It is not changed.
        name: what it is called.
        taken_out: where to note what was taken out; None: the value is only shown, so addresses lose their logins too.
    """
    noted = [] if taken_out is None else taken_out
    if isinstance(value, (SecretStr, SecretBytes)) or (value and isinstance(name, str) and _is_secret(name)):
        if isinstance(value, (SecretStr, SecretBytes)):
            value = value.get_secret_value()
        noted += _texts(value)
        return _GONE
    if isinstance(value, str):
        return value if taken_out is not None else _without_login(value)
    if isinstance(value, Mapping):
        of_requests = _OF_REQUESTS.search(_plain(name)) is not None
        clean = {}
        for key, inner in value.items():
            if of_requests and (_AUTHENTICATES.search(_plain(key)) or _SCHEME.match(str(inner))):
                noted += _texts(inner)
                continue
            opened_inner = _clean(inner, key, taken_out)
            if opened_inner is not _GONE:
                clean[key] = opened_inner
        same = len(clean) == len(value) and all(clean[key] is value[key] for key in clean)
        return value if same else clean
    if type(value) in (list, tuple, set, frozenset):
        items = [_clean(inner, "", taken_out) for inner in value]
        if all(one is inner for one, inner in zip(items, value, strict=True)):
            return value
        return type(value)(one for one in items if one is not _GONE)
    return value


def _secret_inside(value: Any, seen: set[int]) -> str | None:
    """Return the name of a secret that `_clean` could not take out: in an object, or in an address."""
    if isinstance(value, str):
        return None if _without_login(value) == value else "a login in an address"
    if id(value) in seen or isinstance(value, (type, FunctionType, bytes, int, float)):
        return None
    seen.add(id(value))
    for name, one in _parts(value):
        if isinstance(one, (SecretStr, SecretBytes)) or (one and isinstance(name, str) and _is_secret(name)):
            return name or type(one).__name__
        found = _secret_inside(one, seen)
        if found is not None:
            return found
    return None


def _parts(value: Any) -> list[tuple[Any, Any]]:
    """Return what an object is pickled with, under its names."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [("", one) for one in value]
    parts: list[tuple[Any, Any]] = []
    for own in ("__dict__", "__pydantic_private__", "__pydantic_extra__", "keywords"):
        held = getattr(value, own, None)
        parts += held.items() if isinstance(held, Mapping) else ()
    if isinstance(value, MethodType):
        parts.append(("", value.__self__))
    return [*parts, ("", value.args)] if isinstance(value, partial) else parts


def _without_login(text: str) -> str:
    """Return a text that is an address without its user, its password and a query that authenticates."""
    whole = _ADDRESS.fullmatch(text)
    if whole is None:
        return text
    scheme, login, place, query = whole.groups(default="")
    names = re.findall(r"[?&]([^=&]+)=", query)
    shown = "" if any(_AUTHENTICATES.search(_plain(one)) for one in names) else query
    return text if not login and shown == query else f"{scheme}{place}{shown}"


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    plain = _plain(name)
    return _SECRET.search(plain) is not None and _PLAIN.search(plain) is None


def _plain(name: Any) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-\s]", "_", str(name)).lower()


def _texts(value: Any) -> list[str]:
    if isinstance(value, bytes):
        return [value.decode("utf-8", "replace")]
    if isinstance(value, (SecretStr, SecretBytes)):
        return _texts(value.get_secret_value())
    if isinstance(value, str):
        return [value, *(part for part in value.split()[1:])]  # "Bearer sk-..." holds a key
    if isinstance(value, Mapping):
        return [text for one in value.values() for text in _texts(one)]
    return [text for one in value for text in _texts(one)] if isinstance(value, (list, tuple, set)) else []


# -- building anew ---------------------------------------------------------------------------------------


def _argument(kind: type[BaseModel], name: str) -> str:
    """Return the argument that sets a field: its name where the class takes it, else its alias."""
    alias, config = kind.model_fields[name].alias, kind.model_config
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    return name if alias is None or by_name else alias


def _taken(kind: type[BaseModel], arguments: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return the arguments that the class's constructor takes, where the rest is what it does without."""
    parameters = list(signature(kind.__init__).parameters.values())[1:]
    known, given = {one.name for one in parameters}, {*arguments, *keys}
    takes_all = any(one.kind is Parameter.VAR_KEYWORD for one in parameters)
    left = () if takes_all else sorted(arguments.keys() - known)
    lost = [name for name in left if name in kind.model_fields and not _is_default(kind, name, arguments[name])]
    named = [one for one in parameters if one.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)]
    missing = [one.name for one in named if one.default is Parameter.empty and one.name not in given]
    if lost or missing:
        what = f"does not take its field {lost[0]!r}" if lost else f"wants {missing[0]!r}, which is no field of it"
        raise ConfigurationError(
            f"{kind.__name__} cannot be pickled: its constructor {what}. Build the model where it is used instead: "
            "pickle a function that returns it."
        )
    return {name: value for name, value in arguments.items() if takes_all or name in known}


def _is_default(kind: type[BaseModel], name: str, value: Any) -> bool:
    field = kind.model_fields[name]
    return not field.is_required() and bool(value == field.get_default(call_default_factory=True))
