"""`with_kimi_practices` around LlamaIndex's Anthropic, on Moonshot's Anthropic endpoint."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

pytest.importorskip("llama_index.llms.anthropic", reason="`make peers` runs this")

from llama_index.core.base.llms.types import ChatMessage, ThinkingBlock, ToolCallBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.workflow import Context
from llama_index.llms.anthropic import Anthropic
from pydantic import BaseModel

from refrase_integrations.errors import MissingKey
from refrase_integrations.llamaindex import with_kimi_practices
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.llamaindex.exchanges import CHATS, last
from tests.llamaindex.handoffs import MEMORIES, get_time, get_weather, run_turn, scripted, workflow

INSTRUCT, THINKING, THIRD = "kimi-k2-0905-preview", "kimi-k2-thinking", "kimi-k3"
HELLO = [ChatMessage(role="user", content="Hello")]
HISTORY = [
    ChatMessage(role="user", content="Weather in Paris?"),
    ChatMessage(
        role="assistant",
        blocks=[ToolCallBlock(tool_call_id="c1", tool_name="get_weather", tool_kwargs={"city": "Paris"})],
    ),
    ChatMessage(role="tool", content="Sunny.", additional_kwargs={"tool_call_id": "c1"}),
]


class City(BaseModel):
    """A city."""

    name: str


def anthropic(simulator: KimiSimulator, **fields: Any) -> Anthropic:
    url = simulator.base_url.removesuffix("/v1") + "/anthropic"
    return Anthropic(**{"model": INSTRUCT, "base_url": url, "api_key": "sk-test", "max_retries": 0, **fields})


def wrapped(simulator: KimiSimulator, *, practices: Any = None, **fields: Any) -> Any:
    return with_kimi_practices(anthropic(simulator, **fields), host="moonshot-anthropic", practices=practices)


def lines(reply: Any, practice: str) -> list[str]:
    report = reply.raw["refrase"]
    return [line["detail"] for line in (*report["changes"], *report["healed"]) if line["practice"] == practice]


def test_the_endpoint_is_known_by_its_address() -> None:
    llm = with_kimi_practices(Anthropic(model=THIRD, base_url="https://api.moonshot.ai/anthropic", api_key="k"))
    assert llm._dialect(llm._settings({}))[0].host.id == "moonshot-anthropic"


@pytest.mark.parametrize("mode", CHATS)
@pytest.mark.parametrize(
    ("fields", "sent", "said"),
    [
        ({"model": INSTRUCT}, 1.0, ["temperature 0.6 is sent as 1.0"]),
        ({"model": INSTRUCT, "temperature": 0.3}, 1.0, ["temperature 0.6 is sent as 1.0"]),
        ({"model": THINKING}, 1.0, ["temperature 1.0: 0.6 is the most there is"]),
        ({"model": THIRD, "temperature": 0.3}, None, []),
        ({"model": INSTRUCT, "temperature": 0.3, "practices": {"temperature": "off"}}, 0.5, ["temperature 0.3 is sent as 0.5"]),
        ({"model": INSTRUCT, "practices": {"anthropic_temperature": "off"}}, 0.6, []),
    ],
)  # fmt: skip
async def test_the_temperature_is_divided_once(mode: str, fields: dict[str, Any], sent: Any, said: list[str]) -> None:
    with KimiSimulator() as simulator:
        llm = wrapped(simulator, **fields)
        for one in (llm, with_kimi_practices(llm)):
            reply = await last(mode, one, HELLO)
            assert simulator.requests[-1].body.get("temperature") == sent
            assert lines(reply, "anthropic-temperature") == said
        assert simulator.refusals == []


async def test_the_body_in_full() -> None:
    with KimiSimulator() as simulator:
        reply = wrapped(simulator, practices={"fresh_data": "off"}).chat(
            HISTORY, tools=[get_weather], stop=["END"], allow_parallel_tool_calls=False
        )
        body = simulator.requests[0].body
        assert simulator.refusals == []
    tools = body.pop("tools")
    assert body == {
        "model": INSTRUCT,
        "system": "You are Kimi, an AI assistant created by Moonshot AI.",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Weather in Paris?"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "get_weather", "input": {"city": "Paris"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "Sunny."}]}]},
        ],
        "max_tokens": 32768,
        "temperature": 1.0,
        "stop_sequences": ["END"],
        "stream": False,
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": False},
    }  # fmt: skip
    [tool] = tools
    assert (tool["name"], tool["input_schema"]["required"]) == ("get_weather", ["city"])
    assert lines(reply, "wrapper") == []


@pytest.mark.parametrize("model", [INSTRUCT, THINKING, THIRD])
async def test_agents_over_several_turns_keep_signed_thinking(model: str) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        made = scripted(body)
        return made if model != INSTRUCT else Reply(made.content, tool_calls=made.tool_calls)

    with KimiSimulator(script=answer) as simulator:
        agents = workflow(wrapped(simulator, model=model))
        context, memory = Context(agents), MEMORIES["ChatMemoryBuffer"]([])
        for turn in range(4):
            assert (await run_turn(agents, turn, context, memory)).startswith(f"Turn {turn}: It is noon")
        assert simulator.refusals == []
        messages = simulator.requests[-1].body["messages"]
    thoughts = [
        block for message in messages if message["role"] == "assistant" for block in message["content"] if block["type"] == "thinking"
    ]  # fmt: skip
    assert len(thoughts) == (0 if model == INSTRUCT else 10)
    assert all(block["signature"] and block["thinking"] for block in thoughts)


@pytest.mark.parametrize("mode", CHATS)
async def test_parallel_calls_and_usage(mode: str) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "cached_tokens": 60}
    calls = [("get_weather", {"city": "Paris"}), ("get_time", {"city": "Rome"})]
    with KimiSimulator(script=[Reply("Both.", reasoning="Hm.", tool_calls=calls, usage=usage)]) as simulator:
        reply = await last(mode, wrapped(simulator, model=THIRD), HELLO, tools=[get_weather, get_time])
        assert simulator.refusals == []
    blocks = reply.message.blocks
    assert [(block.tool_name, block.tool_kwargs) for block in blocks if isinstance(block, ToolCallBlock)] == calls
    assert [block.content for block in blocks if isinstance(block, ThinkingBlock)] == ["Hm."]
    assert (reply.message.content, reply.raw["finish_reason"]) == ("Both.", "tool_calls")
    assert (reply.raw["usage"]["prompt_tokens"], reply.raw["usage"]["completion_tokens"]) == (100, 10)


@pytest.mark.parametrize("mode", CHATS)
async def test_a_forced_choice(mode: str) -> None:
    """Kimi K3 takes "any" on this endpoint; where a model does not, one re-ask."""
    with KimiSimulator() as simulator:
        llm = wrapped(simulator, model=THIRD)
        reply = await last(mode, llm, HELLO, tools=[get_weather], tool_choice="required")
        assert any(isinstance(block, ToolCallBlock) for block in reply.message.blocks)
        assert simulator.requests[-1].body["tool_choice"]["type"] == "any"
    with KimiSimulator(script=["I will not.", Reply(tool_calls=[("get_weather", {"city": "Rome"})])]) as simulator:
        reply = await last(mode, wrapped(simulator), HELLO, tools=[get_weather], tool_choice="get_weather")
        assert reply.message.blocks[-1].tool_kwargs == {"city": "Rome"}
        assert len(simulator.requests) == 2
        assert simulator.refusals == []


@pytest.mark.parametrize("way", ["structured_predict", "stream_structured_predict"])
@pytest.mark.parametrize("model", [INSTRUCT, THIRD])
def test_a_structured_answer_goes_through_a_tool(model: str, way: str) -> None:
    """The class has no argument for a response format."""
    with KimiSimulator() as simulator:
        made = getattr(wrapped(simulator, model=model), way)(City, PromptTemplate("Name the city Rome."))
        found = list(made)[-1] if way.startswith("stream") else made
        assert simulator.refusals == []
        assert simulator.requests[0].body["tools"]
    assert isinstance(found, City)


@pytest.mark.parametrize("mode", CHATS)
async def test_errors_are_anthropics_own(mode: str) -> None:
    import anthropic as sdk

    with KimiSimulator(script=[Reply(status=429)]) as simulator:
        with pytest.raises(sdk.RateLimitError):
            await last(mode, wrapped(simulator), HELLO)
        assert len(simulator.requests) == 1


def test_what_it_does_not_take_is_said() -> None:
    with KimiSimulator() as simulator:
        reply = wrapped(simulator).chat(HELLO, seed=7)
        assert "seed" not in simulator.requests[0].body
    assert lines(reply, "wrapper") == [
        "Anthropic does not take seed (fields of the request): not sent. Kimi sends all."
    ]


def test_a_pickle_finds_the_key_of_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-another-vendor")
    monkeypatch.delenv("MOONSHOT_API_KEY", raising=False)
    with KimiSimulator(api_key="sk-from-environment", script=["Yes."]) as simulator:
        servers = [{"type": "url", "url": "https://mcp.example.com", "name": "x", "authorization_token": "sk-canary-2"}]
        frozen = pickle.dumps(wrapped(simulator, api_key="sk-canary-1", mcp_servers=servers))
        assert b"sk-canary" not in frozen
        with pytest.raises(MissingKey, match="MOONSHOT_API_KEY"):
            pickle.loads(frozen)
        monkeypatch.setenv("MOONSHOT_API_KEY", "sk-from-environment")
        thawed = pickle.loads(frozen)
        thawed.inner.mcp_servers = None
        assert thawed.chat(HELLO).message.content == "Yes."


def test_an_llm_that_was_used_in_another_event_loop() -> None:
    with KimiSimulator(script=["Yes."] * 3) as simulator:
        inner = anthropic(simulator)
        request = {"model": INSTRUCT, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        asyncio.run(inner._aclient.messages.create(**request))  # type: ignore[arg-type]
        llm = with_kimi_practices(inner, host="moonshot-anthropic")
        for _ in range(2):
            assert asyncio.run(llm.achat(HELLO)).message.content == "Yes."
