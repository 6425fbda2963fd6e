"""Who may do what under /admin/v1: each verb with each kind of caller, over HTTP."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.conftest import OpenSite
from tests.gateway.administrators import CALLERS, Hospital, hospital
from tests.local import Tree, error_of

SYSTEM = {"root", "operator", "key_admin", "auditor"}
WARD = {"ward_admin", "ward_auditor"}


class Verb(NamedTuple):
    name: str
    method: str
    path: str
    allowed: set[str]
    body: Tree | None = None


KEYS = {"root", "key_admin", "ward_admin"}
VERBS = [
    Verb("who am I", "GET", "/me", set(CALLERS)),
    Verb("what runs", "GET", "/status", set(CALLERS)),
    Verb("create a tenant", "POST", "/tenants", {"root", "operator"}, {"id": "{caller}", "name": "New"}),
    Verb("list tenants", "GET", "/tenants", SYSTEM | WARD),
    Verb("one tenant", "GET", "/tenants/ward", SYSTEM | WARD),
    Verb("another tenant", "GET", "/tenants/lab", SYSTEM),
    Verb("disable a tenant", "POST", "/tenants/lab/disable", {"root", "operator"}),
    Verb("enable a tenant", "POST", "/tenants/lab/enable", {"root", "operator"}),
    Verb("keep a tenant's responses", "PATCH", "/tenants/lab", {"root", "operator"}, {"keep_responses": None}),
    Verb("create a key", "POST", "/keys", KEYS, {"tenant": "ward", "name": "{caller}s"}),
    Verb("create a key elsewhere", "POST", "/keys", {"root", "key_admin"}, {"tenant": "lab", "name": "{caller}s"}),
    Verb("list keys", "GET", "/keys", KEYS),
    Verb("list keys elsewhere", "GET", "/keys?tenant=lab", {"root", "key_admin"}),
    Verb("rotate a key", "POST", "/keys/{wards}/rotate", KEYS, {"grace_seconds": 0}),
    Verb("rotate a key elsewhere", "POST", "/keys/{labs}/rotate", {"root", "key_admin"}, {"grace_seconds": 0}),
    Verb("revoke a key", "POST", "/keys/{wards}/revoke", KEYS),
    Verb("revoke a key elsewhere", "POST", "/keys/{labs}/revoke", {"root", "key_admin"}),
    Verb("list limits", "GET", "/limits", SYSTEM | WARD),
    Verb("one's limits", "GET", "/limits/tenant/ward", SYSTEM | WARD),
    Verb("a tenant's limits", "PUT", "/limits/tenant/ward", {"root", "operator"}, {"tokens_per_day": 5}),
    Verb("a deployment's limits", "PUT", "/limits/deployment/echo", {"root", "operator"}, {"tokens_per_day": 5}),
    Verb("a key's limits", "PUT", "/limits/key/{wards}", KEYS | {"operator"}, {"tokens_per_day": 5}),
    Verb("a key's limits elsewhere", "DELETE", "/limits/key/{labs}", {"root", "operator", "key_admin"}),
    Verb("usage", "GET", "/usage", {"root", "operator", "auditor", "ward_auditor"}),
    Verb("usage elsewhere", "GET", "/usage?tenant=lab", {"root", "operator", "auditor"}),
    Verb("usage by request", "GET", "/usage/records.csv", {"root", "operator", "auditor", "ward_auditor"}),
    Verb("usage by request elsewhere", "GET", "/usage/records.csv?tenant=lab", {"root", "operator", "auditor"}),
    Verb("audit", "GET", "/audit", {"root", "auditor", "ward_auditor"}),
    Verb("audit elsewhere", "GET", "/audit?tenant=lab", {"root", "auditor"}),
]


@pytest.mark.parametrize("noun", ["/me", "/status", "/tenants", "/keys", "/limits", "/usage", "/audit"])
async def test_a_verb_is_for_those_with_its_role_and_within_their_tenant(site: OpenSite, noun: str) -> None:
    there = hospital(site)
    for verb in VERBS:
        if verb.path.startswith(noun):
            statuses = {caller: await status_of(there, verb, caller) for caller in CALLERS}
            refused = {caller: status for caller, status in statuses.items() if status >= 400}
            hidden = {caller for caller, status in refused.items() if status == 404}
            assert CALLERS.keys() - refused == verb.allowed, (verb.name, statuses)
            assert set(refused.values()) <= {403, 404}, (verb.name, statuses)
            assert hidden <= ({"ward_admin"} if "{labs}" in verb.path else set()), verb.name  # another tenant's key


async def status_of(there: Hospital, verb: Verb, caller: str) -> int:
    """What a caller is answered; wards and labs are new keys of the two tenants."""
    names = {"caller": caller}
    for tenant in ("ward", "lab"):
        if f"{{{tenant}s}}" in verb.path:
            names[f"{tenant}s"] = (await there.new_key(tenant, f"to {verb.name}, for {caller}"))["id"]
    body = {k: v.format(**names) if isinstance(v, str) else v for k, v in (verb.body or {}).items()}
    return (await there.ask(caller, verb.method, verb.path.format(**names), body)).status_code


async def test_without_a_key_there_is_nothing_to_see(site: OpenSite) -> None:
    client = hospital(site).site.client(authorization="Bearer nobody")
    for verb in VERBS:
        path = f"/admin/v1{verb.path.format(wards='x', labs='y')}"
        error_of(await client.request(verb.method, path, json=verb.body), 401, "invalid_api_key")
