"""What a rewritten prompt has to have of the original: deterministic checks, no model is taken at its word.

They err on the side of the original: a rewrite that says a thing in quite other words is called a loss.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from refrase_integrations.kimi.prompt.outline import Outline, outline
from refrase_integrations.kimi.prompt.phrases import HAN, one_of, phrases
from refrase_integrations.kimi.tokens import TokenCounter, estimate

Kind = Literal[
    "empty", "longer", "placeholder", "number", "name", "address", "tool", "code", "quotation", "negation", "added"
]


class Loss(NamedTuple):
    """Something of the original that a rewrite lacks, or something that it made up."""

    kind: Kind
    item: str
    """The lost piece itself: for the rewriting model, never for a report."""


def losses(before: str, after: str, *, tools: Iterable[str] = (), count: TokenCounter = estimate) -> list[Loss]:
    """Compare a prompt with its rewrite.

    Args:
        before: the prompt.
        after: what a model made of it.
        tools: names of tools; one that the prompt speaks of has to be named after, too.
        count: what counts tokens; a rewrite must not be longer.

    Returns:
        What was lost or made up; empty where every placeholder, number, name, address, tool, code, quotation and
        negation survived.
    """
    if not after.strip():
        return [Loss("empty", "")]
    found: list[Loss] = []
    tokens = count.text(after) - count.text(before)
    if tokens > 0:
        found.append(Loss("longer", f"{tokens} tokens"))
    old, new = _read(before), _read(after)
    squeezed, folded = _squeezed(after), after.casefold()
    for kind, wanted, present in (
        ("placeholder", old.placeholders, new.placeholders),
        ("number", old.numbers, new.numbers),
        ("address", old.addresses, new.addresses),
    ):
        found += [Loss(kind, item) for item in wanted if item not in present]  # type: ignore[arg-type]
        found += [Loss("added", item) for item in present if item not in wanted]
    found += [Loss("name", name) for name in old.names if name.casefold() not in folded]
    found += [
        Loss("tool", name) for name in dict.fromkeys(tools) if name and _named(name, before) and not _named(name, after)
    ]
    found += [Loss("code", code) for code in old.code if _squeezed(code) not in squeezed]
    found += [Loss("quotation", said) for said in old.quotations if _squeezed(said) not in squeezed]
    found += [Loss("negation", denial.said) for denial in old.denials if not _still_denied(denial, new.denials)]
    return found


# -- reading -------------------------------------------------------------------------------------------------


class _Denial(NamedTuple):
    """A word that forbids, denies or excepts, and what it is about."""

    exception: bool
    said: str
    """The sentence."""
    clause: frozenset[str]
    """Content of the clause around it."""
    reach: frozenset[str]
    """Content from that clause to the end of the sentence: a list may go on behind commas."""


class _Pieces(NamedTuple):
    placeholders: Sequence[str]
    numbers: Sequence[str]
    names: Sequence[str]
    addresses: Sequence[str]
    code: Sequence[str]
    quotations: Sequence[str]
    denials: Sequence[_Denial]


_SLOT = re.compile(
    r"\$?\{{1,3}[^{}\"'\n:]*(?::[^{}\"'\n]*)?\}{1,3}|\{%.*?%\}|\$[A-Za-z_]\w*|%\(\w+\)[sdif]|%[sd]\b"
    r"|\[\[[^\[\]\n]+\]\]|<{2,3}[^<>\n]+>{2,3}|\[[A-Z][A-Z0-9_ ]*\]",
    re.DOTALL,
)
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_LISTED = re.compile(r"^[ \t]*(?:[-*]\s+)?\(?\d{1,3}[.)、）](?=\s|[^\d])", re.MULTILINE)
_ADDRESS = re.compile(
    r"https?://[^\s<>\"'`)\]，。；、）]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?<![\w/])(?:~|\.{1,2})?/(?:[\w.-]+/)*[\w.-]+\w"
)
_WORD = re.compile(r"[A-Za-z][\w&'’-]*[\w]|[A-Z]")
_MIXED = re.compile(r"[a-z]+[A-Z]|_|[A-Z]{2}|\d")
_MARKS = "\"'“”‘’「」『』《》"
_EDGE = frozenset(".!?:;\"“”'([{*#>-–—|/\n")
_LATIN = re.compile(r"[^\W\d_]{3,}(?<![\u3400-\u9fff])")
_HAN_RUN = re.compile(f"[{HAN}]{{2,}}")
_CLAUSE = re.compile(r"[,;:，；：]\s*|\s(?:and|but)\s")
_FENCE = re.compile(r"\A(?:`{3,}|~{3,})[^\n]*\n")


def _read(text: str) -> _Pieces:
    read_out = outline(text)
    code, quotations = [], []
    for start, end in read_out.guards:
        piece = text[start:end]
        if piece[0] in "`~":
            code.append(_FENCE.sub("", piece, count=1).strip("`~").strip())
        elif piece[0] in '"“「『《':
            quotations.append(piece.strip('"“”「」『』《》').strip())
        elif piece[0] in "{" and not _SLOT.fullmatch(piece) and not _SLOT.search(piece):
            code.append(piece)
    bare = _LISTED.sub(" ", _ADDRESS.sub(" ", text))
    return _Pieces(
        placeholders=_unique(_SLOT.findall(text)),
        numbers=_unique(_NUMBER.findall(_SLOT.sub(" ", bare))),
        names=_unique(_names(read_out)),
        addresses=_unique(match.rstrip(".") for match in _ADDRESS.findall(text)),
        code=_unique(filter(None, code)),
        quotations=_unique(filter(None, quotations)),
        denials=tuple(_denials(read_out)),
    )


def _unique(items: Iterable[str]) -> Sequence[str]:
    return tuple(dict.fromkeys(items))


def _names(read_out: Outline) -> Iterator[str]:
    """Yield identifiers, and words with a capital letter where a sentence does not ask for one."""
    text, words = read_out.text, _words()
    small = {word for word in re.findall(r"\b[a-z][\w'’-]*", text)}
    for unit in read_out.units:
        if unit.kind == "heading":
            continue
        for match in _WORD.finditer(text, unit.start, unit.end):
            word = match.group()
            if word.isupper() and word in words.shouts:
                continue
            if _MIXED.search(word[1:] if word[0].isupper() else word):
                yield word
            elif word[0].isupper() and word.lower() not in small and len(word) > 1:
                before = text[unit.start : match.start()].rstrip(" *_")
                if before and before[-1] not in _EDGE:
                    yield word


def _denials(read_out: Outline) -> Iterator[_Denial]:
    for unit in read_out.units:
        if unit.example:
            continue
        said = read_out.text[unit.start : unit.end]
        cuts = [0, *(match.end() for match in _CLAUSE.finditer(said)), len(said)]
        for start, end in pairwise(cuts):
            clause = said[start:end]
            for exception, pattern in ((False, _words().negations), (True, _words().exceptions)):
                if pattern.search(clause):
                    yield _Denial(exception, said, _content(clause), _content(said[start:]))


def _content(said: str) -> frozenset[str]:
    """Return the words that carry the content, cut to a stem; of Chinese, pairs of characters."""
    words = _words()
    said = words.exceptions.sub(" ", words.negations.sub(" ", said))
    terms = {term[:_STEM] for term in map(str.lower, _LATIN.findall(said)) if term not in words.empty}
    return frozenset(terms.union(run[at : at + 2] for run in _HAN_RUN.findall(said) for at in range(len(run) - 1)))


_STEM = 5  # letters in which the forms of a word agree
_ENOUGH = 0.5  # share of the content of a denied clause that has to be within the reach of one denial of the rewrite


def _still_denied(denial: _Denial, kept: Sequence[_Denial]) -> bool:
    least = _ENOUGH * len(denial.clause)
    return any(other.exception == denial.exception and len(denial.clause & other.reach) >= least for other in kept)


def _named(name: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


def _squeezed(text: str) -> str:
    return "".join(text.split())


class _Words(NamedTuple):
    negations: re.Pattern[str]
    exceptions: re.Pattern[str]
    shouts: frozenset[str]
    empty: frozenset[str]


@lru_cache(maxsize=1)
def _words() -> _Words:
    data: dict[str, Any] = phrases()
    en, zh = data["en"], data["zh"]
    weight = (*en["words"]["articles"], *en["emphasis"], *en["openers"], *en["words"]["tails"])
    modals = (phrase for listed in en["modals"].values() for phrase in listed)
    forbids = (*zh["words"]["negations"], *zh["modals"]["never"], *zh["modals"]["should_not"])
    return _Words(
        _either(en["words"]["negations"], [word for word in forbids if word != "别"]),  # 别 is a part of many words
        _either(en["words"]["exceptions"], zh["words"]["exceptions"]),
        frozenset(word for phrase in data["lint"]["shouts"] for word in phrase.split()),
        frozenset(word for phrase in (*weight, *modals) for word in phrase.split()),
    )


def _either(english: Iterable[str], chinese: Iterable[str]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{one_of(english)})\b|{one_of(chinese)}", re.IGNORECASE)
