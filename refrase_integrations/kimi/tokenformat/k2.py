"""Tool calls as Kimi K2, K2-Thinking, K2.5 and K2.6 write them.

::

    <|tool_calls_section_begin|>
      <|tool_call_begin|>functions.{name}:{index}<|tool_call_argument_begin|>{json}<|tool_call_end|> ...
    <|tool_calls_section_end|>

Sources: MoonshotAI/Kimi-K2 docs/tool_call_guidance.md; where models and hosts stray from it, what the
parsers of vllm-project/vllm and sgl-project/sglang agree on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from refrase_integrations.kimi.tokenformat.events import Event, NativeCall, Section, Text
from refrase_integrations.kimi.tokenformat.markers import HOLD_LIMIT, Fences, HeldSection, MarkerSet, Outbox, Scanner
from refrase_integrations.kimi.wire import Tool

SECTION_BEGINS: Final = ("<|tool_calls_section_begin|>", "<|tool_call_section_begin|>")
"""What opens a section, in the two spellings that models write."""
SECTION_ENDS: Final = ("<|tool_calls_section_end|>", "<|tool_call_section_end|>")
"""What closes a section."""
CALL_BEGIN: Final = "<|tool_call_begin|>"
"""What opens a call; its id follows."""
ARGUMENTS_BEGIN: Final = "<|tool_call_argument_begin|>"
"""What ends the id; the arguments follow."""
CALL_END: Final = "<|tool_call_end|>"
"""What closes a call."""

_MARKERS = MarkerSet((*SECTION_BEGINS, *SECTION_ENDS, CALL_BEGIN, ARGUMENTS_BEGIN, CALL_END))
_ID = re.compile(r"(?:functions\.)?(?P<name>[\w.\-]+):(?P<index>\d{1,18})")
_NAME = re.compile(r"[\w.\-]+")
_BEGUN = re.compile(r"functions\.[\w.\-]*:?\d*")
"""The id of a call with which a reply ends: what else stands behind a lone marker is words about it."""
_BLANKS = " \t\r\n"


class K2Parser:
    """Finds tool-call sections in a reply, chunk by chunk. No I/O, no knowledge of requests beyond ``tools``.

    A section is held back until it ends and is then one `Section` event with its raw text. Text behind a
    section goes on as text. A call outside any section (the model leaves the section marker out,
    vllm-project/vllm#32216) is a section of its own; another marker that stands alone is a `Section` without
    calls. However the text is chunked, the events are the same once adjacent `Text` is joined.

    Args:
        tools: the tools declared in the request, in OpenAI form. They serve to find the name of a call whose
            id does not tell it: the id spells a declared name in another way (``functions_get_weather_1``),
            or only one tool is declared, or the schema of exactly one accepts the arguments (and knows all
            of their keys).
        hold_limit: characters that a section may have; a longer one goes out as text.
    """

    def __init__(self, tools: Iterable[Tool] = (), *, hold_limit: int = HOLD_LIMIT) -> None:
        self._tools = _parameters(tools)
        self._limit = hold_limit
        self.overlong = False
        """A section was longer and went out as text."""
        self._scanner = Scanner(_MARKERS)
        self._fences = Fences()
        self._section: HeldSection | None = None
        self._bare = False  # the open section is a call without section markers
        self._calls = 0

    @property
    def idle(self) -> bool:
        """Whether text without markup would be text, and nothing else."""
        return self._section is None and not self._scanner.holding

    def feed(self, text: str) -> list[Event]:
        """Take a chunk of the reply, return what can be told."""
        if "<" not in text and self.idle:
            self._fences.add(text)
            return [Text(text)] if text else []
        out = Outbox()
        for place, piece in enumerate(self._scanner.feed(text)):
            if place % 2:
                self._marker(piece, out)
            else:
                self._text(piece, out)
        return out.take()

    def close(self) -> list[Event]:
        """The reply is over: return what was held back."""
        out = Outbox()
        rest = self._scanner.close()
        if self._section is None:
            self._say(rest, out)
        else:
            self._end(self._section, out, complete=False, rest=rest)
        return out.take()

    def _marker(self, marker: str, out: Outbox) -> None:
        if marker in SECTION_BEGINS:
            if self._section is not None:
                self._end(self._section, out, complete=False)
            self._begin(marker, out)
        elif self._section is not None:
            self._say(self._section.add(marker), out)
            if marker in SECTION_ENDS or (self._bare and marker == CALL_END):
                self._end(self._section, out, complete=True)
        elif marker == CALL_BEGIN:
            self._begin(marker, out)
        else:
            out.add(Section(marker, (), complete=True, inside_fence=self._fences.inside()))

    def _text(self, piece: str, out: Outbox) -> None:
        self._say(piece if self._section is None else self._section.add(piece), out)

    def _say(self, text: str, out: Outbox) -> None:
        if text:
            self._fences.add(text)
            out.say(text)

    def _begin(self, marker: str, out: Outbox) -> None:
        self._section = HeldSection(self._limit, self._fences.inside())
        self._bare = marker == CALL_BEGIN
        self._say(self._section.add(marker), out)

    def _end(self, section: HeldSection, out: Outbox, *, complete: bool, rest: str = "") -> None:
        """Hand the open section out; ``rest`` is a marker that the end of the reply cut in two."""
        self._section = None
        if section.let_go:
            self.overlong = True
            self._say(rest, out)
            return
        raw = section.raw
        calls = tuple(
            NativeCall(header or None, self._name(header, arguments), arguments, whole, self._calls + place)
            for place, (header, arguments, whole) in enumerate(_calls(raw))
        )
        self._calls += len(calls)
        out.add(Section(raw + rest, calls, complete, section.inside_fence))

    def _name(self, header: str, arguments: str) -> str | None:
        if match := _ID.fullmatch(header):
            return match["name"]
        if name := _spelled(header, self._tools):
            return name
        # An id that names some other function must not become a call of this one.
        return None if header.startswith("functions") else _inferred(arguments, self._tools)


def write_section(calls: Iterable[tuple[str, str]], first: int = 0) -> str:
    """Write a section as the model does, strictly.

    Args:
        calls: names and arguments (JSON text). Markers inside the arguments are written as JSON escapes.
        first: index of the first call: how many calls the conversation had before.

    Raises:
        ValueError: no call; a name that no id can carry; arguments that hold a marker and are not JSON.
    """
    written = [
        CALL_BEGIN + native_id(name, index) + ARGUMENTS_BEGIN + _escaped(arguments) + CALL_END
        for index, (name, arguments) in enumerate(calls, first)
    ]
    if not written:
        raise ValueError("a tool-call section needs at least one call")
    return SECTION_BEGINS[0] + "".join(written) + SECTION_ENDS[0]


def native_id(name: str, index: int) -> str:
    """Return the native id of a call.

    Args:
        name: the function's name.
        index: number of the call, from 0, over the whole conversation.

    Source: MoonshotAI/Kimi-K2 docs/tool_call_guidance.md: ``functions.{name}:{index}``.

    Raises:
        ValueError: the name holds other than letters, digits, ``_``, ``.`` and ``-``, or index is negative.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("a native tool-call id takes letters, digits, '_', '.' and '-' in a function's name")
    if index < 0:
        raise ValueError(f"the index of a tool call counts from 0, got {index}")
    return f"functions.{name}:{index}"


def split_native_id(call_id: str) -> tuple[str, int] | None:
    """Return name and index of a native id, with or without ``functions.``; None for any other form."""
    match = _ID.fullmatch(call_id)
    return (match["name"], int(match["index"])) if match else None


def _calls(raw: str) -> Iterable[tuple[str, str, bool]]:
    """Yield header, arguments and whether a marker closed the call, for each call of a section."""
    header: str | None = None
    arguments: list[str] | None = None
    pieces = [*_MARKERS.pattern.split(raw), ""]
    for text, marker in zip(pieces[::2], pieces[1::2], strict=True):
        if arguments is not None:
            arguments.append(text)
        elif header is not None:
            header = text.strip(_BLANKS)
        if marker == ARGUMENTS_BEGIN:
            if arguments is not None:
                arguments.append(marker)  # a second one is part of malformed arguments
            elif header is not None:
                arguments = []
            continue
        if header is not None and (arguments is not None or marker or _BEGUN.fullmatch(header)):
            yield header, "".join(arguments or ()).strip(_BLANKS), bool(marker)
        header, arguments = ("" if marker == CALL_BEGIN else None), None


def _parameters(tools: Iterable[Tool]) -> dict[str, Mapping[str, Any]]:
    """Return the parameter schema of each declared tool by name."""
    declared: dict[str, Mapping[str, Any]] = {}
    for tool in tools:
        function = tool.get("function") or {}
        if name := function.get("name"):
            parameters = function.get("parameters")
            declared[name] = parameters if isinstance(parameters, Mapping) else {}
    return declared


def _spelled(header: str, tools: Iterable[str]) -> str | None:
    """Return the one declared name that the header spells: without a counter, or with another separator."""
    names = [
        name
        for name in tools
        if name in header and re.fullmatch(rf"(?:functions[._:-])?{re.escape(name)}(?:[._:#-]\d+)?", header)
    ]
    return names[0] if len(names) == 1 else None


def _inferred(arguments: str, tools: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the one tool that can be meant by arguments alone."""
    if len(tools) < 2:
        return next(iter(tools), None)
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None

    from jsonschema.exceptions import SchemaError
    from referencing.exceptions import Unresolvable

    try:
        names = [name for name, parameters in tools.items() if _accepts(parameters, value)]
    except (SchemaError, Unresolvable, re.error, RecursionError):
        return None  # with a schema that cannot be read, nobody knows that only one accepts
    return names[0] if len(names) == 1 else None


def _accepts(parameters: Mapping[str, Any], value: dict[str, Any]) -> bool:
    """Return whether the schema accepts ``value`` and knows all of its keys."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    schema = {"unevaluatedProperties": False, **parameters}
    schema.pop("$schema", None)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, registry=Registry()).is_valid(value)  # empty registry: nothing is fetched


def _escaped(arguments: str) -> str:
    """Return the arguments with markers as JSON escapes: ``<`` can stand inside JSON strings only."""
    if not _MARKERS.pattern.search(arguments):
        return arguments
    try:
        json.loads(arguments)
    except ValueError:
        raise ValueError("the arguments of a tool call hold a tool-call marker and are not JSON") from None
    return _MARKERS.pattern.sub(lambda marker: "\\u003c" + marker[0][1:], arguments)
