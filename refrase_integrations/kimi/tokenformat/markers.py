"""What the parsers share: finding markers in chunks of text, counting code fences, joining pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable

from refrase_integrations.kimi.tokenformat.events import Event, Reasoning, Text

HOLD_LIMIT = 65_536
"""Characters of the longest section that is held back: a model that never ends one must not stop a stream for good."""

_FENCE = re.compile("`{3,}")

_MARKUP = re.compile(r"<(?:[|t]|/t|/?\Z)")


def may_hold_markup(text: str) -> bool:
    """Return whether a piece of text may have markup of Kimi's in it, or the beginning of some: ``<|``, ``<think>``."""
    return "<" in text and _MARKUP.search(text) is not None


class MarkerSet:
    """Markers to look for. Each starts with ``<`` and has no other ``<`` in it.

    Args:
        markers: the exact spellings.
    """

    def __init__(self, markers: Iterable[str]) -> None:
        markers = tuple(markers)
        self.pattern = re.compile("(" + "|".join(map(re.escape, markers)) + ")")
        self.prefixes = frozenset(marker[:end] for marker in markers for end in range(1, len(marker)))


class Scanner:
    """Cuts text that comes in chunks into plain pieces and markers; what may become a marker is held back.

    Args:
        markers: what to look for.
    """

    def __init__(self, markers: MarkerSet) -> None:
        self._markers = markers
        self._held = ""

    @property
    def holding(self) -> bool:
        """Whether the beginning of a possible marker is held back."""
        return bool(self._held)

    def feed(self, text: str) -> list[str]:
        """Return an odd number of pieces: plain text (perhaps empty) at even places, markers at odd ones."""
        pieces = self._markers.pattern.split(self._held + text)
        last = pieces[-1]
        cut = last.rfind("<")
        self._held = last[cut:] if cut >= 0 and last[cut:] in self._markers.prefixes else ""
        if self._held:
            pieces[-1] = last[:cut]
        return pieces

    def close(self) -> str:
        """Return what was held back: no marker came of it."""
        held, self._held = self._held, ""
        return held


class Fences:
    """Tells whether the text so far ends inside a Markdown code fence.

    A run of three or more backticks opens a fence, a run of at least the same length closes it. Text is
    looked at only when somebody asks, so that an ordinary reply costs one list entry a chunk.
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._open = 0

    def add(self, text: str) -> None:
        """Take note of text that was handed out."""
        self._texts.append(text)

    def inside(self) -> bool:
        """Return whether a fence is open."""
        for run in _FENCE.findall("".join(self._texts)):
            if not self._open:
                self._open = len(run)
            elif len(run) >= self._open:
                self._open = 0
        self._texts.clear()
        return bool(self._open)


class HeldSection:
    """The text of a section that has not ended yet.

    Args:
        limit: characters to hold; beyond it the section is let go as text.
        inside_fence: whether it began inside a code fence.
    """

    def __init__(self, limit: int, inside_fence: bool) -> None:
        self.inside_fence = inside_fence
        self.let_go = False
        self._limit = limit
        self._size = 0
        self._pieces: list[str] = []

    @property
    def raw(self) -> str:
        """What is held."""
        return "".join(self._pieces)

    def add(self, piece: str) -> str:
        """Take a piece; return what must go out as text now (nothing, as long as the section is held)."""
        if self.let_go:
            return piece
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size <= self._limit:
            return ""
        self.let_go = True
        return self.raw


class Outbox:
    """The events of one feed; adjacent pieces of one kind become one event."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._kind: type[Text] | type[Reasoning] = Text
        self._pieces: list[str] = []

    def say(self, piece: str, kind: type[Text] | type[Reasoning] = Text) -> None:
        """Add a piece of text, which must not be empty."""
        if kind is not self._kind:
            self._flush()
            self._kind = kind
        self._pieces.append(piece)

    def add(self, event: Event) -> None:
        """Add any other event."""
        self._flush()
        self._events.append(event)

    def take(self) -> list[Event]:
        """Return the events, in order."""
        self._flush()
        return self._events

    def _flush(self) -> None:
        if self._pieces:
            self._events.append(self._kind("".join(self._pieces)))
            self._pieces.clear()
