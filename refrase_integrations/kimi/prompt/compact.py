"""`compact_prompt`: a prompt without its repeats, filler and decoration, and with every rule.

Only deletions (and a capital letter where a sentence lost its opening). A sentence goes only if another one stays that
says the same in the same words, at least as strongly, and holds at least as widely: not under another heading, not
under a condition, not in an example, a step, a table or a template.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Literal, NamedTuple

from refrase_integrations.kimi.inputs import instance
from refrase_integrations.kimi.prompt.copies import Copies
from refrase_integrations.kimi.prompt.outline import Outline, Unit, limits_nothing, outline
from refrase_integrations.kimi.prompt.phrases import any_re, one_of, phrases
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

    When in doubt a sentence stays: where the copy that is left may hold for a single case (a heading, a lead-in, a
    condition, a topic), where another one leans on it or points at it, where it has a pronoun. Runs of signs (``!!!``)
    are shortened at the end of a sentence, right behind a word, and not where the sentence or the prompt may be about
    them. It reads words and layout, not meaning: `Compacted.removed` tells what went.

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
        cuts, last = _cuts(outline(now, keep))
        removed = _joined(removed, cuts)
        now = _without(text, removed)
        if last:
            break
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


def _cuts(read_out: Outline) -> tuple[list[Removal], bool]:
    """Return what goes in this pass, in order, apart from each other, and whether that lays nothing bare."""
    found = _Finder(read_out)
    removals = [*found.repeats(), *found.filler()]
    last = not removals
    if last:
        removals = [*found.decoration()]
    removals.sort(key=lambda removal: (removal.start, -removal.end))
    apart: list[Removal] = []
    for removal in removals:
        if not apart or removal.start >= apart[-1].end:
            apart.append(removal)
    return apart, last


class _Patterns(NamedTuple):
    clause: re.Pattern[str]
    verb: re.Pattern[str]
    clause_zh: re.Pattern[str]
    courtesy: re.Pattern[str]
    inside: re.Pattern[str]
    alarms: re.Pattern[str]
    alarm: tuple[str, ...]
    speaks: re.Pattern[str]
    signs: tuple[str, ...]
    capitals: frozenset[str]
    verbs: frozenset[str]


@lru_cache(maxsize=1)
def _patterns() -> _Patterns:
    data = phrases()
    en, zh, decoration = data["en"]["filler"], data["zh"]["filler"], data["decoration"]
    return _Patterns(
        re.compile(rf"(?:(?:{one_of(en['clause'])})[ \t]+)+(?=\S)", re.IGNORECASE),
        re.compile(rf"(?:(?:{one_of(en['verb'])})[ \t]+)+(?=\S)", re.IGNORECASE),
        re.compile(rf"(?:{one_of([*zh['clause'], *zh['verb']])})+(?=\S)"),
        re.compile(rf"(?:{one_of([*en['courtesy'], *zh['courtesy']])})\s*[.!。！~～]*", re.IGNORECASE),
        re.compile(rf"(?<=\s)(?:{one_of(en['inside'])})[ ](?=to\b)"),
        re.compile(rf"({one_of(decoration['alarms'])})(?:[ ]?\1)*"),
        tuple(decoration["alarms"]),
        any_re(decoration["speaks_re"]),
        tuple(decoration["signs"]),
        frozenset(en["capitals"]),
        frozenset(en["verbs"]),
    )


_start = itemgetter(0)
_SHOUTS = re.compile(r"(?<=\w)([!！?？])\1+(?=[*_)]*$)")
_MARKED = re.compile(r"[!?！？]+(?![\w!?！？])")
_OPENS = frozenset(' \t\n"“「(（')
_SHOUTED = ("!!", "！！", "??", "？？")
_BEFORE = " \t#*_->•【"  # what may stand before the first word of a line
_AFTER = re.compile(r"(?<![ \t])[ \t]+(?=\n)")
_BLANK = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)+")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?(?![\w-])")
_ENDED = frozenset(".!?。！？…;；:：)）]\"'”’」*_")
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
        kinds: dict[int, Literal["repeat", "filler"]] = dict.fromkeys(Copies(self.outline).places(), "repeat")
        for place, unit in enumerate(self.units):
            short = unit.kind == "sentence" and not unit.fixed and unit.end - unit.start < _COURTESY
            if short and self.patterns.courtesy.fullmatch(self.text, unit.start, unit.end) and not self._spoken(place):
                kinds[place] = "filler"
        self.gone = set(kinds)
        yield from self._spans(kinds)

    def _spoken(self, place: int) -> bool:
        """Tell whether the sentence before may ask for this one to be said."""
        return place > 0 and bool(self.patterns.speaks.search(self.text, *self.units[place - 1][:2]))

    def _spans(self, kinds: dict[int, Literal["repeat", "filler"]]) -> Iterator[Removal]:
        whole: dict[int, Literal["repeat", "filler"]] = {}
        for place in sorted(kinds):
            unit, siblings = self.units[place], self._siblings(place)
            stay = [one for one in siblings if one not in kinds]
            if not stay:
                if not self._parts(unit.block, siblings[-1]):
                    whole[unit.block] = kinds[place]
            elif any(self.text[self.units[one].end - 1] not in _ENDED for one in stay):
                continue  # what stays would read as a title
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
                    if not patterns.speaks.search(text, unit.start, unit.end) and not self.outline.guarded(
                        *match.span()
                    ):
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
            if len(drawn) >= _DRAWN[drawn.isascii()] and not guarded(start, end) and not self._shown(start, drawn):
                step = 2 if drawn[1] == " " else 1
                yield Removal(start + _LEFT * step - (step - 1), start + len(drawn), "decoration")
        yield from self._shouts()
        yield from self._alarms()

    def _shouts(self) -> Iterator[Removal]:
        """Yield the signs too many at the end of sentences; none where the prompt speaks of signs."""
        text, patterns = self.text, self.patterns
        if not any(pair in text for pair in _SHOUTED) or self._speaks_of_signs():
            return
        for unit in self.units:
            if unit.example or unit.kind == "label":
                continue
            said = text[unit.start : unit.end]
            match = _SHOUTS.search(said) if any(pair in said for pair in _SHOUTED) else None
            if match and not patterns.speaks.search(said):
                span = unit.start + match.end(1), unit.start + match.end()
                if not self.outline.guarded(span[0] - 1, span[1]):
                    yield Removal(*span, "decoration")

    def _speaks_of_signs(self) -> bool:
        """Tell whether the prompt names signs of exclamation or question, or has some that end nothing."""
        text = self.text
        lowered = text.lower()
        return any(name in lowered for name in self.patterns.signs) or any(
            match.start() == 0 or text[match.start() - 1] in _OPENS for match in _MARKED.finditer(text)
        )

    def _alarms(self) -> Iterator[Removal]:
        """Yield the signs too many before a line. A sign that also stands elsewhere, or not always as often, means
        something."""
        text = self.text
        if not any(sign in text for sign in self.patterns.alarm):
            return
        by_sign: dict[str, list[re.Match[str]]] = {}
        for match in self.patterns.alarms.finditer(text):
            by_sign.setdefault(match.group(1), []).append(match)
        for runs in by_sign.values():
            if len({run.group() for run in runs}) == 1 and all(map(self._before_line, runs)):
                yield from (Removal(run.end(1), run.end(), "decoration") for run in runs if run.end(1) < run.end())

    def _before_line(self, run: re.Match[str]) -> bool:
        text, start, end = self.text, run.start(), run.end()
        at = bisect_right(self.units, end, key=_start) - 1
        if at < 0:
            return False
        unit = self.units[at]
        return (
            not text[text.rfind("\n", 0, start) + 1 : start].strip(_BEFORE)
            and text[end : end + 1] in (" ", "*", "】")
            and text[end : end + 4].lstrip(" *】_")[:1].isalpha()
            and unit.start <= start < unit.end
            and not (unit.example or unit.kind == "label" or (unit.fixed and unit.kind != "heading"))
            and not self.outline.guarded(start, end)
        )

    def _shown(self, start: int, drawn: str) -> bool:
        """Tell whether the prompt speaks of this very line, in a quotation or right above: then its length matters."""
        above = self.text[:start].rstrip()[-1:]
        return above in (":", "：") or any(drawn in self.text[a:b] for a, b in self.outline.guards)
