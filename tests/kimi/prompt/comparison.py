"""An independent comparison of a prompt before and after: its own reading, its own word lists, nothing of the engine's.

What it asks: is every sentence of the original still said, by one sentence that has all of its words of content, its
numbers, names, code, slots and negation?
"""

from __future__ import annotations

import re

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
SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？；])|\n+")
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
    kept = [_content(one) for one in SENTENCE.split(after)]
    for sentence in SENTENCE.split(before):
        words, negative = _content(sentence)
        if words and not any(words <= theirs and negative == no for theirs, no in kept):
            lost.append(f"sentence: {sentence.strip()!r}")
    return lost


def _content(sentence: str) -> tuple[frozenset[str], bool]:
    words = {word.lower() for word in WORD.findall(sentence)}
    return frozenset(words - EMPTY - EMPTY_HAN), bool(NEGATION.search(sentence))


def altered(before: str, after: str) -> list[str]:
    """Return the kinds of fenced blocks, slots, tables and tags that are not all there as they were, in order."""
    return [pattern.pattern for pattern in (FENCE, SLOT, ROW, TAG) if pattern.findall(before) != pattern.findall(after)]
