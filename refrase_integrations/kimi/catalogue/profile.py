"""The shape of the catalogue: what is recorded of a model and of a host, with units, defaults and sources.

A profile is made of *fact groups* (`Facts`); each names its sources, and says in ``note`` where they disagree
and the safest value was kept. Profiles are immutable and compare by identity: a replaced profile is another
key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["instruct", "thinking"]
"""Whether a model reasons in a call: ``instruct`` (it cannot, or it is switched off) or ``thinking``."""
ToolChoice = Literal["none", "auto", "required", "named"]
ResponseFormat = Literal["json_object", "json_schema"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Value):
    """Where a fact comes from."""

    address: str
    """Address of the page, or name of the document or repository."""
    as_of: date | None = None
    """Date on which it said so; None: not recorded."""
    grade: Literal["A", "B", "C"] = "C"
    """A: official or measured. B: a public file that quotes the official page. C: third party only."""


class Facts(_Value):
    """A group of facts that share their sources."""

    source: tuple[Source, ...] = ()
    """Never empty in the shipped catalogue; a user's own profiles may leave it out."""
    note: str = ""
    """Where sources disagree or are silent: what was kept and why."""


# -- models ----------------------------------------------------------------------------------------------


class Identity(Facts):
    """What a model is called and where it comes from."""

    weights: str | None = None
    """Repository of the open weights on Hugging Face; None: not published."""
    aliases: tuple[str, ...] = ()
    """Further names that mean this model, beside its id, its weights and the hosts' spellings."""
    released: date | None = None
    """Day of the first release."""
    knowledge_cutoff: str | None = None
    """As documented by Moonshot; None: no statement was found."""
    replaced_by: str | None = None
    """Id of the model to move to where this one is retired: the nearest live one of Moonshot's own platform."""


class Limits(Facts):
    """Sizes, in tokens."""

    window: int = Field(default=131_072, gt=0)
    """Context window: prompt and output together."""
    output_max: int = Field(default=131_072, gt=0)
    """Largest output limit that the model itself allows (hosts may allow less)."""
    output_default: int = Field(default=32_768, gt=0)
    """Output limit to send where the user set none."""
    thinking_floor: int = Field(default=16_000, ge=0)
    """Least output limit with thinking on."""


class Recommended(Facts):
    """Recommended sampling, by state; nothing recommended means that nothing is pinned."""

    temperature: Mapping[State, float] = {}
    """Real temperature, not scaled for any protocol."""
    top_p: float | None = None
    """Nucleus sampling, 0 to 1."""


class Thinking(Facts):
    """How the model reasons."""

    mode: Literal["instruct", "thinking", "hybrid"] = "thinking"
    """``instruct``: it cannot. ``thinking``: it always does. ``hybrid``: it can be switched."""
    default: bool = True
    """State of a hybrid that nobody switched."""
    keep: Literal["none", "optional", "always"] = "none"
    """Preserved thinking over turns: not available, asked for (``keep: "all"``), or always on."""
    efforts: tuple[str, ...] = ()
    """Levels of reasoning effort on Moonshot's own API; empty: no levels."""


class Tools(Facts):
    """Native form of the model's tool calls."""

    format: Literal["k2", "k3"] | None = "k2"
    """``k2``: ``<|tool_calls_section_begin|>`` text, ids ``functions.{name}:{index}``. ``k3``: another, no
    ids."""


class Official(Facts):
    """What Moonshot's own API takes for this model; other hosts have their own rules (`HostProfile`)."""

    fixed_sampling: bool = True
    """It fixes temperature, top_p, n and the penalties, and refuses any other value."""
    tool_choices: Mapping[State, frozenset[ToolChoice]] = {}
    """Accepted values by state; a state that is missing takes none and auto."""
    response_formats: frozenset[ResponseFormat] = frozenset({"json_object"})
    """Accepted structured response formats."""
    web_search: frozenset[State] = frozenset()
    """States in which the builtin ``$web_search`` works."""
    message_fields: frozenset[str] = frozenset()
    """Message fields that only this model takes, beside the host's."""


class Modalities(Facts):
    """What the model can be shown beside text."""

    image: bool = False
    """It sees images."""
    video: bool = False
    """It sees video."""


class Prompt(Facts):
    """Documented prompt text."""

    default_system: str | None = None
    """System prompt to use where there is none; None: none is documented."""
    template: Literal["k2", "k25"] = "k25"
    """Chat template, for counting: ``k2`` declares tools as compact JSON, ``k25`` in TypeScript's form."""


class Price(_Value):
    """USD per million tokens."""

    input: float = Field(ge=0)
    """Prompt tokens that were not read from a cache."""
    output: float = Field(ge=0)
    """Reply tokens, reasoning included."""
    cached_input: float | None = Field(default=None, ge=0)
    """Prompt tokens read from the host's cache; None: no discount known."""
    batch: float | None = Field(default=None, gt=0, le=1)
    """Factor on all prices in the host's batch API; None: not offered for this model."""


class Served(Facts):
    """One model on one host."""

    names: tuple[str, ...] = ()
    """The host's spellings; the first is the one to send."""
    status: Literal["live", "retired"] = "live"
    """As of the source's date."""
    until: date | None = None
    """Day on which the host removes or removed it, where known."""
    window: int | None = Field(default=None, gt=0)
    """Context window in tokens where the host has a smaller one."""
    output_max: int | None = Field(default=None, gt=0)
    """Largest output limit in tokens where the host has a smaller one."""
    price: Price | None = None
    """None: not recorded."""


class ModelProfile(_Value):
    """Everything that is known of one model."""

    id: str = Field(min_length=1)
    """Canonical id: the one of Moonshot's own API."""
    name: str = ""
    """For people."""
    known: bool = True
    """False: nothing is recorded, all values are safe defaults."""
    identity: Identity = Identity()
    limits: Limits = Limits()
    sampling: Recommended = Recommended()
    thinking: Thinking = Thinking()
    tools: Tools = Tools()
    official: Official = Official()
    modalities: Modalities = Modalities()
    structured_output: Facts = Facts()
    """Only a note: how far its structured output can be trusted."""
    prompt: Prompt = Prompt()
    hosts: Mapping[str, Served] = {}
    """By host id. Self-hosted servers are not listed: they serve any open weights."""

    def served_by(self) -> tuple[str, ...]:
        """Return the ids of the hosts that serve this model, as far as recorded."""
        return tuple(host for host, served in self.hosts.items() if served.status == "live")

    def price(self, host: str) -> Price | None:
        """Return the price on the host with the id ``host``, or None where it is not recorded."""
        served = self.hosts.get(host)
        return served.price if served else None

    def spellings(self) -> Iterator[str]:
        """Yield every recorded name of this model, the canonical id first."""
        yield self.id
        if self.identity.weights:
            yield self.identity.weights
        yield from self.identity.aliases
        for served in self.hosts.values():
            yield from served.names

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


# -- hosts -----------------------------------------------------------------------------------------------


class Endpoint(Facts):
    """Where the host is and how to be let in."""

    protocol: Literal["openai", "anthropic", "converse"] = "openai"
    """Wire protocol: OpenAI chat completions, Anthropic messages, or AWS Converse."""
    base_url: str | None = None
    """Base URL to use where the user gives none; None: the user has to."""
    addresses: tuple[str, ...] = ()
    """Patterns that recognise a base URL: a host name, in which ``*`` stands for anything within one label,
    perhaps followed by a path."""
    key_env: tuple[str, ...] = ()
    """Environment variables that may hold the key, first match wins."""
    url_env: tuple[str, ...] = ()
    """Environment variables that may hold the base URL, first match wins."""
    keyless: bool = False
    """It works without a key (self-hosted): a placeholder is sent where none is given."""
    docs: str | None = None
    """Address of its documentation."""


class Spelling(Facts):
    """How the host names models."""

    models: Mapping[str, tuple[str, ...]] = {}
    """Canonical id to this host's names, beside what the models' own profiles say."""
    variants: bool = False
    """Names may end in a routing suffix such as ``:free`` or ``:nitro``."""
    weights: bool = False
    """A server names a model after its weights repository unless told otherwise."""


class HostSampling(Facts):
    """Ranges of sampling parameters where the model does not fix them."""

    temperature_max: float = Field(default=2.0, gt=0)
    """Largest accepted temperature."""
    n_max: int | None = Field(default=None, ge=1)
    """Most replies to one request; None: no limit documented."""
    temperature_divisor: float = Field(default=1.0, gt=0)
    """The host multiplies what it gets by this: divide the real temperature by it before sending."""


class HostThinking(Facts):
    """How the host switches the thinking of a hybrid model."""

    on: Mapping[str, Any] = {}
    """Merged into the body to switch it on; empty: no switch is documented."""
    off: Mapping[str, Any] = {}
    """Merged into the body to switch it off; empty: no switch is documented."""
    keep: Mapping[str, Any] = {}
    """Merged on top of ``on`` to keep earlier reasoning, for models where that is optional."""
    default: Literal["model", "on", "off", "unknown"] = "unknown"
    """State that nobody switched: the model's own or the host's; ``unknown`` is always switched
    explicitly."""
    effort: str | None = None
    """Body field (dotted) for the reasoning effort, for models that have levels."""


class HostTools(Facts):
    """Tools and tool calls."""

    choices: Mapping[State, frozenset[ToolChoice]] = {}
    """Accepted ``tool_choice`` values for models that cannot reason (``instruct``) and for those that can
    (``thinking``, also while switched off: the server's reasoning parser stays on); a missing state takes
    none and auto."""
    name: str = r"[a-zA-Z0-9_-]{1,64}"
    """Pattern that a tool's name must match in full."""
    limit: int | None = Field(default=None, ge=1)
    """Most tools in one request; None: no limit documented."""
    ids: Literal["any", "native"] = "any"
    """``native``: ids are rendered into the model's open chat template, which needs
    ``functions.{name}:{index}``."""
    sound_calls: bool = False
    """Its tool calls need no repair."""
    schema_flavour: Literal["mfjs", "json"] = "json"
    """``mfjs``: only Moonshot-flavoured JSON schema is accepted."""


class HostOutput(Facts):
    """Output limits, structured output and usage."""

    key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Body field for the output limit."""
    max: int | None = Field(default=None, gt=0)
    """Largest output limit in tokens for any model; None: the model's own."""
    response_formats: frozenset[ResponseFormat] = frozenset()
    """Accepted structured response formats."""
    usage: tuple[str, ...] = ("usage", "choices.usage", "cached_tokens")
    """Places where usage may stand."""
    stream_usage: bool = True
    """It takes ``stream_options: {"include_usage": true}``."""


class HostMessages(Facts):
    """Messages, as the host takes them and gives them back."""

    fields: frozenset[str] = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
    """Accepted message fields, beside the reasoning fields."""
    part_fields: frozenset[str] = frozenset({"type", "text", "image_url", "video_url"})
    """Accepted fields of a content part with text, an image or a video."""
    blank_content: Literal["omit", "null", "empty"] = "null"
    """What blank content beside tool calls must look like."""
    reasoning_in: tuple[str, ...] = ("reasoning_content", "reasoning")
    """Reply fields that may hold reasoning text, in order of preference."""
    reasoning_out: str = "reasoning_content"
    """Field to send reasoning back in where the message remembers none; empty: the host takes none."""
    reasoning_fields: frozenset[str] = frozenset({"reasoning_content"})
    """Every reasoning field accepted on a message."""
    reasoning_required: bool = False
    """A thinking model's tool call without its reasoning is refused."""
    images: bool = True
    """It passes images on to models that see."""
    media: tuple[str, ...] = ()
    """How the address of an image or video must begin, such as ``"data:"``; empty: any address is fetched."""
    partial: bool = False
    """It continues a given prefix (Moonshot's partial mode)."""


class HostFeatures(Facts):
    """What the host offers beside chat completions."""

    web_search: bool = False
    """Moonshot's builtin ``$web_search``."""
    formula: bool = False
    """Moonshot's Formula tools (``/v1/formulas``)."""
    batch: bool = False
    """Moonshot's Batch API (``/v1/batches``)."""
    cache_key: str | None = None
    """Body field for a stable prompt-cache key."""


class Tier(_Value):
    """What an account may do that has paid in so much. None: no limit."""

    name: str
    """Such as ``"tier1"``."""
    paid_in: float = Field(ge=0)
    """What the account has paid in so far, at least, in `Tiers.currency`."""
    concurrency: int | None = Field(default=None, ge=1)
    """Requests at the same time."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests in a minute."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Prompt tokens and requested output limits in a minute."""
    tokens_per_day: int | None = Field(default=None, ge=1)
    """The same in a day."""


class Tiers(Facts):
    """Rate limits of an account as a whole, by what was paid in."""

    currency: Literal["USD", "CNY"] = "USD"
    """Of what was paid in."""
    levels: tuple[Tier, ...] = ()
    """Lowest first; empty: none is documented."""


class HostProfile(_Value):
    """Everything that is known of one host."""

    id: str = Field(min_length=1)
    """Short id, such as ``"openrouter"``."""
    name: str = ""
    """For people."""
    official: bool = False
    """Moonshot's own serving: what `ModelProfile.official` says holds here."""
    self_hosted: bool = False
    """The user runs the server."""
    endpoint: Endpoint = Endpoint()
    spelling: Spelling = Spelling()
    sampling: HostSampling = HostSampling()
    thinking: HostThinking = HostThinking()
    tools: HostTools = HostTools()
    output: HostOutput = HostOutput()
    messages: HostMessages = HostMessages()
    features: HostFeatures = HostFeatures()
    tiers: Tiers = Tiers()
    quirks: tuple[Facts, ...] = ()
    """Known oddities, one note each."""

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)
