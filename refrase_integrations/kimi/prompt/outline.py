"""The outline of a prompt: what may not be edited, and its sentences with the scope in which each holds.

A prompt is markdown, XML-like tags, plain lines or all of them. The reading is cautious: what it does not understand it
calls fixed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple

from refrase_integrations.kimi.prompt.phrases import HAN, any_re, one_of, phrases
from refrase_integrations.kimi.prompt.rules import conditional, read

Kind = Literal["sentence", "item", "step", "heading", "lead", "label"]


class Unit(NamedTuple):
    """A sentence, a list item's sentence, a heading."""

    start: int
    end: int
    """Characters of the text, without bullet and surrounding white space."""
    kind: Kind
    """step: of a numbered list. lead: ends in a colon and opens what follows. label: ``key: value``, a table row."""
    scope: tuple[str, ...]
    """Headings, tags, lead-ins and conditions under which it stands or may stand, less those that limit nothing
    (``Rules``). Where a lead-in ends is anybody's guess: up to the next heading."""
    block: int
    """Number of the paragraph or list item it belongs to."""
    example: bool
    fixed: bool
    """Its place means something (examples, steps, labels, nested items and their parents, what stands or may stand
    below a lead-in or condition): it may not go."""
    listed: bool = False
    """Of a list behind a sentence that may be what the list is about: only a copy in that list can stand for it."""


@dataclass(slots=True)
class Outline:
    """What `outline` reads out of a prompt."""

    text: str
    guards: list[tuple[int, int]]
    """Spans that may not be edited, in order, none in another: code, templates, quotations, tags."""
    units: list[Unit] = field(default_factory=list)
    blocks: list[tuple[int, int]] = field(default_factory=list)
    """Per block its whole lines, bullet and last line break included."""
    levels: dict[int, int] = field(default_factory=dict)
    """Level of each heading, by its block: 1 is the highest."""
    rules: list[tuple[int, int]] = field(default_factory=list)
    """Lines that only draw a line (``-----``), and the runs around a title."""
    examples: list[tuple[int, int]] = field(default_factory=list)
    """Lines of pasted examples."""

    def guarded(self, start: int, end: int) -> bool:
        """Tell whether any of ``start`` to ``end`` may not be edited."""
        at = bisect_right(self.guards, (start, end)) - 1
        if at >= 0 and self.guards[at][1] > start:
            return True
        return at + 1 < len(self.guards) and self.guards[at + 1][0] < end

    def guards_in(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the guarded spans that meet ``start`` to ``end``."""
        at = max(0, bisect_right(self.guards, (start, end)) - 1)
        found = []
        while at < len(self.guards) and self.guards[at][0] < end:
            if self.guards[at][1] > start:
                found.append(self.guards[at])
            at += 1
        return found


def limits_nothing(title: str) -> bool:
    """Tell whether a heading or lead-in (``Important rules:``) leaves what stands below it as wide as it is."""
    return _words().general.fullmatch(title) is not None


def leans(text: str, start: int, end: int) -> bool:
    """Tell whether a sentence leans on the one before it ("Except ...", "This ...")."""
    return _words().leaning(text, start, end)


def outline(text: str, keep: Sequence[str] = ()) -> Outline:
    """Read a prompt.

    Args:
        text: the prompt.
        keep: openings of lines that belong to somebody else: such a line is left alone and counts as nothing.

    Returns:
        The outline; every position counts characters of ``text``.
    """
    return _outline(text, tuple(opening for opening in keep if opening in text))


@lru_cache(maxsize=8)
def _outline(text: str, keep: tuple[str, ...]) -> Outline:
    """Read a prompt, once for the linter and for compaction. Shared: nobody changes it."""
    return _Reader(text, keep).read()


# -- what may not be edited ----------------------------------------------------------------------------------

# One character tells what may begin here; the pattern behind it decides. Unclosed fences go on to the end.
_SIGNS = re.compile(r"[`\"“「『《‘{}<$%\[~']")  # one set of signs: the fastest that a pattern can look for
_QUOTES = {"“": "”", "「": "」", "『": "』", "《": "》", "‘": "’"}
_QUOTED = 2_000  # characters of the longest quotation
_FENCE = re.compile(r"(`{3,}|~{3,})[^\n]*(?:\n.*?(?:^[ \t>]*\1[`~]*[ \t]*$|\Z)|\Z)", re.DOTALL | re.MULTILINE)
_LATE_FENCE = re.compile(r"```.*?```", re.DOTALL)  # opened in mid-line
_SPAN = re.compile(r"(`+)(?!`)[^\n]{1,500}?(?<!`)\1(?!`)")
_SINGLE = re.compile(r"'(?:[^'\n]|(?<=\w)'(?=\w)){1,300}'(?!\w)")
_TRIPLE = re.compile(r'"""(?:.*?)"""', re.DOTALL)
_TAG = re.compile(r"</?[A-Za-z!?][^<>\n]{0,200}>|<{2,3}[^<>\n]{1,60}>{2,3}")
_SLOT = re.compile(r"\$[A-Za-z_]\w*|%\([A-Za-z_]\w*\)[sdif]|%[sd]\b|\[\[[^\[\]\n]{1,60}\]\]|\[[A-Z][A-Z0-9_ ]*\]")


def _guards(text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    braces: list[int] = []
    at, end = 0, len(text)
    paragraph = -1  # up to where straight quotes were paired already
    for match in _SIGNS.finditer(text):
        start = match.start()
        if start < at:
            continue
        sign, at, found = text[start], start + 1, None
        if sign == "{":
            braces.append(start)
        elif sign == "}":
            if braces:
                opened = braces.pop()
                spans.append((opened - (text[opened - 1 : opened] == "$"), start + 1))
        elif sign == "'":
            found = _SINGLE.match(text, start) if not (text[start - 1] in "_`" or text[start - 1].isalnum()) else None
        elif sign in "`~":
            if text.startswith(("```", "~~~"), start):
                before = text[text.rfind("\n", 0, start) + 1 : start].strip(" \t>-*0123456789.")
                found = (_LATE_FENCE if before else _FENCE).match(text, start)
            found = found or (_SPAN.match(text, start) if sign == "`" else None)
            while not found and text[at : at + 1] == sign:
                at += 1
        elif sign == '"':
            found = _TRIPLE.match(text, start)
            if not found and start > paragraph:
                paragraph = text.find("\n\n", start)
                paragraph = end if paragraph < 0 else paragraph
                spans.extend(_straight(text, start, paragraph))
        elif sign in _QUOTES:
            closed = text.find(_QUOTES[sign], start + 1, start + _QUOTED)
            blank = text.find("\n\n", start, closed) if closed >= 0 else 0
            if closed >= 0 and blank < 0:
                spans.append((start, closed + 1))
        elif sign == "<":
            found = _TAG.match(text, start)
        else:
            found = _SLOT.match(text, start)
        if found:
            spans.append(found.span())
            at = found.end()
    first, last = text.find("{%"), text.rfind("%}")
    if 0 <= first < last:
        closed = "end" in text[text.rfind("{%", 0, last) : last]
        spans.append(
            (first, last + 2 if closed else end)
        )  # a sentence in a branch may be missing in the filled template
    if "{{#" in text or "{{^" in text:
        first = min(place for place in (text.find("{{#"), text.find("{{^")) if place >= 0)
        spans.append((first, text.rfind("}}") + 2))
    return _merged(spans)


def _straight(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Pair the straight quotation marks of a paragraph; with an odd one out, all between the first and the end."""
    marks = [match.start() for match in re.finditer('"', text[start:end])]
    if len(marks) % 2:
        yield start, end
    else:
        yield from ((start + a, start + b + 1) for a, b in zip(marks[::2], marks[1::2], strict=True))


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            if end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
        elif start < end:
            merged.append((start, end))
    return merged


# -- lines ---------------------------------------------------------------------------------------------------

_LINE = re.compile(
    r"^(?P<indent>[ \t]*)(?:"
    r"(?P<heading>\#{1,6}[ \t]+)(?=\S)"
    r"|(?P<rule>(?P<run>[-=*_#~+─━═╌┄·•])(?:[ ]?(?P=run)){2,}+)"
    r"|(?P<item>(?:[-*+•●○▪◦‣–—➤►→]|\[[ x]\])[ \t]+(?:\[[ xX]\][ \t]+)?)(?=\S)"
    r"|(?P<step>(?:\(?\d{1,3}[.)、）](?!\d)|[a-zA-Z][.)][ \t]|\([a-zA-Z]\)|[①-⑳]|[一二三四五六七八九十]{1,3}[、.．]"
    r"|第[一二三四五六七八九十\d]{1,3}[条步点项章]?[、，：:.]?|(?:[Ss]tep|[Rr]ule|[Pp]hase|[Cc]ase)[ ]\d+[.:)]?)[ \t]*)"
    r"|(?P<row>[|>])"
    r"|(?P<tag></?(?P<name>[A-Za-z][\w:.-]*)[^<>\n]*>)"
    r")?[^\n]*",
    re.MULTILINE,
)
_TITLE = re.compile(
    r"(?:\*\*|__)[^*_\n]{1,80}(?:\*\*|__)[:：]?\s*$|【[^】\n]{1,30}】\s*$"
    r"|(?P<caps>[A-Z][A-Z0-9 &/,'()-]{2,60})[:：]?\s*$"
)
_TITLES = re.compile(r"\*\*|__|【|[A-Z][A-Z0-9 &/,'()-]")
_DRAWN, _BOLD, _NUMBERED = (
    0,
    7,
    6,
)  # levels of titles that are a bold line, in capitals or numbered: below other headings
_SHORT = 40  # characters of a numbered line that may be a title
_ALL = 1_000_000
_CODE = 4  # blanks before a line of indented code
_ENDS = frozenset(".!?:;。！？：；…")
_STOP = re.compile(r"[.!?。！？；]++[\"')\]*_’”」』）]*+")
_COLON = re.compile(r"[:：](?!//)|\s(?:=|->|=>|→|–|—)\s")
_COLONS = re.compile("[:：=→–—>]")
_KEY = re.compile(rf"[\w{HAN}][\w{HAN} /&()'’.-]{{0,40}}")
_FIRST = re.compile(r"\W*([\w.'’-]+)")
_KEPT = 4_000  # characters of the longest paragraph whose reading is remembered
_WRAPPED = 60  # a line at least so long, without an end mark, goes on in the next; characters


class _Openings:
    """Tells whether a sentence opens with one of some phrases."""

    def __init__(self, english: Iterable[str], chinese: Iterable[str]) -> None:
        self._longer: dict[str, tuple[str, ...]] = {}  # by the first word
        self._words = frozenset(phrase for phrase in english if " " not in phrase)
        for phrase in english:
            first = phrase.split()[0]
            if first not in self._words:
                self._longer[first] = (*self._longer.get(first, ()), phrase)
        self._chinese = tuple(chinese)

    def __call__(self, text: str, start: int, end: int) -> bool:
        word = _FIRST.match(text, start, end)
        if word is None:
            return False
        said = word.group(1)
        if said[0] > "\u2e80":
            return said.startswith(self._chinese)
        said = said.lower()
        longer = self._longer.get(said)
        return said in self._words or (longer is not None and text[word.start(1) : end].lower().startswith(longer))


class _Words(NamedTuple):
    general: re.Pattern[str]
    example: re.Pattern[str]
    emphasis: re.Pattern[str]
    condition: _Openings
    leaning: _Openings
    abbreviations: frozenset[str]
    alone: re.Pattern[str]
    counted: re.Pattern[str]


@lru_cache(maxsize=1)
def _words() -> _Words:
    en, zh = phrases()["en"], phrases()["zh"]
    general = f"(?:\\W|\\d|\\b(?:{one_of(en['words']['general'])})\\b|{one_of(zh['words']['general'])})*+"
    return _Words(
        re.compile(general, re.IGNORECASE),
        re.compile(rf"\b(?:{one_of(en['words']['example'])})\b|{one_of(zh['words']['example'])}", re.IGNORECASE),
        re.compile(rf"(?:{one_of(en['emphasis'])}|{one_of(zh['emphasis'])})", re.IGNORECASE),
        _Openings(en["words"]["conditions"], zh["words"]["conditions"]),
        _Openings(en["words"]["leaning"], zh["words"]["leaning"]),
        frozenset(en["words"]["abbreviations"]),
        any_re([*en["words"]["alone_re"], *zh["words"]["alone_re"]]),
        any_re([*en["words"]["counted_re"], *zh["words"]["counted_re"]]),
    )


class _Reader:
    def __init__(self, text: str, keep: tuple[str, ...]) -> None:
        self.text, self.keep, self.words = text, keep, _words()
        guards = _guards(text)
        if keep:
            guards = _merged(guards + [m.span() for m in re.finditer(r"[^\n]+", text) if m.group().startswith(keep)])
        self.out = Outline(text, guards)
        self.heads: list[tuple[int, str, bool, bool]] = []  # level, key, whether of an example, whether alone
        self.tags: list[tuple[str, str, bool, bool]] = []  # name, key, whether of an example, whether alone
        self.lead: tuple[str, ...] = ()  # what the lead-in or title above limits
        self.loose = False  # a lead-in that limits nothing came after it: what stands below may be below both
        self.whole = 0  # blocks below it that stay whatever they say: the first, so that it keeps something; or all
        self.opener = ""  # an item that ends in a colon and may open the items or paragraphs behind it
        self.said = (0, 0)  # the last sentence of the paragraph above, where a list may follow
        self.intro = ""  # what opened the list: a sentence that is no rule
        self.shows = False  # the lead-in above opens an example
        self.shown = False  # an example opened since the last heading, tag or drawn line
        self.items: list[tuple[int, Kind, int]] = []  # indent, kind and first unit of the items around this line
        self.blank = True  # the line before is blank
        self.para: list[tuple[int, int]] = []  # lines of the open paragraph or item
        self.opening: tuple[int, Kind, int] = (0, "sentence", 0)  # where its first line starts, its kind, its indent
        self.parents: set[int] = set()  # first units of items with items below them
        self.around: tuple[str, ...] = ()  # scope by headings and tags
        self.in_example = self.alone = False
        self.guard = 0  # the first guard that is not behind

    def read(self) -> Outline:
        text, keep = self.text, self.keep
        long = iter([*(span for span in self.out.guards if text.find("\n", *span) >= 0), (len(text) + 1,) * 2])
        from_, to = next(long)
        past = -1  # what is before this was read already
        for line in _LINE.finditer(text):
            start, end = line.span()
            if start < past:
                continue
            while to <= start:
                from_, to = next(long)
            if from_ < end:  # code or a template over several lines
                self._flush()
                past = text.find("\n", to - 1) + 1 or len(text) + 1
                self._seen(start, past - 1)
                self.blank = False
            elif keep and text.startswith(keep, start):
                self._flush()
            else:
                self._line(line, start, end)
        self._flush()
        units = self.out.units
        for first in self.parents:
            block = units[first].block
            while first < len(units) and units[first].block == block:
                units[first] = units[first]._replace(fixed=True)
                first += 1
        return self.out

    # -- one line

    def _line(self, line: re.Match[str], start: int, end: int) -> None:
        kind, margin = line.lastgroup, line.end("indent")
        if kind == "indent":
            if margin == end:
                self._flush()
                self.blank = True
                return
            title = _TITLE.match(self.text, margin, end) if _TITLES.match(self.text, margin) else None
            if title is not None and self._is_title(title):
                self._heading(_BOLD, start, margin, end)
            else:
                self._plain(start, margin, end)
        elif kind == "item":
            self._item("item", margin - start, start, line.end("item"), end)
        elif kind == "step":
            self._item("step", margin - start, start, line.end("step"), end)
        elif kind == "heading":
            self._heading(line["heading"].count("#"), start, line.end("heading"), end)
        elif kind == "tag":
            self._tag(line, start, end)
        elif kind == "row":
            self._flush()
            self._seen(start, end)
        elif not self._drawn(line["run"], margin, line.end("rule"), end):
            self._plain(start, margin, end)
        self.blank = False

    def _is_title(self, title: re.Match[str]) -> bool:
        caps = title["caps"]
        return caps is None or (not self.para and (len(caps.split()) > 1 or title.group().rstrip()[-1] in ":："))

    def _heading(self, level: int, start: int, body: int, end: int) -> None:
        self._flush()
        title = self.text[body:end].strip(" \t#*_:：=-【】")
        while self.heads and (self.heads[-1][0] >= level or _DRAWN in (level, self.heads[-1][0])):
            self.heads.pop()  # whether a drawn title stands above or below another one, nothing tells
        block = self._block(start, end)
        self.out.levels[block] = level
        self._unit(body, end, "heading", self.around, block, fixed=True)
        self.heads.append((level, _limits(title), _of_example(title), _alone(title)))
        self._enter()

    def _enter(self) -> None:
        """A heading or tag changed: what was open below the one before is over."""
        self.opener, self.intro, self.said, self.items = "", "", (0, 0), []
        self._lead("")
        self.shows = self.shown = False
        self.around = tuple(key for _, key, _, _ in (*self.heads, *self.tags) if key)
        self.alone = any(alone for *_, alone in (*self.heads, *self.tags))
        self.in_example = any(example for _, _, example, _ in (*self.heads, *self.tags))

    def _drawn(self, run: str, start: int, body: int, end: int) -> bool:
        """Take a line that only draws a line (``-----``) or draws one around a title (``=== RULES ===``)."""
        rest = self.text[body:end].rstrip()
        title = rest.rstrip(run + " ")
        if rest and (len(rest) - len(title) < 3 or not rest.startswith(" ") or "|" in rest):
            return False
        if (
            not title.strip()
            and len(self.para) == 1
            and self.opening[1] == "sentence"
            and self._title_like(*self.para[0])
        ):
            (at, above), self.para = self.para[0], []
            self._heading({"=": 1, "-": 2}.get(run, _DRAWN), at, at, above)
        self._flush()
        self.opener, self.intro, self.said = "", "", (0, 0)
        self._lead("")
        self.shows = self.shown = False
        self.out.rules.append((start, body))
        if title.strip():
            at = body + len(title) - len(title.lstrip())
            self._heading(_DRAWN, start, at, body + len(title))
            self.out.rules.append((body + len(title) + 1, body + len(rest)))
        return True

    def _item(self, kind: Kind, indent: int, start: int, body: int, end: int) -> None:
        self._flush()
        if kind == "step" and self._names_part(start, body, end):
            self._heading(_NUMBERED, start, body, end)
            return
        while self.items and self.items[-1][0] > indent:
            self.items.pop()
        for place, (other_indent, other_kind, _) in enumerate(self.items):
            if other_indent == indent and other_kind == kind:
                del self.items[place:]
                break
        if self.opener:
            if not self.items or self.items[-1][0] >= indent:
                self._lead(self.opener)
            self.opener = ""
        if not self.items and self.said[1]:
            self.intro = self._introduces(*self.said)
        self.said = (0, 0)
        if self.items:  # deeper, or bullets below a number
            self.parents.add(self.items[-1][2])
        self.para, self.opening = [(body, end)], (start, kind, indent)

    def _names_part(self, start: int, body: int, end: int) -> bool:
        """Tell whether a numbered line is the title of a part (``2. Refunds``): no neighbour is numbered too."""
        said = self.text[body:end].rstrip("*_ \t")
        if not said or len(said) > _SHORT or said[-1] in _ENDS - {":", "："}:
            return False
        above = self.text.rfind("\n", 0, max(0, start - 1)) + 1
        below = end
        while self.text.startswith("\n", below):
            below += 1
        if below >= len(self.text):
            return False
        return all(_LINE.match(self.text, at).lastgroup != "step" for at in {above, below} - {start})  # type: ignore[union-attr]

    def _plain(self, start: int, body: int, end: int) -> None:
        indent = body - start
        if self.para and (self.opening[1] == "sentence" or indent > self.opening[2] or not self._ended()):
            self.para.append((body, end))
            return
        self._flush()
        if self.blank or self.items:
            self.items = [item for item in self.items if item[0] < indent]
            if self.opener and not self.items:
                self._lead(self.opener)
                self.opener = ""
            if self.blank and not self.items:
                self.intro, self.shows = "", False
        if indent >= _CODE and not self.items:
            self._seen(start, end)
        else:
            self.para, self.opening = [(body, end)], (start, "sentence", indent)

    def _ended(self) -> bool:
        return self.text[self.para[-1][0] : self.para[-1][1]].rstrip("\"')*_ \t”’")[-1:] in _ENDS

    def _tag(self, match: re.Match[str], start: int, end: int) -> None:
        self._flush()
        name, whole = match["name"].lower(), match["tag"]
        if whole.startswith("</"):
            names = [tag[0] for tag in self.tags]
            if name in names:
                del self.tags[len(names) - 1 - names[::-1].index(name) :]
            self._enter()
        elif match.end("tag") < end or whole.endswith("/>"):
            self._unit(start, end, "label", self._scope(), self._block(start, end), fixed=True)
            if self._title_like(start, end):
                self._lead(self._introduces(start, end))
        else:
            spoken = name.replace("_", " ").replace("-", " ")
            self.tags.append((name, _limits(spoken), _of_example(spoken), _alone(spoken)))
            self._enter()

    # -- paragraphs and items

    def _flush(self) -> None:
        if not self.para:
            return
        lines, (start, kind, indent) = self.para, self.opening
        self.para = []
        base, end = lines[0][0], lines[-1][1]
        within = ((0, end - base),) if len(lines) == 1 else tuple((a - base, b - base) for a, b in lines)
        read = _paragraph if end - base <= _KEPT else _paragraph.__wrapped__
        label, sentences = read(self.text[base:end], within, self._inside(base, end))
        block, first = self._block(start, end), len(self.out.units)
        scope, example = self._scope(), self.in_example or self.shows
        if label:
            kind = "label"
            if _of_example(label):
                self.shown = self.shows = example = True
        fixed = kind in ("step", "label") or self.shown or example or self._stands(kind) or bool(self.items)
        if kind in ("item", "step") and indent and not self.items and first:
            # what stands between keeps it from being read as a part of an entry above
            self.out.units[first - 1] = self.out.units[first - 1]._replace(fixed=True)
        under: tuple[str, ...] = ()
        until = end  # where the line with the condition ends: what is said on the next one may hold without it
        for said in sentences:
            what: Kind = "lead" if said.lead else kind
            if under and base + said.start > until:
                until = end
                under = (f"#{base + said.start}", *under)
            self.out.units.append(
                Unit(
                    base + said.start,
                    base + said.end,
                    what,
                    scope + under if under else scope,
                    block,
                    example or self.shown,
                    fixed or said.holds,
                    bool(self.intro),
                )
            )
            if said.limits:
                under = (said.limits,)
                until = next(stop for _, stop in lines if stop >= base + said.end)
            if said.shows:
                self.shown = self.shows = example = fixed = True
        if sentences:
            self._open(self.opening[1], base, sentences[-1], alone=len(lines) == len(sentences) == 1)
        if example:
            self.out.examples.append((start, end))
        if kind in ("item", "step") and sentences:
            self.items.append((indent, kind, first))

    def _open(self, kind: Kind, base: int, last: _Sentence, *, alone: bool) -> None:
        """Note what a paragraph or item may open: with a colon, as a title without one, or right before a list."""
        if last.lead:
            self.said = (0, 0)
            if kind in ("item", "step"):
                self.opener = last.limits
            elif last.limits:
                self._lead(last.limits)
            else:
                self.whole = _ALL if _alone(self.text[base + last.start : base + last.end]) else 0
                if self.lead:
                    self.lead, self.loose = (self.lead[0], f"#{len(self.out.blocks)}"), True
        elif kind == "sentence":
            self.said = (base + last.start, base + last.end)
            if alone and self._title_like(*self.said):
                title = self._introduces(*self.said)
                if title:
                    self._lead(title)

    def _lead(self, limits: str) -> None:
        self.lead, self.loose = (limits,) if limits else (), False
        self.whole = (_ALL if _alone(limits) else 1) if limits else 0

    def _stands(self, kind: Kind) -> bool:
        """Tell whether a paragraph or item has to stay for what it stands below: asked once for each, in order."""
        stays = self.alone or self.whole > 0 or (kind == "sentence" and bool(self.lead) and not self.loose)
        self.whole = max(0, self.whole - 1)
        return stays

    def _introduces(self, start: int, end: int) -> str:
        """Return what a sentence limits that stands above others without a colon; empty: nothing, or it is a rule."""
        said = self.text[start:end]
        rule = read(said)
        return "" if rule is not None and not conditional(said) else _limits(said)

    def _title_like(self, start: int, end: int) -> bool:
        said = self.text[start:end].rstrip("\"')*_ \t”’")
        return len(said) <= _SHORT and said[-1:] not in _ENDS - {":", "："}

    def _inside(self, start: int, end: int) -> tuple[tuple[int, int], ...]:
        """Return the guards of a paragraph, counted from its start. Paragraphs come in order."""
        guards = self.out.guards
        while self.guard < len(guards) and guards[self.guard][1] <= start:
            self.guard += 1
        last = self.guard
        while last < len(guards) and guards[last][0] < end:
            last += 1
        if last == self.guard:
            return ()
        return tuple((a - start, b - start) for a, b in guards[self.guard : last])

    # -- where a unit stands

    def _scope(self) -> tuple[str, ...]:
        if not (self.items or self.lead or self.intro):
            return self.around
        text, units = self.text, self.out.units
        around = [_limits(text[units[first].start : units[first].end]) for *_, first in self.items]
        return (*self.around, *self.lead, *(key for key in (self.intro, *around) if key))

    def _seen(self, start: int, end: int) -> None:
        if self.in_example or self.shows:
            self.out.examples.append((start, end))

    def _block(self, start: int, end: int) -> int:
        self.out.blocks.append((start, min(end + 1, len(self.text))))
        return len(self.out.blocks) - 1

    def _unit(
        self,
        start: int,
        end: int,
        kind: Kind,
        scope: tuple[str, ...],
        block: int,
        *,
        fixed: bool,
        example: bool = False,
    ) -> None:
        self.out.units.append(Unit(start, end, kind, scope, block, example, fixed))


class _Sentence(NamedTuple):
    start: int
    end: int
    lead: bool
    """It ends in a colon."""
    limits: str
    """The condition under which what follows in the paragraph holds; empty: none."""
    shows: bool
    """It opens an example."""
    holds: bool
    """The next one leans on it, or stands under it."""


@lru_cache(maxsize=4096)
def _paragraph(
    text: str, lines: tuple[tuple[int, int], ...], guards: tuple[tuple[int, int], ...]
) -> tuple[str, tuple[_Sentence, ...]]:
    """Read one paragraph or item: its label, if it is ``key: value``, and its sentences. Remembered: compaction reads
    what it made once more."""
    spans = _sentences(text, lines, guards)
    words, read = _words(), list[_Sentence]()
    for number, (a, b) in enumerate(spans):
        last = number == len(spans) - 1
        lead = text[b - 1] in ":：*_" and text[a:b].rstrip("*_ ")[-1:] in ":："
        limits = ""
        if lead:
            limits = _limits(text[a:b])
        elif words.condition(text, a, b):
            limits = text[a:b].lower()
        holds = lead or (not last and (bool(limits) or words.leaning(text, *spans[number + 1])))
        read.append(_Sentence(a, b, lead, limits, lead and _of_example(text[max(a, b - 60) : b]), holds))
    return _label(text[: lines[0][1]]), tuple(read)


def _sentences(
    text: str, lines: tuple[tuple[int, int], ...], guards: tuple[tuple[int, int], ...]
) -> list[tuple[int, int]]:
    """Cut a paragraph at ends of sentences, and at line breaks that are no wrapping."""
    at, found = 0, list[tuple[int, int]]()
    for number, (begin, end) in enumerate(lines):
        for match in _STOP.finditer(text, begin, end):
            start, cut = match.span()
            if text[start] in ".!?":
                if not text[cut : cut + 1].isspace() and cut < len(text):
                    continue
                if text[cut : cut + 8].lstrip()[:1].islower():
                    continue
                word = text[max(at, start - 8) : start].rpartition(" ")[2].lower().lstrip("(")
                if text[start] == "." and word in _words().abbreviations:
                    continue
            if guards and any(a <= start < b for a, b in guards):
                continue
            _add(found, text, at, cut)
            at = cut
        last = number == len(lines) - 1
        if last or not (text[lines[number + 1][0]].islower() or end - max(at, begin) >= _WRAPPED):
            _add(found, text, at, end)
            at = end
    return found


def _add(found: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    bare = piece.strip()
    if bare:
        start += len(piece) - len(piece.lstrip())
        found.append((start, start + len(bare)))


def _label(line: str) -> str:
    """Return the key of a ``key: value`` line; words that only add weight (``IMPORTANT:``) are none."""
    opening = line[:60]
    colon = _COLON.search(opening) if _COLONS.search(opening) else None
    if colon is None or not line[colon.end() :].strip("*_ "):
        return ""
    key = opening[: colon.start()].strip("*_` ")
    if _KEY.fullmatch(key) is None or len(key.split()) > 5 or _words().emphasis.fullmatch(key):
        return ""
    return key


@lru_cache(maxsize=1024)
def _limits(said: str) -> str:
    """Return what a heading or lead-in limits; empty where it limits nothing."""
    return "" if limits_nothing(said) else said.strip().lower()


@lru_cache(maxsize=1024)
def _alone(said: str) -> bool:
    """Tell whether a heading or lead-in means just what stands below it: it counts that, or puts it for all else."""
    words = _words()
    return bool(words.counted.search(said) or (words.alone.search(said) and not limits_nothing(said)))


@lru_cache(maxsize=1024)
def _of_example(said: str) -> bool:
    """Tell whether a heading, lead-in or label opens an example."""
    return _words().example.search(said) is not None
