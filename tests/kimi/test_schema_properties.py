"""What must hold for every schema: idempotent, pure, valid or refused, never tighter than the original."""

import copy
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from refrase_integrations.kimi.schema import InvalidToolSchema, lint_tools, normalise, violations

SLOW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = st.sampled_from(["a", "b", "c", "x/y", "required", "", "$ref", "type"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([0.5, 1.0, -2.5]),
    st.sampled_from(["", "a", "ab", "ä"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)
JUNK = st.recursive(
    SCALARS | st.sampled_from(["string", "object", "#", "#/$defs/A", "#/properties/a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "properties",
                    "items",
                    "anyOf",
                    "oneOf",
                    "allOf",
                    "$ref",
                    "enum",
                    "const",
                    "required",
                    "additionalProperties",
                    "minimum",
                    "maxLength",
                    "nullable",
                    "prefixItems",
                    "patternProperties",
                    "not",
                    "default",
                    "description",
                    "$defs",
                    "definitions",
                    "format",
                    "minItems",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name.replace("_ref", "$ref"): field for name, field in fields.items()})


def typed(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Schemas with a type or an applicator: where nothing is left to an author's meaning."""
    small = st.integers(0, 3)
    number = optional(
        minimum=st.integers(-3, 0),
        maximum=st.integers(1, 4),
        exclusiveMinimum=st.sampled_from([-1, 0, 0.5]),
        multipleOf=small.map(lambda n: n + 1),
        exclusiveMaximum=st.sampled_from([1, 2.5]),
        enum=st.lists(st.integers(-2, 3), min_size=1, max_size=3),
    )
    text = optional(
        minLength=small,
        maxLength=small,
        pattern=st.sampled_from(["^a", "b$"]),
        format=st.just("date-time"),
        enum=st.lists(st.sampled_from(["a", "ab", ""]), min_size=1, max_size=2),
    )
    array = optional(
        items=inner,
        prefixItems=st.lists(inner, min_size=1, max_size=2),
        minItems=small,
        maxItems=small,
        uniqueItems=st.booleans(),
        contains=inner,
    )
    thing = optional(
        properties=st.dictionaries(NAMES, inner, max_size=3),
        required=st.lists(NAMES, max_size=2, unique=True),
        additionalProperties=st.booleans() | inner,
        patternProperties=st.dictionaries(st.sampled_from(["^a", "b"]), inner, max_size=1),
        minProperties=small,
        description=st.just("A thing."),
        default=VALUES,
    )
    kinds = [
        number.map(lambda schema: {"type": "integer", **schema}),
        number.map(lambda schema: {"type": "number", **schema}),
        text.map(lambda schema: {"type": "string", **schema}),
        array.map(lambda schema: {"type": "array", **schema}),
        thing.map(lambda schema: {"type": "object", **schema}),
        thing.map(lambda schema: {"type": ["object", "null"], **schema}),
        st.lists(
            st.sampled_from(["string", "integer", "number", "null", "boolean", "array"]),
            min_size=1,
            max_size=3,
            unique=True,
        ).map(lambda kinds: {"type": kinds}),
        st.lists(VALUES, min_size=1, max_size=4).map(lambda values: {"enum": values}),
        VALUES.map(lambda value: {"const": value}),
        st.just({}),
        st.booleans(),
        st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
        st.lists(inner, min_size=1, max_size=2).map(lambda branches: {"oneOf": branches, "title": "One"}),
        st.tuples(inner, thing).map(lambda two: {"allOf": [two[0], {"type": "object", **two[1]}]}),
        st.tuples(inner, inner).map(lambda two: {"allOf": [*two]}),
        st.tuples(st.lists(inner, min_size=1, max_size=2), text).map(
            lambda two: {**two[1], "anyOf": two[0], "type": "string"}
        ),
        inner.map(lambda schema: {"type": "object", "properties": {"a": schema}, "not": {"required": ["z"]}}),
    ]
    return st.one_of(kinds)


REFERENCES = st.sampled_from(
    [
        {"$ref": "#/$defs/A"},
        {"$ref": "#/$defs/B"},
        {"$ref": "#"},
        {"$ref": "#/$defs/B", "description": "Beside."},
        {"$ref": "#/$defs/A", "minProperties": 1},
        {"$ref": "#/definitions/x~1y"},
    ]
)
SCHEMAS = st.recursive(st.sampled_from([{"type": "string"}, {"type": "integer"}]) | REFERENCES, typed, max_leaves=12)
DOCUMENTS = st.tuples(SCHEMAS, SCHEMAS, SCHEMAS, SCHEMAS).map(
    lambda four: {
        "$defs": {"A": four[1], "B": four[2]},
        "definitions": {"x/y": four[3]},
        "type": "object",
        "properties": {"a": four[0]},
    }
)


@SLOW
@given(DOCUMENTS | JUNK)
def test_valid_or_refused_pure_and_idempotent(schema: Any) -> None:
    before = copy.deepcopy(schema)
    try:
        once = normalise(schema)
    except InvalidToolSchema:
        return
    finally:
        assert repr(schema) == repr(before)
    assert violations(once.schema) == ()
    assert normalise(once.schema).schema is once.schema
    assert json.dumps(normalise(copy.deepcopy(schema)).schema) == json.dumps(once.schema)
    if once.notes == () and isinstance(schema, dict):
        assert once.schema is schema


@SLOW
@given(DOCUMENTS | JUNK)
def test_parameters_of_a_tool_are_an_object(schema: Any) -> None:
    try:
        once = normalise(schema, root="object").schema
    except InvalidToolSchema:
        return
    assert violations(once) == ()
    assert once.get("type") == "object" or "anyOf" in once
    assert normalise(once, root="object").schema is once


@SLOW
@given(JUNK)
def test_the_linter_never_raises(schema: Any) -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "description": "Looks up.", "parameters": schema}}]
    for finding in lint_tools(tools):
        assert finding.tool == "look_up"
        assert finding.message
        assert finding.fix


@st.composite
def values_of(draw: st.DrawFn, schema: Any, root: Any, depth: int = 0) -> Any:
    """Draw a value that probably fits ``schema``."""
    if not isinstance(schema, dict) or not schema or depth > 5 or draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    if "$ref" in schema:
        name = schema["$ref"]
        target = {"#": root, "#/$defs/A": root["$defs"]["A"], "#/$defs/B": root["$defs"]["B"]}.get(
            name, root["definitions"]["x/y"]
        )
        return draw(values_of(target, root, depth + 1))
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    if "allOf" in schema:
        parts = [draw(values_of(part, root, depth + 1)) for part in schema["allOf"]]
        if all(isinstance(part, dict) for part in parts):
            return {key: value for part in parts for key, value in part.items()}
        return parts[0]
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return draw(values_of(draw(st.sampled_from(schema[keyword])), root, depth + 1))
    kinds = schema.get("type", "object")
    kind = draw(st.sampled_from(kinds)) if isinstance(kinds, list) else kinds
    if kind == "object":
        properties = schema.get("properties", {})
        names = {name for name in properties if draw(st.booleans())} | {*schema.get("required", ())}
        names |= set(draw(st.lists(st.sampled_from(["a", "b", "bb", "zz"]), max_size=1)))
        more = schema.get("additionalProperties", {})
        return {name: draw(values_of(properties.get(name, more), root, depth + 1)) for name in sorted(names)}
    if kind == "array":
        size = draw(st.integers(schema.get("minItems", 0), max(schema.get("minItems", 0), schema.get("maxItems", 3))))
        places = [*schema.get("prefixItems", ()), *[schema.get("items", {})] * size][:size]
        return [draw(values_of(place, root, depth + 1)) for place in places]
    simple = {"string": st.text("ab", max_size=3), "null": st.none(), "boolean": st.booleans()}
    return draw(
        simple.get(kind, st.integers(-3, 4) | st.sampled_from([0.5, 1.5]) if kind == "number" else st.integers(-3, 4))
    )


@settings(SLOW, max_examples=300)
@given(st.data())
def test_a_value_that_fits_the_original_fits_the_rewritten_schema(data: st.DataObject) -> None:
    schema = data.draw(DOCUMENTS)
    try:
        once = normalise(schema).schema
    except InvalidToolSchema:
        return
    value = data.draw(values_of(schema, schema))
    original = Draft202012Validator(schema)
    try:
        fits = original.is_valid(value)
    except RecursionError:
        return
    if fits:
        errors = [error.message for error in Draft202012Validator(once).iter_errors(value)]
        assert errors == [], json.dumps([schema, once])
