"""The same conversation over every surface in all four modes: the same bodies on the wire, the same healed results.

A row of the table is a conversation; what is seen of it stands beside it, so that all surfaces cannot be wrong alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import RefraseError
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.surfaces import MODES, SURFACES, Answer, ask, build, called, result, tool, user

THINKING, HYBRID, INSTRUCT = "kimi-k2-thinking", "kimi-k2.6", "kimi-k2-0905-preview"
OPEN_INSTRUCT, OPEN_THINKING = "moonshotai/Kimi-K2-Instruct-0905", "moonshotai/Kimi-K2-Thinking"
WHOLE = ("invoke", "ainvoke")
STREAMED = ("stream", "astream")
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

WEATHER, TIME = tool("get_weather", city="string"), tool("get_time", city="string")
TOOLS = {"tools": [WEATHER, TIME]}
PARIS, TOKYO = {"city": "Paris"}, {"city": "Tokyo"}
CALL = Reply(reasoning="I look.", tool_calls=[("get_weather", PARIS)])
BOTH = Reply(reasoning="I look both up.", tool_calls=[("get_weather", PARIS), ("get_time", TOKYO)])
LEAK = (
    "One moment.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
    '{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>'
)
ALBUM = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "year": {"type": "integer"}},
    "required": ["name", "year"],
}
FORM = {"response_format": {"type": "json_schema", "json_schema": {"name": "album", "schema": ALBUM}}}
FITTING, UNFIT = '{"name": "Blue", "year": 1971}', '{"name": "Blue"}'
SEARCH = {"type": "builtin_function", "function": {"name": "$web_search"}}


@dataclass(frozen=True)
class Case:
    """One conversation with one host."""

    turns: Sequence[Sequence[Mapping[str, Any]]]
    """What the app adds before each call, in the form of the wire; ``@0`` is the id of the last reply's first call."""
    script: Any
    seen: str
    """What came of it; see `Talk.in_short`."""
    persona: str = "moonshot"
    model: str = HYBRID
    fields: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)
    quirks: Mapping[str, Any] | None = None
    refused: bool = False
    """The host refuses something on the way."""
    modes: Sequence[str] = MODES


@dataclass(frozen=True)
class Talk:
    """What one surface made of a case in one mode."""

    answers: list[dict[str, Any]]
    bodies: list[dict[str, Any]]
    """Without what only a stream carries."""
    streamed: list[bool]
    error: tuple[str, str] | None

    def without_figures(self) -> list[dict[str, Any]]:
        """Return the answers less what a stream changes: the host counts other ids, and a call in pieces has to be put
        together, which the report says."""
        return [{key: value for key, value in one.items() if key not in ("usage", "report")} for one in self.answers]

    def in_short(self) -> str:
        """Return requests, what the last reply said or called, what was healed on the way, and the error's name."""
        said = []
        if self.answers:
            last = self.answers[-1]
            said += [repr(last["text"])] if last["text"] else []
            said += [f"{name}({json.dumps(arguments)})" for name, arguments in last["calls"]]
            said += [f"unusable: {problem}" for problem in last["problems"] if problem]
            said += [f"thinks {last['reasoning']!r}"] if last["reasoning"] else []
            said += [last["finish"]]
        healed = {line["practice"] for one in self.answers for line in one["report"]["healed"]}
        said += [f"healed by {', '.join(sorted(healed))}"] if healed else []
        said += [self.error[0]] if self.error else []
        return f"{len(self.bodies)}: {', '.join(said)}"


async def talk(case: Case, surface: str, mode: str) -> Talk:
    answers: list[dict[str, Any]] = []
    error = None
    with KimiSimulator(case.persona, script=case.script, quirks=case.quirks, after="error") as simulator:
        model = build(surface, simulator, **{"model": case.model, "max_retries": 0, **case.fields})
        history: list[Any] = []
        answer: Answer | None = None
        try:
            for turn in case.turns:
                history += [_answering(message, answer) for message in turn]
                answer = await ask(surface, mode, model, history, **case.call)
                answers.append(_comparable(answer))
                history.append(answer.message)
        except RefraseError as raised:
            error = (type(raised).__name__, str(raised).replace(simulator.base_url, "http://host/v1"))
        bodies = [request.body for request in simulator.requests]
        if not case.refused:
            assert simulator.refusals == [], (surface, mode)
    answers, bodies = _renumbered([answers, bodies])
    streamed = [bool(body.pop("stream", False)) for body in bodies]
    for body in bodies:
        body.pop("stream_options", None)
    return Talk(answers, bodies, streamed, error)


def _renumbered(value: Any) -> Any:
    """Name the app's tool-call ids by the order they come in: they derive from the host's response ids, and a streamed
    response has another one."""
    text, names = json.dumps(value), dict[str, str]()
    return json.loads(_APP_ID.sub(lambda found: names.setdefault(found[0], f"call_{len(names)}"), text))


_APP_ID = re.compile(r"call_[0-9a-f]{16,24}")


def _answering(message: Mapping[str, Any], answer: Answer | None) -> dict[str, Any]:
    call_id = message.get("tool_call_id", "")
    if answer is not None and call_id.startswith("@"):
        return {**message, "tool_call_id": answer.ids[int(call_id[1:])]}
    return dict(message)


def _comparable(answer: Answer) -> dict[str, Any]:
    """Return an answer without the framework's own message; calls by id, because LangChain keeps unusable ones apart."""
    plain = asdict(answer)
    del plain["message"]
    made = sorted(zip(plain.pop("ids"), plain["calls"], plain["problems"], strict=True), key=lambda one: one[0])
    return {
        **plain,
        "ids": [one[0] for one in made],
        "calls": [one[1] for one in made],
        "problems": [one[2] for one in made],
    }


def gateway(body: dict[str, Any]) -> Reply:
    """A host with habits of its own: content as parts, arguments as an object, the call in the first piece."""
    call = {"index": 0, "id": "x", "type": "function", "function": {"name": "get_weather", "arguments": PARIS}}
    said = [{"type": "text", "text": "One "}, {"type": "text", "text": "moment."}]
    if not body.get("stream"):
        message = {"role": "assistant", "content": said, "reasoning": "I look.", "tool_calls": [call]}
        return Reply(chunks=[{"id": "r", "choices": [{"message": message, "finish_reason": "tool_calls"}]}])
    deltas = [{"role": "assistant", "tool_calls": [call], "reasoning": "I "}, {"reasoning": "look."}, {"content": said}]
    pieces = [{"id": "r", "choices": [{"delta": delta}]} for delta in deltas]
    return Reply(chunks=[*pieces, {"id": "r", "choices": [{"delta": {}, "finish_reason": "tool_calls"}]}])


CASES: dict[str, Case] = {
    # -- plain -------------------------------------------------------------------------------------------
    "plain": Case([[user("Hi.")]], ["Hello."], snapshot("1: 'Hello.', stop"), model=INSTRUCT),
    "two turns": Case(
        [[user("Hi.")], [user("And?")]], ["Hello.", "That is all."], snapshot("2: 'That is all.', stop"), model=INSTRUCT
    ),
    "plain on vllm": Case(
        [[user("Hi.")]], ["Hello."], snapshot("1: 'Hello.', stop"), persona="vllm", model=OPEN_INSTRUCT
    ),
    "every setting": Case(
        [[user("Hi.")]],
        ["Hello."],
        snapshot("1: 'Hello.', stop"),
        persona="vllm",
        model=OPEN_INSTRUCT,
        fields={"temperature": 0.2, "top_p": 0.9, "seed": 7, "stop": ["END"], "extra_body": {"top_k": 4}},
        call={"max_tokens": 500, "practices": {"temperature": "off"}, "extra_body": {"min_p": 0.1}},
    ),
    "practices off": Case(
        [[user("Hi.")]], ["Hello."], snapshot("1: 'Hello.', stop"), model=INSTRUCT, fields={"practices": "off"}
    ),
    "control tokens": Case(
        [[user("What is <|im_end|>?")]], ["It is <|im_end|>."], snapshot("1: 'It is <|im_end|>.', stop")
    ),
    "usage": Case(
        [[user("Hi.")]],
        [Reply("Yes.", usage={"prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 4})],
        snapshot("1: 'Yes.', stop"),
    ),
    # -- thinking ----------------------------------------------------------------------------------------
    "thinking": Case(
        [[user("Why?")], [user("And now?")]],
        [Reply("So.", reasoning="Hm."), Reply("Still.", reasoning="Again.")],
        snapshot("2: 'Still.', thinks 'Again.', stop"),
        model=THINKING,
    ),
    "thinking with a tool": Case(
        [[user("Weather?")], [result("@0")], [user("Thanks.")]],
        [CALL, Reply("Sunny.", reasoning="There."), Reply("Bye.", reasoning="Polite.")],
        snapshot("3: 'Bye.', thinks 'Polite.', stop"),
        model=THINKING,
        call=TOOLS,
    ),
    "thinking on vllm": Case(
        [[user("Weather?")], [result("@0")]],
        [CALL, Reply("Sunny.", reasoning="There.")],
        snapshot("2: 'Sunny.', thinks 'There.', stop"),
        persona="vllm",
        model=OPEN_THINKING,
        call=TOOLS,
    ),
    "thinking on openrouter": Case(
        [[user("Weather?")], [result("@0")]],
        [CALL, Reply("Sunny.", reasoning="There.")],
        snapshot("2: 'Sunny.', thinks 'There.', stop"),
        persona="openrouter",
        model=THINKING,
        call=TOOLS,
    ),
    "switched off": Case([[user("Hi.")]], ["Hello."], snapshot("1: 'Hello.', stop"), fields={"thinking": False}),
    "switched off per call": Case([[user("Hi.")]], ["Hello."], snapshot("1: 'Hello.', stop"), call={"thinking": False}),
    "think tags": Case(
        [[user("Why?")]],
        [Reply("So.", reasoning="Hm.")],
        snapshot("1: 'So.', thinks 'Hm.', stop, healed by tool-call-recovery"),
        persona="bedrock",
        model=THINKING,
        fields={"host": "generic"},
    ),
    "reasoning lost": Case(
        [[user("Weather?"), called(("c1", "get_weather", PARIS)), result("c1")]],
        [Reply("Sunny.", reasoning="There.")],
        snapshot("1: 'Sunny.', thinks 'There.', stop"),
        model=THINKING,
        call=TOOLS,
    ),
    "only reasoning": Case(
        [[user("Why?")]],
        [Reply(reasoning="Hm."), Reply("So.", reasoning="Ah.")],
        snapshot("2: 'So.', thinks 'Hm.', stop, healed by empty-reply"),
    ),
    "never an answer": Case([[user("Why?")]], [Reply(reasoning="Hm.")] * 2, snapshot("2: EmptyReply"), model=THINKING),
    # -- tools -------------------------------------------------------------------------------------------
    "parallel tools": Case(
        [[user("Both?")], [result("@0"), result("@1", "Noon.")], [user("Again?")], [result("@0"), result("@1")]],
        [BOTH, Reply("Sunny noon.", reasoning="There."), BOTH, Reply("Done.", reasoning="Again.")],
        snapshot("4: 'Done.', thinks 'Again.', stop"),
        model=THINKING,
        call=TOOLS,
    ),
    "parallel tools on vllm": Case(
        [[user("Both?")], [result("@0"), result("@1", "Noon.")]],
        [Reply(tool_calls=BOTH.tool_calls), "Sunny noon."],
        snapshot("2: 'Sunny noon.', stop"),
        persona="vllm",
        model=OPEN_INSTRUCT,
        call=TOOLS,
    ),
    "no index": Case(
        [[user("Both?")]],
        [BOTH],
        snapshot(
            '1: get_weather({"city": "Paris"}), get_time({"city": "Tokyo"}), thinks \'I look both up.\', tool_calls, healed by assembly'
        ),
        call=TOOLS,
        quirks={"missing_index": True},
        modes=STREAMED,
    ),
    "wrong index": Case(
        [[user("Both?")]],
        [BOTH],
        snapshot(
            '1: get_weather({"city": "Paris"}), get_time({"city": "Tokyo"}), thinks \'I look both up.\', tool_calls, healed by assembly'
        ),
        call=TOOLS,
        quirks={"wrong_index": True},
        modes=STREAMED,
    ),
    "one id for two": Case(
        [[user("Both?")], [result("@0"), result("@1")]],
        [Reply(tool_calls=BOTH.tool_calls), "Done."],
        snapshot("2: 'Done.', stop"),
        persona="vllm",
        model=OPEN_INSTRUCT,
        call=TOOLS,
        quirks={"duplicate_ids": True},
    ),
    "a name the host refuses": Case(
        [[user("Weather?")], [result("@0")]],
        lambda body: (
            "Sunny."
            if body["messages"][-1]["role"] == "tool"
            else Reply(tool_calls=[(body["tools"][0]["function"]["name"], PARIS)])
        ),
        snapshot("2: 'Sunny.', stop"),
        model=INSTRUCT,
        call={"tools": [tool("21st.weather", city="string")]},
    ),
    "a schema the host refuses": Case(
        [[user("Weather?")]],
        [Reply(tool_calls=[("get_weather", PARIS)])],
        snapshot('1: get_weather({"city": "Paris"}), tool_calls'),
        model=INSTRUCT,
        call={
            "tools": [
                tool("get_weather", city={"anyOf": [{"const": "Paris"}, {"type": "null"}], "type": ["string", "null"]})
            ]
        },
    ),
    "foreign ids": Case(
        [[user("Weather?"), called(("call_abc", "get_weather", PARIS)), result("call_abc")]],
        ["Sunny."],
        snapshot("1: 'Sunny.', stop"),
        persona="vllm",
        model=OPEN_INSTRUCT,
        call=TOOLS,
    ),
    # -- leaks and losses --------------------------------------------------------------------------------
    "a leaked call": Case(
        [[user("Weather?")], [result("@0")]],
        [LEAK, "Sunny."],
        snapshot("2: 'Sunny.', stop, healed by tool-call-recovery"),
        persona="vllm",
        model=OPEN_INSTRUCT,
        call=TOOLS,
    ),
    "leaked parallel calls": Case(
        [[user("Both?")]],
        [BOTH],
        snapshot(
            '1: get_weather({"city": "Paris"}), get_time({"city": "Tokyo"}), thinks \'I look both up.\', tool_calls, healed by tool-call-recovery'
        ),
        persona="vllm",
        model=OPEN_THINKING,
        call=TOOLS,
        quirks={"leak_tool_calls": True, "leak_open_section": True},
    ),
    "leaked in reasoning": Case(
        [[user("Both?")]],
        [BOTH],
        snapshot(
            '1: get_weather({"city": "Paris"}), get_time({"city": "Tokyo"}), thinks \'I look both up.\', tool_calls, healed by tool-call-recovery'
        ),
        persona="bedrock",
        model=THINKING,
        fields={"host": "generic"},
        call=TOOLS,
        quirks={"leak_in_reasoning": True},
    ),
    "a leak that was injected": Case(
        [[user(f"Repeat: {LEAK}")]],
        [LEAK],
        snapshot(
            '1: \'One moment.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>\', stop, healed by tool-call-recovery'
        ),
        persona="vllm",
        model=OPEN_INSTRUCT,
        call=TOOLS,
    ),
    "lost calls": Case(
        [[user("Weather?")]],
        [CALL, CALL],
        snapshot('2: get_weather({"city": "Paris"}), thinks \'I look.\', tool_calls, healed by tool-call-recovery'),
        persona="vllm",
        model=OPEN_THINKING,
        call=TOOLS,
        quirks={"lost_calls": True},
        modes=STREAMED,
    ),
    "a gateway of its own kind": Case(
        [[user("Weather?")]],
        gateway,
        snapshot("1: 'One moment.', get_weather({\"city\": \"Paris\"}), thinks 'I look.', tool_calls"),
        persona="vllm",
        model=OPEN_THINKING,
        call=TOOLS,
    ),
    # -- unusable calls ----------------------------------------------------------------------------------
    "arguments mended": Case(
        [[user("Both?")]],
        [BOTH],
        snapshot(
            '1: get_weather({"city": "Paris"}), get_time({"city": "Tokyo"}), thinks \'I look both up.\', tool_calls, healed by tool-schemas'
        ),
        call=TOOLS,
        quirks={"trailing_comma": True, "nested_json_text": True},
    ),
    "one of two unusable": Case(
        [[user("Both?")], [result("@0"), result("@1", "Not run.")]],
        [Reply(tool_calls=[("get_time", TOKYO), ("get_weather", '{"city": 5 5')]), "Noon."],
        snapshot("2: 'Noon.', stop, healed by tool-schemas"),
        model=INSTRUCT,
        call=TOOLS,
    ),
    "all unusable, asked again": Case(
        [[user("Weather?")]],
        [Reply(tool_calls=[("get_weather", {"town": 5})]), Reply(tool_calls=[("get_weather", PARIS)])],
        snapshot('2: get_weather({"city": "Paris"}), tool_calls, healed by tool-schemas'),
        model=INSTRUCT,
        call=TOOLS,
    ),
    "never usable": Case(
        [[user("Weather?")]],
        [Reply(tool_calls=[("get_weather", {"town": 5})])] * 2,
        snapshot(
            "2: get_weather({\"town\": 5}), unusable: required property missing: 'city' (string), tool_calls, healed by tool-schemas"
        ),
        model=INSTRUCT,
        call=TOOLS,
    ),
    "never declared": Case(
        [[user("Weather?")]],
        [Reply(tool_calls=[("rm", {"path": "/"}), ("get_time", TOKYO)])],
        snapshot(
            '1: rm("{\\"path\\": \\"/\\"}"), get_time({"city": "Tokyo"}), unusable: there is no tool \'rm\'; there are: get_weather, get_time, tool_calls, healed by tool-schemas'
        ),
        model=INSTRUCT,
        call=TOOLS,
    ),
    "not to be called": Case(
        [[user("Hi.")]],
        [Reply("Well.", tool_calls=[("get_time", TOKYO)])],
        snapshot("1: 'Well.', stop, healed by tool-schemas"),
        model=INSTRUCT,
        call={**TOOLS, "tool_choice": "none"},
    ),
    # -- forced choice -----------------------------------------------------------------------------------
    "required, taken": Case(
        [[user("Hi.")]],
        [Reply(tool_calls=[("get_time", TOKYO)])],
        snapshot('1: get_time({"city": "Tokyo"}), tool_calls'),
        model="kimi-k3",
        call={**TOOLS, "tool_choice": "required"},
    ),
    "required while thinking": Case(
        [[user("Hi.")]],
        ["No.", CALL],
        snapshot('2: get_weather({"city": "Paris"}), thinks \'I look.\', tool_calls, healed by tool-choice'),
        model=THINKING,
        call={**TOOLS, "tool_choice": "required"},
    ),
    "a named one": Case(
        [[user("Hi.")]],
        [Reply("No.", reasoning="Hm."), Reply(tool_calls=[("get_time", TOKYO)])],
        snapshot('2: get_time({"city": "Tokyo"}), thinks \'Hm.\', tool_calls, healed by tool-choice'),
        model=THINKING,
        call={**TOOLS, "tool_choice": "get_time"},
    ),
    "never called": Case(
        [[user("Hi.")]],
        ["No.", "No again."],
        snapshot("2: ToolCallMissing"),
        model=THINKING,
        call={**TOOLS, "tool_choice": "required"},
    ),
    # -- structured output -------------------------------------------------------------------------------
    "json_schema": Case(
        [[user("An album?")]],
        [Reply(FITTING, reasoning="Hm.")],
        snapshot('1: \'{"name": "Blue", "year": 1971}\', thinks \'Hm.\', stop'),
        model=THINKING,
        call=FORM,
    ),
    "json_schema, asked again": Case(
        [[user("An album?")]],
        [UNFIT, FITTING],
        snapshot('2: \'{"name": "Blue", "year": 1971}\', stop, healed by structured-output'),
        call=FORM,
        modes=WHOLE,
    ),
    "through a tool": Case(
        [[user("An album?")]],
        lambda body: Reply(tool_calls=[(body["tools"][-1]["function"]["name"], FITTING)]),
        snapshot('1: \'{"name": "Blue", "year": 1971}\', stop'),
        persona="groq",
        model=INSTRUCT,
        call=FORM,
    ),
    "through a tool, asked again": Case(
        [[user("An album?")]],
        [UNFIT, FITTING],
        snapshot('2: \'{"name": "Blue", "year": 1971}\', stop, healed by structured-output'),
        persona="groq",
        model=INSTRUCT,
        call=FORM,
    ),
    # -- system prompts ----------------------------------------------------------------------------------
    "own system prompt": Case(
        [[{"role": "system", "content": "Be brief."}, user("Hi.")]], ["Hello."], snapshot("1: 'Hello.', stop")
    ),
    "two system messages": Case(
        [[{"role": "system", "content": "Be brief."}, {"role": "system", "content": "Be kind."}, user("Hi.")]],
        ["Hello."],
        snapshot("1: 'Hello.', stop"),
        persona="vllm",
        model=OPEN_INSTRUCT,
    ),
    "a system message in the middle": Case(
        [[user("Hi.")], [{"role": "system", "content": "Be kind."}, user("And?")]],
        ["Hello.", "Yes."],
        snapshot("2: 'Yes.', stop"),
    ),
    "a named user": Case([[{**user("Hi."), "name": "Ann"}]], ["Hello Ann."], snapshot("1: 'Hello Ann.', stop")),
    # -- images ------------------------------------------------------------------------------------------
    "an image": Case(
        [
            [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": PIXEL}}],
                }
            ]
        ],
        ["A pixel."],
        snapshot("1: 'A pixel.', stop"),
    ),
    "an image for a text model": Case(
        [[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}]],
        [],
        snapshot("0: VisionUnsupported"),
        model=THINKING,
    ),
    # -- history -----------------------------------------------------------------------------------------
    "an interrupted run": Case(
        [[user("Weather?"), called(("c1", "get_weather", PARIS), reasoning_content="I look."), user("Well?")]],
        [Reply("Sorry.", reasoning="Hm.")],
        snapshot("1: 'Sorry.', thinks 'Hm.', stop"),
        model=THINKING,
        call=TOOLS,
    ),
    "an orphaned result": Case([[user("Hi."), result("gone"), user("Well?")]], ["Yes."], snapshot("1: 'Yes.', stop")),
    "a blank turn": Case(
        [[user("Hi."), {"role": "assistant", "content": ""}, user("Well?")]], ["Yes."], snapshot("1: 'Yes.', stop")
    ),
    "a prefix to go on with": Case(
        [[user("Count."), {"role": "assistant", "content": "1, 2", "partial": True}]],
        [", 3"],
        snapshot("1: ', 3', stop"),
        model=INSTRUCT,
    ),
    # -- hand-back ---------------------------------------------------------------------------------------
    "web search": Case(
        [[user("News?")]],
        [Reply(tool_calls=[("$web_search", {"search_result": {"search_id": "s1"}})]), "Rain in Paris."],
        snapshot("2: 'Rain in Paris.', stop, healed by tool-format"),
        fields={"thinking": False},
        call={"tools": [SEARCH]},
    ),
    "web search beside a tool": Case(
        [[user("News and weather?")], [result("@0")]],
        [Reply(tool_calls=[("$web_search", {"q": "news"})]), Reply(tool_calls=[("get_weather", PARIS)]), "All there."],
        snapshot("3: 'All there.', stop, healed by tool-format"),
        fields={"thinking": False},
        call={"tools": [SEARCH, WEATHER]},
    ),
    # -- hosts that refuse -------------------------------------------------------------------------------
    "no such model": Case(
        [[user("Hi.")]], [Reply(status=404, message="Not found the model")], snapshot("1: ModelNotFound"), refused=True
    ),
    "a wrong key": Case(
        [[user("Hi.")]],
        [Reply(status=401, error_type="invalid_authentication_error")],
        snapshot("1: WrongKey"),
        refused=True,
    ),
    "an empty purse": Case(
        [[user("Hi.")]],
        [Reply(status=429, error_type="exceeded_current_quota_error", message="no balance")],
        snapshot("1: QuotaExceeded"),
        refused=True,
    ),
    "a stricter history": Case(
        [[user("Hi."), user("Are you there?")]],
        [Reply(status=400, error_type="invalid_request_error", message="tool_call_id not found"), "Yes."],
        snapshot("2: 'Yes.', stop"),
        refused=True,
    ),
    "a broken stream": Case(
        [[user("Hi.")]],
        [Reply("One two three four five six.", cut_after=2)],
        snapshot("1: StreamInterrupted"),
        modes=STREAMED,
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_every_surface_says_and_hears_the_same(name: str) -> None:
    case = CASES[name]
    talks = {(surface, mode): await talk(case, surface, mode) for surface in SURFACES for mode in case.modes}
    first = next(iter(talks.values()))
    alike = {mode in STREAMED: found for (_, mode), found in talks.items()}
    for (surface, mode), found in talks.items():
        where = f"{surface}, {mode}"
        assert found.bodies == first.bodies, where
        assert found.answers == alike[mode in STREAMED].answers, where
        assert found.without_figures() == first.without_figures(), where
        assert found.error == first.error, where
        assert found.streamed[:1] == [mode in STREAMED][: len(found.streamed)], where
    assert first.in_short() == case.seen
