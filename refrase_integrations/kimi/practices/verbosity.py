"""verbosity: a short line on the length of answers, and the answers measured against it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from refrase_integrations.kimi.lines import in_chinese, own_line, put_line
from refrase_integrations.kimi.practice import Call, Change, Delta, Edit, Practice, Prepared, Reference, Step, unchanged
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.wire import Body

MARKER = "Answer length rule:"
LINE = f"{MARKER} at most {{many}}, unless the user asks for more; no preamble, no recap."
LINE_ZH = f"{MARKER} 回答最多 {{count}} 句，用户另有要求时除外；不要开场白，不要重复总结。"
_OURS = own_line(MARKER, LINE, LINE_ZH, many=r"one sentence|\d+ sentences", count=r"\d+")
_PER_SENTENCE = 40  # tokens, generously: English sentences of 20 to 30 words, Chinese ones of 60 characters


def apply(body: Body, call: Call) -> Edit:
    """Put the line into the system prompt: in sentences, for Moonshot's prompt guide advises against word counts."""
    sentences, tokens = target(call.practices)
    many = "one sentence" if sentences == 1 else f"{sentences} sentences"
    line = LINE_ZH.format(count=sentences) if in_chinese(body) else LINE.format(many=many)
    edited = put_line(body, _OURS, line)
    if edited is body:
        return unchanged(body)
    return Edit(edited, [Change("add", f"a line on length: {many}, {tokens} output tokens")])


def heal(prepared: Prepared) -> Step | None:
    """Measure a plain answer; one in JSON is as long as its schema asks for."""
    if prepared.call.takes == "calls" or prepared.call.body.get("response_format"):
        return None
    return _Measure(prepared)


def target(practices: Practices) -> tuple[int, int]:
    """Return the target as sentences and as tokens; what is not set follows from the other."""
    sentences, tokens = practices.answer_sentences, practices.answer_tokens
    if sentences is None:
        tokens = tokens or _DEFAULT
        return max(1, tokens // _PER_SENTENCE), tokens
    return sentences, tokens or sentences * _PER_SENTENCE


_DEFAULT = 200  # tokens


class _Measure:
    def __init__(self, prepared: Prepared) -> None:
        self._count = prepared.call.count
        self._target = target(prepared.call.practices)[1]
        self._said: list[str] = []

    idle = True

    def catch_up(self, content: str, reasoning: str) -> None:
        """Take the text to measure."""
        self._said.append(content)

    def feed(self, delta: Delta) -> Sequence[Delta]:
        if "content" in delta:
            self._said.append(delta["content"])
        return [delta]

    def close(self, finish_reason: str | None) -> Iterable[Delta]:
        text = "".join(self._said)
        if not text:
            return []
        spent = self._count.text(text)
        about = "" if self._count.exact else "about "
        detail = f"{about}{spent} output tokens, target {self._target}"
        return [{"notes": [Change("advise" if spent > self._target else "add", detail)]}]


PRACTICE = Practice(
    id="verbosity",
    statement="Asks for short answers and measures them: K2 is documented to spend 2-2.5 times the tokens of others.",
    sources=(
        Reference("refrase.cc/models/kimi-k2 (Skywork.ai analysis)", "2026-11-23", "C"),
        Reference("platform.kimi.ai/docs/guide/prompt-best-practice", "2026-08-13", "B"),
    ),
    default="off",
    scope="messages",
    apply=apply,
    heal=heal,
)
