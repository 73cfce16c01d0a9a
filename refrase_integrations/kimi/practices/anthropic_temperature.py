"""anthropic-temperature: divided on its way to an endpoint that multiplies what it gets."""

from __future__ import annotations

from refrase_integrations.kimi.practice import Call, Change, Edit, Practice, Reference, unchanged
from refrase_integrations.kimi.wire import Body, put

_MOST = 1.0  # the Anthropic protocol takes no more


def leave(body: Body, call: Call) -> Edit:
    """Divide the temperature by the dialect's divisor; what would be more than 1 becomes 1."""
    divisor, real = call.dialect.temperature_divisor, body.get("temperature")
    if divisor == 1 or real is None:
        return unchanged(body)
    wanted = round(real / divisor, 6)
    sent = min(wanted, _MOST)
    if sent < wanted:
        most = round(_MOST * divisor, 6)
        return Edit(
            put(body, temperature=sent), [Change("replace", f"temperature {real}: {most} is the most there is")]
        )
    return Edit(put(body, temperature=sent), [Change("encode", f"temperature {real} is sent as {sent}")])


PRACTICE = Practice(
    id="anthropic-temperature",
    statement="On Moonshot's Anthropic endpoint sends the temperature divided by 0.6: the endpoint multiplies it back.",
    sources=(Reference("MoonshotAI/Kimi-K2 README", "2025-07-31"),),
    leave=leave,
)
