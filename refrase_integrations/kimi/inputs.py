"""What users hand in, looked at before anything is done with it: an error names the place, the fault and the cure.

No value is quoted: it may be a key, a prompt, or too long to be read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from refrase_integrations.errors import ConfigurationError, InvalidMessage, RefraseError

T = TypeVar("T")


def shown(value: object) -> str:
    """Return a short text in quotation marks, of anything else its kind: for a name in an error."""
    return repr(value[:80]) if isinstance(value, str) else kind_of(value)


def kind_of(value: object) -> str:
    """Name the type of a value, and the value where it is a small number that says more."""
    if isinstance(value, float) or _is_whole(value):
        return str(value)
    return f"a {type(value).__name__}" if value is not None else "None"


def instance(value: object, kind: type[T] | tuple[type[T], ...], name: str, words: str) -> T:
    """Return ``value`` as it is.

    Args:
        value: what was handed in.
        kind: what it has to be an instance of.
        name: of the argument, for the error.
        words: what it has to be, for the error: "a text".

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(value, kind):
        raise ConfigurationError(f"{name} must be {words}, not {kind_of(value)}")
    return value


def text(value: object, name: str) -> str:
    """Return a text as it is.

    Raises:
        ConfigurationError: it is none.
    """
    return instance(value, str, name, "a text")


def items(value: object, name: str, words: str = "a list") -> list[Any]:
    """Return what an iterable holds; a text, bytes or a mapping in its place is a mistake.

    Raises:
        ConfigurationError: it is none.
    """
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{name} must be {words}, not {kind_of(value)}")
    return list(value)


def names(value: object, name: str) -> list[str]:
    """Return the texts that an iterable holds; see `items`. None means none.

    Raises:
        ConfigurationError: it holds something else.
    """
    words = "a list of names, such as ['web_search']"
    found = [] if value is None else items(value, name, words)
    if not all(isinstance(one, str) for one in found):
        raise ConfigurationError(f"{name} must be {words}")
    return found


def whole(value: object, name: str, least: int) -> int:
    """Return a whole number as it is.

    Raises:
        ConfigurationError: it is none, less than ``least``, or beyond what any host or machine can hold.
    """
    if not _is_whole(value) or cast(int, value) < least:
        raise ConfigurationError(f"{name} must be a whole number from {least} on, not {kind_of(value)}")
    return cast(int, value)


def checked_settings(settings: Mapping[str, Any]) -> None:
    """Check the settings of a call that have a type of their own; None is none.

    Raises:
        ConfigurationError: one is of another type; names it.
    """
    for name, value in settings.items():
        rule = _SETTINGS.get(name)
        if rule is not None and value is not None and not rule[0](value):
            raise ConfigurationError(f"{name} must be {rule[1]}, not {kind_of(value)}")


def checked_tools(tools: object) -> None:
    """Check that tools in wire form have the outline of tools.

    Raises:
        ConfigurationError: something is no tool; names its place.
    """
    for place, tool in enumerate(items(tools, "tools", "a list of tools")):
        instance(tool, Mapping, f"tools[{place}]", "a tool")
        function = tool.get("function")
        if function is None:
            continue  # another vendor's form, or none: the practice tool-format reads it
        instance(function, Mapping, f"tools[{place}].function", "an object")
        for field in ("name", "description"):
            if function.get(field) is not None:
                text(function[field], f"tools[{place}]: {_NAMELESS if field == 'name' else ''}function.{field}")
        if function.get("strict") is not None:
            instance(function["strict"], bool, f"tools[{place}].function.strict", "True, False or None")


def tool_name(tool: Mapping[str, Any]) -> str:
    """Return the name of a tool in wire form.

    Raises:
        ConfigurationError: it has none.
    """
    name = (tool.get("function") or {}).get("name")
    if not name:
        raise ConfigurationError("a tool without a name")
    return text(name, "a tool's name")


def json_text(value: object, place: str) -> str:
    """Write a value as JSON.

    Raises:
        InvalidMessage: it cannot be written; says where in it, and why.
    """
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        pass  # these name neither the place nor the cure, and quote the value
    raise InvalidMessage(f"{place} cannot be written as JSON: {fault(value) or 'it is nested too deeply'}")


@contextmanager
def diagnosed(body: object) -> Iterator[None]:
    """Say what is wrong with a request where working on it fails. Sound ones cost nothing this way.

    Raises:
        InvalidMessage: the request cannot be written as JSON, or has not the outline of one.
    """
    try:
        yield
    except RefraseError:
        raise
    except _OF_ODD_VALUES:
        found = misfit(body)
        if found is None:
            raise
        failure = InvalidMessage(found)
    else:
        return
    raise failure


def misfit(body: object) -> str | None:
    """Return what is wrong with a request: where, why and the cure; None where nothing is. Quotes no value."""
    found = fault(body)
    if found is not None:
        return f"the request cannot be written as JSON: {found}"
    return _outline(body)


def fault(value: object) -> str | None:
    """Return where and why a value cannot be written as JSON; None where it can. Quotes no value."""
    rest: list[tuple[str, object, int]] = [("", value, 0)]
    while rest:
        path, inner, depth = rest.pop()
        found = None
        if depth > _DEEPEST:
            return f"{path[:120]}…: nested too deeply, or holds itself; JSON has no cycles"
        if isinstance(inner, dict):
            for key, one in inner.items():
                if not isinstance(key, (str, int, float, bool, type(None))):
                    return f"{path or 'the body'}: a key is a {type(key).__name__}; JSON keys are texts"
                if found is None and isinstance(key, str) and not _is_text(key):
                    return f"{path or 'the body'}: a key {_HALVED}"
                rest.append((f"{path}.{key}" if path else str(key), one, depth + 1))
        elif isinstance(inner, (list, tuple)):
            rest += [(f"{path}[{place}]", one, depth + 1) for place, one in enumerate(inner)]
        elif isinstance(inner, str):
            found = None if _is_text(inner) else f"the text {_HALVED}"
        elif isinstance(inner, float):
            found = None if math.isfinite(inner) else f"{inner} is no JSON number"
        elif isinstance(inner, int):
            found = "the number has too many digits; send it as a text" if inner.bit_length() > _LONGEST else None
        elif inner is not None:
            found = f"a {type(inner).__name__} cannot be written as JSON; give text, number, bool, list or dict"
        if found is not None:
            return f"{path}: {found}" if path else found
    return None


_HALVED = (
    "holds half a surrogate pair, which UTF-8 cannot write; clean it with "
    "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
)
_DEEPEST = 500
_LONGEST = 14_000  # bits; Python refuses to write numbers of more than 4,300 digits
_NAMELESS = "a tool without a name, "
_OF_ODD_VALUES = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError)


def _outline(body: object) -> str | None:
    """Return what in a body has not the type that the protocol gives it."""
    if not isinstance(body, Mapping):
        return "the request must be an object"
    messages = body.get("messages")
    if not isinstance(messages, list):
        return "messages must be a list"
    for place, message in enumerate(messages):
        if not isinstance(message, Mapping):
            return f"messages[{place}] must be an object with role and content, not {kind_of(message)}"
        for key, kinds in _MESSAGE.items():
            if message.get(key) is not None and not isinstance(message[key], kinds):
                return f"messages[{place}].{key} must not be {kind_of(message[key])}"
        for key in ("content", "tool_calls"):
            parts = message.get(key)
            for number, part in enumerate(parts if isinstance(parts, list) else ()):
                if not isinstance(part, Mapping):
                    return f"messages[{place}].{key}[{number}] must be an object, not {kind_of(part)}"
                function = part.get("function") if key == "tool_calls" else None
                if function is not None and not isinstance(function, Mapping):
                    return f"messages[{place}].tool_calls[{number}].function must be an object, not {kind_of(function)}"
    wanted = body.get("response_format")
    if wanted is not None and not isinstance(wanted, Mapping):
        return f"response_format must be an object, not {kind_of(wanted)}"
    described = None if wanted is None else wanted.get("json_schema")
    if described is not None and not isinstance(described, Mapping):
        return f"response_format.json_schema must be an object, not {kind_of(described)}"
    try:
        checked_tools(body.get("tools") or [])
        checked_settings(body)
    except ConfigurationError as error:
        return str(error)
    return None


_MESSAGE: Mapping[str, tuple[type, ...]] = {
    "role": (str,),
    "content": (str, list),
    "tool_calls": (list,),
    "tool_call_id": (str,),
    "name": (str,),
}


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _BEYOND


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _BEYOND


def _is_count(value: object) -> bool:
    return _is_whole(value) and cast(int, value) > 0


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_str(value: object) -> bool:
    return isinstance(value, str)


def _are_texts(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, Sequence) and all(isinstance(one, str) for one in value))


def _is_object(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_switch(value: object) -> bool:
    return isinstance(value, (bool, str, Mapping))


_BEYOND = 2**63
_SETTINGS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(("temperature", "top_p", "presence_penalty", "frequency_penalty"), (_is_number, "a number")),
    **dict.fromkeys(("seed", "top_logprobs"), (_is_whole, "a whole number")),
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "n"), (_is_count, "a whole number from 1 on")),
    **dict.fromkeys(("stream_usage", "strict", "parallel_tool_calls", "logprobs"), (_is_bool, "True, False or None")),
    **dict.fromkeys(("model", "reasoning_effort"), (_is_str, "a text")),
    **dict.fromkeys(("prompt_cache_key", "safety_identifier", "user", "thread_id"), (_is_str, "a text")),
    **dict.fromkeys(("extra_body", "logit_bias"), (_is_object, "an object")),
    "thinking": (_is_switch, "True, False, 'auto' or the wire form"),
    "stop": (_are_texts, "a text or a list of texts"),
}
