"""reasoning-as-answer: an answer that stands only in the reasoning field becomes the reply's text, where asked for.

A server that runs an instruct model behind a reasoning parser puts all that it says into the reasoning. From outside
that looks like a model that thought and said nothing, so it is only done where the user knows their host. The text was
streamed as reasoning by then: it stands in both places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from refrase_integrations.kimi.followups import answers
from refrase_integrations.kimi.practice import Change, Delta, Practice, Prepared, Reference, Step


def heal(prepared: Prepared) -> Step | None:
    """Collect the reasoning until there is text or a call."""
    return None if prepared.call.takes == "calls" else _Take()


class _Take:
    def __init__(self) -> None:
        self._reasoning: list[str] = []
        self._answered = False

    idle = True

    def catch_up(self, content: str, reasoning: str) -> None:
        """Take note of both: with an answer the reasoning does not count, whichever came first."""
        self._answered = self._answered or bool(content.strip())
        self._reasoning.append(reasoning)

    def feed(self, delta: Delta) -> Sequence[Delta]:
        if not self._answered:
            self._answered = answers(delta)
            self._reasoning.append(delta.get("reasoning", ""))
        return (delta,)

    def close(self, finish_reason: str | None) -> Iterable[Delta]:
        text = "".join(self._reasoning).strip()
        if self._answered or not text or finish_reason in _NOT_AN_END:
            return ()
        return [{"content": text, "notes": [Change("replace", "the answer stood in the reasoning: taken as text")]}]


_NOT_AN_END = ("length", "content_filter", "tool_calls")

PRACTICE = Practice(
    id="reasoning-as-answer",
    statement="Takes an answer that stands only in the reasoning field, as behind a wrong reasoning parser, as text.",
    sources=(Reference("run-llama/llama_index#21337", "2026-11-23", "C"),),
    default="off",
    heal=heal,
)
