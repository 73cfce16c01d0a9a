"""Rates, retries, the conversation's name for the prompt cache; and that no secret shows while agents run."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import tomllib
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.rate_limiter import BaseRateLimiter

from refrase_integrations.errors import HostOverloaded, QuotaExceeded
from refrase_integrations.llamaindex import with_kimi_practices
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.llamaindex.exchanges import CHATS, COMPLETIONS, Collected, bodies, kimi, last, responses
from tests.llamaindex.handoffs import MEMORIES, run_turn, scripted, workflow
from tests.llamaindex.homemade import Homemade

HELLO = [ChatMessage(role="user", content="Hello")]
CANARY = "sk-canary-4711-0815"


def digest(thread: str) -> str:
    return hashlib.sha256(thread.encode()).hexdigest()[:32]


# -- the conversation's name -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", CHATS)
async def test_a_thread_names_the_hosts_cache(mode: str) -> None:
    with KimiSimulator("moonshot", script=["Yes."] * 5) as simulator:
        llm = kimi(simulator, thread_id="field")
        await responses(mode, llm, HELLO)
        await responses(mode, llm, HELLO, thread_id="call")
        await responses(mode, llm, HELLO, prompt_cache_key="my-own")
        await responses(mode, kimi(simulator), HELLO)
        with instrument_tags({"session_id": "tag", "other": 1}):
            await responses(mode, kimi(simulator), HELLO)
        assert simulator.refusals == []
        keys = [body.get("prompt_cache_key") for body in bodies(simulator)]
    assert keys == [digest("field"), digest("call"), "my-own", None, digest("tag")]


async def test_the_tags_of_llamaindex_reach_the_llm_through_an_agent() -> None:
    with KimiSimulator("moonshot", script=scripted) as simulator:
        agents, memory = workflow(kimi(simulator, model="kimi-k2-thinking")), MEMORIES["ChatMemoryBuffer"]([])
        for thread in ("1", "2"):
            with instrument_tags({"thread_id": thread}):
                await run_turn(agents, 0, None, memory)
        keys = [body.get("prompt_cache_key") for body in bodies(simulator)]
    assert keys == sorted(keys, key=[digest("1"), digest("2")].index)
    assert set(keys) == {digest("1"), digest("2")}


async def test_the_wrapper_knows_the_thread_too() -> None:
    with KimiSimulator("moonshot", script=["Yes."]) as simulator:
        inner = Homemade(model="kimi-k2-0905-preview", base_url=simulator.base_url)
        llm: Any = with_kimi_practices(inner, host="moonshot")
        reply = llm.chat(HELLO, thread_id="42")
    said = [
        line["detail"] for line in reply.raw["refrase"]["changes"] if line["practice"] in ("wrapper", "prompt-cache")
    ]
    assert said[0] == "prompt_cache_key from the thread id"
    assert "prompt_cache_key" in said[1], "this class does not take it"


# -- rates and retries -----------------------------------------------------------------------------------


class Counting(BaseRateLimiter):
    """Lets everything through and counts it."""

    def __init__(self) -> None:
        self.acquired: list[str] = []

    def acquire(self, num_tokens: int = 0) -> None:
        self.acquired.append("sync")

    async def async_acquire(self, num_tokens: int = 0) -> None:
        self.acquired.append("async")


@pytest.mark.parametrize("mode", CHATS + COMPLETIONS)
async def test_a_rate_limiter_of_llamaindex_is_asked_once_a_call(mode: str) -> None:
    limiter = Counting()
    with KimiSimulator("moonshot", script=["Yes."]) as simulator:
        await responses(mode, kimi(simulator, rate_limiter=limiter), "Hello" if "complete" in mode else HELLO)
    assert limiter.acquired == ["async" if mode.startswith("a") else "sync"]


@pytest.mark.parametrize("mode", CHATS)
async def test_retries_are_one_layer_and_a_setting(mode: str) -> None:
    busy = Reply(status=429, error_type="engine_overloaded_error", headers={"retry-after-ms": "1", "retry-after": "0"})
    with KimiSimulator("moonshot", script=[busy, busy, "Yes."]) as simulator:
        assert (await last(mode, kimi(simulator), HELLO)).message.content == "Yes."
        assert len(simulator.requests) == 3
    with KimiSimulator("moonshot", script=[busy] * 3) as simulator:
        with pytest.raises(HostOverloaded):
            await responses(mode, kimi(simulator, max_retries=1), HELLO)
        assert len(simulator.requests) == 2
    spent = Reply(status=429, error_type="exceeded_current_quota_error")
    with KimiSimulator("moonshot", script=[spent] * 3) as simulator:
        with pytest.raises(QuotaExceeded):
            await responses(mode, kimi(simulator), HELLO)
        assert len(simulator.requests) == 1, "an exhausted quota is not retried"


# -- secrets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("around", [False, True])
async def test_no_secret_shows_in_events_spans_callbacks_and_logs_of_an_agent(
    around: bool, collected: Collected, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    spans, debug, root = SimpleSpanHandler(), LlamaDebugHandler(print_trace_on_end=True), get_dispatcher()
    root.add_span_handler(spans)
    headers = {"x-tenant": CANARY}
    try:
        with KimiSimulator("moonshot", script=scripted) as simulator:
            if around:
                inner = Homemade(model="kimi-k2-thinking", base_url=simulator.base_url, api_key=CANARY, temperature=1.0)
                llm: Any = with_kimi_practices(inner, host="moonshot")
            else:
                llm = kimi(simulator, model="kimi-k2-thinking", api_key=CANARY, default_headers=headers)
            llm.callback_manager = CallbackManager([debug])
            agents = workflow(llm)
            handler = agents.run("Weather and time, please.")
            events = [event async for event in handler.stream_events()]
            result = await handler
            assert simulator.refusals == []
    finally:
        root.span_handlers.remove(spans)
    shown = io.StringIO()
    for thing in (*events, *collected.events, *spans.completed_spans, *debug.get_events(), result, result.raw, agents):
        print(repr(thing), str(thing), file=shown)
    for event in (*events, *collected.events):
        print(event.model_dump(), file=shown)
    assert len(collected.events) > 10
    assert spans.completed_spans
    everything = shown.getvalue() + caplog.text + "".join(capsys.readouterr())
    assert "canary" not in everything
    assert "Weather and time, please." in everything, "what was looked at is not empty"


def test_what_an_agent_of_llamaindex_serializes_holds_no_key() -> None:
    with KimiSimulator("moonshot") as simulator:
        agent = FunctionAgent(llm=kimi(simulator, api_key=CANARY), tools=[])
    assert "canary" not in agent.model_dump_json() + repr(agent) + str(agent.model_dump())


# -- what it needs ---------------------------------------------------------------------------------------


def test_the_extra_needs_llama_index_core_and_nothing_else_of_llamaindex() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    [only] = project["optional-dependencies"]["llamaindex"]
    assert only.startswith("llama-index-core>=")
    every = json.dumps([project["dependencies"], project["optional-dependencies"]])
    assert every.count("llama-index") == 1
