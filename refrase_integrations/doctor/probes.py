"""What is looked at, probe by probe: each sends a request or a few and says what came of it.

The first stage learns how the host speaks (its reasoning field, its tool calls); the second builds on that. No prompt
here depends on what a model knows: what is judged is the form of the answer.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refrase_integrations.doctor.findings import Finding, flag, rate, unseen, valued
from refrase_integrations.doctor.patient import REASONING, Answer, Call, Patient

LEAK = "<|tool_call"


@dataclass
class Seen:
    """What the first stage learned."""

    field: str | None = None
    """Field that carries the reasoning."""
    taken: tuple[str, ...] = ()
    """Fields in which reasoning may come back."""
    thinks: bool = False
    """Whether reasoning was seen without a switch."""

    @property
    def back(self) -> str | None:
        """The field in which a client sends reasoning back."""
        return self.field if self.field in self.taken else self.taken[0] if self.taken else None


@dataclass(frozen=True)
class Probe:
    """One thing to look at."""

    id: str
    stage: int
    requests: Callable[[int], int]
    """How many requests it sends, for a number of tries."""
    run: Callable[[Patient, Seen, int], Awaitable[list[Finding]]] = field(repr=False)


PROBES: list[Probe] = []
_Run = Callable[[Patient, Seen, int], Awaitable[list[Finding]]]


def _probe(id: str, requests: int | Callable[[int], int], *, stage: int = 2) -> Callable[[_Run], _Run]:
    count = requests if callable(requests) else lambda _tries: requests

    def register(run: _Run) -> _Run:
        PROBES.append(Probe(id, stage, count, run))
        return run

    return register


# -- the conversation ------------------------------------------------------------------------------------------


def _tool(name: str, description: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": [*properties]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


WEATHER = _tool(
    "get_weather", "Get the current weather in a city.", city={"type": "string", "description": "The city."}
)
_LINES = "milk\nbread\tand butter"
_OPTIONS = {"type": "object", "properties": {"bold": {"type": "boolean"}}, "required": ["bold"]}
NOTE = _tool("write_note", "Write a note.", text={"type": "string", "enum": [_LINES]}, options=_OPTIONS)
TWO_CITIES = "What is the weather in Paris and in Rome? Call get_weather for each city, both at once."
ONE_CITY = "What is the weather in Paris?"
WRITE = "Write a note. Call write_note with the one text that its schema allows."
HELLO = "Say hello in one word."


def _made(patient_field: str | None, id: str = "functions.get_weather:0") -> list[dict[str, Any]]:
    """Return a turn in which the model called a tool, and its result."""
    function = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    called: dict[str, Any] = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": id, "type": "function", "function": function}],
    }
    if patient_field in ("reasoning_content", "reasoning"):
        called[patient_field] = "I look it up."
    result = {"role": "tool", "tool_call_id": id, "name": "get_weather", "content": "11 degrees, rain"}
    return [{"role": "user", "content": ONE_CITY}, called, result]


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _refusal(answer: Answer) -> bool | None:
    """Tell whether the host refused; None where something else kept it from answering."""
    return True if answer.refused else None if answer.error is not None else False


def _words(answer: Answer) -> str:
    return f" ({answer.error.seen[:120]})" if answer.error is not None else ""


# -- first stage -----------------------------------------------------------------------------------------------


@_probe("models", 1, stage=1)
async def models(patient: Patient, _seen: Seen, _tries: int) -> list[Finding]:
    """Whether the host lists its models, and this one among them."""
    answer = await patient.list_models()
    listed = [entry.get("id") for entry in (answer.chunks[0].get("data") or [])] if answer.chunks else None
    if listed is None:
        return [unseen("models")]
    found = patient.name in listed
    words = f"{len(listed)} models; {patient.name} is {'' if found else 'not '}among them"
    return [valued("models", found, words, right=found)]


@_probe("replies", lambda tries: tries, stage=1)
async def replies(patient: Patient, seen: Seen, tries: int) -> list[Finding]:
    """The reply to a plain question: where reasoning stands, whether there is an answer."""
    answers = [
        a for a in await _all(patient.ask(HELLO, max_tokens=patient.room) for _ in range(tries)) if a.error is None
    ]
    fields = sorted({name for answer in answers for name in answer.reasoning_fields}, key=REASONING.index)
    tagged = sum("<think>" in answer.content for answer in answers)
    seen.field = fields[0] if fields else None
    seen.thinks = any(answer.thinks for answer in answers)
    empty = [a for a in answers if a.reasoning_fields and not a.content.strip() and not a.calls]
    wanted = patient.reasons
    where = ", ".join(fields) or ("in the content" if tagged else "none was seen")
    known = bool(fields) or not wanted or not tagged
    right = None if not known else fields == ["reasoning_content"] or not wanted
    return [
        valued("reasoning-field", fields if known else None, where, right=right),
        rate("think-tags", tagged, len(answers)),
        rate("reasoning-only", len(empty), len(answers)),
    ]


@_probe("stream", 2, stage=1)
async def stream(patient: Patient, _seen: Seen, _tries: int) -> list[Finding]:
    """How a stream comes: its pieces, its usage."""
    asked = {"stream": True, "max_tokens": patient.room}
    with_usage, plain = await _all(
        [patient.ask(HELLO, **asked, stream_options={"include_usage": True}), patient.ask(HELLO, **asked)]
    )
    best = plain if with_usage.error is not None else with_usage
    if best.error is not None:
        return [unseen("stream"), unseen("stream-usage")]
    places = [place for place, found in _usage_places(best).items() if found]
    words = ", ".join(f"in the {_PLACES[place]}" for place in places) or "none"
    return [
        flag("stream", best.finish is None, f", {len(best.chunks)} pieces"),
        valued("stream-usage", places, words, right=places == ["final"]),
    ]


_PLACES = {"choice": "last choice", "final": "final chunk"}


def _usage_places(answer: Answer) -> dict[str, bool]:
    final = any(isinstance(chunk.get("usage"), Mapping) and not chunk.get("choices") for chunk in answer.chunks)
    choices = [choice for chunk in answer.chunks for choice in chunk.get("choices") or ()]
    return {"choice": any(isinstance(choice.get("usage"), Mapping) for choice in choices), "final": final}


@_probe("reasoning-fields", len(REASONING), stage=1)
async def reasoning_fields(patient: Patient, seen: Seen, _tries: int) -> list[Finding]:
    """In which fields reasoning may come back."""
    said: dict[str, Any] = {name: "I greet." for name in REASONING}
    said["reasoning_details"] = [{"type": "reasoning.text", "text": "I greet.", "index": 0}]
    answers = await _all(
        patient.ask(
            [_user("Hi."), {"role": "assistant", "content": "Hello.", name: said[name]}, _user(HELLO)],
            max_tokens=patient.room,
        )
        for name in REASONING
    )
    seen.taken = tuple(name for name, answer in zip(REASONING, answers, strict=True) if not answer.refused)
    words = ", ".join(seen.taken) or "none"
    return [valued("reasoning-fields", [*seen.taken], words, right=seen.taken == REASONING)]


@_probe("tool-calls", lambda tries: 3 * tries, stage=1)
async def tool_calls(patient: Patient, seen: Seen, tries: int) -> list[Finding]:
    """Tool calls, whole and streamed, and their arguments."""
    asked = {"tools": [WEATHER], "max_tokens": patient.room}
    note = {"tools": [NOTE], "max_tokens": patient.room}
    answers = await _all(
        [
            *(patient.ask(TWO_CITIES, **asked) for _ in range(tries)),
            *(patient.ask(TWO_CITIES, **asked, stream=True) for _ in range(tries)),
            *(patient.ask(WRITE, **note) for _ in range(tries)),
        ]
    )
    whole, streamed, notes = (
        [answer for answer in answers[n * tries : (n + 1) * tries] if answer.error is None] for n in range(3)
    )
    return [
        *_call_forms([*whole, *streamed, *notes]),
        *_leaks([*whole, *streamed, *notes]),
        *_streamed_calls(streamed),
        # What the output limit cut is the probe's own fault.
        *_arguments([call for one in (*whole, *streamed, *notes) if one.finish != "length" for call in one.calls]),
    ]


def _call_forms(answers: Sequence[Answer]) -> Iterator[Finding]:
    calling = [answer for answer in answers if answer.calls]
    forms = Counter(_form(call) for answer in calling for call in answer.calls)
    form = forms.most_common(1)[0][0] if forms else None
    named = {"functions": "functions.{name}:{index}", "name": "{name}:{index}", "opaque": "of the host's own"}
    words = named.get(form or "", "no call was seen")
    yield valued("tool-ids", form, words, right=None if form is None else True)
    several = [answer for answer in calling if len(answer.calls) > 1]
    twice = sum(len({call.id for call in answer.calls}) < len(answer.calls) for answer in several)
    yield rate("ids-twice", twice, len(several))
    stray = sum(any(call.name not in ("get_weather", "write_note") for call in answer.calls) for answer in calling)
    yield rate("undeclared-calls", stray, len(calling))


def _form(call: Call) -> str:
    if re.fullmatch(r"functions\.[\w.\-]+:\d+", call.id):
        return "functions"
    return "name" if re.fullmatch(r"[\w.\-]+:\d+", call.id) else "opaque"


def _leaks(answers: Sequence[Answer]) -> Iterator[Finding]:
    count = len(answers)
    content = [answer.text for answer in answers if LEAK in answer.text]
    thoughts = [answer.thoughts for answer in answers if LEAK in answer.thoughts]
    leaked = [*content, *thoughts]
    yield rate("leaks-in-content", len(content), count)
    yield rate("leaks-in-reasoning", len(thoughts), count)
    yield rate("leaks-open", sum("<|tool_calls_section_end|>" not in text for text in leaked), count)
    bare = re.compile(r"<\|tool_call_begin\|>(?!functions\.)")
    yield rate("leaks-bare-ids", sum(bool(bare.search(text)) for text in leaked), count)


def _streamed_calls(answers: Sequence[Answer]) -> Iterator[Finding]:
    lost = [a for a in answers if a.finish == "tool_calls" and not a.calls]
    calling = [a for a in answers if a.calls]
    several = [a for a in calling if len(a.calls) > 1]
    missing = sum(any(call.index is None for call in answer.calls) for answer in calling)
    same = sum(len({call.index for call in a.calls}) < len(a.calls) and a.calls[0].index is not None for a in several)
    yield rate("lost-calls", len(lost), len(answers))
    yield rate("index-missing", missing, len(calling))
    yield rate("index-wrong", same, len(several))


def _arguments(calls: Sequence[Call]) -> Iterator[Finding]:
    faults = Counter(_argument_fault(call) for call in calls)
    for id in ("arguments-nested", "arguments-comma", "arguments-control", "arguments-cut"):
        yield rate(id, faults[id], len(calls), ("call", "calls"))


def _argument_fault(call: Call) -> str:
    text = call.arguments
    try:
        options = json.loads(text).get("options")
        return "arguments-nested" if isinstance(options, str) else ""
    except (ValueError, AttributeError):
        pass
    bare = re.sub(r",\s*}\s*$", "}", text)
    try:
        json.loads(bare, strict=False)
    except ValueError:
        return "arguments-cut"
    return "arguments-comma" if bare != text else "arguments-control"


# -- second stage: what the host takes -------------------------------------------------------------------------

SWITCHES = (
    "thinking",
    "reasoning.enabled",
    "reasoning.effort",
    "reasoning_effort",
    "enable_thinking",
    "think",
    "chat_template_kwargs.thinking",
    "chat_template_kwargs.enable_thinking",
    "chat_template_args.enable_thinking",
)


def switched(path: str, *, on: bool) -> dict[str, Any]:
    """Return the body fields that switch thinking by one of `SWITCHES`."""
    if path == "thinking":
        return {"thinking": {"type": "enabled" if on else "disabled"}}
    value: Any = ("high" if on else "none") if path.endswith("effort") else on
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


@_probe("thinking-switch", len(SWITCHES) + 1)
async def thinking_switch(patient: Patient, seen: Seen, _tries: int) -> list[Finding]:
    """Which switch turns thinking off."""
    if patient.model.thinking.mode != "hybrid":
        words = f"{patient.model.id} has none: it {'always' if seen.thinks else 'never'} thinks"
        return [valued("thinking-switch", [], words, right=True)]
    if not seen.thinks:
        return [unseen("thinking-switch")]
    answers = await _all(patient.ask(HELLO, max_tokens=patient.room, **switched(path, on=False)) for path in SWITCHES)
    quiet = [
        path
        for path, answer in zip(SWITCHES, answers, strict=True)
        if answer.error is None and answer.content.strip() and not answer.thinks
    ]
    # A model may skip reasoning of its own accord: a switch works if it also switches on.
    again = await _all(patient.ask(HELLO, max_tokens=patient.room, **switched(path, on=True)) for path in quiet)
    working = [path for path, answer in zip(quiet, again, strict=True) if answer.thinks]
    words = ", ".join(working) or "none of the known ones works"
    return [valued("thinking-switch", working, words, right=working == ["thinking"])]


@_probe("sampling", 2)
async def sampling(patient: Patient, _seen: Seen, _tries: int) -> list[Finding]:
    """Whether sampling is the caller's."""
    low, high = await _all(patient.ask(HELLO, max_tokens=patient.room, temperature=value) for value in (0.3, 1.5))
    fixed, limited = _refusal(low), _refusal(high)
    if fixed is None and limited is None:
        return [unseen("sampling")]
    value = "fixed" if fixed else "up to 1" if limited else "free"
    return [valued("sampling", value, f"{value}{_words(low) or _words(high)}", right=value == "free")]


@_probe("two-switches", 1)
async def two_switches(patient: Patient, _seen: Seen, _tries: int) -> list[Finding]:
    """Whether two switches for thinking at once are refused."""
    both = {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}
    answer = await patient.ask(HELLO, max_tokens=patient.room, **both)
    return [flag("two-switches", _refusal(answer), _words(answer))]


@_probe("tool-choice", 3)
async def tool_choice(patient: Patient, _seen: Seen, _tries: int) -> list[Finding]:
    """Which tool choices are taken, and kept to."""
    named = {"type": "function", "function": {"name": "get_weather"}}
    asked = {"tools": [WEATHER], "max_tokens": patient.room}
    none, required, name = await _all(
        [
            patient.ask(ONE_CITY, **asked, tool_choice="none"),
            patient.ask(HELLO, **asked, tool_choice="required"),
            patient.ask(HELLO, **asked, tool_choice=named),
        ]
    )
    refused = [word for word, answer in (("required", required), ("named", name)) if answer.refused]
    taken = ["none", "auto", *(word for word in ("required", "named") if word not in refused)]
    idle = [
        word
        for word, answer in (("required", required), ("named", name))
        if answer.error is None and not answer.calls and LEAK not in answer.content + answer.thoughts
    ]
    ignored = None if none.error is not None else bool(none.calls or LEAK in none.content + none.thoughts)
    words = f"refused: {', '.join(refused)}" if refused else "all taken"
    words += f"; without a call: {', '.join(idle)}" if idle else ""
    return [
        valued("tool-choice", taken, words, right=not refused and not idle, wrong=None if refused else "lossy"),
        flag("choice-none", ignored),
    ]


@_probe("tool-schemas", 1)
async def tool_schemas(patient: Patient, _seen: Seen, _tries: int) -> list[Finding]:
    """Whether a schema without types is refused."""
    untyped = _tool("set_unit", "Set the unit.", unit={"enum": ["metric", "imperial"]})
    answer = await patient.ask(HELLO, tools=[untyped], max_tokens=patient.room)
    return [flag("tool-schemas", _refusal(answer), _words(answer))]


@_probe("tool-names", 1)
async def tool_names(patient: Patient, _seen: Seen, _tries: int) -> list[Finding]:
    """Whether a name that begins with a digit is refused."""
    answer = await patient.ask(HELLO, tools=[_tool("21st_weather", "Weather of the 21st.")], max_tokens=patient.room)
    return [flag("tool-names", _refusal(answer), _words(answer))]


@_probe("history", 2)
async def history(patient: Patient, seen: Seen, _tries: int) -> list[Finding]:
    """Whether blank turns and unanswered calls are refused."""
    hanging = [*_made(seen.back)[:2], _user(HELLO)]
    blank = [_user("Hi."), {"role": "assistant", "content": ""}, _user(HELLO)]
    one, two = await _all(
        [patient.ask(hanging, tools=[WEATHER], max_tokens=patient.room), patient.ask(blank, max_tokens=patient.room)]
    )
    return [
        flag("unanswered-calls", _refusal(one), _words(one)),
        flag("blank-turns", _refusal(two), _words(two)),
    ]


@_probe("reasoning-required", 1)
async def reasoning_required(patient: Patient, _seen: Seen, _tries: int) -> list[Finding]:
    """Whether reasoning has to come back beside a tool call."""
    answer = await patient.ask([*_made(None), _user(HELLO)], tools=[WEATHER], max_tokens=patient.room)
    return [flag("reasoning-required", _refusal(answer), _words(answer))]


@_probe("foreign-fields", 1)
async def foreign_fields(patient: Patient, _seen: Seen, _tries: int) -> list[Finding]:
    """Whether a field of another vendor is refused."""
    part = {"type": "text", "text": HELLO, "cache_control": {"type": "ephemeral"}}
    answer = await patient.ask([{"role": "user", "content": [part]}], max_tokens=patient.room)
    return [flag("foreign-fields", _refusal(answer), _words(answer))]


@_probe("foreign-ids", 1)
async def foreign_ids(patient: Patient, seen: Seen, _tries: int) -> list[Finding]:
    """Whether a tool-call id of another vendor spoils the next call."""
    id = "call_0fa3c2"
    asked = [*_made(seen.back, id), _user("And what is the weather in Rome?")]
    answer = await patient.ask(asked, tools=[WEATHER], max_tokens=patient.room)
    spoiled = None if answer.error is not None else id in answer.content + answer.thoughts
    return [flag("foreign-ids", spoiled)]


@_probe("limits", 4)
async def limits(patient: Patient, _seen: Seen, _tries: int) -> list[Finding]:
    """Output limits, and the window."""
    many = "Please repeat: " + "go " * 1_300
    unlimited, new, old, beyond = await _all(
        [
            patient.ask(many),
            patient.ask(many, max_completion_tokens=16),
            patient.ask(many, max_tokens=16),
            patient.ask(HELLO, max_tokens=4_000_000),
        ]
    )
    cut = unlimited.finish == "length" and unlimited.text.strip()
    spent = int(unlimited.usage.get("completion_tokens") or 0) if cut else 0
    # Windows are round and no prompt of ours is: such a sum was the end of the window, not a limit of the output.
    if (spent + int(unlimited.usage.get("prompt_tokens") or 0)) % 256 == 0:
        spent = 0
    kept = [key for key, answer in (("max_completion_tokens", new), ("max_tokens", old)) if answer.finish == "length"]
    whole = f"cut after {spent:,} tokens" if spent else "a long answer came whole"
    held = f"kept to: {', '.join(kept)}" if kept else "none was kept to"
    return [
        valued("output-default", spent, whole, right=None if unlimited.error is not None else not spent),
        valued("output-key", kept, held, right=len(kept) == 2 if kept else None),
        flag("window", _refusal(beyond) is False, _words(beyond)),
    ]


@_probe("structured", 2)
async def structured(patient: Patient, _seen: Seen, _tries: int) -> list[Finding]:
    """Structured output."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    asked = "In which city is the Eiffel Tower? Answer in JSON with the key city."
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": schema}}
    by_schema, as_object = await _all(
        [
            patient.ask("In which city is the Eiffel Tower?", response_format=wanted, max_tokens=patient.room),
            patient.ask(asked, response_format={"type": "json_object"}, max_tokens=patient.room),
        ]
    )
    found = {"json_schema": _kept(by_schema, {"city"}), "json_object": _kept(as_object, None)}
    formats = [name for name, state in found.items() if state == "kept"]
    ignored = None if found["json_schema"] is None else found["json_schema"] == "ignored"
    words = ", ".join(f"{name}: {state or 'could not be seen'}" for name, state in found.items())
    return [
        valued("structured-output", formats, words, right=len(formats) == 2),
        flag("schema-ignored", ignored),
    ]


def _kept(answer: Answer, keys: set[str] | None) -> str | None:
    if answer.refused:
        return "refused"
    if answer.error is not None or not answer.text.strip():
        return None
    try:
        value = json.loads(answer.text)
    except ValueError:
        return "ignored"
    fits = isinstance(value, dict) and (keys is None or set(value) == keys)
    return "kept" if fits else "ignored"


@_probe("partial", 1)
async def partial(patient: Patient, _seen: Seen, _tries: int) -> list[Finding]:
    """Whether a prefix is continued (Moonshot's partial mode)."""
    prefix = '{"city": "Par'
    said = {"role": "assistant", "content": prefix, "partial": True}
    switch = patient.dialect.thinking_patch if not patient.dialect.thinking else {}
    answer = await patient.ask(
        [_user("Give the capital of France as JSON with the key city."), said], max_tokens=patient.room, **switch
    )
    goes_on = None
    if answer.refused:
        goes_on = False
    elif answer.error is None and answer.text.strip():
        goes_on = _json(prefix + answer.text) and not _json(answer.text)
    if goes_on is None:
        return [unseen("partial")]
    words = "continued" if goes_on else f"not continued{_words(answer)}"
    return [valued("partial", goes_on, words, right=goes_on)]


def _json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@_probe("prompt-cache", 2)
async def prompt_cache(patient: Patient, _seen: Seen, _tries: int) -> list[Finding]:
    """Whether a prompt that came before is cached, and where that is told."""
    rules = " ".join(f"Rule {number}: keep the order of the list number {number}." for number in range(60))
    asked = [{"role": "system", "content": rules}, _user(HELLO)]
    await patient.ask(asked, max_tokens=patient.room)
    answer = await patient.ask(
        [*asked, {"role": "assistant", "content": "Hello."}, _user(HELLO)], max_tokens=patient.room
    )
    usage = answer.usage
    details = usage.get("prompt_tokens_details")
    places = [
        place
        for place, count in (
            ("usage", usage.get("cached_tokens")),
            ("details", details.get("cached_tokens") if isinstance(details, Mapping) else None),
        )
        if count
    ]
    if answer.error is not None:
        return [unseen("prompt-cache")]
    words = f"told in: {', '.join(places)}" if places else "none are told"
    return [valued("prompt-cache", places, words, right="usage" not in places)]


async def _all(asked: Any) -> list[Answer]:
    return list(await asyncio.gather(*asked))
