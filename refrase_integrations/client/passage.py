"""The way of one request out of the house: reserved at the account's limits and the user's budgets, then settled.

Every surface sends through it where limits or budgets are set; without any there is no `Passage` and no cost.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

from refrase_integrations.client.budgets import Budget, Cost, Reservation, active
from refrase_integrations.client.deadline import Deadline
from refrase_integrations.client.failures import meaning
from refrase_integrations.client.limits import Limiter, Limits, Place, limiter_of
from refrase_integrations.errors import ConnectionFailed, HostError, LimitReached, QuotaExceeded, StreamInterrupted
from refrase_integrations.kimi.messages import REASONING_KEYS
from refrase_integrations.kimi.practice import Change, Practice, Prepared, messages_of
from refrase_integrations.kimi.usage import latest_usage, read_usage
from refrase_integrations.kimi.wire import Chunk, Usage

BUDGET = Practice(id="budget", statement="Sends no request that could cost more than is left of a budget.", sources=())
"""Not a setting (`Budget` is); its line in the report says what was spent."""
LIMITS = Practice(id="limits", statement="Lets requests go as the account's limits allow.", sources=())
"""Not a setting (`Limits` is); its line in the report says how many tokens a request was counted with."""


def passage(
    prepared: Prepared, budget: Budget | None, limits: Limits | Limiter | None, account: Callable[[], str]
) -> Passage | None:
    """Return the way out for a request; None where nothing limits it.

    Args:
        prepared: the request.
        budget: of the model; those of ``with`` blocks come on top.
        limits: of the model.
        account: tells whose limits they are, where `Limits` does not say so.
    """
    budgets = active() if budget is None else (*active(), budget)
    if limits is None and not budgets:
        return None
    once = tuple({id(one): one for one in budgets}.values())
    return Passage(prepared, once, None if limits is None else limiter_of(limits, account()))


class Passage:
    """What one request has reserved. `enter` before each attempt to send it, `leave` after each.

    Args:
        prepared: the request. Its report gets a line about what was spent.
        budgets: what it is charged to.
        limiter: lets it go.
    """

    def __init__(self, prepared: Prepared, budgets: tuple[Budget, ...], limiter: Limiter | None) -> None:
        self._prepared, self._budgets, self._limiter = prepared, budgets, limiter
        self._most = _most(prepared)
        self._reserved: list[Reservation] = []
        self._place: Place | None = None
        self._open = False
        self._usage: Usage | None = None
        self._said: list[str] = []

    def enter(self, deadline: Deadline | None = None) -> None:
        """Reserve what the request could cost, and wait for its turn.

        Raises:
            BudgetExceeded: it could cost more than is left.
            LimitReached: its turn comes too late, or never.
            DeadlineExceeded: its turn comes after the deadline.
        """
        self._reserve()
        if self._limiter is not None:
            try:
                self._place = self._limiter.enter(self._most.tokens, _left(deadline))
            except BaseException as error:
                self._turned_away(error, deadline)
                raise

    async def aenter(self, deadline: Deadline | None = None) -> None:
        """The async twin of `enter`."""
        self._reserve()
        if self._limiter is not None:
            try:
                self._place = await self._limiter.aenter(self._most.tokens, _left(deadline))
            except BaseException as error:
                self._turned_away(error, deadline)
                raise

    def leave(self, failure: BaseException | None = None) -> None:
        """The attempt has ended: settle what it cost. Does nothing where none is under way."""
        if not self._open:
            return
        cost = self._cost(failure)
        for reservation in self._reserved:
            reservation.settle(cost)
        if self._place is not None and self._limiter is not None:
            self._place.leave(cost.tokens, well=failure is None)
            self._place = None
            pause = _pause(failure)
            if pause is not None:
                self._limiter.slow_down(pause or None)
        self._reserved, self._open, self._usage, self._said = [], False, None, []
        self._report()

    def through(self, chunks: Callable[[], Iterator[Chunk]], *, entered: bool = False) -> Iterator[Chunk]:
        """Hand on what a request brings, and settle at its end, whatever that is.

        Args:
            chunks: begins to send and yields what comes.
            entered: it calls `enter` itself, once an attempt.
        """
        failure: BaseException | None = None
        if not entered:
            self.enter()
        coming = chunks()
        try:
            for chunk in coming:
                self._see(chunk)
                yield chunk
        except BaseException as error:
            failure = error
            raise
        finally:
            try:
                if isinstance(coming, Generator):
                    coming.close()
            finally:
                self.leave(failure)

    async def athrough(
        self, chunks: Callable[[], AsyncIterator[Chunk]], *, entered: bool = False
    ) -> AsyncIterator[Chunk]:
        """The async twin of `through`."""
        failure: BaseException | None = None
        if not entered:
            await self.aenter()
        coming = chunks()
        try:
            async for chunk in coming:
                self._see(chunk)
                yield chunk
        except BaseException as error:
            failure = error
            raise
        finally:
            try:
                if isinstance(coming, AsyncGenerator):
                    await coming.aclose()
            finally:
                self.leave(failure)

    def _reserve(self) -> None:
        thread = self._prepared.call.thread_id
        try:
            for budget in self._budgets:
                self._reserved.append(budget.reserve(self._most, thread))
        except BaseException:
            self._release()
            raise
        self._open = True

    def _release(self) -> None:
        for reservation in self._reserved:
            reservation.settle(None)
        self._reserved, self._open = [], False

    def _turned_away(self, error: BaseException, deadline: Deadline | None) -> None:
        self._release()
        if isinstance(error, LimitReached) and error.retryable and deadline is not None:
            wait = math.inf if error.retry_after is None else error.retry_after
            if wait >= deadline.left():
                raise deadline.exceeded(0) from None

    def _see(self, chunk: Chunk) -> None:
        self._usage = latest_usage(self._usage, read_usage(chunk))
        self._said += _texts(chunk)

    def _cost(self, failure: BaseException | None) -> Cost:
        dialect, usage = self._prepared.call.dialect, self._usage
        prompt, completion = (usage or {}).get("prompt_tokens"), (usage or {}).get("completion_tokens")
        if usage is not None and prompt is not None and completion is not None:
            return Cost(prompt, completion, dialect.cost(usage), usage)
        if _was_refused(failure) and not self._said:
            return Cost(0, 0, 0.0)
        counted = self._prepared.call.count.text("".join(self._said))
        guessed: Usage = {"prompt_tokens": self._most.input, "completion_tokens": counted}
        return Cost(self._most.input, counted, dialect.cost(guessed))

    def _report(self) -> None:
        report = self._prepared.report
        if limited := [budget for budget in self._budgets if budget.limited]:
            report.healed = [line for line in report.healed if line.practice != BUDGET.id]
            report.heal(BUDGET, [Change("add", _words(budget, self._prepared.call.thread_id)) for budget in limited])


def _left(deadline: Deadline | None) -> float:
    return math.inf if deadline is None else deadline.left()


def _most(prepared: Prepared) -> Cost:
    """Return what a request could cost: its prompt at the full price, its output limit for each choice."""
    body: dict[str, Any] = dict(prepared.body)
    call, dialect = prepared.call, prepared.call.dialect
    counted = call.tokens(messages_of(prepared.body), body.get("tools"))
    prompt = math.ceil(counted * (1 + call.count.margin))
    asked = next((body[key] for key in _OUTPUT_KEYS if isinstance(body.get(key), int)), dialect.output_max)
    output = max(min(asked, dialect.window - counted), 0) * (body.get("n") or 1)
    usage: Usage = {"prompt_tokens": prompt, "completion_tokens": output}
    return Cost(prompt, output, dialect.cost(usage))


_SPOKEN = ("content", *REASONING_KEYS)
_OUTPUT_KEYS = ("max_completion_tokens", "max_tokens")


def _texts(chunk: Chunk) -> Iterator[str]:
    """Yield what a chunk says, for hosts that tell no usage and for streams that break before it."""
    for choice in chunk.get("choices") or ():
        said: Any = choice.get("delta") or choice.get("message") or {}
        yield from (
            text for key in ("content", "reasoning_content", "reasoning") if isinstance(text := said.get(key), str)
        )
        for call in said.get("tool_calls") or ():
            arguments = (call.get("function") or {}).get("arguments")
            if isinstance(arguments, str):
                yield arguments


def _was_refused(failure: BaseException | None) -> bool:
    """Tell whether a request was answered with an error, or never arrived, and so cost nothing."""
    if failure is None:
        return False
    if isinstance(failure, ConnectionFailed):
        return not failure.reached
    if isinstance(failure, HostError):
        return not isinstance(failure, StreamInterrupted)
    found = meaning(failure) if isinstance(failure, Exception) else None
    return found is not None and not issubclass(found, (ConnectionFailed, StreamInterrupted))


def _pause(failure: BaseException | None) -> float | None:
    """Return how long a failure slows everybody down: None: not at all; 0: the host did not say how long."""
    if isinstance(failure, HostError):
        if isinstance(failure, QuotaExceeded) or (failure.status != _TOO_MANY and failure.retry_after is None):
            return None
        return failure.retry_after or 0.0
    found = meaning(failure) if isinstance(failure, Exception) else None
    return 0.0 if found is not None and found.__name__ == "RateLimited" else None


_TOO_MANY = 429


def _words(budget: Budget, thread_id: str | None) -> str:
    spent = budget.spent
    own = budget.spent_by(thread_id)
    words = f"{spent.tokens:,} tokens, ${spent.usd:.6f} spent so far in {spent.requests:,} request(s)"
    return words if not own.requests else f"{words}; this thread: {own.tokens:,} tokens, ${own.usd:.6f}"
