"""`RefraseStep`: on lists, on memories, in workflows; prompt practices only, and nothing twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.memory import BaseMemory, ChatMemoryBuffer, Memory
from llama_index.core.workflow import Event, StartEvent, StopEvent, Workflow, step

from refrase_integrations.errors import CatalogueError, ConfigurationError
from refrase_integrations.kimi.practices import ordered
from refrase_integrations.kimi.practices.fresh_data import WITHOUT
from refrase_integrations.llamaindex import PromptEvent, RefrasedEvent, RefraseStep
from refrase_integrations.simulator import KimiSimulator
from tests.llamaindex.exchanges import bodies, kimi

DEFAULT = "You are Kimi, an AI assistant created by Moonshot AI."
RULES = "\n".join(f"You must never guess the answer to question number {n}. Never guess." for n in range(12))
WORDY = f"Answer in French.\n{RULES}\n{RULES}"
"""A prompt that says everything twice."""


def user(text: str = "Hello") -> ChatMessage:
    return ChatMessage(role="user", content=text)


def system(*texts: str) -> ChatMessage:
    return ChatMessage(role="system", blocks=[TextBlock(text=text) for text in texts])


CONVERSATION = [
    user(),
    ChatMessage(
        role="assistant",
        blocks=[
            ThinkingBlock(content="Hm."),
            ToolCallBlock(tool_call_id="call_x", tool_name="weather", tool_kwargs={"city": "Paris"}),
        ],
    ),
    ChatMessage(role="tool", content="", additional_kwargs={"tool_call_id": "call_x"}),
    ChatMessage(role="user", blocks=[ImageBlock(url="https://example.com/a.png"), TextBlock(text="<|im_end|>")]),
]
"""What practices on the wire would change in five places."""


def memories(messages: list[ChatMessage]) -> list[BaseMemory]:
    return [
        ChatMemoryBuffer.from_defaults(chat_history=messages, token_limit=10_000),
        Memory.from_defaults(chat_history=messages, session_id="s", token_limit=10_000),
    ]


async def refrased(way: str, refrase: RefraseStep, given: Any) -> list[ChatMessage]:
    return refrase(given) if way == "sync" else await refrase.acall(given)


@pytest.mark.parametrize("way", ["sync", "async"])
class TestMessages:
    async def test_one_system_message_in_front_and_nothing_else(self, way: str) -> None:
        before = [message.model_copy(deep=True) for message in CONVERSATION]
        after = await refrased(way, RefraseStep(), CONVERSATION)
        assert (after[0].role.value, after[0].content) == ("system", DEFAULT)
        assert all(new is old for new, old in zip(after[1:], CONVERSATION, strict=True))
        assert before == CONVERSATION

    async def test_again_changes_nothing(self, way: str) -> None:
        refrase = RefraseStep(practices={"concise_prompt": "apply"})
        once = await refrased(way, refrase, [system(WORDY), *CONVERSATION])
        twice = await refrased(way, refrase, once)
        assert len(once[0].content or "") < len(WORDY)
        assert "Answer in French." in (once[0].content or "")
        assert all(new is old for new, old in zip(twice, once, strict=True))

    async def test_a_changed_message_keeps_what_else_it_carries(self, way: str) -> None:
        prompt = system("Be kind.", WORDY)
        prompt.additional_kwargs["mine"] = 1
        [first, second] = (await refrased(way, RefraseStep(practices={"concise_prompt": "apply"}), [prompt, user()]))[
            0
        ].blocks
        assert first is prompt.blocks[0]
        assert isinstance(second, TextBlock)
        assert len(second.text) < len(WORDY)
        assert prompt.blocks[1].text == WORDY  # type: ignore[union-attr]

    async def test_a_blank_system_message_gives_way(self, way: str) -> None:
        after = await refrased(way, RefraseStep(), [user(), system(" "), user("And?")])
        assert [message.content for message in after] == [DEFAULT, "Hello", "And?"]
        assert [message.role.value for message in after] == ["system", "user", "user"]

    async def test_the_tools_decide_the_line_on_live_data(self, way: str) -> None:
        def get_weather(city: str) -> str:
            """Return the weather in a city."""
            return city

        lines = [
            ((await refrased(way, RefraseStep(tools=tools), [user()]))[0].content or "").partition("\n\n")[2]
            for tools in (None, [], [get_weather])
        ]
        assert lines[:2] == ["", WITHOUT]
        assert "call get_weather before you answer" in lines[2]

    async def test_a_memory_is_read_and_stays_as_it_is(self, way: str) -> None:
        for memory in memories(CONVERSATION[:3]):
            after = await refrased(way, RefraseStep(), memory)
            assert [message.role.value for message in after] == ["system", "user", "assistant", "tool"]
            assert await memory.aget_all() == CONVERSATION[:3]

    async def test_off_and_a_model_without_a_default_prompt(self, way: str) -> None:
        for refrase in (RefraseStep(practices="off"), RefraseStep(model="kimi-k3")):
            assert await refrased(way, refrase, CONVERSATION) == CONVERSATION

    async def test_what_is_no_conversation(self, way: str) -> None:
        for wrong in ("Hello", ["Hello"], None):
            with pytest.raises(ConfigurationError, match="takes a list of ChatMessage or a memory"):
                await refrased(way, RefraseStep(), wrong)


def test_the_default_does_not_stand_beside_a_prompt_of_the_apps_own() -> None:
    lawyer, refrase = system("You are a lawyer."), RefraseStep()
    stated = refrase([user()])
    for messages in ([lawyer, *stated], [*stated, lawyer, user("And?")]):
        after = refrase(messages)
        assert after == [message for message in messages if message.content != DEFAULT]
        assert refrase(after) == after
    with KimiSimulator("moonshot", script=["Yes."] * 2) as simulator:
        llm = kimi(simulator)
        llm.chat([lawyer, user()])
        llm.chat([lawyer, *stated])
        first, second = bodies(simulator)
    assert first == second


@pytest.mark.filterwarnings("ignore::refrase_integrations.errors.CatalogueWarning")
def test_a_model_that_the_catalogue_does_not_know_is_left_alone() -> None:
    conversation = [system("You MUST MUST MUST!!!"), user()]
    made = RefraseStep(model="gpt-4o-of-that-test", tools=[]).run(conversation)
    assert made.messages == conversation
    assert made.report["changes"] == []


texts = st.text(alphabet="ab \n!", max_size=12)
messages = st.builds(lambda role, text: ChatMessage(role=role, content=text), st.sampled_from(["system", "user", "assistant"]), texts)  # fmt: skip


@given(st.lists(messages, max_size=6))
def test_any_conversation_is_refrased_once(conversation: list[ChatMessage]) -> None:
    refrase = RefraseStep(practices={"concise_prompt": "apply"})
    once = refrase(conversation)
    assert refrase(once) == once
    assert len([m for m in once if m.role.value == "system"]) <= 1 + len(
        [m for m in conversation if m.role.value == "system"]
    )
    assert [m for m in once if m.role.value != "system"] == [m for m in conversation if m.role.value != "system"]


def test_the_report_says_what_was_changed_and_only_prompt_practices_act() -> None:
    made = RefraseStep().run([system(WORDY), *CONVERSATION])
    acting = {line["practice"] for line in made.report["changes"]}
    assert acting == {"concise-prompt"}
    assert acting < {practice.id for practice in ordered("messages")}
    assert made.messages[0].content == WORDY, "by default it only says so"


def test_it_says_which_tool_is_live_and_which_question_needs_one() -> None:
    def web_search(query: str) -> str:
        """Search the web for current information."""
        return query

    plain = RefraseStep()
    assert plain.run([user("What is the weather in Paris today?")]).needs_fresh_data
    assert not plain.run([user("What is a hash map?")]).needs_fresh_data
    assert plain([user()])[0].content == DEFAULT, "unknown tools: nothing is said"
    [live, *_] = RefraseStep(tools=[web_search])([user()])
    [none, *_] = RefraseStep(tools=[])([user()])
    assert "web_search" in (live.content or "")
    assert live.content != none.content != DEFAULT
    assert RefraseStep(tools=[web_search])([none, user()])[0].content == live.content, (
        "the line is replaced, not doubled"
    )


def test_an_unknown_host_and_a_wrong_setting_are_said_at_once() -> None:
    with pytest.raises(CatalogueError, match="nowhere"):
        RefraseStep(host="nowhere")
    for wrong in (3, "get_weather", {"name": "get_weather"}):
        with pytest.raises(ConfigurationError, match="tools must be a list of tools"):
            RefraseStep(tools=wrong)  # type: ignore[arg-type]
    with pytest.raises(CatalogueError, match="by its name, not as int"):
        RefraseStep(model=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="telepathy"):
        RefraseStep(practices={"telepathy": "apply"})


def test_a_practiced_llm_behind_it_changes_nothing_twice() -> None:
    with KimiSimulator("moonshot", script=["Yes."] * 2) as simulator:
        llm = kimi(simulator)
        llm.chat([user()])
        llm.chat(RefraseStep()([user()]))
        first, second = bodies(simulator)
    assert first == second


# -- workflows -------------------------------------------------------------------------------------------


class Asked(StartEvent):
    messages: Any
    thread: str = "t"


class Ready(Event):
    messages: list[ChatMessage]
    report: dict[str, Any]
    thread: str


async def test_between_events_of_the_users_own() -> None:
    class Answering(Workflow):
        @step
        async def answer(self, ev: Ready) -> StopEvent:
            reply = await llm.achat(ev.messages)
            return StopEvent(result=(reply.message.content, ev.thread, ev.report["changes"][0]["practice"]))

    RefraseStep().add_to(Answering, takes=Asked, gives=Ready)
    with KimiSimulator("moonshot", script=["Yes."] * 3) as simulator:
        llm = kimi(simulator, practices={"fresh_data": "off"})
        assert await Answering().run(messages=[user()], thread="42") == ("Yes.", "42", "system-prompt")
        for memory in memories([user()]):
            assert (await Answering().run(messages=memory))[0] == "Yes."
        assert all(body["messages"][0]["content"].startswith(DEFAULT) for body in bodies(simulator))


async def test_between_its_own_events_and_twice_in_one_workflow() -> None:
    class Chatting(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> PromptEvent:
            return PromptEvent(messages=[user(ev.get("question"))])

        @step
        async def answer(self, ev: RefrasedEvent) -> StopEvent:
            return StopEvent(result=[message.content for message in ev.messages])

    RefraseStep().add_to(Chatting)
    assert await Chatting().run(question="Why?") == [DEFAULT, "Why?"]
    with pytest.raises(Exception, match="already part of this workflow"):
        RefraseStep().add_to(Chatting)


async def test_in_a_step_of_the_users_own() -> None:
    class Own(Workflow):
        refrase = RefraseStep()

        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await self.refrase.acall([user()]))

    assert [message.content for message in await Own().run()] == [DEFAULT, "Hello"]


def test_events_without_messages_are_refused() -> None:
    class Bare(Event):
        text: str

    with pytest.raises(ConfigurationError, match="Bare has no field 'messages'"):
        RefraseStep().add_to(Workflow, takes=PromptEvent, gives=Bare)
