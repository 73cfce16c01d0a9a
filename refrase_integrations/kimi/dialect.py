"""What one model on one host wants: the answer to every "is this Moonshot?" and "is this K2.5?"."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

from refrase_integrations.kimi.catalogue import wire_model_id
from refrase_integrations.kimi.catalogue.loading import merged
from refrase_integrations.kimi.catalogue.profile import HostProfile, ModelProfile, State
from refrase_integrations.kimi.usage import cost
from refrase_integrations.kimi.wire import NOTHING, Usage

SWITCHES: frozenset[str] = frozenset(
    {
        "thinking",
        "reasoning_effort",
        "enable_thinking",
        "think",
        "reasoning.enabled",
        "chat_template_kwargs.thinking",
        "chat_template_kwargs.enable_thinking",
        "chat_template_args.enable_thinking",
    }
)
"""Every known body field that switches thinking on some host, dotted. Two at once may be refused."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """What a dialect wants of one sampling parameter.

    ``pin``: always send ``value``. ``omit``: never send it, the host fixes it and refuses any other value.
    ``range``: send the user's value, clamped to ``low``..``high``; ``value`` is sent where the user set none.
    """

    rule: Literal["pin", "omit", "range"]
    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Dialect:
    """Everything that a request and its reply need to know about the model and the host. Immutable."""

    model: ModelProfile
    """For words and prices only, never asked for behaviour."""
    host: HostProfile
    """For words and prices only, never asked for behaviour."""
    model_id: str
    """The model's name in this host's spelling."""
    sampling: Mapping[str, Sampling]
    """Per parameter: temperature, top_p, n, presence_penalty, frequency_penalty."""
    thinking: bool
    """Whether the model reasons in this call."""
    switchable: bool
    """The model takes a switch for thinking on this host."""
    tool_choices: frozenset[str]
    """Which of none, auto, required, named the host takes for this model."""
    tool_name: str
    """Pattern that a tool's name must match in full."""
    tool_limit: int
    """Most tools in one request (``sys.maxsize``: no limit documented)."""
    output_key: str
    """``max_tokens`` or ``max_completion_tokens``."""
    output_default: int
    """Output limit sent where the user set none, in tokens."""
    output_max: int
    """Largest output limit that the host takes, in tokens."""
    window: int
    """Context window, in tokens: prompt and output together."""
    template: Literal["k2", "k25"] = "k25"
    """Chat template, for counting tokens."""
    keeps_reasoning: bool = False
    """The reasoning of every turn is in the prompt; else only that of the current one."""
    output_floor: int = 0
    """Least output limit that leaves room for reasoning and an answer, in tokens (0: none)."""
    temperature_divisor: float = 1.0
    """Divide the real temperature by this at the edge (0.6 on the 2025 Anthropic-protocol endpoint)."""
    thinking_patch: Mapping[str, Any] = field(default=NOTHING)
    """Merged into the body to switch thinking as wanted; nested dicts are merged key by key."""
    thinking_keys: frozenset[str] = frozenset()
    """Every known switch, dotted for nested ones; one that is not in the patch is removed from the body."""
    default_system: str | None = None
    """The documented default system prompt."""
    tool_ids: Literal["any", "native"] = "any"
    """Form of tool-call ids on the wire: ``native`` is ``functions.{name}:{index}``."""
    tool_format: Literal["k2", "k3"] | None = None
    """Native tool-call text that may leak into the reply."""
    sound_calls: bool = False
    """The host's tool calls need no repair, so that fragments may pass as they come."""
    schema: Literal["mfjs", "json"] = "json"
    """Flavour of tool parameters and response schemas."""
    response_formats: frozenset[str] = frozenset()
    """Which of json_object, json_schema the host takes for this model."""
    reasoning_in: tuple[str, ...] = ("reasoning_content", "reasoning")
    """Fields to read reasoning from, in order."""
    reasoning_out: str | None = None
    """Field to write reasoning to where the message remembers none; None: the host takes none."""
    reasoning_fields: frozenset[str] = frozenset()
    """Every reasoning field that the host accepts on a message."""
    reasoning_required: bool = False
    """Lost reasoning of an assistant message with tool calls must become one space."""
    blank_content: Literal["omit", "null", "empty"] = "null"
    """What blank content beside tool calls must look like."""
    message_fields: frozenset[str] = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
    """Only these fields of a message leave the house (the reasoning fields come on top)."""
    part_fields: frozenset[str] = frozenset({"type", "text", "image_url", "video_url"})
    """Only these fields of a content part leave the house."""
    vision: bool = False
    """The model sees images."""
    video: bool = False
    """The model sees video."""
    media: tuple[str, ...] = ()
    """How the address of an image or video must begin; empty: any will do."""
    partial: bool = False
    """The host continues a given prefix (Moonshot's partial mode)."""
    web_search: bool = False
    """The host has the builtin ``$web_search``."""
    cache_key: str | None = None
    """Body field for a stable prompt-cache key, if the host takes one."""
    usage_in: tuple[str, ...] = ("usage", "choices.usage", "cached_tokens")
    """Places where the host may put usage."""
    stream_usage: bool = True
    """The host takes ``stream_options: {"include_usage": true}``."""

    def cost(self, usage: Usage) -> float | None:
        """Return the US dollars of a call's usage, or None where no price is known; see `usage.cost`."""
        return cost(usage, self.model.price(self.host.id))

    def __repr__(self) -> str:
        return f"Dialect({self.model_id!r} on {self.host.id!r}, thinking={self.thinking})"


def compile_dialect(
    model: ModelProfile, host: HostProfile, thinking: bool | None = None, name: str | None = None
) -> Dialect:
    """Work out what ``model`` wants on ``host``. Pure and cached: the same arguments give the same object.

    Profiles compare by identity, so a profile that was registered anew is compiled anew.

    Args:
        model: from `find_model`.
        host: from `find_host`.
        thinking: whether the model is to reason; None: its default. What cannot be had becomes the nearest
            that can: `Dialect.thinking` tells what is really on.
        name: the model as the user wrote it; None: its canonical id.

    Returns:
        The dialect. The thinking switch is part of it only where the wanted state is not the host's default,
        or the default is not documented, or the model keeps earlier reasoning only when asked (Kimi K2.6 on
        Moonshot's API).
    """
    return _compile(model, host, thinking, model.id if name is None else name)


@lru_cache(maxsize=512)
def _compile(model: ModelProfile, host: HostProfile, wish: bool | None, name: str) -> Dialect:
    thinking = _thinks(model, host, wish)
    state: State = "thinking" if thinking else "instruct"
    official = model.official if host.official else None
    served = model.hosts.get(host.id)
    formats = host.output.response_formats
    caps = (model.limits.output_max, served.output_max if served else None, host.output.max)
    output_max = min(cap for cap in caps if cap is not None)
    floor = min(model.limits.thinking_floor, output_max) if thinking else 0
    fixed = official is not None and official.fixed_sampling
    # The server's reasoning parser stays on while a hybrid's thinking is off, so a hybrid counts as thinking.
    kind: State = "instruct" if model.thinking.mode == "instruct" else "thinking"
    choices = official.tool_choices.get(state) if official else host.tools.choices.get(kind)
    return Dialect(
        model=model,
        host=host,
        model_id=wire_model_id(name, model, host),
        sampling=MappingProxyType(_sampling(model, host, state, fixed=fixed)),
        temperature_divisor=1.0 if fixed else host.sampling.temperature_divisor,
        thinking=thinking,
        switchable=_switchable(model, host),
        thinking_patch=MappingProxyType(_switch(model, host, on=thinking)),
        thinking_keys=_switches(model, host),
        default_system=model.prompt.default_system,
        template=model.prompt.template,
        keeps_reasoning=model.thinking.keep == "always" or _keeps(model, host, on=thinking),
        tool_choices=frozenset[str](choices or ("none", "auto")),
        tool_name=host.tools.name,
        tool_limit=host.tools.limit or sys.maxsize,
        tool_ids=host.tools.ids if model.tools.format == "k2" else "any",
        tool_format=model.tools.format,
        sound_calls=host.tools.sound_calls,
        schema=host.tools.schema_flavour,
        response_formats=frozenset[str](formats & official.response_formats if official else formats),
        reasoning_in=host.messages.reasoning_in,
        reasoning_out=host.messages.reasoning_out or None,
        reasoning_fields=host.messages.reasoning_fields,
        # A message keeps its form when a later call switches thinking, so this depends on the model alone.
        reasoning_required=kind == "thinking" and host.messages.reasoning_required,
        blank_content=host.messages.blank_content,
        message_fields=host.messages.fields | (official.message_fields if official else frozenset()),
        output_key=host.output.key,
        output_default=max(min(model.limits.output_default, output_max), floor),
        output_floor=floor,
        output_max=output_max,
        window=(served and served.window) or model.limits.window,
        part_fields=host.messages.part_fields,
        vision=model.modalities.image and host.messages.images,
        video=model.modalities.video and host.messages.images,
        media=host.messages.media,
        partial=host.messages.partial,
        web_search=host.features.web_search and official is not None and state in official.web_search,
        cache_key=host.features.cache_key,
        usage_in=host.output.usage,
        stream_usage=host.output.stream_usage,
    )


def _thinks(model: ModelProfile, host: HostProfile, wish: bool | None) -> bool:
    """Return whether the model will reason: the wish where it can be had, else the nearest state."""
    if model.thinking.mode != "hybrid":
        return model.thinking.mode == "thinking"
    if _switchable(model, host):
        return model.thinking.default if wish is None else wish
    return _unswitched(model, host)


def _switchable(model: ModelProfile, host: HostProfile) -> bool:
    return model.thinking.mode == "hybrid" and bool(host.thinking.on and host.thinking.off)


def _unswitched(model: ModelProfile, host: HostProfile) -> bool:
    """Return the state of a hybrid that nobody switches; an undocumented host is taken to keep its own."""
    default = host.thinking.default
    return default == "on" if default in ("on", "off") else model.thinking.default


def _switch(model: ModelProfile, host: HostProfile, *, on: bool) -> dict[str, Any]:
    """Return what has to be merged into the body so that thinking is ``on``."""
    if model.thinking.mode != "hybrid":
        return {}
    keep = host.thinking.keep if _keeps(model, host, on=on) else {}
    if not keep and host.thinking.default != "unknown" and on == _unswitched(model, host):
        return {}
    return deepcopy(merged(host.thinking.on if on else host.thinking.off, keep))


def _keeps(model: ModelProfile, host: HostProfile, *, on: bool) -> bool:
    """Return whether this model is asked on this host to keep the reasoning of earlier turns."""
    return on and model.thinking.keep == "optional" and bool(host.thinking.keep)


def _switches(model: ModelProfile, host: HostProfile) -> frozenset[str]:
    """Return every known switch, except the field for levels of effort where model and host have them."""
    return SWITCHES - {host.thinking.effort} if model.thinking.efforts else SWITCHES


def _sampling(model: ModelProfile, host: HostProfile, state: State, *, fixed: bool) -> dict[str, Sampling]:
    if fixed:
        names = ("temperature", "top_p", "n", "presence_penalty", "frequency_penalty")
        return dict.fromkeys(names, Sampling("omit"))
    recommended = model.sampling.temperature.get(state)
    penalty = Sampling("range", low=-2.0, high=2.0)
    return {
        "temperature": (
            Sampling("range", low=0.0, high=host.sampling.temperature_max)
            if recommended is None
            else Sampling("pin", recommended)
        ),
        "top_p": Sampling("range", model.sampling.top_p, low=0.0, high=1.0),
        "n": Sampling("range", low=1, high=host.sampling.n_max),
        "presence_penalty": penalty,
        "frequency_penalty": penalty,
    }
