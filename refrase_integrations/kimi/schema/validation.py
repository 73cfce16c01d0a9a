"""What keeps a value from fitting a schema, in words that tell a model what to correct."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from refrase_integrations.kimi.schema.rules import json_type

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

_ERRORS = 3
"""Most errors told at once."""
_PATH = 80
"""Most characters of a key path."""


def find_error(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Say what keeps ``value`` from fitting ``schema``, in words that tell a model what to correct.

    Args:
        value: a JSON value.
        schema: the schema. Draft 2020-12, or the draft that its ``$schema`` names; nothing is ever fetched.

    Returns:
        Key paths with what is wanted there (at most three), none of the values; None where it fits or where
        the schema cannot be evaluated.
    """
    try:
        errors = sorted(
            validator(content(schema)).iter_errors(value),
            key=lambda error: [*map(str, error.absolute_path)],
        )
        said = [_said(error) for error in errors]
    except unusable():
        return None
    said = [*dict.fromkeys(said)]
    if len(said) > _ERRORS:
        said = [*said[:_ERRORS], f"and {len(said) - _ERRORS} more"]
    return "; ".join(said) or None


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Tell whether a value fits; a schema that cannot be evaluated rules nothing out."""
    try:
        return validator(content(schema)).is_valid(value)
    except unusable():
        return True


def content(schema: Mapping[str, Any]) -> str:
    """Write the schema as text: what validators are kept by."""
    return json.dumps(schema, default=_plain)


@lru_cache(maxsize=512)
def validator(content: str) -> Validator:
    """Build the validator of a schema.

    It never fetches anything, reads OpenAPI's ``nullable``, and takes ``3.0`` for no integer, as Python's
    tools do.
    """
    from jsonschema import validators
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]

    schema = json.loads(content)
    base = validators.validator_for(schema, default=validators.Draft202012Validator)
    integer = base.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    own = {
        "type": _nullable,
        "enum": _nullable,
        "items": _positional,
        "exclusiveMinimum": _numeric,
        "exclusiveMaximum": _numeric,
    }
    checks = {keyword: made(base.VALIDATORS[keyword]) for keyword, made in own.items() if keyword in base.VALIDATORS}
    extend: Any = validators.extend
    return cast("Validator", extend(base, checks, type_checker=integer)(schema, registry=REGISTRY))


def _nullable(check: Any) -> Any:
    """Let OpenAPI's ``nullable`` admit null."""

    def checked(validator: Any, wanted: Any, value: Any, schema: Any) -> Any:
        return () if value is None and schema.get("nullable") is True else check(validator, wanted, value, schema) or ()

    return checked


def _positional(check: Any) -> Any:
    """Read a list of ``items`` as the places of a tuple, as the drafts up to 2019-09 do."""

    def checked(validator: Any, wanted: Any, value: Any, schema: Any) -> Any:
        if not isinstance(wanted, list):
            yield from check(validator, wanted, value, schema) or ()
        elif isinstance(value, list):
            for index, (child, place) in enumerate(zip(value, wanted, strict=False)):
                yield from validator.descend(child, place, path=index, schema_path=index)

    return checked


def _numeric(check: Any) -> Any:
    """Pass over the truth values that draft 4 has for exclusive bounds; ``minimum`` and ``maximum`` still
    hold."""

    def checked(validator: Any, wanted: Any, value: Any, schema: Any) -> Any:
        return () if isinstance(wanted, bool) else check(validator, wanted, value, schema) or ()

    return checked


def unusable() -> tuple[type[BaseException], ...]:
    """Name what jsonschema raises on a schema that it cannot evaluate."""
    from jsonschema.exceptions import UnknownType
    from referencing.exceptions import Unresolvable

    return UnknownType, Unresolvable, TypeError, ValueError, AttributeError, KeyError, re.error


def _said(error: ValidationError) -> str:
    """Tell an error by its key path and what is wanted; the library's own message would quote the value."""
    path = ""
    for part in error.absolute_path:
        path = under(path, part)
    wanted: Any = error.validator_value
    value: Any = error.instance
    at, keyword = shown(path), str(error.validator)  # "None" where the schema is False
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    if keyword in ("anyOf", "oneOf") and error.context:
        return _alternatives(error, at)
    if keyword == "required" and isinstance(wanted, list):
        missing = [name for name in wanted if name not in value]
        known = schema.get("properties", {})
        names = ", ".join(f"'{name}'{_type_of(known.get(name))}" for name in missing[:10])
        return f"{at}: required property missing: {names}" if path else f"required property missing: {names}"
    if keyword == "type":
        return f"{at} must be {_any_of_types(wanted)}, got {article(json_type(value))}"
    if keyword == "enum":
        return f"{at} must be one of {_brief(wanted)}"
    if keyword == "const":
        return f"{at} must be {_brief(wanted)}"
    if keyword == "additionalProperties" and wanted is False:
        known = schema.get("properties", {})
        extra = ", ".join(f"'{name[:40]}'" for name in [name for name in value if name not in known][:5])
        return f"{at} takes no property {extra}; it takes: {', '.join(map(str, known)) or 'none'}"
    if keyword == "None":
        return f"{at}: something is given that the schema rules out"
    words = _WORDS.get(keyword)
    if words is not None:
        return f"{at} {words.format(_brief(wanted))}"
    return f"{at} does not fit the schema's '{keyword}'"


_WORDS: Mapping[str, str] = {
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be greater than {}",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "pattern": "must match the pattern {}",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "uniqueItems": "must not hold the same item twice",
    "minProperties": "must have at least {} properties",
    "maxProperties": "must have at most {} properties",
}


def _alternatives(error: ValidationError, at: str) -> str:
    """Tell of the one alternative that has the right type, else of all types."""
    by_branch: dict[Any, list[ValidationError]] = {}
    for inner in error.context or ():
        by_branch.setdefault(inner.schema_path[0], []).append(inner)
    close = [
        inner
        for inner in by_branch.values()
        if not any(one.validator in ("type", "const") and not one.path for one in inner)
    ]
    if len(close) == 1:
        return _said(close[0][0])
    wanted: Any = error.validator_value
    types = [branch.get("type") for branch in wanted if isinstance(branch, Mapping)]
    names = [name for name in types if isinstance(name, str)]
    if names and len(names) == len(wanted) and not close:
        return f"{at} must be {_any_of_types(names)}, got {article(json_type(error.instance))}"
    return f"{at} fits none of the {len(wanted)} alternatives of the schema"


def _any_of_types(kinds: Any) -> str:
    names = [kinds] if isinstance(kinds, str) else [str(kind) for kind in kinds]
    return " or ".join(dict.fromkeys(map(article, names)))


def article(kind: str) -> str:
    """Return the name of a type with its article."""
    return kind if kind == "null" else f"an {kind}" if kind[:1] in "aeiou" else f"a {kind}"


def _type_of(schema: Any) -> str:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    return f" ({kind})" if isinstance(kind, str) else ""


def under(path: str, part: Any) -> str:
    """Lengthen a key path."""
    if isinstance(part, int):
        return f"{path}[{part}]"
    return f"{path}.{part}" if path else str(part)


def shown(path: str) -> str:
    """Return a key path as it is told, cut where it is long."""
    if not path:
        return "the object"
    return f"'{path}'" if len(path) <= _PATH else f"'{path[: _PATH - 1]}…'"


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError("not JSON")
