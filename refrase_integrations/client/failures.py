"""From what the SDK raises, or a host answers, to a typed error that says the cause and the fix."""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from refrase_integrations import errors
from refrase_integrations.client.connection import Connection
from refrase_integrations.errors import HostError
from refrase_integrations.kimi.catalogue import find_model, hosts, replacement
from refrase_integrations.kimi.catalogue.profile import HostProfile
from refrase_integrations.kimi.dialect import Dialect
from refrase_integrations.kimi.wire import Body

_LONGEST = 400  # characters of a host's message that an error shows
_READ = 800  # characters of it that are read at all
_BLOCK = 6  # an echo of the prompt is looked for in steps of so many characters
_ECHO = 12  # and taken out from so many characters on: a run of 2 * _BLOCK - 1 holds a whole step, none is missed
_SECRET = 6  # characters from which on a header's or query's value is taken out of a message


class Cause(NamedTuple):
    """One row: what a host's answer looks like, and what it means."""

    status: tuple[int, ...]
    """HTTP statuses. An error inside a stream has none: there the pattern alone decides."""
    pattern: str
    """Searched in ``"{type} {code} {message}"``, lower case; empty: anything with one of the statuses."""
    error: type[HostError]


_REFUSED = (400, 409, 413, 422)
_BUSY = (429, 500, 502, 503, 529)
CAUSES: tuple[Cause, ...] = (
    Cause(
        (402, 403, 429),
        r"exceeded_current_quota|insufficient.?(quota|balance|credit|funds)|billing|account balance|more credits",
        errors.QuotaExceeded,
    ),
    Cause((402,), "", errors.QuotaExceeded),
    Cause(_BUSY, r"engine_overloaded|server_unavailable|overloaded", errors.HostOverloaded),
    Cause((429,), r"rate.?limit|too many requests|max (rpm|tpm|tpd|concurrency)", errors.RateLimited),
    Cause((429,), "", errors.RateLimited),
    Cause(
        (400, 401, 403),
        r"invalid_authentication|incorrect_api_key|invalid.?api.?key|api key not valid",
        errors.WrongKey,
    ),
    Cause((401,), "", errors.WrongKey),
    Cause((403,), r"access_terminated|coding agents", errors.PlanRefused),
    Cause((403,), "", errors.AccessDenied),
    Cause((400, 403, 422), r"content_filter|high risk", errors.ContentFiltered),
    Cause(
        (400, 404, 410, 422),
        r"resource_not_found|model_not_found|model_decommissioned|not a valid model"
        r"|not found.{0,20}\bmodel|\bmodel\b.{0,120}(not found|not exist|not available|decommissioned|no longer)",
        errors.ModelNotFound,
    ),
    Cause(
        (*_REFUSED, 500),
        r"exceeded model token limit|context.?(length|window)|token length too long|too many tokens",
        errors.ContextOverflow,
    ),
    Cause(_REFUSED, r"tool_choice", errors.ToolChoiceRefused),
    Cause(_REFUSED, r"reasoning_content.{0,20}(missing|required|must)", errors.ReasoningMissing),
    Cause(
        _REFUSED,
        r"function name is invalid|tools?\b.{0,40}\bname.{0,40}(invalid|pattern|match)",
        errors.ToolNameRefused,
    ),
    Cause(_REFUSED, r"json.?schema|tools\.function\.parameters|response_format|flavored", errors.SchemaRefused),
    Cause(_REFUSED, r"invalid thinking|thinking'? and '?reasoning_effort", errors.ThinkingRefused),
    Cause(
        _REFUSED,
        r"invalid (temperature|top_p|n|presence_penalty|frequency_penalty)\b|only .{1,40} allowed for this model",
        errors.SamplingRefused,
    ),
    Cause(
        _REFUSED,
        r"must not be empty|content is empty|tool_call_id|tool.?call id|tool messages|extra inputs|is unsupported",
        errors.HistoryRefused,
    ),
    Cause(_REFUSED, r"\bthinking\b|reasoning_effort", errors.ThinkingRefused),
    Cause((404, 405), "", errors.WrongEndpoint),
    Cause((503, 529), "", errors.HostOverloaded),
    Cause((408, 504), "", errors.RequestTimedOut),
)
"""First match wins; what no row knows is the host's own failure (5xx, 409, 425, 499, none) or a refusal (the rest).
Sources: platform.kimi.ai/docs/api/errors (copy of 2026-08-18), and the issues named in the tests of each row."""

_RAISED = re.compile(r"[\w.]*(?:Error|Exception|Refused|Missing|Overloaded|Exceeded|NotFound|Key|Limited)\b[^:]*:")
_STATUS = re.compile(r"(?:\bHTTP(?:/[\d.]+)?[ :]|[Ss]tatus(?: ?code)?[\"': ]+|[Cc]ode[\"': ]+|^)\s*([45]\d\d)\b")
_UNSENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})  # of the HTTP library, or the SDK's cause
_OWN_FAILURE = (408, 409, 425, 499)
_WAIT_TOLD = re.compile(r"try again (?:after|in) (\d+(?:\.\d+)?) ?s", re.IGNORECASE)
_KEY_LIKE = re.compile(r"\b(?:sk|rk|pk|hf|gsk|nvapi)[-_][\w*.-]{6,}|(?<=bearer )\S+", re.IGNORECASE)
_DATA_URL = re.compile(r"data:[\w/+.-]+;base64,[\w+/=-]*")
_ESCAPE = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|([nrt\"'/]))")
_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t"}
_WORD = re.compile(r"[\w. -]{1,64}")


def typed(error: Exception, body: Body, dialect: Dialect | None, connection: Connection) -> HostError:
    """Turn an exception of the SDK into one of ours.

    Args:
        error: what the SDK raised, an `openai.OpenAIError`.
        body: the request, to take echoes of the prompt out of the host's message.
        dialect: names the model; None: the request is to none.
        connection: names the address; its key, headers and query are taken out of the host's message too.

    Returns:
        The typed error. Its text holds the host's own words, without prompt text.
    """
    import openai

    if isinstance(error, openai.APIConnectionError):
        return unreached(error, dialect, connection)
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    return answered(
        getattr(error, "status_code", None),
        getattr(error, "body", None),
        body,
        dialect,
        connection,
        request_id=getattr(error, "request_id", None),
        retry_after=_retry_after(headers),
    )


def unreached(error: Exception, dialect: Dialect | None, connection: Connection) -> HostError:
    """Build the typed error for a request that got no answer.

    Args:
        error: what the SDK or the HTTP library under it raised: a timeout, by its name, or a broken connection.
        dialect: see `typed`.
        connection: see `typed`.
    """
    where: dict[str, Any] = {"host": connection.host.id, "model": dialect.model_id if dialect else ""}
    failed: errors.ConnectionFailed
    if "Timeout" in type(error).__name__:
        limit = f" within {connection.timeout:g} s" if isinstance(connection.timeout, (int, float)) else ""
        failed = errors.RequestTimedOut(f"{connection.base_url} gave no answer{limit}", **where)
    else:
        failed = errors.ConnectionFailed(f"the connection to {connection.base_url} failed ({_root(error)})", **where)
    failed.reached = _UNSENT.isdisjoint(type(one).__name__ for one in (error, error.__cause__))
    return failed


def refused(response: Any, body: Body, dialect: Dialect | None, connection: Connection) -> HostError:
    """Build the typed error for an HTTP response that is no success.

    Args:
        response: of the HTTP library, its body read.
        body: the request; see `typed`.
        dialect: see `typed`.
        connection: see `typed`.
    """
    payload: Any = response.text.strip()
    with suppress(ValueError, RecursionError):
        payload = json.loads(payload)
    if isinstance(payload, Mapping):
        payload = payload.get("error", payload)
    return answered(
        response.status_code,
        payload,
        body,
        dialect,
        connection,
        request_id=response.headers.get("x-request-id"),
        retry_after=_retry_after(response.headers),
    )


def answered(
    status: int | None,
    payload: object,
    body: Body,
    dialect: Dialect | None,
    connection: Connection,
    *,
    request_id: str | None = None,
    retry_after: float | None = None,
) -> HostError:
    """Build the typed error for what a host answered.

    Args:
        status: HTTP status; None inside a stream.
        payload: the answer, or the inside of its ``error`` object; any other form than an object is taken too.
        body: the request; see `typed`.
        dialect: see `typed`.
        connection: see `typed`.
        request_id: the host's id of the request.
        retry_after: seconds that the host asked to wait.
    """
    said = _Said.of(payload)
    if status is None and said.code.isdigit() and 400 <= int(said.code) <= 599:
        status = int(said.code)  # OpenRouter, vLLM: an error inside a stream says its status so
    message = _cleaned(said.message, body, connection)
    found = _cause(status, f"{said.type} {said.code} {message}".lower())
    told = _WAIT_TOLD.search(message)
    return found(
        message[:_LONGEST] or ("it answered with a web page" if said.page else "the host gave no reason"),
        status=status,
        type=said.type or said.code or None,
        host=connection.host.id,
        model=dialect.model_id if dialect else "",
        request_id=request_id,
        advice=_advice(found, dialect, connection.host),
        retry_after=float(told[1]) if retry_after is None and told else retry_after,
    )


def meaning(error: Exception) -> type[HostError] | None:
    """Return what an exception of any package's client means; None where it holds no host's answer.

    The clients of the openai family and most others have ``status_code`` and ``body``; boto's have ``response``.
    """
    status = getattr(error, "status_code", None)
    if status is None:
        response = getattr(error, "response", None)
        answer = response.get("ResponseMetadata") if isinstance(response, Mapping) else None
        status = answer.get("HTTPStatusCode") if isinstance(answer, Mapping) else None
    if not isinstance(status, int):
        return None
    said = _Said.of(getattr(error, "body", None))
    words = said.message or str(error)
    return _cause(status, f"{said.type} {said.code} {words[:_READ]}".lower())


def pasted(text: str) -> tuple[int | None, object] | None:
    """Read an error as people paste it: an error body, or what an SDK, a log or this package printed.

    Returns:
        The HTTP status, where it is told, and the answer, for `answered`; None where the text says nothing.
    """
    text = text.strip()
    lines = [line.strip() for line in text.splitlines() if _RAISED.match(line.strip())]
    said = lines[-1] if lines else text  # a traceback ends with what was raised
    status = _STATUS.search(said)
    payload: object = said
    inside = said[said.index("{") : said.rindex("}") + 1] if "{" in said and "}" in said[said.index("{") :] else ""
    for read in (json.loads, ast.literal_eval):  # an SDK prints the body as a Python dict
        try:
            payload = read(inside)
            break
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    if not said:
        return None
    return (int(status[1]) if status else None), payload


class _Said(NamedTuple):
    """What a host's answer says, whatever its form."""

    message: str = ""
    type: str = ""
    code: str = ""
    page: bool = False

    @classmethod
    def of(cls, payload: object) -> _Said:
        if isinstance(payload, str):
            page = payload.lstrip()[:1] == "<"
            return cls(page=page) if page else cls(payload)
        if isinstance(payload, list):
            payload = next((item for item in payload if isinstance(item, Mapping)), {})
        if not isinstance(payload, Mapping):
            return cls()
        inner = payload.get("error")
        if isinstance(inner, Mapping):
            payload = inner
        detail = payload.get("message") or payload.get("detail") or (inner if isinstance(inner, str) else "")
        kind, code = (str(payload.get(key) or "") for key in ("type", "code"))
        return cls(
            _text(detail), kind if _WORD.fullmatch(kind) else "", code if _WORD.fullmatch(code) else "", page=False
        )


def _text(detail: object) -> str:
    if isinstance(detail, str):
        return detail
    if isinstance(detail, list):  # FastAPI's form: where and what, beside the input itself
        problems = [item for item in detail if isinstance(item, Mapping)]
        return "; ".join(f"{'.'.join(map(str, item.get('loc') or ()))}: {item.get('msg', '')}" for item in problems)
    return ""


def _cause(status: int | None, words: str) -> type[HostError]:
    for row in CAUSES:
        if (status in row.status or (status is None and row.pattern)) and re.search(row.pattern, words):
            return row.error
    if status is not None and 300 <= status < 400:
        return errors.WrongEndpoint
    if status is not None and 400 <= status < 500 and status not in _OWN_FAILURE:
        return errors.RequestRefused
    return errors.RequestRefused if status is None and "invalid_request" in words else errors.HostFailed


def _cleaned(message: str, body: Body, connection: Connection) -> str:
    """Take out of a host's message what it echoes of the request: some servers quote their input, or the key."""
    message = message[:_READ]
    for secret in connection.secrets():
        if len(secret) >= _SECRET:
            message = message.replace(secret, "…")
    message = _DATA_URL.sub("data:…", _KEY_LIKE.sub("…", message))
    return _without_echo(message, list(_texts(body))) if message else ""


def _without_echo(message: str, texts: Sequence[str]) -> str:
    # Servers quote their input as JSON or Python strings: only the message is unescaped, the prompt may be huge.
    message = _ESCAPE.sub(
        lambda match: chr(int(match[1], 16)) if match[1] else _UNESCAPED.get(match[2], match[2]), message
    )
    said = "\n".join(texts)
    kept, done, place = "", 0, 0
    while place + _BLOCK <= len(message):
        start, end = place, place + _BLOCK
        if message[start:end] in said:
            while end < len(message) and message[start : end + 1] in said:
                end += 1
            while start > done and message[start - 1 : end] in said:
                start -= 1
            if end - start >= _ECHO:
                kept += message[done:start] + "…"
                done = end
        place = max(place + _BLOCK, done)
    return kept + message[done:]


def _texts(body: object) -> Iterator[str]:
    """Yield every text of the messages, whatever their form: the user's extra_body may have replaced them."""
    rest: list[object] = [body.get("messages")] if isinstance(body, Mapping) else []
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            rest += [inner for key, inner in value.items() if key not in _NOT_PROMPT]
        elif isinstance(value, list):
            rest += value


_NOT_PROMPT = frozenset({"role", "type", "id", "tool_call_id", "name"})
"""Fields of a message that hosts have to name in their errors."""


def _advice(found: type[HostError], dialect: Dialect | None, host: HostProfile) -> str | None:
    if found is errors.ModelNotFound and dialect is not None:
        model = find_model(dialect.model_id) if not dialect.model.known else dialect.model
        move = replacement(model, dialect.host)
        return f"{found.advice} {move}" if move is not None else None
    if found is errors.WrongKey:
        keys = host.endpoint.key_env
        alike = [
            f"host={other.id!r}" for other in hosts() if other.id != host.id and {*keys} & {*other.endpoint.key_env}
        ]
        read = f" It was read from api_key= or {' / '.join(keys)}." if keys else ""
        other = (
            f" Keys of {', '.join(alike)} look the same and are not valid here: use the host of the key."
            if alike
            else ""
        )
        return f"{found.advice}{read}{other}"
    return None


def _root(error: BaseException) -> str:
    """Name the first cause, in the operating system's words: other texts may quote a header."""
    cause: BaseException = error
    while (under := cause.__cause__ or cause.__context__) is not None:
        cause = under
    words = getattr(cause, "verify_message", None) or getattr(cause, "strerror", None)
    return f"{type(cause).__name__}: {words}" if isinstance(cause, OSError) and words else type(cause).__name__


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a host asks to wait: its own milliseconds, or HTTP's seconds or date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            wait = float(value) * unit
        except (TypeError, ValueError):
            try:
                wait = parsedate_to_datetime(value).timestamp() - time.time()
            except (TypeError, ValueError, OverflowError):
                continue
            wait = max(wait, 0.0)
        if wait >= 0:
            return wait
    return None
