"""A reply as a chat completion: one JSON object, or the chunks of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

CREATED = 1767225600
"""``created`` of everything: the start of 2026. A real clock would make two runs differ."""
FINGERPRINT = "refrase-simulator"
"""``system_fingerprint`` of every completion: nobody shall take this for a real model's answer."""


@dataclass(frozen=True)
class Call:
    """One tool call of a reply."""

    name: str
    arguments: str
    """JSON text, or what a faulty host makes of it."""
    id: str
    position: int
    """Place among all tool calls of the conversation, from 0."""
    index: int | None
    """``index`` of its stream deltas: place in this reply, from 0; None: the host leaves it out."""


@dataclass(frozen=True)
class Choice:
    """One reply of the model."""

    content: str
    reasoning: str | None
    calls: list[Call]
    finish_reason: str
    lost: bool = False
    """A stream loses the calls but keeps their finish_reason."""


@dataclass(frozen=True)
class Completion:
    """All that is sent for one request."""

    id: str
    model: str
    """As the request named it."""
    choices: Sequence[Choice]
    usage: Mapping[str, Any]
    """Empty: none is sent."""
    reasoning_out: Sequence[str] = field(default=("reasoning_content",))
    """Fields that carry the reasoning."""

    def whole(self) -> dict[str, Any]:
        """Return the ``chat.completion`` object."""
        choices = [
            {"index": index, "message": self._message(choice), "finish_reason": choice.finish_reason}
            for index, choice in enumerate(self.choices)
        ]
        usage = {"usage": dict(self.usage)} if self.usage else {}
        return {**self._head("chat.completion"), "choices": choices, **usage}

    def chunks(self, random: Random, *, size: int, usage_in: Sequence[str], final: bool) -> Iterator[dict[str, Any]]:
        """Yield the ``chat.completion.chunk`` objects.

        Args:
            random: decides where text is cut.
            size: characters in a piece of text, on average.
            usage_in: places of usage: ``choice`` and ``final``.
            final: the request asks for a usage chunk.
        """
        final = final and "final" in usage_in
        head = self._head("chat.completion.chunk")
        # Moonshot's reference: with include_usage every other chunk carries a null usage.
        tail: dict[str, Any] = {"usage": None} if final else {}
        for index, choice in enumerate(self.choices):
            for delta in self._deltas(choice, random, size):
                yield {**head, "choices": [{"index": index, "delta": delta, "finish_reason": None}], **tail}
            last: dict[str, Any] = {"index": index, "delta": {}, "finish_reason": choice.finish_reason}
            if "choice" in usage_in and self.usage:
                last["usage"] = dict(self.usage)
            yield {**head, "choices": [last], **tail}
        if final and self.usage:
            yield {**head, "choices": [], "usage": dict(self.usage)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": CREATED,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }

    def _message(self, choice: Choice) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": choice.content}
        if choice.reasoning is not None:
            message |= self._reasoning(choice.reasoning)
        if choice.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in choice.calls
            ]
        return message

    def _deltas(self, choice: Choice, random: Random, size: int) -> Iterator[dict[str, Any]]:
        yield {"role": "assistant", "content": ""}
        for piece in pieces(choice.reasoning or "", random, size):
            yield self._reasoning(piece)
        if choice.reasoning == "":
            yield self._reasoning("")
        for piece in pieces(choice.content, random, size):
            yield {"content": piece}
        for call in choice.calls:
            if choice.lost:
                yield {"tool_calls": []}
                continue
            place = {} if call.index is None else {"index": call.index}
            named = {"name": call.name, "arguments": ""}
            yield {"tool_calls": [{**place, "id": call.id, "type": "function", "function": named}]}
            for piece in pieces(call.arguments, random, size):
                yield {"tool_calls": [{**place, "function": {"arguments": piece}}]}

    def _reasoning(self, text: str) -> dict[str, Any]:
        return {
            name: [{"type": "reasoning.text", "text": text, "format": "unknown", "index": 0}]
            if name == "reasoning_details"
            else text
            for name in self.reasoning_out
        }


def pieces(text: str, random: Random, size: int) -> Iterator[str]:
    """Cut ``text`` into pieces of 1 to about twice ``size`` characters, inside words and markers too."""
    start = 0
    while start < len(text):
        end = start + random.randint(1, max(1, 2 * size - 1))
        yield text[start:end]
        start = end
