"""`with_kimi_practices` around LLMs that it knows nothing of: LlamaIndex's own mocks, and one that a user wrote.

Those of other packages are in tests/peers/llamaindex/test_wrapper.py.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ThinkingBlock, ToolCallBlock
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.callbacks.schema import CBEventType
from llama_index.core.llms import LLM, MockLLM, mock
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.mock import (
    MockLLMWithChatMemoryOfLastCall as Mock,
)
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

from refrase_integrations import Practices
from refrase_integrations.errors import ConfigurationError, StructuredOutputError, VisionUnsupported
from refrase_integrations.kimi.practices.fresh_data import WITHOUT
from refrase_integrations.llamaindex import Kimi, with_kimi_practices
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.llamaindex.exchanges import CHATS, COMPLETIONS, Collected, bodies, kimi, last, responses
from tests.llamaindex.handoffs import get_time, get_weather
from tests.llamaindex.homemade import Homemade

HELLO = [ChatMessage(role="user", content="Hello")]
MockWithTools: Any = getattr(mock, "MockFunctionCallingLLMWithChatMemoryOfLastCall", None)
with_a_mock = pytest.mark.skipif(MockWithTools is None, reason="llama-index-core has it since 0.14.22")
SYSTEM = f"You are Kimi, an AI assistant created by Moonshot AI.\n\n{WITHOUT}"
INSTRUCT, OPEN_INSTRUCT = "kimi-k2-0905-preview", "moonshotai/Kimi-K2-Instruct-0905"


class City(BaseModel):
    """A city."""

    name: str


def practiced(llm: LLM, **more: Any) -> Any:
    return with_kimi_practices(llm, model_name=INSTRUCT, host="moonshot", **more)


def homemade(simulator: KimiSimulator, model: str = INSTRUCT, **fields: Any) -> Any:
    inner = Homemade(model=model, base_url=simulator.base_url, **fields)
    return with_kimi_practices(inner, host=simulator.host.persona.id)


# -- what it is ------------------------------------------------------------------------------------------


@with_a_mock
def test_it_stays_an_llm_of_the_same_capability() -> None:
    plain, with_tools = practiced(MockLLM()), practiced(MockWithTools())
    assert isinstance(plain, LLM)
    assert not isinstance(plain, FunctionCallingLLM)
    assert isinstance(with_tools, FunctionCallingLLM)
    assert (plain.metadata.is_function_calling_model, with_tools.metadata.is_function_calling_model) == (False, True)
    assert plain.metadata.context_window == with_tools.metadata.context_window == 262_144
    assert plain.metadata.model_name == INSTRUCT


def test_kimi_is_returned_with_the_practices_merged() -> None:
    llm = Kimi(api_key="sk-test", practices={"history": "warn"})
    assert with_kimi_practices(llm).practices == llm.practices
    merged: Any = with_kimi_practices(llm, practices={"thinking": "off"})
    assert type(merged) is Kimi
    assert Practices.of(merged.practices).model_dump(exclude_unset=True) == {"history": "warn", "thinking": "off"}
    assert Practices.of(llm.practices).model_dump(exclude_unset=True) == {"history": "warn"}
    assert merged.api_key == llm.api_key


def test_kimi_says_itself_what_it_is() -> None:
    llm = Kimi(api_key="sk-test", model="kimi-k2.6")
    assert with_kimi_practices(llm, "kimi-k2.6", "moonshot").metadata.model_name == "kimi-k2.6"
    for arguments, words in (
        ({"model_name": "kimi-k3"}, r"Kimi has its own model, 'kimi-k2.6': set Kimi\(model=\.\.\.\)"),
        ({"host": "vllm"}, r"Kimi sends to its own host, 'moonshot': set Kimi\(host=\.\.\., base_url=\.\.\.\)"),
        ({"thinking": "auto"}, r"set Kimi\(thinking='auto'\)"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            with_kimi_practices(llm, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", CHATS)
async def test_thinking_auto_is_refused_where_the_switch_would_be_lost(mode: str) -> None:
    question = [ChatMessage(role="user", content="What is the capital of Australia?")]
    inner = Mock()
    llm = with_kimi_practices(inner, "kimi-k2.6", "moonshot", thinking="auto")
    words = r"'auto' cannot work through MockLLMWith\w+: it does not send thinking.* use Kimi\."
    with pytest.raises(ConfigurationError, match=words):
        await responses(mode, llm, question)
    assert inner.last_called_chat_function == []
    assert await responses(mode, llm, question, thinking=True)  # the call has the last word
    thinks = with_kimi_practices(llm, model_name="kimi-k2-thinking")  # nothing to switch
    reply = await last(mode, thinks, question)
    said = [line["detail"] for line in reply.raw["refrase"]["changes"] if line["practice"] == "thinking"]
    assert said == ["auto: on, cannot be switched here"]


def test_a_wrapped_one_is_not_wrapped_again() -> None:
    inner = MockLLM()
    llm = practiced(inner, practices={"history": "warn"})
    again: Any = with_kimi_practices(llm, model_name="kimi-k2.6", practices={"thinking": "off"})
    assert (again.inner, again.model_name, again.host) == (inner, "kimi-k2.6", "moonshot")
    assert Practices.of(again.practices).model_dump(exclude_unset=True) == {"history": "warn", "thinking": "off"}
    assert llm.model_name == INSTRUCT


def test_what_cannot_be_wrapped_says_so() -> None:
    with pytest.raises(ConfigurationError, match="takes an LLM of LlamaIndex, not str"):
        with_kimi_practices("kimi-k2.6")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"MockLLM does not tell its model: .*model_name='kimi-k2.6'"):
        with_kimi_practices(MockLLM(), host="moonshot")
    with pytest.raises(ConfigurationError, match=r"MockLLM does not tell where it sends: .*host=\.\.\."):
        with_kimi_practices(MockLLM(), model_name="kimi-k2.6")
    with pytest.raises(ConfigurationError, match="telepathy"):
        practiced(MockLLM(), practices={"telepathy": "apply"})


def test_it_takes_over_what_llamaindex_does_around_a_call() -> None:
    inner = Mock(system_prompt="Be brief.", messages_to_prompt=lambda messages: "one prompt")
    llm = practiced(inner, practices={"fresh_data": "off"})
    assert (llm.system_prompt, llm.messages_to_prompt) == ("Be brief.", inner.messages_to_prompt)
    llm.chat(HELLO)
    assert [message.content for message in inner.last_chat_messages or ()] == ["Be brief.", "Hello"]


# -- mocks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", CHATS)
async def test_a_mock_gets_the_prepared_messages_and_its_words_come_back(mode: str) -> None:
    inner = Mock()
    reply = await last(mode, practiced(inner), HELLO)
    given = list(inner.last_chat_messages or ())
    assert [message.content for message in given] == [SYSTEM, "Hello"]
    assert given[1] == HELLO[0]
    assert mode in inner.last_called_chat_function
    assert reply.message.content.endswith("user: Hello\nassistant: ")
    assert reply.raw["refrase"]["changes"][0]["practice"] == "system-prompt"
    assert reply.additional_kwargs["refrase"] == reply.raw["refrase"]


def test_what_no_practice_touched_is_the_users_own_message() -> None:
    inner = Mock()
    practiced(inner).chat(HELLO)
    assert list(inner.last_chat_messages or ())[1] is HELLO[0]


@pytest.mark.parametrize("mode", COMPLETIONS)
async def test_a_completion_is_a_conversation_of_one_message(mode: str) -> None:
    reply = await last(mode, practiced(Mock()), "Hello")
    assert reply.text.endswith("user: Hello\nassistant: ")


@with_a_mock
@pytest.mark.parametrize("mode", CHATS)
async def test_tools_reach_the_inner_llm_in_its_own_way(mode: str) -> None:
    seen: dict[str, Any] = {}

    def answer(messages: Any, **kwargs: Any) -> ChatMessage:
        seen.update(kwargs)
        calls = [
            ToolCallBlock(tool_call_id="x", tool_name=tool.metadata.get_name(), tool_kwargs={"city": "Paris"})
            for tool in kwargs["tools"]
        ]
        return ChatMessage(role="assistant", blocks=[ThinkingBlock(content="Both."), *calls])

    reply = await last(mode, practiced(MockWithTools(response_generator=answer)), HELLO, tools=[get_weather, get_time])
    [first, second] = [block for block in reply.message.blocks if isinstance(block, ToolCallBlock)]
    assert (first.tool_name, second.tool_name, first.tool_kwargs) == ("get_weather", "get_time", {"city": "Paris"})
    assert first.tool_call_id != second.tool_call_id, "unique in the app, though the model used one id twice"
    assert seen["tools"][0].metadata.get_parameters_dict()["required"] == ["city"]
    selected = practiced(MockWithTools()).get_tool_calls_from_response(reply)
    assert [one.tool_kwargs for one in selected] == [{"city": "Paris"}] * 2


def test_an_image_for_a_text_model_is_an_error_before_any_call() -> None:
    from llama_index.core.base.llms.types import ImageBlock

    inner = Mock()
    with pytest.raises(VisionUnsupported):
        practiced(inner).chat([ChatMessage(role="user", blocks=[ImageBlock(url="https://example.com/a.png")])])
    assert inner.last_called_chat_function == []


def test_structured_prediction_of_a_plain_llm_is_llamaindexs_own() -> None:
    class Fixed(Mock):
        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
            from llama_index.core.base.llms.types import CompletionResponse

            assert "Paris" in prompt
            return CompletionResponse(text='{"name": "Paris"}')

    assert practiced(Fixed()).structured_predict(City, PromptTemplate("Name the city Paris.")) == City(name="Paris")


# -- one that a user wrote -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", CHATS)
async def test_settings_go_in_through_its_fields_and_what_it_lacks_is_said_once(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    with KimiSimulator("moonshot", script=["Yes, sir."] * 3) as simulator:
        llm = homemade(simulator, temperature=0.9)
        before = llm.inner.model_copy()
        with caplog.at_level(logging.WARNING, "refrase_integrations"):
            pieces = [await responses(mode, llm, HELLO, top_p=0.3) for _ in range(2)][-1]
        [body, _] = bodies(simulator)
        assert simulator.refusals == []
    assert (body["temperature"], body["max_tokens"]) == (0.6, 32_768)
    assert [message["content"] for message in body["messages"]] == [SYSTEM, "Hello"]
    assert llm.inner == before
    assert "".join(piece.delta or "" for piece in pieces) in ("", "Yes, sir.")
    assert pieces[-1].message.content == "Yes, sir."
    words = "Homemade does not take top_p (fields of the request): not sent. Kimi sends all."
    assert words in [line["detail"] for line in pieces[-1].raw["refrase"]["changes"]]
    assert len([record for record in caplog.records if "does not take top_p" in record.getMessage()]) <= 1


@pytest.mark.parametrize("mode", CHATS)
async def test_replies_are_healed(mode: str) -> None:
    leak = (
        "One moment.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
        '{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>'
    )
    with KimiSimulator("vllm", script=[leak]) as simulator:
        reply = await last(mode, homemade(simulator, OPEN_INSTRUCT), HELLO, tools=[get_weather])
    [call] = [block for block in reply.message.blocks if isinstance(block, ToolCallBlock)]
    assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": "Paris"})
    assert (reply.message.content, reply.raw["finish_reason"]) == ("One moment.", "tool_calls")


@pytest.mark.parametrize("mode", CHATS)
async def test_a_forced_choice_is_asked_for_once_more(mode: str) -> None:
    script = ["I will not.", Reply(tool_calls=[("get_weather", {"city": "Rome"})])]
    with KimiSimulator("moonshot", script=script) as simulator:
        reply = await last(mode, homemade(simulator), HELLO, tools=[get_weather], tool_choice="required")
        assert [body["tool_choice"] for body in bodies(simulator)] == ["auto", "auto"]
        assert simulator.refusals == []
    assert reply.message.blocks[-1].tool_kwargs == {"city": "Rome"}


@pytest.mark.parametrize("way", ["structured_predict", "stream_structured_predict"])
def test_a_structured_answer_goes_through_a_tool(way: str) -> None:
    """It has no argument for a response format, so the practice does not ask for one."""
    with KimiSimulator("moonshot", script=["no", Reply(tool_calls=[("City", {"name": "Rome"})])]) as simulator:
        made = getattr(homemade(simulator), way)(City, PromptTemplate("A city?"))
        assert (list(made)[-1] if way.startswith("stream") else made) == City(name="Rome")
        assert all("response_format" not in body and body["tools"] for body in bodies(simulator))
    with KimiSimulator("moonshot", script=["no"] * 2) as simulator:
        predict = getattr(homemade(simulator), way)
        with pytest.raises(StructuredOutputError):
            list(predict(City, PromptTemplate("A city?")))


async def test_its_reasoning_is_kept_and_goes_back_as_a_block() -> None:
    script = [
        Reply(reasoning="I look.", tool_calls=[("get_weather", {"city": "Paris"})]),
        Reply("Sunny.", reasoning="Ah."),
    ]
    with KimiSimulator("moonshot", script=script * 2) as simulator:
        llm = homemade(simulator, "kimi-k2-thinking", temperature=1.0)
        for streaming in (True, False):
            agent = FunctionAgent(llm=llm, tools=[get_weather], streaming=streaming)
            assert str(await agent.run("Weather?")) == "Sunny."
        assert simulator.refusals == []
        assert bodies(simulator)[1]["messages"][2]["reasoning_content"] == "I look."


async def test_a_react_agent_on_a_plain_llm() -> None:
    class Thinking(Mock):
        def chat(self, messages: Any, **kwargs: Any) -> Any:
            from llama_index.core.base.llms.types import ChatResponse

            said = "Thought: I can answer now.\nAnswer: Sunny."
            return ChatResponse(message=ChatMessage(role="assistant", content=said))

        async def achat(self, messages: Any, **kwargs: Any) -> Any:
            return self.chat(messages)

    agent = ReActAgent(llm=practiced(Thinking()), tools=[get_weather], streaming=False)
    assert str(await agent.run("Weather?")) == "Sunny."


# -- events ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", CHATS)
async def test_one_event_for_each_call_that_the_inner_llm_makes(mode: str, collected: Collected) -> None:
    debug, tokens = LlamaDebugHandler(print_trace_on_end=False), TokenCountingHandler(tokenizer=str.split)
    with KimiSimulator(
        "moonshot", script=["I will not.", Reply(tool_calls=[("get_weather", {"city": "R"})])]
    ) as simulator:
        llm = homemade(simulator, api_key="sk-canary-4711")
        llm.callback_manager = CallbackManager([debug, tokens])  # as Settings does it
        await responses(mode, llm, HELLO, tools=[get_weather], tool_choice="required")
    names = [type(event).__name__ for event in collected.events]
    assert (names.count("LLMChatStartEvent"), names.count("LLMChatEndEvent")) == (2, 2)
    assert len(debug.get_event_pairs(CBEventType.LLM)) == len(tokens.llm_token_counts) == 2
    assert llm.inner.callback_manager.handlers == [], "the user's own LLM is not changed"
    assert "canary" not in "".join(map(repr, collected.events))


def test_the_same_report_as_kimis() -> None:
    with KimiSimulator("moonshot", script=["Yes."] * 2) as simulator:
        own = kimi(simulator, model=INSTRUCT).chat(HELLO).raw
        around = homemade(simulator).chat(HELLO).raw
    assert around["refrase"] == own["refrase"]
    assert around.keys() >= {"model", "finish_reason", "refrase"}
