"""`needs_fresh_data` against labelled questions, a part of which the rules were never tuned on; live tools by words."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import refrase_integrations
from benchmarks import freshness
from benchmarks.freshness import Question, Score, score
from refrase_integrations import needs_fresh_data
from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.freshness import Verdict, brings_live_data, is_live_tool
from refrase_integrations.kimi.wordlists import asked

ASKED = list(freshness.questions())
CLASSES = {
    "prices",
    "weather",
    "news",
    "sport",
    "versions",
    "people in office",
    "relative dates",
    "timeless facts",
    "history with dates",
    "code",
    "arithmetic",
    "fiction",
    "small talk",
    "statements",
}


class TestQuestions:
    def test_the_set_is_as_large_and_as_even_as_it_says(self) -> None:
        assert len(ASKED) >= 400
        assert {question.kind for question in ASKED} == CLASSES
        assert len({question.text for question in ASKED}) == len(ASKED)
        by_language = Counter(question.language for question in ASKED)
        assert abs(by_language["en"] - by_language["zh"]) <= len(ASKED) // 20
        for part in ("tune", "test"):
            live = [question.live for question in ASKED if question.part == part]
            assert len(live) > 250
            assert 0.35 < sum(live) / len(live) < 0.65

    @pytest.mark.parametrize("part", ["tune", "test"])
    def test_precision_and_recall(self, part: str) -> None:
        """On the held-out part too; the figures by class: python -m benchmarks freshness."""
        counts = score(question for question in ASKED if question.part == part)
        assert (counts.precision or 0) >= 0.9, counts
        assert (counts.recall or 0) >= 0.9, counts

    @pytest.mark.parametrize("language", ["en", "zh"])
    def test_in_each_language(self, language: str) -> None:
        counts = score(question for question in ASKED if (question.part, question.language) == ("test", language))
        assert (counts.precision or 0) >= 0.9, counts
        assert (counts.recall or 0) >= 0.9, counts

    @pytest.mark.parametrize("kind", sorted(CLASSES))
    def test_no_class_is_given_up(self, kind: str) -> None:
        counts = score(question for question in ASKED if question.kind == kind)
        assert counts.recall is None or counts.recall >= 0.8, counts
        assert counts.alarms <= counts.questions * 0.1, counts

    @pytest.mark.parametrize("always", [True, False])
    def test_a_judge_that_does_not_look_fails(self, always: bool) -> None:
        counts = score(ASKED, lambda text, now: Verdict(always))
        assert min(counts.precision or 0, counts.recall or 0) < 0.6

    def test_the_table_has_a_row_for_each_class(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert freshness.main(["--misses"]) == 0
        printed = capsys.readouterr().out
        assert all(f"\n{kind:<20}" in printed for kind in CLASSES)
        assert Score().precision is None

    def test_a_wrong_verdict_is_counted(self) -> None:
        wrong = [Question("en", "prices", False, "tune", "How much does a Tesla cost?")]
        assert score(wrong) == Score(alarms=1)


class TestVerdict:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("How much is a litre of milk in Oslo?", "prices"),
            ("明天会下雨吗", "weather"),
            ("Any news from the summit?", "news"),
            ("英超积分榜", "sport"),
            ("latest stable version of nginx?", "versions"),
            ("Who is the mayor of Lyon?", "people in office"),
            ("今天几号", "relative dates"),
            ("What did the 2025 report of the bank conclude?", "recent years"),
        ],
    )
    def test_it_says_what_kind(self, text: str, reason: str) -> None:
        assert needs_fresh_data(text) == Verdict(True, reason)
        assert needs_fresh_data(text)

    @pytest.mark.parametrize("text", ["", " ", "?", "Hello.", "你好", "What is 2+2?", "Explain photosynthesis."])
    def test_nothing_is_needed(self, text: str) -> None:
        assert needs_fresh_data(text) == Verdict(False, None)
        assert not needs_fresh_data(text)

    @pytest.mark.parametrize(
        ("told", "asked_too"),
        [
            ("The weather in Paris is clear and mild.", "Is it so in Rome today?"),
            ("The Lakers won last night, and my brother is happy.", "Who scored?"),
            ("今天巴黎天气很好，我们去公园走了走。", "明天会下雨吗"),
            ("我们公司的股价今天跌了。", "帮我查一下现在的股价。"),
        ],
    )
    def test_a_statement_asks_for_nothing(self, told: str, asked_too: str) -> None:
        assert not needs_fresh_data(told)
        assert needs_fresh_data(f"{told} {asked_too}")

    @pytest.mark.parametrize(
        "text",
        [
            "weather in Denver",
            "US inflation rate",
            "I'd like to know the weather in Oslo.",
            "成都这周末天气",
            "我想知道明天的天气。",
        ],
    )
    def test_a_heading_and_a_wish_are_no_statements(self, text: str) -> None:
        assert needs_fresh_data(text)

    def test_what_is_no_text_is_said(self) -> None:
        for wrong in (None, 3, ["Hi."], b"Hi."):
            with pytest.raises(ConfigurationError, match="text"):
                needs_fresh_data(wrong)  # type: ignore[arg-type]

    def test_years_by_the_present(self) -> None:
        budget = "Summarise the 2030 budget."
        assert not needs_fresh_data(budget, datetime(2026, 1, 1))
        assert needs_fresh_data(budget, datetime(2030, 6, 1))
        assert not needs_fresh_data("Summarise the 1930 budget.", datetime(2030, 6, 1))
        assert not needs_fresh_data("Summarise the 2090 budget.")

    @pytest.mark.parametrize("text", ["The room number is 2025,5.", "Pay $2025 to him.", "id 2025-11-03-77", "x12025y"])
    def test_not_every_number_is_a_year(self, text: str) -> None:
        assert not needs_fresh_data(text)

    def test_quotations_and_code_are_somebody_elses_words(self) -> None:
        assert needs_fresh_data("Is it raining in Paris right now?")
        assert not needs_fresh_data('How many words has "Is it raining in Paris right now?"')
        assert not needs_fresh_data("What does this do?\n```\nprint('weather today')\n```")

    def test_of_a_long_text_the_beginning_and_the_end_are_read(self) -> None:
        filler = "the quick brown fox jumps over the lazy dog. " * 200
        assert needs_fresh_data(f"What is the weather in Paris today? {filler}")
        assert needs_fresh_data(f"{filler} What is the weather in Paris today?")
        assert not needs_fresh_data(f"{filler} What is the weather in Paris today? {filler}")

    @given(st.text(max_size=200))
    def test_any_text_gets_a_verdict(self, text: str) -> None:
        verdict = needs_fresh_data(text)
        assert verdict == needs_fresh_data(text)
        assert verdict.reason is None or verdict.needed

    @pytest.mark.parametrize("piece", ["1", "是", "who is the ", "1 + ", "```", "((("])
    def test_however_long_a_text_is_as_much_is_read(self, piece: str) -> None:
        assert len(asked(piece * 100_000)) < 1_000
        assert isinstance(needs_fresh_data(piece * 100_000), Verdict)

    def test_the_package_hands_it_out(self) -> None:
        assert "needs_fresh_data" in refrase_integrations.__all__


def tool(name: str, description: str = "") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {}}}


LIVE = [
    tool("get_weather"), tool("getWeather"), tool("web_search"), tool("$web_search"), tool("fetch"), tool("date"),
    tool("tavily_search_results_json"), tool("DuckDuckGoSearchResults"), tool("TavilySearch"), tool("brave_search"),
    tool("google_serper"), tool("get_current_time"), tool("stock_price"), tool("get_exchange_rate"), tool("wikipedia"),
    tool("browser_navigate"), tool("requests_get"), tool("NewsAPI"), tool("查询天气"), tool("联网搜索"),
    tool("lookup", "Search the web for current information."), tool("ask", "使用互联网搜索实时信息"),
    tool("search", "A search engine. Useful for when you need to answer questions about current events."),
    tool("quote", "Returns the latest stock quote."),
    {"name": "get_weather", "description": "", "input_schema": {}},
]  # fmt: skip
OTHER = [
    tool("vector_search"), tool("file_search"), tool("search_files"), tool("search_docs"), tool("retriever_tool"),
    tool("knowledge_base_search"), tool("search_memory"), tool("get_population"), tool("calculator"), tool("read_file"),
    tool("send_email"), tool("create_reminder"), tool("set_timer"), tool("sql_db_query"), tool("write_todos"),
    tool("date_parser"), tool("convert_time"), tool("update_price"), tool("create_web_page"), tool("search_products"),
    tool("Weather"), tool("Price", "The price that was found."), tool("Answer"), tool("搜索知识库"), tool("读取文件"),
    tool("search", "Searches and returns excerpts from the employee handbook."), tool("lookup_order", "By its id."),
    tool("search", "Search the product manual for a passage."), {"type": "function"}, {"name": 3}, {},
    tool("code_interpreter", "Runs Python."),
]  # fmt: skip


def name_of(one: dict[str, Any]) -> str:
    function = one.get("function", one)
    return f"{function.get('name')} {function.get('description', '')[:20]}"


class TestLiveTools:
    @pytest.mark.parametrize("one", LIVE, ids=name_of)
    def test_recognised(self, one: dict[str, Any]) -> None:
        assert is_live_tool(one)

    @pytest.mark.parametrize("one", OTHER, ids=name_of)
    def test_not_taken_for_one(self, one: dict[str, Any]) -> None:
        assert not is_live_tool(one)

    def test_a_mark_wins(self) -> None:
        assert is_live_tool(tool("vector_search"), ["vector_search"])
        assert not is_live_tool(tool("vector_search"), ["web_search"])

    def test_a_host_that_searches_by_itself(self) -> None:
        assert brings_live_data({"enable_search": True})
        assert brings_live_data({"plugins": [{"id": "web"}]})
        assert not brings_live_data({"enable_search": False, "top_k": 3})
