"""`with_kimi_practices` around LLMs of other packages: the body that `Kimi` sends, and the reply healed as it heals it."""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Callable
from typing import Any

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it fetches one
openai_like = pytest.importorskip("llama_index.llms.openai_like", reason="openai<3: `make peers` runs this")

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.workflow import Context
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.litellm import LiteLLM
from llama_index.llms.openai import OpenAI
from llama_index.llms.openrouter import OpenRouter
from pydantic import BaseModel

from refrase_integrations.errors import ConfigurationError, MissingKey
from refrase_integrations.llamaindex import Kimi, with_kimi_practices
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.llamaindex.exchanges import CHATS, bodies, last, responses
from tests.llamaindex.handoffs import MEMORIES, get_weather, run_turn, scripted, workflow

KEY = "sk-canary-4711"
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ODD = '{"city":"Paris"}'

MAKERS: dict[str, Callable[..., Any]] = {
    "OpenAI": lambda url, model, **fields: OpenAI(model=model, api_base=url, api_key=KEY, max_retries=0, **fields),
    "OpenAILike": lambda url, model, **fields: openai_like.OpenAILike(model=model, api_base=url, api_key=KEY, max_retries=0, **fields),
    "OpenRouter": lambda url, model, **fields: OpenRouter(model=model, api_base=url, api_key=KEY, max_retries=0, **fields),
    "LiteLLM": lambda url, model, **fields: LiteLLM(model=f"openai/{model}", api_base=url, api_key=KEY, max_retries=0, **fields),
}  # fmt: skip
TARGETS = {
    "moonshot": "kimi-k2.6",
    "vllm": "moonshotai/Kimi-K2-Thinking",
    "openrouter": "moonshotai/kimi-k2.6",
}


class City(BaseModel):
    """A city."""

    name: str


def tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {"type": "function", "function": {"name": name, "description": f"{name}.", "parameters": parameters}}


TOOLS = [tool("get_weather"), tool("21st_time")]
HISTORY = [
    ChatMessage(role="system", content="Be terse."),
    ChatMessage(role="user", content="Weather in Paris?"),
    ChatMessage(
        role="assistant",
        blocks=[
            ThinkingBlock(content="I look it up."),
            ToolCallBlock(tool_call_id="c1", tool_name="get_weather", tool_kwargs={"city": "Paris"}),
        ],
        additional_kwargs={"tool_calls": [{"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": ODD}}]},
    ),
    ChatMessage(role="tool", content="Sunny.", additional_kwargs={"tool_call_id": "c1"}),
    ChatMessage(role="assistant", content="Sunny."),
    ChatMessage(role="user", content="And <|im_end|> in Tokyo?"),
]  # fmt: skip
PICTURE = [ChatMessage(role="user", blocks=[TextBlock(text="What is this?"), ImageBlock(url=PIXEL)])]
HELLO = [ChatMessage(role="user", content="Hello")]
EASY, HARD = "What is the capital of Australia?", "Prove that the square root of 2 is irrational."

# Messages, fields of the LLM, the same for Kimi, arguments of the call.
SCENES: dict[str, tuple[Any, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "plain": (HELLO, {}, {}, {}),
    "history": (HISTORY, {}, {}, {}),
    "history and tools": (HISTORY, {}, {}, {"tools": TOOLS}),
    "forced": (HELLO, {}, {}, {"tools": TOOLS, "tool_choice": "required"}),
    "named": (HELLO, {}, {}, {"tools": TOOLS, "tool_choice": "get_weather"}),
    "settings": (HELLO, {"temperature": 0.7, "max_tokens": 20_000, "additional_kwargs": {"top_p": 0.5, "seed": 7, "extra_body": {"top_k": 3}}}, {"temperature": 0.7, "max_tokens": 20_000, "top_p": 0.5, "seed": 7, "extra_body": {"top_k": 3}}, {}),
    "call": (HELLO, {"temperature": 0.7}, {"temperature": 0.7}, {"temperature": 0.2, "max_tokens": 20_001, "stop": ["END"], "extra_body": {"min_p": 0.1}}),
    "thinking off": (HELLO, {}, {}, {"thinking": False}),
    "thinking auto, easy": ([ChatMessage(role="user", content=EASY)], {}, {}, {"thinking": "auto"}),
    "thinking auto, hard": ([ChatMessage(role="user", content=HARD)], {}, {}, {"thinking": "auto"}),
    "a form": (HELLO, {}, {}, {"response_format": City}),
    "an image": (PICTURE, {}, {}, {}),
}  # fmt: skip


def kimi(simulator: KimiSimulator, model: str, **fields: Any) -> Kimi:
    return Kimi(model=model, host=simulator.host.persona.id, base_url=simulator.base_url, api_key=KEY, **fields)


def wrapped(maker: str, simulator: KimiSimulator, model: str, **fields: Any) -> Any:
    llm = MAKERS[maker](simulator.base_url, model, **fields)
    return with_kimi_practices(llm, host=simulator.host.persona.id)


def told(response: Any) -> dict[str, Any]:
    """Return what a response says, less the wrapper's own words and ids that derive from the host's response id."""
    message, report = response.message, response.raw["refrase"]
    return {
        "text": message.content,
        "thoughts": [block.content for block in message.blocks if isinstance(block, ThinkingBlock)],
        "calls": [(block.tool_name, block.tool_kwargs) for block in message.blocks if isinstance(block, ToolCallBlock)],
        "finish": response.raw["finish_reason"],
        "report": {
            part: [{key: line[key] for key in line} for line in report[part] if line["practice"] != "wrapper"]
            for part in ("changes", "healed")
        },
    }


def without_the_wire(seen: list[dict[str, Any]], like: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return bodies without what a class adds on its own account (LiteLLM: ``usage`` on OpenRouter)."""
    return [
        {key: value for key, value in body.items() if key in wanted}
        for body, wanted in zip(seen, like, strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize("mode", CHATS)
@pytest.mark.parametrize("persona", TARGETS)
@pytest.mark.parametrize("maker", MAKERS)
async def test_the_body_and_the_reply_are_kimis(maker: str, persona: str, mode: str) -> None:
    model = TARGETS[persona]

    def answer(body: dict[str, Any]) -> Reply:
        if body.get("tools") and body["messages"][-1]["role"] == "user":
            calls = [(tool["function"]["name"], {"city": "Rome"}) for tool in body["tools"]]
            return Reply("Let me see.", reasoning="Both.", tool_calls=calls)
        return Reply('{"name": "Rome"}', reasoning="Hm.")

    with KimiSimulator(persona, script=answer) as simulator:
        for scene, (messages, fields, own, call) in SCENES.items():
            if scene == "an image" and persona == "vllm":
                continue  # a text model
            found = await last(mode, wrapped(maker, simulator, model, **fields), messages, **call)
            seen = [dict(body) for body in bodies(simulator)]
            simulator.reset()
            wanted = await last(mode, kimi(simulator, model, **own), messages, **call)
            like = [{"stream": False, **body} for body in bodies(simulator)]
            assert simulator.refusals == [], scene
            simulator.reset()
            assert without_the_wire([{"stream": False, **body} for body in seen], like) == like, scene
            assert told(found) == told(wanted), scene
            assert KEY not in repr(found) + json.dumps(found.raw)


@pytest.mark.parametrize("maker", MAKERS)
async def test_thirty_turns_with_hand_offs_get_no_400(maker: str) -> None:
    """OpenAILike by itself fails on the second call: test_openai_like_fails.py."""
    with KimiSimulator("moonshot", script=scripted) as simulator:
        agents = workflow(wrapped(maker, simulator, "kimi-k2.6"))
        context, memory = Context(agents), MEMORIES["ChatMemoryBuffer"]([])
        for turn in range(30):
            assert (await run_turn(agents, turn, context, memory)).startswith(f"Turn {turn}: It is noon")
        assert simulator.refusals == []
        sent = bodies(simulator)[-1]["messages"]
    thoughts = [message["reasoning_content"] for message in sent if len(message.get("tool_calls", ())) == 2]
    assert thoughts == [f"Turn {turn}: I look both up." for turn in range(30)], "not one is lost, nor a space"


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("way", ["structured_predict", "astructured_predict", "stream_structured_predict"])
async def test_a_structured_answer(maker: str, way: str) -> None:
    prompt = PromptTemplate("The largest city of {country}?")
    with KimiSimulator("moonshot", script=[Reply('{"name": "Paris"}', reasoning="Hm.")]) as simulator:
        made = getattr(wrapped(maker, simulator, "kimi-k2.6"), way)(City, prompt, country="France")
        if way == "astructured_predict":
            made = await made
        assert (list(made)[-1] if way.startswith("stream") else made) == City(name="Paris")
        assert simulator.refusals == []
        assert bodies(simulator)[0]["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize("mode", ["stream_chat", "astream_chat"])
@pytest.mark.parametrize("maker", ["OpenAI", "OpenAILike", "OpenRouter"])
async def test_what_the_class_loses_is_read_from_the_hosts_own_chunks(maker: str, mode: str) -> None:
    """It keeps the last of several calls in one chunk, and knows no pieces without an index."""
    calls = [
        {"index": n, "id": f"x{n}", "type": "function", "function": {"name": "get_weather", "arguments": json.dumps({"city": c})}}
        for n, c in enumerate(("Paris", "Rome"))
    ]  # fmt: skip
    first = {"role": "assistant", "content": "", "reasoning_content": "Hm."}
    pieces = [{"choices": [{"index": 0, "delta": delta}]} for delta in (first, {"tool_calls": calls})]
    ending = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    chunks = [
        {"id": "r", "object": "chat.completion.chunk", "created": 1, "model": "m", **one} for one in (*pieces, ending)
    ]
    with KimiSimulator("moonshot", script=[Reply(chunks=chunks)]) as simulator:
        reply = await last(mode, wrapped(maker, simulator, "kimi-k2.6"), HELLO, tools=TOOLS)
    assert told(reply)["calls"] == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
    assert told(reply)["thoughts"] == ["Hm."]


async def test_a_first_piece_that_was_dropped_is_said(caplog: pytest.LogCaptureFixture) -> None:
    deltas = ({"role": "assistant", "reasoning_content": "Lost "}, {"reasoning_content": "words."}, {"content": "Yes."})
    chunks = [
        {"id": "r", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, "delta": one}]}
        for one in deltas
    ]  # fmt: skip
    with KimiSimulator("moonshot", script=[Reply(chunks=chunks)] * 2) as simulator:
        llm = wrapped("OpenAILike", simulator, "kimi-k2.6")
        reply = await last("astream_chat", llm, HELLO)
        assert told(reply)["thoughts"] == ["words."]
        said = [line["detail"] for line in reply.raw["refrase"]["healed"] if line["practice"] == "wrapper"]
        assert said == ["OpenAILike may have dropped the first piece of reasoning in this async stream. Kimi keeps it."]
        assert told(await last("stream_chat", llm, HELLO))["thoughts"] == ["Lost words."]


@pytest.mark.parametrize("maker", MAKERS)
def test_one_llm_in_two_event_loops(maker: str) -> None:
    """OpenAILike's own async client dies in the second one."""
    import asyncio

    with KimiSimulator("moonshot", script=[Reply("Yes.")] * 6) as simulator:
        llm = wrapped(maker, simulator, "kimi-k2.6")
        for _ in range(3):
            assert asyncio.run(llm.achat(HELLO)).message.content == "Yes."
            assert llm.chat(HELLO).message.content == "Yes."


@pytest.mark.parametrize("mode", CHATS)
@pytest.mark.parametrize("maker", ["OpenAI", "OpenAILike", "OpenRouter"])
async def test_a_refused_history_is_mended_and_errors_are_the_inner_ones(maker: str, mode: str) -> None:
    refusal = Reply(status=400, message="the message at position 1 with role 'assistant' must not be empty")
    twice = [*HELLO, ChatMessage(role="user", content="Are you there?")]
    with KimiSimulator("moonshot", script=[refusal, "Yes.", Reply(status=401)]) as simulator:
        llm = wrapped(maker, simulator, "kimi-k2.6")
        assert (await last(mode, llm, twice)).message.content == "Yes."
        assert [len(body["messages"]) for body in bodies(simulator)] == [3, 2]
        with pytest.raises(Exception, match="401") as caught:
            await responses(mode, llm, HELLO)
        assert type(caught.value).__name__ == "AuthenticationError"
        assert len(simulator.requests) == 3


@pytest.mark.parametrize("maker", ["OpenAI", "OpenAILike", "OpenRouter"])
def test_an_llm_that_was_used_in_another_event_loop(maker: str) -> None:
    """Its async client holds a connection of that loop: the wrapper sends with one of its own."""
    import asyncio

    with KimiSimulator("moonshot", api_key=KEY, script=["Yes."] * 3) as simulator:
        inner = MAKERS[maker](simulator.base_url, "kimi-k2.6")
        used = inner._get_aclient()  # by itself the LLM sends what the host refuses, or nothing at all
        asyncio.run(used.chat.completions.create(model="kimi-k2.6", messages=[{"role": "user", "content": "Hi"}]))
        llm = with_kimi_practices(inner, host="moonshot")
        for _ in range(2):
            assert asyncio.run(llm.achat(HELLO)).message.content == "Yes."
        assert inner._aclient is used


def test_an_async_client_of_the_users_own_is_kept() -> None:
    """Address and key may stand in it alone."""
    import asyncio

    import openai

    with KimiSimulator("moonshot", api_key=KEY, script=["Yes."] * 2) as simulator:
        mine = openai.AsyncOpenAI(base_url=simulator.base_url, api_key=KEY, max_retries=0)
        llm = with_kimi_practices(
            OpenAI(model="kimi-k2.6", api_key="sk-other", async_openai_client=mine), host="moonshot"
        )
        for _ in range(2):
            assert asyncio.run(llm.achat(HELLO)).message.content == "Yes."
        with openai.OpenAI(base_url=simulator.base_url, api_key=KEY) as sync:
            http = openai.DefaultAsyncHttpxClient()
            own = openai.AsyncOpenAI(base_url=simulator.base_url, api_key=KEY, http_client=http)
            inner = OpenAI(model="kimi-k2.6", api_key=KEY, openai_client=sync, async_openai_client=own)
            assert with_kimi_practices(inner, host="moonshot")._sender({})._aclient is own


# -- identity --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maker", MAKERS)
def test_no_form_shows_a_key_and_a_pickle_finds_it_again(
    maker: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-vendor")
    monkeypatch.delenv("MOONSHOT_API_KEY", raising=False)
    with KimiSimulator("moonshot", api_key="sk-from-environment", script=["Yes."]) as simulator:
        secret = (
            {"default_headers": {"Authorization": f"Bearer {KEY}", "X-Title": "mine"}} if maker != "LiteLLM" else {}
        )
        more = {"extra_headers": {"X-Api-Key": KEY}, "seed": 1}
        llm = wrapped(maker, simulator, "kimi-k2.6", additional_kwargs=more, **secret)
        with pytest.raises(Exception, match="401|[Ii]nvalid"):
            llm.chat(HELLO)  # fills what the wrapper keeps
        shown = [
            repr(llm),
            str(llm.to_dict()),
            llm.to_json(),
            str(llm.model_dump()),
            str(llm.to_payload()),
            str(llm.metadata),
        ]
        with caplog.at_level(logging.WARNING):
            frozen = pickle.dumps(llm)
        assert caplog.records == []
        assert KEY not in "".join(shown)
        assert KEY.encode() not in frozen
        assert isinstance(llm, FunctionCallingLLM)
        with pytest.raises(MissingKey, match="MOONSHOT_API_KEY"):
            pickle.loads(frozen)
        monkeypatch.setenv("MOONSHOT_API_KEY", "sk-from-environment")
        thawed = pickle.loads(frozen)
        assert thawed.chat(HELLO).message.content == "Yes."
        assert thawed.to_dict() == llm.to_dict()
        assert "X-Title" in (thawed.inner.default_headers if secret else {"X-Title"})
        assert thawed.inner.additional_kwargs["seed"] == 1


def test_an_llm_that_sends_to_its_own_maker_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"api\.openai\.com, which serves no Kimi model"):
        with_kimi_practices(OpenAI(model="kimi-k2.6", api_key=KEY))
    with pytest.raises(ConfigurationError, match=r"api\.anthropic\.com, which serves no Kimi model"):
        with_kimi_practices(Anthropic(model="kimi-k3", api_key=KEY))


def test_the_route_of_litellm_names_the_host() -> None:
    llm = with_kimi_practices(LiteLLM(model="openrouter/moonshotai/kimi-k2.6", api_key=KEY))
    assert llm.model_name == "moonshotai/kimi-k2.6"
    assert llm._dialect(llm._settings({}))[0].host.id == "openrouter"


async def test_an_alias_of_the_users_own_stays_as_it_is() -> None:
    with KimiSimulator("vllm", strict=False, script=["Yes."]) as simulator:
        llm = MAKERS["OpenAILike"](simulator.base_url, "our-model")
        practiced = with_kimi_practices(llm, model_name="kimi-k2-0905-preview", host="vllm")
        practiced.chat(HELLO)
        [body] = bodies(simulator)
    assert (body["model"], body["temperature"]) == ("our-model", 0.6)


@pytest.mark.parametrize("maker", MAKERS)
async def test_thinking_auto_in_an_agent(maker: str) -> None:
    from llama_index.core.agent.workflow import FunctionAgent

    with KimiSimulator(
        "moonshot", script=[Reply("Canberra."), Reply("By contradiction.", reasoning="Hm.")]
    ) as simulator:
        inner = wrapped(maker, simulator, "kimi-k2.6").inner
        llm = with_kimi_practices(inner, host="moonshot", thinking="auto")
        agent = FunctionAgent(llm=llm, tools=[get_weather])
        for question in (EASY, HARD):
            await agent.run(question)
        assert [body["thinking"]["type"] for body in bodies(simulator)] == ["disabled", "enabled"]
        assert simulator.refusals == []


# -- events ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", CHATS)
async def test_events_are_the_inner_ones_once_a_call(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
    from llama_index.core.instrumentation import get_dispatcher

    from tests.llamaindex.exchanges import Collected

    handler, root = Collected(events=[]), get_dispatcher()
    tokens = TokenCountingHandler(tokenizer=str.split)
    root.add_event_handler(handler)
    try:
        with KimiSimulator("moonshot", script=[Reply("Yes, it is.", reasoning="Hm.")]) as simulator:
            llm = wrapped("OpenAILike", simulator, "kimi-k2.6")
            llm.callback_manager = CallbackManager([tokens])  # as Settings does it
            with caplog.at_level(logging.WARNING):
                pieces = await responses(mode, llm, HELLO)
    finally:
        root.event_handlers.remove(handler)
    names = [type(event).__name__ for event in handler.events]
    assert (names.count("LLMChatStartEvent"), names.count("LLMChatEndEvent")) == (1, 1)
    assert len(tokens.llm_token_counts) == 1
    assert KEY not in "".join(map(repr, handler.events))
    assert "".join(piece.delta or "" for piece in pieces) in ("", "Yes, it is.")
