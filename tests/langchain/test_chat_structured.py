"""with_structured_output: every method and kind of schema, whole and streamed, and answers that do not fit."""

from __future__ import annotations

import itertools
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict

import openai
import pytest
from langchain_core.exceptions import OutputParserException
from pydantic import BaseModel, Field, ValidationError, field_validator

from refrase_integrations.errors import ConfigurationError, ReplyError, StructuredOutputError, WrongKey
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES
from tests.langchain.wrapped import wrapped


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str


class JokeDict(TypedDict):
    """A joke."""

    setup: str
    punchline: Annotated[str, ..., "how it ends"]


JOKE = {
    "title": "joke",
    "description": "A joke.",
    "type": "object",
    "properties": {"setup": {"type": "string"}, "punchline": {"type": "string"}},
    "required": ["setup", "punchline"],
}
SCHEMAS: dict[str, Any] = {"pydantic": Joke, "TypedDict": JokeDict, "JSON schema": JOKE}
METHODS = ("json_schema", "function_calling", "json_mode")
TARGETS: dict[str, dict[str, Any]] = {
    "instruct": {"host": "moonshot", "model": "kimi-k2-0905-preview"},
    "thinking on": {"host": "moonshot", "model": "kimi-k2.6", "thinking": True},
    "thinking off": {"host": "moonshot", "model": "kimi-k2.6", "thinking": False},
    "vllm": {"host": "vllm", "model": "moonshotai/Kimi-K2-Instruct-0905"},
}
QUESTION = "Tell a joke about cats. Answer as JSON with 'setup' and 'punchline' keys."


def chat(simulator: KimiSimulator, **fields: Any) -> ChatKimi:
    return ChatKimi(
        **{"host": simulator.host.persona.id, "base_url": simulator.base_url, "api_key": "sk-test", **fields}
    )


async def answer(mode: str, runnable: Any, question: Any, *, include_raw: bool = False) -> Any:
    """Return the last thing a runnable says; of an answer beside its raw message, the parts put together."""
    if mode == "invoke":
        return runnable.invoke(question)
    if mode == "ainvoke":
        return await runnable.ainvoke(question)
    seen = list(runnable.stream(question)) if mode == "stream" else [part async for part in runnable.astream(question)]
    assert seen, "the stream said nothing"
    return {key: value for part in seen for key, value in part.items()} if include_raw else seen[-1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", TARGETS)
async def test_every_method_and_schema_gives_the_answer(mode: str, target: str) -> None:
    with KimiSimulator(TARGETS[target]["host"]) as simulator:
        model = chat(simulator, **TARGETS[target])
        for method, (kind, schema), raw in itertools.product(METHODS, SCHEMAS.items(), (False, True)):
            runnable = model.with_structured_output(schema, method=method, include_raw=raw)
            given = await answer(mode, runnable, QUESTION, include_raw=raw)
            where = f"{method} {kind} include_raw={raw}"
            if raw:
                assert given["parsing_error"] is None, where
                assert given["raw"].type in ("ai", "AIMessageChunk"), where
                given = given["parsed"]
            assert isinstance(given, Joke if kind == "pydantic" else dict), where
            made = given.model_dump() if isinstance(given, Joke) else given
            assert set(made) == {"setup", "punchline"}, where
            assert all(made.values()), where
        assert simulator.refusals == []
        thoughts = [request.body.get("thinking", {}).get("type") for request in simulator.requests]
    if target.startswith("thinking"):
        assert set(thoughts) == {"enabled" if target == "thinking on" else "disabled"}


class Colour(Enum):
    """A colour."""

    RED = "red"
    GREEN = "green"


class Part(BaseModel):
    """A part."""

    name: str
    colour: Colour
    weight: float | None = None


class Machine(BaseModel):
    """A machine."""

    name: str
    kind: Literal["big", "small"]
    parts: list[Part] = Field(min_length=1)
    spare: Part | None = None
    tags: dict[str, int] = Field(default_factory=dict)


MACHINE = '{"name":"m","kind":"big","parts":[{"name":"p","colour":"red","weight":1.5},{"name":"q","colour":"green"}]}'


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", TARGETS)
async def test_nested_optional_list_and_enum_fields(method: str, target: str) -> None:
    def scripted(body: dict[str, Any]) -> Reply:
        if body.get("tools"):
            return Reply(tool_calls=[(body["tools"][0]["function"]["name"], MACHINE)])
        return Reply(MACHINE)

    with KimiSimulator(TARGETS[target]["host"], script=scripted) as simulator:
        runnable = chat(simulator, **TARGETS[target]).with_structured_output(Machine, method=method)  # type: ignore[arg-type]
        made = runnable.invoke("A machine, as JSON.")
        assert simulator.refusals == []
        assert len(simulator.requests) == 1
    assert made == Machine.model_validate_json(MACHINE)
    assert isinstance(made, Machine)
    assert [part.colour for part in made.parts] == [Colour.RED, Colour.GREEN]


WRONG = ["I will not.", '{"setup": "only this"}', '{"setup": "cut', "null"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["pydantic", "JSON schema"])
@pytest.mark.parametrize("target", ["thinking on", "vllm"])
async def test_an_answer_that_does_not_fit_is_never_silent(mode: str, kind: str, target: str) -> None:
    said = ""

    def scripted(body: dict[str, Any]) -> Reply:
        return Reply(said, reasoning="Hm." if target == "thinking on" else None)

    with KimiSimulator(TARGETS[target]["host"], script=scripted) as simulator:
        model = chat(simulator, **TARGETS[target])
        for method, said in itertools.product(METHODS, WRONG):
            schema = SCHEMAS[kind]
            with pytest.raises(StructuredOutputError, match="does not fit the schema") as raised:
                await answer(mode, model.with_structured_output(schema, method=method), QUESTION)
            assert isinstance(raised.value, OutputParserException)
            assert "cats" not in str(raised.value)
            beside = model.with_structured_output(schema, method=method, include_raw=True)
            given = await answer(mode, beside, QUESTION, include_raw=True)
            assert given["parsed"] is None
            assert isinstance(given["parsing_error"], StructuredOutputError)
            assert given["raw"].text == said or method != "json_mode"
        assert simulator.refusals == []


EMPTY = {
    "nothing": Reply(""),
    "only thoughts": Reply("", reasoning="Hm."),
    "thoughts cut": Reply("", reasoning="Hm.", finish_reason="length"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("surface", ["ChatKimi", "wrapped"])
@pytest.mark.parametrize("method", METHODS)
async def test_an_empty_reply_beside_the_raw_message_is_no_error(mode: str, surface: str, method: str) -> None:
    for said, times in (("nothing", 2), ("only thoughts", 2), ("thoughts cut", 1)):
        with KimiSimulator(script=lambda body: EMPTY[said]) as simulator:  # noqa: B023
            model = chat(simulator, model="kimi-k2.6") if surface == "ChatKimi" else wrapped(simulator)
            given = await answer(
                mode, model.with_structured_output(Joke, method=method, include_raw=True), QUESTION, include_raw=True
            )
            assert (given["parsed"], given["raw"].text) == (None, "")
            assert given["raw"].response_metadata["refrase"]["healed"]
            assert isinstance(given["parsing_error"], StructuredOutputError)
            words = (
                "raise max_tokens" if said == "thoughts cut" and mode == "invoke" else "neither text nor a tool call"
            )
            assert words in str(given["parsing_error"])
            assert "Hm." in given["raw"].additional_kwargs.get("reasoning_content", "Hm.")
            assert len(simulator.requests) >= times  # it is asked for once more where that may help
            with pytest.raises(ReplyError):
                await answer(mode, model.with_structured_output(Joke, method=method), QUESTION)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("surface", ["ChatKimi", "wrapped"])
async def test_what_keeps_a_reply_from_coming_still_raises(mode: str, surface: str) -> None:
    with KimiSimulator(script=[Reply(status=401)]) as simulator:
        model = chat(simulator, model="kimi-k2.6") if surface == "ChatKimi" else wrapped(simulator)
        with pytest.raises((WrongKey, openai.AuthenticationError)):
            await answer(mode, model.with_structured_output(Joke, include_raw=True), QUESTION, include_raw=True)


def test_practices_of_the_call_are_kept_beside_the_raw_message() -> None:
    with KimiSimulator(script=['{"setup": "a", "punchline": "b"}']) as simulator:
        model = chat(simulator, model="kimi-k2.6", practices={"fresh_data": "off"})
        model.with_structured_output(Joke, include_raw=True, practices={"system_prompt": "off"}).invoke("A joke.")
        assert [message["role"] for message in simulator.requests[0].body["messages"]] == ["user"]


@pytest.mark.parametrize("mode", MODES)
async def test_an_answer_cut_at_the_limit_says_so(mode: str) -> None:
    with KimiSimulator(script=lambda body: Reply('{"setup": "a long', finish_reason="length")) as simulator:
        runnable = chat(simulator, model="kimi-k2.6").with_structured_output(Joke)
        with pytest.raises(StructuredOutputError, match="raise max_tokens"):
            await answer(mode, runnable, QUESTION)


class Picky(BaseModel):
    """An even number."""

    number: int

    @field_validator("number")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("must be even")
        return value


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_the_users_own_validator_is_quoted(method: str) -> None:
    with KimiSimulator(script=lambda body: '{"number": 3}') as simulator:
        runnable = chat(simulator).with_structured_output(Picky, method=method)  # type: ignore[arg-type]
        with pytest.raises(StructuredOutputError, match="number: Value error, must be even") as raised:
            runnable.invoke("A number.")
    assert isinstance(raised.value.__cause__, (ValidationError, OutputParserException))


@pytest.mark.parametrize("mode", ["stream", "astream"])
async def test_dicts_grow_while_they_stream(mode: str) -> None:
    with KimiSimulator(script=['{"setup": "Why did the cat sit down?", "punchline": "It could."}']) as simulator:
        runnable = chat(simulator, model="kimi-k2.6").with_structured_output(JOKE)
        if mode == "stream":
            seen = list(runnable.stream("A joke."))
        else:
            seen = [part async for part in runnable.astream("A joke.")]
    assert len(seen) > 3
    assert seen[-1] == {"setup": "Why did the cat sit down?", "punchline": "It could."}
    assert [part for part in seen if part.get("setup") == "Why did the cat sit down?"]


@pytest.mark.parametrize("mode", MODES)
async def test_one_reask_mends_an_answer_on_the_tools_route(mode: str) -> None:
    name = "Joke"
    script = [
        Reply(tool_calls=[(name, {"setup": "a"})]),
        Reply(tool_calls=[(name, {"setup": "a", "punchline": "b"})]),
    ]
    with KimiSimulator("vllm", script=script) as simulator:
        model = chat(simulator, model="moonshotai/Kimi-K2-Instruct-0905")
        runnable = model.with_structured_output(Joke, method="function_calling")
        assert await answer(mode, runnable, "A joke.") == Joke(setup="a", punchline="b")
        assert len(simulator.requests) == 2


def test_strict_and_further_arguments_reach_the_request() -> None:
    with KimiSimulator(script=lambda body: '{"setup": "a", "punchline": "b"}') as simulator:
        model = chat(simulator, model="kimi-k2.6")
        model.with_structured_output(Joke, strict=False, max_tokens=99).invoke("A joke.")
        model.with_structured_output(Joke).invoke("A joke.")
        model.invoke("A joke.", response_format=Joke)
        first, second, third = (request.body for request in simulator.requests)
    assert first["response_format"]["json_schema"]["strict"] is False
    assert first["max_completion_tokens"] == 99
    assert second["response_format"]["json_schema"]["strict"] is True
    assert third["response_format"] == second["response_format"]


def test_wrong_use_is_named_before_any_request() -> None:
    model = ChatKimi(api_key="sk-test")
    with pytest.raises(ConfigurationError, match="method must be one of"):
        model.with_structured_output(Joke, method="yaml")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="needs a schema"):
        model.with_structured_output(None)
    for method in ("json_schema", "function_calling"):
        with pytest.raises(ConfigurationError, match="no schema"):
            model.with_structured_output({"neither": "this"}, method=method)  # type: ignore[arg-type]


def test_json_mode_without_a_schema() -> None:
    with KimiSimulator(script=['{"free": [1]}']) as simulator:
        assert chat(simulator).with_structured_output(None, method="json_mode").invoke("JSON.") == {"free": [1]}
