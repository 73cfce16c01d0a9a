"""`run` and `arun`: one user call from its body to a healed reply. The way to the host is handed in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace

from refrase_integrations.errors import STRUCTURAL
from refrase_integrations.kimi.practice import Call, Delta, Prepared
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.stream import Healer
from refrase_integrations.kimi.wire import Chunk


def is_structural(error: Exception) -> bool:
    """Tell whether a host refused the form of the history, which can be mended."""
    return isinstance(error, STRUCTURAL)


def run(
    call: Call,
    send: Callable[[Prepared], Iterable[Chunk]],
    structural: Callable[[Exception], bool] = is_structural,
) -> Iterator[Delta]:
    """Prepare, send, heal; follow up where the reply needs it.

    Args:
        call: the user's call.
        send: sends a prepared request and yields raw chunks (one chunk for a whole response).
        structural: tells whether what ``send`` raised is a refusal of the history's form.

    Yields:
        Clean deltas; the last one carries finish reason, usage and the report.

    Raises:
        PracticeError: a practice refuses the request.
        HostError: whatever ``send`` raises; a structural 400 is first repaired and resent once.
    """
    prepared: Prepared | None = prepare(call)
    healer: Healer | None = None
    while prepared is not None:
        healer = Healer(prepared, before=healer)
        try:
            for chunk in send(prepared):
                yield from healer.feed(chunk)
        except Exception as error:
            prepared = _stricter(prepared, healer) if structural(error) else None
            if prepared is None:
                raise
            continue
        yield from healer.close()
        prepared = healer.again


async def arun(
    call: Call,
    send: Callable[[Prepared], AsyncIterator[Chunk]],
    structural: Callable[[Exception], bool] = is_structural,
) -> AsyncIterator[Delta]:
    """The async twin of `run`; see there."""
    prepared: Prepared | None = prepare(call)
    healer: Healer | None = None
    while prepared is not None:
        healer = Healer(prepared, before=healer)
        try:
            async for chunk in send(prepared):
                for delta in healer.feed(chunk):
                    yield delta
        except Exception as error:
            prepared = _stricter(prepared, healer) if structural(error) else None
            if prepared is None:
                raise
            continue
        for delta in healer.close():
            yield delta
        prepared = healer.again


def _stricter(prepared: Prepared, healer: Healer) -> Prepared | None:
    # Moonshot's own client resends a structural 400 once, with a stricter history (MoonshotAI/kimi-cli).
    if healer.started or prepared.call.strict:
        return None
    again = prepare(replace(prepared.call, strict=True))
    return None if again.body == prepared.body else again
