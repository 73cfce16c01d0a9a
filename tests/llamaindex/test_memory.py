"""Conversations repaired for good: messages keep what they are, a stuck memory goes on with any client."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import (
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.memory import (
    BaseMemory,
    ChatMemoryBuffer,
    ChatSummaryMemoryBuffer,
    Memory,
    SimpleComposableMemory,
)
from llama_index.core.storage.chat_store.base_db import MessageStatus

from refrase_integrations.llamaindex import arepair_memory, repair_memory, repair_messages
from refrase_integrations.llamaindex.messages import encode
from refrase_integrations.simulator import KimiSimulator
from tests.llamaindex.exchanges import bodies, kimi


def user(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=text)


def called(*ids: str, **fields: Any) -> ChatMessage:
    calls = [ToolCallBlock(tool_call_id=one, tool_name="weather", tool_kwargs={"city": one}) for one in ids]
    return ChatMessage(role="assistant", blocks=[ThinkingBlock(content="I look."), *calls], **fields)


def result(call_id: str, text: str = "sunny") -> ChatMessage:
    return ChatMessage(role="tool", content=text, additional_kwargs={"tool_call_id": call_id})


# -- messages --------------------------------------------------------------------------------------------


def test_untouched_messages_are_the_same_objects() -> None:
    messages = [
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", blocks=[TextBlock(text="What is this?"), DocumentBlock(data=b"%PDF", title="p.pdf")]),
        ChatMessage(role="assistant", blocks=[ThinkingBlock(content="Hm."), TextBlock(text="A page.")]),
        called("c1"),
        result("c1"),
        ChatMessage(role="assistant", content="Sunny."),
        ChatMessage(role="user", blocks=[ImageBlock(url="https://example.com/a.png")]),
        ChatMessage(role=MessageRole.FUNCTION, content="the form of another time"),
    ]
    repaired, changes = repair_messages(messages)
    assert changes == []
    assert all(new is old for new, old in zip(repaired, messages, strict=True))


def test_a_changed_message_keeps_its_blocks_and_what_else_it_carries() -> None:
    first, second = called("same"), called("same", additional_kwargs={"mine": 1})
    before = [message.model_copy(deep=True) for message in (first, second)]
    repaired, changes = repair_messages([first, result("same", "1"), second, result("same", "2")])
    assert [change.detail for change in changes] == ["1 tool-call id(s) made unique"]
    assert repaired[0] is first
    renamed, answer = repaired[2], repaired[3]
    thought, call = renamed.blocks
    assert thought is second.blocks[0]
    assert isinstance(call, ToolCallBlock)
    assert call.tool_call_id == answer.additional_kwargs["tool_call_id"] != "same"
    assert call.tool_kwargs == {"city": "same"}
    assert renamed.additional_kwargs["mine"] == 1
    assert renamed.additional_kwargs["tool_calls"][0]["id"] == call.tool_call_id
    assert [first, second] == before, "the caller's messages are not changed"


def test_broken_arguments_become_a_call_that_is_answered() -> None:
    broken = ChatMessage(
        role="assistant",
        blocks=[ToolCallBlock(tool_call_id="c", tool_name="weather", tool_kwargs='{"city": "Pa')],
        additional_kwargs={"tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Pa'}, "error": "cut short"}
        ]},
    )  # fmt: skip
    repaired, changes = repair_messages([user("Weather?"), broken])
    assert {change.kind for change in changes} == {"replace", "add"}
    mended, answer = repaired[1:]
    [call] = mended.blocks
    assert isinstance(call, ToolCallBlock)
    assert call.tool_kwargs == {"unreadable_arguments": '{"city": "Pa'}
    assert answer.role == MessageRole.TOOL
    assert answer.additional_kwargs == {"tool_call_id": "c", "name": "weather"}
    assert "cut short" in str(answer.content)
    assert repair_messages(repaired) == (repaired, [])


def test_calls_in_the_older_form_only_are_repaired_there() -> None:
    calls = [{"id": "", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
    old = ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": calls})
    repaired, changes = repair_messages([user("Weather?"), old, result("")])
    assert [change.detail for change in changes] == ["1 tool-call id(s) made unique"]
    made = repaired[1].additional_kwargs["tool_calls"][0]
    assert made["id"] == repaired[2].additional_kwargs["tool_call_id"] != ""
    assert not any(isinstance(block, ToolCallBlock) for block in repaired[1].blocks)


def test_what_says_nothing_goes_and_reasoning_alone_says_nothing() -> None:
    pieces = [TextBlock(text=" "), ImageBlock(url="https://example.com/a.png"), TextBlock(text="And this?")]
    messages = [
        user("Hello"),
        ChatMessage(role="assistant", blocks=[ThinkingBlock(content="Hm.")]),
        ChatMessage(role="assistant", content=""),
        user(""),
        ChatMessage(role="user", blocks=pieces),
        result("nobody asked"),
        ChatMessage(role="tool", content="no id at all"),
    ]
    repaired, changes = repair_messages(messages)
    assert [message.blocks for message in repaired] == [messages[0].blocks, pieces[1:]]
    assert len(changes) == 6


def test_a_blank_result_says_so_and_a_second_one_goes() -> None:
    answers = [result("c1", ""), ChatMessage(role="tool", blocks=[TextBlock(text=""), TextBlock(text="5")], additional_kwargs={"tool_call_id": "c2"})]  # fmt: skip
    repaired, changes = repair_messages([user("?"), called("c1", "c2"), *answers, result("c1", "again")])
    assert [change.detail for change in changes] == [
        "a blank tool result: (no output)",
        "a tool result without its tool call, or a second one",
    ]
    assert repaired[2].content == "(no output)"
    assert repaired[3] is answers[1]


# -- memories --------------------------------------------------------------------------------------------

STUCK = [user("Weather?"), called("c1", "c2"), result("c1"), user("Are you there?")]


def summarizing(kept: list[ChatMessage]) -> BaseMemory:
    return ChatSummaryMemoryBuffer.from_defaults(chat_history=kept, token_limit=10_000, count_initial_tokens=False)


def composed(kept: list[ChatMessage]) -> BaseMemory:
    return SimpleComposableMemory(primary_memory=ChatMemoryBuffer.from_defaults(chat_history=kept), secondary_memory_sources=[])  # fmt: skip


MEMORIES: dict[str, Callable[[list[ChatMessage]], BaseMemory]] = {
    "ChatMemoryBuffer": lambda kept: ChatMemoryBuffer.from_defaults(chat_history=kept, token_limit=10_000),
    "Memory": lambda kept: Memory.from_defaults(chat_history=kept, session_id="s", token_limit=10_000),
    "ChatSummaryMemoryBuffer": summarizing,
    "SimpleComposableMemory": composed,
}


async def repaired_in(way: str, memory: BaseMemory) -> list[str]:
    changes = repair_memory(memory) if way == "sync" else await arepair_memory(memory)
    return [change.detail for change in changes]


def plain_client_says(simulator: KimiSimulator, messages: list[ChatMessage]) -> str:
    """Send a conversation with a client that repairs nothing."""
    client = openai.OpenAI(base_url=simulator.base_url, api_key="sk-test", max_retries=0)
    body: Any = [
        {key: value for key, value in message.items() if value or key != "content"} for message in encode(messages)
    ]
    reply = client.chat.completions.create(model="kimi-k2.6", messages=body, max_tokens=20_000)
    return str(reply.choices[0].message.content)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("kind", MEMORIES)
async def test_a_stuck_memory_goes_on_with_any_client(kind: str, way: str) -> None:
    memory = MEMORIES[kind](list(STUCK))
    with KimiSimulator("moonshot", script=["Here I am."]) as simulator:
        with pytest.raises(openai.BadRequestError, match="must be followed by tool messages"):
            plain_client_says(simulator, await memory.aget_all())
        assert await repaired_in(way, memory) == ["an unanswered tool call: an interrupted result stands in"]
        kept = await memory.aget_all()
        assert [message.role.value for message in kept] == ["user", "assistant", "tool", "tool", "user"]
        assert kept[1] == STUCK[1], "reasoning and calls are as they were"
        assert plain_client_says(simulator, kept) == "Here I am."
    assert await repaired_in(way, memory) == [], "once is enough"


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_sound_memory_is_not_written_to(way: str) -> None:
    memory = MEMORIES["ChatMemoryBuffer"]([user("Hello")])
    store: Any = memory.chat_store  # type: ignore[attr-defined]
    before = store.store["chat_history"]
    assert await repaired_in(way, memory) == []
    assert store.store["chat_history"] is before


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_archived_messages_stay_archived(way: str) -> None:
    memory = Memory.from_defaults(session_id="s", token_limit=10_000)
    await memory.aput_messages([user("Long ago."), ChatMessage(role="assistant", content="Yes."), *STUCK])
    await memory.sql_store.archive_oldest_messages("s", 2)
    assert len(await repaired_in(way, memory)) == 1
    archived = await memory.aget_all(status=MessageStatus.ARCHIVED)
    active = await memory.aget_all(status=MessageStatus.ACTIVE)
    assert [message.content for message in archived] == ["Long ago.", "Yes."]
    assert [message.role.value for message in active] == ["user", "assistant", "tool", "tool", "user"]


async def test_an_agent_and_a_chat_engine_go_on_with_a_repaired_memory() -> None:
    def weather(city: str) -> str:
        """Return the weather."""
        return "sunny"

    with KimiSimulator("moonshot", script=["Here I am.", "Still here."]) as simulator:
        llm = kimi(simulator, practices={"history": "off"}, model="kimi-k2-thinking")
        memory = MEMORIES["ChatMemoryBuffer"](list(STUCK))
        repair_memory(memory)
        agent = FunctionAgent(llm=llm, tools=[weather])
        assert str(await agent.run("Well?", memory=memory)) == "Here I am."
        engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
        assert str(await engine.achat("And now?")) == "Still here."
        assert simulator.refusals == []
        told = json.dumps(bodies(simulator)[0]["messages"])
    assert told.count("interrupted") == 1
