"""The one wire language inside: the OpenAI chat-completions JSON form, as plain dicts.

Every key is optional to the type checker, because hosts leave out what they like; code reads with ``.get``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypedDict, cast

Role = Literal["system", "user", "assistant", "tool"]


class FunctionCall(TypedDict, total=False):
    """Name and arguments of a tool call."""

    name: str
    arguments: str
    """The arguments as the model wrote them: JSON text, byte for byte."""


class ToolCall(TypedDict, total=False):
    """One tool call, whole or (in a raw stream) a fragment."""

    index: int
    id: str
    type: str
    function: FunctionCall
    error: str
    """Why the call cannot be used, told to the model; never sent to a host."""
    withheld: bool
    """No application may run it, whatever its arguments look like: only the error is handed out."""


class Message(TypedDict, total=False):
    """One message of a conversation."""

    role: str
    content: Any
    """Text, a list of content parts, or None beside tool calls."""
    name: str
    tool_calls: list[ToolCall]
    tool_call_id: str
    reasoning_content: str
    reasoning: str
    reasoning_details: list[Any]
    partial: bool


class Function(TypedDict, total=False):
    """A function that the model may call."""

    name: str
    description: str
    parameters: dict[str, Any]
    strict: bool


class Tool(TypedDict, total=False):
    """An entry of the ``tools`` parameter."""

    type: str
    function: Function


class Body(TypedDict, total=False):
    """A chat-completions request. Unknown keys travel too (a user's ``extra_body``)."""

    model: str
    messages: list[Message]
    tools: list[Tool]
    tool_choice: Any
    parallel_tool_calls: bool
    response_format: dict[str, Any]
    temperature: float
    top_p: float
    n: int
    presence_penalty: float
    frequency_penalty: float
    stop: Any
    seed: int
    max_tokens: int
    max_completion_tokens: int
    thinking: dict[str, Any]
    reasoning_effort: str
    reasoning: dict[str, Any]
    chat_template_kwargs: dict[str, Any]
    prompt_cache_key: str
    stream: bool
    stream_options: dict[str, Any]


class Usage(TypedDict, total=False):
    """Tokens of one model call, in one form whatever place the host put them in."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    """Part of ``prompt_tokens`` that was read from the host's prompt cache."""
    reasoning_tokens: int
    """Part of ``completion_tokens`` spent on reasoning."""


Chunk = Mapping[str, Any]
"""A raw response as the SDK's transport hands it out: a stream chunk, or a whole response (one chunk whose
choices carry ``message`` instead of ``delta``)."""


class _Nothing(Mapping[str, Any]):
    """The empty mapping. Hashable, as a dataclass wants its default values to be."""

    def __getitem__(self, key: str) -> Any:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    __hash__ = object.__hash__


NOTHING: Mapping[str, Any] = _Nothing()


def put(body: Body, **values: Any) -> Body:
    """Return a copy of ``body`` with ``values`` set; keys with the value None are removed."""
    merged: dict[str, Any] = {**body, **values}
    return cast(Body, {key: value for key, value in merged.items() if value is not None or key not in values})


def without(body: Body, *keys: str) -> Body:
    """Return a copy of ``body`` without ``keys``."""
    return cast(Body, {key: value for key, value in body.items() if key not in keys})
