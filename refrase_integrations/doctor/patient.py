"""The host under examination: raw requests as a plain client sends them, and raw answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from refrase_integrations.client.connection import Connection
from refrase_integrations.client.deadline import Deadline
from refrase_integrations.client.failures import typed
from refrase_integrations.client.retries import aattempts
from refrase_integrations.errors import HostError, HostFailed, RequestRefused
from refrase_integrations.kimi.catalogue.profile import ModelProfile
from refrase_integrations.kimi.dialect import Dialect
from refrase_integrations.kimi.messages import text_of
from refrase_integrations.kimi.wire import Body

REASONING = ("reasoning_content", "reasoning", "reasoning_details")
_THINK = re.compile(r"\s*<think>(.*?)</think>", re.DOTALL)


@dataclass(frozen=True)
class Call:
    """A tool call as it came."""

    id: str
    name: str
    arguments: str
    index: Any = None
    """Of its first piece in a stream; None: there was none."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back for one request."""

    chunks: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    """Of a stream, or the one whole response."""
    error: HostError | None = None

    @property
    def refused(self) -> bool:
        """Whether the host refused the request as it stands."""
        return isinstance(self.error, RequestRefused)

    @property
    def content(self) -> str:
        """The visible text, as it came."""
        return "".join(text_of(piece.get("content")) for piece in self._pieces())

    @property
    def text(self) -> str:
        """The visible text without thinking in tags."""
        return _THINK.sub("", self.content, count=1)

    @property
    def thoughts(self) -> str:
        """The reasoning, in whatever field it came, or between tags in the content."""
        fields = self.reasoning_fields
        tagged = _THINK.match(self.content)
        told = "".join(_plain(piece.get(fields[0])) for piece in self._pieces()) if fields else ""
        return told + (tagged[1] if tagged else "")

    @property
    def reasoning_fields(self) -> tuple[str, ...]:
        """The fields that carried reasoning."""
        return tuple(name for name in REASONING if any(_plain(piece.get(name)) for piece in self._pieces()))

    @property
    def thinks(self) -> bool:
        """Whether any reasoning is to be seen."""
        return bool(self.reasoning_fields) or "<think>" in self.content

    @property
    def finish(self) -> str | None:
        """The finish reason."""
        reasons = [choice.get("finish_reason") for choice in self._choices() if choice.get("finish_reason")]
        return str(reasons[-1]) if reasons else None

    @property
    def calls(self) -> tuple[Call, ...]:
        """The tool calls, put together in the order in which they came."""
        made: list[Call] = []
        for piece in self._pieces():
            for part in piece.get("tool_calls") or ():
                function = part.get("function") or {}
                arguments = function.get("arguments") or ""
                if function.get("name"):
                    made.append(Call(part.get("id") or "", function["name"], arguments, part.get("index")))
                elif made:
                    last = made[-1]
                    made[-1] = Call(last.id, last.name, last.arguments + arguments, last.index)
        return tuple(made)

    @property
    def usage(self) -> Mapping[str, Any]:
        """The usage block, from whatever place."""
        blocks = [
            place["usage"]
            for chunk in self.chunks
            for place in (chunk, *(chunk.get("choices") or ()))
            if isinstance(place.get("usage"), Mapping)
        ]
        return blocks[-1] if blocks else {}

    def _choices(self) -> Sequence[Mapping[str, Any]]:
        return [choice for chunk in self.chunks for choice in chunk.get("choices") or ()]

    def _pieces(self) -> Sequence[Mapping[str, Any]]:
        return [choice.get("delta") or choice.get("message") or {} for choice in self._choices()]


@dataclass(frozen=True)
class Patient:
    """A model on a host, asked by a client that knows nothing of Kimi."""

    connection: Connection = field(repr=False)
    dialect: Dialect
    name: str
    """The model, as the host is asked for it."""
    limiter: asyncio.Semaphore = field(repr=False)
    """Bounds how many requests run at once."""
    asked: Callable[[], None] = field(repr=False, default=lambda: None)
    """Called after each request."""
    timeout: float = 120.0
    """Seconds for one request."""

    @property
    def model(self) -> ModelProfile:
        """What the catalogue knows of the model."""
        return self.dialect.model

    @property
    def reasons(self) -> bool:
        """Whether the model is known to reason."""
        return self.model.known and self.model.thinking.mode != "instruct"

    @property
    def room(self) -> int:
        """Output limit of a probe, in tokens: enough for a short answer, and for short reasoning before it."""
        return 6_000 if self.reasons else 600

    async def ask(self, messages: str | Sequence[Mapping[str, Any]], **fields: Any) -> Answer:
        """Send one request; a text is the user's one message.

        A busy host is asked again; what else it refuses is part of the answer.
        """
        said = [{"role": "user", "content": messages}] if isinstance(messages, str) else [*messages]
        body = {"model": self.name, "messages": said, **{k: v for k, v in fields.items() if v is not None}}
        async with self.limiter:
            try:
                chunks: list[Mapping[str, Any]] = await aattempts(2, [], Deadline())(self._once, body)
                return Answer(chunks=tuple(chunks))
            except HostError as error:
                return Answer(error=error)
            finally:
                self.asked()

    async def list_models(self) -> Answer:
        """Ask for the host's list of models."""
        async with self.limiter:
            try:
                listed: Mapping[str, Any] = await aattempts(2, [], Deadline())(self._get)
                return Answer(chunks=(listed,))
            except HostError as error:
                return Answer(error=error)
            finally:
                self.asked()

    async def _once(self, body: dict[str, Any]) -> list[Mapping[str, Any]]:
        import openai

        client: Any = self.connection.async_client()
        options = {"timeout": self.timeout}
        failure: Exception
        try:
            if not body.get("stream"):
                made = await client.post("/chat/completions", cast_to=object, body=body, options=options)
                return [made] if isinstance(made, Mapping) else []
            stream = await client.post(
                "/chat/completions",
                cast_to=object,
                body=body,
                options=options,
                stream=True,
                stream_cls=openai.AsyncStream[object],
            )
            return [chunk async for chunk in stream if isinstance(chunk, Mapping)]
        except openai.OpenAIError as error:
            failure = typed(error, cast(Body, body), self.dialect, self.connection)
        except ValueError:  # json's and unicode's
            failure = HostFailed("the host sent what is no JSON", host=self.dialect.host.id, model=self.name)
        raise failure

    async def _get(self) -> Mapping[str, Any]:
        import openai

        failure: Exception
        try:
            client: Any = self.connection.async_client()
            found = await client.get("/models", cast_to=object)
            return found if isinstance(found, Mapping) else {}
        except openai.OpenAIError as error:
            failure = typed(error, cast(Body, {}), None, self.connection)
        except ValueError:
            failure = HostFailed("the host sent what is no JSON", host=self.dialect.host.id)
        raise failure


def _plain(value: Any) -> str:
    if isinstance(value, list):  # reasoning_details
        return "".join(str(part.get("text") or "") for part in value if isinstance(part, Mapping))
    return value if isinstance(value, str) else ""
