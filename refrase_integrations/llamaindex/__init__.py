"""Kimi K2 for LlamaIndex."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refrase_integrations.errors import MissingExtra

if TYPE_CHECKING:
    from refrase_integrations.llamaindex.formula import aformula_tools as aformula_tools
    from refrase_integrations.llamaindex.formula import formula_tools as formula_tools
    from refrase_integrations.llamaindex.llm import Kimi as Kimi
    from refrase_integrations.llamaindex.memory import arepair_memory as arepair_memory
    from refrase_integrations.llamaindex.memory import repair_memory as repair_memory
    from refrase_integrations.llamaindex.memory import repair_messages as repair_messages
    from refrase_integrations.llamaindex.refraser import Refraser as Refraser
    from refrase_integrations.llamaindex.step import PromptEvent as PromptEvent
    from refrase_integrations.llamaindex.step import RefrasedEvent as RefrasedEvent
    from refrase_integrations.llamaindex.step import RefraseStep as RefraseStep
    from refrase_integrations.llamaindex.wrapper import with_kimi_practices as with_kimi_practices

__all__ = [
    "Kimi",
    "PromptEvent",
    "RefraseStep",
    "RefrasedEvent",
    "Refraser",
    "aformula_tools",
    "arepair_memory",
    "formula_tools",
    "repair_memory",
    "repair_messages",
    "with_kimi_practices",
]
_HOMES = {
    "Kimi": "llm",
    "PromptEvent": "step",
    "RefraseStep": "step",
    "RefrasedEvent": "step",
    "Refraser": "refraser",
    "aformula_tools": "formula",
    "arepair_memory": "memory",
    "formula_tools": "formula",
    "repair_memory": "memory",
    "repair_messages": "memory",
    "with_kimi_practices": "wrapper",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        module = import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("llama_index"):
            raise MissingExtra(f"refrase_integrations.llamaindex.{name}", "llamaindex") from error
        raise
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
