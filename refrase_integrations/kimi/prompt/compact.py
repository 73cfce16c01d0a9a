"""`compact_prompt`: a prompt without its repeats, filler and decoration, and with every rule.

Only deletions (and a capital letter where a sentence lost its opening). A sentence goes only if another one stays that
says the same in the same words, at least as strongly, and holds at least as widely: not under another heading, not
under a condition, not in an example, a step, a table or a template.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Literal, NamedTuple

from refrase_integrations.kimi.inputs import instance
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
    """Shorten a prompt by taking repeats, filler and decoration out. Pure; what it returns it would not change again.

    Known limits: where a rule is said for everybody and again in a paragraph for a single case, the general form may
    go; runs of signs (``!!!``) are shortened also where a rule is about them. `Compacted.removed` tells what went.

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

    Raises:
        ConfigurationError: ``text`` is no text.
    """
    instance(text, str, "text", "a text")
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
    signs: tuple[str, ...]
    weights: frozenset[str]
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
        tuple(data["decoration"]["alarms"]),
        frozenset(tail[-_END:] for tail in (*data["en"]["words"]["tails"], *data["zh"]["words"]["tails"])),
        frozenset(en["capitals"]),
        frozenset(en["verbs"]),
    )


_start = itemgetter(0)
_NO_COPIES = ("heading", "lead", "label")
_MARKS = " .!。！?？;；:,，*_\"'”’)]"
_TAIL, _END = 16, 4  # characters looked at, and compared, at the end of a sentence
_TEMPLATE = re.compile(r"[{}]|</?[A-Za-z]|%\(|%[sd]\b|\$[A-Za-z_{]|\[\[|\[[A-Z]|<<")
_SHOUTS = re.compile(r"([!！?？])\1+(?=[\s*_)]|$)", re.MULTILINE)
_SPOKEN = ' \t\n)*"”’_'
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
        yield from self._spans(kinds)

    def _copies(self) -> Iterator[int]:
        """Yield the places of sentences that another one, which stays, makes needless."""
        ends = [self._end(unit) for unit in self.units]
        times = Counter(ends)
        groups: dict[tuple[str, int], list[tuple[int, Unit, Rule]]] = {}
        for place, unit in enumerate(self.units):
            if ends[place] and times[ends[place]] > 1:
                rule = read(self.text[unit.start : unit.end])
                if rule is not None:
                    groups.setdefault((rule.key, rule.sense), []).append((place, unit, rule))
        for members in groups.values():
            if len(members) > 1:
                yield from self._covered(members)

    def _end(self, unit: Unit) -> str:
        """Return how a sentence ends. Copies end alike, so one that ends like no other need not be read."""
        if unit.kind in _NO_COPIES or unit.example:
            return ""
        end = self.text[unit.start : unit.end][-_TAIL:].rstrip(_MARKS)[-_END:].lower()
        if end in self.patterns.weights:  # words that only add weight: it is known by what stands before them
            rule = read(self.text[unit.start : unit.end])
            return rule.key[-_END:].lower() if rule else ""
        return end

    def _covered(self, members: list[tuple[int, Unit, Rule]]) -> Iterator[int]:
        """Yield the places of those that a stronger and wider copy makes needless; one that may not go comes first."""
        ranked = [
            (-rule.strength, len(unit.scope), not self._stays(unit, rule), place, unit) for place, unit, rule in members
        ]
        stay: list[Unit] = []
        for *_, may_go, place, unit in sorted(ranked):  # so whatever stays before is as strong
            if may_go and any(_covers(other, unit) and self._verbatim(other) == self._verbatim(unit) for other in stay):
                yield place
            else:
                stay.append(unit)

    def _stays(self, unit: Unit, rule: Rule) -> bool:
        return unit.fixed or rule.bound or rule.says_little or bool(_TEMPLATE.search(self.text, unit.start, unit.end))

    def _verbatim(self, unit: Unit) -> list[str]:
        """Return what of the sentence may not be altered: its code and quotations."""
        return [self.text[a:b] for a, b in self.outline.guards_in(unit.start, unit.end)]

    def _spans(self, kinds: dict[int, Literal["repeat", "filler"]]) -> Iterator[Removal]:
        whole: dict[int, Literal["repeat", "filler"]] = {}
        for place in sorted(kinds):
            unit, siblings = self.units[place], self._siblings(place)
            stay = [one for one in siblings if one not in kinds]
            if not stay:
                if not self._parts(unit.block, siblings[-1]):
                    whole[unit.block] = kinds[place]
            elif place == siblings[-1]:
                yield Removal(self.units[stay[-1]].end, unit.end, kinds[place])
            else:
                yield Removal(unit.start, self.units[place + 1].start, kinds[place])
        whole.update(dict.fromkeys(self._hollow(whole), "repeat"))
        blocks, text = self.outline.blocks, self.text
        runs: list[Removal] = []
        for block in sorted(whole):
            start, end = blocks[block]
            if runs and not text[runs[-1].end : start].strip():
                kind = whole[block] if runs[-1].kind == whole[block] else "repeat"
                runs[-1] = Removal(runs[-1].start, end, kind)
            else:
                runs.append(Removal(start, end, whole[block]))
        for run in runs:
            yield Removal(*self._lines(run.start, run.end), run.kind)

    def _parts(self, block: int, last: int) -> bool:
        """Tell whether a block keeps apart what would be read as one paragraph without it."""
        if last + 1 >= len(self.units) or self.units[last].kind == "sentence":
            return False
        following = self.units[last + 1]
        blocks = self.outline.blocks
        return following.kind in ("sentence", "label", "lead") and blocks[following.block][0] == blocks[block][1]

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

    def _hollow(self, whole: Container[int]) -> Iterator[int]:
        """Yield the blocks of headings and lead-ins that limit nothing and have nothing left below them."""
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
            following, gap = place + 1, ""
            while following < len(units) and units[following].block in whole:
                gap += text[end : blocks[units[following].block][0]]
                end = max(end, blocks[units[following].block][1])
                following += 1
            if not (gap + text[end : self._start(following)]).strip() and self._closes(unit, following):
                yield unit.block

    def _start(self, place: int) -> int:
        return self.outline.blocks[self.units[place].block][0] if place < len(self.units) else len(self.text)

    def _closes(self, title: Unit, place: int) -> bool:
        """Tell whether nothing more can stand below ``title`` from a unit on."""
        if place == len(self.units):
            return True
        levels, unit = self.outline.levels, self.units[place]
        if title.kind == "heading":
            return unit.kind == "heading" and levels[unit.block] <= levels[title.block]
        start = self._start(place)
        return unit.kind == "heading" or (unit.kind in ("lead", "sentence") and self.text.startswith("\n\n", start - 2))

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
        marks = [_SHOUTS] if any(pair in text for pair in ("!!", "！！", "??", "？？")) else []
        if any(sign in text for sign in self.patterns.signs):
            marks.append(self.patterns.alarms)
        for pattern in marks:
            for match in pattern.finditer(text):
                if self._is_prose(match.start()) and not guarded(*match.span()):
                    yield Removal(match.end(1), match.end(), "decoration")

    def _is_prose(self, position: int) -> bool:
        """Tell whether a sign follows on something in a sentence or title, outside of examples and labels."""
        at = bisect_right(self.units, position, key=_start) - 1
        unit = self.units[at] if at >= 0 else None
        if unit is None or position >= unit.end or unit.example or unit.kind == "label":
            return False
        return (
            self.text[position] not in "!?" or self.text[position - 1] in _SPOKEN or self.text[position - 1].isalnum()
        )

    def _quoted(self, drawn: str) -> bool:
        """Tell whether a quotation or code names this very line: then its length matters."""
        return any(drawn in self.text[a:b] for a, b in self.outline.guards)


def _covers(other: Unit, unit: Unit) -> bool:
    """Tell whether ``other`` holds wherever ``unit`` does."""
    return unit.scope[: len(other.scope)] == other.scope
