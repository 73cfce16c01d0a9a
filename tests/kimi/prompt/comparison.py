"""An independent comparison of a prompt before and after: its own reading, its own word lists, nothing of the engine's.

What it asks: is every sentence of the original still said, by one sentence that has all of its words of content, its
numbers, names, code, slots and negation, and that stands under no heading, tag, lead-in or condition under which the
original did not? Where it is open how far a lead-in reaches, the original counts as outside of it and what is left as
inside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# Words without content: what may differ between two sentences that say the same.
_EMPTY = """
    a an the and or of to in on at for with by as is are be been it its this that these those you your i we our please
    kindly note remember mind keep make sure ensure important importantly critical reminder always must should shall
    will have need want like would d ll act do not never don t cannot can t no may ever again under any circumstances
    there basically essentially course obviously aware order bear general thank thanks advance good luck cooperation
    attention rules rule guidelines instructions notes reminders general following
"""
EMPTY = frozenset(_EMPTY.split())
EMPTY_HAN = frozenset(
    "请的了也都要您你务必须始终是在任何情况下不得禁止严勿切千万绝对永远会应该需可以能一定别重注意记住值得谢配合感其他再次提醒规则项，。！？、：；“”（）"
)
NEGATION = re.compile(
    r"\b(?:not|never|no|don't|cannot|can't|without|nor|won't|mustn't|shouldn't)\b|不|禁止|严禁|勿|别|没|无",
    re.IGNORECASE,
)
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
SLOT = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\$?\{[^{}\n]*\}|%\(\w+\)[sd]|%[sd]\b|\$[A-Z]\w*|<<<?\w+|\w+>>>?")
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
LINK = re.compile(r"https?://[^\s)>\]]+|[\w.+-]+@[\w-]+\.[\w.]+")
QUOTED = re.compile(r"\"[^\"\n]+\"|“[^”\n]+”|「[^」\n]+」")
NAME = re.compile(r"(?<![.!?:。\n*#>-] )(?<!^)\b(?:[A-Z][a-z]+[A-Z]\w*|[A-Z]{2,}\d*|[A-Z][a-z]{2,})\b", re.MULTILINE)
_LOUD = """
    MUST NEVER ALWAYS NOT DO IMPORTANT ONLY ALL EVEN EVER IF REMEMBER YOU READ FOLLOW RULES OF THEM THE AT MOST
    EVERYTHING ELSE IS TO AND ANY NO CAREFULLY
"""
LOUD = frozenset(_LOUD.split())
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
TAG = re.compile(r"</?[A-Za-z][\w:-]*[^<>\n]*>")
SENTENCE = re.compile(r"(?<=[.!?])\s+(?![a-z])|(?<=[!?])(?=[A-Z])|(?<=[a-z]\.)(?=[A-Z])|(?<=[。！？；])|\n+")
WORD = re.compile(r"[A-Za-z]+(?:[-_][A-Za-z]+)*|[\u4e00-\u9fff]")


def losses(before: str, after: str) -> list[str]:
    """Return what the text after has not any more, in words for a failing test."""
    lost = []
    for what, pattern in (
        ("code", CODE),
        ("slot", SLOT),
        ("number", NUMBER),
        ("link", LINK),
        ("quotation", QUOTED),
        ("tag", TAG),
    ):
        gone = set(pattern.findall(before)) - set(pattern.findall(after))
        lost += [f"{what}: {one!r}" for one in sorted(gone)]
    names = {name for name in NAME.findall(before) if name not in LOUD and name.lower() not in EMPTY}
    lost += [f"name: {name!r}" for name in sorted(names) if name not in after]
    kept = list(_said(after))
    for one in _said(before):
        if one.words and not any(_says(other, one) for other in kept):
            lost.append(f"sentence: {one.sentence!r} under {one.under}")
    return lost


class _Said(NamedTuple):
    sentence: str
    words: frozenset[str]
    negative: bool
    under: tuple[str, ...]
    """What it stands under for sure: headings, tags."""
    perhaps: tuple[str, ...]
    """And what it may stand under: lead-ins, titles without a sign, the entry above, a condition said before."""


def _says(other: _Said, one: _Said) -> bool:
    if not (one.words <= other.words and one.negative == other.negative):
        return False
    alike = (other.under, other.perhaps) == (one.under, one.perhaps)
    return alike or (not other.perhaps and set(other.under) <= set(one.under))


HEADING = re.compile(
    r"(#{1,6})\s+(.+)|[一二三四五六七八九十]、\s*([^。；！]{1,16})$|\*\*([^*]+)\*\*:?\s*$|【([^】]+)】\s*$|([A-Z][A-Z ]{3,40}):?\s*$|[-=]{3,} (\S.*) [-=]{3,}$"
)
DRAWN = re.compile(r"([-=*_~+─━═])(?: ?\1){2,}\s*$")
OPENED = re.compile(r"<(/?)([A-Za-z][\w:-]*)[^<>]*>\s*$")
ENTRY = re.compile(r"(\s*)(?:[-*•+]|\(?\d{1,2}[.)、]|[a-z][.)])\s*(?=\S)")
CONDITION = re.compile(
    r"(?:if|when|whenever|unless|for|in|on|with|while|during|once|after|before|except)\b|如果|若|当|对于|除非|一旦|针对",
    re.IGNORECASE,
)
SORTS = EMPTY | {"tone", "style", "safety", "security", "core", "key", "them", "read", "carefully", "system"}

SORTS_HAN = EMPTY_HAN | frozenset("服务规范事基本核心原则通用")


def _said(text: str) -> Iterator[_Said]:
    """Yield the sentences of a prompt in order, each with what it stands under."""
    heads: list[tuple[int, str]] = []  # level, title; tags have the level 0
    lead, entries = "", list[tuple[int, str]]()
    lines = text.split("\n")
    for number, line in enumerate(lines):
        bare = line.strip()
        following = lines[number + 1] if number + 1 < len(lines) else ""
        heading, tag, entry = HEADING.match(bare), OPENED.match(bare), ENTRY.match(line)
        if heading or (bare and DRAWN.match(following) and bare[-1] not in ".!?。！？" and not DRAWN.match(bare)):
            level = len(heading.group(1) or "#######") if heading else 2
            name = next(filter(None, heading.groups()[1:])) if heading else bare
            heads = [head for head in heads if head[0] < level] + [(level, _limits(name))]
            lead, entries = "", []
        elif tag:
            names = [name for level, name in heads if level == 0]
            if not tag.group(1):
                heads.append((0, _limits(tag.group(2)) or tag.group(2) * (tag.group(2).lower() not in SORTS)))
            elif names:
                del heads[next(n for n, head in enumerate(heads) if head == (0, names[-1])) :]
            lead, entries = "", []
        elif DRAWN.match(bare):
            lead, entries = "", []
        indent = len(line) - len(line.lstrip())
        entries = [(depth, said) for depth, said in entries if depth < indent or not bare]
        goes_on = bool(bare) and not entry and number > 0 and bool(lines[number - 1].strip())  # of the entry itself
        perhaps = [lead, *(said for _, said in entries[: -1 if goes_on else None])]
        sentences = [*filter(str.strip, SENTENCE.split(line))]
        for sentence in sentences:
            spoken = sentence.strip()
            words = {word.lower() for word in WORD.findall(spoken)}
            yield _Said(
                spoken,
                frozenset(words - (SORTS | SORTS_HAN if heading else EMPTY | EMPTY_HAN)),
                bool(NEGATION.search(spoken)),
                tuple(said for _, said in heads if said) if not heading else (),
                tuple(filter(None, perhaps)) if not heading else (),
            )
            if CONDITION.match(spoken.lstrip("-*• ")):
                perhaps.append(_limits(spoken))
        if entry:
            entries.append((indent, _limits(bare)))
        opens = bare and not (heading or tag or (entry and following.startswith(entry.group(1) + " ")))
        title = (
            len(sentences) == 1
            and len(_limits(bare).split()) <= 6
            and bare.strip("\"'“”‘’*_()")[:1].isalnum()
            and bare.rstrip("\"'”’*_)")[-1:].isalnum()
            and not entry
        )
        if opens and (bare[-1] in ":：" or title):
            lead = _limits(sentences[-1]) or lead


def _limits(title: str) -> str:
    """Return what a heading or lead-in limits; empty where it only sorts. One that forbids turns what is below."""
    words = sorted({word.lower() for word in WORD.findall(title)} - SORTS - SORTS_HAN)
    return " ".join(["not"] * bool(NEGATION.search(title)) + words)


def altered(before: str, after: str) -> list[str]:
    """Return the kinds of fenced blocks, slots, tables and tags that are not all there as they were, in order."""
    return [pattern.pattern for pattern in (FENCE, SLOT, ROW, TAG) if pattern.findall(before) != pattern.findall(after)]
