"""Every error this package raises, in one tree under `RefraseError`.

A message says what is wrong, what was seen and what to do. No error carries prompt text, a key or a header.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refrase_integrations.kimi.dialect import Dialect
    from refrase_integrations.kimi.practice import Change, Practice
    from refrase_integrations.kimi.wire import Usage


class RefraseError(Exception):
    """Base of every error of this package."""


class RefraseWarning(UserWarning):
    """Base of every warning of this package."""


# -- what can be known before a request ------------------------------------------------------------------


class ConfigurationError(RefraseError, ValueError):
    """A setting is missing, unknown or contradictory."""


class MissingKey(ConfigurationError):
    """No API key was given and none of the host's own environment variables is set."""


class MissingExtra(ConfigurationError, ImportError):
    """A part of the package needs an optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional part: pip install 'refrase-integrations[{extra}]'")
        self._made_of = (feature, extra)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self._made_of)


class UnsupportedProtocol(ConfigurationError):
    """The host does not speak the OpenAI protocol; another surface has to be used."""


class InvalidMessage(ConfigurationError):
    """A message cannot be put on the wire."""


class CatalogueError(ConfigurationError):
    """A model, host or catalogue file is unknown or wrong."""


class CatalogueWarning(RefraseWarning):
    """A model or host is not in the catalogue; safe defaults are used."""


class _ByPractice(RefraseError):
    practice: str = ""
    details: tuple[str, ...] = ()

    @classmethod
    def of(cls, practice: Practice, stops: Sequence[Change], dialect: Dialect) -> Self:
        """Build the error for the changes that ``practice`` may not make or cannot do without."""
        details = tuple(stop.detail for stop in stops)
        error = cls(
            f"{practice.id}: {'; '.join(details)} [model {dialect.model_id}, host {dialect.host.id}]. "
            f"{practice.statement} To change this: "
            f"practices={{{practice.id.replace('-', '_')!r}: 'apply' | 'warn' | 'error' | 'off'}}."
        )
        error.practice, error.details = practice.id, details
        return error


class PracticeError(_ByPractice, ValueError):
    """A practice refuses the request before it is sent.

    Attributes:
        practice: id of the practice, such as ``"vision"``.
        details: what it found, one line each.
    """


class VisionUnsupported(PracticeError):
    """Images or video were given that the model cannot see, or that the host cannot fetch."""


class ContextWindowExceeded(PracticeError):
    """The prompt and the wanted output do not fit the model's context window."""


class NoLiveData(PracticeError):
    """A question needs live data and no live tool is bound."""


class ToolSchemaError(PracticeError):
    """A tool's parameters cannot be expressed in the schema flavour of the host."""


class ToolNameError(PracticeError):
    """Tools cannot be named so that the host takes them."""


class LoopStopped(PracticeError):
    """The model made the same tool call too often in a row; the last one was not made."""


# -- limits and budgets ----------------------------------------------------------------------------------


def _dollars(amount: float) -> str:
    return f"${amount:,.4f}" if amount >= 1 else f"${amount:.6f}"  # a request costs thousandths of a cent


class BudgetExceeded(RefraseError):
    """A request could cost more than is left of a budget, so it was not sent.

    Attributes:
        budget: which: ``"usd"``, ``"tokens"``, ``"thread_usd"`` or ``"thread_tokens"``, as in `Budget`.
        limit: of the budget, in US dollars or tokens.
        spent: what requests that have ended used of it.
        reserved: what running requests could still use of it.
        needed: what this request could cost.
    """

    retryable: ClassVar[bool] = False

    def __init__(
        self, budget: str, *, limit: float, spent: float, reserved: float, needed: float, detail: str = ""
    ) -> None:
        written = _dollars if budget.endswith("usd") else "{:,} tokens".format
        held = f", {written(reserved)} reserved by running requests" if reserved else ""
        whose = "this thread's budget" if budget.startswith("thread") else "the budget"
        super().__init__(
            f"{whose} of {written(limit)} has {written(spent)} spent{held}, and this request could cost "
            f"{written(needed)}{f' ({detail})' if detail else ''}: not sent. Raise Budget({budget}=...), lower the "
            "output limit (max_tokens), or let Budget(rule='expected') count on replies as long as those so far."
        )
        self.budget, self.limit, self.spent, self.reserved, self.needed = budget, limit, spent, reserved, needed

    @property
    def passing(self) -> bool:
        """Whether the request would fit once the running ones are settled and have used nothing."""
        return self.spent + self.needed <= self.limit

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt(self)


class LimitReached(RefraseError):
    """A request would have to wait longer for the account's limits than it may, so it was not sent.

    Attributes:
        retryable: False: never, it is larger than a limit.
        retry_after: seconds until there is room for it, where that is known.
    """

    def __init__(self, seen: str, *, retryable: bool = True, retry_after: float | None = None) -> None:
        super().__init__(seen)
        self.retryable, self.retry_after = retryable, retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt(self)


class BatchFileError(ConfigurationError):
    """The file of a batch cannot be used: it holds something else, or another run has it open."""


# -- what a host answers ---------------------------------------------------------------------------------


class HostError(RefraseError):
    """The host refused or failed a request.

    Attributes:
        status: HTTP status, or None where no response came.
        type: the host's own error type, such as ``"invalid_request_error"``.
        host: id of the host.
        model: the model's name as it was sent.
        request_id: the host's id of the request, for its support.
        retry_after: seconds that the host asked to wait, if it did.
        retryable: whether the same request may succeed later.
        attempts: how often the request was sent.
        seen: the host's own words, without prompt text.
        partial: what a stream had handed out before, in the form of the calling framework; None: nothing.
    """

    advice: ClassVar[str] = ""
    retryable: bool = False
    attempts: int = 1
    partial: Any = None

    def __init__(
        self,
        seen: str,
        *,
        status: int | None = None,
        type: str | None = None,
        host: str = "",
        model: str = "",
        request_id: str | None = None,
        advice: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        where = ", ".join(
            part
            for part in (
                f"host {host}" if host else "",
                f"model {model}" if model else "",
                f"HTTP {status}" if status else "",
                type or "",
                f"request {request_id}" if request_id else "",
            )
            if part
        )
        wise = self.advice if advice is None else advice
        super().__init__(f"{seen.rstrip('. ')} [{where}]. {wise}".strip())
        self.status, self.type, self.host, self.model, self.request_id = status, type, host, model, request_id
        self.seen = seen
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt(self)


def _rebuilt(error: RefraseError) -> tuple[Any, ...]:
    """Return what pickle needs of an error that is not made of its text alone."""
    state = {key: value for key, value in error.__dict__.items() if not key.startswith("__")}
    return (_rebuild, (type(error), error.args, state))


def _rebuild(cls: type[RefraseError], args: tuple[Any, ...], state: dict[str, Any]) -> RefraseError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class RequestRefused(HostError):
    """The host refused the request as it stands (400 and the like)."""

    advice = "The request has to change; sending it again will not help."


class WrongKey(HostError):
    """The key is not valid at this host (401)."""

    advice = "Check the key, and that it belongs to this host."


class AccessDenied(HostError):
    """The key is valid but may not do this (403)."""

    advice = "The account or the key's plan does not cover this model or endpoint: see the host's console."


class PlanRefused(AccessDenied):
    """The key belongs to the Kimi coding plan, which covers certain clients only (403 access_terminated_error)."""

    advice = (
        "Keys of the Kimi coding plan work only with host='kimi-code' and the clients that the plan allows; for an "
        "application use a platform key and host='moonshot'."
    )


class WrongEndpoint(HostError):
    """Something answered that is no chat-completions API: a web page, another path, a redirect."""

    advice = "Check base_url, which usually ends in /v1, and any proxy on the way."


class ModelNotFound(HostError):
    """The host does not serve this model, or not to this account (404)."""

    advice = "Ask the host for its list (GET /v1/models) and use one of its names."


class FormulaNotFound(HostError):
    """Moonshot's platform has no such formula, or not any more (404)."""

    advice = "See the list at platform.kimi.ai/docs/guide/use-official-tools."


class ContextOverflow(RequestRefused):
    """The host counted more tokens than the model's window holds."""

    advice = "Shorten or trim the messages, or lower the output limit, which counts against the window too."


class SchemaRefused(RequestRefused):
    """The host refused a tool's or a response's JSON schema."""

    advice = "Leave the practice 'tool-schemas' on, which rewrites schemas to the host's flavour."


class ToolNameRefused(RequestRefused):
    """The host refused a tool's name."""

    advice = "Leave the practice 'tool-names' on, which gives the host names that it takes and maps them back."


class ToolChoiceRefused(RequestRefused):
    """The host refused the forced tool choice."""

    advice = "Leave the practice 'tool-choice' on, which sends 'auto' and asks once more where a choice is forced."


class ReasoningMissing(RequestRefused):
    """A thinking model was given an assistant tool call without the reasoning that led to it."""

    advice = "Keep each assistant message as it was returned, its reasoning included, and leave 'reasoning-replay' on."


class SamplingRefused(RequestRefused):
    """The host refused temperature, top_p, n or a penalty."""

    advice = "Leave the practices 'temperature' and 'sampling' on: newer Kimi models fix these values."


class ThinkingRefused(RequestRefused):
    """The host refused the thinking switch."""

    advice = "Use one switch only: the argument thinking=True or thinking=False, with the practice 'thinking' on."


class HistoryRefused(RequestRefused):
    """The host refused the form of the conversation: blank, orphaned, unanswered or duplicate parts."""

    advice = "Leave the practice 'history' on, which repairs such threads on the wire."


STRUCTURAL = (HistoryRefused, ReasoningMissing)
"""A host refused the form of the history: it is repaired and sent once more."""


class ContentFiltered(RequestRefused):
    """The host's content filter stopped the request."""

    advice = "The host considers the request a high risk; change its content."


class QuotaExceeded(HostError):
    """The account's balance or quota is used up (429). Never retried."""

    advice = "Top up the account or raise its quota; waiting does not help."


class RateLimited(HostError):
    """Too many requests or tokens in the minute, or too many at once (429)."""

    advice = "Slow down, or raise the account's tier; the requested output limit counts as tokens."
    retryable = True


class HostOverloaded(HostError):
    """The host has no capacity right now (429 engine_overloaded_error, 503, 529)."""

    advice = "Try again later."
    retryable = True


class HostFailed(HostError):
    """The host failed on its own (5xx, 408, 409)."""

    advice = "Try again later."
    retryable = True


class ConnectionFailed(HostError):
    """The host could not be reached, or the connection broke before a reply.

    Attributes:
        reached: False: no connection was made, so nothing was sent. True: the host may have worked on the request.
    """

    advice = "Check base_url, proxy and network."
    retryable = True
    reached = True


class RequestTimedOut(ConnectionFailed):
    """The host did not answer in time."""

    advice = "Raise timeout=, stream the reply, or lower the output limit."


class DeadlineExceeded(RequestTimedOut):
    """The call took longer than its deadline, all requests and waits together. Its ``attempts`` are those of the last
    request; in a stream `partial` holds what was handed out before."""

    advice = "Raise deadline=, or ask for less: fewer output tokens, thinking=False where the model can."
    retryable = False

    @classmethod
    def by(cls, seconds: float, attempts: int, last: HostError | None = None) -> DeadlineExceeded:
        """Build the error for a call of which ``last`` was the latest failure; ``attempts`` 0: it was not sent."""
        tries = f"{attempts} attempt{'s' if attempts != 1 else ''}"
        why = f"; last: {type(last).__name__}: {last.seen}" if last is not None else ""
        host, model = (last.host, last.model) if last is not None else ("", "")
        error = cls(f"the deadline of {seconds:g} s left no more time after {tries}{why}", host=host, model=model)
        error.attempts = attempts
        return error


# -- what a reply may lack -------------------------------------------------------------------------------


class ReplyError(_ByPractice):
    """The host answered, but the answer cannot be used.

    Attributes:
        practice: id of the practice that judged it, if one did.
        details: what it found, one line each.
        usage: tokens of all model calls of the user's call, in the form of the wire, where the host told.
    """

    usage: Usage | None = None


class FormulaFailed(ReplyError):
    """A Formula tool ran and failed.

    Attributes:
        seen: the tool's own words, for the model to read. They may repeat its arguments.
    """

    def __init__(self, tool: str, seen: str) -> None:
        super().__init__(f"the Formula tool {tool!r} failed; its own words, for the model, are in .seen")
        self.seen = seen
        self._made_of = (tool, seen)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self._made_of)


class EmptyReply(ReplyError):
    """The reply held neither text nor a tool call, only reasoning or nothing, also when asked once more.

    A reply that was cut at the output limit is not asked for again: it would be cut again.
    """


class StructuredOutputError(ReplyError, ValueError):
    """The reply does not fit the wanted schema, also after the bounded re-ask."""


class ToolCallMissing(StructuredOutputError):
    """A tool call was forced, or made in a form that nobody can use, and no usable one came, also when asked once more:
    such a call is an answer in a form."""


class StreamInterrupted(HostError):
    """The stream broke after part of the reply was handed out (`partial`), and could not be taken up again."""

    advice = "What came before was handed out already, and is in the error's .partial where the surface keeps it."
    retryable = True

    @classmethod
    def by(cls, cause: HostError) -> StreamInterrupted:
        """Build the error for a stream that ``cause`` broke."""
        error = cls(
            f"the stream broke: {cause.seen}",
            status=cause.status,
            type=cause.type,
            host=cause.host,
            model=cause.model,
            request_id=cause.request_id,
            retry_after=cause.retry_after,
        )
        error.retryable = cause.retryable
        return error
