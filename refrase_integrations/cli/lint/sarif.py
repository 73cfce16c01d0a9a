"""Findings as SARIF 2.1.0, the form in which code scanning takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refrase_integrations import __version__
from refrase_integrations.cli.lint.subjects import Problem, rules_of
from refrase_integrations.cli.terminal import STDIN


def sarif_log(problems: Sequence[Problem], files: Sequence[str]) -> dict[str, Any]:
    """Return the log of one run.

    Args:
        problems: what was found.
        files: what was looked at.
    """
    rules = [
        {
            "id": rule,
            "name": "".join(part.capitalize() for part in rule.split("-")),
            "shortDescription": {"text": rule.replace("-", " ")},
            "help": {"text": f"Source: {source.address}, as of {source.as_of} (grade {source.grade})."},
        }
        for rule, source in rules_of(problems)
    ]
    driver = {"name": "refrase-kimi lint", "version": __version__, "rules": rules}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "artifacts": [{"location": {"uri": file}} for file in files],
                "results": [_result(problem, [rule["id"] for rule in rules]) for problem in problems],
            }
        ],
    }


def _result(problem: Problem, rules: Sequence[Any]) -> dict[str, Any]:
    region = {
        "startLine": problem.line,
        "startColumn": problem.column,
        "endLine": problem.end_line,
        "endColumn": problem.end_column,
    }
    uri = "stdin" if problem.file == STDIN else Path(problem.file).as_posix()
    return {
        "ruleId": problem.rule,
        "ruleIndex": rules.index(problem.rule),
        "level": "error" if problem.rule == "tool-schema" else "warning",
        "message": {"text": f"{problem.message}. {problem.fix}"},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}],
    }
