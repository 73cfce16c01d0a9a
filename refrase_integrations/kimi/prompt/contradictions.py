"""Rules that cannot both hold: the same thing asked and forbidden, two limits for one thing, two sides of one axis."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from refrase_integrations.kimi.prompt.outline import Unit
from refrase_integrations.kimi.prompt.phrases import any_re, phrases
from refrase_integrations.kimi.prompt.rules import Rule, conditional, read

Said = tuple[Unit, str, Rule | None]


class Clash(NamedTuple):
    """Two rules that cannot both hold."""

    rule: str
    start: int
    end: int
    """The later of the two."""
    other: int
    """Where the earlier one starts."""
    what: str


def contradictions(said: Sequence[Said]) -> Iterator[Clash]:
    """Yield rules that contradict an earlier one and hold where it holds; conditional rules contradict nothing.

    Args:
        said: the sentences of a prompt outside its examples, each read as a rule.
    """
    firm = [one for one in said if one[0].kind != "lead" and not conditional(one[1])]
    yield from _opposites(firm)
    yield from _figures(firm)
    for axis in _axes():
        yield from _sides(firm, axis)


def _clash(one: Said, other: Said, what: str) -> Clash:
    return Clash("contradiction", one[0].start, one[0].end, other[0].start, what)


def _together(one: Said, other: Said) -> bool:
    length = min(len(one[0].scope), len(other[0].scope))
    return one[0].scope[:length] == other[0].scope[:length]


def _opposites(firm: Sequence[Said]) -> Iterator[Clash]:
    seen: dict[str, list[Said]] = {}
    for one in firm:
        rule = one[2]
        if rule is None or rule.bound or rule.sense == 0 or rule.says_little:
            continue
        earlier = seen.setdefault(rule.key, [])
        other = next((old for old in earlier if old[2] and old[2].sense == -rule.sense and _together(one, old)), None)
        if other:
            yield _clash(one, other, "one rule asks for what another forbids")
        earlier.append(one)


_FIGURE = re.compile(r"\d[\d,.]*")


def _figures(firm: Sequence[Said]) -> Iterator[Clash]:
    """The same sentence with another limit: 'at most 3 sentences' and 'at most 5 sentences'."""
    seen: dict[tuple[str, int], list[tuple[Said, list[str]]]] = {}
    for one in firm:
        rule, text = one[2], one[1]
        if rule is None or rule.sense == 0 or rule.bound or not _bounds().search(text) or one[0].kind == "label":
            continue
        figures = _FIGURE.findall(rule.key)
        if len(figures) != 1:
            continue
        earlier = seen.setdefault((_FIGURE.sub("#", rule.key), rule.sense), [])
        for other, theirs in earlier:
            if theirs != figures and _together(one, other):
                yield _clash(one, other, "two different limits for the same thing")
                break
        earlier.append((one, figures))


@lru_cache(maxsize=1)
def _bounds() -> re.Pattern[str]:
    return any_re(phrases()["lint"]["bounds_re"])


# -- axes ----------------------------------------------------------------------------------------------------


class _Axis(NamedTuple):
    name: str
    value: re.Pattern[str] | None
    one: re.Pattern[str] | None
    other: re.Pattern[str] | None
    same: dict[str, int]


@lru_cache(maxsize=1)
def _axes() -> tuple[_Axis, ...]:
    made = []
    for axis in phrases()["axes"]:
        same = {word: number for number, group in enumerate(axis.get("same", ())) for word in group}
        value, one, other = (_compiled(axis, key) for key in ("value_re", "one_re", "other_re"))
        made.append(_Axis(axis["name"], value, one, other, same))
    return tuple(made)


def _compiled(axis: dict[str, Any], key: str) -> re.Pattern[str] | None:
    if key not in axis:
        return None
    # one name for the group in every alternative is not allowed: they are numbered, and read back by prefix
    numbered = [pattern.replace("(?P<value>", f"(?P<value{number}>") for number, pattern in enumerate(axis[key])]
    return any_re(numbered)


def _sides(firm: Sequence[Said], axis: _Axis) -> Iterator[Clash]:
    first: dict[object, Said] = {}
    for one in firm:
        rule = read(one[1])
        sides = _side(one[1], axis, forbids=rule is not None and rule.sense < 0)
        if len(sides) != 1:
            continue  # a sentence that names both sides weighs them
        (side,) = sides
        for theirs, other in first.items():
            if theirs != side and _together(one, other):
                yield _clash(one, other, f"two answers to one question: {axis.name}")
                return
        first.setdefault(side, one)


def _side(text: str, axis: _Axis, *, forbids: bool) -> set[object]:
    if axis.value is not None:
        if forbids:
            return set()
        words = [
            next(word for word in match.groupdict().values() if word).lower() for match in axis.value.finditer(text)
        ]
        return {axis.same.get(word, word) for word in words}
    sides: set[object] = set()
    for number, pattern in enumerate((axis.one, axis.other)):
        match = pattern.search(text) if pattern else None
        if match and not (forbids and number == 1):
            sides.add(number)
    return sides
