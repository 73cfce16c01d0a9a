"""Moonshot's Formula tools as the simulator plays them: declared and answered as there, never run.

Sources, read apart from the client: platform.kimi.ai/docs/guide/use-official-tools; declarations as they were seen in
August 2026 (Medesol/dsh-kimi-formula). Of the documented tools those are here that say something about a client: one
that answers in plain text, one that answers encrypted, one that can fail, one that is a plugin of several functions.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from refrase_integrations.simulator.rules.refusal import Refusal, invalid

TODAY = "2026-11-24"
"""The simulator has no clock: its answers are the same every day."""
_SEALED = "----MOONSHOT ENCRYPTED BEGIN----{}----MOONSHOT ENCRYPTED END----"


class _FailureError(Exception):
    """The tool says that it failed."""


def _function(name: str, description: str, *required: str, **properties: str) -> dict[str, Any]:
    schemas = {key: {"type": "string", "description": words} for key, words in properties.items()}
    parameters = {"type": "object", "properties": schemas, "required": list(required)}
    return {"name": name, "description": description, "parameters": parameters}


def _search(given: Mapping[str, Any]) -> dict[str, Any]:
    sealed = base64.b64encode(f"Simulated results for: {given['query']}".encode()).decode()
    return {"encrypted_output": _SEALED.format(sealed)}


def _fetch(given: Mapping[str, Any]) -> dict[str, Any]:
    url = str(given["url"])
    if not url.startswith(("http://", "https://")):
        raise _FailureError(f"invalid url: {url}")
    return {"output": f"# Simulated page\n\nWhat {url} would show."}


def _date(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"output": {"date": TODAY, "zone": given.get("zone", "UTC"), "simulated": True}}


def _encode(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"output": base64.b64encode(str(given["text"]).encode()).decode()}


def _read_file(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"output": ""}


@dataclass(frozen=True)
class Formula:
    """One formula: its functions, and what each gives."""

    uri: str
    functions: tuple[dict[str, Any], ...]
    answers: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]
    """By the name under which the platform calls the function."""
    plugin: str | None = None
    """Name of the plugin whose functions these are."""

    def declaration(self) -> dict[str, Any]:
        """Return what ``GET .../tools`` answers."""
        if self.plugin is not None:
            described = {"name": self.plugin, "description": "Looks into tables.", "functions": list(self.functions)}
            return {"object": "list", "tools": [{"_plugin": described}]}
        tools = [{"type": "function", "function": function} for function in self.functions]
        return {"object": "list", "tools": tools}


_SEARCH = _function("web_search", "Searches the web for information.", "query", query="What to search for.")
_SEARCH["parameters"]["properties"]["classes"] = {
    "type": "array",
    "items": {"type": "string", "enum": ["all", "academic", "social", "library", "finance", "code"]},
}
_ALL = (
    Formula("moonshot/web-search:latest", (_SEARCH,), {"web_search": _search}),
    Formula(
        "moonshot/fetch:latest",
        (_function("fetch", "Fetches a page and returns it as Markdown.", "url", url="Address of the page."),),
        {"fetch": _fetch},
    ),
    Formula(
        "moonshot/date:latest",
        (_function("date", "Date and time.", zone="Time zone, such as Asia/Shanghai."),),
        {"date": _date},
    ),
    Formula(
        "moonshot/base64:latest",
        (_function("base64_encode", "Encodes text.", "text", text="The text."),),
        {"base64_encode": _encode},
    ),
    Formula(
        "moonshot/excel:latest",
        (_function("read_file", "Reads a table.", "path", path="Path of the file."), {"name": "summary"}),
        {"excel.read_file": _read_file, "excel.summary": lambda _given: {}},
        plugin="excel",
    ),
)
FORMULAS: Mapping[str, Formula] = MappingProxyType({formula.uri: formula for formula in _ALL})


def find(uri: str) -> Formula | None:
    """Return the formula with this name, with or without its tag."""
    return FORMULAS.get(uri) or FORMULAS.get(f"{uri}:latest")


def run(formula: Formula, body: Mapping[str, Any]) -> dict[str, Any] | Refusal:
    """Return what ``POST .../fibers`` answers; a tool that fails is an answer, too."""
    name, text = body.get("name"), body.get("arguments")
    if not isinstance(name, str) or not isinstance(text, str):
        return invalid("Invalid request: name and arguments must be strings")
    context: dict[str, Any] = {"input": json.dumps({"name": name, "arguments": text})}
    fiber = {"object": "fiber", "formula": formula.uri, "context": context}
    try:
        given = json.loads(text)
        answer = formula.answers[name]
        context |= answer(given if isinstance(given, dict) else {})
    except ValueError:
        return {**fiber, "status": "failed", "error": "arguments are not JSON"}
    except KeyError as missing:
        return {**fiber, "status": "failed", "error": f"unknown or missing: {missing.args[0]}"}
    except _FailureError as failure:
        context["error"] = str(failure)
        return {**fiber, "status": "failed"}
    return {**fiber, "status": "succeeded"}
