"""concise-prompt: says what makes a system prompt hard to follow; where asked, takes repeats and filler out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from refrase_integrations.kimi.lines import own_lines
from refrase_integrations.kimi.memo import Memo, digest
from refrase_integrations.kimi.messages import map_messages, with_fields
from refrase_integrations.kimi.practice import Call, Change, Edit, Practice, Reference, messages_of, unchanged
from refrase_integrations.kimi.prompt.compact import compact_prompt
from refrase_integrations.kimi.prompt.lint import REFRASE, Finding, lint_prompt
from refrase_integrations.kimi.prompt.pasted import put_back, set_aside
from refrase_integrations.kimi.prompt.thresholds import PromptThresholds
from refrase_integrations.kimi.tokens import estimate
from refrase_integrations.kimi.wire import Body, Message

# What relies on live data is told by fresh-data, which knows the live tools.
_ADVISED = frozenset(
    {
        "long",
        "rule-heavy",
        "repeated-rule",
        "near-repeat",
        "contradiction",
        "shouting",
        "pasted-tools",
        "long-examples",
        "default-persona",
        "image-task",
    }
)


class _Seen(NamedTuple):
    text: str
    changes: tuple[Change, ...]


_seen: Memo[_Seen] = Memo(512)
_LONGEST = 4_000_000  # characters: more than any window holds; reading it would take seconds, only to be refused then


def apply(body: Body, call: Call) -> Edit:
    """Look at every system message; user text is never touched, nor are documents that a retriever pasted in."""
    if not any(message.get("role") == "system" for message in messages_of(body)):
        return unchanged(body)
    limits = call.practices.prompt_thresholds
    tools = tuple(str((tool.get("function") or {}).get("name", "")) for tool in body.get("tools") or ())
    surroundings = _surroundings(limits, tools, call.dialect.vision)
    changes: list[Change] = []

    def look(text: str) -> str:
        if len(text) > _LONGEST:
            return text
        key = digest(text) + surroundings
        seen = _seen(key, lambda: _look(text, limits, tools, vision=call.dialect.vision))
        changes.extend(seen.changes)
        return seen.text

    def concise(message: Message) -> Message:
        if message.get("role") != "system":
            return message
        content = message.get("content")
        if isinstance(content, str):
            text = look(content)
            return message if text == content else with_fields(message, content=text)
        if isinstance(content, list):
            parts = [_part(part, look) for part in content]
            if any(new is not old for new, old in zip(parts, content, strict=True)):
                return with_fields(message, content=parts)
        return message

    edited = map_messages(body, concise)
    return Edit(edited, changes) if changes else unchanged(body)


def _part(part: Any, look: Any) -> Any:
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        return part
    text = look(part["text"])
    return part if text == part["text"] else {**part, "text": text}


@lru_cache(maxsize=64)
def _surroundings(limits: PromptThresholds, tools: tuple[str, ...], vision: bool) -> str:
    return digest([limits.model_dump_json(), [*tools], vision])


def _look(text: str, limits: PromptThresholds, tools: Sequence[str], *, vision: bool) -> _Seen:
    prompt, aside = set_aside(text)
    own = own_lines(prompt)  # another surface may have added them before
    theirs = "".join(line for line in prompt.splitlines(keepends=True) if line.removesuffix("\n") not in own)
    if estimate.text(theirs) < limits.short:
        return _Seen(text, ())
    by_rule: dict[str, list[Finding]] = {}
    for finding in lint_prompt(theirs, thresholds=limits, tools=tools, vision=vision):
        # Pasted tools are paid twice where they are bound too; alone they may be all that an agent has (ReAct).
        if finding.rule in _ADVISED and (tools or finding.rule != "pasted-tools"):
            by_rule.setdefault(finding.rule, []).append(finding)
    changes = [Change("advise", _said(rule, findings)) for rule, findings in by_rule.items()]
    short = compact_prompt(prompt, keep=[*own])
    whole = put_back(short.text, aside)
    if not short.removed or short.tokens_saved < limits.saving or whole is None:
        return _Seen(text, tuple(changes))
    kinds = Counter(removal.kind for removal in short.removed)
    parts = ", ".join(f"{kind}: {number}" for kind, number in sorted(kinds.items()))  # places, not sentences
    shortened = f"shorter by about {short.tokens_saved:,} of {short.tokens_before:,} tokens ({parts})"
    return _Seen(whole, (*changes, Change("drop", shortened)))


def _said(rule: str, findings: Sequence[Finding]) -> str:
    if len(findings) > 1:
        return f"{rule}: {len(findings)} places, the first in line {findings[0].line}"
    return f"{rule}: {findings[0].reason}"


PRACTICE = Practice(
    id="concise-prompt",
    statement="Says what makes a system prompt hard to follow: length, repeats, contradictions ...; apply shortens it.",
    sources=(REFRASE, Reference("platform.kimi.ai/docs/guide/prompt-best-practice", "2026-08-13", "B")),
    default="warn",
    scope="messages",
    apply=apply,
)
