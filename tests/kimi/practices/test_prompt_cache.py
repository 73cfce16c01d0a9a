from __future__ import annotations

import hashlib
from typing import Any

import pytest
from inline_snapshot import snapshot
from langchain_core.runnables import RunnablePassthrough

from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator
from tests.conversations import MODES, OPENAPI, violations_of_openapi

HELLO = [("user", "Hello.")]


async def talk(mode: str, thread: Any, *, persona: str = "moonshot", model: str = "kimi-k2.6", **fields: Any) -> Any:
    """Return the reply and the body of a call in a chain that runs in a thread, as a checkpointed graph does."""
    config: Any = {"configurable": {"thread_id": thread}} if thread is not None else {}
    with KimiSimulator(persona, script=["Yes."]) as simulator:
        chat: Any = RunnablePassthrough() | ChatKimi(
            host=persona, base_url=simulator.base_url, api_key="sk-test", model=model, **fields
        )
        whole: Any = None
        if mode == "invoke":
            whole = chat.invoke(HELLO, config)
        elif mode == "ainvoke":
            whole = await chat.ainvoke(HELLO, config)
        elif mode == "stream":
            for chunk in chat.stream(HELLO, config):
                whole = chunk if whole is None else whole + chunk
        else:
            async for chunk in chat.astream(HELLO, config):
                whole = chunk if whole is None else whole + chunk
        (request,) = simulator.requests
    body = {key: value for key, value in request.body.items() if key not in ("stream", "stream_options")}
    return whole, body


def entries(reply: Any) -> list[dict[str, Any]]:
    return [entry for entry in reply.response_metadata["refrase"]["changes"] if entry["practice"] == "prompt-cache"]


@pytest.mark.parametrize("mode", MODES)
class TestBodies:
    async def test_moonshot(self, mode: str) -> None:
        reply, body = await talk(mode, "alice@example.com")
        assert body == snapshot(
            {
                "model": "kimi-k2.6",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                    },
                    {"role": "user", "content": "Hello."},
                ],
                "thinking": {"type": "enabled", "keep": "all"},
                "prompt_cache_key": "ff8d9819fc0e12bf0d24892e45987e24",
                "max_completion_tokens": 32768,
            }
        )
        assert entries(reply) == snapshot(
            [
                {
                    "practice": "prompt-cache",
                    "action": "add",
                    "detail": "prompt_cache_key from the thread id",
                    "source": "platform.kimi.ai/docs/api/chat (OpenAPI document)",
                }
            ]
        )
        assert "alice" not in str(reply.response_metadata)

    async def test_moonshot_off(self, mode: str) -> None:
        _, body = await talk(mode, "alice@example.com", practices={"prompt_cache": "off"})
        assert body == snapshot(
            {
                "model": "kimi-k2.6",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                    },
                    {"role": "user", "content": "Hello."},
                ],
                "thinking": {"type": "enabled", "keep": "all"},
                "max_completion_tokens": 32768,
            }
        )

    async def test_moonshot_without_a_thread(self, mode: str) -> None:
        reply, body = await talk(mode, None)
        assert "prompt_cache_key" not in body
        assert entries(reply) == []

    async def test_vllm_takes_none(self, mode: str) -> None:
        _, body = await talk(mode, "alice@example.com", persona="vllm", model="moonshotai/Kimi-K2-Instruct-0905")
        assert body == snapshot(
            {
                "model": "moonshotai/Kimi-K2-Instruct-0905",
                "messages": [
                    {
                        "role": "system",
                        "content": """\
You are Kimi, an AI assistant created by Moonshot AI.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
                    },
                    {"role": "user", "content": "Hello."},
                ],
                "temperature": 0.6,
                "max_tokens": 32768,
            }
        )


async def test_one_thread_one_key() -> None:
    keys = [(await talk("invoke", thread))[1]["prompt_cache_key"] for thread in ("t-1", "t-1", "t-2", 7, "7")]
    assert keys[0] == keys[1] == hashlib.sha256(b"t-1").hexdigest()[:32]
    assert len(set(keys)) == 3, "a number and its text are one thread"


async def test_the_users_own_key_stays() -> None:
    reply, body = await talk("invoke", "t-1", extra_body={"prompt_cache_key": "mine"})
    assert body["prompt_cache_key"] == "mine"
    with KimiSimulator(script=["Yes."]) as simulator:
        chat: Any = ChatKimi(base_url=simulator.base_url, host="moonshot", api_key="sk-test")
        reply = (RunnablePassthrough() | chat.bind(prompt_cache_key="mine")).invoke(
            HELLO, {"configurable": {"thread_id": "t-1"}}
        )
        assert simulator.requests[0].body["prompt_cache_key"] == "mine"
    assert entries(reply) == []


@pytest.mark.parametrize(("mode", "present", "action"), [("warn", False, "advise"), ("error", True, "add")])
async def test_modes(mode: str, present: bool, action: str) -> None:
    reply, body = await talk("invoke", "t-1", practices={"prompt_cache": mode})
    assert ("prompt_cache_key" in body) is present
    assert [entry["action"] for entry in entries(reply)] == [action]


@pytest.mark.skipif(not OPENAPI.exists(), reason="needs Moonshot's OpenAPI document in ../shared/data")
@pytest.mark.parametrize("model", ["kimi-k2-0905-preview", "kimi-k2-thinking", "kimi-k2.6"])
async def test_what_is_sent_is_documented(model: str) -> None:
    _, body = await talk("invoke", "t-1", model=model)
    assert body["prompt_cache_key"]
    assert violations_of_openapi(body) == []


async def test_a_surrogate_in_the_thread_id() -> None:
    _, body = await talk("invoke", "a\udc80")
    assert len(body["prompt_cache_key"]) == 32
