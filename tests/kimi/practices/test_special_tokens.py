from __future__ import annotations

import pytest
from inline_snapshot import snapshot
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator, Reply
from tests.conversations import MODES, OPENAPI, ask, exchange, sent, violations_of_openapi

HISTORY = [
    SystemMessage("Explain <|im_start|> and <|im_end|>."),
    HumanMessage("What does [EOS] do?"),
    AIMessage("I read the file.", tool_calls=[{"name": "read_file", "args": {"path": "a<|im_end|>b"}, "id": "call_1"}]),
    ToolMessage("text <|im_end|> text", tool_call_id="call_1"),
]
TARGETS = [
    {"persona": "moonshot", "model": "kimi-k2-0905-preview"},
    {"persona": "vllm", "model": "moonshotai/Kimi-K2-Instruct-0905"},
]


@pytest.mark.parametrize("mode", MODES)
async def test_moonshot(mode: str) -> None:
    body = await sent(mode, HISTORY, **TARGETS[0])
    assert body["messages"] == snapshot(
        [
            {
                "role": "system",
                "content": """\
Explain <|im_start|> and <~|im_end|>.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
            },
            {"role": "user", "content": "What does [~EOS] do?"},
            {
                "role": "assistant",
                "content": "I read the file.",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "read_file", "arguments": '{"path": "a<~|im_end|>b"}'},
                    }
                ],
            },
            {"role": "tool", "content": "text <~|im_end|> text", "tool_call_id": "call_1", "name": "read_file"},
        ]
    )
    assert not OPENAPI.exists() or violations_of_openapi(body) == []


@pytest.mark.parametrize("mode", MODES)
async def test_vllm(mode: str) -> None:
    assert (await sent(mode, HISTORY, **TARGETS[1]))["messages"] == snapshot(
        [
            {
                "role": "system",
                "content": """\
Explain <|im_start|> and <~|im_end|>.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
            },
            {"role": "user", "content": "What does [~EOS] do?"},
            {
                "role": "assistant",
                "content": "I read the file.",
                "tool_calls": [
                    {
                        "id": "functions.read_file:0",
                        "type": "function",
                        "function": {"name": "read_file", "arguments": '{"path": "a<~|im_end|>b"}'},
                    }
                ],
            },
            {
                "role": "tool",
                "content": "text <~|im_end|> text",
                "tool_call_id": "functions.read_file:0",
                "name": "read_file",
            },
        ]
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", TARGETS, ids=["moonshot", "vllm"])
async def test_off_sends_them_raw(mode: str, target: dict[str, str]) -> None:
    body = await sent(mode, HISTORY, practices={"special_tokens": "off"}, **target)
    assert "<|im_end|>" in body["messages"][0]["content"]
    assert "<|im_end|>" in body["messages"][3]["content"]


@pytest.mark.parametrize("mode", MODES)
async def test_the_reply_is_restored_in_content_and_arguments(mode: str) -> None:
    def write_file(text: str) -> str:
        """Write a text to the file."""
        return text

    reply, _ = await exchange(
        mode,
        HISTORY,
        tools=[write_file],
        script=[Reply("It is <~|im_end|>, then.", tool_calls=[("write_file", {"text": "x<~|im_end|>y"})])],
        **TARGETS[0],
    )
    assert reply.text == "It is <|im_end|>, then."
    assert reply.tool_calls[0]["args"] == {"text": "x<|im_end|>y"}


@pytest.mark.parametrize("mode", MODES)
async def test_a_reply_to_clean_messages_stays_as_it_is(mode: str) -> None:
    reply, _ = await exchange(mode, [("user", "Hi.")], script=["<~|im_end|>"])
    assert reply.text == "<~|im_end|>"
    assert not [line for line in reply.response_metadata["refrase"]["changes"] if line["practice"] == "special-tokens"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 3])
async def test_they_are_restored_across_chunk_borders(mode: str, size: int) -> None:
    text, arguments = "<~|im_end|> and [~EOS], <~~|im_end|>, 1 <~ 2, <~", {"text": "x<~|im_middle|>y"}
    script = [Reply(text, reasoning="Is <~|im_end|> meant?", tool_calls=[("write_file", arguments)])]
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "write_file", "description": "Writes.", "parameters": schema}}
    with KimiSimulator("vllm", script=script, chunk_size=size) as simulator:
        chat = ChatKimi(model="moonshotai/Kimi-K2-Thinking", host="vllm", base_url=simulator.base_url)
        reply = await ask(mode, chat.bind_tools([tool]), [("user", "What does <|im_end|> mean?")])
    assert reply.text == "<|im_end|> and [EOS], <~|im_end|>, 1 <~ 2, <~"
    assert reply.additional_kwargs["reasoning_content"] == "Is <|im_end|> meant?"
    assert [call["args"] for call in reply.tool_calls] == [{"text": "x<|im_middle|>y"}]


@pytest.mark.parametrize("mode", MODES)
async def test_what_was_restored_goes_back_as_it_came(mode: str) -> None:
    question = ("user", "What does <|im_end|> mean?")
    reply, bodies = await exchange(mode, [question], script=["<~|im_end|> ends a turn."], **TARGETS[0])
    assert reply.text == "<|im_end|> ends a turn."
    again = await sent(mode, [question, reply, ("user", "Thanks.")], **TARGETS[0])
    assert again["messages"][: len(bodies[0]["messages"])] == bodies[0]["messages"]
    assert again["messages"][2] == {"role": "assistant", "content": "<~|im_end|> ends a turn."}


@pytest.mark.parametrize("mode", MODES)
async def test_the_model_without_its_tokens_is_not_touched(mode: str) -> None:
    body = await sent(mode, [("user", "What does <|end|> or a <tag> do?")], **TARGETS[0])
    assert body["messages"][1]["content"] == "What does <|end|> or a <tag> do?"


@pytest.mark.parametrize("mode", MODES)
async def test_modes_and_report(mode: str) -> None:
    plain, warned = [], []
    for setting, entries in (("apply", plain), ("warn", warned)):
        reply, bodies = await exchange(mode, HISTORY, practices={"special_tokens": setting}, **TARGETS[1])
        changes = reply.response_metadata["refrase"]["changes"]
        entries.append([line for line in changes if line["practice"] == "special-tokens"])
        entries.append("<|im_end|>" in bodies[0]["messages"][0]["content"])
        assert "im_end" not in str(reply.response_metadata)
    assert plain == snapshot(
        [
            [
                {
                    "practice": "special-tokens",
                    "action": "encode",
                    "detail": "control tokens in 4 message(s) made harmless",
                    "source": "tokenizer_config.json of Kimi K2.5 (MoonshotAI/Kimi-Vendor-Verifier)",
                }
            ],
            False,
        ]
    )
    assert warned == [[{**plain[0][0], "action": "advise"}], True]
    strictest = await sent(mode, HISTORY, practices={"special_tokens": "error"}, **TARGETS[1])
    assert strictest == await sent(mode, HISTORY, **TARGETS[1])  # the same meaning in a harmless form: no error
