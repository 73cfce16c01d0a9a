"""Server-sent events: the bytes of a stream in, its events out.

The SDK's own decoder looks at every byte in Python and costs more than the rest of a chunk's way; this one lets
``bytes.split`` do it. It takes what hosts and proxies do to streams: CRLF and CR, comments and keep-alives, a BOM,
several events in a packet, a character or a line cut in two, a last event without its blank line. `streams` puts it
under the SDK's stream classes, which keep the rest of their work: errors, timeouts, closing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import Any

from pydantic_core import from_json

from refrase_integrations.client.deadline import Pace

_DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"


class Event:
    """One event, as the SDK's stream classes read it."""

    __slots__ = ("_raw", "data")

    event: str | None = None
    """Event names say nothing in chat completions."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.data = "[DONE]" if raw.startswith(_DONE) else ""
        """Only what the SDK asks for: whether this is the end."""

    def is_json(self) -> bool:
        """Tell whether the event is whole."""
        try:
            self.json()
        except ValueError:
            return False
        return True

    def json(self) -> Any:
        """Return the event's JSON value.

        Raises:
            ValueError: it is none.
        """
        try:
            return from_json(self._raw)
        except ValueError:
            return json.loads(self._raw)  # takes half a surrogate pair, which the fast parser refuses


class EventReader:
    """Reads a stream's bytes as they come: `feed` each packet, `close` at the end."""

    __slots__ = ("_cr", "_data", "_head", "_held")

    def __init__(self) -> None:
        self._head: bytes | None = b""  # what may yet become a BOM; None once it is settled
        self._cr = False  # the last packet ended in CR: its LF may follow
        self._held: list[bytes] = []  # pieces of an unfinished line
        self._data: list[bytes] = []  # lines of an unfinished event

    def feed(self, packet: bytes) -> list[Event]:
        """Take a packet, return the events that it completes."""
        if self._head is not None:
            packet = self._head + packet
            if _BOM.startswith(packet):
                self._head = packet
                return []
            self._head, packet = None, packet.removeprefix(_BOM)
        if self._cr or b"\r" in packet:
            packet = self._without_cr(packet)
        if b"\n" not in packet:
            if packet:
                self._held.append(packet)
            return []
        if self._held:
            packet = b"".join((*self._held, packet))
        *lines, rest = packet.split(b"\n")
        self._held = [rest] if rest else []
        return [event for line in lines if (event := self._line(line)) is not None]

    def close(self) -> list[Event]:
        """End the stream; return the last event where its blank line never came. One that was cut short is none."""
        return [event for event in self.feed(b"\n\n") if event.data or event.is_json()]

    def _line(self, line: bytes) -> Event | None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif not line and self._data:
            raw = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            self._data = []
            return Event(raw)
        return None

    def _without_cr(self, packet: bytes) -> bytes:
        """Return the packet with every CR and CRLF as LF; a CR at its end waits for what follows."""
        if self._cr:
            packet = b"\r" + packet
        self._cr = packet.endswith(b"\r")
        return packet.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


@cache
def streams(*, plain: bool) -> tuple[Any, Any]:
    """Return the SDK's sync and async stream class, made to remember whether the host said that it was done, and to
    keep a `Pace`.

    Args:
        plain: leave the decoding of events to the SDK.
    """
    import openai

    class Stream(openai.Stream[object]):
        done = False
        pace: Pace

        def packets(self) -> Iterator[bytes]:
            for packet in self.response.iter_bytes():
                self.pace.packet()
                yield packet

        def _iter_events(self) -> Iterator[Any]:
            if plain:
                for event in self._decoder.iter_bytes(self.packets()):
                    self.done = self.done or event.data.startswith("[DONE]")
                    yield event
                    self.pace.event()
                return
            reader = EventReader()
            for packet in self.packets():
                for fast in reader.feed(packet):
                    self.done = bool(fast.data)
                    yield fast
                    self.pace.event()
            yield from reader.close()

    class AsyncStream(openai.AsyncStream[object]):
        done = False
        pace: Pace

        async def packets(self) -> AsyncIterator[bytes]:
            async for packet in self.response.aiter_bytes():
                self.pace.packet()
                yield packet

        async def _iter_events(self) -> AsyncIterator[Any]:
            if plain:
                async for event in self._decoder.aiter_bytes(self.packets()):
                    self.done = self.done or event.data.startswith("[DONE]")
                    yield event
                    self.pace.event()
                return
            reader = EventReader()
            async for packet in self.packets():
                for fast in reader.feed(packet):
                    self.done = bool(fast.data)
                    yield fast
                    self.pace.event()
            for fast in reader.close():
                yield fast

    return Stream, AsyncStream
