"""`lint_prompt`: what Kimi's documentation warns of in a prompt, where it stands, why it matters and how to mend it.

Few findings that are right rather than many: what a sentence says under a condition, in an example, in code or in a
quotation is no finding.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from refrase_integrations.kimi.inputs import instance, names
from refrase_integrations.kimi.practice import Reference
from refrase_integrations.kimi.prompt.contradictions import contradictions
from refrase_integrations.kimi.prompt.outline import Outline, Unit, outline
from refrase_integrations.kimi.prompt.phrases import HAN, any_re, one_of, phrases
from refrase_integrations.kimi.prompt.rules import BINDS, Rule, conditional, is_rule, read
from refrase_integrations.kimi.prompt.thresholds import DEFAULTS, PromptThresholds
from refrase_integrations.kimi.tokens import TokenCounter, estimate


class Finding(NamedTuple):
    """One thing that a prompt should not have. Carries positions and figures, never text of the prompt."""

    rule: str
    """Its id, a key of `LINT_RULES`."""
    start: int
    end: int
    """Characters of the prompt that it is about."""
    line: int
    column: int
    """Where that starts; both count from 1."""
    reason: str
    """What was found."""
    fix: str
    """What to do."""
    source: Reference
    """Where it is documented."""

    def __str__(self) -> str:
        """Say it in one line, as compilers do."""
        return f"{self.line}:{self.column}: {self.rule}: {self.reason}. {self.fix}"


class LintRule(NamedTuple):
    """What a finding of one kind has in common."""

    fix: str
    source: Reference


REFRASE = Reference("refrase.cc/models/kimi-k2 (Skywork.ai analysis)", "2026-11-23", "C")
"""Drifts on long rule-heavy prompts; answers stale facts with confidence unless tools are enabled; sees no images."""
README = Reference("MoonshotAI/Kimi-K2 README", "2025-07-31")
GUIDE = Reference("platform.kimi.ai/docs/guide/prompt-best-practice", "2026-08-13", "B")
"""Say clearly what is wanted, so that less is left to guess; show examples where words do not do; mark the parts."""
MODEL_CARD = Reference("moonshotai/Kimi-K2-Instruct model card", "2025-09-05")

LINT_RULES: dict[str, LintRule] = {
    "long": LintRule("Keep what this task needs; move reference text to the user message or behind a tool.", REFRASE),
    "rule-heavy": LintRule(
        "Merge rules that say the same, drop those the model keeps anyway, split the task.", REFRASE
    ),
    "repeated-rule": LintRule("Say it once, where it holds most widely.", REFRASE),
    "near-repeat": LintRule("Keep the stronger wording, once.", REFRASE),
    "contradiction": LintRule("Decide, or say when which of them holds.", GUIDE),
    "shouting": LintRule("Keep capitals for the one or two rules that must not be missed.", REFRASE),
    "pasted-tools": LintRule("Bind the tools instead: they go in the tools parameter.", MODEL_CARD),
    "long-examples": LintRule(
        "Keep the two or three that differ most, and say in words what they have in common.", GUIDE
    ),
    "default-persona": LintRule(
        "Open with the role of this task; the default is for prompts without instructions.", README
    ),
    "assumed-clock": LintRule(
        "Put the date into the prompt (a slot, at its end) or bind a tool that tells it.", REFRASE
    ),
    "assumed-web": LintRule(
        "Bind a tool that searches or fetches, or tell the model to say that it cannot know.", REFRASE
    ),
    "image-task": LintRule("Use a model that sees (Kimi K2.5 or later), or turn the images into text first.", REFRASE),
}


def lint_prompt(
    text: str,
    *,
    thresholds: PromptThresholds = DEFAULTS,
    tools: Iterable[str] | None = None,
    vision: bool | None = None,
    count: TokenCounter = estimate,
) -> list[Finding]:
    """Find what makes a prompt hard to follow for Kimi K2. Reads English and Chinese.

    ```python
    from refrase_integrations import lint_prompt
    for finding in lint_prompt("Always use emojis. Never use emojis."):
        print(finding)
    ```

    Args:
        text: the prompt, usually a system prompt.
        thresholds: when it is long, rule-heavy and so on.
        tools: names of the tools that are bound beside it: one that searches or tells the time makes it right to rely
            on that; one that the prompt describes again is pasted. None: not known, so a prompt that speaks of tools is
            taken to have the right ones.
        vision: whether the model sees images. None: not known.
        count: what counts tokens.

    Returns:
        The findings in order of their position.

    Raises:
        ConfigurationError: an argument is of another type.
    """
    instance(text, str, "text", "a text")
    instance(thresholds, PromptThresholds, "thresholds", "PromptThresholds")
    found = _Linter(text, thresholds, None if tools is None else tuple(names(tools, "tools")), vision, count)
    return sorted(found.findings(), key=lambda finding: (finding.start, finding.rule, finding.end))


class _Linter:
    def __init__(
        self,
        text: str,
        thresholds: PromptThresholds,
        tools: tuple[str, ...] | None,
        vision: bool | None,
        count: TokenCounter,
    ) -> None:
        self.text, self.limits, self.tools, self.vision, self.count = text, thresholds, tools, vision, count
        self.outline: Outline = outline(text)
        self.lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self.said: list[tuple[Unit, str, Rule | None]] = []
        for unit in self.outline.units:
            if not unit.example and unit.kind != "heading":
                said = text[unit.start : unit.end]
                self.said.append((unit, said, read(said)))

    def findings(self) -> Iterator[Finding]:
        if not self.text.strip():
            return
        yield from self._long()
        yield from self._rule_heavy()
        yield from self._repeats()
        for rule, start, end, other, what in contradictions(self.said):
            yield self._finding(rule, start, end, f"{what} (the other side is in line {self._line(other)})")
        yield from self._shouting()
        yield from self._pasted_tools()
        yield from self._examples()
        yield from self._persona()
        yield from self._assumptions()
        yield from self._images()

    def _finding(self, rule: str, start: int, end: int, reason: str) -> Finding:
        known = LINT_RULES[rule]
        line = self._line(start)
        return Finding(rule, start, end, line, start - self.lines[line - 1] + 1, reason, known.fix, known.source)

    def _line(self, position: int) -> int:
        return bisect_right(self.lines, position)

    # -- size

    def _long(self) -> Iterator[Finding]:
        tokens = self.count.text(self.text)
        if tokens > self.limits.long:
            reason = f"{tokens:,} tokens, long is over {self.limits.long:,}"
            yield self._finding("long", 0, len(self.text), reason)

    def _rule_heavy(self) -> Iterator[Finding]:
        rules = [unit for unit, said, _ in self.said if is_rule(said)]
        if len(rules) > self.limits.rules:
            reason = f"{len(rules)} rules, rule-heavy is over {self.limits.rules}"
            yield self._finding("rule-heavy", rules[0].start, rules[-1].end, reason)

    def _examples(self) -> Iterator[Finding]:
        shown = self.outline.examples
        if not shown:
            return
        example = self.count.text("\n".join(self.text[a:b] for a, b in shown))
        rest = max(1, self.count.text(self.text) - example)
        if example > self.limits.examples_tokens and example > self.limits.examples * rest:
            reason = f"examples of {example:,} tokens beside {rest:,} of task"
            yield self._finding("long-examples", shown[0][0], shown[-1][1], reason)

    # -- repeats

    def _repeats(self) -> Iterator[Finding]:
        first: dict[tuple[str, int], list[tuple[Unit, str]]] = {}
        for unit, said, rule in self.said:
            if rule is None or rule.says_little or unit.kind == "lead":
                continue
            if unit.kind != "sentence" and rule.strength < (BINDS if unit.kind == "step" else _ASKS):
                continue  # a step may come twice, and so may an entry of a list
            earlier = first.setdefault((rule.key, rule.sense), [])
            for other, other_said in earlier:
                if self._again(unit, said, rule, other, other_said):
                    kind = "repeated-rule" if said == other_said else "near-repeat"
                    where = self._line(other.start)
                    yield self._finding(kind, unit.start, unit.end, f"says again what line {where} says")
                    break
            earlier.append((unit, said))

    def _again(self, unit: Unit, said: str, rule: Rule, other: Unit, other_said: str) -> bool:
        if self._verbatim(unit) != self._verbatim(other):
            return False
        if rule.bound or unit.kind == "label":
            return said == other_said and unit.scope == other.scope
        if self._meets(unit, other):
            return True
        return rule.sense != 0 and rule.strength >= BINDS and not conditional(said)

    def _meets(self, unit: Unit, other: Unit) -> bool:
        length = min(len(unit.scope), len(other.scope))
        return unit.scope[:length] == other.scope[:length]

    def _verbatim(self, unit: Unit) -> list[str]:
        return [self.text[a:b] for a, b in self.outline.guards_in(unit.start, unit.end)]

    # -- tone

    def _shouting(self) -> Iterator[Finding]:
        places = [
            match.span()
            for unit, _, _ in self.said
            for match in _patterns().shouts.finditer(self.text, unit.start, unit.end)
            if not self.outline.guarded(*match.span())
        ]
        density = 1_000 * len(places) / max(1, self.count.text(self.text))
        if len(places) > self.limits.shouts and density > self.limits.shouts_per_thousand:
            reason = f"{len(places)} words in capitals or runs of exclamation marks, {density:.0f} in 1,000 tokens"
            yield self._finding("shouting", places[0][0], places[0][1], reason)

    def _persona(self) -> Iterator[Finding]:
        patterns = _patterns()
        for unit, said, _ in self.said:
            default, generic = patterns.persona.fullmatch(said), patterns.generic.fullmatch(said)
            if not (default or generic):
                continue
            others = [one for one, text, rule in self.said if one is not unit and (rule is not None or is_rule(text))]
            if default and others:
                yield self._finding(
                    "default-persona", unit.start, unit.end, "the default persona beside instructions of your own"
                )
            elif generic and any(patterns.is_persona.match(self.text, one.start, one.end) for one in others):
                yield self._finding("default-persona", unit.start, unit.end, "a generic persona beside one of your own")

    # -- tools

    def _pasted_tools(self) -> Iterator[Finding]:
        patterns, text = _patterns(), self.text
        literal = [match for match in patterns.tools.finditer(text) if not self._slot(match.start(), match.end())]
        if literal:
            reason = f"{len(literal)} tool description(s) in the text"
            yield self._finding("pasted-tools", literal[0].start(), literal[0].end(), reason)
            return
        listed = self._listed()
        named = self._described()
        if max(len(listed), len(named)) >= _TOOLS:
            start, end = (listed if len(listed) >= len(named) else named)[0]
            yield self._finding(
                "pasted-tools", start, end, f"{max(len(listed), len(named))} tools described in the text"
            )

    def _slot(self, start: int, end: int) -> bool:
        return "{{" in self.text[start:end]

    def _listed(self) -> list[tuple[int, int]]:
        """Return the entries of a list of tools: below a line that says so, each with a name in the style of code."""
        patterns, text, found = _patterns(), self.text, list[tuple[int, int]]()
        for unit, said, _ in self.said:
            opens = unit.kind == "lead" and patterns.tool_leads.search(said.strip("*#: ："))
            if not opens:
                continue
            at = self.outline.blocks[unit.block][1]
            run: list[tuple[int, int]] = []
            for line in re.finditer(r"[^\n]*(?:\n|\Z)", text[at:]):
                if patterns.tool_entry.match(line.group()):
                    run.append((at + line.start(), at + line.end()))
                elif not line.group() or (line.group().strip() and line.group()[0] not in " 	"):
                    break
            found = max(found, run, key=len)
        return found

    def _described(self) -> list[tuple[int, int]]:
        """Return the lines that describe one of the tools that are bound anyway."""
        if not self.tools:
            return []
        names = one_of(re.sub(r"\s+", "_", name) for name in self.tools if name)
        if not names:
            return []
        name = rf"(?:\*\*|`|#+[ ]`?)?(?:{names})(?:\*\*|`)?(?:\([^)\n]*\))?(?:\*\*|`)?"
        described = rf"(?:[:：]|-{{1,2}}|—|–)[ \t]*(?:\S.{{20,}}|[^\n]*[{HAN}]{{6,}})$"
        entry = re.compile(rf"^[ \t]*(?:[-*•]|\d+[.)])?[ \t]*{name}[ \t]*{described}", re.MULTILINE)
        return [match.span() for match in entry.finditer(self.text)]

    # -- what the model cannot know or see

    def _assumptions(self) -> Iterator[Finding]:
        patterns = _patterns()
        named = bool(patterns.tools_named.search(self.text)) if self.tools is None else self._live()
        if named:
            return
        for rule, pattern, what in (
            ("assumed-web", patterns.web, "relies on live access to the web"),
            ("assumed-clock", patterns.clock, "relies on knowing the date or the time"),
        ):
            if rule == "assumed-clock" and patterns.clock_given.search(self.text):
                continue
            for unit, said, _ in self.said:
                match = pattern.search(said)
                if (
                    match
                    and not patterns.live_unless.search(said)
                    and not self.outline.guarded(unit.start + match.start(), unit.start + match.end())
                ):
                    yield self._finding(rule, unit.start + match.start(), unit.start + match.end(), what)
                    break

    def _live(self) -> bool:
        return any(part in _live_names() for name in self.tools or () for part in re.split(r"[^a-z]+", _snake(name)))

    def _images(self) -> Iterator[Finding]:
        if self.vision is not False:
            return
        patterns = _patterns()
        for unit, said, _ in self.said:
            match = patterns.images.search(said)
            if match and not patterns.images_unless.search(said):
                start = unit.start + match.start()
                yield self._finding(
                    "image-task",
                    start,
                    unit.start + match.end(),
                    "asks for images to be read by a model that sees none",
                )
                return


_ASKS = 1  # strength of a bare imperative that says how to answer
_TOOLS = 2  # described tools that make a pasted list: one name with a dash is a hint on its use


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


class _Patterns(NamedTuple):
    shouts: re.Pattern[str]
    persona: re.Pattern[str]
    generic: re.Pattern[str]
    is_persona: re.Pattern[str]
    tools: re.Pattern[str]
    tool_leads: re.Pattern[str]
    tool_entry: re.Pattern[str]
    web: re.Pattern[str]
    clock: re.Pattern[str]
    clock_given: re.Pattern[str]
    live_unless: re.Pattern[str]
    tools_named: re.Pattern[str]
    images: re.Pattern[str]
    images_unless: re.Pattern[str]


@lru_cache(maxsize=1)
def _patterns() -> _Patterns:
    data: dict[str, Any] = phrases()["lint"]
    shouts = rf"(?<![\w'])(?:{one_of(data['shouts'])})(?![\w'])"
    return _Patterns(
        re.compile("|".join([shouts, *data["shouts_re"]])),
        re.compile(rf"(?:{one_of(data['personas'])})\s*[.。!！]?", re.IGNORECASE),
        re.compile(rf"(?:{one_of(data['generic_personas'])})\s*[.。!！]?", re.IGNORECASE),
        re.compile(r"(?:you are|you're|your role is|act as)\b|你是|您是|你扮演|你的角色", re.IGNORECASE),
        any_re(data["tools_re"]),
        any_re(data["tool_leads_re"]),
        re.compile(data["tool_entry_re"]),
        any_re(data["web_re"]),
        any_re(data["clock_re"]),
        any_re(data["clock_given_re"]),
        any_re(data["live_unless_re"]),
        any_re(data["tools_named_re"]),
        any_re(data["images_re"]),
        any_re(data["images_unless_re"]),
    )


@lru_cache(maxsize=1)
def _live_names() -> frozenset[str]:
    return frozenset(phrases()["lint"]["live_names"])
