"""`Practices`: which practice applies how, and the few figures that go with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.practice import Mode, Practice
from refrase_integrations.kimi.prompt.thresholds import DEFAULTS as PROMPT_DEFAULTS
from refrase_integrations.kimi.prompt.thresholds import PromptThresholds

_MODES = get_args(Mode)


class Practices(BaseModel):
    """Settings of the practices. Each is "apply", "warn" (say so, change nothing), "error" (refuse) or "off".

    A field that is left out keeps the practice's own default (``refrase-kimi practices`` lists them). Layers merge
    key by key: call over middleware over model over default. Registered practices go by their id with "_".

    ```python
    from refrase_integrations import Practices
    Practices(temperature="off", system_prompt="warn")
    ```
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    system_prompt: Mode | None = None
    concise_prompt: Mode | None = None
    fresh_data: Mode | None = None
    grounding: Mode | None = None
    verbosity: Mode | None = None
    vision: Mode | None = None
    special_tokens: Mode | None = None
    history: Mode | None = None
    loop_guard: Mode | None = None
    structured_output: Mode | None = None
    tool_format: Mode | None = None
    tool_schemas: Mode | None = None
    tool_names: Mode | None = None
    tool_choice: Mode | None = None
    thinking: Mode | None = None
    sampling: Mode | None = None
    temperature: Mode | None = None
    anthropic_temperature: Mode | None = None
    context_window: Mode | None = None
    output_budget: Mode | None = None
    tool_ids: Mode | None = None
    prompt_cache: Mode | None = None
    empty_reply: Mode | None = None
    reasoning_as_answer: Mode | None = None
    tool_call_recovery: Mode | None = None
    reasoning_replay: Mode | None = None

    extra_calls: int = Field(default=2, ge=0, le=10)
    """Most extra model calls in one user call, for all reasons together."""
    tool_repair: Literal["auto", "reask", "off"] = "auto"
    """Whether unusable tool calls are asked for once more inside the call: "auto" only where every call of a reply
    is unusable (an agent would end there silently)."""
    loop_limit: int = Field(default=12, ge=0)
    """Identical tool calls in a row of which the last one is not made any more; 0: no limit."""
    prompt_thresholds: PromptThresholds = PROMPT_DEFAULTS
    """When concise-prompt calls a system prompt long, rule-heavy and so on; a dict will do."""
    forced_choice: Literal["error", "advise"] = "error"
    """What becomes of a reply without a usable tool call where one was forced, also when asked once more: an error
    (`ToolCallMissing`), or a note in the report (an agent that waits for the call may then end without a word)."""
    unanswered: Literal["error", "advise"] = "error"
    """What becomes of a reply with neither text nor a tool call, also when asked once more: an error (`EmptyReply`), or
    the empty reply itself, with a note in the report."""
    undeclared_calls: Literal["invalid", "keep"] = "invalid"
    """What becomes of a call to a tool that the request did not declare, where asking once more did not help: an
    invalid call with the reason, which nobody runs (a tool node may know more tools than the model was given), or a
    call like any other, for an app that judges it itself, as `KimiMiddleware` does."""
    answer_tokens: int | None = Field(default=None, gt=0)
    """Target of the practice verbosity: output tokens of an answer; None: 40 for each of ``answer_sentences``, else 200
    (a choice of ours: no source gives a figure)."""
    answer_sentences: int | None = Field(default=None, gt=0)
    """The same target in sentences, as the prompt says it; None: one for each 40 of ``answer_tokens``."""
    everything: Literal["off"] | None = None
    """"off" turns every practice off that is not set by name."""

    @model_validator(mode="after")
    def _check(self) -> Practices:
        if self.loop_limit == 1:
            raise ValueError("loop_limit: 1 would forbid every tool call; use 0 (no limit) or at least 2")
        for name, mode in (self.__pydantic_extra__ or {}).items():
            from refrase_integrations.kimi.practices import known_ids

            if name.replace("_", "-") not in known_ids():
                known = ", ".join(sorted(practice.replace("-", "_") for practice in known_ids()))
                raise ValueError(f"unknown practice {name[:80]!r}; known: {known}")
            if mode not in _MODES:
                raise ValueError(f"{name}: mode must be one of {', '.join(_MODES)}")
        return self

    @classmethod
    def of(cls, value: Practices | Mapping[str, Any] | str | None) -> Practices:
        """Read any of the accepted forms: settings, a plain dict (keys with "-" or "_"), "off", or None.

        Raises:
            ConfigurationError: for an unknown practice or mode.
        """
        if value is None:
            return DEFAULTS
        if isinstance(value, Practices):
            return value
        if value == "off":
            return cls(everything="off")
        if isinstance(value, Mapping):
            try:
                return cls(**{str(key).replace("-", "_"): mode for key, mode in value.items()})
            except ValidationError as error:
                problems = "; ".join(
                    f"{'.'.join(map(str, item['loc']))[:80] or 'practices'}: {item['msg']}" for item in error.errors()
                )
                raise ConfigurationError(f"practices: {problems}") from None
        raise ConfigurationError(f"practices must be Practices, a dict or 'off', not {type(value).__name__}")

    @classmethod
    def merged(cls, *layers: Practices | Mapping[str, Any] | str | None) -> Practices:
        """Merge settings in any of the accepted forms, the nearest first; see `of` and `over`."""
        nearest, *lower = map(cls.of, layers)
        return nearest.over(*lower)

    def over(self, *lower: Practices) -> Practices:
        """Return these settings laid over ``lower`` ones (nearest first), key by key; only keys really given count."""
        given = [layer for layer in (self, *lower) if layer.model_fields_set]
        if len(given) < 2:
            return given[0] if given else self
        merged: dict[str, Any] = {}
        for layer in reversed(given):
            if layer.everything == "off":
                merged = {}
            merged.update({name: getattr(layer, name) for name in layer.model_fields_set})
        return type(self)(**merged)

    def mode(self, practice: Practice) -> Mode:
        """Return the mode of a practice under these settings."""
        chosen: Mode | None = self.__dict__.get(practice.setting)
        if chosen is None and self.__pydantic_extra__:
            chosen = self.__pydantic_extra__.get(practice.setting)
        return chosen or self.everything or practice.default


DEFAULTS = Practices()

Settings = Practices | dict[str, Any] | Literal["off"] | None
"""What a user may give for the practices."""
Thinking = bool | Literal["auto"] | None
"""What a user may give for the thinking switch of a model that is wrapped."""
