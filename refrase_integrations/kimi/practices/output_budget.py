"""output-budget: an output limit is always sent, never above the model's, never past the window."""

from __future__ import annotations

from refrase_integrations.kimi.practice import Call, Change, Edit, Practice, Reference, messages_of
from refrase_integrations.kimi.wire import Body, put

_KEYS = ("max_completion_tokens", "max_tokens")
_LEAST = 1_024  # below it an answer is likely to be cut; tokens


def apply(body: Body, call: Call) -> Edit:
    """Fill, rename or clamp the output limit."""
    dialect = call.dialect
    given = next((body[key] for key in _KEYS if body.get(key) is not None), None)  # type: ignore[literal-required]
    changes: list[Change] = []
    wanted = max(dialect.output_default, dialect.output_floor) if given is None else given
    limit = min(wanted, dialect.output_max)
    room, how = _room(body, call, limit)
    limit = max(min(limit, room), 1)
    if given is None:
        changes.append(Change("add", f"{dialect.output_key}={limit}{how}"))
    elif limit < given:
        changes.append(Change("replace", f"{given} -> {limit} tokens: all that fits{how}"))
    if limit < dialect.output_floor:
        floor = dialect.output_floor
        changes.append(Change("advise", f"{limit} output tokens; thinking wants at least {floor}, reasoning included"))
    elif limit < min(wanted, _LEAST):
        changes.append(Change("advise", f"{limit} output tokens are all that the window leaves{how}"))
    other = [key for key in _KEYS if key != dialect.output_key and key in body]
    two = {body.get(key) for key in _KEYS} - {None, given}
    if two:
        changes.append(Change("drop", f"two output limits, {given} and {two.pop()}: the first counts"))
    elif other and given is not None:
        changes.append(Change("encode", f"{other[0]} -> {dialect.output_key}"))
    if body.get(dialect.output_key) == limit and not other:
        return Edit(body, changes)
    fields = {key: None for key in _KEYS if key != dialect.output_key}
    return Edit(put(body, **fields, **{dialect.output_key: limit}), changes)


def _room(body: Body, call: Call, limit: int) -> tuple[int, str]:
    """Return how many tokens the window leaves for output, and how that is known (empty where it does not matter)."""
    window, messages, tools = call.dialect.window, messages_of(body), body.get("tools")
    if call.most_tokens(messages, tools) + limit <= window:
        return limit, ""  # a token is at least one byte: no need to count
    prompt = call.tokens(messages, tools)
    how = "counted exactly" if call.count.exact else f"estimated, margin {call.count.margin:.0%}"
    safe = prompt if call.count.exact else int(prompt * (1 + call.count.margin))
    if window - safe >= _LEAST:  # else caution would leave no answer at all: rather the host's clear refusal
        prompt = safe
    return (
        window - prompt,
        f" (prompt about {prompt} of {window} tokens, {how})" if prompt + limit > window else "",
    )


PRACTICE = Practice(
    id="output-budget",
    statement="Always sends an output limit (left out, it can be 1,024 tokens), within the model's and the window.",
    sources=(
        Reference("platform.kimi.ai/docs/api/chat (OpenAPI document)", "2026-08-03"),
        Reference("platform.kimi.ai/docs/guide/use-kimi-k2-thinking-model", "2026-08-13", "B"),
    ),
    apply=apply,
)
