"""How a rewritten schema is written: the order of keywords, descriptions, words for what is nested too deeply."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from refrase_integrations.kimi.schema.facts import Facts, brief, join
from refrase_integrations.kimi.schema.rules import TYPES, Depths

ANY: Mapping[str, Any] = {"type": [name for name in TYPES if name != "integer"]}
"""Any value: a list of types beside nothing but annotations is allowed (docs/walle.md, case 1)."""
_ORDER = (
    "$id", "type", "title", "description", "enum", "anyOf", "$ref", "properties", "required", "additionalProperties",
    "items", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "pattern", "default", "$defs",
)  # fmt: skip
_STRUCTURE_WORDS = 2_000
"""Most characters of a nested structure told as JSON."""


def described(
    schema: dict[str, Any], words: Iterable[str], facts: Facts | None = None, *, default: bool = False
) -> dict[str, Any]:
    """Add title, description (with ``words`` behind it) and perhaps the default to a schema."""
    facts = facts or Facts()
    if facts.title is not None:
        schema["title"] = facts.title
    text = "\n".join(facts.descriptions)
    added = "; ".join(dict.fromkeys(words))
    if added:
        text = f"{text} ({added})" if text else added
    if text:
        schema["description"] = text
    if default and facts.default:
        schema["default"] = facts.default[0]
    return ordered(schema)


def annotations_of(node: Mapping[str, Any]) -> Facts:
    """Return title and description of a written schema."""
    return Facts(descriptions=[node["description"]] if "description" in node else [], title=node.get("title"))


def with_texts(node: Any, targets: Mapping[str, Mapping[str, Any]]) -> Any:
    """Copy a result with title and description of each kept target put beside the references to it.

    A reference and its target must not both have a description (``conflicting keywords found after $ref
    expansion``), and the place of use may have its own.
    """
    if isinstance(node, list):
        return [with_texts(child, targets) for child in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        facts = annotations_of(node)
        target = annotations_of(targets.get(node["$ref"], {}))
        facts.title = facts.title if facts.title is not None else target.title
        facts.descriptions += [text for text in target.descriptions if text not in facts.descriptions]
        return described({"$ref": node["$ref"]}, [], facts)
    result = dict(node)
    for keyword in ("properties", "$defs"):
        if keyword in node:
            result[keyword] = {name: with_texts(child, targets) for name, child in node[keyword].items()}
    for keyword in ("items", "additionalProperties", "anyOf"):
        if keyword in node:
            result[keyword] = with_texts(node[keyword], targets)
    return result


def folded(branches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join alternatives that are nothing but values of one type into one enum."""
    result: list[dict[str, Any]] = []
    enums: dict[str, dict[str, Any]] = {}
    for branch in branches:
        if branch.keys() == {"type", "enum"} and isinstance(branch["type"], str):
            known = enums.get(branch["type"])
            if known is not None:
                known["enum"] += [value for value in branch["enum"] if value not in known["enum"]]
                continue
            branch = enums[branch["type"]] = {"type": branch["type"], "enum": [*branch["enum"]]}
        result.append(branch)
    return result


def shallow(
    node: dict[str, Any],
    depths: Depths,
    limit: int,
    note: Callable[[str, str], None],
    *,
    path: str = "",
    depth: int = 0,
) -> dict[str, Any]:
    """Tell in words what stands deeper than the limit."""
    if "$ref" in node:
        if depth + depths.of(node) <= limit:
            return node
        note(path, "what is nested too deeply is told in the description")
        return described(dict(ANY), [f"of the form {node['$ref']}"], annotations_of(node))
    if depth >= limit and node.get("properties"):
        note(path, "what is nested too deeply is told in the description")
        text = brief({key: node[key] for key in ("properties", "required") if key in node}, _STRUCTURE_WORDS)
        return described({"type": "object"}, [f"JSON schema: {text}"], annotations_of(node))
    result = dict(node)
    for keyword, step in (("properties", 1), ("$defs", 0)):
        if keyword in node:
            start = depth if keyword == "properties" else 0
            result[keyword] = {
                name: shallow(child, depths, limit, note, path=join(path, keyword, name), depth=start + step)
                for name, child in node[keyword].items()
            }
    for keyword in ("items", "additionalProperties"):
        if isinstance(node.get(keyword), dict):
            result[keyword] = shallow(node[keyword], depths, limit, note, path=join(path, keyword), depth=depth)
    if "anyOf" in node:
        result["anyOf"] = [
            shallow(child, depths, limit, note, path=join(path, "anyOf", index), depth=depth)
            for index, child in enumerate(node["anyOf"])
        ]
    return result


def ordered(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with its keywords in one order, and no others."""
    return {key: schema[key] for key in _ORDER if key in schema}
