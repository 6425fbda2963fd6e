"""/admin/v1 under garbage: what is wrong is named, what was sent is not repeated, and nothing breaks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import OpenSite
from tests.gateway.administrators import hospital
from tests.local import Tree, error_of

CANARY = "Zebulon-Quackenbush-19470231"


READABLE = ("/tenants", "/tenants/ward", "/keys", "/limits", "/usage", "/usage/records.csv", "/audit", "/me")


async def test_an_unknown_parameter_is_refused_rather_than_ignored(site: OpenSite) -> None:
    there = hospital(site)
    for path in READABLE:
        response = await there.ask("root", "GET", path, **{CANARY: "x"})
        assert "unknown parameter" in error_of(response, 400, "invalid_request")["message"]
        assert CANARY not in response.text


QUERIES = [
    ("/keys?limit=0", "limit"), ("/keys?limit=1001", "limit"), (f"/keys?limit={CANARY}", "limit"),
    (f"/keys?after={CANARY}", "after"), (f"/tenants?after={CANARY}", "after"), (f"/limits?after={CANARY}", "after"),
    (f"/audit?after={CANARY}", "after"), (f"/audit?after=2026-01-01T00:00:00Z/x/{10**30}", "after"),
    (f"/usage?after={CANARY}", "after"), (f"/limits?scope={CANARY}", "scope"), (f"/limits/{CANARY}/x", "scope"),
    (f"/usage?group_by={CANARY}", "group_by"), ("/usage?group_by=day,day", "group_by"),
    (f"/usage?from={CANARY}", "from"), ("/usage?to=0001-01-01T00:00:00%2B23:00", "to"),
    ("/usage?tenant=%00", "tenant"), (f"/audit?kind={CANARY}", "kind"),
]  # fmt: skip


async def test_a_wrong_query_is_refused_by_the_parameters_name(site: OpenSite) -> None:
    client = hospital(site).client()
    for path, param in QUERIES:
        response = await client.get(path)
        assert error_of(response, 400, "invalid_request")["param"] == param, path
        assert CANARY not in response.text


TENANT, KEY = {"id": "new", "name": "x"}, {"tenant": "ward", "name": "portal"}
WRONG: list[tuple[str, str, Tree, str]] = [
    ("POST", "/tenants", {"id": "new"}, "name"),
    ("POST", "/tenants", TENANT | {"id": CANARY}, "id"),
    ("POST", "/tenants", TENANT | {"name": "\x00"}, "name"),
    ("POST", "/tenants", TENANT | {CANARY: 1}, "body"),
    ("POST", "/keys", {"tenant": "ward"}, "name"),
    ("POST", "/keys", KEY | {"name": 5}, "name"),
    ("POST", "/keys", KEY | {"roles": [CANARY]}, "roles"),
    ("POST", "/keys", KEY | {"roles": []}, "roles"),
    ("POST", "/keys", KEY | {"deployments": [CANARY]}, "deployments"),
    ("POST", "/keys", KEY | {"deployments": []}, "deployments"),
    ("POST", "/keys", KEY | {"networks": [CANARY]}, "networks"),
    ("POST", "/keys", KEY | {"networks": ["10.0.0.1/8"]}, "networks"),
    ("POST", "/keys", KEY | {"networks": [5]}, "networks"),
    ("POST", "/keys", KEY | {"expires_at": CANARY}, "expires_at"),
    ("POST", "/keys", KEY | {"expires_at": 4102444800}, "expires_at"),
    ("POST", "/keys", KEY | {"expires_at": "2001-01-01"}, "expires_at"),
    ("POST", "/keys/x/rotate", {"grace_seconds": -1}, "grace_seconds"),
    ("POST", "/keys/x/rotate", {"grace_seconds": "5"}, "grace_seconds"),
    ("PUT", "/limits/tenant/ward", {"tokens_per_day": -1}, "tokens_per_day"),
    ("PUT", "/limits/tenant/ward", {"tokens_per_day": 10**30}, "tokens_per_day"),
    ("PUT", "/limits/tenant/ward", {"tokens_per_day": True}, "tokens_per_day"),
    ("PUT", "/limits/tenant/ward", {"tokens_per_dya": 5}, "body"),
]


async def test_a_wrong_body_is_refused_by_the_fields_name(site: OpenSite) -> None:
    there = hospital(site)
    for method, path, body, param in WRONG:
        response = await there.ask("root", method, path, body)
        assert error_of(response, 400, "invalid_request")["param"] == param, body
        assert CANARY not in response.text


NASTY: list[Any] = [
    "", " ", "\x00", "\ufffd", "../../etc/passwd", "%", "*",
    "'; DROP TABLE api_keys;--", "x" * 5000, "system", "ward", "echo", "0", "-1", str(10**30), "NaN", "null", "é", "😀",
    "2026-01-01", "9999-12-31T23:59:59-23:59", "2026-01-01T00:00:00Z/x/99999999999999999999999", "key:x", "6,6", "00",
    "tenant,key,deployment,day", "csk_ab12cd34", "oidc:a/b", "inference", "10.0.0.0/8",
]  # fmt: skip
BODIES: list[Any] = [
    *NASTY, None, True, 0, -1, 1.5, 10**30, [], {}, [[]], [None], ["inference"], ["echo"], {"": ""},
]  # fmt: skip


def requests(reference: Tree, chance: random.Random) -> Iterator[tuple[str, str, dict[str, str], Any]]:
    """Requests that an administrator's broken program might make: of each operation, with anything anywhere."""
    for path, operations in reference["paths"].items():
        for method, operation in operations.items():
            if not path.startswith("/admin/v1"):
                continue
            names = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            for _ in range(25):
                filled = path
                for part in ("id", "scope", "subject"):
                    value = chance.choice(["key", "tenant", "deployment"] if part == "scope" else NASTY)
                    filled = filled.replace(f"{{{part}}}", quote(value, safe=""))
                query = {name: chance.choice(NASTY) for name in names if chance.random() < 0.4}
                body = {name: chance.choice(BODIES) for name in schema.get("properties", ()) if chance.random() < 0.8}
                yield method, filled, query, chance.choice([body, body, body, *BODIES])


@pytest.mark.parametrize("caller", ["root", "ward_admin"])
async def test_no_garbage_breaks_anything(site: OpenSite, caller: str) -> None:
    there = hospital(site)
    client = there.site.client(authorization=f"Bearer {there.keys[caller]}")
    reference = (await client.get("/openapi.json")).json()
    count = 0
    for method, path, query, body in requests(reference, random.Random(7)):
        response = await client.request(method, path, params=query or None, json=body)
        assert response.status_code < 500, (method, path, query, body, response.text)
        if response.status_code >= 400:
            assert response.json()["error"].keys() == {"message", "type", "param", "code"}
        count += 1
    assert count > 400
    assert not [line for line in there.site.log() if line["event"] == "internal_error"]


async def test_the_reference_says_what_may_be_asked_answered_and_refused(site: OpenSite) -> None:
    there = hospital(site)
    reference = (await there.site.client().get("/openapi.json")).json()
    operations = [
        operation
        for path, methods in reference["paths"].items()
        if path.startswith("/admin/v1")
        for operation in methods.values()
    ]
    assert len(operations) == 19
    for operation in operations:
        assert operation["summary"] and operation["description"] and len(operation["tags"]) == 1
        assert operation["security"] == [{"key": []}]
        assert operation["responses"].keys() >= {"400", "401", "403", "413", "500", "503"}
        assert "422" not in operation["responses"]
