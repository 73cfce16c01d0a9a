"""From what was seen to how to use the host: the nearest one that the catalogue knows, and a profile of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import date
from typing import Any, Literal, NamedTuple

from refrase_integrations.doctor import Examination
from refrase_integrations.doctor.probes import switched
from refrase_integrations.kimi.catalogue import DEFAULT_HOST, hosts
from refrase_integrations.kimi.dialect import Dialect, compile_dialect

Fit = Literal["same", "careful", "wrong"]
"""Of a known host's rule to what was seen. careful: it asks less than the host would take, which loses nothing."""


class Match(NamedTuple):
    """How well a known host fits what was seen."""

    host: str
    """Its id."""
    same: tuple[str, ...]
    """In which respects its rules are those that were seen."""
    careful: tuple[str, ...]
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in one line."""
        rest = f"; more careful than needed: {', '.join(self.careful)}" if self.careful else ""
        rest += f"; wrong: {', '.join(self.wrong)}" if self.wrong else ""
        return f"{self.host} (fits in {len(self.same)} of {sum(map(len, self[1:]))} respects{rest})"


def nearest(seen: Examination) -> Match:
    """Return the known host whose rules fit best; where several do, the one that was named or recognised."""
    expected = seen.dialect.host.id
    matches = []
    for host in hosts():
        if host.endpoint.protocol == "openai":
            dialect = compile_dialect(seen.dialect.model, host, None, seen.model)
            fits = {name: look(seen, dialect) for name, look in _RESPECTS.items()}
            same, careful, wrong = (
                tuple(name for name, fit in fits.items() if fit == kind) for kind in ("same", "careful", "wrong")
            )
            matches.append(Match(host.id, same, careful, wrong))
    # A tie goes to the host that was named, then to the default one, last to the generic one.
    return max(
        matches,
        key=lambda match: (
            -len(match.wrong),
            len(match.same),
            match.host == expected,
            match.host == DEFAULT_HOST,
            match.host != "generic",
        ),
    )


def catalogue_file(seen: Examination, id: str, as_of: date, key_env: str | None = None) -> str:
    """Return a catalogue file (TOML) with the host as it was seen, for ``REFRASE_CATALOG``.

    Args:
        seen: the examination.
        id: id of the host: ``ChatKimi(host=id)``.
        as_of: day of the examination.
        key_env: environment variable that holds the key; None: it needs none.
    """
    host: dict[str, Any] = {"base": "generic", "id": id, "name": id, "self_hosted": key_env is None}
    if seen["sampling"].value == "fixed":
        host["official"] = True  # its models follow the rules of Moonshot's own API
    endpoint: dict[str, Any] = {"source": "doctor", "base_url": seen.base_url, "keyless": key_env is None}
    if key_env is not None:
        endpoint["key_env"] = [key_env]
    tables = {
        "endpoint": endpoint,
        "thinking": _thinking(seen),
        "tools": _tools(seen),
        "output": _output(seen),
        "messages": _messages(seen),
    }
    lines = [
        "# What refrase-kimi doctor saw. Use it with REFRASE_CATALOG=<this file> and",
        f'# ChatKimi(model="{seen.model}", host="{id}").',
        "[sources]",
        f'doctor = {{ address = "refrase-kimi doctor", as_of = {as_of.isoformat()}, grade = "A" }}',
        "",
        "[[hosts]]",
        *(f"{key} = {_toml(value)}" for key, value in host.items()),
    ]
    for name, table in tables.items():
        if len(table) > 1:
            lines += ["", f"[hosts.{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    for finding in seen.findings:
        if finding.verdict == "broken":
            lines += [
                "",
                "[[hosts.quirks]]",
                'source = "doctor"',
                f"note = {_toml(f'{finding.title}: {finding.seen}.')}",
            ]
    return "\n".join(lines) + "\n"


def _thinking(seen: Examination) -> dict[str, Any]:
    working = seen["thinking-switch"].value
    if not working:
        return {"source": "doctor"}
    return {"source": "doctor", "on": switched(working[0], on=True), "off": switched(working[0], on=False)}


def _tools(seen: Examination) -> dict[str, Any]:
    state = "instruct" if seen.dialect.model.thinking.mode == "instruct" else "thinking"
    made: dict[str, Any] = {"source": "doctor"}
    if seen["tool-choice"].value and seen["tool-choice"].verdict != "lossy":
        made["choices"] = {state: seen["tool-choice"].value}
    if seen["tool-names"].value:
        made["name"] = "[a-zA-Z_][a-zA-Z0-9_-]{2,63}"
    if seen["tool-schemas"].value:
        made["schema_flavour"] = "mfjs"
    made["ids"] = "native" if seen["foreign-ids"].value else "any"
    return made


def _output(seen: Examination) -> dict[str, Any]:
    kept = seen["output-key"].value or []
    made: dict[str, Any] = {"source": "doctor"}
    if kept:
        made["key"] = kept[0] if len(kept) == 1 else seen.dialect.output_key
    if seen["structured-output"].value:
        made["response_formats"] = seen["structured-output"].value
    return made


def _messages(seen: Examination) -> dict[str, Any]:
    out, taken = seen["reasoning-field"].value or [], seen["reasoning-fields"].value or []
    plain = [name for name in taken if name != "reasoning_details"]
    made: dict[str, Any] = {"source": "doctor"}
    if out:
        made["reasoning_in"] = [*out, *(name for name in ("reasoning_content", "reasoning") if name not in out)]
    back = next((name for name in (*out, *plain) if name in plain), "")
    made |= {"reasoning_out": back, "reasoning_fields": plain}
    made["reasoning_required"] = bool(seen["reasoning-required"].value)
    if seen["blank-turns"].value:
        made["blank_content"] = "omit"
    made["partial"] = bool(seen["partial"].value)
    if seen["partial"].value:
        made["fields"] = ["role", "content", "name", "tool_calls", "tool_call_id", "partial"]
    return made


# -- respects in which hosts differ ----------------------------------------------------------------------------

_Look = Callable[[Examination, Dialect], Fit | None]


def _rule(id: str, ours: Callable[[Dialect], bool], theirs: Callable[[Any], bool] = bool) -> _Look:
    """Return a look at a rule that a client may keep although the host does without."""

    def look(seen: Examination, dialect: Dialect) -> Fit | None:
        value = seen[id].value
        if value is None:
            return None
        kept, needed = ours(dialect), theirs(value)
        return "same" if kept == needed else "careful" if kept else "wrong"

    return look


def _offer(id: str, ours: Callable[[Dialect], Collection[str]]) -> _Look:
    """Return a look at what a host offers, of which a client may use less."""

    def look(seen: Examination, dialect: Dialect) -> Fit | None:
        value = seen[id].value
        if value is None:
            return None
        used, there = frozenset(ours(dialect)), frozenset(value)
        return "same" if used == there else "careful" if used < there else "wrong"

    return look


def _field(seen: Examination, dialect: Dialect) -> Fit | None:
    value = seen["reasoning-field"].value
    return None if not value else "same" if dialect.reasoning_out in value else "wrong"


def _switch(seen: Examination, dialect: Dialect) -> Fit | None:
    working = seen["thinking-switch"].value
    if dialect.model.thinking.mode != "hybrid" or working is None:
        return None
    known = dialect.host.thinking.off in [switched(path, on=False) for path in working]
    return "same" if known else "wrong"


_RESPECTS: Mapping[str, _Look] = {
    "reasoning field": _field,
    "reasoning fields taken back": _offer("reasoning-fields", lambda dialect: dialect.reasoning_fields),
    "reasoning required": _rule("reasoning-required", lambda dialect: dialect.reasoning_required),
    "thinking switch": _switch,
    "sampling": _rule(
        "sampling", lambda dialect: dialect.sampling["temperature"].rule == "omit", lambda value: value == "fixed"
    ),
    "tool choices": _offer("tool-choice", lambda dialect: dialect.tool_choices),
    "tool schemas": _rule("tool-schemas", lambda dialect: dialect.schema == "mfjs"),
    "tool names": _rule("tool-names", lambda dialect: not re.fullmatch(dialect.tool_name, "21st_weather")),
    "tool-call ids": _rule("foreign-ids", lambda dialect: dialect.tool_ids == "native"),
    "structured output": _offer("structured-output", lambda dialect: dialect.response_formats),
    "partial mode": _rule("partial", lambda dialect: not dialect.partial, lambda value: not value),
}


# -- TOML ------------------------------------------------------------------------------------------------------


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\u{ord(match[0]):04x}", escaped) + '"'
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value)
