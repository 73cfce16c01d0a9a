"""Replies as Kimi K3 writes them: channels and typed arguments in tags, without ids (XTML).

::

    <|open|>think<|sep|>...<|close|>think<|sep|><|open|>response<|sep|>...<|close|>response<|sep|>
    <|open|>tools<|sep|>
      <|open|>call tool="{name}" index="1"<|sep|>
        <|open|>argument key="{key}" type="{JSON type}"<|sep|>{value}<|close|>argument<|sep|> ...
      <|close|>call<|sep|> ...
    <|close|>tools<|sep|>

A call may hold one ``json`` block instead of arguments. A value of type ``string`` is raw text, any other is
JSON; attribute values escape ``&`` and ``"`` only. Sources: the kimi_k3 parsers of vllm-project/vllm,
sgl-project/sglang and NVIDIA/TensorRT-LLM.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

from refrase_integrations.kimi.tokenformat.events import Event, NativeCall, Reasoning, Section, Tag, Text
from refrase_integrations.kimi.tokenformat.markers import HOLD_LIMIT, Fences, HeldSection, MarkerSet, Outbox, Scanner

_OPEN, _CLOSE, _SEP, _END_OF_MESSAGE = "<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>"
_MARKERS = MarkerSet((_OPEN, _CLOSE, _SEP, _END_OF_MESSAGE))
_CHANNELS = frozenset({"think", "response", "message"})
_IN_CALLS = frozenset({"call", "argument", "json"})
_NAMES = _CHANNELS | _IN_CALLS | {"tools"}
_HEADER = re.compile(r'\s*(?P<name>\w+)(?P<attributes>(?:\s+\w+\s*=\s*"[^"]*")*)\s*')
_HEADER_LIMIT: Final = 512  # characters: what is longer is no tag
_ATTRIBUTE = re.compile(r'(\w+)\s*=\s*"([^"]*)"')
_TAG = re.compile(r"<\|(open|close)\|>((?:(?!<\|(?:open|close|sep|end_of_msg)\|>).)*)<\|sep\|>", re.DOTALL)


class K3Parser:
    """Splits a reply into reasoning, text and tool calls, chunk by chunk. Properties as of `K2Parser`.

    Tags of the known channels are `Tag` events, also where the model wrote blanks into them or the reply
    ends inside one. Tags of any other name are text.

    Args:
        inside: the reply starts inside reasoning, because the host's template opened it in the prompt.
        hold_limit: characters that a tools section may have; a longer one goes out as text.
    """

    def __init__(self, *, inside: bool = False, hold_limit: int = HOLD_LIMIT) -> None:
        self._limit = hold_limit
        self.overlong = False
        """A section was longer and went out as text."""
        self._scanner = Scanner(_MARKERS)
        self._fences = Fences()
        self._thinking = inside
        self._tag: list[str] | None = None  # marker and header of a tag that has not ended yet
        self._header = 0  # characters of that header
        self._section: HeldSection | None = None
        self._last = ""  # name of the tag whose end ends the section
        self._calls = 0

    @property
    def idle(self) -> bool:
        """Whether text without markup would be text, and nothing else."""
        return self._section is None and self._tag is None and not self._scanner.holding and not self._thinking

    def feed(self, text: str) -> list[Event]:
        """Take a chunk of the reply, return what can be told."""
        plain = self._section is None and self._tag is None and not self._scanner.holding
        if plain and "<" not in text:
            return [self._kind(text)(text)] if text else []
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
        if self._section is not None:
            self._end(self._section, out, complete=False, rest=rest)
            return out.take()
        if self._tag is not None:
            raw, header = "".join(self._tag), "".join(self._tag[1:]).strip()
            self._tag = None
            if any(name.startswith(header) for name in _NAMES):
                out.add(Tag(raw + rest))
                return out.take()
            self._say(raw, out)
        self._say(rest, out)
        return out.take()

    def _marker(self, marker: str, out: Outbox) -> None:
        if self._section is not None:
            self._say(self._section.add(marker), out)
        if marker in (_OPEN, _CLOSE):
            self._release(out)
            self._tag, self._header = [marker], 0
        elif marker == _SEP and self._tag is not None:
            tag, self._tag = self._tag, None
            self._tag_seen(tag[0] == _OPEN, "".join(tag[1:]), out)
        elif self._section is None:
            self._release(out)
            out.add(Tag(marker))

    def _text(self, piece: str, out: Outbox) -> None:
        if self._section is not None:
            self._say(self._section.add(piece), out)
        if self._tag is not None:
            self._tag.append(piece)
            self._header += len(piece)
            if self._header > _HEADER_LIMIT:
                self._release(out)
        elif self._section is None:
            self._say(piece, out)

    def _release(self, out: Outbox) -> None:
        """What looked like a tag is none: let it go (a section holds it already)."""
        if self._tag is not None and self._section is None:
            self._say("".join(self._tag), out)
        self._tag = None

    def _tag_seen(self, opening: bool, header: str, out: Outbox) -> None:
        name, _ = _parsed(header)
        if self._section is not None:
            if name == self._last and not opening:
                self._end(self._section, out, complete=True)
            return
        raw = (_OPEN if opening else _CLOSE) + header + _SEP
        if opening and name in {"tools", "call"}:
            self._thinking = False
            self._last = name
            self._section = HeldSection(self._limit, self._fences.inside())
            self._say(self._section.add(raw), out)
        elif name in _NAMES:
            if name in _CHANNELS:
                self._thinking = opening and name == "think"
            out.add(Tag(raw))
        else:
            self._say(raw, out)

    def _say(self, piece: str, out: Outbox) -> None:
        if piece:
            out.say(piece, self._kind(piece))

    def _kind(self, piece: str) -> type[Reasoning] | type[Text]:
        """Take note of ``piece`` and return what it is."""
        if self._thinking:
            return Reasoning
        self._fences.add(piece)
        return Text

    def _end(self, section: HeldSection, out: Outbox, *, complete: bool, rest: str = "") -> None:
        """Hand the open section out; ``rest`` is a marker that the end of the reply cut in two."""
        self._section = self._tag = None
        if section.let_go:
            self.overlong = True
            self._say(rest, out)
            return
        raw = section.raw
        calls = tuple(
            NativeCall(None, name, arguments, whole, self._calls + place)
            for place, (name, arguments, whole) in enumerate(_calls(raw))
        )
        self._calls += len(calls)
        out.add(Section(raw + rest, calls, complete, section.inside_fence))


def _calls(raw: str) -> Iterable[tuple[str | None, str, bool]]:
    """Yield name, arguments as JSON text and whether a tag closed the call, for each call of a section."""
    call: _Call | None = None
    for tag in _TAG.finditer(raw):
        opening = tag[1] == "open"
        name, attributes = _parsed(tag[2])
        if call is not None and call.in_value:
            if opening or name not in _IN_CALLS | {"tools"}:
                continue  # what stands inside a value is what the value is about
            call.end_value(raw[call.start : tag.start()])
        if name in {"call", "tools"}:
            if call is not None:
                yield call.name, call.arguments(), True
            call = _Call(attributes.get("tool")) if opening and name == "call" else None
        elif call is not None and opening and name in _IN_CALLS:
            call.begin_value(name, attributes, tag.end())
    if call is not None:
        yield call.name, call.unfinished(raw), False


class _Call:
    """A call whose end was not seen yet."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.start = 0  # where the open value starts
        self._values: dict[str, str] = {}  # JSON text by key
        self._block: str | None = None
        self._tag = ""  # "argument" or "json" while a value is open
        self._attributes: dict[str, str] = {}

    @property
    def in_value(self) -> bool:
        return bool(self._tag)

    def begin_value(self, tag: str, attributes: dict[str, str], start: int) -> None:
        self._tag, self._attributes, self.start = tag, attributes, start

    def end_value(self, text: str) -> None:
        if self._tag == "json":
            self._block = text.strip()
        elif (key := self._attributes.get("key")) is not None:
            self._values[key] = _json(text, self._attributes.get("type", "string"))
        self._tag = ""

    def arguments(self) -> str:
        if self._block is not None:
            return self._block
        return "{" + ", ".join(f"{_quoted(key)}: {value}" for key, value in self._values.items()) + "}"

    def unfinished(self, raw: str) -> str:
        """Return the arguments of a call that was cut off, left open: some of them must not pass for all."""
        return raw[self.start :] if self._tag == "json" else self.arguments()[:-1]


def _parsed(header: str) -> tuple[str, dict[str, str]]:
    """Return name and attributes of a tag; the name is empty where it is no tag."""
    match = _HEADER.fullmatch(header)
    if match is None:
        return "", {}
    found = _ATTRIBUTE.findall(match["attributes"])
    return match["name"], {key: value.replace("&quot;", '"').replace("&amp;", "&") for key, value in found}


def _json(text: str, kind: str) -> str:
    """Return an argument's value as JSON text; what is not of its declared type becomes a string."""
    if kind == "string":
        return _quoted(text)
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _quoted(text)
    return text.strip()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
