"""Token usage, wherever a host puts it, in one form; and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol, cast

from refrase_integrations.kimi.wire import Chunk, Usage


class Price(Protocol):
    """Prices in US dollars per million tokens."""

    @property
    def input(self) -> float:
        """Prompt tokens that were not read from a cache."""

    @property
    def cached_input(self) -> float | None:
        """Prompt tokens read from the host's cache; None: they cost as much as the others."""

    @property
    def output(self) -> float:
        """Reply tokens, reasoning included."""


def read_usage(chunk: Chunk) -> Usage | None:
    """Read the usage that a stream chunk or a whole response carries.

    Looked for at the top level, then in each choice and its ``delta`` or ``message`` (Moonshot streams it in
    ``choices[0].usage``), then in Groq's ``x_groq``; the first block with a figure counts. Cached tokens may stand
    flat beside the counts (Moonshot), at the top level, in ``prompt_tokens_details`` (OpenAI) or as
    ``prompt_cache_hit_tokens`` (DeepSeek's form, spoken by gateways).

    Args:
        chunk: as it came from the host. Anything malformed in it (text, None, a negative number, NaN) is ignored.

    Returns:
        Only the figures that the host gave, and the one of prompt, completion and total that follows from the other
        two. None where there is none, or all are zero: a placeholder, which must not overwrite real figures.
    """
    if not _may_hold_usage(chunk):
        return None
    usage: dict[str, int] = {}
    for block in _blocks(chunk):
        usage = {name: count for name, paths in _PATHS.items() if (count := _largest(block, paths)) is not None}
        if usage:
            break
    flat = _count(chunk.get("cached_tokens"))
    if flat is not None:
        usage["cached_tokens"] = max(flat, usage.get("cached_tokens", 0))
    if not any(usage.values()):
        return None
    return cast(Usage, _completed(usage))


def latest_usage(earlier: Usage | None, later: Usage | None) -> Usage | None:
    """Return the usage of one stream after another block of it: hosts repeat it and count up, so it is never summed.

    Args:
        earlier: what was known before.
        later: what the next chunk says; it wins, figure by figure. None changes nothing.
    """
    if earlier is None or later is None:
        return later if earlier is None else earlier
    return cast(Usage, {**earlier, **later})


def add_usage(a: Usage | None, b: Usage | None) -> Usage | None:
    """Return the sum of two calls' usage. A figure that only one has is that one's; None adds nothing."""
    if a is None or b is None:
        return b if a is None else a
    counted, more = cast("Mapping[str, int]", a), cast("Mapping[str, int]", b)
    return cast(Usage, {name: counted.get(name, 0) + more.get(name, 0) for name in _PATHS if name in a or name in b})


def cost(usage: Usage | None, price: Price | None) -> float | None:
    """Return what a call costs in US dollars.

    ``(prompt - cached) * input + cached * cached_input + completion * output``, per million tokens. Reasoning tokens
    are part of the completion. The sum is rounded to ten decimals (a tenth of a billionth of a dollar, finer than any
    price per token), which only takes off the noise of binary fractions: round to cents after adding calls up.

    Args:
        usage: from `read_usage` or `add_usage`.
        price: of the model on the host; None: not known.

    Returns:
        Dollars, or None where the price, the prompt's or the completion's tokens are not known or not valid.
    """
    if usage is None or price is None:
        return None
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    given = price.input if price.cached_input is None else price.cached_input
    rates = _rate(price.input), _rate(given), _rate(price.output)
    if prompt is None or completion is None or None in rates:
        return None
    fresh, cached, out = cast("tuple[float, float, float]", rates)
    read = min(_count(usage.get("cached_tokens")) or 0, prompt)
    return round(((prompt - read) * fresh + read * cached + completion * out) / 1_000_000, 10)


_PATHS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "prompt_tokens": (("prompt_tokens",), ("input_tokens",)),
    "completion_tokens": (("completion_tokens",), ("output_tokens",)),
    "total_tokens": (("total_tokens",),),
    "cached_tokens": (
        ("cached_tokens",),
        ("prompt_tokens_details", "cached_tokens"),
        ("input_tokens_details", "cached_tokens"),
        ("prompt_cache_hit_tokens",),
    ),
    "reasoning_tokens": (
        ("completion_tokens_details", "reasoning_tokens"),
        ("output_tokens_details", "reasoning_tokens"),
        ("reasoning_tokens",),
    ),
}


def _may_hold_usage(chunk: Chunk) -> bool:
    """A stream has thousands of chunks, and next to none holds usage."""
    if chunk.get("usage") is not None or "cached_tokens" in chunk or "x_groq" in chunk:
        return True
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            if "usage" in choice or "message" in choice:
                return True
            delta = choice.get("delta")
            if delta and "usage" in delta:
                return True
    return bool(choices) and not isinstance(choices, list)


def _blocks(chunk: Chunk) -> Iterator[Mapping[str, Any]]:
    """Return every place of ``chunk`` that may be a usage block, the usual one first."""
    if "usage" in chunk:
        yield from _block_of(chunk)
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list | tuple) else ():
        if isinstance(choice, dict):
            for place in (choice, choice.get("delta"), choice.get("message")):
                if isinstance(place, dict) and "usage" in place:
                    yield from _block_of(place)
    if "x_groq" in chunk:
        yield from _block_of(chunk["x_groq"])


def _block_of(place: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(place, Mapping) and isinstance(place.get("usage"), Mapping):
        yield place["usage"]


def _largest(block: Mapping[str, Any], paths: tuple[tuple[str, ...], ...]) -> int | None:
    """Return the largest count at ``paths``: a host that fills one of two spellings leaves 0 in the other."""
    largest: int | None = None
    for key, *inner in paths:
        value = block.get(key)
        if inner:
            value = value.get(inner[0]) if isinstance(value, Mapping) else None
        count = None if value is None else _count(value)
        if count is not None and (largest is None or count > largest):
            largest = count
    return largest


def _completed(usage: dict[str, int]) -> dict[str, int]:
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    total = usage.get("total_tokens")
    if prompt is not None and completion is not None:
        usage.setdefault("total_tokens", prompt + completion)
    elif prompt is not None and total is not None and total >= prompt:
        usage["completion_tokens"] = total - prompt
    elif completion is not None and total is not None and total >= completion:
        usage["prompt_tokens"] = total - completion
    return usage


def _count(value: Any) -> int | None:
    """Return ``value`` as a count of tokens, or None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST:
        return None
    return int(value) if value == int(value) else None


def _rate(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST:
        return None
    return float(value)


_LARGEST = 2**53  # no host means more; keeps NaN, infinities and overflows out
