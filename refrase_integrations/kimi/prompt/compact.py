"""`compact_prompt`: a prompt without its repeats, filler and decoration, and with every rule.

Only deletions (and a capital letter where a sentence lost its opening). A sentence goes only if another one stays that
says the same in the same words, at least as strongly, and holds at least as widely: not under another heading, not
under a condition, not in an example, a step, a table or a template.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from refrase_integrations.kimi.prompt.outline import Outline, Unit, limits_nothing, outline
from refrase_integrations.kimi.prompt.phrases import one_of, phrases
from refrase_integrations.kimi.prompt.rules import Rule, read
from refrase_integrations.kimi.tokens import TokenCounter, estimate


class Removal(NamedTuple):
    """Something that was taken out."""

    start: int
    end: int
    """Characters of the text as it was given."""
    kind: Literal["repeat", "filler", "decoration"]
    put: str = ""
    """What stands there now: the capital letter of a sentence that lost its opening, else nothing."""


class Compacted:
    """A shortened prompt.

    Attributes:
        text: the prompt as it is now.
        removed: what went, in order, none inside another; ``text`` is the given text without it.
    """

    __slots__ = ("_count", "_given", "removed", "text")

    def __init__(self, given: str, text: str, removed: tuple[Removal, ...], count: TokenCounter) -> None:
        self.text, self.removed = text, removed
        self._given, self._count = given, count

    @property
    def tokens_before(self) -> int:
        """Tokens of the text as it was given."""
        return self._count.text(self._given)

    @property
    def tokens_saved(self) -> int:
        """How many tokens fewer it has now; estimated where the counter estimates."""
        return self.tokens_before - self._count.text(self.text)

    def __repr__(self) -> str:
        """Say how much went; never the prompt."""
        return f"<Compacted: {len(self.removed)} removals, {self.tokens_saved} of {self.tokens_before} tokens>"


def compact_prompt(text: str, *, keep: Sequence[str] = (), count: TokenCounter = estimate) -> Compacted:
    """Shorten a prompt without losing a rule. Pure; what it returns it would not change again.

    Never touched: code blocks and code spans, templates (``{var}``, ``{{var}}``, ``{% %}``), quoted text, tags, tables,
    examples, numbered lists, numbers, names, URLs. A repeated sentence that holds one of these goes only if the copy
    that stays holds the same.

    ```python
    from refrase_integrations import compact_prompt
    compact_prompt("Never guess. Be brief. You must never guess!").text  # "Never guess. Be brief."
    ```

    Args:
        text: the prompt, in English, Chinese or both. What is in another language is left as it is.
        keep: openings of lines that are left alone and count as nothing.
        count: what counts the tokens saved.

    Returns:
        The text, the removed spans and the tokens saved.
    """
    removed: list[Removal] = []
    now = text
    if not text.strip():
        return Compacted(text, text, (), count)
    for _ in range(_PASSES):
        cuts = _cuts(outline(now, keep))
        if not cuts:
            break
        removed = _joined(removed, cuts)
        now = _without(text, removed)
        if all(cut.kind == "decoration" for cut in cuts):
            break  # it lays nothing bare
    else:
        return Compacted(text, text, (), count)  # it does not settle: not a text to touch
    return Compacted(text, now, tuple(removed), count)


_PASSES = 8  # what one removal lays bare the next pass sees: two or three are usual


def _without(text: str, removed: Iterable[Removal]) -> str:
    parts, at = [], 0
    for removal in removed:
        parts += [text[at : removal.start], removal.put]
        at = removal.end
    return "".join([*parts, text[at:]])


def _joined(earlier: list[Removal], cuts: list[Removal]) -> list[Removal]:
    """Lay ``cuts``, which count characters of the text without ``earlier``, over it in characters of the whole text."""
    if not earlier:
        return cuts
    placed, shift, at = [], 0, 0
    ends: list[tuple[int, int]] = []  # place in the shortened text from which on, and by how much, positions differ
    for removal in earlier:
        place = removal.start - shift
        if removal.put:
            ends.append((place, removal.end - len(removal.put) - place))
        shift += removal.end - removal.start - len(removal.put)
        ends.append((place + len(removal.put), shift))

    def whole(position: int) -> int:
        nonlocal at
        while at + 1 < len(ends) and ends[at + 1][0] <= position:
            at += 1
        return position + (ends[at][1] if ends[at][0] <= position else 0)

    for cut in cuts:
        start = whole(cut.start)
        placed.append(cut._replace(start=start, end=whole(cut.end - 1) + 1))
    kept = []
    for old in earlier:
        inside = next((n for n, new in enumerate(placed) if new.start < old.end and old.start < new.end), None)
        if inside is None:
            kept.append(old)
        elif old.kind == "repeat":
            placed[inside] = placed[inside]._replace(kind="repeat")
    return sorted([*kept, *placed])


# -- one pass ------------------------------------------------------------------------------------------------


def _cuts(read_out: Outline) -> list[Removal]:
    """Return what goes in this pass: in order, apart from each other."""
    found = _Finder(read_out)
    removals = [*found.repeats(), *found.filler(), *found.decoration()]
    removals.sort(key=lambda removal: (removal.start, -removal.end))
    apart: list[Removal] = []
    for removal in removals:
        if not apart or removal.start >= apart[-1].end:
            apart.append(removal)
    return apart


class _Patterns(NamedTuple):
    clause: re.Pattern[str]
    verb: re.Pattern[str]
    clause_zh: re.Pattern[str]
    courtesy: re.Pattern[str]
    inside: re.Pattern[str]
    alarms: re.Pattern[str]
    capitals: frozenset[str]
    verbs: frozenset[str]


@lru_cache(maxsize=1)
def _patterns() -> _Patterns:
    data = phrases()
    en, zh = data["en"]["filler"], data["zh"]["filler"]
    return _Patterns(
        re.compile(rf"(?:(?:{one_of(en['clause'])})[ \t]+)+(?=\S)", re.IGNORECASE),
        re.compile(rf"(?:(?:{one_of(en['verb'])})[ \t]+)+(?=\S)", re.IGNORECASE),
        re.compile(rf"(?:{one_of([*zh['clause'], *zh['verb']])})+(?=\S)"),
        re.compile(rf"(?:{one_of([*en['courtesy'], *zh['courtesy']])})\s*[.!。！~～]*", re.IGNORECASE),
        re.compile(rf"(?<=\s)(?:{one_of(en['inside'])})[ ](?=to\b)"),
        re.compile(rf"({one_of(data['decoration']['alarms'])})(?:[ ]?\1)+"),
        frozenset(en["capitals"]),
        frozenset(en["verbs"]),
    )


_TEMPLATE = re.compile(r"[{}]|%\(|%[sd]\b|\$[A-Za-z_{]|\[\[|\[[A-Z]|<<")
_SHOUTS = re.compile(r"(?<=[\w\s)*\"”’])([!！?？])\1+(?=[\s*_)]|$)")
_AFTER = re.compile(r"(?<![ \t])[ \t]+(?=\n)")
_BLANK = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)+")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?(?![\w-])")
_COURTESY = 40  # characters of a thank-you
_DRAWN = (16, 60)  # signs of a drawn line that cost more than a token: box drawing, ASCII
_LEFT = 3  # signs of it that stay


class _Finder:
    def __init__(self, read_out: Outline) -> None:
        self.outline, self.text, self.units = read_out, read_out.text, read_out.units
        self.patterns = _patterns()
        self.gone: set[int] = set()

    # -- repeats

    def repeats(self) -> Iterator[Removal]:
        kinds: dict[int, Literal["repeat", "filler"]] = dict.fromkeys(self._copies(), "repeat")
        for place, unit in enumerate(self.units):
            short = unit.kind == "sentence" and not unit.fixed and unit.end - unit.start < _COURTESY
            if short and self.patterns.courtesy.fullmatch(self.text, unit.start, unit.end):
                kinds[place] = "filler"
        self.gone = set(kinds)
        if kinds:
            yield from self._spans(kinds)

    def _copies(self) -> Iterator[int]:
        """Yield the places of sentences that another one, which stays, makes needless."""
        groups: dict[tuple[str, int], list[tuple[int, Unit, Rule]]] = {}
        text = self.text
        for place, unit in enumerate(self.units):
            if unit.kind in ("heading", "lead", "label") or unit.example:
                continue
            rule = read(text[unit.start : unit.end])
            if rule is not None:
                groups.setdefault((rule.key, rule.sense), []).append((place, unit, rule))
        for members in groups.values():
            if len(members) > 1:
                yield from self._covered(members)

    def _covered(self, members: list[tuple[int, Unit, Rule]]) -> Iterator[int]:
        stay: list[tuple[Unit, Rule, list[str]]] = []
        members.sort(
            key=lambda member: (-member[2].strength, len(member[1].scope), not self._stays(*member[1:]), member[0])
        )
        for place, unit, rule in members:
            said = self._verbatim(unit)
            if self._stays(unit, rule) or not any(
                _covers(other, unit) and other_rule.strength >= rule.strength and said == other_said
                for other, other_rule, other_said in stay
            ):
                stay.append((unit, rule, said))
            else:
                yield place

    def _stays(self, unit: Unit, rule: Rule) -> bool:
        return unit.fixed or rule.bound or rule.says_little or bool(_TEMPLATE.search(self.text, unit.start, unit.end))

    def _verbatim(self, unit: Unit) -> list[str]:
        """Return what of the sentence may not be altered: its code and quotations."""
        return [self.text[a:b] for a, b in self.outline.guards_in(unit.start, unit.end)]

    def _spans(self, kinds: dict[int, Literal["repeat", "filler"]]) -> Iterator[Removal]:
        places = sorted(kinds)
        blocks: dict[int, list[int]] = {}
        for place in places:
            blocks.setdefault(self.units[place].block, []).append(place)
        whole: dict[int, tuple[int, int]] = {}
        for block, gone in blocks.items():
            siblings = self._siblings(gone[0])
            if len(gone) == len(siblings):
                whole[block] = self._lines(*self.outline.blocks[block])
                yield Removal(*whole[block], kinds[gone[0]])
                continue
            for place in gone:
                unit = self.units[place]
                if place == siblings[-1]:
                    before = [one for one in siblings if one not in kinds][-1]
                    yield Removal(self.units[before].end, unit.end, kinds[place])
                else:
                    yield Removal(unit.start, self.units[place + 1].start, kinds[place])
        if whole:
            yield from self._hollow(whole)

    def _siblings(self, place: int) -> range:
        """Return the places of the sentences in the same paragraph or item."""
        units, block = self.units, self.units[place].block
        first = last = place
        while first > 0 and units[first - 1].block == block:
            first -= 1
        while last + 1 < len(units) and units[last + 1].block == block:
            last += 1
        return range(first, last + 1)

    def _lines(self, start: int, end: int) -> tuple[int, int]:
        """Return the lines of a block with one of the blank lines around it."""
        text = self.text
        if end >= len(text):
            left = "\n\n" if text.endswith("\n") else "\n"  # a text that ends in a line break goes on doing so
            while start > 0 and text.endswith(left, 0, start):
                start -= 1
        elif text.startswith("\n", end) and (start == 0 or text.startswith("\n\n", start - 2)):
            end += 1
        return start, end

    def _hollow(self, whole: dict[int, tuple[int, int]]) -> Iterator[Removal]:
        """Yield headings and lead-ins that limit nothing and have nothing left below them."""
        units, text, blocks = self.units, self.text, self.outline.blocks
        for place, unit in enumerate(units[:-1]):
            if unit.kind not in ("heading", "lead") or unit.example or units[place + 1].block not in whole:
                continue
            start, end = blocks[unit.block]
            numbered = text[start : unit.start].strip(" \t#*_=-【")
            alone = place == 0 or units[place - 1].block != unit.block
            if (
                numbered
                or not alone
                or not limits_nothing(text[unit.start : unit.end])
                or self.outline.guarded(start, end)
            ):
                continue
            following, at = place + 1, end
            while following < len(units) and units[following].block in whole:
                if text[at : blocks[units[following].block][0]].strip():
                    break
                at = max(at, blocks[units[following].block][1])
                following += 1
            rest = blocks[units[following].block][0] if following < len(units) else len(text)
            if text[at:rest].strip():
                continue
            opens = following == len(units) or units[following].kind == "heading"
            if opens or (
                unit.kind == "lead"
                and units[following].kind in ("lead", "sentence")
                and text[rest - 2 : rest] == "\n\n"
            ):
                yield Removal(*self._lines(start, end), "repeat")

    # -- filler

    def filler(self) -> Iterator[Removal]:
        patterns, text = self.patterns, self.text
        inside = "in order to" in text
        for place, unit in enumerate(self.units):
            if unit.example or unit.kind in ("heading", "label") or place in self.gone:
                continue
            if inside:
                for match in patterns.inside.finditer(text, unit.start, unit.end):
                    if not self.outline.guarded(*match.span()):
                        yield Removal(*match.span(), "filler")
            first = text[unit.start]
            if first.isascii() and first.isalpha():
                if clause := patterns.clause.match(text, unit.start, unit.end):
                    yield from self._opening(clause, patterns.capitals, clause=True)
                elif verb := patterns.verb.match(text, unit.start, unit.end):
                    yield from self._opening(verb, patterns.verbs, clause=False)
            elif chinese := patterns.clause_zh.match(text, unit.start, unit.end):
                yield Removal(*chinese.span(), "filler")

    def _opening(self, match: re.Match[str], words: frozenset[str], *, clause: bool) -> Iterator[Removal]:
        start, end = match.span()
        if self.outline.guarded(start, end):
            return
        following = _WORD.match(self.text, end)
        if following is None or following.group() not in words:
            if clause and not self.text[end].islower():
                yield Removal(start, end, "filler")  # a name or code opens the clause: its case stands
        elif self.text[start].isupper():
            yield Removal(start, end + 1, "filler", self.text[end].upper())
        else:
            yield Removal(start, end, "filler")

    # -- decoration

    def decoration(self) -> Iterator[Removal]:
        text, guarded = self.text, self.outline.guarded
        if " \n" in text or "\t\n" in text:
            spans = [match.span() for match in _AFTER.finditer(text)]
            yield from (Removal(*span, "decoration") for span in spans if not guarded(*span))
        if _BLANK.search(text):
            for match in _BLANK.finditer(text):
                if not guarded(match.start(), match.end()):
                    yield Removal(
                        match.start() + 2 if text[match.start() + 1] == "\n" else match.start() + 1,
                        match.end() - (text[match.start() + 1] != "\n"),
                        "decoration",
                    )
        for start, end in self.outline.rules:
            drawn = text[start:end].rstrip()
            if len(drawn) >= _DRAWN[drawn.isascii()] and not guarded(start, end) and not self._quoted(drawn):
                step = 2 if drawn[1] == " " else 1
                yield Removal(start + _LEFT * step - (step - 1), start + len(drawn), "decoration")
        doubled = [pair for pair in ("!!", "！！", "??", "？？") if pair in text]
        alarms = patterns_in(self.patterns.alarms, text)
        for unit in self.units if doubled or alarms else ():
            if unit.example or unit.kind == "label":
                continue
            for pattern in ((_SHOUTS,) if doubled else ()) + ((self.patterns.alarms,) if alarms else ()):
                for match in pattern.finditer(text, unit.start, unit.end):
                    if not guarded(*match.span()):
                        yield Removal(match.end(1), match.end(), "decoration")

    def _quoted(self, drawn: str) -> bool:
        """Tell whether a quotation or code names this very line: then its length matters."""
        return any(drawn in self.text[a:b] for a, b in self.outline.guards)


def patterns_in(pattern: re.Pattern[str], text: str) -> bool:
    """Tell whether a pattern of signs beyond ASCII occurs."""
    return not text.isascii() and pattern.search(text) is not None


def _covers(other: Unit, unit: Unit) -> bool:
    """Tell whether ``other`` holds wherever ``unit`` does."""
    return unit.scope[: len(other.scope)] == other.scope
