"""The documented practices, one module each. Their order is the place in one tuple."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.inputs import instance
from refrase_integrations.kimi.practice import Mode, Practice, Scope
from refrase_integrations.kimi.practices import (
    anthropic_temperature,
    concise_prompt,
    context_window,
    empty_reply,
    fresh_data,
    grounding,
    history,
    loop_guard,
    output_budget,
    prompt_cache,
    reasoning_as_answer,
    reasoning_replay,
    sampling,
    special_tokens,
    structured_output,
    system_prompt,
    temperature,
    thinking,
    tool_call_recovery,
    tool_choice,
    tool_format,
    tool_ids,
    tool_names,
    tool_schemas,
    verbosity,
    vision,
)

if TYPE_CHECKING:
    from refrase_integrations.kimi.settings import Practices

ORDER: tuple[Practice, ...] = tuple(
    module.PRACTICE
    for module in (
        system_prompt,
        concise_prompt,
        fresh_data,
        grounding,
        verbosity,
        vision,
        special_tokens,
        history,
        loop_guard,
        structured_output,
        tool_format,
        tool_schemas,
        tool_names,
        tool_choice,
        thinking,
        sampling,
        temperature,
        anthropic_temperature,  # acts as the request leaves: bodies carry the real temperature
        context_window,  # before tool-ids: trimming afterwards would number the calls twice
        tool_ids,
        prompt_cache,
        empty_reply,  # heals after the two that find something in an empty-looking reply, before what would re-ask it
        reasoning_as_answer,
        tool_call_recovery,
        reasoning_replay,
        output_budget,  # last: what the window leaves depends on everything that is sent
    )
)
"""Requests are prepared in this order; replies are healed in the reverse, so what is done last is undone first."""

_lock = threading.Lock()


def ordered(scope: Scope = "request") -> tuple[Practice, ...]:
    """Return the practices, built in and registered alike, that act in ``scope``, in the order of the request."""
    return _order if scope == "request" else tuple(practice for practice in _order if practice.scope == scope)


def at_work(practices: Practices, scope: Scope = "request") -> tuple[tuple[Practice, Mode], ...]:
    """Return the practices that are not off under these settings, each with its mode, in the order of the request."""
    return _at_work(practices, scope, _order)


class _Order(tuple[Practice, ...]):
    """An order that is compared and hashed as the object that it is."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


_order = _Order(ORDER)


@lru_cache(maxsize=256)
def _at_work(practices: Practices, scope: Scope, order: _Order) -> tuple[tuple[Practice, Mode], ...]:
    acting = [practice for practice in order if scope in ("request", practice.scope)]
    modes = [(practice, practices.mode(practice)) for practice in acting]
    return tuple((practice, mode) for practice, mode in modes if mode != "off")


def known_ids() -> frozenset[str]:
    """Return the ids of all practices, registered ones included."""
    return frozenset(practice.id for practice in _order)


def register_practice(practice: Practice, *, after: str) -> None:
    """Add a practice of your own.

    ```python
    from refrase_integrations.kimi.practice import Edit, Practice
    register_practice(Practice(id="house-style", statement="...", sources=(), apply=my_edit), after="system-prompt")
    ```

    Args:
        practice: the practice; its id becomes a key of `Practices` (with "_" for "-").
        after: id of the practice it stands behind.

    Raises:
        ConfigurationError: it is no `Practice`, the id is taken, or ``after`` is unknown.
    """
    instance(practice, Practice, "register_practice: practice", "a Practice")
    global _order  # noqa: PLW0603 - one process-wide order, like a codec registry
    with _lock:
        ids = [known.id for known in _order]
        if practice.id in ids:
            raise ConfigurationError(f"register_practice: the id {practice.id!r} is taken")
        if after not in ids:
            raise ConfigurationError(f"register_practice: after={after!r} is unknown; known: {', '.join(ids)}")
        place = ids.index(after) + 1
        _order = _Order((*_order[:place], practice, *_order[place:]))


def unregister_practice(practice_id: str) -> None:
    """Remove a registered practice; the built-in ones stay.

    Raises:
        ConfigurationError: nothing of yours is registered under ``practice_id``.
    """
    global _order  # noqa: PLW0603
    with _lock:
        if practice_id not in {p.id for p in _order} or practice_id in {p.id for p in ORDER}:
            raise ConfigurationError(f"unregister_practice: no practice of your own is called {practice_id!r}")
        _order = _Order(practice for practice in _order if practice.id != practice_id)
