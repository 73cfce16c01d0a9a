"""From a value to one that fits its schema, where only one reading is left."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from refrase_integrations.kimi.schema.facts import listed
from refrase_integrations.kimi.schema.jsontext import NUMBER, Unreadable, not_finite, parse, same
from refrase_integrations.kimi.schema.references import UnresolvedReference, resolve
from refrase_integrations.kimi.schema.rules import json_type
from refrase_integrations.kimi.schema.validation import content, shown, under, unusable, validator


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
    except unusable():
        return value, ()
    return result, tuple(repairs)


class _Coercion:
    """One walk over a value and its schema, both unchanged."""

    def __init__(self, root: Mapping[str, Any], repairs: list[str]) -> None:
        self._root, self._repairs = root, repairs
        self._validator = validator(content(root))

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
        for part in listed(schema.get("allOf")):
            value = self.fit(value, part, path, followed)
        for keyword in ("anyOf", "oneOf"):
            branches = listed(schema.get(keyword))
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
            if self._fits(read, branch) and not any(same(read, other) for other, _ in found):
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
            where = under(path, key)
            read = self.fit(child, wanted, where, frozenset())
            if read is None and key in properties and key not in required and not self._fits(None, wanted):
                self._did(where, "null was dropped")
                continue
            result[key] = read
        return value if len(result) == len(value) and all(result[key] is value[key] for key in result) else result

    def _list(self, value: list[Any], schema: Mapping[str, Any], path: str) -> list[Any]:
        items = schema.get("items")
        prefix = items if isinstance(items, list) else listed(schema.get("prefixItems"))
        rest = None if isinstance(items, list) else items
        result = [
            self.fit(child, prefix[index] if index < len(prefix) else rest, under(path, index), frozenset())
            for index, child in enumerate(value)
        ]
        return value if all(new is old for new, old in zip(result, value, strict=True)) else result

    def _did(self, path: str, what: str) -> None:
        self._repairs.append(f"{shown(path)}: {what}")


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
                parsed = parse(text)
            except Unreadable:
                return
            if parsed.doubled is None and not parsed.left_open and not_finite(parsed.value) is None:
                yield parsed.value
        elif text.lower() in ("true", "false"):
            yield text.lower() == "true"
        elif text.lower() in ("null", "none"):
            yield None
        elif len(text) < 400 and NUMBER.fullmatch(text):
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
