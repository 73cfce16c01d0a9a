"""`DropIn`: what a drop-in model is in every framework. Its fields, and the way to the host."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from refrase_integrations.client.budgets import Budget
from refrase_integrations.client.deadline import Deadline, checked_seconds
from refrase_integrations.client.limits import Limiter, Limits
from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.fields import MODEL_FIELDS
from refrase_integrations.kimi.settings import Practices, Settings

if TYPE_CHECKING:  # what only a call needs is imported by it: importing a model is cheap
    from typing import Self

    from refrase_integrations.client.connection import Connection
    from refrase_integrations.kimi.dialect import Dialect
    from refrase_integrations.kimi.practice import Prepared
    from refrase_integrations.kimi.wire import Chunk

_HIDDEN = ("api_key", "http_client", "http_async_client")
"""Fields that no pickle carries."""
_HALF_HIDDEN = ("default_headers", "default_query")
"""Fields of which a pickle carries what does not authenticate."""


def _default_model() -> str:
    from refrase_integrations.kimi import catalogue

    return catalogue.DEFAULT_MODEL


class DropIn(BaseModel):
    """Fields of a model that sends its own requests; a framework's class inherits from this and from its base."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: str = Field(default_factory=_default_model)
    """The model's name in any host's spelling."""
    host: str | None = None
    """Id of the host; None: read from ``base_url``, else Moonshot's international API."""
    base_url: str | None = None
    """The endpoint; None: the host's own."""
    api_key: SecretStr | None = Field(default=None, repr=False, exclude=True)
    """The key; None: the host's own environment variable. Never shown, never serialized."""
    thinking: bool | Literal["auto"] | dict[str, Any] | None = None
    """Switches a hybrid model; None: the model's default; "auto": on where the user's turn needs it, off for easy ones
    (see `kimi.deliberation`). The wire form ``{"type": "disabled"}`` is taken too."""
    reasoning_effort: str | None = None
    """Level of reasoning effort, for models that have levels."""
    temperature: float | None = None
    """Sampling temperature; None: as documented."""
    top_p: float | None = None
    """Nucleus sampling; None: as documented."""
    presence_penalty: float | None = None
    """-2 to 2; None: none."""
    frequency_penalty: float | None = None
    """-2 to 2; None: none."""
    seed: int | None = None
    """Seed, on hosts that take one."""
    stop: list[str] | str | None = None
    """Texts that end the reply; at most 5 of at most 32 bytes on Moonshot's API."""
    max_tokens: int | None = None
    """Output limit in tokens, reasoning included; None: the documented default."""
    practices: Settings = None
    """How each practice applies."""
    timeout: float | Any = None
    """Seconds for one request, or the SDK's Timeout; None: 600."""
    deadline: float | None = None
    """Seconds for a whole call: all requests and waits, and the time in which a stream is read. None: no limit."""
    stall_timeout: float | None = None
    """Seconds without an event after which a stream counts as dead; None: 300, or ``timeout`` where that is less."""
    max_retries: int = Field(default=2, ge=0)
    """Tries after the first one. A stream that breaks is taken up again so often, too."""
    continue_on_length: int = Field(default=0, ge=0)
    """How often a reply that was cut at the output limit is carried on."""
    stream_usage: bool = True
    """Whether to ask for usage in streams."""
    live_tools: list[str] | None = None
    """Names of tools that bring live data, beside those whose names or descriptions say so."""
    extra_body: dict[str, Any] | None = None
    """Your own body fields: they go out as they are, merged last."""
    default_headers: dict[str, str] | None = Field(default=None, repr=False, exclude=True)
    """Further headers for each request. They may hold credentials: never shown, never serialized."""
    default_query: dict[str, Any] | None = Field(default=None, repr=False, exclude=True)
    """Further query parameters for each request. Never shown, never serialized."""
    http_client: Any = Field(default=None, repr=False, exclude=True)
    """Your own sync HTTP client (httpx2 for openai 3.x, httpx for 2.x)."""
    http_async_client: Any = Field(default=None, repr=False, exclude=True)
    """Your own async HTTP client."""
    budget: Budget | None = Field(default=None, repr=False, exclude=True)
    """What may be spent; copies of the model share it. Never serialized."""
    limits: Limits | Limiter | None = Field(default=None, repr=False, exclude=True)
    """What the account may do, shared by all that have the same account and limits. Never serialized."""
    plain_stream: bool | None = None
    """True: the SDK sends the requests and reads the streams, slower, for a gateway that confuses our own way. None:
    what the variable REFRASE_PLAIN_STREAM says, else False."""

    @field_validator("api_key", mode="before")
    @classmethod
    def _read_key(cls, value: Any) -> Any:
        if value == "":
            return None
        if value is None or isinstance(value, (str, SecretStr)):
            return value
        raise ValueError(f"must be a text, not {type(value).__name__}")  # pydantic would decode bytes

    @model_validator(mode="after")
    def _check(self) -> Self:
        Practices.of(self.practices)
        _times({"deadline": self.deadline, "stall_timeout": self.stall_timeout})
        self._connection({"timeout": self.timeout})  # no key, no URL: better said here than by the first call
        return self

    def _confirm(self, model_name: str | None, host: str | None, thinking: Any) -> None:
        """Refuse another model, host or thinking than this model's own, where a wrapper is asked for them.

        Raises:
            ConfigurationError: says which field to set instead.
        """
        from refrase_integrations.kimi.catalogue import find_host

        name = type(self).__name__
        if model_name not in (None, self.model):
            raise ConfigurationError(f"{name} has its own model, {self.model!r}: set {name}(model=...) instead")
        own = find_host(self.host, self.base_url).id
        if host is not None and find_host(host).id != own:
            raise ConfigurationError(
                f"{name} sends to its own host, {own!r}: set {name}(host=..., base_url=...) instead"
            )
        if thinking not in (None, self.thinking):
            raise ConfigurationError(f"{name} has a field of its own for it: set {name}(thinking={thinking!r}) instead")

    def _pickled(self) -> dict[str, Any]:
        """Return the fields that a pickle carries in another form: it holds no secret."""
        from refrase_integrations.client.frozen import without_secrets

        open_parts = without_secrets({name: getattr(self, name) for name in _HALF_HIDDEN})
        return {**dict.fromkeys(_HIDDEN), **open_parts}

    def _own_settings(self, **more: Any) -> dict[str, Any]:
        """Return the settings that a call is laid over; ``extra_body`` goes over ``more``'s."""
        own = {name: getattr(self, name) for name in MODEL_FIELDS}
        extra = {**more.pop("extra_body", {}), **(self.extra_body or {})}
        begun = {"begun": time.monotonic(), "max_retries": self.max_retries}
        return {**own, **more, **begun, "practices": self.practices, "extra_body": extra}

    def _dialect(self, settings: Mapping[str, Any]) -> tuple[Dialect, bool | None]:
        from refrase_integrations.kimi.catalogue import find_host
        from refrase_integrations.kimi.request import dialect_of

        return dialect_of(settings, find_host(self.host, self.base_url))

    def _send(self, prepared: Prepared, settings: Mapping[str, Any]) -> Iterator[Chunk]:
        from refrase_integrations.client.passage import passage
        from refrase_integrations.client.sdk import send

        connection, times = self._connection(settings), _times(settings)
        way = passage(prepared, self.budget, self.limits, connection.account)
        sending = partial(send, prepared, connection, max_retries=self.max_retries, passage=way, **times)
        return sending() if way is None else way.through(sending, entered=True)

    def _asend(self, prepared: Prepared, settings: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        from refrase_integrations.client.passage import passage
        from refrase_integrations.client.sdk import asend

        connection, times = self._connection(settings), _times(settings)
        way = passage(prepared, self.budget, self.limits, connection.account)
        sending = partial(asend, prepared, connection, max_retries=self.max_retries, passage=way, **times)
        return sending() if way is None else way.athrough(sending, entered=True)

    def _connection(self, settings: Mapping[str, Any]) -> Connection:
        from refrase_integrations.client.connection import connect

        return connect(
            self.host,
            self.base_url,
            self.api_key.get_secret_value() if self.api_key else None,
            timeout=settings.get("timeout"),
            headers=self.default_headers,
            query=self.default_query,
            http_client=self.http_client,
            http_async_client=self.http_async_client,
            plain_stream=self.plain_stream,
        )


def _times(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits in time of one call, which began as its settings were put together."""
    return {
        "deadline": Deadline(checked_seconds("deadline", settings["deadline"]), settings.get("begun")),
        "stall_timeout": checked_seconds("stall_timeout", settings["stall_timeout"]),
    }
