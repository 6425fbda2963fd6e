"""A gateway behind a socket, whose worker runs batches on the echo engine; and the real client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.batches.workshop import Workshop
from tests.local import Site, listening
from tests.tenants.conftest import postgresql  # noqa: F401  # a fixture
from tests.tenants.databases import migrated

Lines = Sequence[dict[str, Any]]


@pytest.fixture
def client(site: Callable[..., Site]) -> Iterator[openai.OpenAI]:
    place = site(server={"max_body": 65536})
    with listening(place.app) as url:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key=place.key, max_retries=0)


def line(number: int, text: str = "one two three", **changes: Any) -> dict[str, Any]:
    body = {"model": "echo", "messages": [{"role": "user", "content": f"{text} {number}"}]}
    return {"custom_id": f"t-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body} | changes


def jsonl(lines: Lines) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(row) for row in text.splitlines()]


@pytest.fixture
def workshop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workshop]:
    with migrated("sqlite", request, tmp_path) as engine:
        yield Workshop(engine, tmp_path)
