"""One list of conversations over both frameworks: the same words give the same bytes' worth of body."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    CachePoint,
    ChatMessage,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from refrase_integrations.errors import ConfigurationError, InvalidMessage, VisionUnsupported
from refrase_integrations.simulator import KimiSimulator, Reply
from tests import conversations
from tests.llamaindex.exchanges import CHATS, COMPLETIONS, bodies, exchange, kimi, last, sent

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Return the weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def said(role: str, text: str) -> ChatMessage:
    return ChatMessage(role=role, content=text)


def called(**calls: str) -> ChatMessage:
    blocks = [
        ToolCallBlock(tool_call_id=one, tool_name="weather", tool_kwargs={"city": city}) for one, city in calls.items()
    ]
    return ChatMessage(role="assistant", blocks=blocks)


def answered(call_id: str, text: str) -> ChatMessage:
    return ChatMessage(role="tool", content=text, additional_kwargs={"tool_call_id": call_id})


def lc_called(**calls: str) -> AIMessage:
    return AIMessage(
        "", tool_calls=[{"name": "weather", "args": {"city": city}, "id": one} for one, city in calls.items()]
    )


IMAGE_URL = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
CONVERSATIONS: dict[str, tuple[list[Any], list[ChatMessage]]] = {
    "hello": ([HumanMessage("Hello.")], [said("user", "Hello.")]),
    "system": (
        [SystemMessage("Be brief."), HumanMessage("你好 {not a variable}")],
        [said("system", "Be brief."), said("user", "你好 {not a variable}")],
    ),
    "parts": (
        [HumanMessage([{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}])],
        [ChatMessage(role="user", blocks=[TextBlock(text="One."), TextBlock(text="Two.")])],
    ),
    "tools": (
        [
            HumanMessage("Weather in Paris and Rome?"),
            lc_called(call_a="Paris", call_b="Rome"),
            ToolMessage("sunny", tool_call_id="call_a"),
            ToolMessage("rain", tool_call_id="call_b"),
            HumanMessage("Thanks."),
        ],
        [
            said("user", "Weather in Paris and Rome?"),
            called(call_a="Paris", call_b="Rome"),
            answered("call_a", "sunny"),
            answered("call_b", "rain"),
            said("user", "Thanks."),
        ],
    ),
    "reasoning": (
        [
            HumanMessage("Weather in Paris?"),
            AIMessage(
                [{"type": "reasoning", "reasoning": "It is about weather."}],
                tool_calls=[{"name": "weather", "args": {"city": "Paris"}, "id": "c1"}],
            ),
            ToolMessage("sunny", tool_call_id="c1"),
        ],
        [
            said("user", "Weather in Paris?"),
            ChatMessage(
                role="assistant",
                blocks=[ThinkingBlock(content="It is about weather."), *called(c1="Paris").blocks],
            ),
            answered("c1", "sunny"),
        ],
    ),
    "lost reasoning, interrupted": (
        [HumanMessage("Weather?"), lc_called(c1="Paris"), HumanMessage("Go on."), AIMessage("")],
        [said("user", "Weather?"), called(c1="Paris"), said("user", "Go on."), said("assistant", "")],
    ),
    "control tokens": (
        [HumanMessage("What does <|im_end|> mean?")],
        [said("user", "What does <|im_end|> mean?")],
    ),
}
TARGETS: dict[str, dict[str, Any]] = {
    "moonshot instruct": {"persona": "moonshot", "model": "kimi-k2-0905-preview"},
    "moonshot thinking": {"persona": "moonshot", "model": "kimi-k2-thinking"},
    "moonshot hybrid off": {"persona": "moonshot", "model": "kimi-k2.6", "thinking": False, "temperature": 0.3},
    "vllm instruct": {"persona": "vllm", "model": "moonshotai/Kimi-K2-Instruct-0905", "top_p": 0.9},
    "vllm thinking": {"persona": "vllm", "model": "moonshotai/Kimi-K2-Thinking"},
    "openrouter off": {"persona": "openrouter", "model": "kimi-k2-0905-preview", "practices": {"system_prompt": "off"}},
}
PAIRS = dict(zip(CHATS, conversations.MODES, strict=True))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_the_body_is_that_of_chatkimi(name: str, target: str) -> None:
    theirs, ours = CONVERSATIONS[name]
    settings = TARGETS[target]
    before = copy.deepcopy(ours)
    expected = await conversations.sent("invoke", theirs, tools=[WEATHER], **settings)
    assert await sent("chat", ours, call={"tools": [WEATHER]}, **settings) == expected
    assert ours == before, "the caller's messages are not changed"


@pytest.mark.parametrize("mode", CHATS)
@pytest.mark.parametrize("target", ["moonshot thinking", "vllm thinking"])
async def test_every_mode_sends_that_body(mode: str, target: str) -> None:
    theirs, ours = CONVERSATIONS["tools"]
    bind = {"tool_choice": "any", "stop": ["END"], "max_tokens": 20_000}
    script = [Reply(tool_calls=[("weather", {"city": "Paris"})])]
    expected = await conversations.sent(
        PAIRS[mode], theirs, tools=[WEATHER], bind=bind, script=script, **TARGETS[target]
    )
    assert await sent(mode, ours, call={"tools": [WEATHER], **bind}, script=script, **TARGETS[target]) == expected


@pytest.mark.parametrize("mode", COMPLETIONS)
async def test_a_completion_is_a_chat_of_one_message(mode: str) -> None:
    theirs, _ = CONVERSATIONS["hello"]
    expected = await conversations.sent("invoke", theirs, **TARGETS["moonshot thinking"])
    assert await sent(mode, "Hello.", **TARGETS["moonshot thinking"]) == expected
    reply, _ = await exchange(mode, "Hello.", **TARGETS["moonshot instruct"])
    assert reply.text == "Yes."
    assert reply.additional_kwargs["refrase"]["model"] == "kimi-k2-0905-preview"


@pytest.mark.parametrize("target", ["moonshot instruct", "vllm instruct"])
async def test_a_schema_is_sent_as_chatkimi_sends_it(target: str) -> None:
    theirs, ours = CONVERSATIONS["hello"]
    call, script = {"response_format": SCHEMA}, ['{"city": "Paris"}']
    expected = await conversations.sent("invoke", theirs, bind=call, script=script, **TARGETS[target])
    assert await sent("chat", ours, call=call, script=script, **TARGETS[target]) == expected


@pytest.mark.parametrize("mode", CHATS)
@pytest.mark.parametrize("target", ["moonshot thinking", "vllm thinking"])
async def test_the_second_turn_replays_the_first_byte_for_byte(mode: str, target: str) -> None:
    arguments = '{ "city":"Zürich" , "n": 1.0}'  # no JSON library writes it so
    script = [Reply(reasoning="Look it up.", tool_calls=[("weather", arguments)]), "Sunny."]
    settings = dict(TARGETS[target])
    with KimiSimulator(settings.pop("persona"), script=script) as simulator:
        llm = kimi(simulator, **settings)
        asked = [said("user", "Weather in Zürich?")]
        first = await last(mode, llm, asked, tools=[LOOSE])
        [call] = llm.get_tool_calls_from_response(first)
        assert call.tool_kwargs == {"city": "Zürich", "n": 1.0}
        await last(mode, llm, [*asked, first.message, answered(call.tool_id, "sunny")], tools=[LOOSE])
        replayed = next(message for message in bodies(simulator)[1]["messages"] if message["role"] == "assistant")
        field = "reasoning_content" if simulator.host.persona.id == "moonshot" else "reasoning"
        assert replayed["tool_calls"][0]["function"]["arguments"] == arguments
        assert replayed[field] == "Look it up."
        assert simulator.refusals == []


LOOSE = {**WEATHER, "function": {**WEATHER["function"], "parameters": {"type": "object", "properties": {}}}}


async def test_an_edited_call_is_sent_as_edited() -> None:
    script = [Reply(tool_calls=[("weather", '{"city":"Paris"}')]), "Sunny."]
    with KimiSimulator("moonshot", script=script) as simulator:
        llm = kimi(simulator, model="kimi-k2-0905-preview")
        first = llm.chat([said("user", "Weather?")], tools=[WEATHER])
        [block] = [block for block in first.message.blocks if isinstance(block, ToolCallBlock)]
        block.tool_kwargs = {"city": "Rome"}
        llm.chat([said("user", "Weather?"), first.message, answered(block.tool_call_id or "", "x")], tools=[WEATHER])
        assert '"Rome"' in str(bodies(simulator)[1]["messages"])


async def test_messages_of_other_integrations_are_understood() -> None:
    legacy = ChatMessage(
        role="assistant",
        content=None,
        additional_kwargs={
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
            ],
            "reasoning_content": "Hm.",
        },
    )
    body = await sent(
        "chat",
        [said("user", "?"), legacy, answered("c1", "x")],
        persona="moonshot",
        model="kimi-k2-thinking",
        call={"tools": [WEATHER]},
    )
    message = body["messages"][2]
    assert message["reasoning_content"] == "Hm."
    assert message["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Paris"}'}


@pytest.mark.parametrize(
    ("role", "wire"), [("developer", "system"), ("chatbot", "assistant"), ("model", "assistant"), ("user", "user")]
)
async def test_roles(role: str, wire: str) -> None:
    body = await sent("chat", [said("user", "Hi"), ChatMessage(role=role, content="Text."), said("user", "Go on.")])
    assert [m["role"] for m in body["messages"] if m["content"] == "Text."] == [wire]


def test_a_function_message_is_refused() -> None:
    with (
        KimiSimulator("moonshot") as simulator,
        pytest.raises(InvalidMessage, match=r"messages\[1\]: the role 'function'"),
    ):
        kimi(simulator).chat([said("user", "Hi"), ChatMessage(role=MessageRole.FUNCTION, content="x")])


def test_a_tool_result_needs_its_id() -> None:
    with KimiSimulator("moonshot") as simulator, pytest.raises(InvalidMessage, match="tool_call_id"):
        kimi(simulator).chat([said("user", "Hi"), ChatMessage(role="tool", content="x")])


# -- images and documents --------------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    import base64

    file = tmp_path / "picture.png"
    file.write_bytes(base64.b64decode(PNG))
    return file


@pytest.mark.parametrize("form", ["bytes", "path", "stream", "data url"])
async def test_an_image_is_sent_as_chatkimi_sends_it(form: str, picture: Path) -> None:
    theirs = [HumanMessage([{"type": "text", "text": "What is this?"}, IMAGE_URL])]
    block = {
        "bytes": lambda: ImageBlock(image=picture.read_bytes()),
        "path": lambda: ImageBlock(path=picture),
        "stream": lambda: ImageBlock(image=picture.open("rb"), image_mimetype="image/png"),
        "data url": lambda: ImageBlock(url=f"data:image/png;base64,{PNG}"),
    }[form]()
    expected = await conversations.sent("invoke", theirs, model="kimi-k2.6")
    ours = [ChatMessage(role="user", blocks=[TextBlock(text="What is this?"), block])]
    assert await sent("chat", ours, model="kimi-k2.6") == expected
    assert await sent("chat", ours, model="kimi-k2.6") == expected, "a stream is read anew each turn"


async def test_an_image_to_a_blind_model_is_refused_before_any_request(picture: Path) -> None:
    with KimiSimulator("moonshot") as simulator:
        with pytest.raises(VisionUnsupported):
            kimi(simulator, model="kimi-k2-thinking").chat([ChatMessage(blocks=[ImageBlock(path=picture)])])
        assert bodies(simulator) == []


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (DocumentBlock(data=b"%PDF-1.7", document_mimetype="application/pdf"), "DocumentBlock"),
        (AudioBlock(audio=b"RIFF0000WAVE", format="wav"), "AudioBlock"),
        (ImageBlock(image=b"no picture"), "image_mimetype"),
        (ImageBlock(), "without data"),
        (VideoBlock(video=b"no video"), "video_mimetype"),
    ],
)
def test_what_cannot_be_sent_is_named(block: Any, words: str) -> None:
    with KimiSimulator("moonshot") as simulator:
        with pytest.raises(InvalidMessage, match=words) as caught:
            kimi(simulator, model="kimi-k2.6").chat([said("user", "Hi"), ChatMessage(role="user", blocks=[block])])
        assert "messages[1]" in str(caught.value)
        assert bodies(simulator) == []


async def test_blocks_that_say_nothing_to_the_host_are_left_out() -> None:
    cited = CitationBlock(cited_content="Source.", source="s", title="t", additional_location_info={})
    asked = [
        ChatMessage(
            role="user", blocks=[TextBlock(text="Hi"), CachePoint(cache_control=CacheControl(type="ephemeral"))]
        ),
        ChatMessage(role="assistant", blocks=[TextBlock(text="Hello."), cited]),
        said("user", "Go on."),
    ]
    body = await sent("chat", asked)
    assert [message["content"] for message in body["messages"][1:]] == ["Hi", "Hello.", "Go on."]


# -- system prompt, tools --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["chat", "achat", "complete", "stream_complete"])
async def test_the_system_prompt_stands_where_the_messages_bring_none(mode: str) -> None:
    asked: Any = "Hello." if "complete" in mode else [said("user", "Hello.")]
    body = await sent(mode, asked, system_prompt="Be brief.", practices={"fresh_data": "off"})
    assert [m["content"] for m in body["messages"]] == ["Be brief.", "Hello."]


async def test_a_system_message_of_the_call_wins() -> None:
    asked = [said("system", "Be kind."), said("user", "Hello.")]
    body = await sent("chat", asked, system_prompt="Be brief.", practices={"fresh_data": "off"})
    assert [m["content"] for m in body["messages"]] == ["Be kind.", "Hello."]


def test_predict_sends_the_system_prompt_once() -> None:
    from llama_index.core.prompts import PromptTemplate

    with KimiSimulator("moonshot", script=["Yes."]) as simulator:
        llm = kimi(simulator, system_prompt="Be brief.", practices={"fresh_data": "off"})
        assert llm.predict(PromptTemplate("{x}?"), x="Really") == "Yes."
        assert [m["content"] for m in bodies(simulator)[0]["messages"]] == ["Be brief.", "Really?"]


async def test_tools_of_every_kind_keep_their_names() -> None:
    def add(a: int, b: int = 2) -> int:
        """Add numbers."""
        return a + b

    async def times(a: int) -> int:
        """Double it."""
        return 2 * a

    odd = FunctionTool.from_defaults(fn=add, name="math.add", description="d" * 2_000)
    reply, seen = await exchange(
        "chat",
        [said("user", "Add 1.")],
        model="kimi-k2-0905-preview",
        call={"tools": [odd, times, WEATHER]},
        script=first_tool,
    )
    sent_names = [tool["function"]["name"] for tool in seen[0]["tools"]]
    assert sent_names[1:] == ["times", "weather"]
    assert sent_names[0] != "math.add", "the host refuses the dot"
    assert seen[0]["tools"][0]["function"]["description"] == "d" * 2_000
    assert seen[0]["tools"][0]["function"]["parameters"]["required"] == ["a"]
    assert [block.tool_name for block in reply.message.blocks if isinstance(block, ToolCallBlock)] == ["math.add"]


def first_tool(body: dict[str, Any]) -> Reply:
    return Reply(tool_calls=[(body["tools"][0]["function"]["name"], {"a": 1})])


async def test_strict_goes_to_tools_of_every_kind() -> None:
    def add(a: int) -> int:
        """Add."""
        return a

    body = await sent("chat", [said("user", "Hi")], call={"tools": [add, WEATHER], "strict": False})
    assert [tool["function"]["strict"] for tool in body["tools"]] == [False, False]
    assert "strict" not in WEATHER["function"]


async def test_a_class_as_response_format() -> None:
    class City(BaseModel):
        """A city."""

        name: str

    body = await sent("chat", [said("user", "?")], call={"response_format": City}, script=['{"name": "Paris"}'])
    assert body["response_format"]["json_schema"]["name"] == "City"
    assert body["response_format"]["json_schema"]["schema"]["properties"]["name"]["type"] == "string"


@pytest.mark.parametrize("mode", CHATS)
async def test_reasoning_details_go_back_to_their_own_host_only(mode: str) -> None:
    details = [{"type": "reasoning.text", "index": 0, "text": "Hm.", "signature": "s1"}]
    message = {"role": "assistant", "content": "Yes.", "reasoning": "Hm.", "reasoning_details": details}
    part = "delta" if "stream" in mode else "message"
    chunk = {"id": "r", "choices": [{"index": 0, part: message, "finish_reason": "stop"}]}
    fields = {"model": "moonshotai/kimi-k2-thinking"}
    first, _ = await exchange(
        mode, [said("user", "Hi")], persona="openrouter", script=[Reply(chunks=[chunk])], strict=False, **fields
    )
    asked = [said("user", "Hi"), first.message, said("user", "Go on.")]
    [home] = [
        m for m in (await sent("chat", asked, persona="openrouter", **fields))["messages"] if m["role"] == "assistant"
    ]
    assert home["reasoning_details"] == details
    [away] = [m for m in (await sent("chat", asked, model="kimi-k2-thinking"))["messages"] if m["role"] == "assistant"]
    assert "reasoning_details" not in away
    assert away["reasoning_content"] == "Hm."


@pytest.mark.parametrize("tool", [3, "weather", None])
def test_what_is_no_tool_is_named(tool: Any) -> None:
    with KimiSimulator("moonshot") as simulator, pytest.raises(ConfigurationError, match=r"tools\[1\]"):
        kimi(simulator).chat([said("user", "Hi")], tools=[WEATHER, tool])


@pytest.mark.parametrize("mode", CHATS)
async def test_the_builtin_search_is_handed_back(mode: str) -> None:
    search = {"type": "builtin_function", "function": {"name": "$web_search"}}
    script = [Reply(tool_calls=[("$web_search", '{"query":"x"}')]), "Found."]
    reply, seen = await exchange(
        mode, [said("user", "News?")], model="kimi-k2.6", thinking=False, script=script, call={"tools": [search]}
    )
    assert reply.message.content == "Found."
    assert seen[0]["tools"] == [search]
    assert seen[1]["messages"][-1]["content"] == '{"query":"x"}'


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"api_key": "sk-other"}, "api_key cannot change"),
        ({"base_url": "http://x"}, "base_url cannot change"),
        ({"top_k": 3}, "extra_body"),
        ({"tool_choice": 3}, "tool_choice"),
    ],
)
def test_wrong_call_arguments(kwargs: dict[str, Any], words: str) -> None:
    with KimiSimulator("moonshot") as simulator:
        llm = kimi(simulator)
        for method in (llm.chat, llm.stream_chat):
            with pytest.raises(ConfigurationError, match=words) as caught:
                method([said("user", "Hi")], **kwargs)
            assert "sk-" not in str(caught.value)


async def test_call_arguments_win_over_fields_and_extra_bodies_are_joined() -> None:
    body = await sent(
        "chat",
        [said("user", "Hi")],
        persona="vllm",
        model="moonshotai/Kimi-K2-Instruct",
        max_tokens=100,
        extra_body={"top_k": 3, "min_p": 0.1},
        additional_kwargs={"top_k": 1, "repetition_penalty": 1.1},
        call={"max_tokens": 200, "extra_body": {"min_p": 0.2}, "practices": {"temperature": "off"}},
    )
    assert body["max_tokens"] == 200
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (3, 0.2, 1.1)
    assert "temperature" not in body
