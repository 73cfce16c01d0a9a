"""Reading the arguments that a model wrote for a tool call.

Text that parses and fits passes byte for byte. Otherwise three things are tried, in this order: repair of the
JSON text, reading of values that are right but for their type, validation. What still fails is told to the
model in words it can act on. Seen in the wild: kimi-cli#2406, vllm#41739.

**What is never guessed.** Text that ends inside a string, a number, a word or a list, or behind a comma or
colon, was cut short: more was coming, and nobody knows what. That is an error. Closing braces that are missing
behind a whole value are added only where nothing more could have come: each object that was left open has all
the properties that its schema declares, and the schema admits no others by name pattern or by a schema of their
own. A key that is given twice with different values, a string whose backslashes can be read in two ways, and two
objects in a row are errors too.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from refrase_integrations.kimi.schema.references import UnresolvedReference, resolve
from refrase_integrations.kimi.schema.rules import json_type

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of one tool call."""

    text: str
    """JSON text to hand on: the very text that was given where it was fine, or where it cannot be used."""
    value: dict[str, Any] | None
    """The arguments, right or wrong; None where the text could not be read as a JSON object."""
    repairs: tuple[str, ...] = ()
    """What was repaired, in short words, with key paths and no values."""
    error: str | None = None
    """What the model has to correct; None where the arguments fit. Key paths and types, none of the
    values."""


def read_arguments(text: str, schema: Mapping[str, Any] | None) -> Arguments:
    """Read the arguments of a tool call.

    Args:
        text: the arguments as the model wrote them.
        schema: the user's own parameters schema, not the form that was sent to the host; None for no
            validation. A schema that cannot be evaluated (an unknown type, a reference out of the document)
            rules nothing out.

    Returns:
        The arguments, with an error where they cannot be used. Never raises, whatever the text.
    """
    try:
        return _read(text, schema)
    except RecursionError:
        return Arguments(text, None, error="the arguments are nested too deeply")


def coerce(value: Any, schema: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """Read values that are right but for their type as what the schema wants, where only one reading is left.

    JSON inside a string becomes the object or list that is wanted; ``"3"``, ``"true"`` and ``3.0`` become the
    number or truth value; a number becomes the string; one value becomes a list of one; null for an optional
    property that takes none is dropped. A value that fits is returned as it is (the same object), so doing it
    twice changes nothing more.

    Args:
        value: a JSON value. It is not changed.
        schema: the schema that it should fit.

    Returns:
        The value, and what was done in short words.
    """
    repairs: list[str] = []
    try:
        result = _Coercion(schema, repairs).fit(value, schema, "", frozenset())
    except _unusable():
        return value, ()
    return result, tuple(repairs)


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
            _validator(_content(schema)).iter_errors(value),
            key=lambda error: [*map(str, error.absolute_path)],
        )
        said = [_said(error) for error in errors]
    except _unusable():
        return None
    said = [*dict.fromkeys(said)]
    if len(said) > _ERRORS:
        said = [*said[:_ERRORS], f"and {len(said) - _ERRORS} more"]
    return "; ".join(said) or None


_ERRORS = 3
"""Most errors told at once."""
_REPAIRABLE = 200_000
"""Most characters of a text that is repaired: the library needs about 0.12 s for a million when all goes
well."""
_PATH = 80
"""Most characters of a key path."""
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_LAST_COMMA = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+")|,(\s*+[}\]])', re.DOTALL)  # group 1: strings, which pass
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = frozenset('"\\/bfnrtu')
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL | re.IGNORECASE)
_LOOSE = re.compile(r'""\s*[^\s,:}\]"]')
"""Text right behind a string, its content blanked: a quote inside the string was not escaped."""
_TOKEN = re.compile(r'[^\s{}\[\],:"]+(?P<key>\s*:)?')
_LITERALS = frozenset({"true", "false", "null", "True", "False", "None"})
_SHUT = re.compile(r"[\s}\]`;]*")


_CUT = "the arguments were cut short; send them again, complete, and split very long content"


class _Unreadable(ValueError):
    """The text is no JSON object, and cannot be made one without guessing."""


class _Parsed(NamedTuple):
    value: Any
    repairs: tuple[str, ...]
    doubled: str | None
    """Path of a key that is given twice with different values."""
    left_open: int = 0
    """Objects that were not closed: the outermost, its last value, the last value of that, and so on."""


def _read(text: str, schema: Mapping[str, Any] | None) -> Arguments:
    try:
        value, repairs, doubled, left_open = _object(text)
    except _Unreadable as unreadable:
        return Arguments(text, None, error=str(unreadable))
    if left_open and not _is_finished(value, schema, left_open):
        return Arguments(text, None, error=_CUT)
    done = [*repairs]
    error: str | None = None
    if schema is not None and not _fits(value, schema):
        value, coerced = coerce(value, schema)
        done += coerced
        error = find_error(value, schema)
    if _GUESSED in repairs and error is not None:
        return Arguments(text, None, error=f"the arguments are not valid JSON, and when repaired: {error}")
    if doubled is not None:
        error = f"{_shown(doubled)} is given twice, with different values; give it once"
    read = Arguments(text, value, tuple(done), error)
    return replace(read, text=_written(value)) if done else read


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    try:
        return _validator(_content(schema)).is_valid(value)
    except _unusable():
        return True


def _written(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can escape it, UTF-8 cannot carry it
        return json.dumps(value)
    return text


# -- from text to an object --------------------------------------------------------------------------------

_GUESSED = "broken JSON was repaired"


def _object(text: str) -> _Parsed:
    """Parse ``text`` as an object, repairing what leaves no doubt."""
    if not text.strip():
        return _Parsed({}, ("empty arguments are read as {}",), None)
    value, repairs, doubled, left_open = _parse(text)
    for _ in range(2):
        if not isinstance(value, str):
            break
        if not value.strip():
            return _Parsed({}, (*repairs, "empty arguments are read as {}"), None)
        value, more, doubled, left_open = _parse(value)
        repairs += ("JSON inside a string was unwrapped", *more)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value, repairs = value[0], (*repairs, "the object was taken out of a list of one")
    if value is None:
        value, repairs = {}, (*repairs, "null is read as {}")
    if not isinstance(value, dict):
        raise _Unreadable(f"the arguments must be a JSON object, got {_a(json_type(value))}")
    odd = _not_finite(value)
    if odd is not None:
        raise _Unreadable(f"{_shown(odd)} is not a number that JSON has; give a finite number, a string or null")
    return _Parsed(value, repairs, doubled, left_open)


def _parse(text: str) -> _Parsed:
    """Parse JSON, then JSON with the slips of a model."""
    try:
        return _loads(text, ())
    except ValueError as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
    for attempt, words in ((text, "raw control characters were escaped"), *_mended(text)):
        try:
            return _loads(attempt, (words,), strict=False)
        except json.JSONDecodeError:
            continue
        except ValueError:
            raise _Unreadable("the arguments hold a number with too many digits") from None
    if any(_two_ways(_kinds(string)) for string in _STRING.findall(text)):
        raise _Unreadable("a string holds backslashes that can be read in two ways; double each that is meant as one")
    fenced = _FENCE.fullmatch(text)
    if fenced is not None:
        parsed = _parse(fenced[1])
        return parsed._replace(repairs=("a code fence was taken off", *parsed.repairs))
    broken = _Unreadable(f"the arguments are not valid JSON{where}; send them again, complete and as one JSON object")
    if not text.lstrip().startswith(("{", "[", '"')):
        raise broken
    bare = _STRING.sub('""', text)
    if "'" in bare and len(text) <= _REPAIRABLE:
        return _python(text, broken)
    if _cut(bare):
        raise _Unreadable(_CUT)
    if _LOOSE.search(bare):
        raise _Unreadable(f"the arguments are not valid JSON{where}; a quote inside a string needs a backslash")
    if len(text) > _REPAIRABLE or not all(_known(token) for token in _TOKEN.finditer(bare)):
        raise broken
    left_open = len(_opened(bare))
    try:
        parsed = _loads(text + _missing(bare), ("closing braces were added",), strict=False)
    except ValueError:
        parsed = _repaired(text, broken)
    if left_open and parsed.repairs[1:]:  # a repeated key: which object was left open last is not known
        raise _Unreadable(_CUT)
    return parsed._replace(left_open=left_open)


def _loads(text: str, repairs: tuple[str, ...], *, strict: bool = True) -> _Parsed:
    doubled: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            doubled.extend(key for key, value in pairs if _differ(made[key], value))
            if not doubled:
                twice.append("a repeated key was dropped")
        return made

    twice: list[str] = []
    value = json.loads(text, strict=strict, object_pairs_hook=unique)
    return _Parsed(value, (*repairs, *twice[:1]), doubled[0] if doubled else None)


def _mended(text: str) -> Iterator[tuple[str, str]]:
    """Give readings of ``text`` that leave no doubt, with what was done."""
    if "\\" in text:
        mended = _STRING.sub(_backslashes, text)
        if mended != text:
            yield mended, "backslashes were doubled"
    mended = _LAST_COMMA.sub(lambda found: found[1] or found[2], text)
    if mended != text:
        yield mended, "trailing commas were dropped"
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return
    text, rest = text.lstrip()[:end], text.lstrip()[end:]
    if not isinstance(value, (dict, list)):
        return
    if _SHUT.fullmatch(rest):
        yield text, "closing marks behind the end were dropped"
    elif rest.strip() == text.strip():
        yield text, "the object was given twice and is read once"


def _backslashes(string: re.Match[str]) -> str:
    """Double the backslashes of a JSON string that escapes nothing JSON knows, as in ``"\\d+"``.

    A string that also holds an escape like ``\\n`` can be read in two ways (``C:\\new\\data``) and is left
    alone.
    """
    kinds = _kinds(string[0])
    if kinds <= _ESCAPES or _two_ways(kinds):
        return string[0]
    return _ESCAPE.sub(lambda escape: escape[0] if escape[1] in '"\\/' else f"\\{escape[0]}", string[0])


def _kinds(string: str) -> set[str]:
    """Collect what stands behind the backslashes of a string; a "u" without its four digits counts as "!"."""
    return {"!" if escape[1] == "u" else escape[1][0] for escape in _ESCAPE.finditer(string)}


def _two_ways(kinds: set[str]) -> bool:
    return bool(kinds - _ESCAPES and kinds & set("bfnrtu"))


def _cut(bare: str) -> bool:
    """Say whether a text, its strings blanked, ends before what it began, missing closing braces aside."""
    if '"' in bare.replace('""', ""):
        return True
    opened = _opened(bare)
    if not opened:
        return False
    end = bare.rstrip()
    if "[" in opened or not end.endswith(('"', "}", "]", "true", "false", "null", "True", "False", "None")):
        return True
    return end.endswith('""') and not end[:-2].rstrip().endswith(":")  # a key without its value


def _is_finished(value: Any, schema: Any, left_open: int) -> bool:
    """Say whether nothing could have come in the objects that were left open, by their schema.

    A property that the schema declares could have come, wanted or not; what it does not name could not, unless it
    says so (``additionalProperties`` true or a schema, a name pattern, a condition, no properties at all).
    """
    schemas = [schema]
    for _ in range(left_open):
        declared: dict[str, list[Any]] = {}
        for node in _nodes(schemas, schema, frozenset()):
            if not isinstance(node, Mapping) or not _OPEN_ENDED.isdisjoint(node):
                return False
            if node.get("additionalProperties", False) is not False or not isinstance(node.get("properties"), Mapping):
                return False
            for name, property_ in node["properties"].items():
                declared.setdefault(name, []).append(property_)
        if not isinstance(value, dict) or not declared or not declared.keys() <= value.keys():
            return False
        last = [*value][-1]
        value, schemas = value[last], declared.get(last, [])
    return True


_OPEN_ENDED = frozenset({"patternProperties", "if", "dependentSchemas", "dependencies", "unevaluatedProperties"})


def _nodes(schemas: list[Any], root: Any, followed: frozenset[str]) -> Iterator[Any]:
    """Give every schema that says which properties an object has, references and alternatives followed."""
    for schema in schemas:
        if not isinstance(schema, Mapping):
            yield schema
            continue
        parts = [part for keyword in ("allOf", "anyOf", "oneOf") for part in _schemas(schema.get(keyword))]
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in followed:
            try:
                parts.append(resolve(root, reference).schema)
            except UnresolvedReference:
                yield None
            followed |= {reference}
        yield from _nodes(parts, root, followed)
        kinds = schema.get("type", "object")
        may_be_object = "object" in {str(kind).lower() for kind in (kinds if isinstance(kinds, list) else [kinds])}
        if may_be_object and not ((parts or "enum" in schema or "const" in schema) and "properties" not in schema):
            yield schema


def _missing(bare: str) -> str:
    return "".join("}" if mark == "{" else "]" for mark in reversed(_opened(bare)))


def _opened(bare: str) -> list[str]:
    opened: list[str] = []
    for mark in re.findall(r"[{}\[\]]", bare):
        if mark in "{[":
            opened.append(mark)
        elif opened:
            opened.pop()
    return opened


def _known(token: re.Match[str]) -> bool:
    """Say whether what stands outside strings is a key, a word of JSON or Python, or a number."""
    if token["key"] is not None:
        return token[0].rstrip(": \t\n").isidentifier()
    return token[0] in _LITERALS or _NUMBER.fullmatch(token[0]) is not None


def _python(text: str, broken: _Unreadable) -> _Parsed:
    """Read a Python literal, as in ``{'path': 'a', 'all': True}``."""
    if not _kinds(text) <= set("'\"\\nrtbfux"):
        raise broken  # Python would read it, and warn
    try:
        value = ast.literal_eval(text.strip())
        _written(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise broken from None
    if not isinstance(value, dict) or not _has_names(value):
        raise broken
    return _Parsed(json.loads(json.dumps(value)), ("a Python literal was read",), None)


def _has_names(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _has_names(child) for key, child in value.items())
    return all(map(_has_names, value)) if isinstance(value, (list, tuple)) else not isinstance(value, bytes)


def _repaired(text: str, broken: _Unreadable) -> _Parsed:
    """Let the library mend commas, keys without quotes and Python's words; strings and values are whole by
    now."""
    import json_repair

    try:
        # strict: what would have to be invented (a missing value, a second object) is an error, not a repair
        value = json_repair.loads(text, skip_json_loads=True, strict=True)
    except (ValueError, RecursionError, IndexError):
        raise broken from None
    if not isinstance(value, (dict, list)) or not value:
        raise broken
    return _Parsed(value, (_GUESSED,), None)


def _not_finite(value: Any, path: str = "") -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return path
    inside: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, dict):
        inside = iter(value.items())
    elif isinstance(value, list):
        inside = iter(enumerate(value))
    for key, child in inside:
        if isinstance(child, (float, dict, list)):
            found = _not_finite(child, _under(path, key))
            if found is not None:
                return found
    return None


# -- from a value to one that fits ---------------------------------------------------------------------------


class _Coercion:
    """One walk over a value and its schema, both unchanged."""

    def __init__(self, root: Mapping[str, Any], repairs: list[str]) -> None:
        self._root, self._repairs = root, repairs
        self._validator = _validator(_content(root))

    def fit(self, value: Any, schema: Any, path: str, followed: frozenset[str]) -> Any:
        """Return ``value`` as ``schema`` wants it, as far as only one reading is left."""
        if not isinstance(schema, Mapping) or self._fits(value, schema):
            return value
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in followed:
            try:
                target = resolve(self._root, reference).schema
            except UnresolvedReference:
                return value
            value = self.fit(value, target, path, followed | {reference})
        for part in _schemas(schema.get("allOf")):
            value = self.fit(value, part, path, followed)
        for keyword in ("anyOf", "oneOf"):
            branches = _schemas(schema.get(keyword))
            if branches and not any(self._fits(value, branch) for branch in branches):
                value = self._branch(value, branches, path, followed)
        if not self._right_type(value, schema):
            value = self._retyped(value, schema, path)
        if isinstance(value, dict):
            value = self._object(value, schema, path)
        elif isinstance(value, list):
            value = self._list(value, schema, path)
        return value

    def _fits(self, value: Any, schema: Any) -> bool:
        return bool(self._validator.evolve(schema=schema).is_valid(value))

    def _right_type(self, value: Any, schema: Mapping[str, Any]) -> bool:
        """Say whether the type is right; an enum or const without a type asks for one of its values."""
        said = {key: schema[key] for key in ("type", "nullable") if key in schema}
        if "type" not in said:
            said = {key: schema[key] for key in ("enum", "const") if key in schema}
        return self._fits(value, said)

    def _branch(self, value: Any, branches: list[Any], path: str, followed: frozenset[str]) -> Any:
        """Try each alternative; take the one reading that fits, if there is only one."""
        found: list[tuple[Any, list[str]]] = []
        for branch in branches:
            trial: list[str] = []
            kept, self._repairs = self._repairs, trial
            try:
                read = self.fit(value, branch, path, followed)
            finally:
                self._repairs = kept
            if self._fits(read, branch) and not any(_same(read, other) for other, _ in found):
                found.append((read, trial))
        if len(found) != 1:
            return value
        self._repairs += found[0][1]
        return found[0][0]

    def _retyped(self, value: Any, schema: Mapping[str, Any], path: str) -> Any:
        readings = [reading for reading in _readings(value) if self._right_type(reading, schema)]
        if len(readings) == 1:
            self._did(path, f"{json_type(value)} was read as {json_type(readings[0])}")
            return readings[0]
        if not readings and _only_list(schema) and _is_one(value):
            one = self._quietly([value], schema, path)
            if self._fits(one, schema):
                self._did(path, f"{json_type(value)} was put into a list")
                return one
        return value

    def _quietly(self, value: Any, schema: Mapping[str, Any], path: str) -> Any:
        kept, self._repairs = self._repairs, []
        try:
            return self._list(value, schema, path)
        finally:
            self._repairs = kept

    def _object(self, value: dict[str, Any], schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        required = schema.get("required")
        required = required if isinstance(required, list) else []
        more = schema.get("additionalProperties")
        result: dict[str, Any] = {}
        for key, child in value.items():
            wanted = properties.get(key, more if not schema.get("patternProperties") else None)
            where = _under(path, key)
            read = self.fit(child, wanted, where, frozenset())
            if read is None and key in properties and key not in required and not self._fits(None, wanted):
                self._did(where, "null was dropped")
                continue
            result[key] = read
        return value if len(result) == len(value) and all(result[key] is value[key] for key in result) else result

    def _list(self, value: list[Any], schema: Mapping[str, Any], path: str) -> list[Any]:
        items = schema.get("items")
        prefix = items if isinstance(items, list) else _schemas(schema.get("prefixItems"))
        rest = None if isinstance(items, list) else items
        result = [
            self.fit(child, prefix[index] if index < len(prefix) else rest, _under(path, index), frozenset())
            for index, child in enumerate(value)
        ]
        return value if all(new is old for new, old in zip(result, value, strict=True)) else result

    def _did(self, path: str, what: str) -> None:
        self._repairs.append(f"{_shown(path)}: {what}")


def _readings(value: Any) -> Iterator[Any]:
    """Give every other reading of a value, the types of JSON taken for each other."""
    if isinstance(value, bool):
        yield "true" if value else "false"
    elif isinstance(value, float) and value.is_integer():
        yield int(value)
        yield json.dumps(value)
    elif isinstance(value, (int, float)):
        yield json.dumps(value)
    elif isinstance(value, str):
        text = value.strip()
        if text[:1] in ("{", "["):
            try:
                parsed = _parse(text)
            except _Unreadable:
                return
            if parsed.doubled is None and not parsed.left_open and _not_finite(parsed.value) is None:
                yield parsed.value
        elif text.lower() in ("true", "false"):
            yield text.lower() == "true"
        elif text.lower() in ("null", "none"):
            yield None
        elif len(text) < 400 and _NUMBER.fullmatch(text):
            number = json.loads(text)
            if isinstance(number, int) or math.isfinite(number):
                yield int(number) if isinstance(number, float) and number.is_integer() else number


def _only_list(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") in ("array", ["array"])


def _is_one(value: Any) -> bool:
    """Say whether a value is one item, beyond doubt: not null, no list in a string, broken or not."""
    if isinstance(value, str):
        return not value.lstrip().startswith(("[", "{")) and not {",", "\n"} & {*value}
    return value is not None and not isinstance(value, list)


def _schemas(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# -- validation ----------------------------------------------------------------------------------------------


def _content(schema: Mapping[str, Any]) -> str:
    """Write the schema as text: what validators are kept by."""
    return json.dumps(schema, default=_plain)


@lru_cache(maxsize=512)
def _validator(content: str) -> Validator:
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


def _unusable() -> tuple[type[BaseException], ...]:
    """Name what jsonschema raises on a schema that it cannot evaluate."""
    from jsonschema.exceptions import UnknownType
    from referencing.exceptions import Unresolvable

    return UnknownType, Unresolvable, TypeError, ValueError, AttributeError, KeyError, re.error


def _said(error: ValidationError) -> str:
    """Tell an error by its key path and what is wanted; the library's own message would quote the value."""
    path = ""
    for part in error.absolute_path:
        path = _under(path, part)
    wanted: Any = error.validator_value
    value: Any = error.instance
    at, keyword = _shown(path), str(error.validator)  # "None" where the schema is False
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    if keyword in ("anyOf", "oneOf") and error.context:
        return _alternatives(error, at)
    if keyword == "required" and isinstance(wanted, list):
        missing = [name for name in wanted if name not in value]
        known = schema.get("properties", {})
        names = ", ".join(f"'{name}'{_type_of(known.get(name))}" for name in missing[:10])
        return f"{at}: required property missing: {names}" if path else f"required property missing: {names}"
    if keyword == "type":
        return f"{at} must be {_any_of_types(wanted)}, got {_a(json_type(value))}"
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
        return f"{at} must be {_any_of_types(names)}, got {_a(json_type(error.instance))}"
    return f"{at} fits none of the {len(wanted)} alternatives of the schema"


def _any_of_types(kinds: Any) -> str:
    names = [kinds] if isinstance(kinds, str) else [str(kind) for kind in kinds]
    return " or ".join(dict.fromkeys(map(_a, names)))


def _a(kind: str) -> str:
    return kind if kind == "null" else f"an {kind}" if kind[:1] in "aeiou" else f"a {kind}"


def _type_of(schema: Any) -> str:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    return f" ({kind})" if isinstance(kind, str) else ""


def _under(path: str, part: Any) -> str:
    if isinstance(part, int):
        return f"{path}[{part}]"
    return f"{path}.{part}" if path else str(part)


def _shown(path: str) -> str:
    if not path:
        return "the object"
    return f"'{path}'" if len(path) <= _PATH else f"'{path[: _PATH - 1]}…'"


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _differ(one: Any, other: Any) -> bool:
    return not _same(one, other)


def _same(one: Any, other: Any) -> bool:
    """Compare JSON values; ``1`` is not ``true``."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError("not JSON")
