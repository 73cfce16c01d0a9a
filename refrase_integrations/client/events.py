"""Server-sent events: the bytes of a stream in, its events out.

The SDK's own decoder looks at every byte in Python and costs more than the rest of a chunk's way; this one lets
``bytes.split`` do it. It takes what hosts and proxies do to streams: CRLF and CR, comments and keep-alives, a BOM,
several events in a packet, a character or a line cut in two, a last event without its blank line.

`EventStream` reads a response so; `plain_streams` are the SDK's own stream classes, for a gateway that confuses ours.
All of them remember whether the host said that it was done, keep a `Pace`, and hand out plain dicts.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from functools import cache
from typing import Any

from pydantic_core import from_json

from refrase_integrations.client.deadline import Deadline, Pace

DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"


class ErrorEvent(Exception):
    """The host sent an error in the middle of a stream. The text quotes nothing of it.

    Args:
        payload: the inside of its ``error`` object.
    """

    def __init__(self, payload: object) -> None:
        super().__init__("an error event")
        self.payload = payload


def parsed(event: bytes) -> Any:
    """Return the JSON value of an event.

    Raises:
        ValueError: it is none.
    """
    try:
        return from_json(event)
    except ValueError:
        return json.loads(event)  # takes half a surrogate pair, which the fast parser refuses


class EventReader:
    """Reads a stream's bytes as they come: `feed` each packet, `close` at the end."""

    __slots__ = ("_cr", "_data", "_head", "_held")

    def __init__(self) -> None:
        self._head: bytes | None = b""  # what may yet become a BOM; None once it is settled
        self._cr = False  # the last packet ended in CR: its LF may follow
        self._held: list[bytes] = []  # pieces of an unfinished line
        self._data: list[bytes] = []  # lines of an unfinished event

    def feed(self, packet: bytes) -> list[bytes]:
        """Take a packet, return the data of the events that it completes."""
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
        events, data = [], self._data
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif data and not line:
                events.append(data[0] if len(data) == 1 else b"\n".join(data))
                data.clear()
        return events

    def close(self) -> list[bytes]:
        """End the stream; return the last event where its blank line never came. One that was cut short is none."""
        return [event for event in self.feed(b"\n\n") if event.startswith(DONE) or _is_json(event)]

    def _without_cr(self, packet: bytes) -> bytes:
        """Return the packet with every CR and CRLF as LF; a CR at its end waits for what follows."""
        if self._cr:
            packet = b"\r" + packet
        self._cr = packet.endswith(b"\r")
        return packet.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _is_json(event: bytes) -> bool:
    try:
        parsed(event)
    except ValueError:
        return False
    return True


def _value(event: bytes) -> Any:
    try:
        value = from_json(event)
    except ValueError:
        value = parsed(event)
    if type(value) is dict and value.get("error"):
        raise ErrorEvent(value["error"])
    return value


class EventStream:
    """The events of one response, each as the value of its JSON.

    Args:
        response: of the HTTP library, its body not yet read.
        owner: closes the response's connection when it is forgotten, so it is kept as long as this.

    Raises:
        ErrorEvent: while it is read, where the host sends an error.
        ValueError: likewise, where an event is no JSON.
    """

    def __init__(self, response: Any, owner: object = None) -> None:
        self.response = response
        self._owner = owner
        self.done = False
        """The host said so."""
        self.pace = Pace(Deadline())
        self._events = self._read()

    def __iter__(self) -> Iterator[Any]:
        return self._events

    def __next__(self) -> Any:
        return next(self._events)

    def packets(self) -> Iterator[bytes]:
        """Yield the bytes of a body that is no stream."""
        for packet in _bytes_of(self.response):
            self.pace.packet()
            yield packet

    def close(self) -> None:
        """Let the connection go."""
        self._events.close()
        self.response.close()

    def _read(self) -> Generator[Any, None, None]:
        reader = EventReader()
        for packet in _bytes_of(self.response):
            pace = self.pace
            pace.packet()
            for event in reader.feed(packet):
                if event.startswith(DONE):
                    self.done = True
                    return
                yield _value(event)
                pace.event()
        for event in reader.close():
            if event.startswith(DONE):
                self.done = True
                return
            yield _value(event)


class AsyncEventStream:
    """The async twin of `EventStream`; see there."""

    def __init__(self, response: Any, owner: object = None) -> None:
        self.response = response
        self._owner = owner
        self.done = False
        """The host said so."""
        self.pace = Pace(Deadline())
        self._events = self._read()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._events

    async def __anext__(self) -> Any:
        return await anext(self._events)

    async def packets(self) -> AsyncIterator[bytes]:
        """Yield the bytes of a body that is no stream."""
        async for packet in _abytes_of(self.response):
            self.pace.packet()
            yield packet

    async def close(self) -> None:
        """Let the connection go."""
        await self._events.aclose()
        await self.response.aclose()

    async def _read(self) -> AsyncGenerator[Any, None]:
        reader = EventReader()
        async for packet in _abytes_of(self.response):
            pace = self.pace
            pace.packet()
            for event in reader.feed(packet):
                if event.startswith(DONE):
                    self.done = True
                    return
                yield _value(event)
                pace.event()
        for event in reader.close():
            if event.startswith(DONE):
                self.done = True
                return
            yield _value(event)


class ToldEvents:
    """The events of a stream that calls itself JSON or a web page and so was read to its end, as `EventStream` gives
    them."""

    def __init__(self, body: bytes) -> None:
        reader = EventReader()
        self._events = iter([*reader.feed(body), *reader.close()])
        self.done = False
        """The host said so."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        event = next(self._events)
        if event.startswith(DONE):
            self.done, self._events = True, iter(())
            raise StopIteration
        return _value(event)

    def close(self) -> None:
        """There is nothing to let go."""


class AsyncToldEvents:
    """The async twin of `ToldEvents`."""

    def __init__(self, body: bytes) -> None:
        self._told = ToldEvents(body)

    @property
    def done(self) -> bool:
        """The host said so."""
        return self._told.done

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        for value in self._told:
            return value
        raise StopAsyncIteration

    async def close(self) -> None:
        """There is nothing to let go."""


def is_event_stream(body: bytes) -> bool:
    """Tell whether a body is an event stream, whatever its content type says: no JSON and no page begins so."""
    return body.removeprefix(_BOM).lstrip().startswith((b"data:", b"event:", b"id:", b"retry:", b":"))


def _bytes_of(response: Any) -> Iterator[bytes]:
    raw = "content-encoding" not in response.headers
    return response.iter_raw() if raw else response.iter_bytes()  # type: ignore[no-any-return]


def _abytes_of(response: Any) -> AsyncIterator[bytes]:
    raw = "content-encoding" not in response.headers
    return response.aiter_raw() if raw else response.aiter_bytes()  # type: ignore[no-any-return]


@cache
def plain_streams() -> tuple[Any, Any]:
    """Return the SDK's sync and async stream class, which decode and check the events themselves."""
    import openai

    class Stream(openai.Stream[object]):
        done = False
        pace: Pace

        def packets(self) -> Iterator[bytes]:
            for packet in self.response.iter_bytes():
                self.pace.packet()
                yield packet

        def _iter_events(self) -> Iterator[Any]:
            for event in self._decoder.iter_bytes(self.packets()):
                self.done = self.done or event.data.startswith("[DONE]")
                yield event
                self.pace.event()

    class AsyncStream(openai.AsyncStream[object]):
        done = False
        pace: Pace

        async def packets(self) -> AsyncIterator[bytes]:
            async for packet in self.response.aiter_bytes():
                self.pace.packet()
                yield packet

        async def _iter_events(self) -> AsyncIterator[Any]:
            async for event in self._decoder.aiter_bytes(self.packets()):
                self.done = self.done or event.data.startswith("[DONE]")
                yield event
                self.pace.event()

    return Stream, AsyncStream
