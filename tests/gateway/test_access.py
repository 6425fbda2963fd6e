"""Access that was refused, and reads of what not everybody may read, are in the audit log: once, then counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest

from serving.app import open_office
from serving.tenants.access import Access, AccessLog
from serving.tenants.audit import AuditEvent
from serving.tenants.audit_log import NoAudit
from serving.tenants.callers import ROLES
from tests.conftest import OpenSite
from tests.local import Site, chat, listening
from tests.tenants.audit_events import NOON

INVENTED = "csk_ab12cd34_00000000000000000000000000000000" + "2TVwV5"


@contextmanager
def served(site: Site) -> Iterator[httpx.Client]:
    """The server, until all that it audits is written."""
    with listening(site.app) as url, httpx.Client(base_url=url) as client:
        yield client


def audited(site: Site, kind: str) -> list[dict[str, Any]]:
    """Bodies, the oldest first."""
    with open_office(site.settings) as office:
        bodies = [json.loads(record.body) for record in office.audit_store.records() if record.kind == kind]
    return sorted(bodies, key=lambda body: body["at"])


def an_administrators_key(site: Site) -> str:
    with open_office(site.settings) as office:
        office.administration.ensure_tenant("system")
        _, secret = office.administration.create_key(office.actor, "system", "boss", roles=frozenset(ROLES))
    return secret.reveal()


@pytest.mark.parametrize("text", ["-", "wrong", INVENTED, "eyJhbGciOiJub25lIn0.e30."])
def test_failed_authentication_is_audited_without_the_credential(site: OpenSite, text: str) -> None:
    place = site()
    with served(place) as client:
        answer = client.post("/v1/chat/completions", json=chat(), headers={"authorization": f"Bearer {text}"})
    assert answer.status_code == 401
    (record,) = audited(place, "access")
    details = record["details"]
    assert (details["action"], details["address"]) == ("POST /v1/chat/completions", "127.0.0.1")
    assert details["outcome"] not in ("", "ok")
    assert record["request_id"] == answer.headers["x-request-id"]
    assert text[12:] not in json.dumps(record) or not text[12:]


def test_a_revoked_key_and_a_missing_role_are_audited_with_who_it_was(site: OpenSite) -> None:
    place, boss = site(keys={"cache": 0}), ""
    boss = an_administrators_key(place)
    with served(place) as client:
        mine = {"authorization": f"Bearer {place.key}"}
        assert client.get("/admin/v1/audit", headers=mine).status_code == 403
        client.post(f"/admin/v1/keys/{place.key[:12]}/revoke", headers={"authorization": f"Bearer {boss}"})
        assert client.get("/v1/models", headers=mine).status_code == 401
    refused = [(one["actor"], one["tenant"], one["details"]["outcome"]) for one in audited(place, "access")]
    assert (place.key[4:12], "ward", "role_missing") in refused
    assert any(actor in (place.key[:12], place.key[4:12]) and "key" in why for actor, _, why in refused[1:])


def test_a_flood_from_one_address_is_one_record_and_a_count(site: OpenSite) -> None:
    place = site()
    with served(place) as client:
        answers = [client.get("/v1/models", headers={"api-key": "wrong"}) for _ in range(50)]
    # What the server holds off before it looks is refused too, but not for its key.
    looked_at = sum(answer.status_code == 401 for answer in answers)
    counts = [one["details"]["count"] for one in audited(place, "access")]
    assert len(counts) == 2 and sum(counts) == looked_at > 1


def test_reads_of_audit_usage_and_keys_are_audited_with_address_and_request(site: OpenSite) -> None:
    place = site()
    boss = {"authorization": f"Bearer {an_administrators_key(place)}"}
    paths = ["/admin/v1/audit", "/admin/v1/usage?tenant=ward", "/admin/v1/usage/records.csv", "/admin/v1/keys"]
    with served(place) as client:
        ids = [client.get(path, headers=boss).headers["x-request-id"] for path in paths]
    found = {one["request_id"]: one["details"] for one in audited(place, "access")}
    assert [found[id]["action"] for id in ids] == ["audit.read", "usage.read", "usage.records", "key.list"]
    assert [found[id]["target"] for id in ids] == ["all", "ward", "all", "all"]
    assert {found[id]["address"] for id in ids} == {"127.0.0.1"}


def test_an_administrators_act_says_from_where_and_by_which_request(site: OpenSite) -> None:
    place = site()
    boss = {"authorization": f"Bearer {an_administrators_key(place)}"}
    with served(place) as client:
        answer = client.post("/admin/v1/tenants", json={"id": "lab", "name": "Lab"}, headers=boss)
    act = next(one for one in audited(place, "admin") if one["details"]["target"] == "lab")
    assert (act["request_id"], act["details"]["address"]) == (answer.headers["x-request-id"], "127.0.0.1")


def test_a_line_of_the_request_log_says_who_came_from_where(site: OpenSite) -> None:
    place = site()
    with served(place) as client:
        client.get("/v1/models", headers={"api-key": INVENTED})
        client.get("/v1/models", headers={"api-key": place.key})
    invented, known = (line for line in place.log() if line["event"] == "request")
    assert (invented["key_prefix"], known["key_prefix"]) == (INVENTED[:12], place.key[:12])
    assert {invented["address"], known["address"]} == {"127.0.0.1"}


def test_a_site_may_leave_addresses_out_of_the_request_log(site: OpenSite) -> None:
    place = site(telemetry={"request_log": "file", "log_addresses": False})
    with served(place) as client:
        client.get("/v1/models", headers={"api-key": place.key})
    assert {line["address"] for line in place.log() if line["event"] == "request"} == {""}


class Kept(NoAudit):
    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    def record(self, event: AuditEvent) -> None:
        self.events.append(event)


def test_a_flood_of_all_kinds_is_bounded_and_its_number_is_kept() -> None:
    audit, now = Kept(), [NOON]
    log = AccessLog(audit, lambda: now[0], most=10)
    for number in range(1000):
        log.note(Access("GET /", "invalid_api_key", address=f"10.0.0.{number}"))
    assert len(audit.events) == 10
    now[0] += timedelta(seconds=61)
    log.note(Access("GET /", "invalid_api_key", address="10.1.0.1"))
    assert [event.details["count"] for event in audit.events[10:]] == [990, 1]
