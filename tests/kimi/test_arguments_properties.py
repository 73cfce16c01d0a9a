"""What holds for every text: no crash, no silent loss, and what fits passes byte for byte."""

import copy
import json
import math
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from refrase_integrations.kimi.schema.arguments import read_arguments
from refrase_integrations.kimi.schema.coercion import coerce
from refrase_integrations.kimi.schema.validation import find_error

FAST = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS | st.sampled_from(["3", "true", "[1]", '{"a": 1}', "null", "1.5"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc") | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)
KINDS = st.sampled_from(["string", "integer", "number", "boolean", "null", "object", "array"])
SCHEMAS = st.recursive(
    KINDS.map(lambda kind: {"type": kind}) | st.just({}) | st.just({"enum": [1, "a", None]}) | st.just({"$ref": "#"}),
    lambda inner: (
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(
            lambda named: {"type": "object", "properties": named}
        )
        | inner.map(lambda items: {"type": "array", "items": items})
        | st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches})
        | st.lists(KINDS, min_size=1, max_size=3, unique=True).map(lambda kinds: {"type": kinds})
    ),
    max_leaves=8,
)
ROOTS = st.dictionaries(st.sampled_from("abc"), SCHEMAS, max_size=3).map(
    lambda named: {"type": "object", "properties": named}
)
BROKEN = st.text("{}[]\",:\\'abnu0123. \n-trueNonl", max_size=25) | st.text(max_size=25)


@FAST
@given(BROKEN | BROKEN.map(lambda text: '{"a": ' + text), ROOTS | st.none())
@example('{"a": "x\\', None)
@example("{'a': b'x'}", None)
@example("{'a': {1, 2}}", None)
@example("\ud800", None)
@example('{"a": "\x00"}', None)
def test_no_text_makes_it_raise(text: str, schema: Any) -> None:
    result = read_arguments(text, schema)
    assert result.value is not None or result.error
    if result.value is None or not result.repairs:
        assert result.text is text
    else:
        assert json.loads(result.text) == result.value
        assert read_arguments(result.text, schema).value == result.value
    assert math.inf not in (result.value or {}).values()


@FAST
@given(OBJECTS, ROOTS)
def test_what_fits_passes_byte_for_byte_and_the_rest_settles(value: Any, schema: Any) -> None:
    text = json.dumps(value, separators=(" ,", ":  "))
    before = copy.deepcopy((value, schema))
    fits = find_error(value, schema) is None
    result = read_arguments(text, schema)
    once, repairs = coerce(value, schema)
    assert (value, schema) == before
    if fits:
        assert result.text is text
        assert once is value
        assert repairs == ()
    assert coerce(once, schema) == (once, ())
    assert result.error == find_error(once, schema)


@FAST
@given(
    st.dictionaries(st.sampled_from("abc"), st.text(max_size=6) | st.lists(st.integers(), max_size=3), max_size=3),
    st.data(),
)
def test_arguments_cut_anywhere_are_whole_or_an_error(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value)
    end = data.draw(st.integers(1, len(text)))
    result = read_arguments(text[:end], None)
    if result.value is not None:
        # Only a prefix of the pairs, each of them whole.
        assert [*result.value.items()] == [*value.items()][: len(result.value)]


@FAST
@given(OBJECTS)
def test_json_inside_a_string_reads_as_itself(value: Any) -> None:
    assert read_arguments(json.dumps(json.dumps(value)), None).value == value


@FAST
@given(st.text(max_size=20))
def test_errors_quote_no_value(secret: str) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"enum": ["q"]}, "c": {"pattern": "^Q{40}$"}},
    }
    marked = f"SECRET{secret}"
    result = read_arguments(json.dumps({"a": marked, "b": marked, "c": marked}), schema)
    assert result.error is not None
    assert "SECRET" not in result.error
    assert "SECRET" not in "".join(result.repairs)
