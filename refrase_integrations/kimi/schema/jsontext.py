"""From the text that a model wrote to a JSON object, mended where that leaves no doubt."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from refrase_integrations.kimi.schema.rules import json_type
from refrase_integrations.kimi.schema.validation import article, shown, under

_REPAIRABLE = 200_000
"""Most characters of a text that is repaired: the library needs about 0.12 s for a million when all goes
well."""
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
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
CUT = "the arguments were cut short; send them again, complete, and split very long content"
"""What the model is told where more was coming."""
GUESSED = "broken JSON was repaired"
"""The repair that a library did: it counts only where the result fits the schema."""


class Unreadable(ValueError):
    """The text is no JSON object, and cannot be made one without guessing."""


class Parsed(NamedTuple):
    """What a text was read as."""

    value: Any
    repairs: tuple[str, ...]
    doubled: str | None
    """Path of a key that is given twice with different values."""
    left_open: int = 0
    """Objects that were not closed: the outermost, its last value, the last value of that, and so on."""


def written(value: Any) -> str:
    """Return a value as JSON text that UTF-8 can carry."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can escape it, UTF-8 cannot carry it
        return json.dumps(value)
    return text


def parse_object(text: str) -> Parsed:
    """Parse ``text`` as an object, repairing what leaves no doubt."""
    if not text.strip():
        return Parsed({}, ("empty arguments are read as {}",), None)
    value, repairs, doubled, left_open = parse(text)
    for _ in range(2):
        if not isinstance(value, str):
            break
        if not value.strip():
            return Parsed({}, (*repairs, "empty arguments are read as {}"), None)
        value, more, doubled, left_open = parse(value)
        repairs += ("JSON inside a string was unwrapped", *more)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value, repairs = value[0], (*repairs, "the object was taken out of a list of one")
    if value is None:
        value, repairs = {}, (*repairs, "null is read as {}")
    if not isinstance(value, dict):
        raise Unreadable(f"the arguments must be a JSON object, got {article(json_type(value))}")
    odd = not_finite(value)
    if odd is not None:
        raise Unreadable(f"{shown(odd)} is not a number that JSON has; give a finite number, a string or null")
    return Parsed(value, repairs, doubled, left_open)


def parse(text: str) -> Parsed:
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
            raise Unreadable("the arguments hold a number with too many digits") from None
    if any(_two_ways(_kinds(string)) for string in _STRING.findall(text)):
        raise Unreadable("a string holds backslashes that can be read in two ways; double each that is meant as one")
    fenced = _FENCE.fullmatch(text)
    if fenced is not None:
        parsed = parse(fenced[1])
        return parsed._replace(repairs=("a code fence was taken off", *parsed.repairs))
    broken = Unreadable(f"the arguments are not valid JSON{where}; send them again, complete and as one JSON object")
    if not text.lstrip().startswith(("{", "[", '"')):
        raise broken
    bare = _STRING.sub('""', text)
    if "'" in bare and len(text) <= _REPAIRABLE:
        return _python(text, broken)
    if _cut(bare):
        raise Unreadable(CUT)
    if _LOOSE.search(bare):
        raise Unreadable(f"the arguments are not valid JSON{where}; a quote inside a string needs a backslash")
    if len(text) > _REPAIRABLE or not all(_known(token) for token in _TOKEN.finditer(bare)):
        raise broken
    left_open = len(_opened(bare))
    try:
        parsed = _loads(text + _missing(bare), ("closing braces were added",), strict=False)
    except ValueError:
        parsed = _repaired(text, broken)
    if left_open and parsed.repairs[1:]:  # a repeated key: which object was left open last is not known
        raise Unreadable(CUT)
    return parsed._replace(left_open=left_open)


def _loads(text: str, repairs: tuple[str, ...], *, strict: bool = True) -> Parsed:
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
    return Parsed(value, (*repairs, *twice[:1]), doubled[0] if doubled else None)


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
    return token[0] in _LITERALS or NUMBER.fullmatch(token[0]) is not None


def _python(text: str, broken: Unreadable) -> Parsed:
    """Read a Python literal, as in ``{'path': 'a', 'all': True}``."""
    if not _kinds(text) <= set("'\"\\nrtbfux"):
        raise broken  # Python would read it, and warn
    try:
        value = ast.literal_eval(text.strip())
        written(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise broken from None
    if not isinstance(value, dict) or not _has_names(value):
        raise broken
    return Parsed(json.loads(json.dumps(value)), ("a Python literal was read",), None)


def _has_names(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _has_names(child) for key, child in value.items())
    return all(map(_has_names, value)) if isinstance(value, (list, tuple)) else not isinstance(value, bytes)


def _repaired(text: str, broken: Unreadable) -> Parsed:
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
    return Parsed(value, (GUESSED,), None)


def not_finite(value: Any, path: str = "") -> str | None:
    """Return the path of a number that JSON does not have, if there is one."""
    if isinstance(value, float) and not math.isfinite(value):
        return path
    inside: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, dict):
        inside = iter(value.items())
    elif isinstance(value, list):
        inside = iter(enumerate(value))
    for key, child in inside:
        if isinstance(child, (float, dict, list)):
            found = not_finite(child, under(path, key))
            if found is not None:
                return found
    return None


def _differ(one: Any, other: Any) -> bool:
    return not same(one, other)


def same(one: Any, other: Any) -> bool:
    """Compare JSON values; ``1`` is not ``true``."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
