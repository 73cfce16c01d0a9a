"""LangChain's own error classes laid over ours: what catches or retries by them works with this package too.

langchain-core names the conditions that every provider knows (``ContextOverflowError``, ``ModelRateLimitError`` ...).
Its summarization middleware shortens a prompt on the first, and its retry middlewares repeat only what the error calls
retryable. For each error of this package that means one of these conditions there is a class here that is both.

An error that this package has already retried is none to retry for LangChain: two layers would multiply. With
``max_retries=0`` nothing was, and LangChain's layer does it alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from langchain_core import exceptions

from refrase_integrations import errors
from refrase_integrations.errors import RefraseError

_MEANS: Mapping[type[RefraseError], str] = {
    errors.ConfigurationError: "ModelInvalidRequestError",
    errors.PracticeError: "ModelInvalidRequestError",
    errors.ContextWindowExceeded: "ContextOverflowError",
    errors.HostError: "ModelAPIError",
    errors.RequestRefused: "ModelInvalidRequestError",
    errors.ContextOverflow: "ContextOverflowError",
    errors.WrongKey: "ModelAuthenticationError",
    errors.AccessDenied: "ModelPermissionDeniedError",
    errors.ModelNotFound: "ModelNotFoundError",
    errors.QuotaExceeded: "ModelRateLimitError",
    errors.RateLimited: "ModelRateLimitError",
    errors.LimitReached: "ModelRateLimitError",
    errors.BudgetExceeded: "ModelRateLimitError",
    errors.ConnectionFailed: "ModelConnectionError",
    errors.RequestTimedOut: "ModelTimeoutError",
    errors.StreamInterrupted: "ModelConnectionError",
    errors.StructuredOutputError: "OutputParserException",
}
"""The names in `langchain_core.exceptions`; older releases lack some of them. Subclasses mean what their base means."""


@contextmanager
def classified() -> Iterator[None]:
    """Let errors of this package leave the block as LangChain's kind of error too."""
    try:
        yield
    except RefraseError as error:
        both = _BOTH.get(type(error))
        if both is not None:
            error.__class__ = both
        raise


Kinds = tuple[type[BaseException], ...]


def sorted_kinds(kinds: Kinds) -> tuple[Kinds, Kinds]:
    """Sort kinds of errors: those that a failure of a host may be, and the rest."""
    families = [_BOTH.get(kind, kind) for kind in _family(errors.HostError)]
    ours = tuple(kind for kind in kinds if any(issubclass(family, kind) for family in families))
    return ours, tuple(kind for kind in kinds if kind not in ours)


def _family(base: type[RefraseError]) -> Iterator[type[RefraseError]]:
    yield base
    for child in base.__subclasses__():
        yield from _family(child)


def _is_retryable(error: Any) -> bool:
    return getattr(error, "retryable", False) and getattr(error, "attempts", 1) == 1


def _both() -> dict[type[RefraseError], type[RefraseError]]:
    both: dict[type[RefraseError], type[RefraseError]] = {}
    for ours in list(_family(RefraseError)):
        name = next((_MEANS[base] for base in ours.__mro__ if base in _MEANS), None)
        theirs = getattr(exceptions, name, None) if name else None
        if theirs is not None:
            own: dict[str, Any] = {"__module__": __name__, "__doc__": ours.__doc__}
            own["is_retryable"] = property(_is_retryable)
            both[ours] = type(ours.__name__, (ours, theirs), own)
    return both


_BOTH = _both()
globals().update({kind.__name__: kind for kind in _BOTH.values()})  # where pickle looks for them
