from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import SchemaRefused, ToolSchemaError
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, OPENAPI, ask, exchange, run_body, sent, violations_of_openapi

QUESTION = [("user", "Book a table.")]
INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"
OFF = {"tool_schemas": "off"}
PARAMETERS = {
    "type": "object",
    "properties": {
        "guests": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        "place": {"$ref": "#/definitions/Place"},
        "wishes": {"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": True},
    },
    "required": ["place"],
    "definitions": {
        "Place": {
            "type": "object",
            "properties": {"street": {"type": "string", "format": "address"}, "kind": {"const": "indoors"}},
            "required": ["street"],
        }
    },
}
"""As pydantic and MCP servers write them."""
BOOK = {"type": "function", "function": {"name": "book", "description": "Books a table.", "parameters": PARAMETERS}}
CLOCK_PARAMETERS = {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "Time.", "parameters": CLOCK_PARAMETERS}}
GOOD = {"place": {"street": "Main St"}}
CALL = Reply(tool_calls=[("book", GOOD)])

pytestmark = pytest.mark.parametrize("mode", MODES)


async def body(mode: str, tools: Any = (BOOK,), **fields: Any) -> dict[str, Any]:
    fields = {"model": "kimi-k2.6", "script": [CALL], **fields}
    made = await sent(mode, QUESTION, tools=tools, **fields)
    assert fields.get("persona") or not OPENAPI.exists() or violations_of_openapi(made) == []
    return made


async def called(
    mode: str, *replies: Any, tools: Any = (BOOK, CLOCK), choice: Any = None, **fields: Any
) -> tuple[Any, list[dict[str, Any]]]:
    bind = {"tool_choice": choice} if choice else None
    return await exchange(mode, QUESTION, tools=tools, bind=bind, script=replies, **{"model": "kimi-k2.6", **fields})


def calls(*made: tuple[str, Any], content: str = "") -> Reply:
    return Reply(content, tool_calls=list(made))


def said(reply: Any, part: str = "healed") -> list[Any]:
    lines = reply.response_metadata["refrase"][part]
    return [(line["action"], line["detail"]) for line in lines if line["practice"] == "tool-schemas"]


def unusable(reply: Any) -> list[str]:
    """Why calls cannot be used. LangChain's chunks make something of cut arguments, so the errors are looked at."""
    return list(reply.additional_kwargs.get("tool_call_errors", {}).values())


class TestBodies:
    async def test_moonshot(self, mode: str) -> None:
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
                    {"role": "user", "content": "Book a table."},
                ],
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "book",
                            "description": "Books a table.",
                            "parameters": {
                                "type": "object",
                                "properties": {
                                    "guests": {
                                        "description": "default: null",
                                        "anyOf": [{"type": "integer"}, {"type": "null"}],
                                    },
                                    "place": {
                                        "type": "object",
                                        "properties": {
                                            "street": {"type": "string", "description": "format: address"},
                                            "kind": {"type": "string", "enum": ["indoors"]},
                                        },
                                        "required": ["street"],
                                    },
                                    "wishes": {
                                        "type": "array",
                                        "description": "items must be unique",
                                        "items": {"type": "string", "minLength": 1},
                                    },
                                },
                                "required": ["place"],
                            },
                        },
                    }
                ],
                "tool_choice": "auto",
                "thinking": {"type": "enabled", "keep": "all"},
                "max_completion_tokens": 32768,
            }
        )

    async def test_moonshot_off(self, mode: str) -> None:
        made = await body(mode, practices=OFF, strict=False)
        assert made == {**await body(mode), "tools": [BOOK]}

    async def test_vllm_takes_any_json_schema(self, mode: str) -> None:
        made = await body(mode, persona="vllm", model=INSTRUCT)
        assert made == snapshot(
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
                    {"role": "user", "content": "Book a table."},
                ],
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "book",
                            "description": "Books a table.",
                            "parameters": {
                                "type": "object",
                                "properties": {
                                    "guests": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
                                    "place": {"$ref": "#/definitions/Place"},
                                    "wishes": {
                                        "type": "array",
                                        "items": {"type": "string", "minLength": 1},
                                        "uniqueItems": True,
                                    },
                                },
                                "required": ["place"],
                                "definitions": {
                                    "Place": {
                                        "type": "object",
                                        "properties": {
                                            "street": {"type": "string", "format": "address"},
                                            "kind": {"const": "indoors"},
                                        },
                                        "required": ["street"],
                                    }
                                },
                            },
                        },
                    }
                ],
                "tool_choice": "auto",
                "temperature": 0.6,
                "max_tokens": 32768,
            }
        )
        assert made == await body(mode, persona="vllm", model=INSTRUCT, practices=OFF)

    async def test_a_schema_that_fits_stays_as_it_is(self, mode: str) -> None:
        made = await body(mode, tools=[CLOCK], script=[calls(("clock", {"zone": "UTC"}))])
        assert made["tools"] == [CLOCK]

    async def test_the_users_own_tools_are_not_touched(self, mode: str) -> None:
        tools = [copy.deepcopy(BOOK)]
        await body(mode, tools=tools)
        assert tools == [BOOK]


class TestModes:
    async def test_warn_sends_the_schema_as_it_is(self, mode: str) -> None:
        reply, bodies = await called(mode, CALL, tools=[BOOK], practices={"tool_schemas": "warn"}, strict=False)
        assert bodies[0]["tools"] == [BOOK]
        assert said(reply, "changes") == snapshot(
            [("advise", "book: 4 place(s) rewritten (properties.place: the reference is written out)")]
        )

    async def test_error_takes_the_hosts_own_form(self, mode: str) -> None:
        assert await body(mode, practices={"tool_schemas": "error"}) == await body(mode)

    async def test_error_raises_on_arguments_that_cannot_be_used(self, mode: str) -> None:
        with pytest.raises(ToolSchemaError) as caught:
            await called(mode, calls(("book", "{broken")), CALL, practices={"tool_schemas": "error"})
        assert "broken" not in str(caught.value)

    async def test_warn_passes_arguments_as_they_came(self, mode: str) -> None:
        damaged = json.dumps({"place": json.dumps(GOOD["place"])})
        reply, bodies = await called(
            mode, calls(("book", damaged)), CALL, practices={"tool_schemas": "warn"}, strict=False
        )
        assert len(bodies) == 1
        assert reply.tool_calls[0]["args"] == json.loads(damaged)
        assert [action for action, _ in said(reply)] == ["advise"]

    async def test_what_cannot_be_said_is_refused_before_any_request(self, mode: str) -> None:
        far = {"type": "object", "properties": {"what": {"$ref": "https://example.org/schema.json"}}}
        tool = {"type": "function", "function": {"name": "book", "description": "Books.", "parameters": far}}
        with KimiSimulator() as simulator:
            model = ChatKimi(base_url=simulator.base_url, host="moonshot", api_key="sk-test").bind_tools([tool])
            with pytest.raises(ToolSchemaError) as caught:
                await ask(mode, model, QUESTION)
            assert simulator.requests == []
        assert caught.value.practice == "tool-schemas"
        assert caught.value.details == snapshot(
            (
                "book: invalid tool schema at 'properties.what': the reference cannot be followed: "
                "it leads out of the schema, and nothing is fetched",
            )
        )
        assert "practices={'tool_schemas': 'apply'" in str(caught.value)
        assert "table" not in str(caught.value)

    async def test_the_report_names_tool_and_place(self, mode: str) -> None:
        reply, _ = await called(mode, CALL, tools=[BOOK])
        assert said(reply, "changes") == snapshot(
            [("encode", "book: 4 place(s) rewritten (properties.place: the reference is written out)")]
        )


class TestSchemasThatMoonshotRefuses:
    """400 ... is not a valid moonshot flavored json schema: kimi-cli#2061, #2531, opencode#27054."""

    @pytest.mark.parametrize(
        "schema",
        [
            {"enum": ["a", "b"]},
            {"$ref": "#/definitions/Place"},
            {"type": "string", "anyOf": [{"type": "string"}, {"type": "null"}]},
            {"const": "x"},
            {"type": "object", "additionalProperties": {}, "patternProperties": {"^x": {"type": "string"}}},
            {"oneOf": [{"type": "string"}, {"type": "integer"}]},
            {"type": "array", "prefixItems": [{"type": "string"}]},
            {"type": ["string", "null"], "format": "date"},
            {},
        ],
        ids=lambda schema: "+".join(schema) or "empty",
    )
    async def test_the_host_refuses_without_the_practice_and_takes_it_with(self, mode: str, schema: Any) -> None:
        properties = {"value": schema, "place": {"type": "string"}}
        definitions = {"Place": {"type": "string"}}
        parameters = {"type": "object", "properties": properties, "definitions": definitions}
        tool = {"type": "function", "function": {"name": "book", "description": "Books.", "parameters": parameters}}
        with pytest.raises(SchemaRefused) as caught:
            await called(mode, calls(("book", {"place": "x"})), tools=[tool], practices=OFF)
        assert caught.value.status == 400
        await body(mode, tools=[tool], script=[calls(("book", {"place": "x"}))])


class TestArguments:
    """Nested JSON as a string, raw control characters, trailing commas, cut short: kimi-cli#2406, vllm#41739."""

    @pytest.mark.parametrize(
        ("text", "args"),
        [
            ('{"place": "{\\"street\\": \\"Main St\\"}"}', GOOD),
            ('{"place": {"street": "Main St"},}', GOOD),
            ('{"place": {"street": "Main\nSt"}}', {"place": {"street": "Main\nSt"}}),
            ('{"place": {"street": "Main St"}, "guests": "4"}', {**GOOD, "guests": 4}),
            ('{"place": {"street": "Main St"}, "wishes": "[\\"quiet\\"]"}', {**GOOD, "wishes": ["quiet"]}),
            ('{"guests": 4, "wishes": [], "place": {"street": "Main St"}', {"guests": 4, "wishes": [], **GOOD}),
        ],
        ids=["nested", "comma", "newline", "number", "list", "brace"],
    )
    async def test_they_are_mended(self, mode: str, text: str, args: Any) -> None:
        reply, bodies = await called(mode, calls(("book", text)), persona="vllm", model=INSTRUCT)
        assert len(bodies) == 1
        assert [call["args"] for call in reply.tool_calls] == [args]
        assert reply.invalid_tool_calls == []
        assert [action for action, _ in said(reply)] == ["encode"]

    async def test_what_fits_passes_byte_for_byte(self, mode: str) -> None:
        text = '{"place":{"street":"Main St"} }'
        first, _ = await called(mode, calls(("book", text)))
        answer = {"role": "tool", "tool_call_id": first.tool_calls[0]["id"], "content": "Done."}
        made = await sent(mode, [*QUESTION, first, answer], tools=[BOOK], model="kimi-k2.6")
        assert made["messages"][2]["tool_calls"][0]["function"]["arguments"] == text
        assert said(first) == []

    async def test_the_users_schema_judges_not_the_hosts(self, mode: str) -> None:
        limits = {"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 5}}, "required": ["n"]}
        tool = {"type": "function", "function": {"name": "book", "description": "Books.", "parameters": limits}}
        reply, bodies = await called(mode, calls(("book", {"n": 7})), calls(("book", {"n": 10})), tools=[tool])
        assert "multipleOf" not in bodies[0]["tools"][0]["function"]["parameters"]["properties"]["n"]
        assert len(bodies) == 2
        assert [call["args"] for call in reply.tool_calls] == [{"n": 10}]

    @pytest.mark.parametrize(
        "text",
        ['{"place": {"street": "Ma', '{"place": {"street": "Main St"}', "{broken", '["a"]'],
        ids=["cut", "guests may have been cut", "broken", "list"],
    )
    async def test_where_all_are_unusable_it_is_asked_once_more(self, mode: str, text: str) -> None:
        reply, bodies = await called(mode, calls(("book", text)), CALL)
        assert len(bodies) == 2
        assert [call["args"] for call in reply.tool_calls] == [GOOD]
        assert reply.invalid_tool_calls == []
        assert reply.response_metadata["finish_reason"] == "tool_calls"

    async def test_the_model_is_told_what_was_wrong(self, mode: str) -> None:
        reply, bodies = await called(
            mode, Reply(reasoning="Hm.", tool_calls=[("book", '{"guests": 4}', "call_a")]), CALL
        )
        assert bodies[1]["messages"][2:] == snapshot(
            [
                {
                    "role": "assistant",
                    "reasoning_content": "Hm.",
                    "tool_calls": [
                        {"id": "call_a", "type": "function", "function": {"name": "book", "arguments": '{"guests": 4}'}}
                    ],
                },
                {
                    "role": "tool",
                    "tool_call_id": "call_a",
                    "name": "book",
                    "content": "Error: required property missing: 'place'. Make the call again, corrected.",
                },
            ]
        )
        assert bodies[1]["tools"] == bodies[0]["tools"]
        assert said(reply) == snapshot(
            [
                ("advise", "book: unusable arguments: required property missing: 'place'"),
                ("replace", "1 unusable tool call(s): asked once more"),
            ]
        )

    async def test_where_one_is_usable_the_agent_repairs_the_rest(self, mode: str) -> None:
        reply, bodies = await called(mode, calls(("book", GOOD), ("book", "{broken")))
        assert len(bodies) == 1
        assert reply.tool_calls[0]["args"] == GOOD
        assert unusable(reply) == [
            "the arguments were cut short; send them again, complete, and split very long content"
        ]
        assert [action for action, _ in said(reply)] == ["advise"]

    async def test_a_call_that_misses_the_schema_stays_a_call_beside_good_ones(self, mode: str) -> None:
        reply, _ = await called(mode, calls(("book", GOOD), ("clock", {})))
        assert [(call["name"], call["args"]) for call in reply.tool_calls] == [("book", GOOD), ("clock", {})]

    async def test_its_error_reaches_the_model_in_the_next_turn(self, mode: str) -> None:
        reply, _ = await called(mode, calls(("book", GOOD), ("book", "{broken")))
        answer = {"role": "tool", "tool_call_id": reply.tool_calls[0]["id"], "content": "Booked."}
        made = await sent(mode, [*QUESTION, reply, answer], tools=[BOOK], model="kimi-k2.6")
        assert [message["role"] for message in made["messages"]] == ["system", "user", "assistant", "tool", "tool"]
        assert made["messages"][-1]["content"].startswith("Error: the arguments were cut short")

    async def test_words_said_before_are_kept_once(self, mode: str) -> None:
        reply, bodies = await called(
            mode, calls(("book", "{broken"), content="I book."), calls(("book", GOOD), content="Again.")
        )
        assert len(bodies) == 2
        assert reply.content == "I book."
        assert [call["args"] for call in reply.tool_calls] == [GOOD]

    async def test_the_allowance_of_extra_calls_bounds_it(self, mode: str) -> None:
        reply, bodies = await called(mode, calls(("book", "{broken")), CALL, practices={"extra_calls": 0})
        assert len(bodies) == 1
        assert len(unusable(reply)) == 1

    async def test_it_is_asked_once_and_no_more(self, mode: str) -> None:
        bad = calls(("book", "{broken"))
        _, bodies = await called(mode, bad, bad, CALL)
        assert len(bodies) == 2


CHOICES = {
    "openai": {"type": "function", "function": {"name": "book"}},
    "flat": {"type": "function", "name": "book"},
    "anthropic": {"type": "tool", "name": "book"},
    "mcp": "required",
    "2023": {"name": "book"},
}
FORMS: dict[str, dict[str, Any]] = {
    "openai": {"tools": [BOOK]},
    "flat": {"tools": [{"type": "function", "name": "book", "description": "Books.", "parameters": PARAMETERS}]},
    "anthropic": {"tools": [{"name": "book", "description": "Books.", "input_schema": PARAMETERS}]},
    "mcp": {"tools": [{"name": "book", "description": "Books.", "inputSchema": PARAMETERS}]},
    "2023": {"functions": [{"name": "book", "description": "Books.", "parameters": PARAMETERS}]},
}


@pytest.mark.parametrize("form", FORMS)
class TestToolsOfOtherForms:
    """Bodies written by hand; the frameworks bring tools into the OpenAI form before."""

    def exchange(self, mode: str, form: str, *script: Any, **more: Any) -> tuple[Any, list[Any]]:
        body = {"model": "kimi-k2.6", "messages": [{"role": "user", "content": "Book."}], **FORMS[form], **more}
        if mode.endswith("stream"):
            body["stream"] = True
        with KimiSimulator(script=script) as simulator:
            reply = run_body(simulator, body)
            assert simulator.refusals == []
            return reply, [request.body for request in simulator.requests]

    async def test_arguments_are_mended_by_the_users_schema(self, mode: str, form: str) -> None:
        reply, bodies = self.exchange(
            mode, form, calls(("book", '{"place": "{\\"street\\": \\"Main St\\"}", "guests": "4"}'))
        )
        assert json.loads(reply["tool_calls"][0]["function"]["arguments"]) == {**GOOD, "guests": 4}
        assert bodies[0]["tools"][0]["function"]["name"] == "book"

    async def test_what_misses_the_schema_is_asked_for_again(self, mode: str, form: str) -> None:
        reply, bodies = self.exchange(mode, form, calls(("book", {"guests": 4})), CALL)
        assert "required property missing: 'place'" in bodies[1]["messages"][-1]["content"]
        assert json.loads(reply["tool_calls"][0]["function"]["arguments"]) == GOOD

    async def test_a_forced_choice_is_insisted_on(self, mode: str, form: str) -> None:
        key = "function_call" if form == "2023" else "tool_choice"
        reply, bodies = self.exchange(mode, form, "Done.", CALL, **{key: CHOICES[form]})
        assert len(bodies) == 2
        assert [made["function"]["name"] for made in reply["tool_calls"]] == ["book"]

    async def test_where_calls_are_forbidden_none_is_made(self, mode: str, form: str) -> None:
        key = "function_call" if form == "2023" else "tool_choice"
        none: Any = {"type": "none"} if form == "anthropic" else "none"
        reply, _ = self.exchange(mode, form, calls(("book", GOOD), content="No."), **{key: none})
        assert (reply["content"], reply.get("tool_calls")) == ("No.", None)


class TestToolRepair:
    async def test_cut_arguments_are_no_call_to_run(self, mode: str) -> None:
        """LangChain's chunks would complete them to a call: in a stream they come as a JSON text."""
        cut = '{"place": {"street": "Ma'
        reply, _ = await called(mode, calls(("book", cut)), practices={"tool_repair": "off"})
        assert reply.tool_calls == []
        (args,) = [call["args"] for call in reply.invalid_tool_calls]
        assert (json.loads(args) if mode in ("stream", "astream") else args) == cut

    async def test_off_never_asks_again(self, mode: str) -> None:
        reply, bodies = await called(mode, calls(("book", "{broken")), CALL, practices={"tool_repair": "off"})
        assert len(bodies) == 1
        assert len(unusable(reply)) == 1

    async def test_reask_asks_for_the_bad_ones_and_keeps_the_good(self, mode: str) -> None:
        first = calls(("book", GOOD), ("clock", "{broken"))
        reply, bodies = await called(mode, first, calls(("clock", {"zone": "UTC"})), practices={"tool_repair": "reask"})
        assert len(bodies) == 2
        assert [(call["name"], call["args"]) for call in reply.tool_calls] == [
            ("book", GOOD),
            ("clock", {"zone": "UTC"}),
        ]
        assert len({call["id"] for call in reply.tool_calls}) == 2
        asked = bodies[1]["messages"][2:]
        assert [call["function"]["name"] for call in asked[0]["tool_calls"]] == ["clock"]
        assert reply.invalid_tool_calls == []


class TestToolsThatMayNotBeCalled:
    """Undeclared and forbidden calls: vllm#43155; 316 of 1,325 calls in vLLM's own count (blog, 2025-10-28)."""

    async def test_the_model_is_told_the_tools_that_exist(self, mode: str) -> None:
        reply, bodies = await called(mode, calls(("cancel", {})), CALL, persona="vllm", model=INSTRUCT)
        assert bodies[1]["messages"][-1]["content"] == snapshot(
            "Error: there is no tool 'cancel'; there are: book, clock. Make the call again, corrected."
        )
        assert [call["name"] for call in reply.tool_calls] == ["book"]

    @pytest.mark.parametrize("kept", [False, True])
    async def test_called_again_it_is_an_invalid_call_that_nobody_runs(self, mode: str, kept: bool) -> None:
        how: Any = {"practices": {"undeclared_calls": "keep"}} if kept else {}
        reply, bodies = await called(mode, *[calls(("cancel", {}))] * 2, persona="vllm", model=INSTRUCT, **how)
        assert len(bodies) == 2
        assert [call["name"] for call in reply.tool_calls] == (["cancel"] if kept else [])
        assert [call["name"] for call in reply.invalid_tool_calls] == ([] if kept else ["cancel"])
        assert [*reply.additional_kwargs["tool_call_errors"].values()] == snapshot(
            ["there is no tool 'cancel'; there are: book, clock"]
        )
        assert said(reply)[0] == snapshot(("advise", "a call to 'cancel', which was not declared"))

    async def test_beside_a_good_one_it_is_not_asked_for_and_not_run(self, mode: str) -> None:
        reply, bodies = await called(mode, calls(("book", GOOD), ("cancel", {})), persona="vllm", model=INSTRUCT)
        assert len(bodies) == 1
        assert [call["name"] for call in reply.tool_calls] == ["book"]
        assert [call["name"] for call in reply.invalid_tool_calls] == ["cancel"]

    async def test_none_answered_with_calls_is_asked_for_text(self, mode: str) -> None:
        vllm = {"persona": "vllm", "model": INSTRUCT}
        reply, bodies = await called(mode, calls(("book", GOOD)), "I cannot.", choice="none", **vllm)
        assert (reply.content, reply.tool_calls, reply.invalid_tool_calls) == ("I cannot.", [], [])
        assert reply.response_metadata["finish_reason"] == "stop"
        assert "tools" not in bodies[1], "it would call one again"
        assert "tool_choice" not in bodies[1]
        assert bodies[1]["messages"][-1] == snapshot(
            {
                "role": "tool",
                "tool_call_id": "functions.book:0",
                "name": "book",
                "content": "Error: tools are switched off for this reply. Answer in text, without a tool call.",
            }
        )
        assert said(reply) == snapshot([("drop", "1 tool call(s) although tool_choice is none")])

    async def test_none_answered_with_words_and_calls_keeps_the_words(self, mode: str) -> None:
        vllm = {"persona": "vllm", "model": INSTRUCT}
        reply, bodies = await called(mode, calls(("book", GOOD), content="No table."), choice="none", **vllm)
        assert len(bodies) == 1
        assert (reply.content, reply.tool_calls) == ("No table.", [])
        assert reply.response_metadata["finish_reason"] == "stop"

    async def test_without_the_practice_the_call_would_be_run(self, mode: str) -> None:
        reply, _ = await called(
            mode, calls(("book", GOOD)), choice="none", persona="vllm", model=INSTRUCT, practices=OFF
        )
        assert [call["name"] for call in reply.tool_calls] == ["book"]

    @pytest.mark.parametrize("quirk", ["nested_json_text", "trailing_comma", "raw_control_characters"])
    async def test_a_host_that_damages_arguments(self, mode: str, quirk: str) -> None:
        parameters = {"type": "object", "properties": {"place": PARAMETERS["definitions"]["Place"]}}
        tool = {"type": "function", "function": {"name": "book", "description": "Books.", "parameters": parameters}}
        args = {"place": {"street": "Main\nSt"}}
        outcomes = []
        for practices in (OFF, {}):
            reply_to = Reply(tool_calls=[("book", args)])
            with KimiSimulator("vllm", script=[reply_to], quirks={quirk: True}) as simulator:
                model = ChatKimi(model=INSTRUCT, host="vllm", base_url=simulator.base_url, practices=practices)
                reply = await ask(mode, model.bind_tools([tool]), QUESTION)
                outcomes.append([call["args"] for call in reply.tool_calls])
        if mode.endswith("invoke"):  # LangChain's own chunks read broken JSON leniently
            assert outcomes[0] != [args]
        assert outcomes[1] == [args]
