"""F18: 400 `Extra inputs are not permitted, field: 'messages[1].reasoning'`; `property 'cache_control' is unsupported`.

pi#4514, claude-code-router#337. What leaves the house is no setting, so the contrast is the bare SDK.
"""

from __future__ import annotations

from typing import Any

import openai
import pytest

from refrase_integrations.simulator import KimiSimulator
from tests.conversations import run_body
from tests.surfaces import everywhere, exchange, user

CACHED = {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
SYSTEM = {"role": "system", "content": [CACHED, {"type": "text", "text": "Be kind."}]}
SAID = {"role": "assistant", "content": "Hello.", "reasoning": "A greeting."}
CASES = {
    "fireworks": ([user("Hi."), SAID, user("Go on.")], r"Extra inputs are not permitted, field: 'messages\[1\].reasoning'"),
    "groq": ([SYSTEM, user("Hi.")], "property 'cache_control' is unsupported"),
}  # fmt: skip
MODELS = {"fireworks": "accounts/fireworks/models/kimi-k2-thinking", "groq": "moonshotai/kimi-k2-instruct-0905"}


@pytest.mark.parametrize("host", CASES)
@pytest.mark.parametrize("stream", [False, True])
async def test_refused_without(host: str, stream: bool) -> None:
    messages: Any = CASES[host][0]
    with KimiSimulator(host) as simulator:
        given: Any = {"base_url": simulator.base_url, "api_key": "sk-test", "max_retries": 0}
        asked: Any = {"model": MODELS[host], "messages": messages, "stream": stream}
        with pytest.raises(openai.BadRequestError, match=CASES[host][1]):
            openai.OpenAI(**given).chat.completions.create(**asked)
        with pytest.raises(openai.BadRequestError, match=CASES[host][1]):
            await openai.AsyncOpenAI(**given).chat.completions.create(**asked)


@everywhere
@pytest.mark.parametrize("host", CASES)
async def test_only_what_the_host_knows_is_sent(surface: str, mode: str, host: str) -> None:
    conversation = [
        {("reasoning_content" if key == "reasoning" else key): value for key, value in message.items()}
        for message in CASES[host][0]
    ]
    answer, (body,) = await exchange(surface, mode, conversation, persona=host, model=MODELS[host])
    assert answer.text == "Yes."
    if host == "fireworks":
        assert body["messages"][-2] == {"role": "assistant", "content": "Hello.", "reasoning_content": "A greeting."}
    else:
        assert "cache_control" not in str(body)


@pytest.mark.parametrize("stream", [False, True])
def test_a_body_that_is_sent_as_it_is(stream: bool) -> None:
    """Without a framework in between, which would build the content anew."""
    body: Any = {"model": MODELS["groq"], "messages": CASES["groq"][0], "stream": stream}
    with KimiSimulator("groq", script=["Yes."]) as simulator:
        reply = run_body(simulator, body)
        assert reply["content"] == "Yes."
        assert "cache_control" not in str(simulator.requests[0].body)
    assert "cache_control" in str(body)


@everywhere
async def test_reasoning_that_came_in_another_hosts_field(surface: str, mode: str) -> None:
    """A thread that began on vLLM goes on at Fireworks."""
    from refrase_integrations.simulator import Reply

    script = [Reply("Hello.", reasoning="A greeting.")]
    first, _ = await exchange(
        surface, mode, [user("Hi.")], persona="vllm", model="moonshotai/Kimi-K2-Thinking", script=script
    )
    _, (body,) = await exchange(
        surface, mode, [user("Hi."), first.message, user("Go on.")], persona="fireworks", model=MODELS["fireworks"]
    )
    assert body["messages"][-2] == {"role": "assistant", "content": "Hello.", "reasoning_content": "A greeting."}
