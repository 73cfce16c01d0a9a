"""What a practice does, seen on a small request: the practice itself runs, nothing here is written down beforehand."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, cast

from refrase_integrations.errors import ConfigurationError, PracticeError, ReplyError
from refrase_integrations.kimi.catalogue import DEFAULT_MODEL, find_host
from refrase_integrations.kimi.practice import Call, Delta, Mode, Practice, Prepared
from refrase_integrations.kimi.practices import ordered
from refrase_integrations.kimi.prepare import leaving, prepare
from refrase_integrations.kimi.request import dialect_of
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.stream import Healer, fold
from refrase_integrations.kimi.tokens import estimate
from refrase_integrations.kimi.wire import Body


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One practice at work."""

    practice: str
    mode: Mode
    """The mode it was shown in."""
    model: str
    host: str
    before: Body
    """The request as it leaves the house with every practice off."""
    after: Body
    """The same with this practice alone."""
    changes: tuple[str, ...]
    """What the report says: kind and detail."""
    reply_before: Mapping[str, Any] | None = None
    """Message of the host, for practices that heal replies."""
    reply_after: Mapping[str, Any] | None = None
    """What the user gets of it."""
    again: Body | None = None
    """The further request that the reply leads to, if it does."""
    refused: str = ""
    """The error that the practice raises; empty: none."""


def show(practice_id: str) -> Shown:
    """Run one practice on its sample.

    Args:
        practice_id: such as ``"temperature"``.

    Raises:
        ConfigurationError: there is no such practice, or it brings no sample (one of your own).
    """
    practice = find_practice(practice_id)
    sample = _samples().get(practice.id)
    if sample is None:
        raise ConfigurationError(f"the practice {practice.id!r} has no sample: it is not one of this package")
    mode: Mode = sample.get("mode") or practice.default
    call = _call(sample, {"everything": "off", practice.id.replace("-", "_"): mode, **sample.get("settings", {})})
    plain = prepare(_call(sample, {"everything": "off"}))
    seen: dict[str, Any] = {"before": plain.body, "after": plain.body, "changes": ()}
    try:
        prepared = prepare(call)
        seen["after"] = leaving(prepared)
        if "reply" in sample:
            seen |= _healed(prepared, sample)
        seen["changes"] = tuple(
            f"{entry.action}: {entry.detail}" for entry in (*prepared.report.changes, *prepared.report.healed)
        )
    except (PracticeError, ReplyError) as error:
        seen["refused"] = f"{type(error).__name__}: {error}"
    dialect = call.dialect
    return Shown(practice=practice.id, mode=mode, model=dialect.model_id, host=dialect.host.id, **seen)


def find_practice(practice_id: str) -> Practice:
    """Return the practice with this id, written with "-" or "_".

    Raises:
        ConfigurationError: there is none; the nearest are named.
    """
    from difflib import get_close_matches

    known = {practice.id: practice for practice in ordered()}
    wanted = practice_id.strip().lower().replace("_", "-")
    if wanted not in known:
        close = get_close_matches(wanted, known, n=2)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
        raise ConfigurationError(f"there is no practice {practice_id!r}; {hint}")
    return known[wanted]


def _healed(prepared: Prepared, sample: Mapping[str, Any]) -> dict[str, Any]:
    reply = json.loads(json.dumps(sample["reply"]).replace("$alias", _first_tool(prepared.body)))
    healer = Healer(prepared)
    chunk = {"choices": [{"index": 0, "message": reply, "finish_reason": sample["finish"]}]}
    deltas = [*healer.feed(cast(Any, chunk)), *healer.close()]
    again = healer.again
    whole: Delta = fold(deltas)[0] if deltas else {}
    shown = {key: whole[key] for key in ("reasoning", "content", "tool_calls", "finish_reason") if whole.get(key)}
    return {
        "reply_before": {**reply, "finish_reason": sample["finish"]},
        "reply_after": shown,
        "again": again.body if again is not None else None,
    }


def _first_tool(body: Body) -> str:
    tools = body.get("tools") or []
    return str((tools[0].get("function") or {}).get("name", "")) if tools else ""


def _call(sample: Mapping[str, Any], practices: Mapping[str, Any]) -> Call:
    model, host = sample.get("model", DEFAULT_MODEL), find_host(sample.get("host"))
    fields = dict(sample.get("call", {}))
    dialect, _ = dialect_of({"model": model, "thinking": fields.get("thinking")}, host)
    if "live_tools" in fields:
        fields["live_tools"] = frozenset(fields["live_tools"])
    body: dict[str, Any] = {"model": model, **sample["request"]}
    long = "Please read this. " * (dialect.window // 2)
    body["messages"] = [
        {**message, "content": long} if message.get("content") == "$long" else message for message in body["messages"]
    ]
    return Call(body=cast(Body, body), dialect=dialect, practices=Practices(**practices), count=estimate, **fields)


@cache
def _samples() -> Mapping[str, dict[str, Any]]:
    return tomllib.loads((files(__package__) / "samples.toml").read_text(encoding="utf-8"))
