from __future__ import annotations

from typing import Any

import pytest
from inline_snapshot import snapshot
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from refrase_integrations.errors import HostError, ToolNameError
from refrase_integrations.kimi.catalogue import find_host, find_model
from refrase_integrations.kimi.dialect import compile_dialect
from refrase_integrations.kimi.practice import Call
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.stream import Healer, fold
from refrase_integrations.kimi.tokens import estimate
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import Reply
from tests.conversations import MODES, OPENAPI, ask, exchange, sent, violations_of_openapi

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "A tool.", "parameters": SCHEMA}}


NAMES = ["21st_magic_search", "ls", "地图.查询", "get_weather"]
THREAD = [
    HumanMessage("Go."),
    AIMessage("", tool_calls=[{"name": "ls", "args": {"q": "x"}, "id": "call_1"}]),
    ToolMessage("a.txt", tool_call_id="call_1", name="ls"),
]


@pytest.mark.parametrize("mode", MODES)
async def test_refused_names_travel_under_an_alias(mode: str) -> None:
    body = await sent(mode, THREAD, tools=[tool(name) for name in NAMES], model="kimi-k2-0905-preview")
    names = [made["function"]["name"] for made in body["tools"]]
    assert names == snapshot(["t_21st_magic_search_e6035a", "ls_c7b68a", "______af3dda", "get_weather"])
    assert body["messages"][2]["tool_calls"][0]["function"]["name"] == names[1] == body["messages"][3]["name"]
    assert not OPENAPI.exists() or violations_of_openapi(body) == []


@pytest.mark.parametrize("mode", MODES)
async def test_vllm_takes_more_names(mode: str) -> None:
    target = {"persona": "vllm", "model": "moonshotai/Kimi-K2-Instruct-0905"}
    body = await sent(mode, THREAD, tools=[tool(name) for name in NAMES], **target)
    assert [made["function"]["name"] for made in body["tools"]] == snapshot(
        ["21st_magic_search", "ls", "______af3dda", "get_weather"]
    )


@pytest.mark.parametrize("mode", MODES)
async def test_the_reply_has_the_users_name(mode: str) -> None:
    _, bodies = await exchange(mode, THREAD, tools=[tool(name) for name in NAMES])
    alias = bodies[0]["tools"][0]["function"]["name"]
    script = [Reply(reasoning="Hm.", tool_calls=[(alias, {"q": "x"}), ("get_weather", {"q": "y"})])]
    reply, _ = await exchange(mode, THREAD, tools=[tool(name) for name in NAMES], script=script)
    assert [call["name"] for call in reply.tool_calls] == ["21st_magic_search", "get_weather"]


@pytest.mark.parametrize("mode", MODES)
async def test_off_is_refused_by_moonshot(mode: str) -> None:
    with pytest.raises(HostError, match="function name is invalid"):
        await sent(mode, THREAD, tools=[tool(NAMES[0])], practices={"tool_names": "off"})


@pytest.mark.parametrize("mode", MODES)
async def test_two_tools_of_one_name_are_an_error(mode: str) -> None:
    with pytest.raises(ToolNameError, match="two tools are called 'get_weather'"):
        await sent(mode, THREAD, tools=[tool("get_weather"), tool("get_weather")])


@pytest.mark.parametrize("mode", MODES)
async def test_off_on_vllm_sends_the_names_as_they_are(mode: str) -> None:
    target = {"persona": "vllm", "model": "moonshotai/Kimi-K2-Instruct-0905"}
    tools = [tool(name) for name in NAMES]
    body = await sent(mode, THREAD, tools=tools, practices={"tool_names": "off"}, **target)
    assert body["tools"] == tools
    with_it = await sent(mode, THREAD, tools=tools, **target)
    assert {**with_it, "tools": tools} == body


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("choice", ["地图.查询", {"type": "tool", "name": "地图.查询"}], ids=["name", "anthropic"])
async def test_the_tool_choice_follows(mode: str, choice: Any) -> None:
    target = {"persona": "vllm", "model": "moonshotai/Kimi-K2-Instruct-0905"}
    script = [Reply(tool_calls=[("______af3dda", {"q": "x"})])]
    reply, bodies = await exchange(
        mode,
        [("user", "Go.")],
        tools=[tool(name) for name in NAMES],
        bind={"tool_choice": choice},
        script=script,
        **target,
    )
    assert bodies[0]["tool_choice"] == {"type": "function", "function": {"name": "______af3dda"}}
    assert [call["name"] for call in reply.tool_calls] == ["地图.查询"]


@pytest.mark.parametrize("mode", MODES)
async def test_history_keeps_its_alias_when_the_tool_is_gone(mode: str) -> None:
    before = await sent(mode, THREAD, tools=[tool("ls")], model="kimi-k2-0905-preview")
    after = await sent(mode, THREAD, tools=[tool("get_user")], model="kimi-k2-0905-preview")
    assert after["messages"] == before["messages"]


@pytest.mark.parametrize("mode", MODES)
async def test_an_undeclared_alias_is_not_made_a_name(mode: str) -> None:
    script = [Reply(reasoning="Hm.", tool_calls=[("ls_c7b68a", {"q": "x"})])] * 2
    reply, _ = await exchange(mode, [("user", "Go.")], tools=[tool("get_weather")], script=script)
    assert [call["name"] for call in reply.invalid_tool_calls] == ["ls_c7b68a"]


@pytest.mark.parametrize("mode", MODES)
async def test_modes_and_report(mode: str) -> None:
    reply, bodies = await exchange(mode, THREAD, tools=[tool("ls")], model="kimi-k2-0905-preview")
    lines = [line for line in reply.response_metadata["refrase"]["changes"] if line["practice"] == "tool-names"]
    assert lines == snapshot(
        [
            {
                "practice": "tool-names",
                "action": "encode",
                "detail": "ls -> ls_c7b68a",
                "source": "platform.kimi.ai/docs/api/chat (OpenAPI document)",
            }
        ]
    )
    warned, same = await exchange(
        mode, THREAD, tools=[tool("ls")], model="kimi-k2-0905-preview", practices={"tool_names": "warn"}, strict=False
    )
    assert same[0]["tools"] == [tool("ls")]
    advised = [line for line in warned.response_metadata["refrase"]["changes"] if line["practice"] == "tool-names"]
    assert advised == [{**line, "action": "advise"} for line in lines]
    strictest = await sent(
        mode, THREAD, tools=[tool("ls")], model="kimi-k2-0905-preview", practices={"tool_names": "error"}
    )
    assert strictest["tools"] == bodies[0]["tools"]  # an alias means the same: no error


@pytest.mark.parametrize("mode", MODES)
async def test_the_error_comes_before_any_request_and_says_how_to_fix(mode: str) -> None:
    chat = ChatKimi(host="moonshot", base_url="http://127.0.0.1:9/v1", api_key="sk-test")
    with pytest.raises(ToolNameError) as caught:
        await ask(mode, chat.bind_tools([tool("get_weather"), tool("get_weather")]), [("user", "xylophone")])
    assert caught.value.practice == "tool-names"
    assert caught.value.details == ("two tools are called 'get_weather'",)
    assert "practices={'tool_names': 'apply'" in str(caught.value)
    assert "xylophone" not in str(caught.value)


@pytest.mark.parametrize(
    "declared",
    [
        {"tools": [{"name": "ls", "input_schema": SCHEMA}]},
        {"tools": [{"type": "function", "name": "ls", "parameters": SCHEMA}]},
        {"functions": [{"name": "ls", "parameters": SCHEMA}]},
    ],
    ids=["anthropic", "flat", "functions"],
)
def test_tools_of_other_forms_get_their_names_back(declared: dict[str, Any]) -> None:
    model = "kimi-k2-0905-preview"
    dialect = compile_dialect(find_model(model), find_host("moonshot"), None, model)
    body: Any = {"model": model, "messages": [{"role": "user", "content": "Go."}], **declared}
    prepared = prepare(Call(body=body, dialect=dialect, practices=Practices(), count=estimate))
    alias = prepared.body["tools"][0]["function"]["name"]
    assert alias != "ls"
    call = {"id": "call_1", "type": "function", "function": {"name": alias, "arguments": "{}"}}
    message = {"role": "assistant", "tool_calls": [call]}
    healer = Healer(prepared)
    deltas = healer.feed({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    [whole] = fold([*deltas, *healer.close()])
    assert [made["function"]["name"] for made in whole["tool_calls"]] == ["ls"]
