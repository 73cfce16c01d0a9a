"""`RefraseStep`: the prompt practices as a step of a LlamaIndex workflow, for whatever LLM stands behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, cast

from llama_index.core.base.llms.types import ChatMessage, ContentBlock, MessageRole, TextBlock
from llama_index.core.memory import BaseMemory
from llama_index.core.tools import BaseTool
from llama_index.core.workflow import Event, Workflow, step

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi import catalogue
from refrase_integrations.kimi.catalogue import find_host
from refrase_integrations.kimi.freshness import needs_fresh_data
from refrase_integrations.kimi.practice import Call, messages_of
from refrase_integrations.kimi.prepare import prepare
from refrase_integrations.kimi.request import prompt_call
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.wire import Message
from refrase_integrations.llamaindex.memory import BLOCK, wire_form
from refrase_integrations.llamaindex.tools import marked_live, wire_tools

_ORIGIN = "origin"  # of a wire message: its place among the given ones


class Refrased(NamedTuple):
    """A prompt as the model is to read it."""

    messages: list[ChatMessage]
    """A message that needed nothing is the same object as before."""
    report: dict[str, Any]
    """What was changed and why."""
    needs_fresh_data: bool
    """Whether the last question needs live data, in English or Chinese: for a step that routes."""


class PromptEvent(Event):
    """Takes messages to the step."""

    messages: list[ChatMessage]


class RefrasedEvent(Event):
    """Takes the messages on, and what was changed in them."""

    messages: list[ChatMessage]
    report: dict[str, Any]
    needs_fresh_data: bool


class RefraseStep:
    """The documented prompt practices for Kimi K2, for the LLM you already have.

    Key arguments:
        model: the model that will read the prompt, in any host's spelling. None: the catalogue's default. One that the
            catalogue does not know (another vendor's) gets its messages as they are, and the log says so once.
        host: id of its host. None: Moonshot's international API.
        tools: the tools that the model has: `BaseTool`s, functions or dicts. None: unknown, then nothing is said about
            live data; ``[]``: none.
        practices: `Practices`, a dict such as ``{"concise_prompt": "apply"}``, or "off". Only the practices on the
            prompt act here: the forms of one host's wire never enter a conversation.

    A list of messages, or a memory (which is read and stays as it is):
        ```python
        from llama_index.core.llms import ChatMessage
        from refrase_integrations.llamaindex import RefraseStep

        refrase = RefraseStep(model="kimi-k2.6")
        messages = refrase([ChatMessage(role="user", content="Hello")])
        messages = await refrase.acall(memory)
        ```
        One system message at most is added, in front. Refrased again, nothing changes. The documented default goes out
        again where a system message of the app's own stands beside it.

    In a workflow, between events of your own that have a field ``messages`` (else between `PromptEvent` and
    `RefrasedEvent`):
        ```python
        from llama_index.core.workflow import Event, StartEvent, StopEvent, Workflow, step

        class Asked(StartEvent):
            messages: list[ChatMessage]

        class Ready(Event):
            messages: list[ChatMessage]
            report: dict

        class Answering(Workflow):
            @step
            async def answer(self, ev: Ready) -> StopEvent:
                return StopEvent(result=await llm.achat(ev.messages))

        refrase.add_to(Answering, takes=Asked, gives=Ready)
        reply = await Answering().run(messages=[ChatMessage(role="user", content="Hello")])
        ```
        Or call ``await refrase.acall(...)`` in a step of your own.
    """

    def __init__(
        self,
        model: str | None = None,
        host: str | None = None,
        tools: Sequence[BaseTool | Mapping[str, Any] | Callable[..., Any]] | None = None,
        practices: Practices | Mapping[str, Any] | Literal["off"] | None = None,
    ) -> None:
        self.model = catalogue.DEFAULT_MODEL if model is None else model
        self.host = host
        self.tools = None if tools is None else wire_tools(tools)
        self._live = marked_live(tools or ())
        self.practices = Practices.of(practices)
        self._call([])  # an unknown host: better said here than by the first run

    def __repr__(self) -> str:
        return f"RefraseStep(model={self.model!r}, host={self.host!r})"

    def __call__(self, messages: Sequence[ChatMessage] | BaseMemory) -> list[ChatMessage]:
        """Return the messages as the model is to read them.

        Args:
            messages: a conversation, oldest first, or the memory that holds it.

        Raises:
            PracticeError: a practice refuses the prompt.
            ConfigurationError: that is no conversation.
        """
        return self.run(messages.get() if isinstance(messages, BaseMemory) else messages).messages

    async def acall(self, messages: Sequence[ChatMessage] | BaseMemory) -> list[ChatMessage]:
        """The async twin of calling it."""
        return self.run(await messages.aget() if isinstance(messages, BaseMemory) else messages).messages

    def run(self, messages: Sequence[ChatMessage]) -> Refrased:
        """Return the messages as the model is to read them, and what was changed. See `__call__`."""
        if not isinstance(messages, Sequence) or not all(isinstance(one, ChatMessage) for one in messages):
            raise ConfigurationError("RefraseStep takes a list of ChatMessage or a memory")
        before = [cast(Message, {**wire_form(message), _ORIGIN: place}) for place, message in enumerate(messages)]
        prepared = prepare(self._call(before))
        untouched = {id(wire) for wire in before}
        after = [
            messages[wire[_ORIGIN]] if id(wire) in untouched else _changed(wire, messages)  # type: ignore[literal-required]
            for wire in messages_of(prepared.body)
        ]
        return Refrased(after, prepared.report.as_dict(), _asks_fresh(messages))

    def add_to(
        self,
        workflow: type[Workflow],
        takes: type[Event] = PromptEvent,
        gives: type[Event] = RefrasedEvent,
        *,
        name: str = "refrase",
    ) -> None:
        """Add this to a workflow class as a step.

        Args:
            workflow: the class; it and what inherits from it get the step.
            takes: the event that brings ``messages`` (a list, or a memory).
            gives: the event that takes them on. It gets ``messages``, and ``report`` and ``needs_fresh_data`` (see
                `Refrased`) where it has such fields, and every field that ``takes`` has too.
            name: of the step; a workflow has each name once.

        Raises:
            ConfigurationError: one of the events has no field ``messages``.
        """
        if not (isinstance(workflow, type) and issubclass(workflow, Workflow)):
            raise ConfigurationError("RefraseStep.add_to takes a class of Workflow")
        for event in (takes, gives):
            if not (isinstance(event, type) and issubclass(event, Event)):
                raise ConfigurationError("RefraseStep.add_to: takes= and gives= are classes of Event")
            if "messages" not in event.model_fields:
                raise ConfigurationError(f"{event.__name__} has no field 'messages' for RefraseStep to read or fill")

        async def refrase(ev: Any) -> Any:
            given = ev.messages
            made = self.run(await given.aget() if isinstance(given, BaseMemory) else given)
            shared = {field: getattr(ev, field) for field in gives.model_fields if field in takes.model_fields}
            told = {field: value for field, value in made._asdict().items() if field in gives.model_fields}
            return gives(**{**told, **shared, "messages": made.messages})

        refrase.__name__ = name
        refrase.__annotations__ = {"ev": takes, "return": gives}
        step(workflow=workflow)(refrase)

    def _call(self, messages: list[Message]) -> Call:
        host, now = find_host(self.host), datetime.now(UTC)
        return prompt_call(
            self.model,
            host,
            messages,
            tools=self.tools,
            practices=self.practices,
            now=now,
            live_tools=self._live,
        )


def _asks_fresh(messages: Sequence[ChatMessage]) -> bool:
    asked = next((message for message in reversed(messages) if message.role == MessageRole.USER), None)
    return asked is not None and bool(needs_fresh_data(asked.content or "", datetime.now(UTC)))


def _changed(wire: Message, messages: Sequence[ChatMessage]) -> ChatMessage:
    """Return the message of changed wire form: a copy of the one that it was, or a new one."""
    content, place = wire.get("content") or "", cast("dict[str, Any]", wire).get(_ORIGIN)
    message = ChatMessage(role=MessageRole(wire["role"])) if place is None else messages[place]
    parts = [{"text": content}] if isinstance(content, str) else content
    return message.model_copy(update={"blocks": [_block(part, message.blocks) for part in parts]})


def _block(part: Mapping[str, Any], old: Sequence[ContentBlock]) -> ContentBlock:
    place = part.get(BLOCK)
    if place is None:
        return TextBlock(text=part["text"])
    block = cast("ContentBlock", old[place])
    if isinstance(block, TextBlock) and block.text != part["text"]:
        return block.model_copy(update={"text": part["text"]})
    return block
