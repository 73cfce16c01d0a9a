"""Why a request failed, or a reply cannot be used: the failure mode, its cause, its fix, and the request repaired.

What is known of each mode is data (``explanations.toml``). Nothing is judged twice: an error is read by the table of
`failures`, and a request and its reply go through the practices, whose reports are the signs that the modes are known
by.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, cast

from refrase_integrations.client.connection import connect
from refrase_integrations.client.failures import answered, pasted
from refrase_integrations.errors import HostError, PracticeError, ReplyError
from refrase_integrations.kimi.announcements import announced, nudge
from refrase_integrations.kimi.catalogue import DEFAULT_HOST, DEFAULT_MODEL, find_host, find_model, knows_model
from refrase_integrations.kimi.messages import text_of
from refrase_integrations.kimi.practice import Call
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.report import Report
from refrase_integrations.kimi.request import dialect_of
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.stream import Healer, fold
from refrase_integrations.kimi.tokens import counter
from refrase_integrations.kimi.wire import Body, Chunk, Message, put, without


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One thing that went wrong."""

    id: str
    """Such as ``"F1"``; the error's class where it is no known mode."""
    title: str
    cause: str
    fix: str
    practice: str = ""
    """Which practice takes care of it."""
    source: str = ""
    """Where it was reported or documented."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a case comes to."""

    causes: tuple[Cause, ...]
    """The likeliest first; empty: nothing was recognised."""
    model: str
    host: str
    error: str = ""
    """The host's own words and our advice, without prompt text; empty: no error was given."""
    repaired: Body | None = None
    """The request as it should be sent next; None: none was given, or it cannot be repaired."""
    changes: tuple[str, ...] = ()
    """What was changed for that."""
    healed: Mapping[str, Any] | None = None
    """What a user gets of the reply; None: no reply was given."""
    note: str = ""
    """Why there is no repaired request, although one was given."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the user has of a failure. At least one part is there."""

    request: Body | None = None
    reply: tuple[Chunk, ...] = ()
    """Chunks of a stream, or one whole response."""
    error: str = ""
    status: int | None = None


def explain(case: Case, *, model: str | None = None, host: str | None = None) -> Explanation:
    """Find out what went wrong and repair the request.

    Args:
        case: request, reply and error, as far as there are.
        model: who was asked, where the request does not say so.
        host: id of the host; None: as the model's spelling tells, else Moonshot's API.

    Raises:
        CatalogueError: the host is unknown.
    """
    body = _flat(case.request or {})
    name = str(body.get("model") or model or next((c["model"] for c in case.reply if c.get("model")), DEFAULT_MODEL))
    place = find_host(host or likely_host(name))
    dialect, wish = dialect_of({"model": name, "extra_body": body}, place)
    call = Call(
        body=cast(Body, {**body, "model": name}),
        dialect=dialect,
        practices=_PRACTICES,
        count=counter(),
        thinking=wish,
    )
    found = _Findings()
    error = _read_error(case, call, found)
    again = _read_reply(case, call, found) if case.reply else None
    repaired, note = None, ""
    if case.request is not None:
        repaired, note = _repaired(call, case, found, again)
    causes = _causes(found.signs)
    if error is not None and not any(cause.id.startswith("F") for cause in causes[:1]):
        causes = (_of_error(error), *causes)
    return Explanation(
        causes=causes,
        model=dialect.model_id,
        host=place.id,
        error=str(error) if error is not None else "",
        repaired=repaired,
        changes=tuple(found.changes),
        healed=found.healed,
        note=note,
    )


def likely_host(model: str) -> str:
    """Return the id of the host that spells a model so; Moonshot's own API where several or none do."""
    if not knows_model(model):
        return DEFAULT_HOST
    profile = find_model(model)
    if model == profile.id:
        return DEFAULT_HOST
    if model == profile.identity.weights:
        return "vllm"  # what a server of the open weights calls it
    return next((id for id, served in profile.hosts.items() if model in served.names), DEFAULT_HOST)


# -- what the user has -----------------------------------------------------------------------------------------


def read_case(texts: Sequence[str]) -> Case:
    """Read what the user pasted, in any order: a request body, a response, a stream, an error text, or one JSON object
    that holds several as ``request``, ``reply``, ``error`` and ``status``."""
    case = Case()
    for text in texts:
        case = _with(case, text)
    return case


def _with(case: Case, text: str) -> Case:
    try:
        value = json.loads(text)
    except ValueError:
        chunks = tuple(_events(text))
        return _replaced(case, reply=chunks) if chunks else _replaced(case, error=text)
    return _with_value(case, value, text)


def _with_value(case: Case, value: Any, text: str) -> Case:
    if isinstance(value, list) and all(isinstance(item, dict) and "choices" in item for item in value) and value:
        return _replaced(case, reply=tuple(value))
    if not isinstance(value, dict):
        return _replaced(case, error=text)
    if any(isinstance(value.get(key), dict) for key in ("request", "reply", "response")):
        status = value.get("status")
        case = _replaced(case, status=status) if isinstance(status, int) else case
        for key in ("request", "reply", "response", "error"):
            if key in value:
                inner = {"error": value[key]} if key == "error" and isinstance(value[key], dict) else value[key]
                case = _with_value(case, inner, inner if isinstance(inner, str) else json.dumps(inner))
        return case
    if "choices" in value:
        return _replaced(case, reply=(cast(Chunk, value),))
    if "messages" in value:
        return _replaced(case, request=cast(Body, value))
    status = value.get("status")
    return _replaced(case, error=text, **({"status": status} if isinstance(status, int) else {}))


def _replaced(case: Case, **values: Any) -> Case:
    from dataclasses import replace

    return replace(case, **values)


def _events(text: str) -> Iterator[Chunk]:
    for line in text.splitlines():
        data = line.strip().removeprefix("data:").strip()
        if line.strip().startswith("data:") and data != "[DONE]":
            try:
                chunk = json.loads(data)
            except ValueError:
                continue
            if isinstance(chunk, dict):
                yield cast(Chunk, chunk)


def _flat(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body with the fields that an SDK call keeps in ``extra_body``."""
    own = body.get("extra_body")
    rest = {key: value for key, value in body.items() if key not in ("extra_body", "extra_headers", "timeout")}
    return {**rest, **own} if isinstance(own, Mapping) else rest


# -- signs -----------------------------------------------------------------------------------------------------


class _Findings:
    def __init__(self) -> None:
        self.signs: dict[str, list[str]] = {"error": [], "reply": [], "request": []}
        self.changes: list[str] = []
        self.healed: Mapping[str, Any] | None = None

    def take(self, place: str, report: Report) -> None:
        entries = report.healed if place == "reply" else report.changes
        self.signs[place] += [f"{place} {one.practice} {one.action} {one.detail}" for one in entries]


def _read_error(case: Case, call: Call, found: _Findings) -> HostError | None:
    told = pasted(case.error) if case.error else None
    if told is None:
        return None
    status, payload = told
    connection = connect(call.dialect.host.id, "http://127.0.0.1:9/v1", "unused")
    error = answered(case.status or status, payload, call.body, call.dialect, connection)
    found.signs["error"].append(f"error {type(error).__name__} {error.status} {error.type} {error.seen.lower()}")
    return error


def _read_reply(case: Case, call: Call, found: _Findings) -> Body | None:
    """Heal the reply, and look at it as it came; return the request that it leads to, if it does."""
    found.signs["reply"] += [f"seen {what}" for what in _seen(case)]
    body = call.body if call.body.get("messages") else put(call.body, messages=[{"role": "user", "content": "?"}])
    if any("delta" in choice for chunk in case.reply for choice in chunk.get("choices") or ()):
        body = put(body, stream=True)
    try:
        healer = Healer(prepare(_with_body(call, body)))
    except PracticeError:
        return None
    deltas: list[Any] = []
    try:
        for chunk in case.reply:
            deltas += healer.feed(chunk)
        deltas += healer.close()
    except ReplyError as error:
        practice = error.practice or ""
        found.signs["reply"].append(f"reply {practice} refuse {'; '.join(error.details)}")
    found.take("reply", healer.prepared.report)
    whole = fold(deltas)
    kept = ("reasoning", "content", "tool_calls", "finish_reason", "usage")
    found.healed = {key: value for key, value in whole[0].items() if key in kept} if whole else {}
    again = healer.again
    return again.call.body if again is not None else None


def _seen(case: Case) -> Iterator[str]:
    said, calls, finish, usage, flat = "", 0, "", False, False
    reasoned = ""
    for chunk in case.reply:
        block: Any = chunk.get("usage")
        usage = usage or isinstance(block, Mapping)
        flat = flat or any(isinstance(place, Mapping) and "cached_tokens" in place for place in (block, chunk))
        for choice in chunk.get("choices") or ():
            piece: Any = choice.get("delta") or choice.get("message") or {}
            said += text_of(piece.get("content"))
            reasoned += str(piece.get("reasoning_content") or piece.get("reasoning") or "")
            calls += len(piece.get("tool_calls") or ())
            finish = choice.get("finish_reason") or finish
            if isinstance(cast(Any, choice).get("usage"), Mapping) and not usage:
                yield "usage in the choice"
    if flat:
        yield "usage: cached tokens outside prompt_tokens_details"
    if "<|tool_call" in said + reasoned:
        yield "tool-call tokens in the text"
    if "<think>" in said:
        yield "think tags in the content"
    if finish == "tool_calls" and not calls and "<|tool_call" not in said + reasoned:
        yield "an announced call that did not come"
    if finish == "stop" and not calls and announced(said):
        yield "an announced step that was not taken"
    if finish == "length" and said.strip() and not any(key in (case.request or {}) for key in _LIMITS):
        yield "an end at the limit, and the request set none"


def _causes(signs: Mapping[str, Sequence[str]]) -> tuple[Cause, ...]:
    """Return the modes by their signs: an error decides before a reply, a reply before what a request might cause."""
    known, every = _modes(), [line for lines in signs.values() for line in lines]
    loud: dict[str, None] = {}
    quiet: dict[str, None] = {}
    for lines in signs.values():
        for id, mode in known.items():
            if mode.get("needs") and not _any([mode["needs"]], every):
                continue
            loud.update({id: None} if _any(mode.get("signs", ()), lines) else {})
            quiet.update({id: None} if _any(mode.get("hints", ()), lines) else {})
    fields = ("title", "cause", "fix", "practice", "source")
    return tuple(Cause(id=id, **{name: known[id][name] for name in fields}) for id in {**loud, **quiet})


def _any(patterns: Sequence[str], lines: Sequence[str]) -> bool:
    return any(re.search(pattern, line) for pattern in patterns for line in lines)


def _of_error(error: HostError) -> Cause:
    said = (type(error).__doc__ or "").strip().splitlines()[0].rstrip(".")
    return Cause(id=type(error).__name__, title=said, cause=error.seen, fix=error.advice)


# -- repair ----------------------------------------------------------------------------------------------------

_LIMITS = ("max_tokens", "max_completion_tokens")
_PRACTICES = Practices(context_window="apply", loop_guard="apply", loop_limit=0, concise_prompt="off")


def _repaired(call: Call, case: Case, found: _Findings, again: Body | None) -> tuple[Body | None, str]:
    """Prepare the request: the next one where the reply leads to one, with room where reasoning spent the limit."""
    body = call.body
    try:
        found.take("request", prepare(call).report)
    except PracticeError as error:
        found.signs["request"].append(f"request {error.practice} refuse {'; '.join(error.details)}")
    if again is not None:
        body = again
    elif any(sign.startswith("reply empty-reply refuse") for sign in found.signs["reply"]):
        body = without(body, *_LIMITS)
    elif "seen an announced step that was not taken" in found.signs["reply"]:
        said = text_of((found.healed or {}).get("content"))
        messages: list[Message] = [
            {"role": "assistant", "content": said},
            {"role": "user", "content": nudge(announced(said) or "en")},
        ]
        body = put(body, messages=[*(body.get("messages") or []), *messages])
    try:
        prepared = prepare(_with_body(call, body))
    except PracticeError as error:
        return None, f"{type(error).__name__}: {error}"
    found.changes += [f"{one.practice}: {one.detail}" for one in prepared.report.changes if one.action != "advise"]
    return prepared.body, ""


def _with_body(call: Call, body: Body) -> Call:
    from dataclasses import replace

    return replace(call, body=body)


@cache
def _modes() -> Mapping[str, dict[str, Any]]:
    return tomllib.loads((files(__package__) / "explanations.toml").read_text(encoding="utf-8"))
