"""What the JSON schemas of one request may cost an engine together, found on the schemas alone.

`states` is the currency: what xgrammar builds for a schema, weighted by what it was seen to take (xgrammar 0.2.8, one
core; the table is in docs/limits.md). Parsing is what matters first: vLLM does it in its server's event loop, where
everybody waits. The default of 4,000 states is parsed in at most 60 ms. What compiling then takes depends on the
model's vocabulary, and is found out by trying, in a process that can be killed (compiler.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from serving.errors import InvalidRequest
from serving.grammars.patterns import BadPattern, size_of

_SCHEMA = frozenset(
    [
        "items", "additionalItems", "unevaluatedItems", "contains",
        "additionalProperties", "unevaluatedProperties", "propertyNames",
        "not", "if", "then", "else", "contentSchema",
    ]
)  # fmt: skip
_LISTS = frozenset(["anyOf", "oneOf", "allOf", "prefixItems"])
_MAPS = frozenset(["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"])
_LENGTHS = ("minLength", "maxLength")
_ITEMS = ("minItems", "maxItems", "minContains", "maxContains")
_PROPERTIES = ("minProperties", "maxProperties")
_IDENTIFIERS = frozenset(
    ["$id", "id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary"]
)
_DIALECTS = frozenset(
    f"{scheme}://json-schema.org/{path}{end}"
    for scheme in ("http", "https")
    for path in ("schema", "draft-04/schema", "draft-06/schema", "draft-07/schema",
                 "draft/2019-09/schema", "draft/2020-12/schema")
    for end in ("", "#")
)  # fmt: skip
FORMATS = frozenset(
    [
        "date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "json-pointer", "relative-json-pointer",
        "time", "uri", "uri-reference", "uri-template", "uuid",
    ]
)  # fmt: skip
_IGNORED = (
    "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "contains", "minContains", "maxContains",
)  # fmt: skip
"""xgrammar takes no notice of them, and answers would break the schema without a word."""
_LARGEST_MULTIPLE = 1000
"""Of which xgrammar makes states; it takes no notice of a larger one."""


@dataclass(frozen=True, slots=True)
class SchemaBudget:
    """Of one request's schemas together; `pattern_length`, `pattern_states`, `optional`, `length` and `items` of each
    place. total: bytes. The fields are those of settings.SchemaLimits.
    """

    total: int = 256 * 2**10
    subschemas: int = 4000
    states: int = 4000
    pattern_length: int = 1024
    pattern_states: int = 1000
    properties: int = 1000
    optional: int = 256
    alternatives: int = 256
    enum_values: int = 2000
    length: int = 100_000
    items: int = 10_000


@dataclass(frozen=True, slots=True)
class Placed:
    """A schema of a request. place: the request's field, such as `tools[2]`; param: what an error names. enforced: the
    answer is held to it, so what the engine cannot hold it to is refused.
    """

    place: str
    param: str
    schema: object
    enforced: bool


class SchemaCosts:
    """The schemas of one request, added up. known_only: what an engine of ours would take no notice of is refused."""

    def __init__(self, limits: SchemaBudget, *, known_only: bool) -> None:
        self._limits = limits
        self._known_only = known_only
        self._spent = {"subschemas": 0, "states": 0, "properties": 0, "alternatives": 0, "enum_values": 0}
        self._lengths: set[tuple[int, int]] = set()

    def add(self, placed: Placed) -> None:
        """Raises InvalidRequest, which names the place by keywords and numbers: names in a schema are the caller's."""
        walk = _Walk(placed, self._known_only and placed.enforced)
        for node in walk.nodes():
            self._count(node)
        walk.check_references()

    def _count(self, node: _Node) -> None:
        limits = self._limits
        self._spend(node, "subschemas", 1)
        for name in _LENGTHS:
            node.number(name, most=limits.length)
        for name in _ITEMS:
            node.number(name, most=limits.items)
        self._spend(node, "states", self._states_of(node))
        properties = node.mapping("properties")
        required = node.value.get("required")
        required = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
        self._spend(node, "properties", len(properties) + len(node.mapping("patternProperties")))
        if (optional := len(properties.keys() - required)) > limits.optional:
            raise node.refusal("properties", f"has {optional} optional properties; {limits.optional} are allowed")
        if any(node.number(name, most=limits.items) is not None for name in _PROPERTIES):
            self._spend(node, "states", len(properties) ** 2 // 2)  # each number of them is a path of its own
        for name in ("anyOf", "oneOf", "allOf", "prefixItems"):
            self._spend(node, "alternatives", node.length(name))
        self._spend(node, "enum_values", node.length("enum"))
        for ordinal, name in enumerate(node.mapping("patternProperties")):
            self._spend(node, "states", self._pattern(node, name, f"patternProperties[{ordinal}]"))

    def _states_of(self, node: _Node) -> int:
        value = node.value
        states = 0
        if isinstance(value.get("pattern"), str):
            states += self._pattern(node, value["pattern"], "pattern")
        least, most = (node.number(name, most=self._limits.length) or 0 for name in _LENGTHS)
        lengths = (least, most)
        if any(lengths) and lengths not in self._lengths:  # the same again is the same rule
            self._lengths.add(lengths)
            states += min(max(lengths), 100)
        if any(name in value for name in _ITEMS):
            states += 10
        if "format" in value:
            states += 15
        if any(name in value for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")):
            states += 60
        multiple = value.get("multipleOf")
        if isinstance(multiple, int | float) and math.isfinite(multiple) and multiple <= _LARGEST_MULTIPLE:
            states += 2 * math.ceil(abs(multiple))
        return states

    def _pattern(self, node: _Node, pattern: str, keyword: str) -> int:
        limits = self._limits
        if len(pattern) > limits.pattern_length:
            raise node.refusal(keyword, f"is longer than {limits.pattern_length} characters")
        try:
            size = size_of(pattern)
        except BadPattern as bad:
            if not node.enforced:
                return len(pattern)
            raise node.refusal(keyword, f"is not a regular expression: {bad}") from None
        if size.states > limits.pattern_states:
            raise node.refusal(
                keyword,
                f"makes an automaton of {_told(size.states)} states; {limits.pattern_states} are allowed. Use smaller "
                "numbers in {m,n}, fewer optional parts in a row, and no repetition inside another",
            )
        if size.unsupported and node.enforced:
            raise node.refusal(keyword, f"has what is not supported: {size.unsupported}")
        return size.states

    def _spend(self, node: _Node, what: str, amount: int) -> None:
        self._spent[what] += amount
        allowed = getattr(self._limits, what)
        if self._spent[what] > allowed:
            raise node.refusal("", f"is where the request's schemas exceed {allowed} {_NAMES[what]}")


_NAMES = {
    "subschemas": "subschemas",
    "states": "states (of patterns, lengths, numbers and formats)",
    "properties": "properties",
    "alternatives": "alternatives (anyOf, oneOf, allOf, prefixItems)",
    "enum_values": "values in enums",
}


@dataclass(frozen=True, slots=True)
class _Node:
    """One subschema. path: keywords and numbers. pointer: its JSON pointer, of the caller's names: never told."""

    placed: Placed
    value: Mapping[str, Any]
    path: str
    pointer: str
    enforced: bool

    def refusal(self, keyword: str, problem: str) -> InvalidRequest:
        path = f"{self.path}.{keyword}" if keyword else self.path
        return refused(self.placed, path.lstrip("."), problem)

    def number(self, name: str, *, most: int) -> int | None:
        value = self.value.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            if not self.enforced:
                return None
            raise self.refusal(name, "must be a whole number, not below 0")
        if value > most:
            raise self.refusal(name, f"is larger than {most}")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self.value.get(name)
        return value if isinstance(value, dict) else {}

    def length(self, name: str) -> int:
        value = self.value.get(name)
        return len(value) if isinstance(value, list) else 0


class _Walk:
    """Through one schema, without recursion: its depth is the caller's."""

    def __init__(self, placed: Placed, enforced: bool) -> None:
        self._placed = placed
        self._enforced = enforced
        self._pointers: dict[str, str | None] = {}
        """Of every subschema, and to which its $ref points, if it has one."""
        self._references: list[_Node] = []

    def nodes(self) -> Iterator[_Node]:
        left: list[tuple[object, str, str]] = [(self._placed.schema, "", "#")]
        while left:
            value, path, pointer = left.pop()
            if not isinstance(value, dict):
                if isinstance(value, bool) or (isinstance(value, list) and path.endswith("items")):
                    self._pointers[pointer] = None
                elif self._enforced:
                    raise refused(self._placed, path.lstrip("."), "must be a schema: an object, true or false")
                continue
            node = _Node(self._placed, value, path, pointer, self._enforced)
            reference = value.get("$ref")
            self._pointers[pointer] = reference if isinstance(reference, str) else None
            self._check_names(node)
            if reference is not None:
                self._references.append(node)
            yield node
            left.extend(_below(node))

    def check_references(self) -> None:
        """A $ref has to name a subschema of this schema, by its plain pointer. xgrammar prints any other into its log,
        looks for it among what is no schema, or makes a rule of itself.
        """
        ending: set[str | None] = {None}
        for node in self._references:
            target = node.value["$ref"]
            if not isinstance(target, str) or not target.startswith("#"):
                raise node.refusal("$ref", "must begin with '#': nothing outside the schema is read")
            if not self._enforced:
                continue
            if target not in self._pointers:
                raise node.refusal("$ref", "must be '#' or name a subschema as #/$defs/NAME does")
            way = {node.pointer}
            while target not in ending:
                if target in way:
                    raise node.refusal("$ref", "leads back to itself")
                way.add(target)
                target = self._pointers.get(target)
            ending |= way

    def _check_names(self, node: _Node) -> None:
        value = node.value
        for name in _IDENTIFIERS & value.keys():
            if name == "id" and not isinstance(value[name], str):
                continue
            raise node.refusal(name, "is not supported: leave it out, and use $ref with #/$defs/NAME")
        dialect = value.get("$schema")
        if dialect is not None and not (isinstance(dialect, str) and dialect in _DIALECTS):
            raise node.refusal("$schema", "must be one of json-schema.org's drafts, or left out")
        if self._enforced:
            _check_support(node)


def _check_support(node: _Node) -> None:
    value = node.value
    for name in ("pattern", "format"):
        if name in value and not isinstance(value[name], str):
            raise node.refusal(name, "must be a string")
    for name in _IGNORED:
        if name in value:
            raise node.refusal(name, "is not supported: the answer would not be held to it")
    if value.get("uniqueItems"):
        raise node.refusal("uniqueItems", "is not supported: the answer would not be held to it")
    held = next((name for name in ("pattern", "format") if name in value), None)
    if held and any(name in value for name in _LENGTHS):
        raise node.refusal(
            next(name for name in _LENGTHS if name in value),
            f"is not supported beside '{held}': the answer would not be held to it. Write lengths into the pattern, "
            "such as [a-z]{1,3}",
        )
    if "format" in value and value["format"] not in FORMATS:
        raise node.refusal("format", f"must be one of {', '.join(sorted(FORMATS))}")
    if node.length("allOf") > 1:
        raise node.refusal("allOf", "is not supported with more than one schema: the answer would not be held to them")


def _below(node: _Node) -> Iterator[tuple[object, str, str]]:
    for name, value in node.value.items():
        if name in _SCHEMA:
            if name == "items" and isinstance(value, list):
                for number, one in enumerate(value):
                    yield one, f"{node.path}.items[{number}]", f"{node.pointer}/items/{number}"
            yield value, f"{node.path}.{name}", f"{node.pointer}/{name}"
        elif name in _LISTS and isinstance(value, list):
            for number, one in enumerate(value):
                yield one, f"{node.path}.{name}[{number}]", f"{node.pointer}/{name}/{number}"
        elif name in _MAPS and isinstance(value, dict):
            for number, (key, one) in enumerate(value.items()):
                if name == "dependentSchemas" and not isinstance(one, dict | bool):
                    continue
                yield one, f"{node.path}.{name}[{number}]", f"{node.pointer}/{name}/{key}"
        elif node.enforced and (name in _LISTS or name in _MAPS):
            kind = "a list of schemas" if name in _LISTS else "an object of schemas"
            raise node.refusal(name, f"must be {kind}")


def refused(placed: Placed, path: str, problem: str) -> InvalidRequest:
    """place, then where in it: by keywords, and numbers where the caller has names."""
    at = f"at {path}: this" if path else "the schema"
    return InvalidRequest(f"{placed.place}: {at} {problem}.", param=placed.param)


def _told(states: int) -> str:
    return f"{states:,}" if states < 10**9 else "more than a billion"
