"""The corpus: default prompts read from installed packages, and prompts of our own in the style of published agents."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

OWN = Path(__file__).parent / "corpus"
PACKAGES = (
    "llama_index.core.prompts",
    "llama_index.core.agent",
    "llama_index.core.evaluation",
    "llama_index.core.question_gen",
    "llama_index.core.selectors",
    "llama_index.core.chat_engine",
    "llama_index.core.indices",
    "llama_index.core.extractors",
    "langchain.agents.middleware",
    "deepagents",
)
_NAMES = re.compile(r"PROMPT|TMPL|TEMPLATE|HEADER|SYSTEM|INSTRUCTION|DESCRIPTION")
_CODE = re.compile(r"^(?:import|def|from \S+ import|#!|set -|python3? -c)", re.MULTILINE)


@lru_cache(maxsize=1)
def corpus() -> dict[str, str]:
    """Return every prompt by its name, packages first."""
    return {**dict(_shipped()), **own()}


def own() -> dict[str, str]:
    return {path.stem: path.read_text("utf-8") for path in sorted(OWN.glob("*.md"))}


def _shipped() -> Iterator[tuple[str, str]]:
    """Yield the texts of some length that are called a prompt or a template, wherever in the package they stand."""
    seen: set[str] = set()
    for package in PACKAGES:
        for module in _modules(package):
            for name, value in sorted(vars(module).items()):
                text = value if isinstance(value, str) else getattr(value, "template", None)
                if not isinstance(text, str) or not _NAMES.search(name.upper()) or len(text) < 150:
                    continue
                if text not in seen and not _CODE.search(text):
                    seen.add(text)
                    yield f"{module.__name__}.{name}", text


def _modules(name: str) -> Iterator[object]:
    try:
        package = importlib.import_module(name)
    except ImportError:
        return
    yield package
    for info in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{name}."):
        try:
            yield importlib.import_module(info.name)
        except Exception:  # noqa: BLE001 - an optional part of that package
            continue
