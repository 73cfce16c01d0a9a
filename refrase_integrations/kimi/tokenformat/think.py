"""``<think>`` in the content of a reply, where a host did not split reasoning from the answer."""

from __future__ import annotations

from refrase_integrations.kimi.tokenformat.events import Event, Reasoning, Tag, Text
from refrase_integrations.kimi.tokenformat.k2 import CALL_BEGIN, CALL_END, SECTION_BEGINS, SECTION_ENDS
from refrase_integrations.kimi.tokenformat.markers import Fences, MarkerSet, Outbox, Scanner

_OPEN, _CLOSE = "<think>", "</think>"
_MARKERS = MarkerSet((_OPEN, _CLOSE, *SECTION_BEGINS, *SECTION_ENDS, CALL_BEGIN, CALL_END))


class ThinkSplitter:
    """Splits content into `Reasoning` and `Text`, chunk by chunk; the tags themselves are `Tag` events.

    - ``<think>`` counts at the start of a line, outside a code fence: an answer *about* the tag stays an
      answer.
    - Reasoning ends at ``</think>``, where a tool call begins (K2 often leaves the tag out there, and
      sometimes the section marker too: vllm-project/vllm#32216), or with the reply.
    - Tool-call sections are text from end to end: tags inside their arguments belong to the arguments.
    - A ``</think>`` that closes nothing is text, as is what came before it: in a stream that has gone out
      already.

    Args:
        inside: the reply starts inside reasoning, because the host's template wrote ``<think>`` into the
            prompt and the host does not split. Never assume it of a host that does: the whole answer would
            be reasoning.
    """

    def __init__(self, *, inside: bool = False) -> None:
        self._inside = inside
        self._silent = inside  # nothing but blanks was thought so far: a repeated <think> is markup
        self._blank = True  # the current line of text is blank so far
        self._unclosed = False  # a tool call ended the reasoning: its </think> may still come
        self._section: tuple[str, ...] = ()  # what ends the open tool-call section
        self._scanner = Scanner(_MARKERS)
        self._fences = Fences()

    @property
    def idle(self) -> bool:
        """Whether text without markup would be text, and nothing else."""
        return not self._inside and not self._section and not self._scanner.holding

    def feed(self, text: str) -> list[Event]:
        """Take a chunk of content, return what can be told."""
        if "<" not in text and not self._scanner.holding:
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
        self._text(self._scanner.close(), out)
        return out.take()

    def _marker(self, marker: str, out: Outbox) -> None:
        if self._section:
            self._text(marker, out)
            if marker in self._section:
                self._section = ()
        elif marker in SECTION_BEGINS or marker == CALL_BEGIN:
            self._unclosed = self._unclosed or self._inside
            self._inside = False
            self._section = SECTION_ENDS if marker in SECTION_BEGINS else (CALL_END, *SECTION_ENDS)
            self._text(marker, out)
        elif self._is_tag(marker):
            self._inside = self._silent = marker == _OPEN
            self._blank, self._unclosed = True, False
            out.add(Tag(marker))
        else:
            self._text(marker, out)

    def _is_tag(self, marker: str) -> bool:
        if marker == _CLOSE:
            return self._inside or self._unclosed
        if marker == _OPEN:
            return self._silent if self._inside else self._blank and not self._fences.inside()
        return False

    def _text(self, piece: str, out: Outbox) -> None:
        if piece:
            out.say(piece, self._kind(piece))

    def _kind(self, piece: str) -> type[Reasoning] | type[Text]:
        """Take note of ``piece`` and return what it is."""
        if self._inside:
            self._silent = self._silent and piece.isspace()
            return Reasoning
        if self._blank or "\n" in piece:
            line = piece.rpartition("\n")[2]
            self._blank = not line.strip()
        self._fences.add(piece)
        return Text
