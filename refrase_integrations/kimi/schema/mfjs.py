"""Rewriting any JSON schema into Moonshot-flavoured JSON schema (MFJS).

A schema that already keeps the rules passes as the same object. All others are rewritten so that every value
that the original takes is still taken: what MFJS cannot express moves, in words, into the description.
Two readings are taken for what an author left open, as Moonshot's own clients do (MoonshotAI/kimi-cli,
"missing property types are filled from enum, const or structure"): a schema with ``properties`` and no type
means an object (and likewise for the keywords of the other types), and ``additionalProperties: false`` beside
``allOf`` closes the merged object.

Sources: MoonshotAI/walle docs/walle.md and docs/validation-principles.md; kimi-cli#2061, #2531;
opencode#27054.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from refrase_integrations.kimi.schema.plain import InvalidToolSchema, plain
from refrase_integrations.kimi.schema.rewrite import Note, Rewriting
from refrase_integrations.kimi.schema.rules import STRICT, Limits, violations


@dataclass(frozen=True, slots=True)
class Normalised:
    """A schema that keeps the rules, and what was done to it."""

    schema: Mapping[str, Any]
    """The very object that was given where nothing had to change."""
    notes: tuple[Note, ...] = ()


def normalise(
    schema: Mapping[str, Any] | bool | None,
    *,
    root: Literal["any", "object"] = "any",
    limits: Limits = STRICT,
) -> Normalised:
    """Rewrite a JSON schema into MFJS.

    Pure, deterministic and idempotent: the result depends on the content alone, so it may be kept by content.

    Args:
        schema: any JSON schema: pydantic's, a dataclass's, an MCP server's, hand-written; drafts 4 to 2020-12
            and OpenAPI's ``nullable``. None means the empty schema.
        root: "object" for the parameters of a tool: the root becomes an object with properties.
        limits: how large the result may be. What is nested deeper is told in words.

    Returns:
        The schema, which has no violations, and notes on what was done.

    Raises:
        InvalidToolSchema: it is not JSON (a cycle of Python objects, NaN), a reference leads nowhere, nothing
            can satisfy it, or it is too large.
    """
    if schema is None or schema is True:
        schema = {}
    if not isinstance(schema, Mapping):
        raise InvalidToolSchema("", "it must be an object")
    if not violations(schema, limits) and (root == "any" or _is_object(schema)):
        return Normalised(schema)
    document = plain(schema)
    rewriting = Rewriting(document, limits)
    try:
        result = rewriting.result(root)
    except RecursionError:
        raise InvalidToolSchema("", "it is nested too deeply") from None
    for path, message in violations(result, limits):
        raise InvalidToolSchema(path, message)
    if result == document and type(schema) is dict:
        return Normalised(schema)
    notes = rewriting.notes or [Note("", "what says nothing about values was dropped")]
    return Normalised(result, tuple(dict.fromkeys(notes)))


def _is_object(schema: Mapping[str, Any]) -> bool:
    branches = schema.get("anyOf")
    if isinstance(branches, list):
        return all(_is_object(branch) for branch in branches)
    return schema.get("type") == "object"
