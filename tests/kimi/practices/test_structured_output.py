from __future__ import annotations

import json
from typing import Any

import pytest
from inline_snapshot import snapshot
from pydantic import BaseModel, Field

from refrase_integrations.errors import PracticeError, SchemaRefused, StructuredOutputError, ToolSchemaError
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, OPENAPI, ask, exchange, sent, violations_of_openapi

QUESTION = [("user", "How big is Paris?")]
INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"
GROQ = {"persona": "groq", "model": "moonshotai/kimi-k2-instruct-0905"}
OFF = {"structured_output": "off"}
GOOD = '{"name": "Paris", "people": 2100000}'
BAD = '{"name": "Paris", "people": "many"}'


class City(BaseModel):
    """A city."""

    name: str = Field(min_length=1)
    people: int


WANTED = {"type": "json_schema", "json_schema": {"name": "City", "schema": City.model_json_schema()}}
EMPTY = {"type": "object", "properties": {}}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "Time.", "parameters": EMPTY}}
ANSWER = Reply(tool_calls=[("City", GOOD)])

pytestmark = pytest.mark.parametrize("mode", MODES)


async def body(mode: str, wanted: Any = WANTED, **fields: Any) -> dict[str, Any]:
    fields = {"model": "kimi-k2.6", "script": [GOOD], **fields}
    made = await sent(mode, QUESTION, bind={"response_format": wanted}, **fields)
    assert fields.get("persona") or not OPENAPI.exists() or violations_of_openapi(made) == []
    return made


async def answered(mode: str, script: Any, wanted: Any = WANTED, **fields: Any) -> tuple[Any, list[dict[str, Any]]]:
    bind = {"response_format": wanted, **fields.pop("bind", {})}
    return await exchange(mode, QUESTION, script=script, bind=bind, **{"model": "kimi-k2.6", **fields})


def said(reply: Any, part: str = "healed") -> list[Any]:
    lines = reply.response_metadata["refrase"][part]
    return [(line["action"], line["detail"]) for line in lines if line["practice"] == "structured-output"]


class TestBodies:
    async def test_moonshot_has_json_schema(self, mode: str) -> None:
        assert await body(mode) == snapshot(
            {
                "model": "kimi-k2.6",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                    },
                    {"role": "user", "content": "How big is Paris?"},
                ],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "City",
                        "schema": {
                            "description": "A city.",
                            "properties": {
                                "name": {"minLength": 1, "title": "Name", "type": "string"},
                                "people": {"title": "People", "type": "integer"},
                            },
                            "required": ["name", "people"],
                            "title": "City",
                            "type": "object",
                        },
                        "strict": True,
                    },
                },
                "thinking": {"type": "enabled", "keep": "all"},
                "max_completion_tokens": 32768,
            }
        )

    async def test_moonshot_off(self, mode: str) -> None:
        assert await body(mode, practices=OFF) == {**await body(mode), "response_format": WANTED}

    async def test_vllm_has_json_schema(self, mode: str) -> None:
        assert await body(mode, persona="vllm", model=INSTRUCT) == snapshot(
            {
                "model": "moonshotai/Kimi-K2-Instruct-0905",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                    },
                    {"role": "user", "content": "How big is Paris?"},
                ],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "City",
                        "schema": {
                            "description": "A city.",
                            "properties": {
                                "name": {"minLength": 1, "title": "Name", "type": "string"},
                                "people": {"title": "People", "type": "integer"},
                            },
                            "required": ["name", "people"],
                            "title": "City",
                            "type": "object",
                        },
                        "strict": True,
                    },
                },
                "temperature": 0.6,
                "max_tokens": 32768,
            }
        )

    async def test_vllm_off(self, mode: str) -> None:
        with_it = await body(mode, persona="vllm", model=INSTRUCT)
        assert await body(mode, persona="vllm", model=INSTRUCT, practices=OFF) == {**with_it, "response_format": WANTED}

    async def test_a_host_without_json_schema_gets_a_tool(self, mode: str) -> None:
        assert await body(mode, **GROQ) == snapshot(
            {
                "model": "moonshotai/kimi-k2-instruct-0905",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                    },
                    {"role": "user", "content": "How big is Paris?"},
                ],
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "City",
                            "description": "Give the final answer to the user in this form.",
                            "parameters": {
                                "description": "A city.",
                                "properties": {
                                    "name": {"minLength": 1, "title": "Name", "type": "string"},
                                    "people": {"title": "People", "type": "integer"},
                                },
                                "required": ["name", "people"],
                                "title": "City",
                                "type": "object",
                            },
                        },
                    }
                ],
                "tool_choice": "auto",
                "temperature": 0.6,
                "max_tokens": 32768,
            }
        )

    async def test_beside_the_users_own_tools_the_answer_is_one_more(self, mode: str) -> None:
        made = await body(mode, **GROQ, tools=[CLOCK])
        assert [tool["function"]["name"] for tool in made["tools"]] == ["clock", "City"]
        assert made["tool_choice"] == "auto"

    async def test_a_tool_of_that_name_is_not_shadowed(self, mode: str) -> None:
        own = {"type": "function", "function": {"name": "City", "description": "Mine.", "parameters": EMPTY}}
        made = await body(mode, **GROQ, tools=[own])
        assert [tool["function"]["name"] for tool in made["tools"]] == ["City", "City_"]

    async def test_where_no_tool_may_be_called_the_prompt_says_it(self, mode: str) -> None:
        bind = {"response_format": WANTED, "tool_choice": "none"}
        made = await sent(mode, QUESTION, **GROQ, tools=[CLOCK], bind=bind, script=[GOOD])
        system, question = made["messages"]
        *_, line = system["content"].split("\n\n")
        told, _, schema = line.partition(": ")
        assert told == "Answer with one JSON object and nothing else, valid against this JSON schema"
        assert json.loads(schema) == City.model_json_schema()
        assert question == {"role": "user", "content": "How big is Paris?"}
        assert made["response_format"] == {"type": "json_object"}
        assert [tool["function"]["name"] for tool in made["tools"]] == ["clock"]

    async def test_json_mode_passes_where_the_host_has_it(self, mode: str) -> None:
        wanted = {"type": "json_object"}
        assert (await body(mode, wanted))["response_format"] == wanted
        assert (await body(mode, wanted, **GROQ))["response_format"] == wanted

    async def test_json_mode_elsewhere_goes_into_the_prompt(self, mode: str) -> None:
        made = await body(mode, {"type": "json_object"}, persona="generic", model=INSTRUCT)
        assert "response_format" not in made
        assert made["messages"][0] == snapshot(
            {
                "role": "system",
                "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.

Answer with one JSON object and nothing else.\
""",
            }
        )

    async def test_plain_text_is_left_alone(self, mode: str) -> None:
        assert (await body(mode, {"type": "text"}))["response_format"] == {"type": "text"}


class TestModes:
    async def test_warn_only_says_so(self, mode: str) -> None:
        reply, bodies = await answered(mode, [GOOD], **GROQ, practices={"structured_output": "warn"})
        assert bodies[0]["response_format"] == WANTED
        assert "tools" not in bodies[0]
        assert reply.content == GOOD
        assert said(reply, "changes") == snapshot([("advise", "no json_schema here: the tool 'City' takes the answer")])

    async def test_warn_takes_the_answer_as_it_is(self, mode: str) -> None:
        reply, bodies = await answered(mode, [BAD], **GROQ, practices={"structured_output": "warn"})
        assert len(bodies) == 1
        assert reply.content == BAD
        assert [action for action, _ in said(reply)] == ["advise"]

    async def test_error_takes_the_hosts_own_form(self, mode: str) -> None:
        assert await body(mode, practices={"structured_output": "error"}) == await body(mode)

    async def test_error_raises_where_the_answer_does_not_fit(self, mode: str) -> None:
        with pytest.raises(ToolSchemaError) as caught:
            await answered(mode, [BAD, GOOD], **GROQ, practices={"structured_output": "error"})
        assert caught.value.details == snapshot(
            ("the answer does not fit the schema ('people' must be an integer, got a string): one re-ask",)
        )

    async def test_a_schema_that_cannot_be_said_is_refused_before_any_request(self, mode: str) -> None:
        schema = {"type": "object", "properties": {"secret": {"$ref": "https://example.org/schema.json"}}}
        wanted = {"type": "json_schema", "json_schema": {"name": "City", "schema": schema}}
        with KimiSimulator() as simulator:
            model = ChatKimi(base_url=simulator.base_url, host="moonshot", api_key="sk-test")
            with pytest.raises(ToolSchemaError) as caught:
                await ask(mode, model.bind(response_format=wanted), QUESTION)
            assert simulator.requests == []
        assert caught.value.details == snapshot(
            (
                "response schema: invalid tool schema at 'properties.secret': the reference cannot be followed: "
                "it leads out of the schema, and nothing is fetched",
            )
        )
        assert "practices={'structured_output': " in str(caught.value)
        assert "Paris" not in str(caught.value)

    async def test_a_form_without_a_schema_is_refused_before_any_request(self, mode: str) -> None:
        with pytest.raises(PracticeError, match="json_schema without a schema"):
            await answered(mode, [], {"type": "json_schema", "json_schema": {"name": "City"}})

    async def test_the_report_holds_nothing_of_prompt_or_answer(self, mode: str) -> None:
        script = ['{"name": "xylophone"}', Reply(tool_calls=[("City", GOOD)])]
        reply, _ = await exchange(mode, [("user", "marimba")], **GROQ, script=script, bind={"response_format": WANTED})
        report = reply.response_metadata["refrase"]
        assert {line["source"] for part in ("changes", "healed") for line in report[part]} > {
            "platform.kimi.ai/docs/guide/response_format"
        }
        assert "xylophone" not in str(report)
        assert "marimba" not in str(report)


class TestHealing:
    async def test_the_hosts_own_answer_passes_byte_for_byte(self, mode: str) -> None:
        text = '{"name":"Paris",  "people":2100000}'
        reply, bodies = await answered(mode, [text])
        assert len(bodies) == 1
        assert reply.content == text
        assert said(reply) == []

    async def test_the_tools_arguments_come_back_as_content(self, mode: str) -> None:
        reply, bodies = await answered(mode, [ANSWER], **GROQ)
        assert len(bodies) == 1
        assert (reply.content, reply.tool_calls, reply.invalid_tool_calls) == (GOOD, [], [])
        assert reply.response_metadata["finish_reason"] == "stop"

    @pytest.mark.parametrize(
        "text",
        [GOOD, f"```json\n{GOOD}\n```", f"Here you are:\n```json\n{GOOD}\n```\nBye."],
        ids=["plain", "fenced", "said"],
    )
    async def test_a_plain_answer_that_is_right_is_taken_at_once(self, mode: str, text: str) -> None:
        reply, bodies = await answered(mode, [text], **GROQ)
        assert len(bodies) == 1
        assert City.model_validate_json(reply.content) == City(name="Paris", people=2100000)

    async def test_an_answer_in_words_is_asked_once_more(self, mode: str) -> None:
        reply, bodies = await answered(mode, ["Two million.", ANSWER], **GROQ)
        assert len(bodies) == 2
        assert bodies[1]["messages"][len(bodies[0]["messages"]) :] == snapshot(
            [
                {"role": "assistant", "content": "Two million."},
                {
                    "role": "user",
                    "content": "That answer does not have the form that was asked for (no JSON in it). "
                    "Give it again by calling the tool City.",
                },
            ]
        )
        assert bodies[1]["tools"] == bodies[0]["tools"]
        assert reply.content == GOOD
        assert said(reply) == snapshot([("replace", "the answer does not fit the schema (no JSON in it): one re-ask")])

    async def test_an_answer_of_the_wrong_types_is_told_what_is_wrong(self, mode: str) -> None:
        reply, bodies = await answered(mode, [Reply(tool_calls=[("City", BAD)]), ANSWER], **GROQ)
        assert bodies[1]["messages"][len(bodies[0]["messages"]) :] == snapshot(
            [
                {"role": "assistant", "content": '{"name": "Paris", "people": "many"}'},
                {
                    "role": "user",
                    "content": "That answer does not have the form that was asked for "
                    "('people' must be an integer, got a string). "
                    "Give it again by calling the tool City.",
                },
            ]
        )
        assert reply.content == GOOD

    async def test_the_prompt_route_asks_again_in_its_own_words(self, mode: str) -> None:
        bind = {"response_format": WANTED, "tool_choice": "none"}
        reply, bodies = await exchange(mode, QUESTION, **GROQ, tools=[CLOCK], bind=bind, script=["Two million.", GOOD])
        assert bodies[1]["messages"][-1] == snapshot(
            {
                "role": "user",
                "content": "That answer does not have the form that was asked for (no JSON in it). "
                "Give it again as one JSON object.",
            }
        )
        assert bodies[1]["messages"][0] == bodies[0]["messages"][0]
        assert reply.content == GOOD

    async def test_arguments_are_mended_first(self, mode: str) -> None:
        reply, bodies = await answered(
            mode, [Reply(tool_calls=[("City", '{"name": "Paris", "people": "2100000",}')])], **GROQ
        )
        assert len(bodies) == 1
        assert City.model_validate_json(reply.content) == City(name="Paris", people=2100000)
        assert [action for action, _ in said(reply)] == ["encode"]

    async def test_the_hosts_own_json_schema_is_asked_again_only_unstreamed(self, mode: str) -> None:
        reply, bodies = await answered(mode, [BAD, GOOD])
        streamed = mode in ("stream", "astream")
        assert len(bodies) == (1 if streamed else 2)
        assert reply.content == (BAD if streamed else GOOD)
        assert [action for action, _ in said(reply)] == ["advise" if streamed else "replace"]

    async def test_the_allowance_of_extra_calls_bounds_it(self, mode: str) -> None:
        reply, bodies = await answered(mode, [BAD, ANSWER], **GROQ, practices={"extra_calls": 0})
        assert len(bodies) == 1
        assert reply.content == BAD
        assert said(reply) == snapshot(
            [("advise", "the answer does not fit the schema: 'people' must be an integer, got a string")]
        )

    async def test_it_is_asked_once_and_no_more(self, mode: str) -> None:
        reply, bodies = await answered(mode, [BAD, BAD, ANSWER], **GROQ)
        assert len(bodies) == 2
        assert reply.content == BAD

    async def test_thinking_stays_on(self, mode: str) -> None:
        script = [Reply("Two million.", reasoning="Easy. "), Reply(GOOD, reasoning="Again.")]
        reply, bodies = await answered(mode, script, persona="moonshot", model="kimi-k2.6")
        assert all(made["thinking"] == {"type": "enabled", "keep": "all"} for made in bodies)
        if mode.endswith("invoke"):
            assert reply.additional_kwargs["reasoning_content"] == "Easy. Again."
            assert bodies[1]["messages"][-2]["reasoning_content"] == "Easy. "

    async def test_a_call_of_another_tool_goes_on_as_a_call(self, mode: str) -> None:
        reply, bodies = await answered(mode, [Reply("A moment.", tool_calls=[("clock", {})])], **GROQ, tools=[CLOCK])
        assert len(bodies) == 1
        assert reply.content == "A moment."
        assert [call["name"] for call in reply.tool_calls] == ["clock"]
        assert reply.response_metadata["finish_reason"] == "tool_calls"


class TestWithStructuredOutput:
    """What a LangChain user writes."""

    @pytest.mark.parametrize("method", ["json_schema", "function_calling"])
    @pytest.mark.parametrize(
        ("persona", "model"),
        [("moonshot", "kimi-k2.6"), ("vllm", INSTRUCT), ("groq", GROQ["model"])],
        ids=["moonshot", "vllm", "groq"],
    )
    async def test_every_route_gives_the_object(self, mode: str, persona: str, model: str, method: str) -> None:
        with KimiSimulator(persona) as simulator:
            chat = ChatKimi(model=model, host=persona, base_url=simulator.base_url, api_key="sk-test")
            question = [("user", "What is the city 'Paris' with 2100000 people?")]
            made = await final(mode, chat.with_structured_output(City, method=method), question)
            assert isinstance(made, City)
            assert simulator.refusals == []

    async def test_what_never_fits_is_an_error(self, mode: str) -> None:
        with KimiSimulator("groq", script=["No."] * 5) as simulator:
            chat = ChatKimi(model=GROQ["model"], host="groq", base_url=simulator.base_url, api_key="sk-test")
            structured = chat.with_structured_output(City)
            with pytest.raises(StructuredOutputError):
                await final(mode, structured, QUESTION)


class TestSchemasThatMoonshotRefuses:
    """400 ... is not a valid moonshot flavored json schema: kimi-cli#2061, logfire#2191."""

    async def test_without_the_practice_the_host_refuses(self, mode: str) -> None:
        schema = {**City.model_json_schema(), "properties": {"name": {"const": "Paris"}}, "required": ["name"]}
        wanted = {"type": "json_schema", "json_schema": {"name": "City", "schema": schema, "strict": True}}
        with pytest.raises(SchemaRefused):
            await answered(mode, ['{"name": "Paris"}'], wanted, practices=OFF)
        reply, bodies = await answered(mode, ['{"name": "Paris"}'], wanted)
        assert reply.content == '{"name": "Paris"}'
        assert bodies[0]["response_format"]["json_schema"]["schema"]["properties"] == snapshot(
            {"name": {"type": "string", "enum": ["Paris"]}}
        )


async def final(mode: str, runnable: Any, messages: Any) -> Any:
    """Return what the runnable gives in the end: a parser's stream gives ever fuller objects."""
    if mode.endswith("invoke"):
        return await ask(mode, runnable, messages)
    if mode == "stream":
        chunks = list(runnable.stream(messages))
    else:
        chunks = [chunk async for chunk in runnable.astream(messages)]
    if chunks and isinstance(chunks[0], dict):
        return {key: value for chunk in chunks for key, value in chunk.items()}
    return chunks[-1] if chunks else None
