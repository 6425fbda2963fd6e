"""/admin/v1 as an administrator's program uses it: what is created, changed and listed, and what it answers."""

from __future__ import annotations

import csv
import io
import sqlite3
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest

from serving import __version__
from serving.gateway.fleet import Replicas
from serving.tenants.audit import AuditEvent
from serving.tenants.ledger import UsageRecord
from tests.conftest import OpenSite
from tests.gateway.administrators import Hospital, hospital
from tests.local import Tree, chat, error_of
from tests.scaling.fleets import TOLD, ToldFleet

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def walk(there: Hospital, caller: str, path: str, limit: int, **query: str) -> list[Tree]:
    """The whole list, page by page."""
    found: list[Tree] = []
    more = {"limit": str(limit)}
    while True:
        page = (await there.ask(caller, "GET", path, **query, **more)).raise_for_status().json()
        assert page["object"] == "list" and len(page["data"]) <= limit
        found += page["data"]
        if page["data"]:
            assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        if not page["has_more"]:
            return found
        more["after"] = page["last_id"]


async def test_a_tenants_first_request_minutes_after_it_was_thought_of(site: OpenSite) -> None:
    there = hospital(site)
    made = await there.ask("root", "POST", "/tenants", {"id": "cardiology", "name": "Cardiology"})
    assert made.status_code == 201 and made.json()["status"] == "active"
    key = (await there.new_key("cardiology", "letters"))["key"]
    client = there.site.client(authorization=f"Bearer {key}")
    assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200


async def test_a_disabled_tenants_keys_are_refused_until_it_is_enabled(site: OpenSite) -> None:
    there = hospital(site)
    client = there.site.client()  # of ward
    disabled = await there.ask("root", "POST", "/tenants/ward/disable")
    assert disabled.json()["status"] == "disabled" and disabled.json()["disabled_at"]
    error_of(await client.get("/v1/models"), 403, "tenant_disabled")
    await there.ask("root", "POST", "/tenants/ward/enable")
    assert (await client.get("/v1/models")).status_code == 200


async def test_how_long_a_tenants_responses_are_kept_is_for_an_operator_of_system_to_say(site: OpenSite) -> None:
    there = hospital(site)
    kept = await there.ask("operator", "PATCH", "/tenants/ward", {"keep_responses": 3600})
    assert kept.json()["keep_responses"] == 3600
    assert (await there.ask("ward_admin", "GET", "/tenants/ward")).json()["keep_responses"] == 3600
    for caller in ("ward_admin", "key_admin", "auditor"):
        error_of(await there.ask(caller, "PATCH", "/tenants/ward", {"keep_responses": 60}), 403, "role_missing")
    error_of(await there.ask("root", "PATCH", "/tenants/nobody", {"keep_responses": 60}), 404, "tenant_not_found")
    for body in ({"keep_responses": 59}, {"keep_responses": "1d"}, {"keep_responses": 2**40}, {}, {"name": "x"}):
        error_of(await there.ask("root", "PATCH", "/tenants/ward", body), 400, "invalid_request")
    off = await there.ask("root", "PATCH", "/tenants/ward", {"keep_responses": None})
    assert off.json()["keep_responses"] is None


async def test_a_taken_id_is_a_conflict_and_an_unknown_one_not_found(site: OpenSite) -> None:
    there = hospital(site)
    error_of(await there.ask("root", "POST", "/tenants", {"id": "ward", "name": "x"}), 409, "conflict")
    for method, path in (
        ("GET", "/tenants/nobody"),
        ("POST", "/tenants/nobody/disable"),
        ("GET", "/keys?tenant=nobody"),
    ):
        error_of(await there.client().request(method, path), 404, "tenant_not_found")
    error_of(await there.ask("root", "POST", "/keys/nobody/revoke"), 404, "key_not_found")
    error_of(await there.ask("root", "PUT", "/limits/deployment/nobody", {}), 404, "model_not_found")


async def test_a_key_has_the_rights_it_was_created_with(site: OpenSite) -> None:
    there = hospital(site)
    asked = {
        "tenant": "ward",
        "name": "portal",
        "roles": ["inference", "auditor"],
        "deployments": ["echo"],
        "networks": ["10.20.0.0/16", "2001:db8::1"],
        "expires_at": "2100-01-01",
    }
    created = (await there.ask("root", "POST", "/keys", asked)).json()
    (listed,) = [key for key in await walk(there, "ward_admin", "/keys", 100) if key["name"] == "portal"]
    assert created.pop("key").startswith(created["prefix"])
    assert listed == created
    rights = {"roles": ["auditor", "inference"], "networks": ["10.20.0.0/16", "2001:db8::1/128"]}
    assert created.items() >= (asked | rights | {"expires_at": "2100-01-01T00:00:00Z", "revoked_at": None}).items()


async def test_the_key_is_in_the_answer_that_makes_it_which_nobody_may_keep_and_nowhere_else(site: OpenSite) -> None:
    there = hospital(site)
    created = await there.ask("root", "POST", "/keys", {"tenant": "ward", "name": "portal"})
    rotated = await there.ask("root", "POST", f"/keys/{created.json()['id']}/rotate", {})
    keys = {answer.json()["key"] for answer in (created, rotated)}
    for answer in (created, rotated):
        assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    (rotation,) = [line for line in there.site.log() if line["route"].endswith("rotate")]
    assert (rotation["route"], rotation["tenant"]) == ("/admin/v1/keys/{id}/rotate", "system")
    lists = [(await there.client().get(path)).text for path in ("/keys", "/audit", "/limits")]
    assert not any(key[13:] in text for key in keys for text in [*lists, str(there.site.log())])


async def test_a_rotated_key_goes_on_for_its_grace_and_a_revoked_one_not(site: OpenSite) -> None:
    there = hospital(site)
    old = await there.new_key("ward", "portal")
    new = (await there.ask("ward_admin", "POST", f"/keys/{old['prefix']}/rotate", {"grace_seconds": 3600})).json()

    async def status(key: Tree) -> int:
        return (await there.site.client(authorization=f"Bearer {key['key']}").get("/v1/models")).status_code

    assert (await status(old), await status(new)) == (200, 200)
    ends = {key["id"]: key["expires_at"] for key in await walk(there, "ward_admin", "/keys", 100)}
    left = datetime.fromisoformat(ends[old["id"]]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left < timedelta(hours=1) and ends[new["id"]] is None
    revoked = (await there.ask("ward_admin", "POST", f"/keys/{old['id']}/revoke")).json()
    assert revoked["status"] == "revoked"
    assert (await status(old), await status(new)) == (401, 200)


async def test_a_third_live_key_of_one_owner_is_refused(site: OpenSite) -> None:
    there = hospital(site)
    for _ in range(2):
        await there.new_key("ward", "portal")
    third = await there.ask("root", "POST", "/keys", {"tenant": "ward", "name": "portal"})
    assert "2 live keys" in error_of(third, 400, "too_many_keys")["message"]


async def test_limits_are_put_whole_act_at_once_and_are_deleted(site: OpenSite) -> None:
    there = hospital(site)
    client = there.site.client()
    await there.ask("root", "PUT", "/limits/tenant/ward", {"tokens_per_day": 9, "requests_per_minute": 9})
    put = (await there.ask("root", "PUT", "/limits/tenant/ward", {"requests_per_minute": 1})).json()
    assert (put["id"], put["requests_per_minute"], put["tokens_per_day"]) == ("tenant:ward", 1, None)
    assert (await there.ask("ward_auditor", "GET", "/limits/tenant/ward")).json() == put
    statuses = [(await client.post("/v1/chat/completions", json=chat())).status_code for _ in range(2)]
    assert statuses == [200, 429]
    assert (await there.ask("root", "DELETE", "/limits/tenant/ward")).status_code == 204
    assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200
    assert (await there.ask("root", "GET", "/limits")).json()["data"] == []


async def test_limits_of_a_key_are_kept_by_its_id_however_it_is_named(site: OpenSite) -> None:
    there = hospital(site)
    key = await there.new_key("ward", "portal")
    put = (await there.ask("ward_admin", "PUT", f"/limits/key/{key['prefix']}", {"tokens_per_day": 0})).json()
    assert put["subject"] == key["id"]
    for name in (key["id"], key["prefix"]):
        assert (await there.ask("ward_admin", "GET", f"/limits/key/{name}")).json() == put


async def test_the_holder_of_a_token_is_limited_by_an_id_with_slashes(site: OpenSite) -> None:
    there = hospital(site)
    put = await there.ask("root", "PUT", "/limits/key/oidc:hospital/tid/oid", {"tokens_per_day": 5})
    assert put.json()["subject"] == "oidc:hospital/tid/oid"
    assert (await there.ask("root", "GET", "/limits/key/oidc:hospital/tid/oid")).json() == put.json()


async def test_limits_are_listed_by_scope_and_by_tenant(site: OpenSite) -> None:
    there = hospital(site)
    for path in ("tenant/ward", "tenant/lab", "deployment/echo"):
        await there.ask("root", "PUT", f"/limits/{path}", {"tokens_per_day": 5})

    async def listed(caller: str, **query: str) -> list[str]:
        return [row["id"] for row in await walk(there, caller, "/limits", 1, **query)]

    assert await listed("root") == ["deployment:echo", "tenant:lab", "tenant:ward"]
    assert await listed("root", scope="tenant") == ["tenant:lab", "tenant:ward"]
    assert await listed("root", tenant="ward") == await listed("ward_auditor") == ["tenant:ward"]


async def test_everybody_learns_who_they_are_and_what_they_may_use(site: OpenSite) -> None:
    there = hospital(site)
    await there.ask("root", "PUT", "/limits/tenant/ward", {"tokens_per_day": 500})
    me = (await there.ask("ward_user", "GET", "/me")).json()
    assert (me["tenant"], me["key_name"], me["roles"], me["deployments"]) == ("ward", "ward_user", ["inference"], None)
    assert (me["limits"]["tenant"]["tokens_per_day"], me["limits"]["key"]["tokens_per_day"]) == (500, None)


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
async def test_paging_gives_everything_once_in_its_order(site: OpenSite, limit: int) -> None:
    there = hospital(site)
    for path in ("/tenants", "/keys", "/audit"):
        whole = (await there.ask("root", "GET", path)).json()["data"]
        assert await walk(there, "root", path, limit) == whole and len(whole) >= 3


def used(number: int, tenant: str, key: str = "ab12cd34", *, day: int = 1, cost: int | None = 5) -> UsageRecord:
    return UsageRecord(
        id=f"req_{number:024x}",
        started_at=NOON.replace(day=day) + timedelta(seconds=number),
        tenant=tenant,
        key_id=key,
        key_name="=portal",
        deployment="echo",
        revision="r1",
        operation="chat",
        stream=False,
        outcome="ok",
        prompt_tokens=10,
        cached_tokens=4,
        completion_tokens=number,
        cost_micros=cost,
        first_token=None,
        duration=0.5,
    )


def keep(there: Hospital, *records: UsageRecord) -> None:
    with there.office() as office:
        office.usage_store.add(records)


async def test_usage_is_summed_by_what_is_asked_within_the_time_and_the_tenant(site: OpenSite) -> None:
    there = hospital(site)
    keep(there, used(1, "ward"), used(2, "ward", day=2), used(3, "ward", "zz99zz99"), used(4, "lab", cost=None))

    async def sums(caller: str, *fields: str, **query: str) -> list[tuple[object, ...]]:
        return [tuple(row[field] for field in fields) for row in await walk(there, caller, "/usage", 1, **query)]

    assert await sums("root", "tenant", "total_tokens", "cost_micros", group_by="tenant") == [
        ("lab", 14, None),
        ("ward", 36, 15),
    ]
    assert await sums("root", "day", "requests", "key") == [("2026-03-01", 3, None), ("2026-03-02", 1, None)]
    assert await sums("root", "requests", **{"from": "2026-03-02", "group_by": "tenant"}) == [(1,)]
    assert await sums("root", "requests", to="2026-03-01T12:00:02Z", group_by="deployment") == [(1,)]
    assert await sums("root", "key", key="csk_zz99zz99", group_by="key") == [("zz99zz99",)]
    assert await sums("ward_auditor", "tenant", "key", "requests", group_by="tenant,key") == [
        ("ward", "ab12cd34", 2),
        ("ward", "zz99zz99", 1),
    ]


async def test_single_requests_come_as_a_table_that_no_spreadsheet_runs(site: OpenSite) -> None:
    there = hospital(site)
    mine = [used(number, "ward") for number in range(1, 1203)]
    keep(there, *mine, used(5000, "lab"))
    answer = await there.ask("ward_auditor", "GET", "/usage/records.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="usage.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in rows] == [record.id for record in mine]
    assert rows[0].keys() == asdict(mine[0]).keys() and rows[0]["key_name"] == "'=portal"


async def test_what_was_done_is_in_the_audit_log_for_the_auditors_of_the_tenant(site: OpenSite) -> None:
    there = hospital(site)
    with there.office() as office:
        office.administration.disable_tenant(office.actor, "lab")
        office.audit_log.record(AuditEvent("inference", NOON, "ward", "ab12cd34", "req_1", {"outcome": "ok"}))
    (last, *_) = await walk(there, "auditor", "/audit", 1000, kind="admin")
    assert (last["tenant"], last["actor"]) == ("lab", office.actor.key_id)
    assert (last["details"]["action"], last["details"]["outcome"]) == ("tenant.disable", "done")
    wards = await walk(there, "ward_auditor", "/audit", 2)
    assert {record["tenant"] for record in wards} == {"ward"}
    (request,) = await walk(there, "ward_auditor", "/audit", 2, request_id="req_1", to="2026-03-02")
    assert (request["kind"], request["details"]) == ("inference", {"outcome": "ok"})
    assert request in wards


async def test_a_damaged_record_is_shown_as_such(site: OpenSite) -> None:
    there = hospital(site)
    database = sqlite3.connect(there.site.settings.server.state_dir / "clinserve.db")
    with database:
        database.execute("UPDATE audit_records SET body = '{' WHERE kind = 'admin'")
    database.close()
    damaged = await walk(there, "root", "/audit", 1000, kind="admin")
    assert damaged and {record["details"] for record in damaged} == {None}


async def test_the_status_is_of_what_the_caller_may_call_and_says_what_is_ready(site: OpenSite) -> None:
    away = {"name": "letters", "engine": {"kind": "http", "url": "http://127.0.0.1:9/v1"}}
    notes = {"name": "notes", "engine": {"kind": "echo"}, "model": {"notice": "Not for clinical use."}}
    there = hospital(lambda: site(deployments=[notes, away]))
    status = (await there.ask("ward_user", "GET", "/status")).json()
    assert [(one["name"], one["ready"], one["replicas"]) for one in status["deployments"]] == [
        ("notes", True, None),
        ("letters", False, None),
    ]
    assert status["deployments"][0]["notice"] == "Not for clinical use." and status["version"] == __version__
    body = {"tenant": "ward", "name": "narrow", "deployments": ["letters"]}
    narrow = (await there.ask("root", "POST", "/keys", body)).json()["key"]
    answer = await there.site.client(authorization=f"Bearer {narrow}").get("/admin/v1/status")
    assert [one["name"] for one in answer.json()["deployments"]] == ["letters"]


async def test_the_status_counts_replicas_where_they_are_ours(site: OpenSite) -> None:
    two = ToldFleet({"echo": TOLD}, {"echo": Replicas(running=2, starting=1, stopping=0)})
    there = hospital(lambda: site(fleet=two))
    (echo,) = (await there.ask("root", "GET", "/status")).json()["deployments"]
    assert echo["replicas"] == {"running": 2, "starting": 1, "stopping": 0}


async def test_the_status_says_what_scaling_decided_last_and_why(site: OpenSite) -> None:
    there = hospital(lambda: site(fleet=ToldFleet({"echo": TOLD})))
    (echo,) = (await there.ask("root", "GET", "/status")).json()["deployments"]
    scaling = echo["scaling"]
    assert (scaling["target"], scaling["wanted"], scaling["min"], scaling["max"]) == (2, 3, 1, 2)
    assert (scaling["reason"], scaling["goal_missed"]) == ("bounds", True)
    (change,) = scaling["changes"]
    assert change == {"before": 1, "after": 2, "reason": "queue", "detail": "9 in flight (5 waiting)"} | {
        "at": "2026-09-21T14:13:10Z"
    }
