"""Over both drop-in models and their four modes: what comes of a reply without text and without a call."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from inline_snapshot import snapshot

from refrase_integrations.errors import EmptyReply, ReplyError
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import ask as ask_langchain
from tests.surfaces import (
    STREAMS,
    Answer,
    build,
    called,
    everywhere,
    exchange,
    failure,
    in_streams,
    langchain_messages,
    llamaindex_messages,
    result,
    tool,
    user,
)

THINKING = "kimi-k2-thinking"
INSTRUCT = "moonshotai/Kimi-K2-Instruct-0905"
ASKED = [user("Secret question?")]
WEATHER = tool("get_weather", city="string")
ACTED = [*ASKED, called(("c-1", "get_weather", {"city": "Paris"}), reasoning_content="I look."), result("c-1")]
NOTHING = Reply("")
THOUGHT = Reply(reasoning="First thoughts.")
ANSWER = Reply("Sunny.", reasoning="Second thoughts.")
CALL = Reply(reasoning="Second thoughts.", tool_calls=[("get_weather", {"city": "Paris"})])
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FORM = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}

REASONED = "the reply held only reasoning, no text and no tool call"
EMPTY = "the reply held nothing"


async def failed(
    surface: str, mode: str, conversation: Any, script: Any, **fields: Any
) -> tuple[EmptyReply, list[dict[str, Any]]]:
    """Return the error of a call, and every body that reached the host."""
    return await failure(surface, mode, conversation, EmptyReply, script=script, **{"model": THINKING, **fields})


async def answered(surface: str, mode: str, conversation: Any, script: Any, **fields: Any) -> tuple[Answer, list[Any]]:
    return await exchange(surface, mode, conversation, script=script, **{"model": THINKING, **fields})


@everywhere
class TestOneRetry:
    @pytest.mark.parametrize("first", [NOTHING, Reply("\n\n"), THOUGHT, Reply(" ", reasoning="First thoughts.")])
    async def test_the_second_reply_answers(self, surface: str, mode: str, first: Reply) -> None:
        answer, bodies = await answered(surface, mode, ASKED, [first, ANSWER])
        assert answer.text.strip() == "Sunny."
        assert len(bodies) == 2
        assert bodies[1] == bodies[0], "the same request, no words of ours"
        found = REASONED if first.reasoning else EMPTY
        assert answer.said("empty-reply") == [("replace", f"{found}: asked once more")]
        assert answer.finish == "stop"

    @pytest.mark.parametrize("reply", [NOTHING, THOUGHT, Reply(reasoning="So", finish_reason="length")])
    async def test_an_empty_end_may_be_advice_only(self, surface: str, mode: str, reply: Reply) -> None:
        answer, bodies = await answered(surface, mode, ASKED, [reply] * 2, practices={"unanswered": "advise"})
        assert (answer.text, len(bodies)) == ("", 1 if reply.finish_reason == "length" else 2)
        found = REASONED if reply.reasoning else EMPTY
        kind, words = answer.said("empty-reply")[-1]
        assert (kind, found in words) == ("advise", True)

    async def test_reasoning_that_was_handed_out_is_not_repeated(self, surface: str, mode: str) -> None:
        answer, _ = await answered(surface, mode, ASKED, [THOUGHT, ANSWER])
        assert answer.reasoning == "First thoughts."
        answer, _ = await answered(surface, mode, ASKED, [NOTHING, ANSWER])
        assert answer.reasoning == "Second thoughts."

    async def test_a_call_from_the_second_reply(self, surface: str, mode: str) -> None:
        answer, bodies = await answered(surface, mode, ASKED, [THOUGHT, CALL], call={"tools": [WEATHER]})
        assert (answer.calls, answer.text, answer.finish) == ([("get_weather", {"city": "Paris"})], "", "tool_calls")
        assert (answer.reasoning, len(bodies)) == ("First thoughts.", 2)

    async def test_tokens_of_both_are_summed(self, surface: str, mode: str) -> None:
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        script = [Reply(reasoning="Hm.", usage=usage), Reply("Sunny.", usage=usage)]
        answer, _ = await answered(surface, mode, ASKED, script)
        assert answer.usage == {"prompt": 20, "completion": 10}

    async def test_then_a_typed_error(self, surface: str, mode: str) -> None:
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        error, bodies = await failed(surface, mode, ASKED, [Reply(reasoning="Go on.", usage=usage)] * 2)
        assert len(bodies) == 2
        assert str(error) == snapshot(
            "empty-reply: the reply held only reasoning, no text and no tool call (finish_reason stop), also when asked once more. Where a host puts answers into the reasoning: practices={'reasoning_as_answer': 'apply'} [model kimi-k2-thinking, host moonshot]. Asks once more where a reply has neither text nor a tool call; an error says why where that fails too. To change this: practices={'empty_reply': 'apply' | 'warn' | 'error' | 'off'}."
        )
        assert error.practice == "empty-reply"
        assert error.usage == {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
        for words in ("Secret", "Go on"):
            assert words not in f"{error!r} {error.details}"
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.usage, again.practice) == (str(error), error.usage, "empty-reply")

    async def test_an_empty_one_says_so(self, surface: str, mode: str) -> None:
        error, bodies = await failed(surface, mode, ASKED, [NOTHING, NOTHING], model=INSTRUCT, persona="vllm")
        assert len(bodies) == 2
        assert f"{EMPTY} (finish_reason stop), also when asked once more. Ask again later" in str(error)

    async def test_it_counts_among_the_extra_calls(self, surface: str, mode: str) -> None:
        error, bodies = await failed(surface, mode, ASKED, [THOUGHT], practices={"extra_calls": 0})
        assert len(bodies) == 1
        assert "also when asked" not in str(error)

    async def test_the_request_is_not_its_business(self, surface: str, mode: str) -> None:
        for persona, model in (("moonshot", "kimi-k2.6"), ("vllm", INSTRUCT)):
            kinds = [
                (await exchange(surface, mode, ASKED, persona=persona, model=model, practices=practices))[1]
                for practices in ({}, {"empty_reply": "off"})
            ]
            assert kinds[0] == kinds[1]


@in_streams
async def test_a_stream_without_a_choice(surface: str, mode: str) -> None:
    chunks = [{"id": "r", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}}]
    answer, bodies = await answered(surface, mode, ASKED, [Reply(chunks=chunks), ANSWER])
    assert (answer.text, len(bodies)) == ("Sunny.", 2)


@pytest.mark.parametrize("mode", STREAMS)
async def test_a_consumer_of_the_stream_sees_no_seam(mode: str) -> None:
    """Reasoning once, then text once; names and report once; one last chunk."""
    with KimiSimulator(script=[THOUGHT, ANSWER]) as simulator:
        model = ChatKimi(model=THINKING, host="moonshot", base_url=simulator.base_url, api_key="sk-test")
        stream = model.stream(ASKED) if mode == "stream" else None
        chunks = list(stream) if stream else [chunk async for chunk in model.astream(ASKED)]
    kinds = [
        "reasoning" if chunk.additional_kwargs.get("reasoning_content") else chunk.text and "text" for chunk in chunks
    ]
    kinds = [kind for kind in kinds if kind]
    assert kinds == sorted(kinds), "no reasoning behind the text"
    assert "".join(chunk.additional_kwargs.get("reasoning_content", "") for chunk in chunks) == "First thoughts."
    assert [chunk.chunk_position for chunk in chunks].count("last") == 1
    assert sum("refrase" in chunk.response_metadata for chunk in chunks) == 1
    assert sum("model_name" in chunk.response_metadata for chunk in chunks) == 1


@everywhere
class TestTheLimitIsSpent:
    """F12: the same request would be cut again."""

    async def test_an_error_at_once(self, surface: str, mode: str) -> None:
        usage = {"prompt_tokens": 10, "completion_tokens": 4096, "total_tokens": 4106}
        reply = Reply(reasoning="On and on.", finish_reason="length", usage=usage)
        error, bodies = await failed(surface, mode, ASKED, [reply], max_tokens=4096)
        assert len(bodies) == 1
        assert str(error) == snapshot(
            "empty-reply: the reply held only reasoning, no text and no tool call: its output limit was spent (4096 tokens, max_completion_tokens=4096 was sent). Raise max_tokens= (thinking wants at least 16000), or set thinking=False where the model can [model kimi-k2-thinking, host moonshot]. Asks once more where a reply has neither text nor a tool call; an error says why where that fails too. To change this: practices={'empty_reply': 'apply' | 'warn' | 'error' | 'off'}."
        )
        assert error.usage == usage

    async def test_also_behind_tool_results(self, surface: str, mode: str) -> None:
        """A turn that was cut is no end of the work."""
        reply = Reply(reasoning="On and on.", finish_reason="length")
        error, bodies = await failed(surface, mode, ACTED, [reply], call={"tools": [WEATHER]})
        assert (len(bodies), "limit was spent" in str(error)) == (1, True)

    async def test_where_the_host_hides_reasoning(self, surface: str, mode: str) -> None:
        reply = Reply("", finish_reason="length", usage={})
        error, _ = await failed(surface, mode, ASKED, [reply], model=INSTRUCT, persona="vllm", max_tokens=9)
        assert f"{EMPTY}: its output limit was spent (max_tokens=9 was sent). Raise max_tokens= [" in str(error)

    async def test_no_structured_answer_is_asked_for_again(self, surface: str, mode: str) -> None:
        reply = Reply(reasoning="On and on.", finish_reason="length")
        _, bodies = await failed(surface, mode, ASKED, [reply], call={"response_format": FORM})
        assert len(bodies) == 1

    async def test_text_that_was_cut_is_no_error(self, surface: str, mode: str) -> None:
        answer, bodies = await answered(surface, mode, ASKED, [Reply("Sun", finish_reason="length")])
        assert (answer.text, answer.finish, len(bodies)) == ("Sun", "length", 1)


@everywhere
class TestSilentEnds:
    """An agent that has acted may end with nothing to add: asked once more, then passed on."""

    @pytest.mark.parametrize("reply", [NOTHING, THOUGHT])
    async def test_behind_tool_results(self, surface: str, mode: str, reply: Reply) -> None:
        answer, bodies = await answered(surface, mode, ACTED, [reply, reply], call={"tools": [WEATHER]})
        assert (answer.text, answer.calls, answer.finish, len(bodies)) == ("", [], "stop", 2)
        assert answer.reasoning == reply.reasoning
        found = REASONED if reply.reasoning else EMPTY
        passed = f"{found} after tool results: passed on as the end of the turn"
        assert answer.said("empty-reply") == [("replace", f"{found}: asked once more"), ("advise", passed)]

    async def test_the_retry_may_still_speak(self, surface: str, mode: str) -> None:
        answer, _ = await answered(surface, mode, ACTED, [NOTHING, ANSWER], call={"tools": [WEATHER]})
        assert answer.text == "Sunny."

    async def test_a_user_who_spoke_behind_them_waits_for_an_answer(self, surface: str, mode: str) -> None:
        conversation = [*ACTED, {"role": "assistant", "content": "Sunny."}, user("And Rome?")]
        await failed(surface, mode, conversation, [NOTHING, NOTHING], call={"tools": [WEATHER]})

    async def test_results_that_a_re_ask_put_there_are_no_work(self, surface: str, mode: str) -> None:
        broken = Reply(tool_calls=[("get_weather", '{"town": 1}')])
        tools = {"tools": [WEATHER]}
        error, bodies = await failed(surface, mode, ASKED, [broken, NOTHING, NOTHING], call=tools)
        assert bodies[-1]["messages"][-1]["role"] == "tool"
        assert (len(bodies), EMPTY in str(error)) == (3, True)

    async def test_nor_are_those_of_the_hosts_own_search(self, surface: str, mode: str) -> None:
        search = {"type": "builtin_function", "function": {"name": "$web_search"}}
        call = Reply("", tool_calls=[("$web_search", {"query": "x"})])
        fields: Any = {"model": "kimi-k2.6", "thinking": False, "call": {"tools": [search]}}
        answer, bodies = await answered(surface, mode, ASKED, [call, ANSWER], **fields)
        assert (answer.text, len(bodies), answer.said("empty-reply")) == ("Sunny.", 2, []), (
            "a hand-back is no empty turn"
        )
        _, bodies = await failed(surface, mode, ASKED, [call, NOTHING, NOTHING], **fields)
        assert len(bodies) == 3


@everywhere
class TestBesideOtherReAsks:
    async def test_a_forced_choice(self, surface: str, mode: str) -> None:
        forced: Any = {"call": {"tools": [WEATHER], "tool_choice": "any"}, "model": "kimi-k2.6"}
        answer, bodies = await answered(surface, mode, ASKED, [THOUGHT, CALL], **forced)
        assert (answer.calls, len(bodies)) == ([("get_weather", {"city": "Paris"})], 2)
        assert bodies[1] == bodies[0], "the plain retry comes first"
        answer, bodies = await answered(surface, mode, ASKED, [THOUGHT, Reply("No."), CALL], **forced)
        assert (len(answer.calls), len(bodies)) == (1, 3)
        _, bodies = await failed(surface, mode, ASKED, [THOUGHT, THOUGHT], **forced)
        assert len(bodies) == 2

    @pytest.mark.parametrize(("persona", "model"), [("moonshot", "kimi-k2.6"), ("vllm", "moonshotai/Kimi-K2-Thinking")])
    async def test_a_structured_answer(self, surface: str, mode: str, persona: str, model: str) -> None:
        fields: Any = {"persona": persona, "model": model, "call": {"response_format": FORM}}
        answer, bodies = await answered(surface, mode, ASKED, [THOUGHT, Reply('{"city": "Paris"}')], **fields)
        assert (answer.text, len(bodies)) == ('{"city": "Paris"}', 2)
        _, bodies = await failed(surface, mode, ASKED, [THOUGHT, THOUGHT], **fields)
        assert len(bodies) == 2, "no second re-ask for the form"

    async def test_a_lost_call(self, surface: str, mode: str) -> None:
        """The retry without streaming is the first cure; what it says instead of a call is not thrown away."""
        script = [Reply("", finish_reason="tool_calls"), ANSWER]
        fields: Any = {"persona": "vllm", "model": INSTRUCT, "call": {"tools": [WEATHER]}}
        answer, bodies = await answered(surface, mode, ASKED, script, **fields)
        assert (answer.text, len(bodies)) == ("Sunny.", 2)
        _, bodies = await failed(surface, mode, ASKED, [*script[:1], NOTHING, NOTHING], **fields)
        assert len(bodies) == 3


@everywhere
class TestLeftAlone:
    async def test_a_prefix_that_needed_no_more(self, surface: str, mode: str) -> None:
        prefix = {"role": "assistant", "content": "Sunny.", "partial": True}
        answer, bodies = await answered(surface, mode, [*ASKED, prefix], [NOTHING], model="kimi-k2-0905-preview")
        assert bodies[0]["messages"][-1]["partial"] is True
        assert (answer.text, len(bodies), answer.said("empty-reply")) == ("", 1, [])

    async def test_the_content_filter(self, surface: str, mode: str) -> None:
        answer, bodies = await answered(surface, mode, ASKED, [Reply("", finish_reason="content_filter")])
        assert (answer.finish, len(bodies)) == ("content_filter", 1)
        assert answer.said("empty-reply") == [("advise", f"{EMPTY}: the host's content filter ended it")]

    async def test_off(self, surface: str, mode: str) -> None:
        for reply in (NOTHING, THOUGHT, Reply(reasoning="Hm.", finish_reason="length")):
            answer, bodies = await answered(surface, mode, ASKED, [reply], practices={"empty_reply": "off"})
            assert (answer.text, answer.reasoning, len(bodies)) == ("", reply.reasoning, 1)

    async def test_warn(self, surface: str, mode: str) -> None:
        answer, bodies = await answered(surface, mode, ASKED, [THOUGHT], practices={"empty_reply": "warn"})
        assert (answer.text, len(bodies)) == ("", 1)
        assert answer.said("empty-reply") == [("advise", f"{REASONED}: asked once more")]

    async def test_error(self, surface: str, mode: str) -> None:
        error, bodies = await failed(surface, mode, ASKED, [THOUGHT], practices={"empty_reply": "error"})
        assert (isinstance(error, ReplyError), len(bodies)) == (True, 1)


async def test_one_of_several_choices() -> None:
    def choice(index: int, content: str) -> dict[str, Any]:
        return {"index": index, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}

    whole = {"id": "r", "model": INSTRUCT, "choices": [choice(0, "Sunny."), choice(1, "")]}
    with KimiSimulator("vllm", script=[Reply(chunks=[whole])]) as simulator:
        model = ChatKimi(host="vllm", base_url=simulator.base_url, model=INSTRUCT, n=2)
        first, second = model.generate([langchain_messages(ASKED)]).generations[0]
        assert (first.text, second.text, len(simulator.requests)) == ("Sunny.", "", 1)
        report = first.message.response_metadata["refrase"]  # type: ignore[union-attr]
        assert [line["detail"] for line in report["healed"]] == [f"{EMPTY}: one of several choices"]


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
async def test_an_agent_that_ends_silent_keeps_its_work(mode: str) -> None:
    from langchain.agents import create_agent

    done: list[str] = []

    def send_mail(to: str) -> str:
        """Send a mail."""
        done.append(to)
        return "Sent."

    script = [Reply(reasoning="I send it.", tool_calls=[("send_mail", {"to": "a@b.c"})]), THOUGHT, THOUGHT]
    with KimiSimulator(script=script, after="error") as simulator:
        model = ChatKimi(model="kimi-k2.6", host="moonshot", base_url=simulator.base_url, api_key="sk-test")
        state: Any = await ask_langchain(mode, create_agent(model, tools=[send_mail]), {"messages": ASKED})
    assert done == ["a@b.c"], "the retry repeats no action"
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]
    assert state["messages"][-1].text == ""


async def test_a_llamaindex_agent_that_ends_silent_keeps_its_work() -> None:
    from llama_index.core.agent.workflow import FunctionAgent

    done: list[str] = []

    def send_mail(to: str) -> str:
        """Send a mail."""
        done.append(to)
        return "Sent."

    script = [Reply(reasoning="I send it.", tool_calls=[("send_mail", {"to": "a@b.c"})]), THOUGHT, THOUGHT]
    with KimiSimulator(script=script, after="error") as simulator:
        agent = FunctionAgent(llm=build("Kimi", simulator, model="kimi-k2.6"), tools=[send_mail])
        output = await agent.run(llamaindex_messages(ASKED)[0])
    assert (done, str(output)) == (["a@b.c"], "")
