"""A response that is ready to be sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from refrase_integrations.simulator.rules import Refusal


@dataclass(frozen=True)
class Outcome:
    """A response that is ready to be sent."""

    status: int
    events: Sequence[Sequence[bytes]]
    """The body: its events, each in one or more network packets."""
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers; a content type among them is told instead of the true one."""
    refusal: Refusal | None = None
    delay: float = 0.0
    """Seconds before the first byte."""
    pause: float = 0.0
    """Seconds between events."""
    silence: Mapping[int, float] = field(default_factory=dict)
    """Further seconds before single events, by their place from 0."""
    cut_after: int | None = None
    """Drop the connection after this many events."""
    reset: bool = False
    """The connection is reset where it is dropped, not closed."""

    @property
    def streamed(self) -> bool:
        """Whether the body is an event stream."""
        return self.media_type.startswith("text/event-stream")
