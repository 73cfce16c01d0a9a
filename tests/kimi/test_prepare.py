from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import ConfigurationError, PracticeError, VisionUnsupported
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.practice import Call, Change, Edit, Kind, Practice
from refrase_integrations.kimi.practices import ORDER, known_ids, ordered, register_practice, unregister_practice
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.tokens import estimate
from refrase_integrations.kimi.wire import put
from tests.conversations import exchange

HELLO = {"role": "user", "content": "Hello."}


def call(
    messages: Any = (HELLO,), *, model: str = "kimi-k2.6", host: str = "moonshot", practices: Any = None, **more: Any
) -> Call:
    fields = more.pop("fields", {})
    body: Any = {"model": "as the user wrote it", "messages": list(messages), **fields}
    dialect = compile_dialect(find_model(model), find_host(host, None), None, model)
    return Call(body, dialect, Practices.of(practices), estimate, **more)


def changes(prepared: Any, practice: str) -> list[tuple[str, str]]:
    return [(entry.action, entry.detail) for entry in prepared.report.changes if entry.practice == practice]


@pytest.fixture
def register() -> Iterator[Callable[..., Practice]]:
    made: list[str] = []

    def add(practice_id: str, after: str = "system-prompt", **fields: Any) -> Practice:
        practice = Practice(id=practice_id, statement="A practice of a test.", sources=(), **fields)
        register_practice(practice, after=after)
        made.append(practice_id)
        return practice

    yield add
    for practice_id in made:
        unregister_practice(practice_id)


def test_the_order() -> None:
    """What is done last is undone first, so a place is part of what a practice promises."""
    assert [practice.id for practice in ORDER] == snapshot(
        [
            "system-prompt",
            "concise-prompt",
            "fresh-data",
            "grounding",
            "verbosity",
            "vision",
            "special-tokens",
            "history",
            "loop-guard",
            "structured-output",
            "tool-format",
            "tool-schemas",
            "tool-names",
            "tool-choice",
            "thinking",
            "sampling",
            "temperature",
            "anthropic-temperature",
            "context-window",
            "tool-ids",
            "prompt-cache",
            "empty-reply",
            "reasoning-as-answer",
            "tool-call-recovery",
            "reasoning-replay",
            "output-budget",
        ]
    )
    ids = [practice.id for practice in ORDER]
    for earlier, later in [
        ("special-tokens", "tool-call-recovery"),
        ("thinking", "sampling"),
        ("context-window", "tool-ids"),
        ("context-window", "output-budget"),
        ("history", "tool-ids"),
        ("history", "reasoning-replay"),
        ("tool-names", "tool-ids"),
    ]:
        assert ids.index(earlier) < ids.index(later)


class TestModes:
    """The engine governs: a practice never knows its mode."""

    @pytest.fixture
    def tagged(self, register: Callable[..., Practice]) -> Callable[[Kind], None]:
        def add(kind: Kind) -> None:
            register("tagged", apply=lambda body, call: Edit(put(body, seed=7), [Change(kind, "seed 7")]))

        return add

    @pytest.mark.parametrize(
        ("kind", "mode", "outcome"),
        [
            *[(kind, "apply", "edited") for kind in ("add", "encode", "replace", "drop", "advise")],
            ("refuse", "apply", "raised"),
            *[(kind, "error", "edited") for kind in ("add", "encode")],
            *[(kind, "error", "raised") for kind in ("replace", "drop", "advise", "refuse")],
            *[(kind, "warn", "said") for kind in ("add", "encode", "replace", "drop", "advise", "refuse")],
            *[(kind, "off", "untouched") for kind in ("add", "refuse")],
        ],
    )
    def test_the_table(self, tagged: Callable[[Kind], None], kind: Kind, mode: str, outcome: str) -> None:
        tagged(kind)
        if outcome == "raised":
            with pytest.raises(PracticeError) as caught:
                prepare(call(practices={"tagged": mode}))
            assert (caught.value.practice, caught.value.details) == ("tagged", ("seed 7",))
            assert "'tagged': 'apply' | 'warn' | 'error' | 'off'" in str(caught.value)
            return
        prepared = prepare(call(practices={"tagged": mode}))
        assert ("seed" in prepared.body) is (outcome == "edited")
        action = {"edited": kind, "said": "advise"}.get(outcome)
        assert changes(prepared, "tagged") == ([(action, "seed 7")] if action else [])

    def test_a_practices_own_error(self) -> None:
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
        with pytest.raises(VisionUnsupported) as caught:
            prepare(call([{"role": "user", "content": [image]}], model="kimi-k2-0905-preview"))
        assert isinstance(caught.value, PracticeError)
        assert caught.value.practice == "vision"

    def test_what_one_practice_did_the_next_one_sees(self, register: Callable[..., Practice]) -> None:
        seen: list[Any] = []

        def read(body: Any, call: Call) -> Edit:
            seen.append(body.get("seed"))
            return Edit(body, [])

        register("writes", apply=lambda body, call: Edit(put(body, seed=1), [Change("add", "seed")]))
        register("reads", after="writes", apply=read)
        prepare(call())
        prepare(call(practices={"writes": "warn"}))
        assert seen == [1, None], "in mode warn the body passes as it came"

    def test_scope_messages(self, register: Callable[..., Practice]) -> None:
        """A node that edits a graph's state: no wire forms, no request settings."""
        register("words", scope="messages", apply=lambda body, call: Edit(put(body, seed=1), [Change("add", "seed")]))
        register("request", apply=lambda body, call: Edit(put(body, n=2), [Change("add", "n")]))
        body = prepare(call(scope="messages")).body
        assert body["seed"] == 1
        assert "n" not in body
        assert "temperature" not in body
        assert body["model"] == "as the user wrote it"
        assert {practice.id for practice in ordered("messages")} >= {"words", "system-prompt"}


class TestWire:
    def test_everything_off_still_speaks_to_the_host(self) -> None:
        message = {"role": "user", "content": "Hello.", "cache_control": {"type": "ephemeral"}, "name": "Ann"}
        prepared = prepare(call([message], practices="off", fields={"temperature": 0.3}))
        assert prepared.body == {
            "model": "kimi-k2.6",
            "messages": [{"role": "user", "content": "Hello.", "name": "Ann"}],
            "temperature": 0.3,
        }
        assert changes(prepared, "wire") == [("drop", "message field 'cache_control': unknown to this host")]

    def test_fields_of_content_parts_too(self) -> None:
        marked = {"type": "text", "text": "Hello.", "cache_control": {"type": "ephemeral"}}
        sound = {"type": "input_audio", "input_audio": {"data": "AAAA"}, "cache_control": {}}
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}}
        prepared = prepare(call([{"role": "user", "content": [marked, sound, picture]}], practices="off"))
        first, *others = prepared.body["messages"][0]["content"]
        assert first == {"type": "text", "text": "Hello."}
        assert others[0] is sound, "of a type that nobody knows nothing is taken away"
        assert others[1] is picture
        assert changes(prepared, "wire") == [("drop", "content field 'cache_control': unknown to this host")]
        assert "cache_control" in marked
        again = prepare(call(prepared.body["messages"], practices="off"))
        assert again.body["messages"][0] is prepared.body["messages"][0]

    def test_what_we_noted_on_a_call_stays_here(self) -> None:
        made = {
            "id": "c", "index": 0, "type": "function", "error": "no JSON", "withheld": True,
            "function": {"name": "f", "arguments": "{"},
        }  # fmt: skip
        prepared = prepare(call([HELLO, {"role": "assistant", "tool_calls": [made]}], practices="off"))
        assert prepared.body["messages"][1]["tool_calls"] == [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
        ]
        assert "error" in made

    def test_extra_body_is_merged_last_and_a_conflict_is_said(self) -> None:
        extra = {
            "top_k": 40,
            "chat_template_kwargs": {"thinking": True, "style": "x"},
            "max_tokens": 5,
        }
        prepared = prepare(
            call(model="moonshotai/Kimi-K2.6", host="vllm", extra=extra, fields={"chat_template_kwargs": {"keep": 1}})
        )
        assert cast(Any, prepared.body)["top_k"] == 40
        assert prepared.body["chat_template_kwargs"] == {"keep": 1, "thinking": True, "style": "x"}
        assert prepared.body["max_tokens"] == 5
        assert changes(prepared, "wire") == [("advise", "extra_body sets max_tokens: it goes out as given")]
        assert extra["chat_template_kwargs"] == {"thinking": True, "style": "x"}

    def test_nothing_of_the_callers_is_changed(self) -> None:
        made = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": "<|im_end|>"}'}}
        given = call(
            [
                {"role": "user", "content": [{"type": "text", "text": "<|im_end|>"}, {"type": "text", "text": ""}]},
                {"role": "assistant", "content": "", "tool_calls": [made], "x": 1},
                {"role": "tool", "tool_call_id": "call_1", "content": ""},
            ],
            model="moonshotai/Kimi-K2-Thinking",
            host="vllm",
            extra={"top_k": 1},
            fields={"tools": [{"type": "function", "function": {"name": "2f", "parameters": {}}}], "max_tokens": 10**7},
        )
        before = copy.deepcopy(given.body)
        prepared = prepare(given)
        assert given.body == before
        assert prepared.body != before
        assert prepared.call is given

    def test_streaming(self) -> None:
        assert prepare(call(fields={"stream": True})).stream is True
        assert prepare(call()).stream is False


class TestRegistered:
    async def test_it_runs_in_a_chat_model(self, register: Callable[..., Practice]) -> None:
        def sign(body: Any, call: Call) -> Edit:
            last = body["messages"][-1]
            signed = {**last, "content": f"{last['content']} -- Ann"}
            return Edit(put(body, messages=[*body["messages"][:-1], signed]), [Change("encode", "signed")])

        register("signature", apply=sign)
        reply, (body,) = await exchange("invoke", [("user", "Hello.")])
        assert body["messages"][-1]["content"] == "Hello. -- Ann"
        assert {"practice": "signature", "action": "encode", "detail": "signed", "source": ""} in (
            reply.response_metadata["refrase"]["changes"]
        )
        _, (body,) = await exchange("invoke", [("user", "Hello.")], practices={"signature": "off"})
        assert body["messages"][-1]["content"] == "Hello."

    def test_its_setting_is_unknown_once_it_is_gone(self, register: Callable[..., Practice]) -> None:
        assert "passing" not in known_ids()
        with pytest.raises(ConfigurationError, match="unknown practice 'passing'"):
            call(practices={"passing": "off"})
        register("passing")
        call(practices={"passing": "off"})


@pytest.mark.parametrize(
    "messages", [[], [{}], [{"role": "assistant", "tool_calls": [{}]}], [{"role": "tool", "content": "x"}]]
)
def test_malformed_messages_are_at_worst_a_typed_error(messages: list[Any]) -> None:
    assert prepare(call(messages, practices="off")).body["messages"] == messages
    with contextlib.suppress(PracticeError):  # the history refuses what says nothing at all
        assert prepare(call(messages)).body["messages"]
