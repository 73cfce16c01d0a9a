"""One test body for every surface in every mode: what goes in and what comes out, in the words of neither framework."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages
from llama_index.core.base.llms.types import (
    ChatMessage,
    ContentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from refrase_integrations.langchain import ChatKimi
from refrase_integrations.llamaindex import Kimi
from refrase_integrations.simulator import KimiSimulator
from tests import conversations
from tests.llamaindex import exchanges

SURFACES = ("ChatKimi", "Kimi")
MODES = conversations.MODES
STREAMS = ("stream", "astream")
Error = TypeVar("Error", bound=BaseException)
CHATS = dict(zip(MODES, exchanges.CHATS, strict=True))

everywhere = pytest.mark.parametrize(
    ("surface", "mode"), [pytest.param(surface, mode, id=f"{surface}-{mode}") for surface in SURFACES for mode in MODES]
)
in_streams = pytest.mark.parametrize(
    ("surface", "mode"),
    [pytest.param(surface, mode, id=f"{surface}-{mode}") for surface in SURFACES for mode in STREAMS],
)


@dataclass(frozen=True)
class Answer:
    """What came of one call."""

    text: str
    calls: list[tuple[str, Any]]
    """Name and arguments: a dict, or the text of what could not be read."""
    ids: list[str]
    problems: list[str | None]
    """Why a call cannot be used, as the model is told; None where it can."""
    reasoning: str | None
    finish: str | None
    usage: dict[str, int]
    """The tokens that the surface reports: prompt, completion, cached, reasoning."""
    report: dict[str, Any]
    message: Any
    """The framework's own message, to go on with."""

    def said(self, practice: str, part: str = "healed") -> list[tuple[str, str]]:
        """Return action and detail of a practice's lines in the report."""
        lines = [line for line in self.report[part] if line["practice"] == practice]
        return [(line["action"], line["detail"]) for line in lines]


def build(surface: str, simulator: KimiSimulator, **fields: Any) -> Any:
    """Build a surface's model for a running simulator."""
    given = {"host": simulator.host.persona.id, "base_url": simulator.base_url, "api_key": "sk-test", **fields}
    return ChatKimi(**given) if surface == "ChatKimi" else Kimi(**given)


async def ask(surface: str, mode: str, model: Any, conversation: Sequence[Any], **call: Any) -> Answer:
    """Call a surface's model in one of the four modes.

    Args:
        surface: which.
        mode: invoke, ainvoke, stream or astream, whatever the framework calls it.
        model: from `build`.
        conversation: messages in the form of the wire, or the framework's own from an earlier `Answer`.
        call: arguments of the call: ``tools`` in the form of the wire, ``tool_choice``, ``response_format`` ...
    """
    if surface == "ChatKimi":
        return _of_langchain(await conversations.ask(mode, model, langchain_messages(conversation), **call))
    return _of_llamaindex(await exchanges.last(CHATS[mode], model, llamaindex_messages(conversation), **call))


async def exchange(
    surface: str,
    mode: str,
    conversation: Sequence[Any],
    *,
    persona: str = "moonshot",
    script: Any = ("Yes.",),
    quirks: Mapping[str, Any] | None = None,
    strict: bool = True,
    call: Mapping[str, Any] | None = None,
    **fields: Any,
) -> tuple[Answer, list[dict[str, Any]]]:
    """Let a fresh model talk to a fresh simulator; return the answer and every body that reached the host."""
    with KimiSimulator(persona, script=script, quirks=quirks, strict=strict) as simulator:
        answer = await ask(surface, mode, build(surface, simulator, **fields), conversation, **(call or {}))
        return answer, exchanges.bodies(simulator)


async def failure(
    surface: str,
    mode: str,
    conversation: Sequence[Any],
    expected: type[Error],
    *,
    persona: str = "moonshot",
    script: Any = None,
    quirks: Mapping[str, Any] | None = None,
    call: Mapping[str, Any] | None = None,
    **fields: Any,
) -> tuple[Error, list[dict[str, Any]]]:
    """Let a fresh model fail at a fresh simulator; return the error and every body that reached the host.

    A script that is at its end answers no more: every request counts.
    """
    with KimiSimulator(persona, script=script, quirks=quirks, after="error") as simulator:
        model = build(surface, simulator, **{"max_retries": 0, **fields})
        with pytest.raises(expected) as caught:
            await ask(surface, mode, model, conversation, **(call or {}))
        return caught.value, exchanges.bodies(simulator)


def chat_openai(simulator: KimiSimulator, model: str, **fields: Any) -> Any:
    """Build LangChain's generic client for a running simulator: what happens without this package."""
    langchain_openai = pytest.importorskip("langchain_openai", reason="pip install langchain-openai shows the contrast")
    given = {"base_url": simulator.base_url, "api_key": "sk-test", "max_retries": 0, **fields}
    return langchain_openai.ChatOpenAI(model=model, **given)


def tool(name: str, **properties: Any) -> dict[str, Any]:
    """Return a wire tool whose properties are all required; each is a JSON schema, or the name of a type."""
    schemas = {key: {"type": kind} if isinstance(kind, str) else kind for key, kind in properties.items()}
    parameters = {"type": "object", "properties": schemas, "required": list(schemas)}
    return {"type": "function", "function": {"name": name, "description": f"{name}.", "parameters": parameters}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def called(*made: tuple[str, str, Mapping[str, Any]], content: str = "", **fields: Any) -> dict[str, Any]:
    """Return an assistant message with tool calls, each as id, name and arguments."""
    calls = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for call_id, name, arguments in made
    ]
    return {"role": "assistant", "content": content, "tool_calls": calls, **fields}


def result(call_id: str, content: str = "Sunny.") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def langchain_messages(conversation: Sequence[Any]) -> list[BaseMessage]:
    """Return a conversation in LangChain's messages."""
    return [message if isinstance(message, BaseMessage) else _langchain(message) for message in conversation]


def llamaindex_messages(conversation: Sequence[Any]) -> list[ChatMessage]:
    """Return a conversation in LlamaIndex's messages."""
    return [message if isinstance(message, ChatMessage) else _llamaindex(message) for message in conversation]


def _langchain(message: Mapping[str, Any]) -> BaseMessage:
    (converted,) = convert_to_messages([message])
    for key in ("reasoning_content", "partial"):
        if key in message:
            converted.additional_kwargs[key] = message[key]
    return converted


def _llamaindex(message: Mapping[str, Any]) -> ChatMessage:
    content, blocks = message.get("content") or [], list[Any]()
    if "reasoning_content" in message:
        blocks.append(ThinkingBlock(content=message["reasoning_content"]))
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    blocks += [_llamaindex_block(part) for part in parts]
    for made in message.get("tool_calls") or ():
        function = made["function"]
        arguments = json.loads(function["arguments"])
        blocks.append(ToolCallBlock(tool_call_id=made["id"], tool_name=function["name"], tool_kwargs=arguments))
    kwargs = {key: message[key] for key in ("tool_call_id", "partial", "name") if key in message}
    return ChatMessage(role=message["role"], blocks=blocks, additional_kwargs=kwargs)


def _llamaindex_block(part: Mapping[str, Any]) -> ContentBlock:
    return TextBlock(text=part["text"]) if part["type"] == "text" else ImageBlock(url=part["image_url"]["url"])


def _of_langchain(message: AIMessage) -> Answer:
    usage = message.usage_metadata
    counted: dict[str, int] = {}
    if usage is not None:
        counted = {"prompt": usage["input_tokens"], "completion": usage["output_tokens"]}
        details = {"cached": ("input_token_details", "cache_read"), "reasoning": ("output_token_details", "reasoning")}
        for name, (place, key) in details.items():
            found = usage.get(place, {}).get(key)
            counted |= {} if found is None else {name: found}
    made = [*message.tool_calls, *message.invalid_tool_calls]
    errors = message.additional_kwargs.get("tool_call_errors", {})
    return Answer(
        text=str(message.text),
        calls=[(one["name"] or "", _unquoted(one["args"])) for one in made],
        ids=[one["id"] or "" for one in made],
        problems=[one.get("error") or errors.get(one["id"]) for one in made],
        reasoning=message.additional_kwargs.get("reasoning_content"),
        finish=message.response_metadata.get("finish_reason"),
        usage=counted,
        report=message.response_metadata["refrase"],
        message=message,
    )


def _unquoted(arguments: Any) -> Any:
    """Return arguments as they came: in a stream, text that LangChain would complete travels as a JSON string."""
    return json.loads(arguments) if isinstance(arguments, str) and arguments.startswith('"') else arguments


def _of_llamaindex(response: Any) -> Answer:
    message = response.message
    usage = response.raw.get("usage") or {}
    names = ("prompt", "completion", "cached", "reasoning")
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    thoughts = [block.content for block in message.blocks if isinstance(block, ThinkingBlock)]
    return Answer(
        text=message.content or "",
        calls=[(block.tool_name, block.tool_kwargs) for block in blocks],
        ids=[block.tool_call_id or "" for block in blocks],
        problems=[made.get("error") for made in message.additional_kwargs.get("tool_calls", ())],
        reasoning=thoughts[0] if thoughts else None,
        finish=response.raw.get("finish_reason"),
        usage={name: usage[f"{name}_tokens"] for name in names if f"{name}_tokens" in usage},
        report=response.raw["refrase"],
        message=message,
    )
