"""tool-call-recovery: leaked tool-call text becomes real tool calls, guarded; ``<think>`` is split out.

Turning text into calls is dangerous: a web page or a user could contain the tokens. What fails a guard (the request
carried such tokens, a code fence, a quotation, ``tool_choice="none"``) stays text, and the report says why: a lost call
costs a turn, an injected one may cost the user's files.

What passes the guards and is certainly a call, but cannot be used (cut short, undeclared, unreadable), becomes a
*withheld* call: an error that tells the model what to correct, and that no application can run by mistake.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from refrase_integrations.kimi.followups import may_follow_up, no_such_tool
from refrase_integrations.kimi.messages import REASONING_KEYS, text_of
from refrase_integrations.kimi.practice import (
    Change,
    Delta,
    Followup,
    Practice,
    Prepared,
    Reference,
    Step,
    Takes,
    messages_of,
)
from refrase_integrations.kimi.practices.tool_choice import is_forbidden
from refrase_integrations.kimi.schema import read_arguments
from refrase_integrations.kimi.tokenformat import (
    HOLD_LIMIT,
    Event,
    K2Parser,
    K3Parser,
    NativeCall,
    Reasoning,
    Section,
    Tag,
    Text,
    ThinkSplitter,
    contains_section_tokens,
    restore,
)
from refrase_integrations.kimi.wire import Body, Message, Tool, ToolCall


def heal(prepared: Prepared) -> Step | None:
    """Read the reply for native tool-call text and ``<think>``; ask again where a call was announced and lost."""
    return _Recover(prepared) if prepared.call.dialect.tool_format is not None else None


class _Recover:
    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        tools = prepared.body.get("tools") or []
        functions = [tool.get("function") or {} for tool in tools]
        self._parameters = {function.get("name", ""): function.get("parameters") for function in functions}
        self._native = prepared.call.dialect.tool_format
        self._think = ThinkSplitter() if self._native == "k2" else None  # K3's parser splits by itself
        self._content = self._parser(tools)
        self._reasoning = self._parser(tools)
        self._barred: str | None = None
        self._barred_known = False
        self._quoted: list[_Spelling] | None = None
        self._spoke = False
        self._found: list[ToolCall] = []
        self._thought: list[ToolCall] = []
        self._structured: list[ToolCall] = []
        self._notes: list[Change] = []
        self._takes: Takes = "all"

    def _parser(self, tools: Iterable[Tool]) -> K2Parser | K3Parser:
        return K2Parser(tools) if self._native == "k2" else K3Parser()

    @property
    def idle(self) -> bool:
        """Nothing is held back, no reasoning is open: text without markup passes as it is."""
        return self._content.idle and self._reasoning.idle and (self._think is None or self._think.idle)

    def catch_up(self, content: str, reasoning: str) -> None:
        """Tell the parsers what passed by: they count code fences."""
        if self._think:
            self._think.feed(content)
        self._content.feed(content)
        self._reasoning.feed(reasoning)
        self._spoke = self._spoke or bool(content.strip())
        self._saw({"content": content, "reasoning": reasoning})

    def feed(self, delta: Delta) -> Sequence[Delta]:
        if "tool_calls" in delta:
            self._structured.extend(delta["tool_calls"])
        out: Delta = cast(Delta, {key: value for key, value in delta.items() if key not in ("content", "reasoning")})
        if "reasoning" in delta:
            self._think_over(self._reasoning.feed(delta["reasoning"]), out)
            if not delta["reasoning"]:
                out["reasoning"] = ""  # "reasoned, nothing said" is kept
        if "content" in delta:
            self._read(self._think.feed(delta["content"]) if self._think else [Text(delta["content"])], out)
        self._saw(out)
        return [out] if out else []

    def close(self, finish_reason: str | None) -> Iterable[Delta]:
        out: Delta = {}
        self._think_over(self._reasoning.close(), out)
        self._read(self._think.close() if self._think else (), out)
        self._say(self._content.close(), out)
        if self._content.overlong or self._reasoning.overlong:
            detail = f"tool-call text left as text: a section of more than {HOLD_LIMIT:,} characters"
            self._notes.append(Change("advise", detail))
        calls = _unrepeated(self._found, self._structured)
        drafts = _unrepeated(self._thought, [*self._structured, *calls])
        if self._structured or calls:
            if drafts:  # what was only thought of, the model has decided against
                detail = f"{len(drafts)} tool call(s) in the reasoning left out: others were made"
                self._notes.append(Change("advise", detail))
        elif not self._spoke or any("error" not in made for made in drafts):
            calls = drafts  # an answer in words is not given up for a call that cannot be used anyway
        usable = [made for made in calls if "error" not in made]
        if calls:
            out["tool_calls"] = calls
            if usable or finish_reason != "length":
                out["finish_reason"] = "tool_calls"
        if usable:
            self._notes.append(Change("replace", f"{len(usable)} tool call(s) recovered from text"))
        elif not calls and self._lost(finish_reason):
            self._notes.append(
                Change("replace", "a tool call was announced and none came: asked once without streaming")
            )
            self._saw(out)
            body, detail = self._prepared.call.body, self._notes[-1].detail
            out["followup"] = Followup(body, detail, stream=False, takes=self._takes)
        if self._notes:
            out["notes"] = list(dict.fromkeys(self._notes))
        return [out] if out else []

    def _saw(self, out: Delta) -> None:
        if out.get("content"):
            self._takes = "calls"
        elif out.get("reasoning") and self._takes == "all":
            self._takes = "answer"

    def _lost(self, finish_reason: str | None) -> bool:
        # Under load 5-30% of streams end so; the same request without streaming is fine (vllm-project/vllm#54701).
        announced = finish_reason == "tool_calls" and not self._structured and bool(self._parameters)
        return announced and may_follow_up(self._prepared, PRACTICE.id)

    def _read(self, events: Iterable[Event], out: Delta) -> None:
        for event in events:
            if isinstance(event, Tag):
                self._notes.append(Change("encode", "<think> in the content: split into reasoning"))
            elif isinstance(event, Reasoning):
                self._think_over(self._reasoning.feed(event.text), out)
            else:
                self._say(self._content.feed(event.raw), out)

    def _say(self, events: Iterable[Event], out: Delta) -> None:
        for event in events:
            if isinstance(event, Section) and self._taken(event, self._found):
                continue
            if isinstance(event, Tag):
                continue
            if isinstance(event, Reasoning):
                out["reasoning"] = out.get("reasoning", "") + event.text
            else:
                self._spoke = self._spoke or not event.raw.isspace()
                out["content"] = out.get("content", "") + event.raw

    def _think_over(self, events: Iterable[Event], out: Delta) -> None:
        for event in events:
            if isinstance(event, Section) and self._taken(event, self._thought):
                continue
            out["reasoning"] = out.get("reasoning", "") + event.raw

    def _taken(self, section: Section, into: list[ToolCall]) -> bool:
        """Take the calls of a section that passes every guard; tell whether its text goes."""
        if not section.calls:
            # An empty section or a marker that leaked alone says nothing to anybody, unless it is quoted.
            goes = section.complete and not section.inside_fence and self._bar() is None and bool(self._parameters)
            if goes:
                self._notes.append(Change("encode", "tool-call markers without a call: removed from the text"))
            return goes
        reason = self._bar()
        if section.inside_fence:
            reason = reason or "it stands in a code fence"
        elif not section.complete and into is self._thought:
            reason = reason or "it was cut off in the reasoning"
        if reason is not None:
            self._notes.append(Change("advise", f"tool-call text left as text: {reason}"))
            return False
        read = [self._read_call(made) for made in section.calls]
        calls = [made for made, _ in read if made is not None]
        into.extend(calls)
        # In the reasoning a call that cannot be used stays readable: whether it counts is known at the end.
        goes = bool(calls) if into is self._found else any("error" not in made for made in calls)
        for made, why in read:
            if why is not None and not goes:
                self._notes.append(Change("advise", f"tool-call text left as text: {why}"))
            elif why is not None and made is None:
                self._notes.append(Change("advise", f"a tool call in the text left out: {why}"))
            elif why is not None:
                self._notes.append(Change("replace", f"a tool call in the text cannot be used: {why}"))
        return goes

    def _read_call(self, made: NativeCall) -> tuple[ToolCall | None, str | None]:
        """Return the call, and what keeps it from being used; None for the call where its text must stay text."""
        function = {"name": _name(made), "arguments": made.arguments}
        call = cast(ToolCall, {"id": made.id or "", "type": "function", "function": function})
        spelling = _spelling(call)
        if any(_repeats(spelling, quoted) for quoted in self._quotations()):
            return None, "it repeats a section of an earlier message"
        why, error = self._problem(made)
        if why is None:
            return call, None
        if not self._parameters or not _is_certain(made):
            return None, why
        return {**call, "error": error, "withheld": True}, why

    def _problem(self, made: NativeCall) -> tuple[str | None, str]:
        """Return why a call cannot be used, for the report, and what the model has to correct."""
        if not made.complete:
            return "the call was cut off", "the call was cut off; make it complete, and split very long content"
        if made.name not in self._parameters:
            return "the tool is not declared in this request", no_such_tool(_name(made), self._parameters)
        read = read_arguments(made.arguments, self._parameters[made.name])
        if read.value is None:
            return "its arguments are no JSON object", str(read.error)
        return None, ""

    def _bar(self) -> str | None:
        """Return why nothing may be recovered from this reply, or None."""
        if not self._barred_known:
            self._barred_known = True
            if is_forbidden(self._prepared.call.body) or is_forbidden(self._prepared.body):
                self._barred = "tool_choice is none"
            elif any(
                contains_section_tokens(text, neutralised=True)
                for body in (self._prepared.call.body, self._prepared.body)
                for text in _foreign_texts(body)
            ):
                self._barred = "the request itself carries tool-call tokens"
        return self._barred

    def _quotations(self) -> list[_Spelling]:
        """Return the calls that stand as text in earlier messages."""
        if self._quoted is None:
            self._quoted = []
            tools = self._prepared.body.get("tools") or []
            for message in messages_of(self._prepared.call.body):
                for text in _all_texts(message):
                    plain = restore(text)
                    if not contains_section_tokens(plain):
                        continue
                    parser = self._parser(tools)
                    for event in (*parser.feed(plain), *parser.close()):
                        calls = event.calls if isinstance(event, Section) else ()
                        self._quoted += [_spelled(_name(made), made.arguments) for made in calls]
        return self._quoted


def _foreign_texts(body: Body) -> Iterator[str]:
    """Yield what others than the model wrote: messages, each and all together, and descriptions of tools."""
    messages = [message for message in messages_of(body) if message.get("role") != "assistant"]
    texts = [text for message in messages for text in _all_texts(message)]
    yield from texts
    yield "".join(texts)  # pieces of a token in several messages
    yield from _strings(body.get("tools"))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.items():
            yield from _strings(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _strings(part)


def _all_texts(message: Message) -> Iterator[str]:
    yield text_of(message.get("content"))
    yield str(message.get("name") or "")
    for key in REASONING_KEYS:
        yield str(message.get(key) or "")
    for made in message.get("tool_calls") or ():
        text = str((made.get("function") or {}).get("arguments") or "")
        yield text
        yield from _strings(read_arguments(text, None).value)  # as JSON text its quotation marks are escaped


class _Spelling(NamedTuple):
    name: str
    value: str | None
    """The arguments in one spelling; None where they are no JSON."""
    raw: str
    """As they were written, spacing aside."""


def _spelling(made: ToolCall) -> _Spelling:
    function = made.get("function") or {}
    return _spelled(function.get("name", ""), function.get("arguments", ""))


def _spelled(name: str, arguments: str) -> _Spelling:
    raw = "".join(arguments.split())
    try:
        return _Spelling(name, json.dumps(json.loads(arguments), sort_keys=True), raw)
    except (ValueError, RecursionError):
        return _Spelling(name, None, raw)


def _repeats(one: _Spelling, other: _Spelling) -> bool:
    """Tell whether ``one`` is the other call, or the beginning of it."""
    if one.name != other.name:
        return False
    return one.value == other.value if one.value is not None else other.raw.startswith(one.raw)


def _unrepeated(calls: Iterable[ToolCall], known: Iterable[ToolCall]) -> list[ToolCall]:
    """Return the calls that are neither among the known ones nor given twice."""
    spellings, kept = [*map(_spelling, known)], list[ToolCall]()
    for made in calls:
        spelling = _spelling(made)
        if not any(_repeats(spelling, other) for other in spellings):
            spellings.append(spelling)
            kept.append(made)
    return kept


_HEADER = re.compile(r"[\w.\-:#]*")
_OBJECT = re.compile(r'\{\s*(["}]|$)')


def _is_certain(made: NativeCall) -> bool:
    """Tell a call that cannot be used from an answer *about* the format (``{name}:{index}``, "the id", "...").

    Its head is one word that names a function in the native way, a declared tool, or has a number as ids do; or its
    arguments begin as an object does.
    """
    head = made.id or ""
    if not _HEADER.fullmatch(head):
        return False
    named = head.startswith("functions") or any(map(str.isdigit, head)) or (made.name or "\0") in head
    return named or _OBJECT.match(made.arguments) is not None


def _name(made: NativeCall) -> str:
    """Return the name of the function, as far as the call tells it."""
    return made.name or re.sub(r"^functions\.?|:\d*$", "", made.id or "") or "unnamed"


PRACTICE = Practice(
    id="tool-call-recovery",
    statement="Turns leaked native tool-call text into real tool calls, guarded against injected text.",
    sources=(
        Reference("MoonshotAI/Kimi-K2 docs/tool_call_guidance.md", "2025-07-31"),
        Reference("blog.vllm.ai/2025/10/28/Kimi-K2-Accuracy.html", "2025-10-28"),
    ),
    heal=heal,
)
