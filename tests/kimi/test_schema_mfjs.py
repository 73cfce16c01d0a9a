"""Moonshot's own cases, the shapes of published tools, and what becomes of each keyword."""

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from refrase_integrations.kimi.schema import SERVED, InvalidToolSchema, Note, lint_tools, normalise, violations
from refrase_integrations.kimi.schema.arguments import read_arguments
from refrase_integrations.kimi.schema.validation import find_error

CASES = Path(__file__).parents[3] / "shared" / "data" / "mfjs-cases.jsonl"
REAL = sorted((Path(__file__).parent / "real_schemas").glob("*.json"))
ANY = {"type": ["string", "number", "boolean", "object", "array", "null"]}


def cases() -> Iterator[Any]:
    if not CASES.exists():
        yield pytest.param({}, marks=pytest.mark.skip(reason=f"{CASES} is absent"))
        return
    for line in CASES.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        yield pytest.param(case, id=case["id"])


def real_tools() -> Iterator[Any]:
    for path in REAL:
        for tool in json.loads(path.read_text(encoding="utf-8"))["tools"]:
            yield pytest.param(tool, id=f"{path.stem}-{tool['name']}")


def parameter(schema: Any, **more: Any) -> Any:
    """Normalise ``schema`` as the parameter ``x`` of a tool and return what it became."""
    return normalise({"type": "object", "properties": {"x": schema}, **more}, root="object").schema["properties"]["x"]


# -- Moonshot's cases ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [*cases()])
def test_the_verdict_is_moonshots(case: dict[str, Any]) -> None:
    found = violations(case["schema_text"])
    assert (not found) == case["valid"]
    if not case["valid"]:
        assert any(case["error_contains"].lower() in violation.message.lower() for violation in found)


@pytest.mark.parametrize("case", [*cases()])
def test_valid_passes_unchanged_and_invalid_is_mended_or_refused(case: dict[str, Any]) -> None:
    try:
        schema = json.loads(case["schema_text"])
    except ValueError:
        return
    before = copy.deepcopy(schema)
    try:
        result = normalise(schema)
    except InvalidToolSchema:
        assert not case["valid"]
    else:
        assert violations(result.schema) == ()
        assert (result.schema is schema) == (case["valid"] and schema is not None)
        assert bool(result.notes) == (not case["valid"] and schema is not None)
    assert schema == before


@pytest.mark.parametrize("case", [*cases()])
def test_the_linter_names_what_moonshot_refuses_and_where_nothing_mends_it(case: dict[str, Any]) -> None:
    try:
        schema = json.loads(case["schema_text"])
    except ValueError:
        return
    findings = lint_tools([{"type": "function", "function": {"name": "book", "parameters": schema}}])
    if not case["valid"]:
        assert findings
    assert all(finding.tool == "book" and finding.message and finding.fix for finding in findings)
    path = refused_at(schema) if isinstance(schema, dict) else None
    assert path is None or path in {finding.path for finding in findings}


def refused_at(schema: Any) -> str | None:
    try:
        normalise(schema, root="object")
    except InvalidToolSchema as refused:
        return refused.path
    return None


# -- published tools -----------------------------------------------------------------------------------------


def test_forty_tools_are_at_hand() -> None:
    assert len([*real_tools()]) >= 40


@pytest.mark.parametrize("tool", [*real_tools()])
def test_a_published_tool_survives(tool: dict[str, Any]) -> None:
    original = tool["parameters"]
    result = normalise(original, root="object").schema
    assert violations(result) == ()
    assert result["type"] == "object"
    assert set(result["properties"]) == set(original["properties"])
    assert result.get("required", []) == original.get("required", [])
    for everything in (False, True):
        arguments = filled(result, result, everything=everything)
        Draft202012Validator(result).validate(arguments)
        assert find_error(arguments, original) is None
        text = json.dumps(arguments)
        assert read_arguments(text, original).text is text
    assert lint_tools([{"type": "function", "function": {**tool, "parameters": result}}]) == ()


def filled(schema: Mapping[str, Any], root: Mapping[str, Any], *, everything: bool, depth: int = 0) -> Any:
    """Make a value that fits a normalised schema, as a model under constrained decoding would."""
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].split("/")[1:]:
            target = target[part]
        return filled(target, root, everything=everything, depth=depth + 1)
    if "anyOf" in schema:
        return filled(schema["anyOf"][-1 if depth > 3 else 0], root, everything=everything, depth=depth + 1)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema["type"] if isinstance(schema["type"], str) else schema["type"][0]
    if kind == "object":
        names = schema.get("properties", {}) if everything and depth < 6 else schema.get("required", ())
        return {
            name: filled(schema["properties"][name], root, everything=everything, depth=depth + 1) for name in names
        }
    if kind == "array":
        size = schema.get("minItems", int(everything and depth < 6))
        return [filled(schema.get("items", {"type": "string"}), root, everything=everything, depth=depth + 1)] * size
    if kind == "string":
        return {"^[A-Z][A-Z0-9_]+$": "PROJ", r"^\d{4}-\d{2}-\d{2}": "2026-01-31"}.get(schema.get("pattern", ""), "text")
    return {"boolean": True, "null": None}.get(kind, max(schema.get("minimum", 1), 1))


# -- keyword by keyword --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"enum": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
        ({"const": 3}, {"type": "integer", "enum": [3]}),
        ({"const": None}, {"type": "null"}),
        ({"properties": {"a": {"type": "string"}}}, {"type": "object", "properties": {"a": {"type": "string"}}}),
        ({"items": {"type": "string"}}, {"type": "array", "items": {"type": "string"}}),
        ({"minLength": 1}, {"type": "string", "minLength": 1}),
        ({"description": "Anything."}, {"type": ANY["type"], "description": "Anything."}),
        (True, ANY),
        ({"type": "STRING"}, {"type": "string"}),
        ({"type": "float"}, {"type": "number"}),
        ("string", {"type": "string"}),
        ({"type": "string", "nullable": True}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (
            {"type": ["string", "null"], "maxLength": 3},
            {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]},
        ),
        (
            {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "title": "X"},
            {"title": "X", "description": "default: null", "anyOf": [{"type": "string"}, {"type": "null"}]},
        ),
        (
            {"type": "string", "anyOf": [{"minLength": 1}, {"maxLength": 9}]},
            {"anyOf": [{"type": "string", "minLength": 1}, {"type": "string", "maxLength": 9}]},
        ),
        (
            {"oneOf": [{"type": "string"}, {"type": "integer"}], "description": "Id."},
            {"description": "Id.", "anyOf": [{"type": "string"}, {"type": "integer"}]},
        ),
        ({"oneOf": [{"const": "a"}, {"const": "b"}]}, {"type": "string", "enum": ["a", "b"]}),
        (
            {"enum": ["a", 1, None, 2.5]},
            {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "number", "enum": [1, 2.5]}, {"type": "null"}]},
        ),
        (
            {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}}, {"required": ["a"]}]},
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        ),
        (
            {"allOf": [{"type": "number", "minimum": 1}, {"type": "integer", "minimum": 0}]},
            {"type": "integer", "minimum": 1},
        ),
        (
            {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
            {
                "type": "array",
                "description": 'item 1: {"type":"integer"}; item 2: {"type":"string"}',
                "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        (
            {"type": "array", "items": [{"type": "integer"}], "additionalItems": False},
            {"type": "array", "description": 'item 1: {"type":"integer"}', "items": {"type": "integer"}, "maxItems": 1},
        ),
        ({"type": "string", "format": "date-time"}, {"type": "string", "description": "format: date-time"}),
        (
            {"type": "string", "format": "uri", "description": "Address."},
            {"type": "string", "description": "Address. (format: uri)"},
        ),
        (
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "number", "description": "must be greater than 0", "minimum": 0},
        ),
        (
            {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10},
            {"type": "integer", "minimum": 1, "maximum": 9},
        ),
        (
            {"type": "number", "minimum": 2, "exclusiveMinimum": True},
            {"type": "number", "description": "must be greater than 2", "minimum": 2},
        ),
        ({"type": "integer", "multipleOf": 5}, {"type": "integer", "description": "must be a multiple of 5"}),
        (
            {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
            {"type": "array", "description": "items must be unique", "items": {"type": "string"}},
        ),
        ({"type": "string", "examples": ["a", "b"]}, {"type": "string", "description": 'examples: "a", "b"'}),
        ({"type": "string", "x-order": 1}, {"type": "string"}),
        (
            {"type": "string", "minLength": 5, "maxLength": 2},
            {"type": "string", "description": "minLength 5 and maxLength 2"},
        ),
        ({"type": "string", "items": {"type": "string"}}, {"type": "string"}),
        (
            {"type": "object", "patternProperties": {"^S_": {"type": "string"}}, "additionalProperties": False},
            {
                "type": "object",
                "description": 'properties that match ^S_: {"type":"string"}',
                "additionalProperties": {"type": "string"},
            },
        ),
        (
            {
                "type": "object",
                "properties": {"anyOf": {"type": "string"}},
                "required": ["anyOf"],
                "additionalProperties": False,
            },
            {"type": "object", "description": 'also takes a property \'anyOf\', required: {"type":"string"}'},
        ),
        ({"type": "object", "required": ["a"]}, {"type": "object", "properties": {"a": ANY}, "required": ["a"]}),
        (
            {"type": "object", "required": ["a"], "additionalProperties": {"type": "integer"}},
            {
                "type": "object",
                "properties": {"a": {"type": "integer"}},
                "required": ["a"],
                "additionalProperties": {"type": "integer"},
            },
        ),
        (
            {"not": {"type": "null"}, "type": "string"},
            {"type": "string", "description": 'must not match {"type":"null"}'},
        ),
        (
            {"type": "object", "if": {"required": ["a"]}, "then": {"required": ["b"]}},
            {"type": "object", "description": 'if it matches {"required":["a"]}, it must match {"required":["b"]}'},
        ),
    ],
)
def test_a_keyword(given: Any, wanted: Any) -> None:
    # The unsupported keyword beside it makes sure that the document is rewritten.
    assert parameter(given, examples=[1]) == wanted


def test_more_than_a_thousand_values_are_told_in_words() -> None:
    result = parameter({"type": "integer", "enum": [*range(1001)]})
    assert result["type"] == "integer"
    assert result["description"].startswith("one of [0,1,2")


def test_references_are_inlined_where_they_do_not_recurse() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/definitions/A", "description": "Here."}, "b": {"$ref": "#/definitions/A"}},
        "definitions": {"A": {"description": "An A.", "type": "object", "properties": {"n": {"type": "integer"}}}},
    }
    assert normalise(schema).schema == {
        "type": "object",
        "properties": {
            "a": {"type": "object", "description": "Here.\nAn A.", "properties": {"n": {"type": "integer"}}},
            "b": {"type": "object", "description": "An A.", "properties": {"n": {"type": "integer"}}},
        },
    }


def test_recursion_is_kept_and_no_reference_meets_a_second_description() -> None:
    schema = {
        "$ref": "#/definitions/x~1Node",
        "definitions": {
            "x/Node": {
                "type": "object",
                "description": "A node.",
                "properties": {
                    "value": {"type": "integer"},
                    "next": {"$ref": "#/definitions/x~1Node", "description": "The next."},
                    "kids": {"type": "array", "items": {"$ref": "#/definitions/x~1Node"}},
                },
                "required": ["value"],
            }
        },
    }
    reference = {"$ref": "#/$defs/x_Node"}
    properties = {
        "value": {"type": "integer"},
        "next": {"description": "The next.\nA node.", **reference},
        "kids": {"type": "array", "items": {"description": "A node.", **reference}},
    }
    assert normalise(schema, root="object").schema == {
        "type": "object",
        "description": "A node.",
        "properties": properties,
        "required": ["value"],
        "$defs": {"x_Node": {"type": "object", "properties": properties, "required": ["value"]}},
    }


def test_what_stands_beside_a_recursive_reference_is_written_out_once() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node", "minProperties": 1}}}
    result = normalise(
        {"type": "object", "properties": {"top": {"$ref": "#/$defs/Node"}}, "$defs": {"Node": node}}
    ).schema
    assert violations(result) == ()
    assert "at least 1 properties" in json.dumps(result)


def test_a_diamond_of_references_does_not_explode() -> None:
    levels = {
        f"D{n}": {"anyOf": [{"$ref": f"#/$defs/D{n + 1}"}, {"type": "array", "items": {"$ref": f"#/$defs/D{n + 1}"}}]}
        for n in range(40)
    }
    schema = {"type": "object", "properties": {"x": {"$ref": "#/$defs/D0"}}, "$defs": {**levels, "D40": {"const": 1}}}
    result = normalise(schema).schema
    assert violations(result) == ()
    assert len(json.dumps(result)) < 10_000


def test_deep_structure_is_told_as_json() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for level in range(8):
        schema = {"type": "object", "properties": {f"p{level}": schema}, "required": [f"p{level}"]}
    told = normalise(schema).schema
    assert violations(told) == ()
    assert '"p0"' in json.dumps(told["properties"]).replace("\\", "")
    assert normalise(schema, limits=SERVED).schema is schema


def test_the_root_becomes_an_object() -> None:
    empty = {"type": "object", "properties": {}}
    for nothing in (None, {}, True, {"type": "object"}):
        assert (
            normalise(nothing, root="object").schema == {**empty} or normalise(nothing, root="object").schema is nothing
        )
    assert normalise({"properties": {"a": {"type": "string"}}}, root="object").schema["type"] == "object"
    union = {"anyOf": [{"properties": {"a": {"type": "string"}}}, {"type": "string"}]}
    assert normalise(union, root="object").schema == {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("text", ""),
        (False, ""),
        ([], ""),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/Gone"}}}, "properties.a"),
        ({"type": "object", "properties": {"a": {"$ref": "https://example.com/a.json"}}}, "properties.a"),
        ({"type": "object", "properties": {"a": {"type": "number", "default": float("nan")}}}, "properties.a.default"),
        ({"type": "object", "properties": {"a": {"default": object()}}}, "properties.a.default"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, ""),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, ""),
        ({"type": "string"}, ""),
    ],
)
def test_what_cannot_be_mended_is_refused_with_its_path(schema: Any, path: str) -> None:
    with pytest.raises(InvalidToolSchema) as caught:
        normalise(schema, root="object")
    assert caught.value.path == path
    assert caught.value.reason


def test_a_cycle_of_objects_is_refused() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    schema["properties"]["self"] = schema
    with pytest.raises(InvalidToolSchema, match="contains itself"):
        normalise(schema)
    assert violations(schema)


def test_any_mapping_will_do_and_notes_name_the_place() -> None:
    schema = MappingProxyType(
        {"type": "object", "properties": MappingProxyType({"a": {"type": "string", "format": "uri"}})}
    )
    result = normalise(schema)
    assert result.schema == {"type": "object", "properties": {"a": {"type": "string", "description": "format: uri"}}}
    assert result.notes == (Note("properties.a", "format is told in the description"),)


def test_key_order_of_the_original_does_not_matter_but_for_properties() -> None:
    one = {"type": "object", "properties": {"a": {"format": "uri", "type": "string", "minLength": 1}}}
    other = {"properties": {"a": {"minLength": 1, "type": "string", "format": "uri"}}, "type": "object"}
    assert json.dumps(normalise(one).schema) == json.dumps(normalise(other).schema)
