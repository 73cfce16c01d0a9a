"""context-window: tokens are counted before sending."""

from __future__ import annotations

from refrase_integrations.errors import ContextWindowExceeded
from refrase_integrations.kimi.practice import Call, Change, Edit, Practice, Reference, messages_of, unchanged
from refrase_integrations.kimi.wire import Body, Message, put

_LEAST_OUTPUT = 1_024  # what trimming leaves for the answer, where the dialect names no floor; tokens


def apply(body: Body, call: Call) -> Edit:
    """Find a prompt that is over the window; where the practice is set to apply, the oldest turns go."""
    dialect, messages, tools = call.dialect, messages_of(body), body.get("tools")
    if call.most_tokens(messages, tools) < dialect.window:
        return unchanged(body)
    counted = call.tokens(messages, tools)
    least = counted if call.count.exact else int(counted * (1 - call.count.margin))
    if least < dialect.window:
        return unchanged(body)
    how = "counted" if call.count.exact else f"estimated, at least {least}"
    found = f"the prompt has {counted} tokens ({how}), the window of {dialect.model_id} holds {dialect.window}"
    kept = _trimmed(messages, call, body)
    if kept is None:
        return Edit(body, [Change("refuse", f"{found}; the last turn alone does not fit")])
    gone = len(messages) - len(kept)
    return Edit(put(body, messages=kept), [Change("drop", f"{found}; the {gone} oldest messages do not fit")])


def _trimmed(messages: list[Message], call: Call, body: Body) -> list[Message] | None:
    """Drop whole turns from the front, never system messages, never the last turn."""
    limit = call.dialect.window - max(call.dialect.output_floor, _LEAST_OUTPUT)
    starts = [number for number, message in enumerate(messages) if message.get("role") == "user"]
    for start in starts[1:]:
        head = [message for message in messages[:start] if message.get("role") == "system"]
        kept = [*head, *messages[start:]]
        counted = call.tokens(kept, body.get("tools"))
        if (counted if call.count.exact else int(counted * (1 + call.count.margin))) <= limit:
            return kept
    return None


PRACTICE = Practice(
    id="context-window",
    statement="Counts tokens before sending; over the window: a clear error, or the oldest turns go where asked.",
    sources=(
        Reference("model cards of the Kimi K2 family", "2026-08-13"),
        Reference("MoonshotAI/kimi-cli#2011", "2026-11-23", "C"),
    ),
    default="error",
    error=ContextWindowExceeded,
    apply=apply,
)
