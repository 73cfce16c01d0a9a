"""Which references of a schema are written out, and which are kept as ``$defs``: those that reach themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from refrase_integrations.kimi.schema.facts import join, listed
from refrase_integrations.kimi.schema.plain import InvalidToolSchema
from refrase_integrations.kimi.schema.references import Target, UnresolvedReference, resolve
from refrase_integrations.kimi.schema.rules import reachable

_SUBSCHEMAS_BY_NAME = ("properties", "patternProperties")
_SUBSCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SUBSCHEMA = ("items", "additionalItems", "unevaluatedItems", "additionalProperties", "unevaluatedProperties")
_INLINED = 5_000
"""Most schemas that inlining references may make of one; above it, definitions are kept."""


class Kept:
    """The targets of one document that cannot be inlined, and their names in the result.

    Args:
        document: the whole schema.

    Raises:
        InvalidToolSchema: a reference leads nowhere; names the place.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._pointers = self._found()
        self.names: dict[str, str] = {}
        """Name in ``$defs`` of each kept target that was used, by pointer."""

    def __contains__(self, pointer: str) -> bool:
        return pointer in self._pointers

    def named(self, pointer: str) -> str:
        """Return the reference to a kept target in the result."""
        if pointer == "#" and not {"title", "description"} & self._document.keys():
            return "#"
        if pointer not in self.names:
            wish = re.sub(r"~[01]|[/%#]", "_", pointer.rpartition("/")[2]) or "Root"
            name, number = wish, 2
            while name in self.names.values():
                name, number = f"{wish}_{number}", number + 1
            self.names[pointer] = name
        return f"#/$defs/{self.names[pointer]}"

    def resolve(self, node: Mapping[str, Any], path: str) -> Target:
        """Follow the reference of ``node``, which stands at ``path``.

        Raises:
            InvalidToolSchema: it leads nowhere.
        """
        try:
            return resolve(self._document, reference_in(node) or "#")
        except UnresolvedReference as error:
            raise InvalidToolSchema(
                path.removeprefix("#").strip("."), f"the reference cannot be followed: {error}"
            ) from None

    def _found(self) -> frozenset[str]:
        """Find the targets that cannot be inlined: those that reach themselves, or all where that grows too
        large."""
        graph: dict[str, set[str]] = {}
        sizes: dict[str, tuple[int, list[str]]] = {}
        waiting = ["#"]
        while waiting:
            pointer = waiting.pop()
            if pointer in graph:
                continue
            count, used = 0, []
            for path, node in _reached(resolve(self._document, pointer).schema, pointer):
                count += 1
                if isinstance(node, Mapping) and reference_in(node) is not None:
                    used.append(self.resolve(node, path).pointer)
            graph[pointer], sizes[pointer] = set(used), (count, used)
            waiting += used
        recursive = {pointer for pointer in graph if pointer in reachable(graph, pointer)}
        known: dict[str, int] = {}

        def size(pointer: str) -> int:
            if pointer not in known:
                count, used = sizes[pointer]
                known[pointer] = count + sum(size(target) for target in used if target not in recursive)
            return known[pointer]

        if sum(size(pointer) for pointer in {"#", *recursive}) > _INLINED:
            return frozenset(graph.keys() - {"#"} | recursive)
        return frozenset(recursive)


def reference_in(node: Mapping[str, Any]) -> str | None:
    """Return the reference of a schema, in any draft's spelling."""
    for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
        if isinstance(node.get(keyword), str):
            return str(node[keyword])
    return None


def _reached(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Walk the schemas inside a schema that are rewritten, not those behind references."""
    waiting = [(path, node)]
    while waiting:
        path, node = waiting.pop()
        yield path, node
        if not isinstance(node, Mapping):
            continue
        for keyword in _SUBSCHEMAS_BY_NAME:
            if isinstance(node.get(keyword), Mapping):
                waiting += [(join(path, keyword, name), child) for name, child in node[keyword].items()]
        for keyword in (*_SUBSCHEMA_LISTS, "items"):
            waiting += [(join(path, keyword, index), child) for index, child in enumerate(listed(node.get(keyword)))]
        for keyword in _SUBSCHEMA:
            if isinstance(node.get(keyword), Mapping):
                waiting.append((join(path, keyword), node[keyword]))
