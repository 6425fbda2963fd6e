"""/docs: the reference as a page. No script and nothing from elsewhere: a hospital's network may have no way out, and
FastAPI's own page would load its scripts from a public host.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_STYLE = Path(__file__).with_name("page.css").read_text()
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def page_of(document: dict[str, Any]) -> str:
    """One page of HTML."""
    text, info = html.escape, document["info"]
    described = {tag["name"]: tag["description"] for tag in document.get("tags", ())}
    by_tag: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            by_tag.setdefault(operation["tags"][0], []).append("".join(_operation(path, method, operation)))
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{text(info['title'])}: reference</title>",
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style>",
        f"<h1>{text(info['title'])} {text(info['version'])}</h1><p>{text(info['description'])}</p>",
        "<p class=dim>The same for programs: <a href=openapi.json>openapi.json</a></p>",
    ]
    for tag, operations in by_tag.items():
        parts += [f"<h2>{text(tag)}</h2><p class=dim>{text(described.get(tag, ''))}</p>", *operations]
    return "".join(parts)


def _operation(path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
    text = html.escape
    yield f"<details><summary><span class=method>{method.upper()}</span><code>{text(path)}</code></summary>"
    yield f"<p>{text(operation.get('description') or operation.get('summary') or '')}</p>"
    rows = [(one["name"], one["in"], one.get("description", "")) for one in operation.get("parameters", ())]
    yield from _table(rows)
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p class=dim>Body, {text(kind)}</p>"
        if "example" in body:
            yield f"<pre>{text(json.dumps(body['example'], indent=2))}</pre>"
        yield from _table(_fields(body.get("schema", {})))
    yield "<p class=dim>Answers</p>"
    answers = operation["responses"].items()
    yield from _table([(status, ", ".join(one.get("content", {})), one["description"]) for status, one in answers])
    yield "</details>"


def _fields(schema: dict[str, Any]) -> list[tuple[str, str, str]]:
    required = schema.get("required", ())
    return [
        (name, _kind(field) + (", required" if name in required else ""), field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_kind(one) for one in schema["anyOf"] if one.get("type") != "null"))
    return str(schema.get("const") or schema.get("type") or "any")


def _table(rows: list[tuple[str, str, str]]) -> Iterator[str]:
    if rows:
        yield "<table>"
        for name, kind, said in rows:
            yield f"<tr><td><code>{html.escape(name)}</code><td class=dim>{html.escape(kind)}<td>{html.escape(said)}"
        yield "</table>"
