"""Nothing that a caller sends is without a bound, and docs/limits.md says which.

`make readme` (python -m tests.test_readme) writes its tables anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.protocol import bounds
from tests.conftest import OpenSite

PAGE = Path(__file__).parents[1] / "docs" / "limits.md"
_COMBINED = ("anyOf", "oneOf", "allOf")
_OF_A_FORM = ("binary", "date-time")
"""A file has the limit of its setting; a time is read by its beginning."""


def limits_table() -> str:
    lines: list[str] = []
    for section in dict.fromkeys(row.section for row in bounds.TABLE):
        rows = [row for row in bounds.TABLE if row.section == section]
        lines += [f"### {section}", "", "| what | at most | more is |", "|---|---|---|"]
        lines += [f"| {row.what} | {row.most:,} {row.unit}".rstrip() + f" | {_told(row.status)} |" for row in rows]
        lines.append("")
    return "\n".join(lines).strip()


def _told(status: int) -> str:
    return "taken" if status == 200 else str(status)


def block() -> re.Pattern[str]:
    return re.compile(r"(?<=<!-- limits -->\n).*?(?=<!-- /limits -->)", re.DOTALL)


def test_the_page_says_what_the_code_does() -> None:
    found = block().search(PAGE.read_text())
    assert found is not None and found[0].strip() == limits_table(), "run: make readme"


async def test_nothing_that_a_route_takes_is_without_a_bound(site: OpenSite) -> None:
    document = (await site().client().get("/openapi.json")).json()
    taken = dict(taken_by_routes(document))
    assert len(taken) > 100
    free = [f"{where}: {place}" for where, schema in taken.items() for place in unbounded(schema, document)]
    assert free == []


def taken_by_routes(document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each body and parameter with its schema."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                yield f"{method} {path} {parameter['in']} {parameter['name']}", parameter["schema"]
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                yield f"{method} {path} {kind}", content["schema"]


def unbounded(schema: Any, document: dict[str, Any], place: str = "") -> Iterator[str]:
    """Places in a schema that take any number of something. A schema without a type takes any JSON, with the bounds
    of the body that it is in.
    """
    if not isinstance(schema, dict):
        return
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield from unbounded(document["components"]["schemas"][name], document, f"{place}/{name}")
    for word in _COMBINED:
        for index, one in enumerate(schema.get(word, ())):
            yield from unbounded(one, document, f"{place}/{word}[{index}]")
    if "enum" in schema or "const" in schema or schema.get("format") in _OF_A_FORM:
        return
    kinds = schema.get("type", ())
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        yield from (
            f"{place} {kind}: {word}" for word in MISSING[kind] if word not in schema and not closed(schema, word)
        )
    for name, one in schema.get("properties", {}).items():
        yield from unbounded(one, document, f"{place}.{name}")
    yield from unbounded(schema.get("additionalProperties"), document, f"{place}.*")
    yield from unbounded(schema.get("items"), document, f"{place}[]")


MISSING: dict[str, tuple[str, ...]] = {
    "string": ("maxLength",), "array": ("maxItems",), "object": ("maxProperties",),
    "integer": ("maximum", "minimum"), "number": ("maximum", "minimum"), "boolean": (), "null": (),
}  # fmt: skip


def closed(schema: dict[str, Any], word: str) -> bool:
    """Bounded in another word's way."""
    if word == "maxProperties":  # the names that it lists, and what is not listed is neither kept nor counted
        return "properties" in schema and schema.get("additionalProperties") is not True
    return f"exclusive{word.capitalize()}" in schema


def test_a_bound_is_one_row_of_the_table() -> None:
    named = {name: value for name, value in vars(bounds).items() if name.isupper() and isinstance(value, int)}
    assert sorted(named.values()) == sorted(row.most for row in bounds.TABLE)


@pytest.mark.parametrize("section", dict.fromkeys(row.section for row in bounds.TABLE))
def test_what_a_section_bounds_is_said_once(section: str) -> None:
    said = [row.what for row in bounds.TABLE if row.section == section]
    assert len(said) == len(set(said))


def write() -> None:
    PAGE.write_text(block().sub(lambda _: limits_table() + "\n", PAGE.read_text()))
