"""Kimi K2 done right inside LangChain, LangGraph and LlamaIndex.

The chat models live with their framework: ``refrase_integrations.langchain``. Importing this package loads no
framework and not the openai SDK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refrase_integrations.client.budgets import Budget as Budget
    from refrase_integrations.client.limits import Limits as Limits
    from refrase_integrations.errors import RefraseError as RefraseError
    from refrase_integrations.kimi.freshness import needs_fresh_data as needs_fresh_data
    from refrase_integrations.kimi.prompt.compact import compact_prompt as compact_prompt
    from refrase_integrations.kimi.prompt.lint import lint_prompt as lint_prompt
    from refrase_integrations.kimi.prompt.thresholds import PromptThresholds as PromptThresholds
    from refrase_integrations.kimi.settings import Practices as Practices
    from refrase_integrations.kimi.tools import lint_tools as lint_tools

__all__ = [
    "Budget",
    "Limits",
    "Practices",
    "PromptThresholds",
    "RefraseError",
    "__version__",
    "compact_prompt",
    "lint_prompt",
    "lint_tools",
    "needs_fresh_data",
]
__version__ = "0.1.0"
_HOMES = {
    "Budget": "client.budgets",
    "Limits": "client.limits",
    "Practices": "kimi.settings",
    "PromptThresholds": "kimi.prompt.thresholds",
    "RefraseError": "errors",
    "compact_prompt": "kimi.prompt.compact",
    "lint_prompt": "kimi.prompt.lint",
    "lint_tools": "kimi.tools",
    "needs_fresh_data": "kimi.freshness",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
