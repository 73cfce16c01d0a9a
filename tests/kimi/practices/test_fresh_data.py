from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import NoLiveData, PracticeError
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.practice import Call
from refrase_integrations.kimi.practices.fresh_data import MARKER, WITHOUT
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.tokens import counter, estimate
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator
from tests.conversations import MODES, OPENAPI, ask, exchange, sent, violations_of_openapi

HELLO = [("user", "Hello.")]
TODAY = [("user", "What is the weather in Paris today?")]
OFF = {"fresh_data": "off"}
INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tool(name: str, description: str = "") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": description, "parameters": SCHEMA}}


WEATHER, POPULATION = tool("get_weather", "Weather."), tool("get_population", "Population of a city.")
SEARCH = {"type": "builtin_function", "function": {"name": "$web_search"}}


def prepared(
    messages: Any,
    tools: Any = (),
    *,
    host: str = "moonshot",
    model: str = "kimi-k2.6",
    practices: Any = None,
    body: dict[str, Any] | None = None,
    **more: Any,
) -> Any:
    whole: Any = {"model": model, "messages": messages, **({"tools": list(tools)} if tools else {}), **(body or {})}
    dialect = compile_dialect(find_model(model), find_host(host), None, model)
    return prepare(Call(whole, dialect, Practices.of(practices), estimate, **more))


def line(result: Any) -> str | None:
    """Return the one line of the practice in what is sent; None where there is none."""
    system = [message["content"] for message in result.body["messages"] if message["role"] == "system"]
    found = [line for text in system for line in text.split("\n") if line.startswith(MARKER)]
    assert len(found) <= 1
    return found[0] if found else None


def named(result: Any) -> str:
    """Return the tools that the line names."""
    return (
        (line(result) or "")
        .removeprefix(f"{MARKER} for anything that may have changed since your training, call ")
        .removesuffix(" before you answer.")
    )


def said(result: Any) -> list[tuple[str, str]]:
    return [(entry.action, entry.detail) for entry in result.report.changes if entry.practice == "fresh-data"]


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("mode", MODES)
class TestBodies:
    async def test_moonshot_without_a_live_tool(self, mode: str) -> None:
        body = await sent(mode, HELLO, model="kimi-k2.6")
        assert body["messages"] == snapshot(
            [
                {
                    "role": "system",
                    "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                },
                {"role": "user", "content": "Hello."},
            ]
        )
        assert not OPENAPI.exists() or violations_of_openapi(body) == []

    async def test_moonshot_with_a_live_tool(self, mode: str) -> None:
        body = await sent(mode, HELLO, tools=[POPULATION, WEATHER], model="kimi-k2-0905-preview")
        assert body["messages"] == snapshot(
            [
                {
                    "role": "system",
                    "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: for anything that may have changed since your training, call get_weather before you answer.\
""",
                },
                {"role": "user", "content": "Hello."},
            ]
        )
        assert not OPENAPI.exists() or violations_of_openapi(body) == []

    async def test_moonshot_off(self, mode: str) -> None:
        body = await sent(mode, HELLO, tools=[WEATHER], model="kimi-k2-0905-preview", practices=OFF)
        assert body["messages"] == snapshot(
            [
                {"role": "system", "content": "You are Kimi, an AI assistant created by Moonshot AI."},
                {"role": "user", "content": "Hello."},
            ]
        )

    async def test_vllm_without_a_live_tool(self, mode: str) -> None:
        body = await sent(mode, HELLO, tools=[POPULATION], persona="vllm", model=INSTRUCT)
        assert body["messages"] == snapshot(
            [
                {
                    "role": "system",
                    "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                },
                {"role": "user", "content": "Hello."},
            ]
        )

    async def test_vllm_with_a_live_tool(self, mode: str) -> None:
        asked = [("system", "You translate."), *HELLO]
        body = await sent(mode, asked, tools=[WEATHER], persona="vllm", model=INSTRUCT)
        assert body["messages"] == snapshot(
            [
                {
                    "role": "system",
                    "content": """\
You translate.

Freshness rule: for anything that may have changed since your training, call get_weather before you answer.\
""",
                },
                {"role": "user", "content": "Hello."},
            ]
        )

    async def test_vllm_off(self, mode: str) -> None:
        body = await sent(mode, HELLO, persona="vllm", model=INSTRUCT, practices=OFF)
        assert body["messages"] == snapshot(
            [
                {"role": "system", "content": "You are Kimi, an AI assistant created by Moonshot AI."},
                {"role": "user", "content": "Hello."},
            ]
        )

    async def test_nothing_but_the_line_is_changed(self, mode: str) -> None:
        target: dict[str, Any] = {"tools": [WEATHER], "model": "kimi-k2-0905-preview"}
        with_it, without = await sent(mode, HELLO, **target), await sent(mode, HELLO, practices=OFF, **target)
        assert {**with_it, "messages": None} == {**without, "messages": None}

    async def test_the_builtin_search_is_a_live_tool(self, mode: str) -> None:
        body = await sent(mode, HELLO, tools=[SEARCH], model="kimi-k2.6")
        assert body["messages"][0]["content"].endswith("call $web_search before you answer.")


@pytest.mark.parametrize("mode", MODES)
class TestModes:
    async def test_the_report_names_the_source_and_nothing_of_the_question(self, mode: str) -> None:
        reply, _ = await exchange(mode, [("user", "xylophone: the weather today?")], model="kimi-k2.6")
        lines = [line for line in reply.response_metadata["refrase"]["changes"] if line["practice"] == "fresh-data"]
        assert lines == snapshot(
            [
                {
                    "practice": "fresh-data",
                    "action": "add",
                    "detail": "a line on live data: no live tool is bound",
                    "source": "refrase.cc/models/kimi-k2 (Skywork.ai analysis)",
                },
                {
                    "practice": "fresh-data",
                    "action": "advise",
                    "detail": "a question on weather needs live data and no live tool is bound; bind one, or name yours in live_tools=[...]",
                    "source": "refrase.cc/models/kimi-k2 (Skywork.ai analysis)",
                },
            ]
        )
        assert "xylophone" not in str(reply.response_metadata)

    async def test_an_ordinary_question_is_one_line_of_the_report(self, mode: str) -> None:
        reply, _ = await exchange(mode, HELLO, model="kimi-k2.6")
        lines = [line for line in reply.response_metadata["refrase"]["changes"] if line["practice"] == "fresh-data"]
        assert [(line["action"], line["detail"]) for line in lines] == snapshot(
            [("add", "a line on live data: no live tool is bound")]
        )

    async def test_warn_changes_nothing(self, mode: str) -> None:
        reply, bodies = await exchange(mode, TODAY, model="kimi-k2.6", practices={"fresh_data": "warn"})
        assert MARKER not in str(bodies[0])
        lines = [line for line in reply.response_metadata["refrase"]["changes"] if line["practice"] == "fresh-data"]
        assert [line["action"] for line in lines] == ["advise"]

    async def test_error_refuses_before_any_request(self, mode: str) -> None:
        with KimiSimulator() as simulator:
            chat = ChatKimi(
                host="moonshot",
                base_url=simulator.base_url,
                api_key="sk-test",
                practices={"fresh_data": "error"},
            )
            with pytest.raises(NoLiveData) as caught:
                await ask(mode, chat, TODAY)
            assert simulator.requests == []
            assert caught.value.practice == "fresh-data"
            assert caught.value.details == snapshot(
                (
                    "a question on weather needs live data and no live tool is bound; bind one, or name yours in live_tools=[...]",
                )
            )
            assert "Paris" not in str(caught.value)
            assert (await ask(mode, chat, "What is the capital of France?")).text
            assert (await ask(mode, chat.bind_tools([WEATHER]), TODAY)).tool_calls
            assert MARKER in str(simulator.requests[0].body)


class TestTools:
    def test_tools_that_bring_no_live_data_are_none(self) -> None:
        assert line(prepared(user("Hi."), [POPULATION, tool("vector_search"), tool("search_files")])) == WITHOUT

    def test_a_mark_wins_over_words(self) -> None:
        marked = prepared(user("Hi."), [tool("lookup_order")], live_tools=frozenset({"lookup_order", "elsewhere"}))
        assert named(marked) == "lookup_order"

    def test_a_mark_is_no_tool(self) -> None:
        assert line(prepared(user("Hi."), live_tools=frozenset({"web_search"}))) == WITHOUT

    def test_the_line_names_tools_as_the_model_reads_them(self) -> None:
        """tool-names gives the host an alias; the mark stays the user's name, also when it is prepared twice."""
        marks = frozenset({"21st.magic"})
        once = prepared(user("Hi."), [tool("21st.magic")], live_tools=marks)
        (sent_tool,) = once.body["tools"]
        assert named(once) == sent_tool["function"]["name"] != "21st.magic"
        again = prepared(once.body["messages"], once.body["tools"], live_tools=marks)
        assert again.body["messages"] == once.body["messages"]

    def test_at_most_five_are_named(self) -> None:
        names = [f"get_news_{letter}" for letter in "abcdefgh"]
        assert named(prepared(user("Hi."), [tool(name) for name in names])) == " or ".join(names[:5])

    @pytest.mark.parametrize(
        "form",
        [
            {"name": "get_weather", "description": "Weather.", "input_schema": SCHEMA},
            {"type": "function", "name": "get_weather", "parameters": SCHEMA},
        ],
        ids=["anthropic", "flat"],
    )
    def test_tools_of_other_forms_count(self, form: dict[str, Any]) -> None:
        assert named(prepared(user("Hi."), [form])) == "get_weather"

    def test_functions_of_2023_and_tools_of_extra_body_count(self) -> None:
        assert named(prepared(user("Hi."), body={"functions": [WEATHER["function"]]})) == "get_weather"
        assert named(prepared(user("Hi."), extra={"tools": [WEATHER]})) == "get_weather"

    def test_where_no_tool_may_be_called_there_is_none(self) -> None:
        assert line(prepared(user("Hi."), [WEATHER], body={"tool_choice": "none"})) == WITHOUT

    def test_a_forced_form_for_the_answer_is_no_live_tool(self) -> None:
        """with_structured_output(Weather, method="function_calling") forces a tool of that name."""
        choice = {"type": "function", "function": {"name": "get_weather"}}
        forced: dict[str, Any] = {"body": {"tool_choice": choice}}
        assert line(prepared(user("Hi."), [WEATHER], **forced)) == WITHOUT
        assert named(prepared(user("Hi."), [WEATHER], live_tools=frozenset({"get_weather"}), **forced)) == "get_weather"
        assert line(prepared(user("Hi."), [tool("Weather")], body={"tool_choice": "required"})) == WITHOUT


class TestSurfaces:
    def test_where_the_tools_are_unknown_nothing_is_added_and_a_line_stays(self) -> None:
        unknown: dict[str, Any] = {"scope": "messages", "tools_known": False, "practices": {"system_prompt": "off"}}
        assert prepared(user("Weather today?"), **unknown).body["messages"] == user("Weather today?")
        assert said(prepared(user("Weather today?"), **unknown)) == []
        before = [{"role": "system", "content": f"Be brief.\n\n{WITHOUT}"}, *user("Hi.")]
        assert prepared(before, **unknown).body["messages"] == before

    def test_the_surface_that_knows_the_tools_decides(self) -> None:
        node = prepared([{"role": "system", "content": "Be brief."}, *user("Hi.")], scope="messages")
        assert line(node) == WITHOUT
        model = prepared(node.body["messages"], [WEATHER])
        assert named(model) == "get_weather"
        assert model.body["messages"][0]["content"].startswith("Be brief.\n\n")
        assert line(prepared(model.body["messages"])) == WITHOUT

    def test_a_host_that_searches_by_itself_gets_no_line(self) -> None:
        plugins = {"plugins": [{"id": "web"}]}
        result = prepared(user("Weather today?"), host="openrouter", model="moonshotai/kimi-k2.6", extra=plugins)
        assert (line(result), said(result)) == (None, [])

    def test_the_line_is_the_same_in_every_turn(self) -> None:
        history = [*user("Weather today?"), {"role": "assistant", "content": "Sunny."}, *user("And 2+2?")]
        first, second = prepared(history[:1], [WEATHER]), prepared(history, [WEATHER])
        assert second.body["messages"][: len(first.body["messages"])] == first.body["messages"]
        moved = prepared(history, [WEATHER], now=datetime(2031, 1, 1))
        assert moved.body["messages"] == second.body["messages"], "never a clock in a message"


class TestQuestions:
    @pytest.mark.parametrize(
        ("text", "advised"),
        [("Who is the president of Brazil?", True), ("今天北京天气怎么样？", True), ("What is 2+2?", False)],
    )
    def test_the_last_question_decides(self, text: str, advised: bool) -> None:
        history = [*user("What is the weather today?"), {"role": "assistant", "content": "No idea."}, *user(text)]
        assert ("advise" in [action for action, _ in said(prepared(history))]) is advised
        assert "advise" not in [action for action, _ in said(prepared(history, [WEATHER]))]

    def test_years_to_come_are_judged_by_the_time_of_the_call(self) -> None:
        asked = user("How will the 2031 budget of France look?")
        assert "advise" not in [action for action, _ in said(prepared(asked, now=datetime(2026, 11, 24)))]
        assert "advise" in [action for action, _ in said(prepared(asked, now=datetime(2031, 3, 1)))]

    def test_a_question_in_parts_is_read(self) -> None:
        parts = [{"type": "text", "text": "What is the weather in Paris today?"}]
        result = prepared([{"role": "user", "content": parts}])
        assert [action for action, _ in said(result)] == ["add", "advise"]

    def test_error_is_a_practice_error_that_says_how_to_go_on(self) -> None:
        with pytest.raises(PracticeError, match=r"bind one, or name yours in live_tools=\[...\]"):
            prepared(user("Bitcoin price today?"), practices={"fresh_data": "error"})
        assert prepared(user("Bitcoin price today?"), practices={"fresh_data": "error"}, tools_known=False)


def test_the_lines_are_short() -> None:
    for text in (WITHOUT, line(prepared(user("Hi."), [WEATHER])) or ""):
        assert counter().text(text) <= 30


ZH = {"role": "system", "content": "你是航空公司的客服。使用 get_weather 工具查询天气，用中文回答，语气友好。"}


def test_a_chinese_prompt_gets_a_chinese_line() -> None:
    asked = [ZH, {"role": "user", "content": "你好"}]
    assert line(prepared(asked)) == snapshot(
        "Freshness rule: 除本次对话外，你没有实时数据。答案在训练之后可能已变时，请如实说明，不要猜测。"
    )
    assert line(prepared(asked, [WEATHER])) == snapshot(
        "Freshness rule: 凡训练之后可能已变的内容，先调用 get_weather 再回答。"
    )


@pytest.mark.parametrize("content", ["Antworte auf Deutsch.", "Translate 北京 into English.", "123", "You help."])
def test_any_other_prompt_gets_the_english_line(content: str) -> None:
    assert line(prepared([{"role": "system", "content": content}, {"role": "user", "content": "你好"}])) == WITHOUT


def test_the_language_stays_beside_our_own_lines() -> None:
    every = {"fresh_data": "apply", "grounding": "apply", "verbosity": "apply"}
    short = {"role": "system", "content": "用中文回答 please help"}
    first = prepared([short, {"role": "user", "content": "Hi"}], practices=every)
    again = prepared(first.body["messages"], practices=every)
    assert again.body["messages"] == first.body["messages"]
