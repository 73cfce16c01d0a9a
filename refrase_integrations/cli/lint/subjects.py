"""What can be linted: a prompt, or the tools of a request. Each finds its problems, and mends them without a loss."""

from __future__ import annotations

import copy
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from refrase_integrations.cli.terminal import read_json, shown_name
from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.catalogue import DEFAULT_MODEL, find_host
from refrase_integrations.kimi.dialect import Dialect
from refrase_integrations.kimi.practice import Reference
from refrase_integrations.kimi.practices import tool_names, tool_schemas
from refrase_integrations.kimi.prompt.compact import Compacted, compact_prompt
from refrase_integrations.kimi.prompt.lint import LINT_RULES, lint_prompt
from refrase_integrations.kimi.request import dialect_of
from refrase_integrations.kimi.schema import STRICT, InvalidToolSchema, lint_tools, normalise


@dataclass(frozen=True)
class Problem:
    """One finding in a file. Carries positions, names and figures, never text of a prompt."""

    file: str
    rule: str
    line: int
    column: int
    """Both count from 1."""
    end_line: int
    end_column: int
    message: str
    fix: str
    source: Reference
    """Where the rule is documented."""

    def __str__(self) -> str:
        """Say it in one line, as compilers do; the file's name comes before."""
        return f"{self.line}:{self.column}: {self.rule}: {self.message}. {self.fix[:1].upper()}{self.fix[1:]}"

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {**asdict(self), "source": self.source._asdict()}


@dataclass(frozen=True)
class Surroundings:
    """What a text will be used with."""

    dialect: Dialect
    tools: tuple[str, ...] | None
    """Names of the tools bound beside a prompt; None: not known."""
    chosen: bool
    """Whether the user named the model."""

    @classmethod
    def of(cls, model: str | None, host: str | None, tools: Sequence[str] | None) -> Surroundings:
        """Look up model and host.

        Raises:
            CatalogueError: the host is unknown.
        """
        dialect, _ = dialect_of({"model": model or DEFAULT_MODEL}, find_host(host))
        return cls(dialect, None if tools is None else tuple(tools), model is not None)


class Subject(ABC):
    """One file."""

    def __init__(self, file: str, text: str, around: Surroundings) -> None:
        self.file, self.text, self.around = file, text, around

    @abstractmethod
    def problems(self) -> list[Problem]:
        """Return what was found, in order."""

    @abstractmethod
    def fixed(self) -> str:
        """Return the text mended: the same text where nothing can be, and in a second run. Nothing is lost."""

    @abstractmethod
    def saving(self) -> str:
        """Say what mending does, in a few words."""


def read_subject(file: str, text: str, kind: Literal["auto", "prompt", "tools"], around: Surroundings) -> Subject:
    """Return what a file holds.

    Args:
        file: its name, ``-`` for the standard input.
        text: what stands in it.
        kind: "auto": JSON holds tools, any other text is a prompt.
        around: what it will be used with.

    Raises:
        ConfigurationError: it holds no tools where it should.
    """
    if kind == "prompt":
        return PromptSubject(file, text, around)
    if kind == "tools" or file.endswith(".json") or _is_json(text):
        return ToolsSubject(file, text, around)
    return PromptSubject(file, text, around)


def known_rules() -> frozenset[str]:
    """Return the ids of all rules."""
    return frozenset({*LINT_RULES, *_TOOL_RULES})


def _is_json(text: str) -> bool:
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        return isinstance(json.loads(text), (dict, list))
    except ValueError:
        return False


class PromptSubject(Subject):
    """A prompt, usually a system prompt."""

    def problems(self) -> list[Problem]:
        """Lint the prompt; whether the model sees images counts where the user named it."""
        vision = self.around.dialect.vision if self.around.chosen else None
        found = lint_prompt(self.text, tools=self.around.tools, vision=vision)
        return [
            Problem(self.file, one.rule, one.line, one.column, *self._place(one.end), one.reason, one.fix, one.source)
            for one in found
        ]

    def fixed(self) -> str:
        """Take out repeats, filler and decoration: every rule stays, once."""
        return self._compacted.text

    def saving(self) -> str:
        """Say how much shorter it becomes."""
        saved = self._compacted.tokens_saved
        return f"{saved} of {self._compacted.tokens_before} tokens fewer" if saved else "decoration only"

    @cached_property
    def _compacted(self) -> Compacted:
        return compact_prompt(self.text)

    def _place(self, position: int) -> tuple[int, int]:
        before = self.text[:position]
        return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1


_TOOL_RULES: Mapping[str, Reference] = {
    "tool-name": tool_names.PRACTICE.sources[0],
    "tool-schema": tool_schemas.PRACTICE.sources[0],
    "tool-description": Reference("platform.kimi.ai/docs/guide/use-kimi-api-to-complete-tool-calls", "2026-08-13", "B"),
    "tool-form": Reference("MoonshotAI/Kimi-K2 README", "2025-07-31"),
}
_SCHEMA_KEYS = ("parameters", "input_schema", "inputSchema")


class ToolsSubject(Subject):
    """Tools in the form of OpenAI, Anthropic or MCP: a list, one tool, or a body that holds ``tools``."""

    def __init__(self, file: str, text: str, around: Surroundings) -> None:
        super().__init__(file, text, around)
        self._value = read_json(text, file)
        if _tools_in(self._value) is None:
            raise ConfigurationError(
                f"{shown_name(file)} holds no tools: a list of tools, one tool, or an object with 'tools' is wanted"
            )

    def problems(self) -> list[Problem]:
        """Lint the tools by the dialect's rules for names and schemas."""
        dialect = self.around.dialect
        tools = [_openai_form(tool) for tool in _tools_in(self._value) or ()]
        found = lint_tools(tools, pattern=dialect.tool_name, limit=dialect.tool_limit, flavour=dialect.schema)
        made = []
        for one in found:
            start, end = self._span(one.tool)
            where = f"{one.tool}: " if one.tool else ""
            path = f"{one.path}: " if one.path else ""
            made.append(
                Problem(
                    self.file, one.rule, *start, *end, f"{where}{path}{one.message}", one.fix, _TOOL_RULES[one.rule]
                )
            )
        return made

    def fixed(self) -> str:
        """Rewrite parameters into the host's flavour; what it cannot express moves into descriptions."""
        return self._mended[0]

    def saving(self) -> str:
        """Say how many tools' parameters are rewritten."""
        return f"parameters of {self._mended[1]} tool(s) rewritten"

    @cached_property
    def _mended(self) -> tuple[str, int]:
        if self.around.dialect.schema != "mfjs":
            return self.text, 0
        value = copy.deepcopy(self._value)
        changed = sum(_mend(tool) for tool in _tools_in(value) or ())
        if not changed:
            return self.text, 0
        indent = re.search(r"\n([ \t]+)\S", self.text)
        dumped = json.dumps(value, ensure_ascii=False, indent=indent[1] if indent else None)
        return dumped + ("\n" if self.text.endswith("\n") else ""), changed

    def _span(self, name: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return where a tool's name stands in the file; its first character where it has none."""
        match = re.search(rf'"name"\s*:\s*({re.escape(json.dumps(name, ensure_ascii=False))})', self.text)
        if match is None:
            return (1, 1), (1, 1)
        before = self.text[: match.start(1)]
        line, column = before.count("\n") + 1, match.start(1) - (before.rfind("\n") + 1) + 1
        return (line, column), (line, column + len(match[1]))


def _tools_in(value: Any) -> list[Any] | None:
    if isinstance(value, list):
        return value if all(isinstance(tool, dict) and _is_tool(tool) for tool in value) else None
    if not isinstance(value, dict):
        return None
    for key in ("tools", "functions"):
        if isinstance(value.get(key), list):
            return [tool for tool in value[key] if isinstance(tool, dict)]
    return [value] if _is_tool(value) else None


def _is_tool(tool: Mapping[str, Any]) -> bool:
    return isinstance(tool.get("function"), dict) or isinstance(tool.get("name"), str) or "function" in tool


def _holder(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    return function if isinstance(function, dict) else tool


def _openai_form(tool: dict[str, Any]) -> dict[str, Any]:
    if "function" in tool or not isinstance(tool.get("name"), str):
        return tool
    schema = next((tool[key] for key in _SCHEMA_KEYS if tool.get(key) is not None), None)
    function = {"name": tool["name"], "description": tool.get("description"), "parameters": schema}
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}


def _mend(tool: dict[str, Any]) -> bool:
    holder = _holder(tool)
    for key in _SCHEMA_KEYS:
        if isinstance(holder.get(key), dict):
            try:
                schema = normalise(holder[key], root="object", limits=STRICT).schema
            except InvalidToolSchema:
                return False  # the findings say what its author has to do
            changed = bool(schema != holder[key])
            holder[key] = schema
            return changed
    return False


def rules_of(problems: Sequence[Problem]) -> Iterator[tuple[str, Reference]]:
    """Yield each rule that was broken, once, with its source."""
    yield from {problem.rule: problem.source for problem in problems}.items()
