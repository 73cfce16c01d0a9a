"""What becomes of a reply that meets faults: another answer, another reply, or trouble on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from refrase_integrations.simulator.completion import Choice
from refrase_integrations.simulator.damage import cut_arguments
from refrase_integrations.simulator.outcome import Outcome
from refrase_integrations.simulator.rules import Refusal

if TYPE_CHECKING:
    from refrase_integrations.simulator.faults import Faults

OVERLOADED = Refusal(429, "engine_overloaded_error", "The engine is currently overloaded, please try again later")
"""platform.kimi.ai/docs/api/errors"""
_REFUSALS: Mapping[str, Sequence[Refusal]] = {
    "request_timeout": [Refusal(408, "request_timeout_error", "The request took too long")],
    "conflict": [Refusal(409, "conflict_error", "The request conflicts with another one")],
    "overloaded": [OVERLOADED],
    "overloaded_retry_after": [OVERLOADED],
    "overloaded_retry_after_ms": [OVERLOADED],
    "server_error": [
        Refusal(500, "server_error", "Internal server error"),
        Refusal(502, "server_error", "Bad gateway"),
        Refusal(503, "server_unavailable", "The service is unavailable"),
        Refusal(504, "server_error", "Gateway timeout"),
    ],
    "site_overloaded": [Refusal(529, "overloaded_error", "The site is overloaded")],
}
_RETRY_AFTER_MS = "200"
_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"
)
_DONE = b"data: [DONE]"
_KEEP_ALIVE = b": keep-alive\n\n"
_BOM = b"\xef\xbb\xbf"


class Breakage:
    """The faults of one request.

    Args:
        faults: how likely each is.
        random: the generator of this request.
    """

    def __init__(self, faults: Faults, random: Random) -> None:
        # Every chance is drawn, whether it matters or not: one fault must never shift the draws of another.
        drawn = {name: random.random() < chance for name, chance in faults.chances().items()}
        self._faults, self._random = faults, random
        self._hit = frozenset(name for name, hit in drawn.items() if hit)
        self.met: list[str] = []
        """Names of the faults that made a difference, so far."""

    def instead(self, refused: Callable[[Refusal], Outcome]) -> Outcome | None:
        """Return what comes instead of any reply; None: nothing does.

        Args:
            refused: makes an outcome of a refusal.
        """
        outcome = self._instead(refused) if self._hit else None
        return outcome and self._slow(outcome)

    def replies(self, choices: Sequence[Choice]) -> Sequence[Choice]:
        """Return the reply as the faulty model gives it."""
        if self._meets("empty_reply"):
            return [replace(one, content="", reasoning=None, calls=[], finish_reason="stop") for one in choices]
        if any(one.reasoning for one in choices) and self._meets("reasoning_only"):
            finish = self._random.choice(("stop", "length"))
            return [replace(one, content="", calls=[], finish_reason=finish) for one in choices]
        if any(one.calls for one in choices) and self._meets("truncated_arguments"):
            return [
                replace(
                    one,
                    calls=[replace(call, arguments=cut_arguments(call.arguments, self._random)) for call in one.calls],
                )
                for one in choices
            ]
        return choices

    def on_the_way(self, outcome: Outcome, error_body: Callable[[Refusal], Mapping[str, Any]]) -> Outcome:
        """Return the response with the trouble that it meets on its way.

        Args:
            outcome: the response.
            error_body: an error object in the response's protocol.
        """
        if not self._hit or outcome.cut_after is not None:  # a script that breaks the reply itself means just that
            return outcome
        outcome = self._slow(outcome)
        if self._meets("reset_after_headers"):
            return replace(outcome, events=[[b""], *outcome.events], cut_after=1, reset=True)
        if outcome.streamed:
            return self._stream(outcome, error_body)
        return self._whole(outcome, error_body)

    def _meets(self, name: str) -> bool:
        if name not in self._hit:
            return False
        self.met.append(name)
        return True

    def _instead(self, refused: Callable[[Refusal], Outcome]) -> Outcome | None:
        for name, refusals in _REFUSALS.items():
            if self._meets(name):
                outcome = refused(self._random.choice(refusals))
                headers = {
                    "overloaded_retry_after": {"retry-after": str(self._faults.retry_after_seconds)},
                    "overloaded_retry_after_ms": {"retry-after-ms": _RETRY_AFTER_MS},
                }.get(name, {})
                return replace(outcome, headers={**outcome.headers, **headers})
        if self._meets("reset_before_headers"):
            return Outcome(200, [], cut_after=0, reset=True)
        # The third place of a proxy's page is in the middle of a stream, or under 502 where none is wanted.
        if "proxy_page" in self._hit and (status := self._random.choice((502, 200, None))):
            self._meets("proxy_page")
            return Outcome(status, [[_PAGE]], "text/html")
        return None

    def _slow(self, outcome: Outcome) -> Outcome:
        if not self._meets("slow_first_byte"):
            return outcome
        return replace(outcome, delay=outcome.delay + self._faults.slow_seconds)

    # -- whole replies -----------------------------------------------------------------------------------

    def _whole(self, outcome: Outcome, error_body: Callable[[Refusal], Mapping[str, Any]]) -> Outcome:
        body = b"".join(packet for event in outcome.events for packet in event)
        if "proxy_page" in self._hit and self._meets("proxy_page"):
            return Outcome(502, [[_PAGE]], "text/html", delay=outcome.delay)
        if self._meets("error_in_stream"):
            body = _dump(error_body(OVERLOADED))
        elif self._meets("cut"):
            return replace(outcome, events=[[body]], cut_after=1)
        if self._meets("bom"):
            body = _BOM + body
        if self._meets("keep_alives"):  # some hosts send empty lines while the model works
            body = b"\n\n\n" + body
        if self._meets("wrong_content_type"):
            kind = self._random.choice(("text/plain", "application/octet-stream", "text/event-stream"))
            outcome = replace(outcome, headers={**outcome.headers, "content-type": kind})
        pieces = [[piece] for piece in _slices(body, 8)]
        return self._timed(replace(outcome, events=pieces))

    # -- streams -----------------------------------------------------------------------------------------

    def _stream(self, outcome: Outcome, error_body: Callable[[Refusal], Mapping[str, Any]]) -> Outcome:
        events = [b"".join(event) for event in outcome.events]
        packets = list(outcome.events)
        if edited := self._edited(events, error_body):
            events, packets = edited, [[event] for event in edited]
        if written := self._written(events):
            events, packets = written, [[event] for event in written]
        if cut := self._packed(events):
            packets = [[packet] for packet in cut]
        if self._meets("wrong_content_type"):
            kind = self._random.choice(("text/plain", "application/octet-stream", "application/json"))
            outcome = replace(outcome, headers={**outcome.headers, "content-type": kind})
        if self._meets("cut"):
            packets = packets if len(packets) > 1 else [[half] for half in _slices(packets[0][0], 2)]
            after = self._random.randint(1, len(packets) - 1)
            if self._random.random() < 0.5:
                outcome = replace(outcome, events=packets, cut_after=after)
            else:  # what a proxy does that lost its host
                outcome = replace(outcome, events=packets[:after])
            return self._timed(outcome)
        return self._timed(replace(outcome, events=packets))

    def _edited(self, events: list[bytes], error_body: Callable[[Refusal], Mapping[str, Any]]) -> list[bytes] | None:
        """Return other events than were to be sent; None: the same."""
        before = events
        for name, repeats in (("repeated_events", _says_nothing_new), ("repeated_text", _is_text)):
            places = [place for place, event in enumerate(events) if repeats(event)] if name in self._hit else []
            if places and self._meets(name):
                place = self._random.choice(places)
                events = [*events[: place + 1], *events[place:]]
        if events[-1].startswith(_DONE) and self._meets("missing_done"):
            events = events[:-1]
        if self._meets("error_in_stream"):
            return [*self._begun(events), _error_event(error_body, events)]
        if self._meets("proxy_page"):
            return [*self._begun(events), _PAGE]
        return None if events is before else events

    def _begun(self, events: list[bytes]) -> list[bytes]:
        return events[: self._random.randint(1, max(1, len(events) - 2))]

    def _written(self, events: list[bytes]) -> list[bytes] | None:
        """Return the events as another server writes them; None: as they are."""
        before = events
        if self._meets("keep_alives"):
            noisy = [_KEEP_ALIVE]
            for event in events:
                noisy += [event] if self._random.random() < 0.5 else [event, _KEEP_ALIVE]
            events = noisy
        if self._meets("crlf"):
            events = [event.replace(b"\n", b"\r\n") for event in events]
            cut = self._random.choice(events)
            place = events.index(cut)
            events[place : place + 1] = [cut[:-1], cut[-1:]]  # the packet ends between the two
        if self._meets("bom"):
            events = [_BOM + events[0], *events[1:]]
        return None if events is before else events

    def _packed(self, events: list[bytes]) -> list[bytes] | None:
        """Return other packets than one an event; None: those."""
        if self._meets("joined_events"):
            return list(self._joined(events))
        if self._meets("split_characters"):
            return list(self._split(events))
        return None

    def _joined(self, events: list[bytes]) -> Iterator[bytes]:
        while events:
            most = self._random.randint(2, 5)
            yield b"".join(events[:most])
            events = events[most:]

    def _split(self, events: list[bytes]) -> Iterator[bytes]:
        rest = b""
        for event in events:
            inside = [place for place, byte in enumerate(event) if byte & 0xC0 == 0x80]
            place = self._random.choice(inside) if inside else self._random.randint(0, len(event))
            yield rest + event[:place]
            rest = event[place:]
        yield rest

    def _timed(self, outcome: Outcome) -> Outcome:
        if self._meets("slow_trickle"):
            outcome = replace(outcome, pause=outcome.pause + self._faults.trickle_seconds)
        if len(outcome.events) > 1 and self._meets("stall"):
            last = outcome.cut_after or len(outcome.events) - 1
            place = self._random.randint(1, max(1, min(last, len(outcome.events) - 1)))
            outcome = replace(outcome, silence={place: self._faults.stall_seconds})
        return outcome


def _says_nothing_new(event: bytes) -> bool:
    """Tell whether an event of a chat stream adds nothing when it comes a second time."""
    if event.startswith(_DONE):
        return True
    chunk = _chunk(event)
    if chunk is None:
        return False
    for choice in chunk["choices"]:
        delta = choice.get("delta") or {}
        pieces = [call.get("function", {}).get("arguments") for call in delta.get("tool_calls") or ()]
        if any(pieces) or any(value for key, value in delta.items() if key not in ("role", "tool_calls")):
            return False
    return True


def _is_text(event: bytes) -> bool:
    chunk = _chunk(event)
    return chunk is not None and any((choice.get("delta") or {}).get("content") for choice in chunk["choices"])


def _chunk(event: bytes) -> dict[str, Any] | None:
    try:
        chunk = json.loads(event.removeprefix(b"data:"))
    except ValueError:
        return None
    return chunk if isinstance(chunk, dict) and isinstance(chunk.get("choices"), list) else None


def _error_event(error_body: Callable[[Refusal], Mapping[str, Any]], events: Sequence[bytes]) -> bytes:
    named = b"event: error\n" if events[0].startswith(b"event:") else b""
    return named + b"data: " + _dump(error_body(OVERLOADED)) + b"\n\n"


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _slices(body: bytes, parts: int) -> list[bytes]:
    size = max(1, -(-len(body) // parts))
    return [body[start : start + size] for start in range(0, len(body), size)]
