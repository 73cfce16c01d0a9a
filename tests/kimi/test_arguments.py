"""Reading what a model wrote as arguments: repaired where no doubt is left, else an error it can act on."""

import copy
import json
import socket
from types import MappingProxyType
from typing import Any

import pytest

from refrase_integrations.kimi.schema.arguments import Arguments, read_arguments
from refrase_integrations.kimi.schema.coercion import coerce
from refrase_integrations.kimi.schema.validation import find_error

TODO = {
    "type": "object",
    "properties": {"content": {"type": "string"}, "status": {"enum": ["pending", "done"]}},
    "required": ["content"],
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "deep": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "todos": {"type": "array", "items": {"$ref": "#/$defs/Todo"}},
        "where": {"type": "object", "properties": {"n": {"type": "integer"}}},
        "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "either": {"anyOf": [{"type": "integer"}, {"type": "boolean"}]},
        "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]},
    },
    "required": ["path"],
    "additionalProperties": False,
    "$defs": {"Todo": TODO},
}


def read(text: str, schema: Any = SCHEMA) -> Arguments:
    before = copy.deepcopy(schema)
    result = read_arguments(text, schema)
    assert schema == before
    if result.repairs:
        assert json.loads(result.text) == result.value
    else:
        assert result.text is text
    return result


# -- fine as it is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"path": "a"}',
        ' { "path" :\n"a",\t"count":3 } ',
        '{"path":"\\u00e4\\/\\ud83d\\ude00"}',
        '{"path":"a","limit":null,"ratio":3,"todos":[{"content":"x","status":"done"}]}',
        '{"path":"{\\"a\\": 1}"}',
        '{"path":"3"}',
        '{"path":"null"}',
    ],
)
def test_what_fits_passes_byte_for_byte(text: str) -> None:
    result = read(text)
    assert result.text is text
    assert (result.value, result.repairs, result.error) == (json.loads(text), (), None)


def test_without_a_schema_any_object_will_do() -> None:
    assert read('{"a": "1"}', None) == Arguments('{"a": "1"}', {"a": "1"})


# -- JSON text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"path": "a\nb\tc"}', {"path": "a\nb\tc"}),
        ('{"path": "a",}', {"path": "a"}),
        ('{"path": "a", "tags": ["x",],}', {"path": "a", "tags": ["x"]}),
        ('{"path": "a" "count": 1}', {"path": "a", "count": 1}),
        ('{path: "a", deep: True}', {"path": "a", "deep": True}),
        ("{'path': 'it\\'s', 'deep': True, 'limit': None}", {"path": "it's", "deep": True, "limit": None}),
        ('{"path": "a"}}', {"path": "a"}),
        ('{"path": "a"}{"path": "a"}', {"path": "a"}),
        ('```json\n{"path": "a"}\n```', {"path": "a"}),
        (r'{"path": "^\d+\.\w$"}', {"path": r"^\d+\.\w$"}),
        (r'{"path": "C:\users\docs"}', {"path": r"C:\users\docs"}),
        (r'{"path": "say \"\d\""}', {"path": r'say "\d"'}),
        ('"{\\"path\\": \\"a\\"}"', {"path": "a"}),
        ('[{"path": "a"}]', {"path": "a"}),
        ('{"path": "a", "path": "a"}', {"path": "a"}),
    ],
)
def test_slips_that_leave_no_doubt_are_repaired(text: str, value: Any) -> None:
    result = read(text)
    assert (result.value, result.error) == (value, None)
    assert result.repairs


@pytest.mark.parametrize(
    "text",
    [
        '{"path": "/home/us',
        '{"path": "/home/us\\',
        '{"path": "function() { return {}',
        '{"path": "function() { return {}}',
        '{"path": "a", "tags": ["x"',
        '{"path": "a", "todos": [{"content": "x"}',
        '{"path": "a", "count": 12',
        '{"path": "a", "deep": tru',
        '{"path": "a", "deep": t',
        '{"path": "a",',
        '{"path": "a", "count"',
        '{"path": "a", "count":',
        '{"path": "a", "count": -',
        "{",
        '{"path": "a"',
        '{"path": "a", "where": {"n": 1}',
        '{"path": "a", "tags": ["x"]',
        '{"path": "a" "count": true',
        '```json\n{"path": "a"\n```',
        '"{\\"path\\": \\"a\\""',
    ],
)
def test_what_was_cut_short_is_an_error_never_a_value(text: str) -> None:
    result = read(text)
    assert (result.value, result.repairs) == (None, ())
    assert "cut short" in (result.error or "")


# -- braces that are missing at the end ----------------------------------------------------------------------

TEXT = {"type": "string"}
NODE = {"type": "object", "properties": {"name": TEXT, "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}}}


def having(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **more}


BOTH = having({"a": TEXT, "b": TEXT}, required=["a"])
INSIDE = having({"a": TEXT, "in": BOTH})
EITHER = having({"in": {"oneOf": [having({"a": TEXT}), having({"b": TEXT}), {"type": "null"}]}})
LINKED = {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}}


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (BOTH, '{"a": "1", "b": "2"'),
        (BOTH, '{"b": "2", "a": "1" \n'),
        (BOTH, '{a: "1", "b": "2"'),
        (having({"a": TEXT}, additionalProperties=False), '{"a": "1"'),
        (INSIDE, '{"a": "1", "in": {"a": "1", "b": "2"'),
        (INSIDE, '{"a": "1", "in": {"a": "1"}'),
        (EITHER, '{"in": {"a": "1"}'),
        (EITHER, '{"in": {"a": "1", "b": "2"'),
        (LINKED, '{"name": "x", "next": {"name": "y", "next": null'),
        ({"allOf": [having({"a": TEXT}), having({"b": TEXT})]}, '{"a": "1", "b": "2"'),
        ({"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}, '{"a": "1"'),
    ],
)
def test_they_are_added_where_nothing_more_could_have_come(schema: Any, text: str) -> None:
    result = read(text, schema)
    assert result.value is not None, result.error
    assert {*result.repairs} & {"closing braces were added", "broken JSON was repaired"}
    assert "cut short" not in str(result.error)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (BOTH, '{"a": "1"'),
        (BOTH, '{"a": "1", "in": {"a": "1", "b": "2"'),
        (BOTH, '{"a": "1", "b": "2", "a": "1"'),
        (INSIDE, '{"in": {"a": "1", "b": "2"'),
        (INSIDE, '{"a": "1", "in": {"a": "1"'),
        (EITHER, '{"in": {"a": "1"'),
        (LINKED, '{"name": "x", "next": {"name": "y"'),
        ({"allOf": [having({"a": TEXT}), having({"b": TEXT})]}, '{"a": "1"'),
        (having({"a": TEXT}, additionalProperties=True), '{"a": "1"'),
        (having({"a": TEXT}, additionalProperties=TEXT), '{"a": "1"'),
        (having({"a": TEXT}, patternProperties={"^x-": TEXT}), '{"a": "1"'),
        (having({"a": TEXT}, **{"if": {}, "then": having({"b": TEXT})}), '{"a": "1"'),
        (having({"a": {"type": "object"}}), '{"a": {"x": "1"'),
        ({"$ref": "#/$defs/gone"}, '{"a": "1"'),
        ({"type": "object"}, '{"a": "1"'),
        ({}, '{"a": "1"'),
        (None, '{"a": "1"'),
        (having({"a": BOTH}), json.dumps({"a": '{"a": "1", "b": "2"'})),
    ],
)
def test_they_are_not_where_more_may_have_come(schema: Any, text: str) -> None:
    """An optional property that was cut off would be lost, and the call would be another one than the model meant."""
    assert read(text, schema).error
    assert "closing braces were added" not in read(text, schema).repairs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (r'{"path": "C:\Users\new"}', "double each"),
        (r'{"path": "\d\u00e4"}', "double each"),
        ('{"path": "he said "hi" to me"}', "backslash"),
        ('{"path": "a"}{"path": "b"}', "as one JSON object"),
        ('{"path": ...}', "not valid JSON (line 1, column 10)"),
        ('{"path": hello world}', "not valid JSON"),
        ('{"path": undefined}', "not valid JSON"),
        ('{"path": 007}', "not valid JSON"),
        ('{"path":, "count": 1}', "not valid JSON"),
        ("{'path': 'it's'}", "not valid JSON"),
        ("{1: 'a'}", "not valid JSON"),
        ("look_up(path='a')", "not valid JSON"),
        ('{"path": "a", "ratio": NaN}', "'ratio' is not a number"),
        ('{"path": "a", "ratio": -Infinity}', "'ratio' is not a number"),
        ('{"path": "a", "pair": [1e999]}', "'pair[0]' is not a number"),
        ('{"path": "a", "count": ' + "1" * 5000 + "}", "too many digits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"path":' * 100_000, "nested too deeply"),
        ("3", "must be a JSON object, got an integer"),
        ('["a"]', "must be a JSON object, got an array"),
        ("true", "must be a JSON object, got a boolean"),
    ],
)
def test_what_would_have_to_be_guessed_is_an_error(text: str, words: str) -> None:
    result = read(text)
    assert (result.value, result.repairs) == (None, ())
    assert words in (result.error or "")


def test_a_key_given_twice_with_two_values_stays_and_is_an_error() -> None:
    result = read('{"path": "a", "path": "b"}')
    assert result.value == {"path": "b"}
    assert result.error == "'path' is given twice, with different values; give it once"
    assert read('{"path": "a", "count": 1, "count": true}').error is not None


@pytest.mark.parametrize("text", ["", " \n", "null", '""'])
def test_no_arguments(text: str) -> None:
    assert read(text, {"type": "object", "properties": {}}).text == "{}"
    assert read(text, {"type": "object", "properties": {}}).error is None
    missing = read(text)
    assert (missing.value, missing.error) == ({}, "required property missing: 'path' (string)")


def test_ten_megabytes() -> None:
    text = json.dumps({"path": "x" * 10_000_000})
    assert read_arguments(text, SCHEMA).text is text
    assert read_arguments(text[:-2], SCHEMA).value is None
    repaired = read_arguments(text[:-1] + ",}", SCHEMA)  # a trailing comma behind a whole value loses nothing
    assert repaired.error is None
    assert repaired.value == json.loads(text)


def test_half_a_surrogate_pair_stays_sendable() -> None:
    result = read('{"path": "\\ud83d", "count": "1"}')
    assert result.value == {"path": "\ud83d", "count": 1}
    result.text.encode()


# -- values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("count", "3", 3),
        ("count", " -3 ", -3),
        ("count", 3.0, 3),
        ("count", "3.0", 3),
        ("ratio", "1.5", 1.5),
        ("ratio", "1e3", 1000),
        ("deep", "true", True),
        ("deep", "False", False),
        ("path", 3, "3"),
        ("path", 1.5, "1.5"),
        ("path", True, "true"),
        ("limit", "4", 4),
        ("limit", "null", None),
        ("tags", "x", ["x"]),
        ("tags", '["x", "y"]', ["x", "y"]),
        ("tags", ["x", 3], ["x", "3"]),
        ("todos", '[{"content": "x"}]', [{"content": "x"}]),
        ("todos", '[{"content": "x",}]', [{"content": "x"}]),
        ("todos", ['{"content": "x"}'], [{"content": "x"}]),
        ("todos", {"content": "x"}, [{"content": "x"}]),
        ("todos", [{"content": 3, "status": "done"}], [{"content": "3", "status": "done"}]),
        ("where", '{"n": "1"}', {"n": 1}),
        ("pair", ["1", 2], [1, "2"]),
    ],
)
def test_a_wrong_type_with_one_reading_is_read(name: str, given: Any, wanted: Any) -> None:
    value = {"path": "a", name: given}
    before = copy.deepcopy(value)
    result, repairs = coerce(value, SCHEMA)
    assert value == before
    assert json.dumps(result[name]) == json.dumps(wanted)
    assert repairs
    assert all(name in repair for repair in repairs)
    assert find_error(result, SCHEMA) is None
    assert coerce(result, SCHEMA) == (result, ())
    assert coerce(result, SCHEMA)[0] is result


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("count", "three"),
        ("count", 3.5),
        ("count", True),
        ("count", ""),
        ("count", "3,000"),
        ("count", [3]),
        ("ratio", "NaN"),
        ("deep", 1),
        ("deep", "yes"),
        ("path", None),
        ("path", ["a"]),
        ("path", {"a": 1}),
        ("tags", "[1, 2"),
        ("tags", "x, y"),
        ("either", "maybe"),
        ("todos", "x"),
        ("where", "[1]"),
    ],
)
def test_what_has_no_reading_or_several_is_left_and_told(name: str, given: Any) -> None:
    value = {"path": "a", name: given}
    result, repairs = coerce(value, SCHEMA)
    assert (result, repairs) == (value, ())
    error = find_error(value, SCHEMA)
    assert error is not None
    assert f"'{name}'" in error


def test_several_readings_are_none() -> None:
    schema = {
        "type": "object",
        "properties": {"x": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "integer"}]}},
    }
    assert coerce({"x": "3"}, schema)[0] == {"x": "3"}
    assert find_error({"x": "3"}, schema) == "'x' must be an array or an integer, got a string"


def test_null_for_an_optional_property_is_dropped_and_for_a_nullable_one_kept() -> None:
    assert coerce({"path": "a", "count": None, "limit": None}, SCHEMA)[0] == {"path": "a", "limit": None}
    nullable = {"type": "object", "properties": {"x": {"type": "string", "nullable": True, "enum": ["a"]}}}
    assert find_error({"x": None}, nullable) is None


def test_one_wrong_value_does_not_keep_the_others_from_being_read() -> None:
    result = read('{"path": "a", "count": "3", "deep": "maybe"}')
    assert result.value == {"path": "a", "count": 3, "deep": "maybe"}
    assert result.error == "'deep' must be a boolean, got a string"


# -- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({}, "required property missing: 'path' (string)"),
        ({"path": "a", "todos": [{"status": "done"}]}, "'todos[0]': required property missing: 'content' (string)"),
        (
            {"path": "a", "todos": [{"content": "a", "status": "SECRET"}]},
            '\'todos[0].status\' must be one of ["pending", "done"]',
        ),
        ({"path": "a", "where": {"n": "SECRET"}}, "'where.n' must be an integer, got a string"),
        ({"path": "a", "limit": "SECRET"}, "'limit' must be an integer or null, got a string"),
        (
            {"path": "a", "more": "SECRET"},
            "the object takes no property 'more'; it takes: "
            "path, count, ratio, deep, tags, todos, where, limit, either, pair",
        ),
    ],
)
def test_errors_name_the_path_and_what_is_wanted_and_no_value(value: Any, error: str) -> None:
    assert find_error(value, SCHEMA) == error


@pytest.mark.parametrize(
    ("schema", "value", "error"),
    [
        ({"minimum": 3}, 1, "'x' must be at least 3"),
        ({"exclusiveMaximum": 3}, 3, "'x' must be less than 3"),
        ({"minLength": 3}, "SECRET"[:2], "'x' must have at least 3 characters"),
        ({"pattern": "^a"}, "SECRET", "'x' must match the pattern \"^a\""),
        ({"maxItems": 1}, [1, 2], "'x' must have at most 1 items"),
        ({"const": "a"}, "SECRET", "'x' must be \"a\""),
        ({"not": {"type": "string"}}, "SECRET", "'x' does not fit the schema's 'not'"),
        ({"minimum": 3, "exclusiveMinimum": True}, 2, "'x' must be at least 3"),
        ({"items": [{"type": "string"}]}, [1], "'x[0]' must be a string, got an integer"),
    ],
)
def test_the_words_of_other_errors(schema: Any, value: Any, error: str) -> None:
    assert find_error({"x": value}, {"properties": {"x": schema}}) == error


def test_a_property_that_is_ruled_out_is_told() -> None:
    assert "rules out" in (find_error({"x": "SECRET"}, {"properties": {"x": False}}) or "")


def test_the_closest_alternative_is_told() -> None:
    kinds = [
        {"type": "object", "properties": {"kind": {"const": kind}, "n": {"type": "integer"}}, "required": ["kind", "n"]}
        for kind in ("a", "b")
    ]
    assert "alternatives" in (find_error({"x": {"kind": "a"}}, {"properties": {"x": {"anyOf": kinds}}}) or "")
    with_text = [{"type": "string"}, kinds[0]]
    assert (
        find_error({"x": {"kind": "a"}}, {"properties": {"x": {"anyOf": with_text}}})
        == "'x': required property missing: 'n' (integer)"
    )


def test_long_paths_and_many_errors_are_cut() -> None:
    error = find_error({"k" * 500: 1}, {"additionalProperties": {"type": "string"}})
    assert error is not None
    assert len(error) < 150
    many = find_error([1, 2, 3, 4, 5], {"items": {"type": "string"}})
    assert many is not None
    assert many.endswith("and 2 more")


def test_a_schema_that_cannot_be_evaluated_rules_nothing_out() -> None:
    for schema in (
        {"type": "strange"},
        {"$ref": "#/$defs/Gone"},
        {"properties": {"a": {"pattern": "["}}},
        {"properties": 3},
    ):
        assert read_arguments('{"a": "x"}', schema) == Arguments('{"a": "x"}', {"a": "x"})


def test_nothing_is_ever_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert read_arguments('{"a": 1}', {"properties": {"a": {"$ref": "http://127.0.0.1:9/a.json"}}}).error is None


def test_the_draft_that_the_schema_names_is_used() -> None:
    draft = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {"a": {"items": [{"type": "integer"}]}},
    }
    assert find_error({"a": ["x"]}, draft) is not None
    assert find_error({"a": [1, "x"]}, draft) is None


def test_any_mapping_is_a_schema() -> None:
    schema = MappingProxyType({"type": "object", "properties": MappingProxyType({"n": {"type": "integer"}})})
    assert read_arguments('{"n": "1"}', schema).value == {"n": 1}
