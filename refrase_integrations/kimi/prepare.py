"""`prepare`: the only loop over practices. Pure, deterministic, idempotent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from refrase_integrations.kimi.dialect import Dialect
from refrase_integrations.kimi.inputs import diagnosed
from refrase_integrations.kimi.practice import Call, Change, Mode, Practice, Prepared, Reference, messages_of
from refrase_integrations.kimi.practices import at_work
from refrase_integrations.kimi.report import Report
from refrase_integrations.kimi.wire import Body, Message, ToolCall, put

STOPS: Mapping[Mode, frozenset[str]] = {
    "apply": frozenset({"refuse"}),
    "warn": frozenset(),
    "error": frozenset({"replace", "drop", "advise", "refuse"}),
    "off": frozenset(),
}

WIRE = Practice(
    id="wire",
    statement="Sends the model's name in the host's spelling and only message fields that the host knows.",
    sources=(Reference("badlogic/pi-mono#4514; musistudio/claude-code-router#337", "2026-11-23", "C"),),
)
"""Not a setting: what is left when every practice is off."""


def prepare(call: Call) -> Prepared:
    """Apply the practices to a call.

    Args:
        call: the user's body with everything that only the caller can know.

    Returns:
        The request that may leave the house, with the report of what was changed.

    Raises:
        PracticeError: where a practice refuses the request, or would change it in mode "error".
        InvalidMessage: the request has not the form of one, or cannot be written as JSON.
    """
    with diagnosed(call.body):
        return _prepared(call)


def _prepared(call: Call) -> Prepared:
    body, report = call.body, Report(call.dialect)
    for practice, mode in at_work(call.practices, call.scope):
        if practice.apply is None:
            continue
        edited, changes = practice.apply(body, call)
        if changes:
            check(practice, mode, changes, call.dialect)
            report.add(practice, changes, advised=mode == "warn")
        body = body if mode == "warn" else edited
    if call.scope == "request":
        body, changes = _wire_form(body, call)
        report.add(WIRE, changes)
    return Prepared(call, body, report)


def leaving(prepared: Prepared) -> Body:
    """Return the body of a prepared request in the terms of the host's protocol. Called once a request.

    Raises:
        PracticeError: as `prepare`.
    """
    body, call = prepared.body, prepared.call
    for practice, mode in at_work(call.practices):
        if practice.leave is None:
            continue
        edited, changes = practice.leave(body, call)
        check(practice, mode, changes, call.dialect)
        body = body if mode == "warn" else edited
        prepared.report.add(practice, changes, advised=mode == "warn")
    return body


def check(practice: Practice, mode: Mode, changes: list[Change], dialect: Dialect) -> None:
    """Raise the practice's own error where its mode does not allow one of the changes.

    Raises:
        PracticeError: see above.
    """
    stops = [change for change in changes if change.kind in STOPS[mode]]
    if stops:
        raise practice.error.of(practice, stops, dialect)


def _wire_form(body: Body, call: Call) -> tuple[Body, list[Change]]:
    dialect, changes = call.dialect, list[Change]()
    if body.get("model") != dialect.model_id:
        body = put(body, model=dialect.model_id)
    fields = dialect.message_fields | dialect.reasoning_fields
    messages = messages_of(body)
    plain = [_plain(message, fields, dialect.part_fields, changes) for message in messages]
    if any(new is not old for new, old in zip(plain, messages, strict=True)):
        body = put(body, messages=plain)
    if call.extra:
        body = cast(Body, _laid_over(cast(dict[str, Any], body), call.extra, "", changes))
    return body, changes


def _laid_over(ours: Mapping[str, Any], users: Mapping[str, Any], path: str, changes: list[Change]) -> dict[str, Any]:
    """Merge the user's own body fields over ours, nested dicts key by key (``chat_template_kwargs``)."""
    merged = dict(ours)
    for key, value in users.items():
        present = merged.get(key)
        if isinstance(present, Mapping) and isinstance(value, Mapping):
            value = _laid_over(present, value, f"{path}{key}.", changes)
        elif key in merged and present != value:
            changes.append(Change("advise", f"extra_body sets {path}{key}: it goes out as given"))
        merged[key] = value
    return merged


def _plain(message: Message, fields: frozenset[str], part_fields: frozenset[str], changes: list[Change]) -> Message:
    if not fields.issuperset(message):
        foreign = [key for key in message if key not in fields]
        changes.extend(Change("drop", f"message field {key!r}: unknown to this host") for key in foreign)
        message = cast(Message, {key: value for key, value in message.items() if key in fields})
    content = message.get("content")
    if isinstance(content, list):
        parts = [_plain_part(part, part_fields, changes) for part in content]
        if any(new is not old for new, old in zip(parts, content, strict=True)):
            message = cast(Message, {**message, "content": parts})
    calls = message.get("tool_calls")
    if calls and any(not _NOT_SENT.isdisjoint(made) for made in calls):
        bare = [cast(ToolCall, {k: v for k, v in made.items() if k not in _NOT_SENT}) for made in calls]
        message = cast(Message, {**message, "tool_calls": bare})
    return message


def _plain_part(part: Any, fields: frozenset[str], changes: list[Change]) -> Any:
    """Return a part with the host's fields alone; one of a type that is not known stays as it is."""
    if not isinstance(part, Mapping) or part.get("type") not in fields or fields.issuperset(part):
        return part
    foreign = [key for key in part if key not in fields]
    changes.extend(Change("drop", f"content field {key!r}: unknown to this host") for key in foreign)
    return {key: value for key, value in part.items() if key in fields}


_NOT_SENT = frozenset({"error", "withheld", "index"})
"""What a tool call carries inside the house, or only in a stream."""
