"""Formula tools in agents of both frameworks: declared, called, marked; what fails is told to the model."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.agent.workflow.workflow_events import ToolCallResult

from refrase_integrations import langchain, llamaindex
from refrase_integrations.errors import ConfigurationError, MissingKey
from refrase_integrations.kimi.practices.fresh_data import WITH
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.llamaindex import Kimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.llamaindex.exchanges import bodies

SEALED = "----MOONSHOT ENCRYPTED BEGIN----"
WAYS = ("sync", "async")


def scripted(name: str, arguments: dict[str, Any]) -> list[Reply]:
    return [Reply(reasoning="I look.", tool_calls=[(name, arguments)]), Reply("Here it is.", reasoning="Good.")]


async def made(framework: Any, way: str, simulator: KimiSimulator, names: Any = None) -> list[Any]:
    given = {"base_url": simulator.base_url, "host": "moonshot", "api_key": "sk-test"}
    return framework.formula_tools(names, **given) if way == "sync" else await framework.aformula_tools(names, **given)


async def langchain_agent(way: str, simulator: KimiSimulator, question: str, names: Any) -> tuple[str, list[str]]:
    model = ChatKimi(base_url=simulator.base_url, host="moonshot", api_key="sk-test")
    agent: Any = create_agent(model, await made(langchain, way, simulator, names))
    asked = {"messages": [("user", question)]}
    state = agent.invoke(asked) if way == "sync" else await agent.ainvoke(asked)
    results = [message for message in state["messages"] if message.type == "tool"]
    return state["messages"][-1].text, [f"{result.status}: {result.content}" for result in results]


async def llamaindex_agent(way: str, simulator: KimiSimulator, question: str, names: Any) -> tuple[str, list[str]]:
    llm = Kimi(base_url=simulator.base_url, host="moonshot", api_key="sk-test")
    handler = FunctionAgent(llm=llm, tools=await made(llamaindex, way, simulator, names)).run(question)
    results = [event async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
    said = [(result.tool_output.is_error, result.tool_output.content) for result in results]
    return str(await handler), [f"{'error' if failed else 'success'}: {content}" for failed, content in said]


AGENTS = {"langchain": langchain_agent, "llamaindex": llamaindex_agent}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("framework", AGENTS)
class TestAgents:
    async def test_a_search_is_run_on_the_platform(self, framework: str, way: str) -> None:
        with KimiSimulator(script=scripted("web_search", {"query": "news"})) as simulator:
            answer, [result] = await AGENTS[framework](way, simulator, "Any news?", None)
            assert simulator.refusals == []
            fiber = next(one for one in simulator.requests if one.path.endswith("/fibers"))
            first, second = bodies(simulator)
        assert answer == "Here it is."
        assert result.startswith(f"success: {SEALED}")
        assert fiber.path == "/v1/formulas/moonshot/web-search:latest/fibers"
        assert fiber.body == {"name": "web_search", "arguments": '{"query": "news"}'}
        assert second["messages"][-1]["content"] == result.removeprefix("success: "), "byte for byte"
        assert [tool["function"]["name"] for tool in first["tools"]] == ["web_search", "fetch", "date"]
        assert first["tools"][1]["function"] == {
            "name": "fetch",
            "description": "Fetches a page and returns it as Markdown.",
            "parameters": {
                "type": "object",
                "properties": {"url": {"type": "string", "description": "Address of the page."}},
                "required": ["url"],
            },
        }
        named = WITH.format(tools="web_search or fetch or date")
        assert first["messages"][0]["content"].endswith(named)

    async def test_a_failure_is_told_to_the_model(self, framework: str, way: str) -> None:
        with KimiSimulator(script=scripted("fetch", {"url": "nowhere"})) as simulator:
            answer, results = await AGENTS[framework](way, simulator, "Read it.", ["fetch"])
            told = bodies(simulator)[1]["messages"][-1]["content"]
        assert (answer, results) == ("Here it is.", ["error: fetch failed: invalid url: nowhere"])
        assert "invalid url: nowhere" in told

    async def test_one_that_is_not_live_is_not_named(self, framework: str, way: str) -> None:
        with KimiSimulator(script=scripted("base64_encode", {"text": "Hi"})) as simulator:
            _, results = await AGENTS[framework](way, simulator, "Encode it.", ["base64"])
            assert "base64_encode" not in bodies(simulator)[0]["messages"][0]["content"]
        assert results == ["success: SGk="]


@pytest.mark.parametrize("way", WAYS)
async def test_tools_by_themselves(way: str) -> None:
    with KimiSimulator() as simulator:
        [encode] = await made(langchain, way, simulator, ["base64"])
        [other] = await made(llamaindex, way, simulator, ["base64"])
        asked: dict[str, Any] = {"text": "Hi"}
        assert (encode.invoke(asked) if way == "sync" else await encode.ainvoke(asked)) == "SGk="
        output = other.call(**asked) if way == "sync" else await other.acall(**asked)
    assert output.content == "SGk="
    assert encode.metadata == {"formula": "moonshot/base64:latest", "live": False}
    assert (encode.name, other.metadata.name, other.live) == ("base64_encode", "base64_encode", False)
    assert "sk-test" not in repr(encode) + repr(other) + repr(vars(other))


@pytest.mark.parametrize("framework", [langchain, llamaindex])
def test_where_there_are_none(framework: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOONSHOT_API_KEY", "KIMI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="no Formula tools"):
        framework.formula_tools(host="vllm", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(ConfigurationError, match="unknown argument.* region; these are known: host, base_url"):
        framework.formula_tools(["date"], region="cn")
    with pytest.raises(MissingKey):
        framework.formula_tools(["date"])
