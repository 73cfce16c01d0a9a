"""The rewriting itself: what a schema says is gathered as facts, and the facts are written out in MFJS."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Literal, NamedTuple

from refrase_integrations.kimi.schema.facts import (
    ALIASES,
    DEFINITIONS,
    SILENT,
    Facts,
    Group,
    annotate,
    apart,
    brief,
    join,
    listed,
    number,
    read,
)
from refrase_integrations.kimi.schema.kept import Kept, reference_in
from refrase_integrations.kimi.schema.plain import InvalidToolSchema
from refrase_integrations.kimi.schema.references import resolve
from refrase_integrations.kimi.schema.rules import (
    KEYWORDS,
    RESERVED,
    TYPES,
    Depths,
    Limits,
    fits,
    json_type,
)
from refrase_integrations.kimi.schema.written import ANY, described, folded, ordered, shallow, with_texts


class Note(NamedTuple):
    """One thing that was rewritten."""

    path: str
    """Where in the original: keywords and names joined by dots; empty at the root."""
    what: str
    """What was done. Names and numbers, no other content of the schema."""


_EVERY = frozenset(ANY["type"])
_PRODUCT = 64
"""Most alternatives that several anyOf of one schema may be multiplied into."""


class _Circle(Exception):
    """A reference that leads to itself without anything in between."""


class Rewriting:
    """The rewriting of one document."""

    def __init__(self, document: dict[str, Any], limits: Limits) -> None:
        self._document, self._limits = document, limits
        self.notes: list[Note] = []
        """What was done so far."""
        self._kept = Kept(document)
        self._writing: frozenset[str] = frozenset()
        """Kept targets that are being written out around the current place."""

    def result(self, root: Literal["any", "object"]) -> dict[str, Any]:
        """Return the rewritten document.

        Raises:
            InvalidToolSchema: it cannot be rewritten; names the place.
        """
        facts = Facts(types=frozenset({"object"}) if root == "object" else None)
        try:
            self._gather(self._document, facts, "", frozenset())
        except _Circle:
            raise InvalidToolSchema("", "the reference leads to itself") from None
        result = self._emit(facts, "", self._document)
        if result is None:
            wanted = "the parameters of a tool must be an object" if root == "object" else "no value can satisfy it"
            raise InvalidToolSchema("", wanted)
        if root == "object" and result.get("type") == "object":
            result.setdefault("properties", {})
        if isinstance(self._document.get("$id"), str):
            result["$id"] = self._document["$id"]
        defs = self._definitions()
        if defs:
            result = with_texts({**result, "$defs": defs}, {f"#/$defs/{name}": defs[name] for name in defs})
            for target in result["$defs"].values():
                target.pop("title", None), target.pop("description", None)
        return ordered(shallow(result, Depths(result), self._limits.depth, self._note))

    def _definitions(self) -> dict[str, Any]:
        defs: dict[str, Any] = {}
        while len(defs) < len(self._kept.names):
            for pointer, name in [*self._kept.names.items()]:
                if name in defs:
                    continue
                facts, path = Facts(), f"$defs.{name}"
                target = resolve(self._document, pointer).schema
                try:
                    self._gather(target, facts, path, frozenset({pointer}))
                except _Circle:
                    raise InvalidToolSchema(path, "the reference leads to itself") from None
                defs[name] = self._emit(facts, path, target) or described(dict(ANY), ["no value is valid"])
        return defs

    # -- reading ---------------------------------------------------------------------------------------------

    def _note(self, path: str, what: str) -> None:
        self.notes.append(Note(path, what))

    def _gather(self, node: Any, facts: Facts, path: str, chain: frozenset[str]) -> None:
        """Add what ``node`` says to ``facts``."""
        if node is False:
            facts.never = True
        if isinstance(node, str) and node.lower() in ALIASES:
            node = {"type": node}
            self._note(path, "a bare type name is read as a schema")
        if not isinstance(node, Mapping):
            if not isinstance(node, bool):
                self._note(path, "what is not a schema is read as any value")
            return
        if node.get("nullable") is True:
            inner = {
                key: value for key, value in node.items() if key not in ("nullable", "title", "description", "default")
            }
            annotate(node, facts)
            facts.groups.append(Group([inner, {"type": "null"}], chain, path))
            self._note(path, "nullable is written as an alternative")
            return
        annotate(node, facts)
        if reference_in(node) is not None:
            target = self._kept.resolve(node, path)
            if target.pointer in chain:
                raise _Circle
            if target.pointer in self._kept:
                if target.pointer in self._writing:
                    self._note(path, "what stands beside a recursive reference is told in the description")
                    facts.instead = target.pointer
                    return
                facts.followed |= {target.pointer}
            self._note(path, "the reference is written out")
            self._gather(target.schema, facts, path, chain | {target.pointer})
        for index, part in enumerate(listed(node.get("allOf"))):
            self._note(path, "allOf is merged")
            self._gather(part, facts, join(path, "allOf", index), chain)
        for keyword in ("anyOf", "oneOf"):
            branches = listed(node.get(keyword))
            if branches:
                facts.groups.append(Group([*branches], chain, join(path, keyword)))
            if keyword == "oneOf" and branches:
                self._note(path, "oneOf is written as anyOf")
                if not apart(branches) and "discriminator" not in node:
                    facts.words.append("exactly one of the alternatives must match")
        read(node, facts, path, self._note)

    # -- writing ---------------------------------------------------------------------------------------------

    def _schema(self, node: Any, path: str) -> dict[str, Any] | None:
        """Rewrite one schema; None where no value can satisfy it."""
        kept = self._kept_reference(node, path)
        if kept is not None:
            return kept
        facts = Facts()
        try:
            self._gather(node, facts, path, frozenset())
        except _Circle:
            raise InvalidToolSchema(path, "the reference leads to itself") from None
        return self._emit(facts, path, node)

    def _kept_reference(self, node: Any, path: str) -> dict[str, Any] | None:
        """Write a reference to a kept target where the node is nothing else, annotations aside."""
        annotations = Facts()
        while isinstance(node, Mapping):
            rest = {key for key in node if key not in SILENT | DEFINITIONS | {"title", "description", "default"}}
            annotate(node, annotations)
            if rest == {"$ref"} and isinstance(node["$ref"], str):
                break
            if rest not in ({"allOf"}, {"anyOf"}, {"oneOf"}):
                return None
            inner = node[rest.pop()]
            if not isinstance(inner, list) or len(inner) != 1:
                return None
            node = inner[0]
        else:
            return None
        target = self._kept.resolve(node, path)
        if target.pointer not in self._kept or not isinstance(target.schema, Mapping):
            return None
        self._default_in_words(annotations)
        return described({"$ref": self._kept.named(target.pointer)}, annotations.words, annotations)

    def _all(self, nodes: list[Any], path: str) -> dict[str, Any] | None:
        return self._schema(nodes[0] if len(nodes) == 1 else {"allOf": nodes}, path)

    def _emit(self, facts: Facts, path: str, node: Any) -> dict[str, Any] | None:
        """Write ``facts``, which were read from ``node``."""
        if facts.instead is not None:
            facts.words = [f"in full: {brief(node)}"]
            self._default_in_words(facts)
            return described({"$ref": self._kept.named(facts.instead)}, facts.words, facts)
        if facts.never or facts.types == frozenset():
            return None
        around, self._writing = self._writing, self._writing | facts.followed
        try:
            return self._alternatives(facts, path) if facts.groups else self._plain_types(facts, path)
        finally:
            self._writing = around

    def _plain_types(self, facts: Facts, path: str) -> dict[str, Any] | None:
        types = facts.types or self._guess(facts, path)
        if facts.enum is not None and facts.types is not None:
            types = self._types_of_enum(facts, types)
        if types >= _EVERY and facts.typed_only:
            self._default_in_words(facts)
            return described(dict(ANY), facts.words, facts)
        kinds = [kind for kind in TYPES if kind in types and not (kind == "integer" and "number" in types)]
        if path.startswith("$defs") and facts.default and "/" in brief(facts.default):
            self._default_in_words(facts)  # no key may hold a slash there, not even one of a default
        if len(kinds) == 1:
            words = [*facts.words]
            return described(self._single(facts, kinds[0], path, words), words, facts, default=True)
        self._note(path, "several types are written as alternatives")
        branches = [self._single(facts, kind, path, facts.words) for kind in kinds if self._has(facts, kind)]
        return self._any_of(branches, facts, path)

    def _guess(self, facts: Facts, path: str) -> frozenset[str]:
        """Fill in a missing type."""
        of_values = frozenset(json_type(value) for value in facts.enum or ())
        types = of_values or facts.hints or _EVERY
        self._note(path, "the missing type is filled in")
        return types

    @staticmethod
    def _types_of_enum(facts: Facts, types: frozenset[str]) -> frozenset[str]:
        """Narrow types to those that have a value in the enum; an enum that fits none is told in words."""
        left = frozenset(kind for kind in types if any(fits(value, kind) for value in facts.enum or ()))
        if not left:
            facts.words.append(f"one of {brief(facts.enum)}")
            facts.enum = None
            return types
        return left

    @staticmethod
    def _has(facts: Facts, kind: str) -> bool:
        return facts.enum is None or any(fits(value, kind) for value in facts.enum)

    def _alternatives(self, facts: Facts, path: str) -> dict[str, Any] | None:
        base = facts.copy()
        base.groups, base.words, base.descriptions, base.title, base.default = [], [], [], None, []
        groups = facts.groups
        if math.prod(len(group.branches) for group in groups) > _PRODUCT:
            for group in groups[1:]:
                facts.words.append(f"must also match one of {brief(group.branches)}")
            groups = groups[:1]
        branches = [*self._combined(base, groups, path)]
        if not branches and base.types is not None:
            # A type that rules out every alternative is an author's slip: the alternatives are what was meant.
            self._note(path, "a type that contradicts every alternative is dropped")
            base.types = None
            branches = [*self._combined(base, groups, path)]
        return self._any_of(branches, facts, path)

    def _combined(self, base: Facts, groups: list[Group], path: str) -> Iterator[dict[str, Any]]:
        """Write each alternative, with what holds for all of them merged in; those that fit no value are left
        out."""
        for combination in product(*(list(enumerate(group.branches)) for group in groups)):
            where = join(groups[0].path or path, ".".join(str(index) for index, _ in combination))
            branch: dict[str, Any] | None
            if base.free and len(groups) == 1:
                branch = self._schema(combination[0][1], where)
            else:
                merged = base.copy()
                try:
                    for group, (_, node) in zip(groups, combination, strict=True):
                        self._gather(node, merged, where, group.chain)
                except _Circle:
                    continue
                branch = self._emit(merged, where, {"allOf": [node for _, node in combination]})
            if branch is not None:
                yield branch

    def _any_of(self, branches: list[dict[str, Any]], facts: Facts, path: str) -> dict[str, Any] | None:
        flat: list[dict[str, Any]] = []
        for branch in branches:
            parts = branch["anyOf"] if branch.keys() == {"anyOf"} else [branch]
            for part in parts:
                if part not in flat:
                    flat.append(part)
        flat = folded(flat)
        if not flat:
            return None
        if ANY in flat:
            flat = [dict(ANY)]
        if len(flat) == 1 and "$ref" not in flat[0]:
            only = flat[0]
            inner = Facts(descriptions=[*facts.descriptions], title=facts.title, default=facts.default)
            annotate(only, inner)
            alone = "anyOf" in only or isinstance(only.get("type"), list)
            if alone:
                self._default_in_words(inner)
            bare = {key: value for key, value in only.items() if key not in ("title", "description", "default")}
            return described(bare, [*facts.words, *inner.words], inner, default=not alone)
        self._default_in_words(facts)
        return described({"anyOf": flat}, facts.words, facts)

    def _default_in_words(self, facts: Facts) -> None:
        if facts.default:
            facts.words.append(f"default: {brief(facts.default[0])}")
            facts.default = []

    def _single(self, facts: Facts, kind: str, path: str, words: list[str]) -> dict[str, Any]:
        """Write the part of ``facts`` that speaks of one type, without annotations."""
        schema: dict[str, Any] = {"type": kind}
        if kind == "object":
            self._properties(facts, schema, path, words)
        if kind == "array":
            self._items(facts, schema, path, words)
        if facts.enum is not None and kind != "null":
            values = [value for value in facts.enum if fits(value, kind)]
            if kind in ("object", "array") or len(values) > self._limits.enum:
                self._note(path, "an enum is told in the description")
                words.append(f"one of {brief(values)}")
            else:
                schema["enum"] = [int(value) if kind == "integer" else value for value in values]
        if kind == "string" and facts.pattern is not None:
            schema["pattern"] = facts.pattern
        bounds = dict(facts.bounds)
        if kind in ("number", "integer"):
            self._open_bounds(facts, kind, bounds, words)
        for low, high in (("minLength", "maxLength"), ("minItems", "maxItems"), ("minimum", "maximum")):
            if low not in KEYWORDS[kind]:
                continue
            if low in bounds and high in bounds and bounds[low] > bounds[high]:
                words.append(f"{low} {number(bounds.pop(low))} and {high} {number(bounds.pop(high))}")
                self._note(path, "contradictory bounds are told in the description")
            for keyword in (low, high):
                if keyword in bounds:
                    schema[keyword] = bounds[keyword]
                    if low != "minimum" or kind == "integer":
                        schema[keyword] = (math.ceil if keyword == low else math.floor)(bounds[keyword])
        return schema

    @staticmethod
    def _open_bounds(facts: Facts, kind: str, bounds: dict[str, float], words: list[str]) -> None:
        """Write exclusive bounds: exactly for integers, as the closed bound and words for numbers."""
        for keyword, bound, sign in (("minimum", facts.above, 1), ("maximum", facts.below, -1)):
            if bound is None:
                continue
            closest = bound
            if kind == "integer":
                closest = math.floor(bound) + 1 if sign > 0 else math.ceil(bound) - 1
            else:
                words.append(f"must be {'greater' if sign > 0 else 'less'} than {number(bound)}")
            if keyword not in bounds or (closest - bounds[keyword]) * sign > 0:
                bounds[keyword] = closest

    def _properties(self, facts: Facts, schema: dict[str, Any], path: str, words: list[str]) -> None:
        properties: dict[str, Any] = {}
        told: set[str] = set()
        closed = any(value is False for value in facts.more)
        for name, nodes in facts.properties.items():
            where = join(path, "properties", name)
            child = self._all(nodes, where)
            if child is None:
                words.append(f"{name!r} must not be given" if name not in facts.required else f"{name!r} fits no value")
                told.add(name)
            elif self._unnameable(name, path):
                self._note(where, "a property whose name is not allowed is told in the description")
                mark = ", required" if name in facts.required else ""
                words.append(f"also takes a property {name!r}{mark}: {brief(child)}")
                told.add(name)
                closed = False
            else:
                properties[name] = child
        for name in facts.required:
            if name in properties or name in told:
                continue
            if closed or self._unnameable(name, path):
                words.append(f"{name!r} is required")
            else:
                properties[name] = self._more(facts, join(path, "additionalProperties")) or dict(ANY)
                self._note(join(path, "properties", name), "a required property that was not declared is added")
        required = [name for name in facts.required if name in properties]
        if properties:
            schema["properties"] = properties
        if required:
            schema["required"] = required
        more = self._more(facts, join(path, "additionalProperties")) if facts.more else dict(ANY)
        if facts.patterns:
            matching = [
                self._all(nodes, join(path, "patternProperties", pattern)) for pattern, nodes in facts.patterns.items()
            ]
            words += [
                f"properties that match {pattern}: {brief(child)}"
                for pattern, child in zip(facts.patterns, matching, strict=True)
                if child is not None
            ]
            possible = [child for child in [*matching, more] if child is not None]
            more = self._any_of(possible, Facts(), path)
        if told - properties.keys() and more != ANY and not closed:
            return
        if facts.more or facts.patterns:
            schema["additionalProperties"] = False if more is None else True if more == ANY else more

    @staticmethod
    def _unnameable(name: str, path: str) -> bool:
        """Say whether no property may have this name; inside ``$defs`` a slash is not allowed either."""
        return not name or name in RESERVED or ("/" in name and path.startswith("$defs"))

    def _more(self, facts: Facts, path: str) -> dict[str, Any] | None:
        """Rewrite what other properties must be; None where there may be none."""
        nodes = [value for value in facts.more if value is not True and value != {}]
        return self._all(nodes, path) if nodes else dict(ANY)

    def _items(self, facts: Facts, schema: dict[str, Any], path: str, words: list[str]) -> None:
        nodes = [*facts.items]
        for *places, rest in facts.tuples:
            forms = [self._schema(node, join(path, "prefixItems", place)) for place, node in enumerate(places)]
            words += [f"item {place}: {brief(form)}" for place, form in enumerate(forms, 1) if form is not None]
            longest = facts.bounds.get("maxItems", math.inf)
            nodes.append({"anyOf": [*places, rest] if longest > len(places) else places})
        items = self._all(nodes, join(path, "items")) if nodes else dict(ANY)
        if items is None:
            facts.bounds["maxItems"] = 0
        elif items != ANY:
            schema["items"] = items
