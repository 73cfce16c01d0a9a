"""`run` and `arun`: one user call from its body to a healed reply. The way to the host is handed in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace

from refrase_integrations.errors import (
    STRUCTURAL,
    BudgetExceeded,
    DeadlineExceeded,
    HostError,
    InvalidMessage,
    LimitReached,
    StreamInterrupted,
)
from refrase_integrations.kimi.continuation import BROKEN, CUT, rest_of
from refrase_integrations.kimi.inputs import misfit
from refrase_integrations.kimi.practice import Call, Change, Delta, Kind, Practice, Prepared
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.stream import Healer, Received
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
        InvalidMessage: the request has not the form of one, or cannot be written as JSON.
        HostError: whatever ``send`` raises; a structural 400 is first repaired and resent once, a broken stream taken
            up again.
    """
    turn = _Turn(call, structural)
    while (request := turn.request()) is not None:
        failure: Exception | None = None
        try:
            for chunk in send(request):
                yield from turn.healer.feed(chunk)
            turn.ended()
        except Exception as error:  # noqa: BLE001 - what cannot be mended is raised
            failure = turn.failed(error)
        if failure is not None:
            raise failure
        if turn.request() is None:
            yield from turn.close()


async def arun(
    call: Call,
    send: Callable[[Prepared], AsyncIterator[Chunk]],
    structural: Callable[[Exception], bool] = is_structural,
) -> AsyncGenerator[Delta, None]:
    """The async twin of `run`; see there."""
    turn = _Turn(call, structural)
    while (request := turn.request()) is not None:
        chunks, failure = send(request), None
        try:
            async for chunk in chunks:
                for delta in turn.healer.feed(chunk):
                    yield delta
            turn.ended()
        except Exception as error:  # noqa: BLE001 - what cannot be mended is raised
            failure = turn.failed(error)
        finally:
            # Nobody else closes an async generator that is left in the middle, before the garbage collector does.
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()
        if failure is not None:
            raise failure
        if turn.request() is None:
            for delta in turn.close():
                yield delta


_OF_ODD_VALUES = (TypeError, ValueError, RecursionError)


_UNTOLD = "; the tokens of the broken part were not told and are missing from usage"


class _Turn:
    """What one user call stands at between its requests."""

    def __init__(self, call: Call, structural: Callable[[Exception], bool]) -> None:
        first = prepare(call)
        self.healer = Healer(first)
        self._request: Prepared | None = first
        self._structural = structural
        self._resumed = 0
        self._continued = 0
        self._broken: StreamInterrupted | None = None
        self._cut = False
        self._begun: Received | None = None
        """What a stream that is taken up again had brought."""

    def request(self) -> Prepared | None:
        """Return what to send next; None: the reply is over, `close` it."""
        return self._request

    def ended(self) -> None:
        """A response came to its end: the next request is for the rest of a reply that was cut at the limit."""
        prepared, received, wanted = self.healer.prepared, self.healer.received(), self.healer.prepared.call.continues
        self._check_rest(received)
        self._request, self._begun = None, None
        self._broken, self._cut = None, False
        if received.finish != "length" or not wanted:
            return
        if self._continued >= wanted:
            self._note(CUT, "advise", f"cut at the output limit again, after {wanted} continuation(s)")
            return
        rest = rest_of(prepared, received, self._resumed)
        if isinstance(rest, str):
            self._note(CUT, "advise", f"the reply was cut at the output limit and not carried on: {rest}")
            return
        self._continued += 1
        self._note(CUT, "encode", f"cut at the output limit: carried on ({self._continued} of {wanted})")
        self.healer.go_on()
        self._request, self._cut = rest, True

    def failed(self, error: Exception) -> Exception | None:
        """A request failed: choose the next one, or return the error that ends the call."""
        request, healer = self._request, self.healer
        if request is not None and self._structural(error) and not healer.started and not request.call.strict:
            # Moonshot's own client resends a structural 400 once, with a stricter history (MoonshotAI/kimi-cli).
            again = prepare(replace(request.call, strict=True))
            if again.body != request.body:
                self._request, self.healer = again, Healer(again, before=healer)
                return None
        if isinstance(error, StreamInterrupted):
            return self._interrupted(error)
        if not isinstance(error, (HostError, BudgetExceeded, LimitReached)) or isinstance(error, DeadlineExceeded):
            # What another model's client says of a body that cannot be sent names neither the place nor the cure.
            odd = misfit(request.body) if request is not None and isinstance(error, _OF_ODD_VALUES) else None
            return error if odd is None else InvalidMessage(odd)
        if self._cut:  # the reply up to the limit is worth as much as without the wish to carry it on
            self._note(CUT, "advise", f"carrying on failed ({type(error).__name__}): the reply ends where it was cut")
            self._request = None
            return None
        return self._broken if self._broken is not None and healer.said else error

    def close(self) -> list[Delta]:
        """End a reply; the next request is then its followup, if it has one."""
        deltas, self._request = self.healer.close(), self.healer.again
        if self._request is not None:
            self.healer = Healer(self._request, before=self.healer)
        return deltas

    def _check_rest(self, received: Received) -> None:
        """Raise where the rest of a stream came back empty: nothing shows that the text was whole when it broke."""
        begun = self._begun
        if begun is None or received.calling or len(received.content) > len(begun.content):
            return
        call = self.healer.prepared.call
        if received.finish != "content_filter" and not (received.finish == "length" and call.continues):
            dialect = call.dialect
            raise StreamInterrupted("the rest of it came back empty", host=dialect.host.id, model=dialect.model_id)

    def _interrupted(self, error: StreamInterrupted) -> StreamInterrupted | None:
        healer, prepared = self.healer, self.healer.prepared
        error.attempts = self._resumed + 1
        if not error.retryable or self._resumed >= prepared.call.resumes:
            return error
        received, resumed = healer.received(), self._resumed + 1
        if self._begun is not None and self._begun.calling:
            received = received._replace(calling=True)
        rest = rest_of(prepared, received, resumed)
        lost = "" if healer.told else _UNTOLD
        if not isinstance(rest, str):
            self._begun = received
            self._note(
                BROKEN, "encode", f"the stream broke: taken up again after {len(received.content)} characters{lost}"
            )
            healer.go_on()
        elif not healer.said:
            self._note(BROKEN, "encode", f"the stream broke before anything was handed out: sent again{lost}")
            healer.start_over()
            self._begun = None
            rest = replace(prepared, call=replace(prepared.call, resumed=resumed))
        else:
            error.add_note(f"The stream was not taken up again: {rest}.")
            return error
        self._request, self._resumed, self._broken = rest, resumed, error
        return None

    def _note(self, about: Practice, kind: Kind, detail: str) -> None:
        self.healer.prepared.report.heal(about, [Change(kind, detail)])
