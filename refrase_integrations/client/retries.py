"""The one retry policy: what is tried again, and after how long."""

from __future__ import annotations

import logging
import random
from typing import Any, NoReturn

import tenacity

from refrase_integrations.client.deadline import Deadline
from refrase_integrations.errors import HostError

FIRST_WAIT = 0.5
"""Seconds: upper bound of the first random wait; it doubles up to `LONGEST_WAIT` (MoonshotAI/kimi-cli: 0.5 to 32)."""
LONGEST_WAIT = 32.0
LONGEST_ASKED = 120.0
"""Seconds: a host that asks for a longer wait is not asked again; the error says how long it wants."""

_log = logging.getLogger("refrase_integrations")


def attempts(max_retries: int, failed: list[HostError], deadline: Deadline) -> tenacity.Retrying:
    """Return the sync retry loop: ``attempts(2, failed, deadline)(function, *arguments)``.

    Args:
        max_retries: tries after the first one.
        failed: takes the error of each attempt that is tried again, in order.
        deadline: of the whole call; a wait that would pass it is not begun.

    Returns:
        A tenacity loop that retries `HostError`s marked retryable, with full jitter, and honours Retry-After. The
        error it gives up with says in its ``attempts`` how often the request was sent.
    """
    return tenacity.Retrying(**_policy(max_retries, failed, deadline))


def aattempts(max_retries: int, failed: list[HostError], deadline: Deadline) -> tenacity.AsyncRetrying:
    """Return the async retry loop; see `attempts`."""
    return tenacity.AsyncRetrying(**_policy(max_retries, failed, deadline))


def before_resuming(resumed: int) -> float:
    """Return the seconds to wait before a broken stream is taken up for the ``resumed``-th time; 0: never it was."""
    return random.uniform(0, min(FIRST_WAIT * 2 ** (resumed - 1), LONGEST_WAIT)) if resumed else 0.0  # noqa: S311


def _policy(max_retries: int, failed: list[HostError], deadline: Deadline) -> dict[str, Any]:
    most = max(max_retries, 0) + 1

    def stop(state: tenacity.RetryCallState) -> bool:
        return state.attempt_number >= most or state.upcoming_sleep >= deadline.left()

    def give_up(state: tenacity.RetryCallState) -> NoReturn:
        error = _error(state)
        if error is None:
            raise AssertionError("only host errors are tried again")
        late = deadline.left() <= 0 or (state.attempt_number < most and state.upcoming_sleep >= deadline.left())
        raise deadline.exceeded(state.attempt_number, error) if late else error

    def note(state: tenacity.RetryCallState) -> None:
        error = _error(state)
        if error is not None:
            failed.append(error)
            _log.info(
                "attempt %d of %d at host %s failed (%s, HTTP %s); next in %.1f s",
                state.attempt_number, most, error.host, type(error).__name__, error.status,
                state.next_action.sleep if state.next_action else 0.0,
            )  # fmt: skip

    return {
        "stop": stop,
        "wait": _wait,
        "retry": _again,
        "before_sleep": note,
        "retry_error_callback": give_up,
        "reraise": True,
    }


_jitter = tenacity.wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT)


def _error(state: tenacity.RetryCallState) -> HostError | None:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, HostError) else None


def _again(state: tenacity.RetryCallState) -> bool:
    error = _error(state)
    if error is None:
        return False
    error.attempts = state.attempt_number
    return error.retryable and (error.retry_after or 0.0) <= LONGEST_ASKED


def _wait(state: tenacity.RetryCallState) -> float:
    error = _error(state)
    if error is None or error.retry_after is None:
        return _jitter(state)
    # A little later than asked, at random: clients that were refused together must not come back together.
    return error.retry_after + random.uniform(0, FIRST_WAIT)  # noqa: S311
