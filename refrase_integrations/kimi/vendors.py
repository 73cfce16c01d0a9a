"""What is known of models of other packages: which Kimi they ask for, and where. Read by attribute names, so that no
framework is needed here; each adapter has a table of the classes of its own framework.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.catalogue import find_host
from refrase_integrations.kimi.catalogue.profile import HostProfile
from refrase_integrations.kimi.practice import Change, Practice, Prepared

WRAPPER = Practice(id="wrapper", statement="Says what the wrapped model does not let through.", sources=())
"""Not a setting: the report names what no practice can change."""
FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "refusal": "content_filter",
}
"""Finish reasons of other protocols, in the words of the OpenAI form."""
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "n": ("n",),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
    "seed": ("seed",),
    "stop": ("stop", "stop_sequences"),
    "max_tokens": ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "num_output"),
}
"""Our settings, and the attributes that models keep them under."""
LITELLM_ROUTES: Mapping[str, str] = {
    "moonshot": "moonshot",
    "openrouter": "openrouter",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "deepinfra": "deepinfra",
    "novita": "novita",
    "groq": "groq",
    "baseten": "baseten",
    "nvidia_nim": "nvidia",
    "azure_ai": "azure",
    "bedrock": "bedrock",
    "dashscope": "dashscope",
    "huggingface": "huggingface",
    "vertex_ai": "vertex",
    "hosted_vllm": "vllm",
    "openai": "",
    "custom_openai": "",
    "litellm_proxy": "",
}
"""Ids of hosts by LiteLLM's providers (docs.litellm.ai/docs/providers); empty: only the address tells."""


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """How one package's model tells what it is."""

    model: tuple[str, ...] = ("model_name", "model", "model_id")
    """Attributes, dotted, that may name the model; the first one set counts."""
    address: tuple[str, ...] = ("base_url", "api_base", "endpoint_url")
    """Attributes, dotted, that may hold the endpoint; the first one set counts."""
    host: str | None = None
    """Id of the host that the class leads to where no endpoint is set."""
    routes: Mapping[str, str] = field(default_factory=dict)
    """Ids of hosts by the first part of the model's name, for a class that routes by it; empty: the address tells."""
    elsewhere: str | None = None
    """Its own address, where no Kimi model is served."""

    def name_of(self, model: Any) -> str | None:
        """Return the name under which a model of this class asks for its model, or None where it does not tell."""
        name = _first(model, self.model)
        route, slash, rest = (name or "").partition("/")
        return rest if slash and route in self.routes else name

    def url_of(self, model: Any) -> str | None:
        """Return the endpoint that is set on a model of this class, or None where none is."""
        return _first(model, self.address)

    def host_of(self, model: Any, host: str | None = None) -> HostProfile:
        """Return the host that a model of this class sends to.

        Args:
            model: the model.
            host: id of the host, where the user names it.

        Raises:
            ConfigurationError: neither the model nor the user tells, or the address is one where no Kimi model is
                served.
        """
        if host is not None:
            return find_host(host)
        kind = type(model).__name__
        url = self.url_of(model)
        if url is not None:
            if self.elsewhere is not None and url.startswith(self.elsewhere):
                raise ConfigurationError(
                    f"{kind} sends to {self.elsewhere}, which serves no Kimi model: give it the address of a host that "
                    "does, or name the host with with_kimi_practices(model, host=...)"
                )
            return find_host(None, url)
        route = (_first(model, self.model) or "").partition("/")[0]
        known = self.routes.get(route, self.host)
        if not known:
            raise ConfigurationError(
                f"{kind} does not tell where it sends: name the host with with_kimi_practices(model, host=...), such "
                "as 'moonshot', 'vllm' or 'openrouter' (`refrase-kimi hosts` lists them)"
            )
        return find_host(known)


def not_sent(model: Any, fields: Iterable[str], instead: str) -> Change:
    """Say which fields of a request a wrapped model does not take; ``instead``: the class that sends them."""
    said = f"{type(model).__name__} does not take {', '.join(sorted(fields))} (fields of the request): not sent."
    return Change("advise", f"{said} {instead} sends all.")


def refuse_auto(prepared: Prepared, model: Any, lost: Iterable[str], instead: str) -> None:
    """Refuse ``thinking="auto"`` where a wrapped model would drop the switch: the model would go on as it is.

    Args:
        prepared: the request.
        model: the wrapped model.
        lost: fields of the request that it does not take.
        instead: the class that sends them.

    Raises:
        ConfigurationError: it would.
    """
    dialect = prepared.call.dialect
    switches = sorted(dialect.thinking_patch.keys() & set(lost))
    if prepared.call.auto and dialect.switchable and switches:
        raise ConfigurationError(
            f"thinking='auto' cannot work through {type(model).__name__}: it does not send {', '.join(switches)}, the "
            f"switch on {dialect.host.id}. Leave thinking to the model, or use {instead}."
        )


def no_reasoning(model: Any, instead: str) -> Change:
    """Say that a wrapped model handed out no reasoning; ``instead``: the class that does."""
    words = f"no reasoning came through {type(model).__name__}: your app and the next turn do without."
    return Change("advise", f"{words} {instead} keeps it.")


def _first(model: Any, paths: tuple[str, ...]) -> str | None:
    for path in paths:
        value = model
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        if value is not None and str(value):
            return str(value)
    return None
