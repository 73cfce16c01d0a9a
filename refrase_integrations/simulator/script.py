"""Scripted replies: exactly what a test wants the model to say, or the host to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from refrase_integrations.errors import ConfigurationError

ScriptedCall = tuple[str, "Mapping[str, Any] | str"] | tuple[str, "Mapping[str, Any] | str", str | None]
"""A tool call: name, arguments (a dict, or raw text to send as it is), and the id if it matters."""


@dataclass(frozen=True)
class Reply:
    """One scripted reply. Everything that is left out is done as the persona does it.

    The persona's form (reasoning field, tool-call ids, usage) and its quirks apply, except to ``chunks``.
    """

    content: str = ""
    """Visible text."""
    reasoning: str | None = None
    """Reasoning text; None: the reply carries none."""
    tool_calls: Sequence[ScriptedCall] = ()
    """Calls as ``(name, arguments)`` or ``(name, arguments, id)``."""
    finish_reason: str | None = None
    """None: ``tool_calls`` where there are calls, else ``stop``."""
    usage: Mapping[str, Any] | None = None
    """Sent as it is, in the persona's places; an empty mapping sends none; None: counted."""
    status: int = 200
    """HTTP status; from 400 on the reply is an error."""
    error_type: str = ""
    """The error's type, such as ``engine_overloaded_error``; empty: one that suits the status."""
    message: str = ""
    """The error's message."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Extra response headers, such as ``retry-after``."""
    chunks: Sequence[Mapping[str, Any] | str] | None = None
    """Sent verbatim instead of all the above. In a stream each dict is one event, each text goes as it is,
    then ``data: [DONE]`` unless the last item is a text; unstreamed, the only item is the response body."""
    delay: float = 0.0
    """Seconds before the first byte."""
    pause: float = 0.0
    """Seconds between chunks."""
    cut_after: int | None = None
    """Drop the connection after so many chunks; 0: without a response. An unstreamed body is cut in half."""

    def __post_init__(self) -> None:
        if self.status >= 400 and (self.tool_calls or self.reasoning is not None):
            raise ConfigurationError("a Reply with an error status carries no tool calls and no reasoning")
        for call in self.tool_calls:
            if not isinstance(call, tuple) or len(call) not in {2, 3} or not isinstance(call[0], str):
                raise ConfigurationError("a scripted tool call is (name, arguments) or (name, arguments, id)")

    def calls(self) -> list[tuple[str, str, str | None]]:
        """Return the tool calls as (name, arguments as text, id or None)."""
        return [
            (
                call[0],
                call[1] if isinstance(call[1], str) else json.dumps(call[1], ensure_ascii=False),
                call[2] if len(call) == 3 else None,
            )
            for call in self.tool_calls
        ]


ScriptSource = Iterable[Reply | str] | Callable[[dict[str, Any]], "Reply | str | None"]
"""Replies, one per request; or a function from the request body to a reply (None: the useful answer)."""


class ScriptExhaustedError(ConfigurationError):
    """A script with ``after="error"`` has no reply left."""


class Script:
    """Hands out one reply per request.

    Args:
        source: replies in order (a text stands for ``Reply(text)``), or a function of the request body.
            It runs on the simulator's thread: it must not block, and must not call the simulator.
        after: what follows the last reply of a list: ``"answer"``, the useful answers, or ``"error"``.
    """

    def __init__(self, source: ScriptSource | None, after: Literal["answer", "error"] = "answer") -> None:
        if after not in ("answer", "error"):
            raise ConfigurationError("after must be 'answer' or 'error'")
        is_list = isinstance(source, Iterable) and not isinstance(source, (str, bytes, Mapping, Reply))
        if source is not None and not callable(source) and not is_list:
            raise ConfigurationError("script is a list of replies or a function; for one reply: script=[reply]")
        self._function = source if callable(source) else None
        self._replies = [] if source is None or callable(source) else [_reply(item) for item in source]
        self._scripted = source is not None and not callable(source)
        self._after = after
        self._used = 0

    def next(self, body: dict[str, Any]) -> Reply | None:
        """Return the reply to ``body``, or None for the useful answer.

        Raises:
            ScriptExhaustedError: the list is at its end and ``after`` is ``"error"``.
        """
        if self._function is not None:
            wanted = self._function(body)
            return None if wanted is None else _reply(wanted)
        if self._used < len(self._replies):
            self._used += 1
            return self._replies[self._used - 1]
        if self._scripted and self._after == "error":
            raise ScriptExhaustedError(
                f"all {len(self._replies)} replies of the script are used: add one, or set after='answer'"
            )
        return None

    def rewind(self) -> None:
        """Start again with the first reply."""
        self._used = 0


def _reply(item: object) -> Reply:
    if isinstance(item, Reply):
        return item
    if isinstance(item, str):
        return Reply(item)
    raise ConfigurationError(f"a script holds Reply values or texts, not {type(item).__name__}")
