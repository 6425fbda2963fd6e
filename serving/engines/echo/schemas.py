"""A JSON value that fits a schema: defaults where the schema has them, else the smallest value of the type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DEEPEST = 16
_MOST = 10_000  # values: a schema of a few lines can ask for more than there are atoms
_LARGEST = 2.0**53
_FORMATS = {
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "date-time": "2026-01-01T00:00:00Z",
    "email": "echo@example.org",
    "uri": "https://example.org",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def sample_of(schema: object) -> Any:
    """Of a schema with types, enum, const, default, properties, items, allOf, anyOf, oneOf, bounds and local $refs.

    Other keywords (pattern, not, if) are not looked at. Below 16 levels, which ends recursion, and beyond 10,000 values
    everything is null.
    """
    return _Sampling(schema).sample(schema)


class _Sampling:
    def __init__(self, root: object) -> None:
        self._root = root
        self._left = _MOST

    def sample(self, schema: object, depth: int = 0) -> Any:
        self._left -= 1
        if not isinstance(schema, Mapping) or depth > _DEEPEST or self._left < 0:
            return None
        if isinstance(schema.get("$ref"), str):
            return self.sample(_at(self._root, schema["$ref"]), depth + 1)
        for name in ("default", "const"):
            if name in schema:
                return schema[name]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return schema["enum"][0]
        for name in ("anyOf", "oneOf"):
            if isinstance(schema.get(name), list) and schema[name]:
                return self.sample(schema[name][0], depth + 1)
        if isinstance(schema.get("allOf"), list):
            parts = [self.sample(part, depth + 1) for part in schema["allOf"]]
            if all(isinstance(part, dict) for part in parts):
                return {name: value for part in parts for name, value in part.items()}
            return parts[0] if parts else None
        return self._of_type(schema, depth)

    def _of_type(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = kind[0] if kind else None
        match kind:
            case "object" | None if kind or "properties" in schema:
                properties = schema.get("properties")
                properties = properties if isinstance(properties, Mapping) else {}
                return {name: self.sample(part, depth + 1) for name, part in properties.items()}
            case "array":
                least = min(_number(schema, "minItems", 0), 64)
                return [self.sample(schema.get("items"), depth + 1) for _ in range(int(least))]
            case "string":
                text = _FORMATS.get(str(schema.get("format")), "echo")[: int(_number(schema, "maxLength", 64))]
                return text.ljust(int(min(_number(schema, "minLength", 0), 4096)), ".")
            case "integer" | "number":
                least = _number(schema, "minimum", _number(schema, "exclusiveMinimum", -1) + 1)
                value = min(max(0, least), _number(schema, "maximum", max(0, least)))
                return int(value) if kind == "integer" or value == int(value) else value
            case "boolean":
                return False
        return None


def _number(schema: Mapping[str, Any], name: str, otherwise: float) -> float:
    value = schema.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST:
        return value
    return otherwise


def _at(root: object, reference: str) -> object:
    """What a local reference such as #/$defs/Name names; None if there is nothing."""
    found = root
    for step in reference.removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found
