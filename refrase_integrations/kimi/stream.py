"""The healing pipeline: raw chunks in, clean deltas out.

``read`` -> ``_Assembler`` (fragments to whole calls) -> one governed step per practice, in the reverse of the order
in which the request was prepared -> the user. A whole response is one chunk, so both ways share one path.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple, cast

from refrase_integrations.errors import ReplyError
from refrase_integrations.kimi.practice import (
    Change,
    Delta,
    DozingStep,
    Followup,
    Mode,
    Practice,
    Prepared,
    Step,
    Takes,
)
from refrase_integrations.kimi.practices import at_work
from refrase_integrations.kimi.prepare import STOPS, prepare
from refrase_integrations.kimi.tokenformat import may_hold_markup
from refrase_integrations.kimi.usage import add_usage, latest_usage, read_usage
from refrase_integrations.kimi.wire import Chunk, FunctionCall, ToolCall, Usage, put

_PASSED_ON = ("id", "model", "created", "system_fingerprint", "service_tier", "provider")


class Received(NamedTuple):
    """What a host sent of one reply."""

    content: str
    reasoning: str | None
    """None: the reply has none."""
    calling: bool
    """It had begun a tool call."""
    finish: str | None


class Healer:
    """Heals one reply. `feed` takes raw chunks, `close` ends the reply; `again` is then the next request, if any.

    Args:
        prepared: the request that the reply answers.
        before: the healer of the attempt before this one, whose usage and report are carried on.
    """

    def __init__(self, prepared: Prepared, before: Healer | None = None) -> None:
        self.prepared = prepared
        self.again: Prepared | None = None
        self.started = False
        """Whether anything was handed out."""
        self.said = False
        """Whether reasoning, text or a call was handed out."""
        self._usage: Usage | None = None
        self._parts: Usage | None = None
        self._earlier = before.usage if before else None
        self._lines: dict[int, _Line] = {}
        if before is not None:
            prepared.report.healed[:0] = before.prepared.report.healed

    @property
    def usage(self) -> Usage | None:
        """Tokens of this call and the attempts before it, summed."""
        return add_usage(self._earlier, self._of_reply())

    def _of_reply(self) -> Usage | None:
        return add_usage(self._parts, self._usage)

    @property
    def told(self) -> bool:
        """Whether the host told the tokens of the response under way."""
        return self._usage is not None

    def received(self) -> Received:
        """Return what the host sent so far, as it sent it: also what a step holds back."""
        line = self._lines.get(0)
        return line.received() if line is not None else Received("", None, calling=False, finish=None)

    def go_on(self) -> None:
        """The host goes on with the same text in another response. The steps do not notice: they see one text."""
        self._parts, self._usage = self._of_reply(), None
        for line in self._lines.values():
            line.go_on()

    def start_over(self) -> None:
        """Forget what the host sent: nothing of it was handed out."""
        self._parts, self._usage = self._of_reply(), None
        self._lines = {}

    def feed(self, chunk: Chunk) -> list[Delta]:
        """Take one raw chunk (or a whole response), return what may go on to the user."""
        usage = read_usage(chunk)
        if usage is not None:
            self._usage = latest_usage(self._usage, usage)
        out: list[Delta] = []
        for choice in chunk.get("choices") or ():
            index = choice.get("index") or 0
            line = self._lines.get(index)
            if line is None:
                line = self._lines[index] = _Line(self.prepared, index)
                out += line.open({key: chunk[key] for key in _PASSED_ON if chunk.get(key) is not None})
            out += line.feed(choice)
        if out and not self.said:
            self.started = True
            self.said = any(delta.get(key) for delta in out for key in ("content", "reasoning", "tool_calls"))
        return out

    def close(self) -> list[Delta]:
        """End the reply: what was held back, then one last delta per choice (finish reason, usage, report)."""
        if not self._lines:
            self._lines[0] = _Line(self.prepared, 0)
        out: list[Delta] = []
        try:
            for line in self._lines.values():
                out += line.close(self._of_reply())
        except ReplyError as error:
            error.usage = self.usage
            raise
        first = next(iter(self._lines.values()))
        if first.followup is not None and len(self._lines) == 1:
            self.again = _next(self.prepared, first.followup)
            return out
        report = self.prepared.report.as_dict()
        for number, line in enumerate(self._lines.values()):
            last = line.last()
            if number == 0 and self.usage is not None:
                last["usage"] = self.usage
            last["report"] = report
            out.append(last)
        return out


def fold(deltas: Iterable[Delta]) -> list[Delta]:
    """Join the deltas of a reply into one whole delta per choice, in the order of the choices."""
    whole: dict[int, dict[str, Any]] = {}
    texts: dict[int, dict[str, list[str]]] = {}
    for delta in deltas:
        index = delta.get("extra", {}).get("choice", 0)
        target = whole.setdefault(index, {})
        for key, value in cast("dict[str, Any]", delta).items():
            if key in ("content", "reasoning"):
                texts.setdefault(index, {}).setdefault(key, []).append(value)
            elif key == "tool_calls":
                target.setdefault(key, []).extend(value)
            elif key == "extra":
                target["extra"] = _joined_extra(target.get("extra", {}), value)
            else:
                target[key] = value
    for index, parts in texts.items():
        whole[index].update({key: "".join(pieces) for key, pieces in parts.items()})
    return [cast(Delta, whole[index]) for index in sorted(whole)]


def _joined_extra(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    joined = {**old, **new}
    logprobs = [part["logprobs"] for part in (old, new) if isinstance(part.get("logprobs"), dict)]
    if len(logprobs) == 2:
        content = [entry for part in logprobs for entry in part.get("content") or ()]
        joined["logprobs"] = {**logprobs[0], "content": content}
    return joined


def _next(prepared: Prepared, followup: Followup) -> Prepared:
    call = prepared.call
    body = followup.body
    if followup.stream is not None:
        body = put(
            body,
            stream=followup.stream or None,
            stream_options=body.get("stream_options") if followup.stream else None,
        )
    asked = (*call.asked, followup.practice) if followup.counts else call.asked
    handed = call.handed_back + (not followup.counts)
    takes = max(call.takes, followup.takes, key=_TAKES.index)  # what an earlier reply handed out stays handed out
    return prepare(replace(call, body=body, asked=asked, takes=takes, handed_back=handed))


_TAKES: tuple[Takes, ...] = ("all", "answer", "calls")


class _Line:
    """The pipeline of one choice."""

    def __init__(self, prepared: Prepared, index: int) -> None:
        self._prepared = prepared
        self._index = index
        self._dialect = prepared.call.dialect
        self._assembler = _Assembler()
        self._steps = _steps(prepared)
        self._handed_out = _HANDED_OUT[prepared.call.takes]
        self._finish: str | None = None
        self._details: list[Any] = []
        self._reasoning_key: str | None = None
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._goes_on = False
        self._as_it_is = not self._handed_out and not index
        self._asleep = 0
        """How many steps doze, from the first on."""
        self._awake = self._steps
        self._seen = (0, 0)
        """Pieces of content and reasoning that the dozing steps have seen."""
        self._doze()
        self.followup: Followup | None = None

    def received(self) -> Received:
        reasoning = None if self._reasoning_key is None else "".join(self._reasoning)
        return Received("".join(self._content), reasoning, calling=self._assembler.begun, finish=self._finish)

    def go_on(self) -> None:
        self._assembler = _Assembler()  # no call has left: the host writes those that it had begun once more
        self._goes_on = True

    def open(self, extra: dict[str, Any]) -> list[Delta]:
        return self._through([{"extra": extra}], self._steps) if extra else []

    def feed(self, choice: Mapping[str, Any]) -> list[Delta]:
        whole = choice.get("message")
        raw = whole if whole is not None else choice.get("delta")
        if choice.get("finish_reason"):
            self._finish = choice["finish_reason"]
        if not raw:
            return []
        delta = self._read(raw)
        if raw.get("tool_calls"):
            self._assembler.feed(raw["tool_calls"], whole=whole is not None)
        elif raw.get("function_call"):  # the old form, still sent by a few gateways
            self._assembler.feed([{"index": 0, "function": raw["function_call"]}], whole=whole is not None)
        if choice.get("logprobs"):
            delta.setdefault("extra", {})["logprobs"] = choice["logprobs"]
        if not delta:
            return []
        if self._asleep:
            if _is_plain(delta):
                if self._awake or not self._as_it_is:
                    return self._through([delta], self._awake)
                return [delta]
            self._wake(delta)
        out = self._through([delta], self._steps)
        self._doze()
        return out

    def close(self, usage: Usage | None) -> list[Delta]:
        out: list[Delta] = []
        self._wake({})
        calls, notes = self._assembler.calls()
        if notes:
            self._prepared.report.heal(ASSEMBLY, notes)
        if usage is not None:
            out += self._through([{"usage": usage}], self._steps)
        if calls:
            out += self._through([{"tool_calls": calls}], self._steps)
        finish = self._finish
        for number, step in enumerate(self._steps):
            if self.followup is not None and self.followup.takes != "calls":
                break  # what the later steps hold belongs to a reply that the next one replaces
            for delta in step.close(finish):
                finish = delta.get("finish_reason") or finish
                out += self._through([delta], self._steps[number + 1 :])
        self._finish = finish
        return out

    def last(self) -> Delta:
        last: Delta = {"finish_reason": self._finish or "stop"}
        extra: dict[str, Any] = {}
        if self._details:
            extra["reasoning_details"] = self._details
        if self._index:
            extra["choice"] = self._index
        if extra:
            last["extra"] = extra
        return last

    def _read(self, raw: Mapping[str, Any]) -> Delta:
        delta: Delta = {}
        content = raw.get("content")
        if content:
            delta["content"] = said = content if isinstance(content, str) else _text_of_parts(content)
            self._content.append(said)
        if self._goes_on:  # it may reason about how to go on: not what led to the text
            return delta
        # An empty string means "reasoned, nothing said" and is kept; null means nothing. Text goes before no text.
        key, reasoning = None, None
        for name in self._dialect.reasoning_in:
            text = raw.get(name)
            if text and isinstance(text, str):
                key, reasoning = name, text
                break
            if text == "" and key is None:
                key, reasoning = name, text
        if reasoning is not None and (reasoning or self._reasoning_key is None):
            delta["reasoning"] = reasoning
            self._reasoning.append(reasoning)
            if self._reasoning_key is None:
                self._reasoning_key = key
                delta["extra"] = {"reasoning_key": key}
        details = raw.get("reasoning_details")
        if details and self._prepared.call.takes != "calls":
            _merge_details(self._details, details)
        return delta

    def _doze(self) -> None:
        """Let plain text pass by the steps that would hand it on as it is, from the first on."""
        self._asleep = next((place for place, step in enumerate(self._steps) if not step.idle), len(self._steps))
        self._awake = self._steps[self._asleep :]
        self._seen = (len(self._content), len(self._reasoning))

    def _wake(self, current: Delta) -> None:
        """Tell the steps that doze what passed them by before ``current``."""
        content, reasoning = self._seen
        missed = "".join(self._content[content : len(self._content) - ("content" in current)])
        thought = "".join(self._reasoning[reasoning : len(self._reasoning) - ("reasoning" in current)])
        if missed or thought:
            for step in self._steps[: self._asleep]:
                step.catch_up(missed, thought)
        self._asleep, self._awake = 0, self._steps

    def _through(self, deltas: list[Delta], steps: list[_Governed]) -> list[Delta]:
        for step in steps:
            if len(deltas) == 1:
                deltas = step.feed(deltas[0])
            else:
                deltas = [passed for delta in deltas for passed in step.feed(delta)]
        return [taken for delta in deltas if (taken := self._taken(delta))]

    def _taken(self, delta: Delta) -> Delta:
        if self._handed_out:  # only here: the steps have to see the text, a call may have leaked into it
            delta = cast(Delta, {k: v for k, v in delta.items() if k not in self._handed_out})
        if not _OURS.isdisjoint(delta):
            self.followup = self.followup or delta.get("followup")
            delta = cast(Delta, {k: v for k, v in delta.items() if k not in _OURS})
        if self._index and delta:  # also what a step made or held back belongs to this choice
            delta = cast(Delta, {**delta, "extra": {**delta.get("extra", {}), "choice": self._index}})
        return delta


def _is_plain(delta: Delta) -> bool:
    texts = 0
    for key in _TEXTS:
        text = delta.get(key)
        if text is not None:
            if "<" in text and may_hold_markup(text):
                return False
            texts += 1
    return texts == len(delta)


_TEXTS: tuple[Literal["content", "reasoning"], ...] = ("content", "reasoning")


_HANDED_OUT: Mapping[Takes, frozenset[str]] = {
    "all": frozenset(),
    "answer": frozenset({"reasoning"}),
    "calls": frozenset({"reasoning", "content"}),
}
_OURS = frozenset({"followup", "finish_reason", "usage"})
"""What steps say to one another and to the engine; the last delta of the reply has its own."""


class _Governed:
    """A step under its practice's mode; takes its notes into the report."""

    def __init__(self, practice: Practice, mode: Mode, step: Step, prepared: Prepared) -> None:
        self._practice, self._mode, self._step, self._prepared = practice, mode, step, prepared
        self._dozes = hasattr(step, "catch_up")

    @property
    def idle(self) -> bool:
        return self._dozes and cast(DozingStep, self._step).idle

    def catch_up(self, content: str, reasoning: str) -> None:
        cast(DozingStep, self._step).catch_up(content, reasoning)

    def feed(self, delta: Delta) -> list[Delta]:
        made = self._step.feed(delta)
        if len(made) != 1 or made[0] is not delta:  # nearly every piece of text passes as it is
            made = self._said(made)
        return [delta] if self._mode == "warn" else list(made)

    def close(self, finish_reason: str | None) -> list[Delta]:
        made = self._said(self._step.close(finish_reason))
        return [] if self._mode == "warn" else made

    def _said(self, made: Iterable[Delta]) -> list[Delta]:
        spoken = [self._noted(delta) if "notes" in delta or "followup" in delta else delta for delta in made]
        return [delta for delta in spoken if delta]

    def _noted(self, delta: Delta) -> Delta:
        notes = delta.get("notes")
        if notes:
            stops = [note for note in notes if note.kind in STOPS[self._mode]]
            if stops:
                refused = any(note.kind == "refuse" for note in stops)
                error = (self._practice.reply_error if refused else None) or self._practice.error
                raise error.of(self._practice, stops, self._prepared.call.dialect)
            self._prepared.report.heal(self._practice, notes, advised=self._mode == "warn")
        followup = delta.get("followup")
        delta = cast(Delta, {key: value for key, value in delta.items() if key != "notes"})
        if followup is not None and not followup.practice:  # else it only passes through
            delta["followup"] = replace(followup, practice=self._practice.id)
        return delta


def _steps(prepared: Prepared) -> list[_Governed]:
    steps = []
    for practice, mode in reversed(at_work(prepared.call.practices)):  # what was done last is undone first
        step = practice.heal(prepared) if practice.heal is not None else None
        if step is not None:
            steps.append(_Governed(practice, mode, step, prepared))
    return steps


ASSEMBLY = Practice(id="assembly", statement="Puts tool calls together from the pieces that hosts send.", sources=())
"""Not a setting: without it there is no tool call to hand out."""


class _Assembler:
    """Puts fragments of tool calls together: by position, by id where the position is missing or wrong."""

    def __init__(self) -> None:
        self._slots: list[_Slot] = []
        self._notes: list[Change] = []

    @property
    def begun(self) -> bool:
        return bool(self._slots)

    def feed(self, fragments: Iterable[Mapping[str, Any]], *, whole: bool) -> None:
        for fragment in fragments:
            slot = None if whole else self._slot_of(fragment)
            if slot is None:
                slot = _Slot(fragment.get("index"))
                self._slots.append(slot)
            slot.take(fragment)

    def _slot_of(self, fragment: Mapping[str, Any]) -> _Slot | None:
        index, made = fragment.get("index"), fragment.get("id")
        name = (fragment.get("function") or {}).get("name")
        same_index = next((slot for slot in reversed(self._slots) if index is not None and slot.index == index), None)
        same_id = next((slot for slot in reversed(self._slots) if made and slot.id == made), None)
        if same_index is not None:
            if made and same_index.id and made != same_index.id:
                if same_id is None:
                    self._note("encode", "a wrong index put two calls in one place: told apart by id")
                return same_id  # one index for several calls (vllm-project/vllm#24478)
            return same_index
        if same_id is not None:
            if name and same_id.complete():
                return None  # a new call under an id that was used before (fireconnect#16)
            self._note("encode", "a call cut in two was joined by its id")
            return same_id
        if made or name or not self._slots:
            if index is None:
                self._note("encode", "tool-call pieces without index: put together by id and order")
            return None
        if index is None or not self._slots[-1].complete():
            return self._slots[-1]
        return None

    def _note(self, kind: Any, detail: str) -> None:
        change = Change(kind, detail)
        if change not in self._notes:
            self._notes.append(change)

    def calls(self) -> tuple[list[ToolCall], list[Change]]:
        """Return the whole calls, in order, and what had to be mended."""
        return [slot.call() for slot in self._slots if slot.name or slot.arguments], self._notes


class _Slot:
    __slots__ = ("_parts", "extra", "id", "index", "name", "type")

    def __init__(self, index: Any) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.type = "function"
        self._parts: list[str] = []

    @property
    def arguments(self) -> str:
        return "".join(self._parts)

    def take(self, fragment: Mapping[str, Any]) -> None:
        function = fragment.get("function") or {}
        self.id = self.id or fragment.get("id") or ""
        self.type = fragment.get("type") or self.type
        name = function.get("name")
        if name and not self._parts and name != self.name:
            self.name += name
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            self._parts.append(arguments)
        elif arguments is not None:  # some gateways send the object itself
            self._parts.append(json.dumps(arguments, ensure_ascii=False))

    def complete(self) -> bool:
        try:
            return isinstance(json.loads(self.arguments), dict)
        except (ValueError, RecursionError):
            return False

    def call(self) -> ToolCall:
        function: FunctionCall = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": self.type, "function": function}


def _text_of_parts(content: Any) -> str:
    parts = content if isinstance(content, list) else [content]
    return "".join(part.get("text") or "" for part in parts if isinstance(part, Mapping))


_GROWING = frozenset({"text", "summary", "data", "thinking", "signature"})


def _merge_details(kept: list[Any], details: Iterable[Any]) -> None:
    """Join streamed ``reasoning_details`` as hosts want them back: one entry an index and type, unmodified."""
    for detail in details:
        last = kept[-1] if kept else None
        if (
            isinstance(last, dict)
            and isinstance(detail, Mapping)
            and last.get("type") == detail.get("type")
            and last.get("index") == detail.get("index")
        ):
            for key, value in detail.items():
                if key in _GROWING and isinstance(value, str) and isinstance(last.get(key), str):
                    last[key] += value
                elif value is not None:
                    last[key] = value
        else:
            kept.append(dict(detail) if isinstance(detail, Mapping) else detail)
