"""Kimi K2 for LangChain and LangGraph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refrase_integrations.errors import MissingExtra

if TYPE_CHECKING:
    from refrase_integrations.langchain.chat import ChatKimi as ChatKimi
    from refrase_integrations.langchain.formula import aformula_tools as aformula_tools
    from refrase_integrations.langchain.formula import formula_tools as formula_tools
    from refrase_integrations.langchain.middleware import KimiMiddleware as KimiMiddleware
    from refrase_integrations.langchain.node import RefraseNode as RefraseNode
    from refrase_integrations.langchain.node import route_fresh_data as route_fresh_data
    from refrase_integrations.langchain.refraser import Refraser as Refraser
    from refrase_integrations.langchain.threads import arepair_thread as arepair_thread
    from refrase_integrations.langchain.threads import repair_messages as repair_messages
    from refrase_integrations.langchain.threads import repair_thread as repair_thread
    from refrase_integrations.langchain.wrapper import with_kimi_practices as with_kimi_practices

__all__ = [
    "ChatKimi",
    "KimiMiddleware",
    "RefraseNode",
    "Refraser",
    "aformula_tools",
    "arepair_thread",
    "formula_tools",
    "repair_messages",
    "repair_thread",
    "route_fresh_data",
    "with_kimi_practices",
]
_HOMES = {
    "ChatKimi": "chat",
    "KimiMiddleware": "middleware",
    "RefraseNode": "node",
    "Refraser": "refraser",
    "aformula_tools": "formula",
    "arepair_thread": "threads",
    "formula_tools": "formula",
    "repair_messages": "threads",
    "repair_thread": "threads",
    "route_fresh_data": "node",
    "with_kimi_practices": "wrapper",
}
_EXTRAS = {"langchain_core": "langchain", "langchain": "langgraph", "langgraph": "langgraph"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        module = import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _EXTRAS:
            raise MissingExtra(f"refrase_integrations.langchain.{name}", _EXTRAS[missing]) from error
        raise
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
