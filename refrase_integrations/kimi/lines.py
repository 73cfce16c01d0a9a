"""Lines that practices put into a system prompt: written once, known again by every surface, and nobody else's line."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

from refrase_integrations.kimi.messages import is_blank, text_of, text_of_part, with_fields
from refrase_integrations.kimi.wire import Body, Message, put


class OwnLine(NamedTuple):
    """The one line of a practice, in every form that it is written in."""

    opening: str
    """For a quick look."""
    pattern: re.Pattern[str]
    """Matches a whole line."""


_known: list[OwnLine] = []  # filled by the modules of the practices as they are imported


def own_line(opening: str, *forms: str, **variables: str) -> OwnLine:
    """Describe a line that a practice writes; `in_chinese` and concise-prompt leave such lines out from then on.

    Args:
        opening: what every form opens with.
        forms: the line in each language and case, with ``{name}`` where something varies. A form that a release wrote
            stays here: it may stand in a checkpoint.
        variables: per name the regular expression of what stands there.
    """
    pattern = "|".join(re.escape(form) for form in forms)
    for name, varying in variables.items():
        pattern = pattern.replace(re.escape(f"{{{name}}}"), f"(?:{varying})")
    line = OwnLine(opening, re.compile(f"^(?:{pattern})$", re.MULTILINE))
    if line not in _known:
        _known.append(line)
    return line


def own_lines(text: str) -> set[str]:
    """Return the lines of a text that a practice wrote."""
    return {text[start:end] for line in _known for start, end in _places(text, line)}


def without_own_lines(content: Any) -> str:
    """Return the text of a message's content without the lines that practices wrote."""
    return text_of(_over_texts(content, _theirs))


def put_line(body: Body, own: OwnLine, line: str) -> Body:
    """Let ``line`` stand exactly once in the system prompt.

    Where the practice's line stands in a system message already, in any form, it is replaced in place and further ones
    go: a sibling's line is never doubled. A line that only resembles it is the user's, and so is every line of a pasted
    document (inside a code fence or an element such as ``<doc>``). Else ``line`` goes behind the first system message
    at the head of the conversation that says something, or into a new one in front. Messages further down are not
    looked at for a place: they come and go while the head of the prompt has to stay as it is.

    Args:
        body: the request.
        own: the practice's line in all its forms.
        line: the form of it that is to stand there.

    Returns:
        The same body where the line stands there already.
    """
    messages = body.get("messages") or []
    held = {n: lines for n, message in enumerate(messages) if (lines := _held(message, own))}
    if held:
        if [found for lines in held.values() for found in lines] == [line]:
            return body
        first = min(held)
        changed = [
            with_fields(message, content=_relined(message["content"], own, line if n == first else None))
            if n in held
            else message
            for n, message in enumerate(messages)
        ]
        return put(body, messages=changed)
    for n, message in enumerate(messages):
        if message.get("role") != "system":
            break
        if not is_blank(message.get("content")):
            grown = with_fields(message, content=_grown(message["content"], line))
            return put(body, messages=[*messages[:n], grown, *messages[n + 1 :]])
    return put(body, messages=[{"role": "system", "content": line}, *messages])


def in_chinese(body: Body) -> bool:
    """Tell whether the system prompt is written in Chinese, so that a line put into it is too.

    Lines that were put there before do not count: the language must not change with them.
    """
    for message in body.get("messages") or []:
        role, content = message.get("role"), message.get("content")
        if role != "system":
            if role == "tool" or (is_blank(content) and not message.get("tool_calls")):
                continue  # answers or says nothing here: the practice history takes it out
            break
        theirs = without_own_lines(content)
        if theirs.strip():
            letters = [character for character in theirs if character.isalpha()]
            han = [letter for letter in letters if "\u4e00" <= letter <= "\u9fff"]
            return len(han) > _CHINESE * len(letters)
    return False


_CHINESE = 0.3  # share of Han characters: Chinese prompts name tools, products and formats in English


def _held(message: Message, own: OwnLine) -> list[str]:
    """Return the practice's lines in a system message."""
    if message.get("role") != "system":
        return []
    content = message.get("content")
    texts = [content] if isinstance(content, str) else map(text_of_part, content) if isinstance(content, list) else ()
    return [text[start:end] for text in texts for start, end in _places(text, own)]


def _places(text: str, own: OwnLine) -> Iterator[tuple[int, int]]:
    """Yield where the practice's lines stand, pasted documents aside."""
    if own.opening not in text:
        return
    found = [*own.pattern.finditer(text)]
    if not found:
        return
    pasted = sorted(_pasted(text))
    reach = [*accumulate((end for _, end in pasted), max, initial=0)]
    for match in found:
        if reach[bisect_left(pasted, (match.start(), 0))] <= match.start():
            yield match.span()


_EDGE = re.compile(r"^[ \t]*(?P<fence>```|~~~)|<(?P<close>/?)(?P<name>[A-Za-z][\w:.-]*)[^<>\n]*>", re.MULTILINE)


def _pasted(text: str) -> list[tuple[int, int]]:
    """Return the code fences and elements of a text; what is opened and never closed is none."""
    spans, opened = list[tuple[int, int]](), dict[str, int]()
    for edge in _EDGE.finditer(text):
        name = edge["fence"] or edge["name"]
        closes = name in opened if edge["fence"] else bool(edge["close"])
        if not closes:
            opened.setdefault(name, edge.start())
        elif name in opened:
            spans.append((opened.pop(name), edge.end()))
    return spans


def _relined(content: Any, own: OwnLine, line: str | None) -> Any:
    """Put ``line`` in the place of the practice's first line and take the others out; None: take all of them out."""
    left = [line]

    def relined(text: str) -> str:
        starts, kept, at = {start for start, _ in _places(text, own)}, [], 0
        for old in text.split("\n"):
            if at not in starts:
                kept.append(old)
            elif left and (new := left.pop()) is not None:
                kept.append(new)
            at += len(old) + 1
        return "\n".join(kept)

    return _over_texts(content, relined)


def _theirs(text: str) -> str:
    """Return a text without the lines of ours."""
    for line in _known:
        for start, end in reversed([*_places(text, line)]):
            text = text[:start] + text[end:]
    return text


def _over_texts(content: Any, change: Callable[[str], str]) -> Any:
    if isinstance(content, str):
        return change(content)
    if not isinstance(content, list):
        return content
    return [_with_text(part, change(text)) if (text := text_of_part(part)) else part for part in content]


def _grown(content: Any, line: str) -> Any:
    """Return content with ``line`` as a paragraph of its own behind it."""
    if isinstance(content, str):
        return f"{content}{_break_after(content)}{line}"
    text = f"{_break_after(text_of(content))}{line}"
    if content and isinstance(content[-1], str):
        return [*content, text]
    return [*content, {"type": "text", "text": text}]


def _break_after(text: str) -> str:
    return "\n" * max(0, 2 - (len(text) - len(text.rstrip("\n"))))


def _with_text(part: Any, text: str) -> Any:
    return text if isinstance(part, str) else {**part, "text": text}
