from __future__ import annotations

from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import PracticeError
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.practice import Call
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.tokens import estimate
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, OPENAPI, ask, exchange, sent, violations_of_openapi

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Weather.", "parameters": SCHEMA}}
SEARCH = {"type": "builtin_function", "function": {"name": "$web_search"}}
FORMS = {
    "flat": {"type": "function", "name": "get_weather", "description": "Weather.", "parameters": SCHEMA},
    "anthropic": {"name": "get_weather", "description": "Weather.", "input_schema": SCHEMA},
    "mcp": {"name": "get_weather", "description": "Weather.", "inputSchema": SCHEMA},
}


def prepared_tools(tools: list[object], host: str, model: str, **body: object) -> object:
    dialect = compile_dialect(find_model(model), find_host(host), None, model)
    whole = {"model": model, "messages": [{"role": "user", "content": "Hi."}], "tools": tools, **body}
    return prepare(Call(body=whole, dialect=dialect, practices=Practices(), count=estimate)).body  # type: ignore[arg-type]


@pytest.mark.parametrize(("host", "model"), [("moonshot", "kimi-k2.6"), ("vllm", "moonshotai/Kimi-K2-Instruct-0905")])
@pytest.mark.parametrize("form", FORMS)
def test_tools_of_other_forms_become_openai_tools(form: str, host: str, model: str) -> None:
    assert prepared_tools([FORMS[form]], host, model)["tools"] == [WEATHER]  # type: ignore[index]


def test_functions_of_2023_become_tools() -> None:
    body = prepared_tools([], "moonshot", "kimi-k2.6", functions=[WEATHER["function"]], function_call="auto")
    assert (body["tools"], body["tool_choice"]) == ([WEATHER], "auto")  # type: ignore[index]
    assert not {"functions", "function_call"} & set(body)  # type: ignore[call-overload]


@pytest.mark.parametrize("mode", MODES)
async def test_tools_go_in_the_tools_parameter_on_moonshot(mode: str) -> None:
    body = await sent(mode, [("user", "Hi.")], tools=[WEATHER], model="kimi-k2-0905-preview")
    assert body == snapshot(
        {
            "model": "kimi-k2-0905-preview",
            "messages": [
                {
                    "role": "system",
                    "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: for anything that may have changed since your training, call get_weather before you answer.\
""",
                },
                {"role": "user", "content": "Hi."},
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "get_weather",
                        "description": "Weather.",
                        "parameters": {
                            "type": "object",
                            "properties": {"city": {"type": "string"}},
                            "required": ["city"],
                        },
                    },
                }
            ],
            "tool_choice": "auto",
            "temperature": 0.6,
            "max_completion_tokens": 32768,
        }
    )
    assert not OPENAPI.exists() or violations_of_openapi(body) == []


@pytest.mark.parametrize("mode", MODES)
async def test_tools_go_in_the_tools_parameter_on_vllm(mode: str) -> None:
    body = await sent(
        mode, [("user", "Hi.")], tools=[WEATHER], persona="vllm", model="moonshotai/Kimi-K2-Instruct-0905"
    )
    assert body == snapshot(
        {
            "model": "moonshotai/Kimi-K2-Instruct-0905",
            "messages": [
                {
                    "role": "system",
                    "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: for anything that may have changed since your training, call get_weather before you answer.\
""",
                },
                {"role": "user", "content": "Hi."},
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "get_weather",
                        "description": "Weather.",
                        "parameters": {
                            "type": "object",
                            "properties": {"city": {"type": "string"}},
                            "required": ["city"],
                        },
                    },
                }
            ],
            "tool_choice": "auto",
            "temperature": 0.6,
            "max_tokens": 32768,
        }
    )


@pytest.mark.parametrize("mode", MODES)
async def test_pasted_declarations_are_told(mode: str) -> None:
    pasted = 'Tools: {"name": "get_weather", "parameters": {"type": "object"}}'
    practices = {"fresh_data": "off"}
    reply, bodies = await exchange(mode, [("system", pasted), ("user", "Hi.")], tools=[WEATHER], practices=practices)
    assert bodies[0]["messages"][0]["content"] == pasted
    lines = [line for line in reply.response_metadata["refrase"]["changes"] if line["practice"] == "tool-format"]
    assert [line["action"] for line in lines] == ["advise"]


@pytest.mark.parametrize("mode", MODES)
async def test_more_tools_than_the_host_takes_is_an_error(mode: str) -> None:
    tools = [
        {"type": "function", "function": {"name": f"tool_{n}", "description": "", "parameters": SCHEMA}}
        for n in range(129)
    ]
    with KimiSimulator() as simulator:
        model = ChatKimi(host="moonshot", base_url=simulator.base_url, api_key="sk-test").bind_tools(tools)
        with pytest.raises(PracticeError, match="129 tools; this host takes 128"):
            await ask(mode, model, "Hi.")
        assert simulator.requests == []
        assert (await ask(mode, model.bound.bind_tools(tools[:128]), "Hi.")).text  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", MODES)
async def test_web_search_is_handed_its_arguments_back(mode: str) -> None:
    found = {"query": "news", "usage": {"total_tokens": 9}}
    script = [Reply(reasoning="I search.", tool_calls=[("$web_search", found)]), Reply("Here is the news.")]
    reply, bodies = await exchange(mode, [("user", "News?")], tools=[SEARCH], script=script)
    assert (reply.text, reply.tool_calls) == ("Here is the news.", [])
    assert bodies[0]["tools"] == [SEARCH]
    call, answer = bodies[1]["messages"][-2:]
    assert call["reasoning_content"] == "I search."
    assert answer["content"] == call["tool_calls"][0]["function"]["arguments"]
    assert answer["name"] == "$web_search"
    assert reply.usage_metadata is not None
    assert [line["practice"] for line in reply.response_metadata["refrase"]["healed"]] == ["tool-format"]


@pytest.mark.parametrize("mode", MODES)
async def test_web_search_elsewhere_is_an_error(mode: str) -> None:
    with pytest.raises(PracticeError, match=r"\$web_search: this host has no such builtin tool"):
        await sent(mode, [("user", "News?")], tools=[SEARCH], persona="vllm", model="moonshotai/Kimi-K2.6")


PASTED = [("system", 'Tools: {"name": "get_weather", "parameters": {"type": "object"}}'), ("user", "xylophone")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "target",
    [
        {"persona": "moonshot", "model": "kimi-k2-0905-preview"},
        {"persona": "vllm", "model": "moonshotai/Kimi-K2-Instruct-0905"},
    ],
    ids=["moonshot", "vllm"],
)
async def test_a_tool_without_parameters_is_filled_in(mode: str, target: dict[str, str]) -> None:
    bare = {"type": "function", "function": {"name": "get_time", "description": "Time."}}
    filled = {"type": "function", "function": {**bare["function"], "parameters": {"type": "object", "properties": {}}}}
    with_it = await sent(mode, [("user", "Hi.")], tools=[bare], **target)
    off = {"tool_format": "off"}
    without = await sent(mode, [("user", "Hi.")], tools=[bare], practices=off, strict=False, **target)
    assert (with_it["tools"], without["tools"]) == ([filled], [bare])
    assert {**with_it, "tools": [bare]} == without
    if target["persona"] == "moonshot":
        assert not OPENAPI.exists() or violations_of_openapi(with_it) == []


@pytest.mark.parametrize("mode", MODES)
async def test_the_advice_names_its_source_and_nothing_of_the_prompt(mode: str) -> None:
    reply, _ = await exchange(mode, PASTED, tools=[WEATHER])
    lines = [line for line in reply.response_metadata["refrase"]["changes"] if line["practice"] == "tool-format"]
    assert lines == snapshot(
        [
            {
                "practice": "tool-format",
                "action": "advise",
                "detail": "the system prompt repeats tool declarations; tools belong in 'tools' only",
                "source": "moonshotai/Kimi-K2-Instruct model card",
            }
        ]
    )
    assert "xylophone" not in str(reply.response_metadata)


@pytest.mark.parametrize("mode", MODES)
async def test_error_refuses_pasted_declarations_before_any_request(mode: str) -> None:
    chat = ChatKimi(
        host="moonshot", base_url="http://127.0.0.1:9/v1", api_key="sk-test", practices={"tool_format": "error"}
    )
    with pytest.raises(PracticeError) as caught:
        await ask(mode, chat.bind_tools([WEATHER]), PASTED)
    assert caught.value.practice == "tool-format"
    assert caught.value.details == snapshot(
        ("the system prompt repeats tool declarations; tools belong in 'tools' only",)
    )
    assert "practices={'tool_format': 'apply'" in str(caught.value)
    assert "xylophone" not in str(caught.value)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prompt", ["You may call get_weather.", 'Answer as {"parameters": {"a": 1}}.'])
async def test_a_prompt_that_only_speaks_of_tools_is_no_declaration(mode: str, prompt: str) -> None:
    reply, _ = await exchange(mode, [("system", prompt), ("user", "Hi.")], tools=[WEATHER])
    assert "tool-format" not in {line["practice"] for line in reply.response_metadata["refrase"]["changes"]}


def test_a_tool_that_is_none_is_refused() -> None:
    with pytest.raises(PracticeError, match=r"a tool without a function: keys \['type'\]"):
        prepared_tools([{"type": "function"}], "moonshot", "kimi-k2.6")


def test_an_empty_list_of_tools_is_left_out() -> None:
    assert "tools" not in prepared_tools([], "moonshot", "kimi-k2.6")  # type: ignore[operator]


def search(query: str, said: str = "") -> Reply:
    return Reply(said, reasoning="I search.", tool_calls=[("$web_search", {"query": query})])


def healed(reply: Any) -> list[tuple[str, str, int]]:
    lines = reply.response_metadata["refrase"]["healed"]
    return [
        (line["action"], line["detail"], line.get("count", 1)) for line in lines if line["practice"] == "tool-format"
    ]


@pytest.mark.parametrize("mode", MODES)
async def test_each_search_is_handed_back_behind_the_others(mode: str) -> None:
    script = [search("xylophone"), search("zither"), Reply("Found.", reasoning="Done.")]
    reply, bodies = await exchange(
        mode, [("user", "News?")], tools=[SEARCH], script=script, practices={"extra_calls": 0}
    )
    assert (reply.text, reply.tool_calls, reply.response_metadata["finish_reason"]) == ("Found.", [], "stop")
    assert len(bodies) == 3
    assert [body["messages"][: len(bodies[0]["messages"])] for body in bodies] == [bodies[0]["messages"]] * 3
    answers = [m for m in bodies[2]["messages"] if m["role"] == "tool"]
    calls = [m["tool_calls"][0] for m in bodies[2]["messages"] if m.get("tool_calls")]
    assert [answer["tool_call_id"] for answer in answers] == [call["id"] for call in calls]
    assert [answer["content"] for answer in answers] == ['{"query": "xylophone"}', '{"query": "zither"}']
    assert [call["function"]["arguments"] for call in calls] == [answer["content"] for answer in answers]
    for body in bodies:  # the OpenAPI document knows no builtin tools
        assert body["tools"] == [SEARCH]
        plain = {key: value for key, value in body.items() if key not in ("tools", "tool_choice")}
        assert not OPENAPI.exists() or violations_of_openapi(plain) == []
    assert healed(reply) == [("encode", "$web_search: handed its arguments back", 2)]
    assert "xylophone" not in str(reply.response_metadata["refrase"])


@pytest.mark.parametrize("mode", MODES)
async def test_searches_of_one_call_are_bounded(mode: str) -> None:
    script = [*(search(str(number)) for number in range(9)), Reply("What I found.", reasoning="Enough.")]
    reply, bodies = await exchange(mode, [("user", "News?")], tools=[SEARCH], script=script)
    assert len(bodies) == 10
    assert "tools" not in bodies[-1], "it would search again"
    assert bodies[-1]["messages"][-1]["content"] == snapshot(
        "Error: no more searches in this reply. Answer with what you have found."
    )
    assert (reply.text, reply.tool_calls) == ("What I found.", [])
    assert reply.response_metadata["finish_reason"] == "stop"
    assert healed(reply) == [
        ("encode", "$web_search: handed its arguments back", 8),
        ("drop", "a call to $web_search after 8 of them in one call", 1),
    ]


@pytest.mark.parametrize("mode", MODES)
async def test_where_no_extra_call_is_allowed_the_ninth_search_ends_the_reply(mode: str) -> None:
    script = [search(str(number), "Hm. ") for number in range(9)]
    reply, bodies = await exchange(
        mode, [("user", "News?")], tools=[SEARCH], script=script, practices={"extra_calls": 0}
    )
    assert len(bodies) == 9
    assert (reply.tool_calls, reply.response_metadata["finish_reason"]) == ([], "stop")


@pytest.mark.parametrize("mode", MODES)
async def test_texts_around_a_search_stay_apart(mode: str) -> None:
    script = [search("x", "I look."), search("y"), Reply("Found.", reasoning="Done.")]
    reply, bodies = await exchange(mode, [("user", "News?")], tools=[SEARCH], script=script)
    assert reply.text == "I look.\n\nFound."
    assert [m["content"] for m in bodies[1]["messages"] if m.get("tool_calls")] == ["I look."]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("choice", ["any", "$web_search"])
async def test_a_search_that_was_forced_is_followed_by_the_answer(mode: str, choice: str) -> None:
    script = [search("x"), Reply("Found.", reasoning="Done.")]
    reply, bodies = await exchange(
        mode, [("user", "News?")], tools=[SEARCH], bind={"tool_choice": choice}, script=script
    )
    assert (reply.text, len(bodies)) == ("Found.", 2)


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
async def test_several_replies_with_a_search_are_an_error_before_any_request(mode: str) -> None:
    with pytest.raises(PracticeError, match="n=2 with a builtin tool") as caught:
        await exchange(mode, [("user", "News?")], tools=[SEARCH], model="kimi-k2-0905-preview", n=2)
    assert caught.value.practice == "tool-format"


@pytest.mark.parametrize("mode", MODES)
async def test_a_search_beside_a_call_of_the_app_is_left_out(mode: str) -> None:
    both = Reply(reasoning="Both.", tool_calls=[("$web_search", {"query": "x"}), ("get_weather", {"city": "Paris"})])
    reply, bodies = await exchange(mode, [("user", "News?")], tools=[SEARCH, WEATHER], script=[both])
    assert len(bodies) == 1
    assert [(call["name"], call["args"]) for call in reply.tool_calls] == [("get_weather", {"city": "Paris"})]
    assert reply.response_metadata["finish_reason"] == "tool_calls"
    assert healed(reply) == [("drop", "a call to $web_search beside calls of the app", 1)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("setting", "actions"), [("off", []), ("warn", ["advise"])])
async def test_without_the_practice_the_app_gets_the_search(mode: str, setting: str, actions: list[str]) -> None:
    reply, bodies = await exchange(
        mode, [("user", "News?")], tools=[SEARCH], script=[search("x")], practices={"tool_format": setting}
    )
    assert len(bodies) == 1
    assert [(call["name"], call["args"]) for call in reply.tool_calls] == [("$web_search", {"query": "x"})]
    assert [action for action, _, _ in healed(reply)] == actions


@pytest.mark.parametrize("mode", MODES)
async def test_usage_of_every_search_is_summed(mode: str) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    first = Reply(reasoning="Hm.", tool_calls=[("$web_search", {"query": "x"})], usage=usage)
    reply, _ = await exchange(mode, [("user", "News?")], tools=[SEARCH], script=[first, Reply("Found.", usage=usage)])
    assert reply.usage_metadata is not None
    assert (reply.usage_metadata["input_tokens"], reply.usage_metadata["output_tokens"]) == (200, 20)
