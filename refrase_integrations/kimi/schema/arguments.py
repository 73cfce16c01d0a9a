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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from refrase_integrations.kimi.schema.coercion import coerce
from refrase_integrations.kimi.schema.facts import listed
from refrase_integrations.kimi.schema.jsontext import CUT, GUESSED, Unreadable, parse_object, written
from refrase_integrations.kimi.schema.references import UnresolvedReference, resolve
from refrase_integrations.kimi.schema.validation import find_error, fits, shown


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


def _read(text: str, schema: Mapping[str, Any] | None) -> Arguments:
    try:
        value, repairs, doubled, left_open = parse_object(text)
    except Unreadable as unreadable:
        return Arguments(text, None, error=str(unreadable))
    if left_open and not _is_finished(value, schema, left_open):
        return Arguments(text, None, error=CUT)
    done = [*repairs]
    error: str | None = None
    if schema is not None and not fits(value, schema):
        value, coerced = coerce(value, schema)
        done += coerced
        error = find_error(value, schema)
    if GUESSED in repairs and error is not None:
        return Arguments(text, None, error=f"the arguments are not valid JSON, and when repaired: {error}")
    if doubled is not None:
        error = f"{shown(doubled)} is given twice, with different values; give it once"
    read = Arguments(text, value, tuple(done), error)
    return replace(read, text=written(value)) if done else read


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
        parts = [part for keyword in ("allOf", "anyOf", "oneOf") for part in listed(schema.get(keyword))]
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
