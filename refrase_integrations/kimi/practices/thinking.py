"""thinking: switched the dialect's way, by one switch only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from refrase_integrations.kimi.dialect import Dialect
from refrase_integrations.kimi.practice import Call, Change, Edit, Practice, Reference, unchanged
from refrase_integrations.kimi.wire import Body

_SWITCHES = (
    ("thinking", "type"),
    ("chat_template_kwargs", "thinking"),
    ("chat_template_kwargs", "enable_thinking"),
    ("chat_template_args", "enable_thinking"),
    ("reasoning", "enabled"),
    ("enable_thinking",),
)


def wish(*bodies: Mapping[str, Any]) -> bool | None:
    """Read from request bodies (the user's fields, ``extra_body``) whether thinking is asked on or off.

    Returns:
        True or False where one of the known switches says so, None where none does. The first body wins.
    """
    for body in bodies:
        if not body:
            continue
        for path in _SWITCHES:
            value = _at(body, path)
            if isinstance(value, bool):
                return value
            if value in ("enabled", "disabled"):
                return bool(value == "enabled")
    return None


def apply(body: Body, call: Call) -> Edit:
    """Leave exactly the dialect's own switch in the body; one in the user's ``extra_body`` goes out all the same."""
    dialect, changes = call.dialect, list[Change]()
    if call.auto:
        changes.append(Change("add", f"auto: {'on' if dialect.thinking else 'off'}, {call.auto}"))
    if call.thinking is not None and call.thinking != dialect.thinking:
        state = "always on" if dialect.thinking else "not available"
        changes.append(Change("advise", f"thinking={call.thinking} asked, but on this model it is {state}"))
    edited = cast(dict[str, Any], body)
    others = _others(dialect)
    for key, path in others:
        if path[0] not in edited:
            continue
        value = _at(edited, path)
        if value is not None:
            edited = _removed(edited, path)
            same = wish(body) in (None, dialect.thinking) and path != ("reasoning_effort",)
            changes.append(Change("encode" if same else "drop", f"{key}={_short(value)}: not this host's switch"))
    own = [key for key, path in others if _at(call.extra, path) is not None] if call.extra else []
    if own:
        changes.append(Change("advise", f"extra_body sets {', '.join(own)}: not this host's switch"))
    if own and call.thinking is None:  # one switch only, and the user's goes out in any case
        return Edit(cast(Body, edited), changes)
    patched = _patched(edited, dialect.thinking_patch, dialect.thinking_keys)
    if any(patched[key] != edited.get(key) for key in dialect.thinking_patch):
        changes.append(Change(_kind(edited, dialect.thinking_patch), f"switch: {_short(dialect.thinking_patch)}"))
    return Edit(cast(Body, patched), changes) if changes else unchanged(body)


@lru_cache(maxsize=512)
def _others(dialect: Dialect) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the switches that are not this dialect's, dotted and as paths."""
    others = dialect.thinking_keys - frozenset(_paths(dialect.thinking_patch))
    return tuple((key, tuple(key.split("."))) for key in sorted(others))


def _kind(body: Mapping[str, Any], patch: Mapping[str, Any]) -> Any:
    conflicts = any(_at(body, tuple(path.split("."))) is not None for path in _paths(patch))
    return "replace" if conflicts else "add"


def _at(body: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = body.get(path[0])
    for key in path[1:]:
        if value is None or not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _removed(body: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    head, *rest = path
    inner = _removed(body[head], tuple(rest)) if rest else None
    return {key: inner if key == head else value for key, value in body.items() if key != head or inner}


def _patched(body: Mapping[str, Any], patch: Mapping[str, Any], whole: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Lay the patch over the body; a switch that is ``whole`` loses what else stood in it, which hosts refuse."""
    merged = dict(body)
    for key, value in patch.items():
        present = merged.get(key)
        if isinstance(value, Mapping):
            merged[key] = _patched(present if isinstance(present, Mapping) and key not in whole else {}, value)
        else:
            merged[key] = value
    return merged


def _paths(patch: Mapping[str, Any], prefix: str = "") -> list[str]:
    paths: list[str] = []
    for key, value in patch.items():
        path = f"{prefix}{key}"
        paths.append(path)
        if isinstance(value, Mapping):
            paths.extend(_paths(value, f"{path}."))
    return paths


def _short(value: Any) -> str:
    return json.dumps(value, default=dict, ensure_ascii=False)[:80]


PRACTICE = Practice(
    id="thinking",
    statement="Switches thinking the host's way, with one switch only; thinking leaves at least 16,000 output tokens.",
    sources=(
        Reference("platform.kimi.ai/docs/guide/use-thinking-models", "2026-08-13", "B"),
        Reference("HKUDS/nanobot#3939", "2026-11-23", "C"),
    ),
    apply=apply,
)
