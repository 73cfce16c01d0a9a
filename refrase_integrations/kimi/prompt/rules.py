"""Reading a sentence as a rule: what it asks or forbids, how strongly, and a key that equal rules share.

Two sentences have one key when they differ in nothing but weight and politeness: openings ("Please note that"), modals
of the same sense ("never", "do not"), articles, capitals of emphasis, end marks. Every other word, number, name and
sign is in the key, in its order.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from refrase_integrations.kimi.prompt.phrases import HAN, any_re, one_of, phrases


class Rule(NamedTuple):
    """A sentence as a rule."""

    key: str
    """The same for rules that say the same, whatever their sense and strength."""
    sense: int
    """1 asks for it, -1 forbids it, 0 states something."""
    strength: int
    """3 and more: binds, with words that add weight. 2: binds (must, never). 1: bare imperative. 0: should."""
    content: int
    """How many words (Chinese: pairs of characters) the key holds."""
    bound: bool
    """It points elsewhere ("this", "above"), so it means the same only in the same place."""
    leans: bool
    """It has a pronoun, which may stand for something said before."""

    @property
    def says_little(self) -> bool:
        """It is one word without a modal: too little to tell two of them for one rule."""
        return self.content < (1 if self.strength >= BINDS else 2)


@lru_cache(maxsize=8192)
def read(said: str) -> Rule | None:
    """Read one sentence; None where it is no rule: a step, a statement, a title.

    Statements of some length and what the model is told it is ("You are ...") count as rules of the sense 0.
    """
    if len(said) > _MOST:
        return None
    language = _chinese() if _HAN.search(said, 0, 12) else _english()
    return language.read(said)


BINDS = 2
"""Strength of a rule that binds: "must", "never"."""


def conditional(said: str) -> bool:
    """Tell whether a sentence holds only under a condition, or with an exception."""
    return bool(_english().limits.search(said) or _chinese().limits.search(said))


def firm(said: str) -> bool:
    """Tell whether a sentence is a rule, or says what the model is, and sets no condition or topic for the next one."""
    rule = read(said)
    if rule is None or rule.bound or conditional(said):
        return False
    return rule.sense != 0 or bool(_english().roles.match(said) or _chinese().roles.match(said))


def is_rule(said: str) -> bool:
    """Tell whether a sentence asks for or forbids something, anywhere in it."""
    rule = read(said)
    return (rule is not None and rule.sense != 0) or bool(_modal().search(said))


_HAN = re.compile(f"[{HAN}]")
_MARKUP = r"[\s*_#>\"“”'‘’(\[\])【】「」!！,，.。:：;；|\-–—•→~\U0001f300-\U0001faff\u2600-\u27bf\u203c\ufe0f\u200d]"
_WORD = re.compile(
    r"(?<!\w)-{1,2}\w+|\w+(?:['’.+#/@:%–—-]+\w+|(?<=\d),(?=\d)\w+)*[%+#]*|[`\"“”$<>=+/{}@&~^|\\]|[^\s\w,.;:!?'’()*\[\]_…—–，。！？；：、（）【】-]"
)
_FIRST = re.compile(rf"{_MARKUP}*([\w'’]+)")
_LOUD = re.compile(r"[A-Z]{2,}")
_LONG = 10  # words of a statement that is no step: the same one twice is a copy
_MOST = 1_000  # characters of a sentence; what is longer is data
_OWN = 6  # words a sentence needs to hold what its "it" means


def _strengths(
    modals: dict[str, list[str]], not_before: dict[str, str] | None = None
) -> tuple[str, dict[str, tuple[int, int]]]:
    senses = {"must": (1, 2), "should": (1, 0), "never": (-1, 2), "should_not": (-1, 0)}
    table = {phrase: senses[name] for name, listed in modals.items() for phrase in listed}
    return one_of(table, not_before), table


class _English:
    def __init__(self) -> None:
        words: dict[str, Any] = phrases()["en"]
        modals, self.modals = _strengths(words["modals"])
        skipped = (
            rf"(?:{_MARKUP}|(?:{one_of(words['openers'])})\b|(?:{one_of(words['emphasis'])})\b(?=\s*[:!,.\-–—*\]]))*+"
        )
        self.opening = re.compile(skipped, re.IGNORECASE)
        self.modal = re.compile(rf"(?:(?:{one_of(words['subjects'])})\s+)?({modals})(?![\w'’])", re.IGNORECASE)
        self.opens = frozenset(phrase.split()[0] for phrase in (*words["emphasis"], *words["openers"]))
        self.models = frozenset(phrase.split()[0] for phrase in (*self.modals, *words["subjects"]))
        self.anywhere = re.compile(rf"\b(?:{modals})(?![\w'’])", re.IGNORECASE)
        more = words["words"]
        self.context = frozenset(more["context"])
        self.articles = frozenset(
            (*more["articles"], *map(str.capitalize, more["articles"]), *map(str.upper, more["articles"]))
        ) - {"A"}  # "plan A"
        self.pronouns, self.manners = frozenset(more["pronouns"]), frozenset(more["manners"])
        self.tail = re.compile(rf" (?:{one_of(more['tails'])})$")
        self.roles = re.compile(rf"\s*(?:{one_of(more['roles'])})\b", re.IGNORECASE)
        self.limits = re.compile(rf"\b(?:{one_of(more['limits'])})\b", re.IGNORECASE)
        self.emphatic = frozenset(
            word for phrase in (*self.modals, *words["emphasis"], *more["context"]) for word in phrase.split()
        )

    def read(self, said: str) -> Rule | None:
        first = _FIRST.match(said)
        if first is None:
            return None
        at = first.start(1)
        if first.group(1).lower() in self.opens:
            at = self.opening.match(said).end()  # type: ignore[union-attr]  # it matches nothing, too
            first = _FIRST.match(said, at)
        modal = self.modal.match(said, at) if first and first.group(1).lower() in self.models else None
        if modal:
            sense, strength = self.modals[" ".join(modal.group(1).lower().replace("’", "'").split())]
            at = modal.end()
        else:
            sense, strength = 1, 1
        words = self._words(said, at, first=modal is None)
        if not words:
            return None
        if modal is None and words[0] not in self.manners:
            if not (len(words) >= _LONG or self.roles.match(said)):
                return None
            sense = strength = 0
        small = [word.lower() for word in words]
        leans = not self.pronouns.isdisjoint(small)
        bound = not self.context.isdisjoint(small) or (leans and self._leans(small))
        if words[0] == "avoid" and modal is None:
            sense, strength, words = -1, 1, words[1:] or words
        key = " ".join(words)
        while tail := self.tail.search(key):
            key, strength = key[: tail.start()], strength + 1
        return Rule(key, sense, strength, len(words), bound, leans)

    def _words(self, said: str, at: int, *, first: bool) -> list[str]:
        words = [word for word in _WORD.findall(said, at) if word not in self.articles]
        if first and words:
            words[0] = words[0].lower()
        if _LOUD.search(said, at):
            words = [
                word.lower() if word.isupper() and (len(word) > 4 or word.lower() in self.emphatic) else word
                for word in words
            ]
        return words

    def _leans(self, words: list[str]) -> bool:
        return len(words) < _OWN or not self.pronouns.isdisjoint(words[:2])


class _Chinese:
    def __init__(self) -> None:
        words: dict[str, Any] = phrases()["zh"]
        apart: dict[str, str] = words["not_before"]
        modals, self.modals = _strengths(words["modals"], apart)
        self.opening = re.compile(
            rf"(?:{_MARKUP}|(?:{one_of(words['emphasis'])})(?=[：:，,！!。】])|(?:{one_of(words['openers'])})[，,：:]?)*+"
        )
        self.modal = re.compile(rf"(?:{one_of(words['subjects'], apart)})?({modals})")
        self.anywhere = re.compile(modals)
        more = words["words"]
        self.context, self.pronouns = any_re(more["context_re"]), any_re(more["pronouns_re"])
        self.manners = re.compile(one_of(more["manners"]))
        self.tail = re.compile(f"(?:{one_of(more['tails'])})$")
        self.roles = re.compile(rf"\s*(?:{one_of(more['roles'])})")
        self.limits = re.compile(one_of(more["limits"]))

    def read(self, said: str) -> Rule | None:
        opened = self.opening.match(said)
        at = opened.end() if opened else 0
        sense, strength, found = 1, 1, False
        while modal := self.modal.match(said, at):
            sense, one = self.modals[modal.group(1)]
            strength = max(strength, one) if found else one
            at, found = modal.end(), True
            if sense < 0:
                break
        key = "".join(_WORD.findall(said, at))
        if not key:
            return None
        if not found and not self.manners.match(said, at):
            if not (len(key) >= 2 * _LONG or self.roles.match(said)):
                return None
            sense = strength = 0
        if not found and key.startswith("避免"):
            sense, strength, key = -1, 1, key[2:] or key
        while tail := self.tail.search(key):
            key, strength = key[: tail.start()], strength + 1
        bound, leans = self.context.search(said, at), self.pronouns.search(said, at)
        return Rule(key, sense, strength, len(key) // 2, bool(bound), bool(leans))


@lru_cache(maxsize=1)
def _english() -> _English:
    return _English()


@lru_cache(maxsize=1)
def _chinese() -> _Chinese:
    return _Chinese()


@lru_cache(maxsize=1)
def _modal() -> re.Pattern[str]:
    return re.compile(f"{_english().anywhere.pattern}|{_chinese().anywhere.pattern}", re.IGNORECASE)
