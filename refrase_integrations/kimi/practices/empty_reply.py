"""empty-reply: a reply without text and without a call is asked for once more, then it is a typed error.

What comes of it, by the way it ended:

- At the output limit: an error at once, which says how many tokens went where. The same request would be cut again.
- After results of the app's own tools: one retry, then it passes with a note. The agent has acted; a model that has
  nothing to add must not turn work that is done into a failed run.
- By the host's content filter, or where the user's own prefix needed no more: it passes.
- Any other: one retry, then the error; with ``unanswered="advise"`` a note in its place.

The retry is the same request. Reasoning that was handed out already is not repeated: text and calls come from the
second reply, behind the reasoning of the first. One empty choice of several (``n > 1``) only gets a note.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from refrase_integrations.errors import EmptyReply
from refrase_integrations.kimi.followups import answers, may_follow_up
from refrase_integrations.kimi.practice import (
    Call,
    Change,
    Delta,
    Followup,
    Kind,
    Practice,
    Prepared,
    Reference,
    Step,
    Takes,
    messages_of,
)
from refrase_integrations.kimi.wire import Usage


def heal(prepared: Prepared) -> Step | None:
    """Watch whether the reply says anything."""
    messages = messages_of(prepared.call.body)
    if prepared.call.takes == "calls" or (messages and messages[-1].get("partial")):
        return None  # the text was handed out before; a prefix may be the whole answer
    return _Watch(prepared)


class _Watch:
    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._answered = False
        self._reasoned = False
        self._usage: Usage = {}

    idle = True

    def catch_up(self, content: str, reasoning: str) -> None:
        """Take note that something was said."""
        self._answered = self._answered or bool(content.strip())
        self._reasoned = self._reasoned or bool(reasoning.strip())

    def feed(self, delta: Delta) -> Sequence[Delta]:
        if not self._answered:
            self._answered = answers(delta)
            self._reasoned = self._reasoned or bool(delta.get("reasoning", "").strip())
            self._usage = delta.get("usage", self._usage)
        return (delta,)

    def close(self, finish_reason: str | None) -> Iterable[Delta]:
        if self._answered:
            return ()
        held = "only reasoning, no text and no tool call" if self._reasoned else "nothing"
        what = f"the reply held {held}"
        if finish_reason == "content_filter":
            return [{"notes": [Change("advise", f"{what}: the host's content filter ended it")]}]
        if (self._prepared.call.body.get("n") or 1) > 1:
            return [{"notes": [Change("advise", f"{what}: one of several choices")]}]
        ending: Kind = "advise" if self._prepared.call.practices.unanswered == "advise" else "refuse"
        if finish_reason == "length":
            return [{"notes": [Change(ending, f"{what}: {self._spent()}")]}]
        if may_follow_up(self._prepared, PRACTICE.id):
            note = Change("replace", f"{what}: asked once more")
            seen = self._reasoned or self._prepared.call.takes == "answer"
            takes: Takes = "answer" if seen else "all"
            return [{"followup": Followup(self._prepared.call.body, note.detail, takes=takes), "notes": [note]}]
        if _has_acted(self._prepared.call):
            return [{"notes": [Change("advise", f"{what} after tool results: passed on as the end of the turn")]}]
        return [{"notes": [Change(ending, f"{what} {self._ended(finish_reason)}")]}]

    def _spent(self) -> str:
        dialect, body = self._prepared.call.dialect, self._prepared.body
        limit = body.get(dialect.output_key)
        tokens = self._usage.get("completion_tokens")
        spent = f"{tokens} tokens, " if tokens else ""
        sent = f"{dialect.output_key}={limit} was sent" if limit else "no limit was sent"
        floor = f" (thinking wants at least {dialect.output_floor})" if dialect.output_floor else ""
        off = ", or set thinking=False where the model can" if dialect.thinking else ""
        return f"its output limit was spent ({spent}{sent}). Raise max_tokens={floor}{off}"

    def _ended(self, finish_reason: str | None) -> str:
        again = ", also when asked once more" if PRACTICE.id in self._prepared.call.asked else ""
        cure = "Ask again later"
        if self._reasoned:
            cure = "Where a host puts answers into the reasoning: practices={'reasoning_as_answer': 'apply'}"
        return f"(finish_reason {finish_reason}){again}. {cure}"


def _has_acted(call: Call) -> bool:
    """Tell whether this turn answers results of the app's own tools: not the host's, nor what a practice put there."""
    messages = messages_of(call.body)
    own = not call.handed_back and set(call.asked) <= {PRACTICE.id}
    return own and bool(messages) and messages[-1].get("role") == "tool"


PRACTICE = Practice(
    id="empty-reply",
    statement="Asks once more where a reply has neither text nor a tool call; an error says why where that fails too.",
    sources=(
        Reference("MoonshotAI/kimi-cli, kosong (APIEmptyResponseError, retried)", "2026-11-23"),
        Reference("MoonshotAI/kimi-code#520; gonka#1202", "2026-11-23", "C"),
    ),
    error=EmptyReply,
    heal=heal,
)
