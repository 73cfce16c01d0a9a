"""Which sentences of a prompt another one makes needless: the same said again, and the copy that stays holds as widely.

When in doubt both stay. What costs time is asked last, of the few sentences that have a copy.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from typing import NamedTuple

from refrase_integrations.kimi.prompt.outline import Outline, Unit, leans, limits_nothing
from refrase_integrations.kimi.prompt.phrases import any_re, phrases
from refrase_integrations.kimi.prompt.rules import Rule, firm, read

_NO_COPIES = ("heading", "lead", "label")
_MARKS = " .!。！?？;；:,，*_\"'”’)]"
_TAIL, _END = 16, 4  # characters looked at, and compared, at the end of a sentence
_TEMPLATE = re.compile(r"[{}]|</?[A-Za-z]|%\(|%[sd]\b|\$[A-Za-z_{]|\[\[|\[[A-Z]|<<")
_THE = re.compile(r"\bthe\b", re.IGNORECASE)
_NAMED = re.compile(r"(?<=[A-Za-z0-9]) [a-z]|(?<=\w)\w|\w+\W")  # a number with words around it, not before an entry
_RUN = re.compile(r"[!?！？.…]{2,}$")


class _Patterns(NamedTuple):
    points: re.Pattern[str]
    numbered: re.Pattern[str]
    weights: frozenset[str]


@lru_cache(maxsize=1)
def _patterns() -> _Patterns:
    en, zh = phrases()["en"]["words"], phrases()["zh"]["words"]
    return _Patterns(
        any_re([*en["points_not_re"], f"({any_re([*en['points_re'], *zh['points_re']]).pattern})"]),
        any_re([*en["numbered_re"], *zh["numbered_re"]]),
        frozenset(tail[-_END:] for tail in (*en["tails"], *zh["tails"])),
    )


class Copies:
    """Reads the copies out of one outline."""

    def __init__(self, read_out: Outline) -> None:
        """Take the outline of a prompt."""
        self.outline, self.text, self.units = read_out, read_out.text, read_out.units
        self._pointed: dict[int, bool] = {}

    def places(self) -> Iterator[int]:
        """Yield the places, among the units, of sentences that another one, which stays, makes needless."""
        ends = [self._end(unit) for unit in self.units]
        times = Counter(ends)
        groups: dict[tuple[str, int], list[tuple[int, Rule]]] = {}
        for place, unit in enumerate(self.units):
            if ends[place] and times[ends[place]] > 1:
                rule = read(self.text[unit.start : unit.end])
                if rule is not None:
                    groups.setdefault((rule.key, rule.sense), []).append((place, rule))
        for members in groups.values():
            if len(members) > 1:
                yield from self._covered(members)

    def _end(self, unit: Unit) -> str:
        """Return how a sentence ends. Copies end alike, so one that ends like no other need not be read."""
        if unit.kind in _NO_COPIES or unit.example:
            return ""
        end = self.text[max(unit.start, unit.end - _TAIL) : unit.end].rstrip(_MARKS)[-_END:].lower()
        if end in _patterns().weights:  # words that only add weight: it is known by what stands before them
            rule = read(self.text[unit.start : unit.end])
            return rule.key[-_END:].lower() if rule else ""
        return end

    def _covered(self, members: list[tuple[int, Rule]]) -> Iterator[int]:
        """Yield the places of those that a stronger and wider copy makes needless; one that may not go comes first."""
        ranked = sorted(
            (-rule.strength, len(self.units[place].scope), not self._stays(place, rule), place)
            for place, rule in members
        )
        stay: list[int] = []
        for *_, may_go, place in ranked:  # so whatever stays before is as strong
            if may_go and any(self._covers(other, place) for other in stay) and not self._needed(place):
                yield place
            else:
                stay.append(place)

    def _stays(self, place: int, rule: Rule) -> bool:
        unit = self.units[place]
        return (
            unit.fixed
            or rule.bound
            or rule.leans
            or rule.says_little
            or bool(_TEMPLATE.search(self.text, unit.start, unit.end))
        )

    def _covers(self, other: int, place: int) -> bool:
        """Tell whether ``other`` holds wherever the sentence at ``place`` does, and says all of it."""
        wide, unit = self.units[other].scope, self.units[place].scope
        return (
            unit[: len(wide)] == wide
            and (wide == unit or not self.units[place].listed)
            and self._verbatim(other) == self._verbatim(place)
            and not self._narrowed(other, place)
        )

    def _verbatim(self, place: int) -> list[str]:
        """Return what may not be altered and is not in the key: code, quotations, signs that are spoken of."""
        unit = self.units[place]
        said = self.text[unit.start : unit.end]
        guards = [self.text[a:b] for a, b in self.outline.guards_in(unit.start, unit.end)]
        return [*guards, *_signs(said), "?" if said.rstrip("*_ ")[-1:] in "?？" else ""]

    # -- asked of the few that have a copy

    def _narrowed(self, other: int, place: int) -> bool:
        """Tell whether ``other`` may hold less widely than its scope says, so not where the one at ``place`` does."""
        beside = other < place and self.units[other].block == self.units[place].block
        return (
            self._leant_on(other)
            or not self._led_by_rules(place if beside else other, other if beside else 0)
            or (self.units[other].kind == "step" and not self._list_of_rules(other))
            or self._points(other)
        )

    def _needed(self, place: int) -> bool:
        """Tell whether something beside a sentence lacks what it means without it, or the other way round."""
        unit = self.units[place]
        means_more = _THE.search(self.text, unit.start, unit.end) and not self._led_by_rules(place)
        return bool(means_more) or self._leant_on(place) or self._points(place) or self._numbered

    def _leant_on(self, place: int) -> bool:
        """Tell whether the next sentence leans on this one ("Except ...")."""
        if place + 1 >= len(self.units) or self.units[place + 1].kind == "heading":
            return False
        following = self.units[place + 1]
        return leans(self.text, following.start, following.end)

    def _led_by_rules(self, place: int, since: int = 0) -> bool:
        """Tell whether all before it in its paragraph are rules by themselves, none a topic or condition for it."""
        units, before = self.units, place - 1
        while before >= since and units[before].block == units[place].block:
            if not firm(self.text[units[before].start : units[before].end]):
                return False
            before -= 1
        return True

    def _list_of_rules(self, place: int) -> bool:
        """Tell whether no entry of the numbered list is an action: a rule in a procedure holds at its step."""
        first, last = self._around(place, lambda unit: unit.kind == "step" or unit.block == self.units[place].block)
        return all(read(self.text[unit.start : unit.end]) is not None for unit in self.units[first : last + 1])

    def _points(self, place: int) -> bool:
        """Tell whether a sentence of the same part points at others ("the rule below"), by where they stand."""
        first, last = self._around(place, lambda unit: unit.kind != "heading")
        if first not in self._pointed:
            self._pointed[first] = any(
                _points(self.text[unit.start : unit.end], lead=unit.kind == "lead")
                for unit in self.units[first : last + 1]
                if not unit.example
            )
        return self._pointed[first]

    def _around(self, place: int, alike: Callable[[Unit], bool]) -> tuple[int, int]:
        """Return the first and the last place of the run of units around one that are alike."""
        first = last = place
        while first > 0 and alike(self.units[first - 1]):
            first -= 1
        while last + 1 < len(self.units) and alike(self.units[last + 1]):
            last += 1
        return first, last

    @cached_property
    def _numbered(self) -> bool:
        """Tell whether the prompt speaks of its rules by number ("the second rule"): then none may go."""
        return any(map(_by_number, self.text.split("\n")))


# What a sentence or a line says does not change from pass to pass.


@lru_cache(maxsize=4096)
def _points(said: str, *, lead: bool) -> bool:
    """Tell whether a sentence points at others by where they stand; a lead-in that limits nothing points at its own."""
    found = any(match.group(1) for match in _patterns().points.finditer(said))
    return found and not (lead and limits_nothing(said))


@lru_cache(maxsize=8192)
def _by_number(line: str) -> bool:
    """Tell whether a line speaks of a rule by its number, and is not an entry with that number."""
    return any(
        _NAMED.match(line, match.end()) or _NAMED.search(line, 0, match.start())
        for match in _patterns().numbered.finditer(line)
    )


def _signs(said: str) -> list[str]:
    """Return the signs of a sentence that stand for themselves: tokens without a letter, runs inside of it."""
    tokens = said.split()
    while tokens and not any(map(str.isalnum, tokens[0])):
        del tokens[0]
    found = [token for token in tokens if not any(map(str.isalnum, token))]
    return found + [run.group() for token in tokens[:-1] if (run := _RUN.search(token))]
