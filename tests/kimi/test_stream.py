from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, ClassVar, cast

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import (
    ContentFiltered,
    HistoryRefused,
    PracticeError,
    ReasoningMissing,
    RefraseError,
)
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.followups import may_follow_up
from refrase_integrations.kimi.practice import Call, Change, Delta, Followup, Practice, Prepared
from refrase_integrations.kimi.practices import register_practice, unregister_practice
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.stream import fold
from refrase_integrations.kimi.tokens import estimate
from refrase_integrations.kimi.turn import arun, run
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, ask, exchange

INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"


def tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {"type": "function", "function": {"name": name, "description": "Weather.", "parameters": parameters}}


TOOLS = [tool("f"), tool("g")]


def call(*, model: str = INSTRUCT, host: str = "vllm", practices: Any = None, **fields: Any) -> Call:
    body: Any = {"model": model, "messages": [{"role": "user", "content": "Hi."}], "tools": TOOLS, **fields}
    dialect = compile_dialect(find_model(model), find_host(host, None), None, model)
    return Call(body, dialect, Practices.of(practices), estimate, salt="salt")


def chunk(*, index: int = 0, finish: str | None = None, usage: Any = None, **delta: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"id": "r-1", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}
    return {**made, "usage": usage} if usage is not None else made


def piece(arguments: str | None = None, *, name: str | None = None, **fields: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**fields, "function": function}


def host_says(*replies: Any) -> Callable[[Prepared], Iterable[Any]]:
    """Return a ``send`` that gives one reply after the other; an exception is raised. Asked for more, it fails."""
    rest = list(replies)
    asked: list[Prepared] = []

    def send(prepared: Prepared) -> Iterator[Any]:
        asked.append(prepared)
        reply = rest.pop(0)
        if isinstance(reply, Exception):
            raise reply
        yield from reply

    send.asked = asked  # type: ignore[attr-defined]
    return send


def healed(given: Call, *replies: Any) -> list[Delta]:
    """Return the whole reply of each choice."""
    return fold(run(given, host_says(*replies)))


def calls_of(delta: Delta) -> list[tuple[str, str]]:
    return [(made["function"]["name"], made["function"]["arguments"]) for made in delta.get("tool_calls", [])]


def assembled(*chunks: dict[str, Any]) -> list[tuple[str, str]]:
    (whole,) = healed(call(practices="off"), [*chunks, chunk(finish="tool_calls")])
    return calls_of(whole)


TWO = [("f", '{"city": "a"}'), ("g", '{"city": "b"}')]


class TestAssembly:
    """F9: LangChain makes four calls out of two, LlamaIndex loses the second."""

    def test_by_index(self) -> None:
        assert (
            assembled(
                chunk(tool_calls=[piece("", name="f", index=0, id="x")]),
                chunk(tool_calls=[piece('{"city"', index=0)]),
                chunk(tool_calls=[piece(': "a"}', index=0), piece('{"city": ', name="g", index=1, id="y")]),
                chunk(tool_calls=[piece('"b"}', index=1)]),
            )
            == TWO
        )

    @pytest.mark.parametrize("later", [{}, {"id": None}, {"id": ""}])
    def test_without_an_index(self, later: dict[str, Any]) -> None:
        assert (
            assembled(
                chunk(tool_calls=[piece("", name="f", id="x")]),
                chunk(tool_calls=[piece('{"city": "a"}', **later)]),
                chunk(tool_calls=[piece("", name="g", id="y")]),
                chunk(tool_calls=[piece('{"city"', **later)]),
                chunk(tool_calls=[piece(': "b"}', **later)]),
            )
            == TWO
        )

    def test_with_one_index_for_all(self) -> None:
        """vllm#24478."""
        assert (
            assembled(
                chunk(tool_calls=[piece('{"city": "a"}', name="f", index=0, id="x")]),
                chunk(tool_calls=[piece('{"city": ', name="g", index=0, id="y")]),
                chunk(tool_calls=[piece('"b"}', index=0)]),
            )
            == TWO
        )

    def test_with_an_index_that_jumps(self) -> None:
        assert (
            assembled(
                chunk(tool_calls=[piece('{"city": ', name="f", index=0, id="x")]),
                chunk(tool_calls=[piece('"a"}', index=3, id="x")]),
                chunk(tool_calls=[piece('{"city": "b"}', name="g", index=7, id="y")]),
            )
            == TWO
        )

    def test_one_id_for_two_calls(self) -> None:
        """fireconnect#16."""
        assert (
            assembled(
                chunk(tool_calls=[piece('{"city": "a"}', name="f", index=0, id="x")]),
                chunk(tool_calls=[piece('{"city": "b"}', name="g", index=1, id="x")]),
            )
            == TWO
        )

    def test_a_name_in_pieces_and_one_repeated(self) -> None:
        assert assembled(
            chunk(tool_calls=[piece(name="get_", index=0, id="x")]),
            chunk(tool_calls=[piece("{", name="weather", index=0)]),
            chunk(tool_calls=[piece("}", name="get_weather", index=0, id="x")]),
        ) == [("get_weather", "{}")]

    def test_arguments_as_an_object(self) -> None:
        function = {"name": "f", "arguments": {"city": "东京"}}
        assert assembled(chunk(tool_calls=[{"index": 0, "id": "x", "function": function}])) == [
            ("f", '{"city": "东京"}')
        ]

    def test_the_old_form(self) -> None:
        assert assembled(
            chunk(function_call={"name": "f", "arguments": '{"ci'}), chunk(function_call={"arguments": 'ty": "a"}'})
        ) == [("f", '{"city": "a"}')]

    def test_a_whole_response(self) -> None:
        message = {"tool_calls": [piece('{"city": "a"}', name="f", id="x"), piece('{"city": "b"}', name="g", id="x")]}
        (whole,) = healed(call(practices="off"), [{"choices": [{"message": message, "finish_reason": "tool_calls"}]}])
        assert calls_of(whole) == TWO

    def test_empty_entries(self) -> None:
        assert assembled(chunk(tool_calls=None), chunk(tool_calls=[]), chunk(tool_calls=[piece(index=0)])) == []

    def test_what_was_mended_is_said(self) -> None:
        (whole,) = healed(
            call(practices="off"),
            [chunk(tool_calls=[piece("{}", name="f", id="x")]), chunk(finish="tool_calls")],
        )
        assert whole["report"]["healed"] == snapshot(
            [
                {
                    "practice": "assembly",
                    "action": "encode",
                    "detail": "tool-call pieces without index: put together by id and order",
                    "source": "",
                }
            ]
        )

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("fault", ["missing_index", "wrong_index"])
    async def test_over_http(self, mode: str, fault: str) -> None:
        with KimiSimulator("vllm", quirks={fault: 1}) as simulator:
            model = ChatKimi(host="vllm", base_url=simulator.base_url, model=INSTRUCT)
            reply = await ask(mode, model.bind_tools([tool("f"), tool("g")]), [("user", "Use f and g for Paris.")])
        assert [made["name"] for made in reply.tool_calls] == ["f", "g"]
        assert all(made["args"] for made in reply.tool_calls)
        assert reply.invalid_tool_calls == []


class TestReasoning:
    THINKING = "moonshotai/Kimi-K2-Thinking"

    def read(self, *deltas: dict[str, Any], host: str = "vllm") -> Delta:
        chunks = [*(chunk(**delta) for delta in deltas), chunk(finish="stop")]
        (whole,) = healed(call(model=self.THINKING, host=host, practices="off"), chunks)
        return whole

    @pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
    def test_from_either_field(self, key: str) -> None:
        whole = self.read({key: "Hm"}, {key: "."}, {"content": "Yes."})
        assert (whole["reasoning"], whole["content"]) == ("Hm.", "Yes.")
        assert whole["extra"]["reasoning_key"] == key

    def test_both_fields_with_one_text(self) -> None:
        assert self.read({"reasoning": "Hm.", "reasoning_content": "Hm."})["reasoning"] == "Hm."

    @pytest.mark.parametrize("blank", ["", None])
    def test_a_blank_field_beside_the_real_one(self, blank: str | None) -> None:
        whole = self.read(
            {"reasoning": blank, "reasoning_content": "Hm"}, {"reasoning": blank, "reasoning_content": "."}
        )
        assert whole["reasoning"] == "Hm."
        assert whole["extra"]["reasoning_key"] == "reasoning_content"

    def test_reasoned_but_nothing_said(self) -> None:
        assert self.read({"reasoning": ""}, {"content": "Yes."})["reasoning"] == ""
        assert "reasoning" not in self.read({"reasoning": None}, {"content": "Yes."})
        assert "reasoning" not in self.read({"content": "Yes."})

    def test_details_are_joined_by_index_and_type(self) -> None:
        def text(said: str, index: int = 0, **more: Any) -> dict[str, Any]:
            return {"type": "reasoning.text", "text": said, "index": index, **more}

        sealed = {"type": "reasoning.encrypted", "data": "xyz", "index": 1}
        whole = self.read(
            {"reasoning": "H", "reasoning_details": [text("H", format="unknown")]},
            {"reasoning": "m.", "reasoning_details": [text("m."), sealed]},
            {"reasoning_details": [text("", signature="s", index=2)]},
            host="openrouter",
        )
        assert whole["extra"]["reasoning_details"] == [
            {"type": "reasoning.text", "text": "Hm.", "index": 0, "format": "unknown"},
            {"type": "reasoning.encrypted", "data": "xyz", "index": 1},
            {"type": "reasoning.text", "text": "", "index": 2, "signature": "s"},
        ]


USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


class TestUsage:
    """F20: LangChain reports none."""

    @pytest.mark.parametrize(
        "last",
        [
            pytest.param({"choices": [], "usage": {**USAGE, "cached_tokens": 4}}, id="last chunk"),
            pytest.param({"choices": [{"index": 0, "delta": {}, "usage": {**USAGE, "cached_tokens": 4}}]}, id="choice"),
            pytest.param({"choices": [], "usage": USAGE, "cached_tokens": 4}, id="top level"),
            pytest.param(
                {"choices": [], "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 4}}}, id="details"
            ),
        ],
    )
    @pytest.mark.parametrize("mode", ["stream", "astream"])
    async def test_from_every_place(self, mode: str, last: dict[str, Any]) -> None:
        named = {"id": "r-1", "model": "kimi-k2.6", "object": "chat.completion.chunk"}
        chunks = [{**named, **chunk(content="Yes.")}, {**named, **chunk(finish="stop")}, {**named, **last}]
        reply, _ = await exchange(mode, [("user", "Hi.")], script=[Reply(chunks=chunks)])
        assert reply.usage_metadata == {
            "input_tokens": 10,
            "output_tokens": 5,
            "total_tokens": 15,
            "input_token_details": {"cache_read": 4},
        }
        assert reply.text == "Yes."

    @pytest.mark.parametrize("mode", MODES)
    async def test_moonshot_says_it_twice(self, mode: str) -> None:
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cached_tokens": 8}
        reply, _ = await exchange(mode, [("user", "Hi.")], script=[Reply("Yes.", usage=usage)])
        assert cast(Any, reply.usage_metadata)["total_tokens"] == 15
        assert cast(Any, reply.usage_metadata)["input_token_details"] == {"cache_read": 8}

    def test_a_running_count_is_not_summed(self) -> None:
        chunks = [
            chunk(content="a", usage={"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}),
            chunk(content="b", finish="stop", usage=USAGE),
        ]
        deltas = list(run(call(practices="off"), host_says(chunks)))
        assert [delta["usage"] for delta in deltas if "usage" in delta] == [USAGE]
        assert "usage" in deltas[-1]


class TestChoices:
    """n > 1: every choice is a reply of its own."""

    def test_interleaved(self) -> None:
        first, second = healed(
            call(n=2, practices="off"),
            [
                chunk(index=0, content="A"),
                chunk(index=1, content="B", reasoning="two"),
                chunk(index=1, content="B", finish="length"),
                chunk(index=0, tool_calls=[piece("{}", name="f", index=0, id="x")], finish="tool_calls"),
                {"id": "r-1", "choices": [], "usage": USAGE},
            ],
        )
        assert (first["content"], calls_of(first), first["finish_reason"]) == ("A", [("f", "{}")], "tool_calls")
        assert (second["content"], second["reasoning"], second["finish_reason"]) == ("BB", "two", "length")
        assert first["usage"] == USAGE
        assert "usage" not in second, "the tokens of all choices are counted once"

    def test_calls_belong_to_their_choice(self) -> None:
        def said(index: int, name: str) -> dict[str, Any]:
            made = piece('{"city": "a"}', name=name, id="functions.f:0")
            return {"index": index, "message": {"tool_calls": [made]}, "finish_reason": "tool_calls"}

        replies = healed(call(n=3), [{"id": "r", "choices": [said(0, "f"), said(1, "g"), said(2, "f")]}])
        assert [calls_of(reply) for reply in replies] == [[(name, '{"city": "a"}')] for name in "fgf"]

    def test_what_was_held_back_belongs_to_its_choice(self) -> None:
        chunks = [chunk(index=0, content="a <|tool"), chunk(index=1, content="b <|tool"), chunk(index=1, finish="stop")]
        assert [reply["content"] for reply in healed(call(n=2), chunks)] == ["a <|tool", "b <|tool"]


class TestEnds:
    def test_the_last_delta_carries_it_all_once(self) -> None:
        *rest, last = run(call(), host_says([chunk(content="Yes."), chunk(finish="stop", usage=USAGE)]))
        assert {"finish_reason", "usage", "report"} <= last.keys()
        for delta in rest:
            assert not delta.keys() & {"finish_reason", "usage", "report", "notes", "followup"}

    def test_nothing_came(self) -> None:
        empty: list[Any] = [[], [{"choices": []}], [{}], [chunk()]]
        for reply in empty:
            (whole,) = healed(call(practices={"empty_reply": "off"}), reply)
            assert whole["finish_reason"] == "stop"
            assert "content" not in whole

    def test_content_as_parts(self) -> None:
        message = {"content": [{"type": "text", "text": "Ye"}, {"type": "text", "text": "s."}, None]}
        (whole,) = healed(call(), [{"choices": [{"message": message, "finish_reason": "stop"}]}])
        assert whole["content"] == "Yes."

    def test_logprobs_are_joined(self) -> None:
        chunks = [chunk(content="a"), chunk(content="b"), chunk(finish="stop")]
        for number, one in enumerate(chunks[:2]):
            one["choices"][0]["logprobs"] = {"content": [{"token": number}]}
        (whole,) = healed(call(), chunks)
        assert whole["extra"]["logprobs"] == {"content": [{"token": 0}, {"token": 1}]}


# -- steps and followups ------------------------------------------------------------------------------------


class Shout:
    """A step that says what came in twice over, and notes it at the end."""

    def __init__(self, name: str) -> None:
        self.name = name

    def feed(self, delta: Delta) -> list[Delta]:
        return [{**delta, "content": delta["content"] + self.name}] if "content" in delta else [delta]

    def close(self, finish_reason: str | None) -> list[Delta]:
        return [{"content": f"[{self.name}]", "notes": [Change("replace", f"shouted by {self.name}")]}]


class Again:
    """A step that asks for another call as long as it may."""

    def __init__(self, prepared: Prepared, name: str, limit: int) -> None:
        self.prepared, self.name, self.limit = prepared, name, limit

    def feed(self, delta: Delta) -> list[Delta]:
        return [delta]

    def close(self, finish_reason: str | None) -> list[Delta]:
        if not may_follow_up(self.prepared, self.name, self.limit):
            return []
        followup = Followup(self.prepared.call.body, "again", takes="calls")
        return [{"followup": followup, "notes": [Change("replace", f"again for {self.name}")]}]


@pytest.fixture
def register() -> Iterator[Callable[..., None]]:
    made: list[str] = []

    def add(name: str, heal: Any, after: str = "temperature") -> None:
        register_practice(Practice(id=name, statement="A practice of a test.", sources=(), heal=heal), after=after)
        made.append(name)

    yield add
    for name in made:
        unregister_practice(name)


def notes(whole: Delta) -> list[tuple[str, str, str]]:
    return [(entry["practice"], entry["action"], entry["detail"]) for entry in whole["report"]["healed"]]


YES = [chunk(content="Yes"), chunk(finish="stop", usage=USAGE)]


class TestSteps:
    @pytest.fixture(autouse=True)
    def _two(self, register: Callable[..., None]) -> None:
        register("step-a", lambda prepared: Shout("a"))
        register("step-b", lambda prepared: Shout("b"), after="step-a")

    def test_what_is_done_last_is_undone_first(self) -> None:
        (whole,) = healed(call(), YES)
        # b feeds a; what b holds back until the end still passes a, what a holds back does not pass b.
        assert whole["content"] == "Yesba[b]a[a]"
        assert notes(whole) == [("step-b", "replace", "shouted by b"), ("step-a", "replace", "shouted by a")]

    def test_warn_passes_what_came_in(self) -> None:
        (whole,) = healed(call(practices={"step-b": "warn"}), YES)
        assert whole["content"] == "Yesa[a]"
        assert notes(whole) == [("step-b", "advise", "shouted by b"), ("step-a", "replace", "shouted by a")]

    def test_error_stops(self) -> None:
        with pytest.raises(PracticeError, match="shouted by b") as caught:
            healed(call(practices={"step-b": "error"}), YES)
        assert caught.value.practice == "step-b"

    def test_off(self) -> None:
        (whole,) = healed(call(practices={"step-a": "off", "step-b": "off"}), YES)
        assert (whole["content"], notes(whole)) == ("Yes", [])

    def test_a_step_may_stay_away(self, register: Callable[..., None]) -> None:
        register("step-c", lambda prepared: None)
        (whole,) = healed(call(practices={"step-a": "off", "step-b": "off"}), YES)
        assert whole["content"] == "Yes"


class TestFollowups:
    @pytest.fixture(autouse=True)
    def _two(self, register: Callable[..., None]) -> None:
        register("again-a", lambda prepared: Again(prepared, "again-a", 5))
        register("again-b", lambda prepared: Again(prepared, "again-b", 1), after="again-a")

    @pytest.mark.parametrize(
        ("extra_calls", "asked"),
        [
            (0, []),
            (1, ["again-b"]),
            (2, ["again-b", "again-a"]),
            (4, ["again-b", "again-a", "again-a", "again-a"]),
            (10, ["again-b"] + ["again-a"] * 5),
        ],
    )
    def test_one_allowance_for_all_reasons(self, extra_calls: int, asked: list[str]) -> None:
        send = host_says(*[YES] * 11)
        (whole,) = fold(run(call(practices={"extra_calls": extra_calls}), send))
        sent: list[Prepared] = send.asked  # type: ignore[attr-defined]
        assert len(sent) == 1 + len(asked)
        assert list(sent[-1].call.asked) == asked
        assert whole["usage"] == {key: value * len(sent) for key, value in USAGE.items()}, "summed"
        assert whole["content"] == "Yes"

    async def test_the_same_when_async(self) -> None:
        asked: list[Prepared] = []

        async def send(prepared: Prepared) -> AsyncIterator[Any]:
            asked.append(prepared)
            for one in YES:
                yield one

        deltas = [delta async for delta in arun(call(), send)]
        assert [prepared.call.asked for prepared in asked] == [(), ("again-b",), ("again-b", "again-a")]
        assert deltas == list(run(call(), host_says(YES, YES, YES)))

    def test_one_report_for_all_and_only_in_the_last_delta(self) -> None:
        deltas = list(run(call(), host_says(YES, YES, YES)))
        assert ["report" in delta for delta in deltas].count(True) == 1
        assert notes(deltas[-1]) == [
            ("again-b", "replace", "again for again-b"),
            ("again-a", "replace", "again for again-a"),
        ]

    def test_only_the_calls_come_from_the_next(self) -> None:
        more = [
            chunk(content="Other words", reasoning="Other thoughts"),
            chunk(tool_calls=[piece("{}", name="f", index=0, id="x")], finish="tool_calls"),
        ]
        (whole,) = healed(call(practices={"extra_calls": 1}), YES, more)
        assert (whole["content"], calls_of(whole), whole["finish_reason"]) == ("Yes", [("f", "{}")], "tool_calls")
        assert "reasoning" not in whole

    def test_several_choices_ask_nothing(self) -> None:
        (whole,) = healed(call(n=2), YES)
        assert whole["content"] == "Yes"

    def test_warn_asks_nothing(self) -> None:
        (whole,) = healed(call(practices={"again-a": "warn", "again-b": "warn"}), YES)
        assert notes(whole) == [
            ("again-b", "advise", "again for again-b"),
            ("again-a", "advise", "again for again-a"),
        ]

    def test_the_next_request_is_in_the_users_form(self) -> None:
        """It is prepared like any other: nothing is prepared twice."""
        send = host_says(YES, YES, YES)
        list(run(call(temperature=0.3), send))
        first, second, _ = send.asked  # type: ignore[attr-defined]
        assert second.call.body == first.call.body
        assert second.body == first.body
        assert [entry.practice for entry in second.report.changes] == [entry.practice for entry in first.report.changes]


class TestStructuralRefusals:
    """A structural 400 gets one resend with a stricter history (MoonshotAI/kimi-cli)."""

    CONTINUED: ClassVar = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello.", "name": "Kimi"},
        {"role": "user", "content": "One."},
        {"role": "user", "content": "Two."},
    ]

    @pytest.mark.parametrize("error", [HistoryRefused("no"), ReasoningMissing("no")])
    def test_one_resend(self, error: RefraseError) -> None:
        send = host_says(error, YES)
        (whole,) = fold(run(call(messages=self.CONTINUED), send))
        first, second = send.asked  # type: ignore[attr-defined]
        assert (first.call.strict, second.call.strict) == (False, True)
        assert second.body != first.body
        assert whole["content"] == "Yes"

    def test_not_twice(self) -> None:
        with pytest.raises(HistoryRefused, match="second"):
            healed(call(messages=self.CONTINUED), HistoryRefused("first"), HistoryRefused("second"))

    def test_not_where_nothing_can_be_stricter(self) -> None:
        with pytest.raises(HistoryRefused):
            healed(call(), HistoryRefused("no"))

    def test_not_for_other_refusals(self) -> None:
        with pytest.raises(ContentFiltered):
            healed(call(messages=self.CONTINUED), ContentFiltered("no"))

    def test_not_once_something_was_handed_out(self) -> None:
        asked: list[Prepared] = []

        def send(prepared: Prepared) -> Iterator[Any]:
            asked.append(prepared)
            yield chunk(content="Ye")
            raise HistoryRefused("no")

        with pytest.raises(HistoryRefused):
            list(run(call(messages=self.CONTINUED), send))
        assert len(asked) == 1


def test_a_report_survives_json() -> None:
    (whole,) = healed(call(), YES)
    assert json.loads(json.dumps(whole["report"])) == whole["report"]
