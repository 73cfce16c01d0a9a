"""JSON schemas of tools: rewriting them for Moonshot, linting them, and reading a model's arguments by them."""

from refrase_integrations.kimi.schema.arguments import Arguments, read_arguments
from refrase_integrations.kimi.schema.lint import ToolFinding, lint_tools
from refrase_integrations.kimi.schema.mfjs import Normalised, normalise
from refrase_integrations.kimi.schema.plain import InvalidToolSchema
from refrase_integrations.kimi.schema.rewrite import Note
from refrase_integrations.kimi.schema.rules import SERVED, STRICT, Limits, Violation, violations

__all__ = [
    "SERVED",
    "STRICT",
    "Arguments",
    "InvalidToolSchema",
    "Limits",
    "Normalised",
    "Note",
    "ToolFinding",
    "Violation",
    "lint_tools",
    "normalise",
    "read_arguments",
    "violations",
]
