"""Replies: blocks, streams, usage, events, and what a reply may lack."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from typing import Any

import pytest
from llama_index.core import Settings
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.callbacks import CallbackManager, CBEventType, TokenCountingHandler
from llama_index.core.memory import ChatMemoryBuffer

from refrase_integrations.errors import EmptyReply, ReplyError, StreamInterrupted
from refrase_integrations.kimi.tokenformat import write_section
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.llamaindex.exchanges import CHATS, COMPLETIONS, Collected, bodies, exchange, kimi, last, responses

THINKING = {"moonshot": "kimi-k2-thinking", "vllm": "moonshotai/Kimi-K2-Thinking"}
ASKED = [ChatMessage(role="user", content="Weather in Paris and Rome?")]
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "cached_tokens": 40}


def weather(city: str) -> str:
    """Return the weather in a city."""
    return f"sunny in {city}"


TWO = Reply(
    content="Let me see.",
    reasoning="Both cities.",
    tool_calls=[("weather", {"city": "Paris"}), ("weather", {"city": "Rome"})],
    usage=USAGE,
)


@pytest.mark.parametrize("mode", CHATS)
@pytest.mark.parametrize("persona", THINKING)
async def test_the_message_is_its_blocks(mode: str, persona: str) -> None:
    reply, _ = await exchange(
        mode, ASKED, persona=persona, model=THINKING[persona], script=[TWO], call={"tools": [weather]}
    )
    thinking, text, *calls = reply.message.blocks
    assert isinstance(thinking, ThinkingBlock)
    assert thinking.content == "Both cities."
    assert isinstance(text, TextBlock)
    assert text.text == reply.message.content == "Let me see."
    assert all(isinstance(call, ToolCallBlock) for call in calls)
    assert [call.tool_kwargs for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
    assert len({call.tool_call_id for call in calls}) == 2
    wire = reply.message.additional_kwargs["tool_calls"]
    assert [made["id"] for made in wire] == [call.tool_call_id for call in calls]
    assert json.loads(wire[1]["function"]["arguments"]) == {"city": "Rome"}
    json.dumps(reply.message.model_dump()), json.dumps(reply.raw)


@pytest.mark.parametrize("mode", CHATS)
async def test_usage_cost_and_report(mode: str) -> None:
    reply, _ = await exchange(mode, ASKED, model="kimi-k2.6", script=[Reply("Sunny.", reasoning="Hm.", usage=USAGE)])
    expected = {key: USAGE[key] for key in ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")}
    assert reply.raw["usage"].items() >= expected.items()
    assert reply.additional_kwargs.items() >= expected.items()
    assert reply.raw["cost_usd"] == reply.additional_kwargs["cost_usd"] > 0
    assert reply.raw["finish_reason"] == "stop"
    assert reply.additional_kwargs["refrase"]["host"] == "moonshot"
    assert reply.raw["refrase"] == reply.additional_kwargs["refrase"]
    assert "refrase" not in reply.message.additional_kwargs, "the report is not checkpointed with every message"
    assert reply.raw["id"]


@pytest.mark.parametrize("mode", ["stream_chat", "astream_chat"])
async def test_a_stream_grows(mode: str) -> None:
    text, thought = "It is sunny in both cities, and it will stay so.", "The user wants the weather."
    with KimiSimulator("moonshot", script=[Reply(text, reasoning=thought)]) as simulator:
        seen = await responses(mode, kimi(simulator, model="kimi-k2-thinking"), ASKED)
    assert len(seen) > 5
    assert "".join(response.delta for response in seen) == text
    assert "".join(response.additional_kwargs.get("thinking_delta", "") for response in seen) == thought
    grown = [response.message.content or "" for response in seen]
    assert all(later.startswith(earlier) for earlier, later in zip(grown, grown[1:], strict=False))
    assert grown[-1] == text
    assert seen[0].message.content is None, "reasoning comes first"
    assert [response for response in seen if response.raw] == [seen[-1]]
    assert len({id(response.message) for response in seen}) == len(seen), "earlier responses stay as they were"


@pytest.mark.parametrize("mode", ["stream_complete", "astream_complete"])
async def test_a_streamed_completion_grows(mode: str) -> None:
    with KimiSimulator("moonshot", script=["One two three four five."]) as simulator:
        seen = await responses(mode, kimi(simulator), "Count.")
    assert "".join(response.delta for response in seen) == seen[-1].text == "One two three four five."
    assert len(seen) > 2


def fragments(count: int) -> Reply:
    """A call whose arguments come in ``count`` pieces."""
    begin = {
        "index": 0,
        "id": "weather:0",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "'},
    }
    pieces = [{"index": 0, "function": {"arguments": "x"}} for _ in range(count)]
    deltas = [begin, *pieces, {"index": 0, "function": {"arguments": '"}'}}]
    chunks = [{"id": "r1", "choices": [{"index": 0, "delta": {"tool_calls": [delta]}}]} for delta in deltas]
    return Reply(chunks=[*chunks, {"id": "r1", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}])


def test_no_partial_arguments_and_one_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent asks for the tool calls of every chunk: with a parse each time 8,000 chunks cost half a minute."""
    parsed: Counter[int] = Counter()
    whole = json.loads
    counts = []
    for count in (50, 500):
        with KimiSimulator("moonshot", script=[fragments(count)]) as simulator:
            llm = kimi(simulator, model="kimi-k2-0905-preview")
            parsed.clear()

            def counted(text: Any, *args: Any, **kwargs: Any) -> Any:
                if isinstance(text, str) and text.startswith('{"city"'):
                    parsed[len(text)] += 1
                return whole(text, *args, **kwargs)

            monkeypatch.setattr(json, "loads", counted)
            found = [
                llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
                for response in llm.stream_chat(ASKED, tools=[weather])
            ]
            monkeypatch.setattr(json, "loads", whole)
        assert [len(calls) for calls in found] in ([1], [1, 1]), "the call comes whole"
        assert found[-1][0].tool_kwargs == {"city": "x" * count}
        counts.append(sum(parsed.values()))
    assert counts[0] == counts[1] < 20


def test_a_chunk_costs_the_same_wherever_it_stands() -> None:
    """Counted in calls of Python functions of this package, LlamaIndex and pydantic: deterministic, unlike a clock."""
    chunks = [{"id": "r", "choices": [{"index": 0, "delta": {"content": "word "}}]} for _ in range(600)]
    end = {"id": "r", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    costs, calls = [], 0

    def profile(frame: Any, event: str, arg: Any) -> None:
        nonlocal calls
        name = frame.f_code.co_filename
        calls += event == "call" and ("refrase_integrations" in name or "llama_index" in name or "pydantic" in name)

    with KimiSimulator("moonshot", script=[Reply(chunks=[*chunks, end])]) as simulator:
        stream = kimi(simulator, model="kimi-k2-0905-preview").stream_chat(ASKED)
        next(stream)
        sys.setprofile(profile)
        try:
            for _ in stream:
                costs.append(calls)
                calls = 0
        finally:
            sys.setprofile(None)
    assert len(costs) >= 599
    assert sum(costs[10:110]) == sum(costs[480:580])


# -- tool calls ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", CHATS)
async def test_without_parallel_calls_the_first_one_is_kept(mode: str) -> None:
    reply, _ = await exchange(
        mode,
        ASKED,
        model="kimi-k2-thinking",
        script=[TWO],
        call={"tools": [weather], "allow_parallel_tool_calls": False},
    )
    assert [block.tool_kwargs for block in reply.message.blocks if isinstance(block, ToolCallBlock)] == [
        {"city": "Paris"}
    ]
    assert len(reply.message.additional_kwargs["tool_calls"]) == 1
    assert "parallel-tool-calls" in [entry["practice"] for entry in reply.additional_kwargs["refrase"]["healed"]]


@pytest.mark.parametrize("allowed", [True, False])
async def test_predict_and_call(allowed: bool) -> None:
    from llama_index.core.tools import FunctionTool

    tool = FunctionTool.from_defaults(fn=weather)
    with KimiSimulator("moonshot", script=[TWO, TWO]) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking")
        sync = llm.predict_and_call([tool], user_msg="Weather?", allow_parallel_tool_calls=allowed)
        history = [ChatMessage(role="user", content="Weather?")]
        other = await llm.apredict_and_call([tool], chat_history=history, allow_parallel_tool_calls=allowed)
        assert simulator.refusals == []
    expected = "sunny in Paris\n\nsunny in Rome" if allowed else "sunny in Paris"
    assert sync.response == other.response == expected
    assert len(history) == 1


def test_tool_required_forces_a_call_the_model_s_way() -> None:
    with KimiSimulator("moonshot", script=["I would rather talk.", TWO]) as simulator:
        llm = kimi(simulator, model="kimi-k2-thinking")
        reply = llm.chat_with_tools(_tools(), user_msg="Weather?", tool_required=True, allow_parallel_tool_calls=True)
        assert len(llm.get_tool_calls_from_response(reply)) == 2
        assert [body["tool_choice"] for body in bodies(simulator)] == ["auto", "auto"]
        assert simulator.refusals == []


def test_no_call_where_one_is_needed() -> None:
    with KimiSimulator("moonshot", script=["No."]) as simulator:
        llm = kimi(simulator)
        reply = llm.chat_with_tools(_tools(), user_msg="Weather?")
        assert llm.get_tool_calls_from_response(reply, error_on_no_tool_call=False) == []
        with pytest.raises(ReplyError, match="at least one tool call"):
            llm.get_tool_calls_from_response(reply)


@pytest.mark.parametrize("mode", CHATS)
async def test_a_broken_call_is_not_run_with_other_arguments(mode: str) -> None:
    broken = Reply(tool_calls=[("weather", {"city": "Paris"}), ("weather", '{"town": "Rome"}')])
    with KimiSimulator("moonshot", script=[broken, "Sorry."]) as simulator:
        llm = kimi(simulator, model="kimi-k2-0905-preview")
        reply = await last(mode, llm, ASKED, tools=[weather])
        good, bad = llm.get_tool_calls_from_response(reply, error_on_no_tool_call=False)
        assert (good.tool_name, good.tool_kwargs) == ("weather", {"city": "Paris"})
        assert bad.tool_name.startswith("weather (not run")
        assert "city" in bad.tool_name
        assert bad.tool_kwargs == {}
        with pytest.raises(ReplyError, match="'weather' cannot be used"):
            llm.get_tool_calls_from_response(reply)
        answers = [
            ChatMessage(role="tool", content="x", additional_kwargs={"tool_call_id": made.tool_id})
            for made in (good, bad)
        ]
        await last(mode, llm, [*ASKED, reply.message, *answers], tools=[weather])
        assert simulator.refusals == []


@pytest.mark.parametrize("mode", CHATS)
async def test_a_leaked_call_that_cannot_be_used_is_handed_out_as_an_error_alone(mode: str) -> None:
    leak = write_section([("format_disk", '{"path": "/"}')])
    error = "there is no tool 'format_disk'; there are: weather"
    with KimiSimulator("vllm", script=[Reply(leak, finish_reason="stop"), "Sorry."]) as simulator:
        llm = kimi(simulator, model="moonshotai/Kimi-K2-Instruct-0905", practices={"tool_repair": "off"})
        reply = await last(mode, llm, ASKED, tools=[weather])
        (block,) = [block for block in reply.message.blocks if isinstance(block, ToolCallBlock)]
        assert (block.tool_name, block.tool_kwargs) == ("format_disk", '{"path": "/"}')
        (made,) = llm.get_tool_calls_from_response(reply, error_on_no_tool_call=False)
        assert made.tool_name == f"format_disk (not run, make the call again, corrected: {error})"
        assert made.tool_kwargs == {}
        await last(mode, llm, [*ASKED, reply.message, ChatMessage(role="user", content="Well?")], tools=[weather])
        assert bodies(simulator)[1]["messages"][3]["content"] == f"Error: {error}"


def _tools() -> list[Any]:
    from llama_index.core.tools import FunctionTool

    return [FunctionTool.from_defaults(fn=weather)]


# -- what a reply may lack -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", CHATS + COMPLETIONS)
async def test_reasoning_alone_is_an_error_and_not_an_empty_answer(mode: str) -> None:
    script = [Reply(reasoning="I could go on and on.", finish_reason="length")] * 3
    asked: Any = "Secret question?" if "complete" in mode else [ChatMessage(role="user", content="Secret question?")]
    with pytest.raises(EmptyReply, match="only reasoning") as caught:
        await exchange(mode, asked, model="kimi-k2-thinking", script=script)
    assert "Secret" not in str(caught.value)
    assert "go on" not in str(caught.value)


@pytest.mark.parametrize("mode", ["stream_chat", "astream_chat"])
async def test_a_broken_stream_keeps_what_came(mode: str) -> None:
    cut = Reply("A long answer that will never come to its end, I fear.", reasoning="Hm.", cut_after=8)
    with pytest.raises(StreamInterrupted) as caught:
        await exchange(mode, ASKED, model="kimi-k2-thinking", script=[cut], max_retries=0)
    partial = caught.value.partial
    assert isinstance(partial, ChatMessage)
    assert "A long answer".startswith((partial.content or "")[:5])
    assert isinstance(partial.blocks[0], ThinkingBlock)


async def test_log_probabilities() -> None:
    likely = [{"token": "Yes", "logprob": -0.1}, {"token": "No", "logprob": -2.0}]
    logprobs = {"content": [{**likely[0], "bytes": [89], "top_logprobs": likely}]}
    message = {"role": "assistant", "content": "Yes"}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
    reply, _ = await exchange("chat", ASKED, script=[Reply(chunks=[{"id": "r", "choices": [choice]}])])
    assert [[entry.token for entry in entries] for entries in reply.logprobs or ()] == [["Yes", "No"]]


# -- events ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", CHATS + COMPLETIONS)
async def test_every_call_is_reported_once_without_its_key(mode: str, collected: Collected) -> None:
    kind = "Completion" if "complete" in mode else "Chat"
    counting = TokenCountingHandler(tokenizer=str.split)
    asked: Any = "Hello" if "complete" in mode else ASKED
    with KimiSimulator("moonshot", script=[Reply("Yes, indeed.", usage=USAGE)]) as simulator:
        llm = kimi(simulator, api_key="sk-canary-key", callback_manager=CallbackManager([counting]))
        await responses(mode, llm, asked)
    names = Counter(type(event).__name__ for event in collected.events)
    assert names[f"LLM{kind}StartEvent"] == names[f"LLM{kind}EndEvent"] == 1
    assert sum(count for name, count in names.items() if name.startswith("LLM") and kind not in name) == 0
    assert (names[f"LLM{kind}InProgressEvent"] > 1) is ("stream" in mode)
    assert counting.total_llm_token_count == 120
    assert len(counting.llm_token_counts) == 1
    for event in collected.events:
        assert "canary" not in repr(event) + str(event.model_dump())


def test_callbacks_see_one_llm_event(caplog: pytest.LogCaptureFixture) -> None:
    from llama_index.core.callbacks import LlamaDebugHandler

    handler = LlamaDebugHandler(print_trace_on_end=False)
    caplog.set_level(logging.DEBUG)
    with KimiSimulator("moonshot", script=["Yes."]) as simulator:
        kimi(simulator, api_key="sk-canary-key", callback_manager=CallbackManager([handler])).complete("Hello")
    assert len(handler.get_event_pairs(CBEventType.LLM)) == 1
    assert "canary" not in str(handler.get_event_pairs()) + caplog.text


# -- figures ---------------------------------------------------------------------------------------------


def test_metadata_comes_from_the_catalogue() -> None:
    with KimiSimulator("moonshot") as simulator:
        older, newer = (
            kimi(simulator, model="kimi-k2-0711-preview"),
            kimi(simulator, model="kimi-k2.6", max_tokens=5_000),
        )
    assert older.metadata.context_window == 131_072
    assert newer.metadata.context_window == 262_144
    assert (newer.metadata.num_output, newer.metadata.model_name) == (5_000, "kimi-k2.6")
    assert older.metadata.is_chat_model
    assert older.metadata.is_function_calling_model


def test_the_tokenizer_serves_llamaindex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFRASE_KIMI_TOKENIZER", raising=False)
    with KimiSimulator("moonshot") as simulator:
        llm = kimi(simulator)
    before = Settings.tokenizer
    try:
        Settings.tokenizer = llm.tokenizer
        memory = ChatMemoryBuffer.from_defaults(token_limit=100)
        assert 5 <= len(memory.tokenizer_fn("Six words are in this sentence.")) <= 10
        assert llm.tokenizer("") == []
    finally:
        Settings.tokenizer = before


def test_an_exact_tokenizer_gives_ids() -> None:
    from tests.conversations import DATA

    pytest.importorskip("tiktoken", reason="exact counts need tiktoken")
    path = next((DATA / "kimi-tokenizer").rglob("tiktoken.model"), None) if DATA.exists() else None
    if path is None:
        pytest.skip("no copy of Kimi's vocabulary beside the project")
    with KimiSimulator("moonshot") as simulator:
        llm = kimi(simulator, tokenizer=str(path))
    ids = llm.tokenizer("You are Kimi, an AI assistant created by Moonshot AI.")
    assert len(ids) == 14
    assert len(set(ids)) > 10
