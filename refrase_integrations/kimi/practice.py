"""What a practice is: one frozen value with at most two pure functions, one for the request, one for the reply."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypedDict

from refrase_integrations.errors import PracticeError, ReplyError
from refrase_integrations.kimi.messages import most_tokens
from refrase_integrations.kimi.wire import NOTHING, Body, Message, Tool, ToolCall, Usage

if TYPE_CHECKING:
    from refrase_integrations.kimi.dialect import Dialect
    from refrase_integrations.kimi.report import Report
    from refrase_integrations.kimi.settings import Practices
    from refrase_integrations.kimi.tokens import TokenCounter

Mode = Literal["apply", "warn", "error", "off"]
Scope = Literal["messages", "request"]
Kind = Literal["add", "encode", "replace", "drop", "advise", "refuse"]
Takes = Literal["all", "answer", "calls"]
"""What of a reply goes on to the user: everything, all but reasoning, or tool calls alone."""


class Reference(NamedTuple):
    """Where a practice is documented."""

    address: str
    """Address of the page, or name of the document."""
    as_of: str
    """ISO date on which it said so."""
    grade: Literal["A", "B", "C"] = "A"
    """A: official or measured. B: a public file that quotes the official page. C: third party only."""


class Change(NamedTuple):
    """One thing that a practice does to a request, or finds in it."""

    kind: Kind
    """add: fills what was left open. encode: the same meaning in the host's form. replace, drop: overrides or
    removes what the user set or wrote. advise: only says so. refuse: cannot be sent, or handed out, as it is."""
    detail: str
    """Names and numbers, never prompt text."""


class Edit(NamedTuple):
    """What a practice makes of a request."""

    body: Body
    """The same object where nothing changed."""
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class Followup:
    """Another model call that a reply needs, as a plain value."""

    body: Body
    """The next request, in the user's form: it is prepared like any other."""
    reason: str
    """For the report. No prompt text."""
    practice: str = ""
    """Filled in by the engine."""
    stream: bool | None = None
    """Whether to stream it; None: as the first."""
    takes: Takes = "all"
    """What to take from the next reply: reasoning or text of this one that was handed out already is not repeated."""
    counts: bool = True
    """Whether it is one of the extra calls that `Practices.extra_calls` allows; handing a host's builtin tool its own
    arguments back is none: nothing went wrong."""


class Delta(TypedDict, total=False):
    """A clean piece of a reply on its way to the user."""

    content: str
    reasoning: str
    """Reasoning text, whatever field the host used."""
    tool_calls: list[ToolCall]
    """Whole calls (fragments only between the reader and the assembler)."""
    finish_reason: str
    usage: Usage
    """Of this reply at its end, for the steps; of the whole user call in the last delta."""
    report: dict[str, Any]
    notes: list[Change]
    """A step's words; the engine takes them off before the next step sees the delta."""
    followup: Followup
    extra: dict[str, Any]
    """Response id, model name, reasoning field, reasoning_details, logprobs: passed on as they are."""


class Step(Protocol):
    """One stage of healing for one reply. No I/O; it holds back what it cannot decide yet."""

    def feed(self, delta: Delta) -> Sequence[Delta]:
        """Take one delta, return what may go on: the same object where nothing about it changes."""

    def close(self, finish_reason: str | None) -> Iterable[Delta]:
        """The reply is over: return what was held back, notes, perhaps a corrected finish reason or a followup."""


class DozingStep(Step, Protocol):
    """A step that plain text passes as it is: while it and all steps before it are idle, such text passes them by.

    Plain is a delta of nothing but ``content`` and ``reasoning`` in which no markup of the model's can begin.
    """

    @property
    def idle(self) -> bool:
        """Whether plain text would pass as it is."""

    def catch_up(self, content: str, reasoning: str) -> None:
        """Take note of what passed by; called before the next delta that it sees, or the end."""


@dataclass(frozen=True)
class Call:
    """One user's call: the body as the user meant it, and what only the caller can know."""

    body: Body
    dialect: Dialect
    practices: Practices
    count: TokenCounter
    """For context-window and output-budget: exact where the vocabulary was found."""
    scope: Scope = "request"
    """A node that edits a graph's state says "messages": no wire forms."""
    thinking: bool | None = None
    """The user's wish; None: the model's default."""
    auto: str = ""
    """Why ``thinking="auto"`` came out as it did; empty: it was not asked for."""
    extra: Mapping[str, Any] = field(default=NOTHING)
    """The user's own body fields: merged last, as they are."""
    thread_id: str | None = None
    """For prompt-cache."""
    live_tools: frozenset[str] = frozenset()
    """For fresh-data: names of the tools that the user marked."""
    tools_known: bool = True
    """Whether the body names every tool of the request; a surface that does not know them says no."""
    now: datetime | None = None
    """For fresh-data in mode "error"; never written into a message."""
    salt: str = ""
    """Distinguishes the tool-call ids of replies to which the host gave no response id."""
    strict: bool = False
    """The second try after a structural 400."""
    asked: tuple[str, ...] = ()
    """Ids of the practices that have followed up so far."""
    takes: Takes = "all"
    """What of the reply goes on to the user."""
    handed_back: int = 0
    """How often a host's builtin tool was handed its arguments back so far."""
    resumes: int = 0
    """How often streams that break may be taken up again."""
    resumed: int = 0
    """How often that was so far: who sends waits longer each time."""
    continues: int = 0
    """How often replies that are cut at the output limit may be carried on."""
    origins: tuple[tuple[Message, Any], ...] = ()
    """The framework's own message that each wire message was made of: one that no practice touched can be handed on to
    another model as it is."""

    _bounds: list[tuple[list[Message], list[Tool] | None, int]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def most_tokens(self, messages: list[Message], tools: list[Tool] | None) -> int:
        """Return an upper bound of a prompt's tokens; worked out once for the same two lists. See `most_tokens`."""
        for known, declared, bound in self._bounds:
            if known is messages and declared is tools:
                return bound
        bound = most_tokens(messages, tools)
        self._bounds.append((messages, tools, bound))
        return bound

    def tokens(self, messages: list[Message], tools: list[Tool] | None) -> int:
        """Return the tokens of a prompt in this dialect's template, by the call's counter."""
        dialect = self.dialect
        return self.count.request(messages, tools, format=dialect.template, keep_reasoning=dialect.keeps_reasoning)


@dataclass(frozen=True)
class Prepared:
    """A request that may leave the house."""

    call: Call
    body: Body
    report: Report

    @property
    def stream(self) -> bool:
        """Whether the reply is to be streamed."""
        return bool(self.body.get("stream"))


@dataclass(frozen=True, kw_only=True)
class Practice:
    """One documented practice."""

    id: str
    """Such as "temperature"; the module and the settings field are the id with "_"."""
    statement: str
    """One sentence: the command line, the docs and the report show this one."""
    sources: tuple[Reference, ...]
    default: Mode = "apply"
    scope: Scope = "request"
    """"messages": also right where somebody else sends the request."""
    error: type[PracticeError] | type[ReplyError] = PracticeError
    reply_error: type[ReplyError] | None = None
    """Raised instead where it refuses a reply; None: `error`."""
    apply: Callable[[Body, Call], Edit] | None = None
    heal: Callable[[Prepared], Step | None] | None = None
    leave: Callable[[Body, Call], Edit] | None = None
    """Puts a value into another protocol's terms, once, as the request leaves the house: not idempotent, so it is no
    part of `apply`."""

    @cached_property
    def setting(self) -> str:
        """The settings field."""
        return self.id.replace("-", "_")


def unchanged(body: Body) -> Edit:
    """Return the edit that changes nothing."""
    return Edit(body, [])


def messages_of(body: Body) -> list[Message]:
    """Return the messages of a body; an absent list is an empty one."""
    return body.get("messages") or []
