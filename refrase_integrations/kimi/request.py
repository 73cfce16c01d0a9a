"""From a model's settings and a call's arguments to a `Call`: what every adapter needs, in one place.

An adapter turns its framework's messages, tools and schemas into wire form; what is done with them is decided here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from refrase_integrations.errors import ConfigurationError, RefraseError
from refrase_integrations.kimi.catalogue import find_model, knows_model
from refrase_integrations.kimi.catalogue.profile import HostProfile
from refrase_integrations.kimi.deliberation import decide
from refrase_integrations.kimi.dialect import Dialect, compile_dialect
from refrase_integrations.kimi.fields import CALL_FIELDS
from refrase_integrations.kimi.inputs import checked_settings, checked_tools, diagnosed, names, whole
from refrase_integrations.kimi.practice import Call
from refrase_integrations.kimi.practices.thinking import wish
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.kimi.tokens import TokenCounter, counter
from refrase_integrations.kimi.wire import Body, Message, Tool

_log = logging.getLogger("refrase_integrations")

_OF_THE_MODEL = ("host", "base_url", "api_key")
_BODY_FIELDS = (
    "temperature", "top_p", "n", "presence_penalty", "frequency_penalty", "stop", "seed", "max_tokens",
    "max_completion_tokens", "response_format", "parallel_tool_calls", "reasoning_effort", "prompt_cache_key",
    "safety_identifier", "user", "logprobs", "top_logprobs", "logit_bias", "tools",
)  # fmt: skip
"""Settings that travel in the body under their own name, once they are in wire form."""


def layered(
    own: Mapping[str, Any], arguments: Mapping[str, Any], *, takes: frozenset[str] = CALL_FIELDS, instead: str
) -> dict[str, Any]:
    """Lay the arguments of one call over a model's own settings.

    Args:
        own: the model's settings; ``practices`` in any accepted form, ``extra_body`` a dict or None.
        arguments: the call's; None means not given.
        takes: names of the arguments that the model knows.
        instead: what to do instead of changing the host per call, for the error.

    Returns:
        Every setting of the call. ``practices`` are merged key by key, ``extra_body`` too; ``live_tools`` add up.

    Raises:
        ConfigurationError: an argument is unknown, or belongs to the model.
    """
    for name in _OF_THE_MODEL:
        if arguments.get(name) is not None:
            raise ConfigurationError(f"{name} cannot change per call; {instead}")
    unknown = arguments.keys() - takes
    if unknown:
        raise ConfigurationError(
            f"unknown call argument(s) {', '.join(sorted(unknown))}; the host's own fields go in extra_body={{...}}"
        )
    checked_settings(own)
    checked_settings(arguments)
    settings = {**own, **{name: value for name, value in arguments.items() if value is not None}}
    settings["practices"] = Practices.merged(arguments.get("practices"), own.get("practices"))
    settings["live_tools"] = frozenset(
        name for layer in (own, arguments) for name in names(layer.get("live_tools"), "live_tools")
    )
    settings["extra_body"] = {**(own.get("extra_body") or {}), **(arguments.get("extra_body") or {})}
    return settings


def dialect_of(settings: Mapping[str, Any], host: HostProfile) -> tuple[Dialect, bool | None]:
    """Return the dialect of a call, and the user's wish about thinking.

    The wish is ``thinking`` (a bool, or the wire form ``{"type": "disabled"}``), else what a switch in ``extra_body``
    says, else None. "auto" is None here: `build_call` decides it by what is asked.

    Raises:
        ConfigurationError: ``thinking`` is another text.
    """
    asked = settings.get("thinking")
    if isinstance(asked, str):
        if asked != "auto":
            raise ConfigurationError(f"thinking must be True, False, 'auto' or the wire form, not {asked!r}")
        asked = None
    if isinstance(asked, Mapping):
        asked = wish({"thinking": asked})
    if asked is None:
        asked = wish(settings.get("extra_body") or {})
    name = settings["model"]
    return compile_dialect(find_model(name), host, asked, name), asked


def build_call(
    settings: Mapping[str, Any],
    messages: list[Message],
    dialect: Dialect,
    *,
    stream: bool,
    count: TokenCounter,
    thinking: bool | None = None,
    thread_id: str | None = None,
    now: datetime | None = None,
    salt: str = "",
    origins: Sequence[Any] = (),
) -> Call:
    """Build the call of one request.

    Args:
        settings: from `layered`; ``tools`` and ``response_format`` in wire form, ``tool_choice`` in any form that
            `wire_choice` reads.
        messages: the conversation in wire form.
        dialect: of the model and the host.
        stream: whether the reply is to be streamed.
        count: the model's token counter.
        thinking: the user's wish, from `dialect_of`.
        thread_id: of the conversation, where the framework knows one.
        now: the time of the call.
        salt: distinguishes the tool-call ids of replies to which the host gave no response id.
        origins: the framework's own messages, one for each of ``messages``; see `Call.origins`.

    Raises:
        ConfigurationError: the tool choice is none of the known forms, or ``continue_on_length`` no number of times.
    """
    body: dict[str, Any] = {"model": settings["model"], "messages": messages}
    body.update({key: settings[key] for key in _BODY_FIELDS if settings.get(key) is not None})
    if not body.get("tools", True):
        del body["tools"]
    else:
        checked_tools(body.get("tools") or [])
    choice = wire_choice(settings.get("tool_choice"))
    if choice is not None:
        body["tool_choice"] = choice
    if stream:
        body["stream"] = True
        if dialect.stream_usage and settings.get("stream_usage") is not False:
            body["stream_options"] = {"include_usage": True}
    auto = ""
    if settings.get("thinking") == "auto":
        auto = "a switch in extra_body says so"
        if thinking is None:
            with diagnosed(body):
                thinking, auto = decide(cast(Body, body), dialect)
            dialect = compile_dialect(dialect.model, dialect.host, thinking, settings["model"])
    return Call(
        body=cast(Body, body),
        dialect=dialect,
        practices=settings["practices"],
        count=count,
        thinking=thinking,
        auto=auto,
        extra=settings.get("extra_body") or {},
        thread_id=thread_id,
        live_tools=frozenset(names(settings.get("live_tools"), "live_tools")),
        now=now,
        salt=salt,
        origins=tuple(zip(messages, origins, strict=True)) if origins else (),
        resumes=settings.get("max_retries") or 0,
        continues=whole(settings.get("continue_on_length") or 0, "continue_on_length", 0),
    )


def prompt_call(
    model: str,
    host: HostProfile,
    messages: list[Message],
    *,
    tools: list[Tool] | None,
    practices: Practices,
    now: datetime,
    live_tools: Iterable[str] = (),
) -> Call:
    """Build the call of a surface that changes the prompt alone, while somebody else sends the request.

    Args:
        model: the model that will read the prompt, in any host's spelling.
        host: where it runs.
        messages: the conversation in wire form.
        tools: the tools that the model has; None: unknown.
        practices: how each practice applies; only those on the prompt act.
        now: the time of the call.
        live_tools: names of the tools that the user marked as live.

    Returns:
        The call. For a model that the catalogue does not know it leaves the prompt as it is, after one line in the log:
        Kimi's practices are no matter of another vendor's model.
    """
    body: Body = {"model": model, "messages": messages}
    if tools:
        checked_tools(tools)
        body["tools"] = tools
    return Call(
        body=body,
        dialect=dialect_of({"model": model}, host)[0],
        practices=practices if _knows(model) else Practices.of("off"),
        count=counter(),
        scope="messages",
        tools_known=tools is not None,
        live_tools=frozenset(live_tools),
        now=now,
    )


def _knows(model: str) -> bool:
    known = knows_model(model)
    if not known and model not in _passed_over:
        _passed_over.add(model)
        _log.warning(
            "the model %r is not in the catalogue: its prompts stay as they are. If it is a Kimi model: "
            "refrase_integrations.kimi.catalogue.register_model()",
            model,
        )
    return known


_passed_over: set[str] = set()  # models whose prompts were left alone, and that was said

_ANTHROPIC_CHOICES = frozenset({"auto", "any", "none", "tool"})


def wire_choice(choice: Any) -> Any:
    """Return the wire form of a tool choice: "any" and True mean required, a tool's name means that tool. None and
    False mean nothing. Anthropic's form is read too.

    Raises:
        ConfigurationError: the choice is none of the known forms.
    """
    if choice is None or choice is False:
        return None
    if isinstance(choice, dict):
        kind = choice.get("type")
        if kind not in _ANTHROPIC_CHOICES or "function" in choice:
            return choice
        choice = choice.get("name") if kind == "tool" else kind
    if choice is True or choice == "any":
        return "required"
    if isinstance(choice, str):
        return choice if choice in ("auto", "none", "required") else {"type": "function", "function": {"name": choice}}
    raise ConfigurationError(f"tool_choice must be a string, a bool or a dict, not {type(choice).__name__}")


def field_error(model: type[BaseModel], error: ValidationError) -> RefraseError:
    """Return our own error for fields that do not fit: what is wrong with which, never the values."""
    problems = []
    for item in error.errors(include_url=False, include_input=False):
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, RefraseError):
            return cause
        name = ".".join(map(str, item["loc"]))[:80]
        if item["type"] == "extra_forbidden":
            close = get_close_matches(name, model.model_fields, n=1)
            hint = f"did you mean {close[0]}?" if close else "the host's own fields go in extra_body={...}"
            problems.append(f"{name}: no such field; {hint}")
        else:
            problems.append(f"{name}: {item['msg']}")
    return ConfigurationError(f"{model.__name__}: {'; '.join(problems)}")
