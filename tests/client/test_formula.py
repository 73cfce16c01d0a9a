"""Moonshot's Formula tools: what is asked, what comes back, and what each failure becomes; sync and async alike."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations import errors
from refrase_integrations.client.connection import connect
from refrase_integrations.client.formula import Formulas, FormulaTool
from refrase_integrations.errors import ConfigurationError, FormulaFailed, FormulaNotFound, InvalidMessage
from refrase_integrations.simulator import KimiSimulator
from tests.client.loopback import KEY, RawServer, http

Serve = Callable[..., RawServer]
WAYS = ("sync", "async")
CANARY = "canary-arguments-0123456789"
FETCH = FormulaTool("moonshot/fetch:latest", "fetch", "fetch", "", {}, live=True)
DECLARED = {"tools": [{"type": "function", "function": {"name": "fetch", "parameters": {"type": "object"}}}]}
DONE = {"status": "succeeded", "context": {"output": "Fine."}}

each_way = pytest.mark.parametrize("way", WAYS)


def formulas(base_url: str, *, host: str = "moonshot", **more: Any) -> Formulas:
    return Formulas(connect(host, base_url, KEY), **more)


async def tools(way: str, of: Formulas, names: Any = None) -> list[FormulaTool]:
    return of.tools(names) if way == "sync" else await of.atools(names)


async def run(way: str, of: Formulas, tool: FormulaTool, **arguments: Any) -> str:
    return of.run(tool, arguments) if way == "sync" else await of.arun(tool, arguments)


@each_way
class TestOnThePlatform:
    """Against the simulator, which reads the documentation for itself."""

    async def test_the_live_ones_are_the_default(self, way: str) -> None:
        with KimiSimulator() as simulator:
            found = await tools(way, formulas(simulator.base_url))
            asked = sorted((request.method, request.path) for request in simulator.requests)
        assert [(tool.name, tool.uri, tool.live) for tool in found] == snapshot(
            [
                ("web_search", "moonshot/web-search:latest", True),
                ("fetch", "moonshot/fetch:latest", True),
                ("date", "moonshot/date:latest", True),
            ]
        )
        assert asked == snapshot(
            [
                ("GET", "/v1/formulas/moonshot/date:latest/tools"),
                ("GET", "/v1/formulas/moonshot/fetch:latest/tools"),
                ("GET", "/v1/formulas/moonshot/web-search:latest/tools"),
            ]
        )
        assert found[0].parameters["required"] == ["query"]

    async def test_names_in_short_and_in_full(self, way: str) -> None:
        names = ["base64", "moonshot/base64", "date:latest", "moonshot/date:latest"]
        with KimiSimulator() as simulator:
            found = await tools(way, formulas(simulator.base_url), names)
            assert len(simulator.requests) == 2, "each formula is asked for once"
        assert [(tool.name, tool.live) for tool in found] == [("base64_encode", False), ("date", True)]

    async def test_plain_text_comes_back(self, way: str) -> None:
        with KimiSimulator() as simulator:
            of = formulas(simulator.base_url)
            [encode, date] = await tools(way, of, ["base64", "date"])
            assert await run(way, of, encode, text="Grüße") == "R3LDvMOfZQ=="
            assert json.loads(await run(way, of, date))["date"] == "2026-11-24"
            sent = simulator.requests[2]
        assert (sent.method, sent.path) == ("POST", "/v1/formulas/moonshot/base64:latest/fibers")
        assert sent.body == {"name": "base64_encode", "arguments": '{"text": "Grüße"}'}
        assert sent.headers["content-type"] == "application/json"

    async def test_what_is_encrypted_stays_as_it_is(self, way: str) -> None:
        with KimiSimulator() as simulator:
            of = formulas(simulator.base_url)
            [search] = await tools(way, of, ["web-search"])
            found = await run(way, of, search, query="news")
        assert found.startswith("----MOONSHOT ENCRYPTED BEGIN----")
        assert found.endswith("----MOONSHOT ENCRYPTED END----")

    async def test_the_functions_of_a_plugin(self, way: str) -> None:
        with KimiSimulator() as simulator:
            of = formulas(simulator.base_url)
            read, summary = await tools(way, of, ["excel"])
            assert await run(way, of, read, path="a.xlsx") == "The tool gave no output."
            assert simulator.requests[-1].body["name"] == "excel.read_file"
        assert (read.name, summary.name) == ("excel_read_file", "excel_summary")
        assert summary.description == "Looks into tables."
        assert summary.parameters == {"type": "object", "properties": {}}

    async def test_a_tool_that_fails(self, way: str) -> None:
        with KimiSimulator() as simulator:
            of = formulas(simulator.base_url)
            [fetch] = await tools(way, of, ["fetch"])
            with pytest.raises(FormulaFailed) as caught:
                await run(way, of, fetch, url=CANARY)
            with pytest.raises(FormulaFailed) as missing:
                await run(way, of, fetch)
            assert len(simulator.requests) == 3, "never tried again"
        assert caught.value.seen == f"fetch failed: invalid url: {CANARY}"
        assert CANARY not in str(caught.value) + repr(caught.value)
        assert missing.value.seen == "fetch failed: unknown or missing: url"
        assert pickle.loads(pickle.dumps(caught.value)).seen == caught.value.seen

    async def test_one_that_is_gone(self, way: str) -> None:
        with KimiSimulator() as simulator:
            of = formulas(simulator.base_url)
            with pytest.raises(FormulaNotFound, match="no formula 'moonshot/quickjs:latest'") as caught:
                await tools(way, of, ["quickjs"])
            assert caught.value.status == 404
            with pytest.raises(FormulaNotFound):
                await run(way, of, FormulaTool("moonshot/gone:latest", "gone", "gone", "", {}, live=False))

    async def test_a_wrong_key(self, way: str) -> None:
        with KimiSimulator(api_key="sk-other") as simulator:
            with pytest.raises(errors.WrongKey, match="moonshot-cn"):
                await tools(way, formulas(simulator.base_url))


class TestNames:
    @pytest.mark.parametrize(
        "name", ["", "a b", "../chat/completions", "a/b/c", "x:y:z", "http://x", 3, None, "é", "a?b"]
    )
    def test_what_is_no_name_is_never_asked_for(self, name: Any) -> None:
        with pytest.raises(ConfigurationError, match="is no formula"):
            formulas("http://127.0.0.1:9/v1").tools([name])

    def test_a_single_text_is_no_list(self) -> None:
        with pytest.raises(ConfigurationError, match=r"\['web-search'\]"):
            formulas("http://127.0.0.1:9/v1").tools("web-search")

    def test_two_tools_of_one_name(self, serve: Serve) -> None:
        with pytest.raises(
            ConfigurationError, match="moonshot/a:latest and moonshot/b:latest both declare a tool 'fetch'"
        ):
            formulas(serve(http(DECLARED)).base_url).tools(["a", "b"])

    @pytest.mark.parametrize("host", ["vllm", "openrouter", "kimi-code"])
    def test_a_host_without_them(self, host: str) -> None:
        with pytest.raises(
            ConfigurationError, match=f"host '{host}' has no Formula tools; these have: 'moonshot-cn', 'moonshot'"
        ):
            formulas("http://127.0.0.1:9/v1", host=host)

    def test_a_formula_of_somebody_elses_is_not_marked(self, serve: Serve) -> None:
        [tool] = formulas(serve(http(DECLARED)).base_url).tools(["mine/fetch"])
        assert (tool.uri, tool.live) == ("mine/fetch:latest", False)


@each_way
class TestFailures:
    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            ((429, "rate_limit_reached_error"), errors.RateLimited),
            ((429, "engine_overloaded_error"), errors.HostOverloaded),
            ((500, "server_error"), errors.HostFailed),
        ],
    )
    async def test_what_may_pass_is_tried_again(
        self, way: str, answer: tuple[int, str], error: type[Exception], serve: Serve, no_waits: list[float]
    ) -> None:
        refusal = http({"error": {"type": answer[1], "message": "no"}}, status=answer[0])
        server = serve(refusal, refusal, http(DONE))
        assert await run(way, formulas(server.base_url), FETCH, url="x") == "Fine."
        assert len(server.requests) == 3
        with pytest.raises(error) as caught:
            await run(way, formulas(serve(refusal).base_url, max_retries=1), FETCH, url="x")
        assert caught.value.attempts == 2  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("status", "kind"), [(400, "invalid_request_error"), (429, "exceeded_current_quota_error")]
    )
    async def test_what_may_not_is_said_at_once(
        self, way: str, status: int, kind: str, serve: Serve, no_waits: list[float]
    ) -> None:
        server = serve(http({"error": {"type": kind, "message": "no"}}, status=status))
        with pytest.raises(errors.HostError):
            await run(way, formulas(server.base_url), FETCH, url="x")
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (http("<html>Hello</html>", kind="text/html"), FormulaNotFound),
            (http("{"), errors.HostFailed),
            (http("[]"), errors.HostError),
            (http({}), FormulaNotFound),
            (http({"tools": [{"type": "function"}]}), FormulaNotFound),
            (b"", errors.ConnectionFailed),
        ],
    )
    async def test_answers_that_are_none(
        self, way: str, answer: bytes, error: type[Exception], serve: Serve, no_waits: list[float]
    ) -> None:
        with pytest.raises(error):
            await tools(way, formulas(serve(answer).base_url), ["fetch"])

    @pytest.mark.parametrize(
        ("fiber", "seen"),
        [
            ({"status": "failed", "error": "quota"}, "fetch failed: quota"),
            ({"status": "crashed", "context": {"error": "raised"}}, "fetch failed: raised"),
            ({"status": "failed", "context": {"output": {"code": 7}}}, 'fetch failed: {"code": 7}'),
            ({"status": "failed"}, "fetch failed: no reason was given"),
            ({}, "fetch failed: no reason was given"),
        ],
    )
    async def test_every_form_of_a_failed_run(self, way: str, fiber: Any, seen: str, serve: Serve) -> None:
        with pytest.raises(FormulaFailed) as caught:
            await run(way, formulas(serve(http(fiber)).base_url), FETCH)
        assert caught.value.seen == seen

    async def test_arguments_that_are_no_json(self, way: str) -> None:
        with pytest.raises(InvalidMessage, match="a set cannot be written as JSON"):
            await run(way, formulas("http://127.0.0.1:9/v1"), FETCH, urls={1})


@each_way
async def test_neither_key_nor_arguments_show(
    way: str, serve: Serve, caplog: pytest.LogCaptureFixture, no_waits: list[float]
) -> None:
    echo = http({"error": {"type": "invalid_request_error", "message": f"bad url {CANARY} for {KEY}"}}, status=400)
    of = formulas(serve(echo).base_url)
    with caplog.at_level(logging.DEBUG), pytest.raises(errors.RequestRefused) as caught:
        await run(way, of, FETCH, url=CANARY)
    shown = "".join(traceback.format_exception(caught.value)) + repr(of) + repr(caught.value) + caplog.text
    assert "bad url" in shown
    assert CANARY not in shown
    assert KEY not in shown


def test_several_event_loops(serve: Serve) -> None:
    of = formulas(serve(http(DONE)).base_url)
    assert [asyncio.run(of.arun(FETCH, {})) for _ in range(2)] == ["Fine."] * 2
