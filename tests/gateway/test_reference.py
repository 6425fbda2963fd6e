"""The reference is true: schemathesis asks what it describes, and gets only what it describes, with nothing leaked."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.conftest import OpenSite
from tests.gateway.administrators import hospital
from tests.local import AsOperator, Site, listening

CANARY = "Zebulon19470231"
EXAMPLES = int(os.environ.get("REFERENCE_EXAMPLES", "8"))
"""Of each operation; `make drill` asks for more."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
TAGS = [
    "inference", "responses", "models", "files", "batches", "azure openai v1", "azure openai",
    "azure ai model inference", "health", "me", "status", "tenants", "keys", "limits", "usage", "audit",
]  # fmt: skip
OURS = {"model", "encoding_format", "endpoint", "completion_window", "role", "type", "purpose", "service_tier"}
"""Fields whose values are words of the API: with a canary in them nothing further would be reached."""


@dataclass
class Asked:
    """A gateway in a real socket, what it says of itself, an administrator's key, and ids of things that there are."""

    site: Site
    url: str
    key: str
    ids: dict[str, str]
    document: dict[str, Any]
    statuses: dict[str, set[int]] = field(default_factory=dict)
    turns: Iterator[int] = field(default_factory=itertools.count)

    def operations(self, tag: str) -> list[schemathesis.APIOperation]:
        found = [one.ok() for one in schemathesis.openapi.from_dict(self.document).get_all_operations()]
        return sorted((one for one in found if tag in one.tags), key=lambda one: one.method == "delete")


@pytest.fixture
def asked(site: OpenSite) -> Iterator[Asked]:
    place = hospital(site)
    key = place.keys["root"]
    with listening(place.site.app) as url, httpx.Client(base_url=url, headers={"api-key": key}, timeout=30) as client:
        client.patch("/admin/v1/tenants/system", json={"keep_responses": 86400}).raise_for_status()
        line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {}}
        sent = {"file": ("in.jsonl", json.dumps(line)), "purpose": (None, "batch")}
        made: dict[str, Any] = {"file_id": client.post("/v1/files", files=sent).json()["id"]}
        wanted = {"input_file_id": made["file_id"], "endpoint": line["url"], "completion_window": "24h"}
        made["batch_id"] = client.post("/v1/batches", json=wanted).json()["id"]
        kept = {"model": "echo", "input": "kept"}
        made["response_id"] = client.post("/v1/responses", json=kept).json()["id"]
        ids = made | {"name": "echo", "deployment": "echo", "id": "lab"}
        yield Asked(place.site, url, key, ids, client.get("/openapi.json").json())


def ask(asked: Asked, case: schemathesis.Case) -> None:
    """Every other time as it was generated; else of something that there is, and from the example of the reference."""
    case.headers = {**(case.headers or {}), "x-patient": CANARY}
    aimed = next(asked.turns) % 2 == 0
    for name in case.path_parameters or {}:
        if aimed and name in asked.ids:
            case.path_parameters[name] = asked.ids[name]
    if "api-version" in (case.query or {}) and aimed:
        case.query["api-version"] = "2024-10-21"
    for name in ("api-key", "authorization", "Authorization"):
        (case.headers or {}).pop(name, None)
    if case.media_type == "application/json" and isinstance(case.body, dict):
        case.body = marked(case.body)
        content = case.operation.definition.raw["requestBody"]["content"]["application/json"]
        if aimed and "example" in content:
            given = {name: value for name, value in case.body.items() if name in ("stream", "n", "user", "store")}
            case.body = marked(content["example"]) | given
            if "input_file_id" in case.body:
                case.body["input_file_id"] = asked.ids["file_id"]
    response = case.call(base_url=asked.url, headers={"authorization": f"Bearer {asked.key}"}, timeout=20)
    asked.statuses.setdefault(case.operation.label, set()).add(response.status_code)
    case.validate_response(response, checks=CHECKS)
    if response.status_code >= 400:
        assert CANARY not in response.text and CANARY not in str(response.headers)


def marked(value: Any, name: str = "") -> Any:
    """The value with the canary in each text that a caller writes; and a model that there is."""
    if isinstance(value, dict):
        return {name: "echo" if name == "model" else marked(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [marked(one, name) for one in value]
    return value + CANARY if isinstance(value, str) and name not in OURS else value


def ask_all(asked: Asked, operation: schemathesis.APIOperation) -> None:
    """The same examples each time, as described and not: what fails here fails again."""
    cases = operation.as_strategy()
    if "parameters" in operation.definition.raw or "requestBody" in operation.definition.raw:
        cases |= operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

    @hypothesis.settings(max_examples=EXAMPLES, derandomize=True, suppress_health_check=[*hypothesis.HealthCheck])
    @hypothesis.given(case=cases)
    def run(case: schemathesis.Case) -> None:
        ask(asked, case)

    run()


@pytest.mark.parametrize("tag", TAGS)
def test_what_is_described_is_what_is_answered(asked: Asked, tag: str) -> None:
    for operation in asked.operations(tag):
        ask_all(asked, operation)
    assert CANARY not in json.dumps(asked.site.log())
    assert CANARY not in httpx.get(f"{asked.url}/metrics", auth=AsOperator(asked.site), timeout=30).text
    assert any(200 in statuses for statuses in asked.statuses.values())


async def test_what_needs_a_credential_by_the_reference_is_answered_to_nobody_without(asked: Asked) -> None:
    ids = asked.ids | {"scope": "key", "subject": "x"}
    count = 0
    async with httpx.AsyncClient(base_url=asked.url, params={"api-version": "2024-10-21"}) as client:
        for path, methods in asked.document["paths"].items():
            for method in [method for method, operation in methods.items() if operation.get("security")]:
                answer = await client.request(method, path.format_map(ids))
                assert answer.status_code == 401, (method, path)
                count += 1
    assert count > 60


def test_every_tag_of_the_reference_is_asked(asked: Asked) -> None:
    tags = {tag for methods in asked.document["paths"].values() for one in methods.values() for tag in one["tags"]}
    assert tags == set(TAGS)


def test_every_operation_says_what_it_does_who_may_and_how_it_refuses(asked: Asked) -> None:
    for path, methods in asked.document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            if "health" not in operation["tags"]:
                assert operation["security"] and {"400", "401", "403"} <= operation["responses"].keys(), (method, path)
            for name in [part[1:-1] for part in path.split("/") if part.startswith("{")]:
                assert name in [one["name"] for one in operation["parameters"] if one["in"] == "path"], (method, path)


async def test_the_page_needs_nothing_from_elsewhere_and_runs_no_script(site: OpenSite) -> None:
    page = await site().client().get("/docs")
    assert page.status_code == 200 and "/v1/chat/completions" in page.text
    assert "<script" not in page.text and "http" not in page.text.replace("http bearer", "")
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("PATCH", "/v1/files", "GET, HEAD, POST"),
        ("POST", "/openai/v1/models", "GET, HEAD"),
        ("PUT", "/v1/files/file-1", "DELETE, GET, HEAD"),
        ("OPTIONS", "/v1/chat/completions", "POST"),
        ("HEAD", "/models/chat/completions", "POST"),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_told_which_it_takes(
    site: OpenSite, method: str, path: str, allowed: str
) -> None:
    answer = await site().client().request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
