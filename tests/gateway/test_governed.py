"""What governance does to a request at the door, and what is written down of it at the end."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.app import build_keyring, open_office
from serving.engines.echo import EchoEngine, PlannedFailure
from serving.tenants.audit_store import AuditQuery
from serving.tenants.audit_verify import verify
from serving.tenants.callers import Role
from serving.tenants.ledger import UsageQuery, UsageRecord
from tests.conftest import OpenSite
from tests.local import Site, assert_says_when_to_come_back, chat, error_of, eventually, listening

PATH = "/v1/chat/completions"


def limited(**limits: int) -> dict[str, Any]:
    return {"defaults": {"key": limits}}


async def test_every_answer_says_what_is_left_of_the_minute(site: OpenSite) -> None:
    client = site(quotas=limited(requests_per_minute=5, tokens_per_minute=1000)).client()
    for left in (4, 3):
        response = await client.post(PATH, json=chat(max_tokens=10))
        assert response.headers["x-ratelimit-limit-requests"] == "5"
        assert response.headers["x-ratelimit-remaining-requests"] == str(left)
        assert response.headers["x-ratelimit-limit-tokens"] == "1000"
        assert 900 < int(response.headers["x-ratelimit-remaining-tokens"]) < 1000
        assert response.headers["x-ratelimit-reset-requests"].startswith(("1m", "60s"))


async def test_over_a_limit_a_request_is_told_when_to_come_back(site: OpenSite) -> None:
    client = site(quotas=limited(requests_per_minute=2)).client()
    for _ in range(2):
        assert (await client.post(PATH, json=chat())).status_code == 200
    response = await client.post(PATH, json=chat(stream=True))
    error = error_of(response, 429, "rate_limit_exceeded")
    assert_says_when_to_come_back(response)
    assert error["message"].endswith(f"Please retry after {response.headers['retry-after']} seconds.")
    assert response.headers["x-ratelimit-remaining-requests"] == "0"


async def test_a_request_above_a_whole_limit_is_not_told_to_wait(site: OpenSite) -> None:
    client = site(quotas=limited(tokens_per_minute=50)).client()
    response = await client.post(PATH, json=chat(max_tokens=100))
    error_of(response, 429, "request_exceeds_limit")
    assert "retry-after" not in response.headers and response.headers["x-should-retry"] == "false"


async def test_a_day_that_is_used_up_has_openais_code_for_it(site: OpenSite) -> None:
    client = site(quotas=limited(tokens_per_day=100)).client()
    assert (await client.post(PATH, json=chat("one " * 20, max_tokens=20))).status_code == 200
    error_of(await client.post(PATH, json=chat(max_tokens=60)), 429, "insufficient_quota")


async def test_what_was_not_used_of_a_reservation_is_there_for_the_next(site: OpenSite) -> None:
    client = site(quotas=limited(tokens_per_minute=200)).client()
    for _ in range(8):  # each reserves more than half of it
        assert (await client.post(PATH, json=chat(max_tokens=120))).status_code == 200


async def test_requests_at_a_time_are_counted_until_each_has_ended(site: OpenSite) -> None:
    engine = EchoEngine(failures=[PlannedFailure("wait", "stall", after=1)])
    open_site = site(engine, quotas=limited(concurrent_requests=1))
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            waiting = asyncio.create_task(client.post(PATH, json=chat("wait here")))
            await eventually(lambda: engine.running == 1)
            error_of(await client.post(PATH, json=chat()), 429, "rate_limit_exceeded")
            waiting.cancel()
            await eventually(lambda: engine.running == 0)
            await asyncio.sleep(0.1)
            assert (await client.post(PATH, json=chat())).status_code == 200


def with_key(open_site: Site, **rights: Any) -> Site:
    """The site with a key of these rights."""
    _, secret = build_keyring(open_site.settings).mint("ward", "bound", **rights)
    return replace(open_site, key=secret.reveal())


async def test_a_key_for_other_deployments_may_not_call_and_does_not_see_this_one(site: OpenSite) -> None:
    client = with_key(site(), deployments=frozenset({"other"})).client()
    error_of(await client.post(PATH, json=chat()), 403, "deployment_not_allowed")
    assert (await client.get("/v1/models")).json()["data"] == []
    error_of(await client.get("/v1/models/echo"), 403, "deployment_not_allowed")


@pytest.mark.parametrize("role", ["operator", "key_admin", "auditor"])
async def test_an_administrators_key_calls_no_model(site: OpenSite, role: Role) -> None:
    client = with_key(site(), roles=frozenset({role})).client()
    error_of(await client.post(PATH, json=chat()), 403, "role_missing")


@pytest.mark.parametrize(
    ("proxies", "forwarded", "allowed"),
    [
        (0, None, True),
        (0, "10.9.9.9", True),  # what the client writes itself is not believed
        (1, "10.9.9.9", False),
        (1, "127.0.0.1", True),
        (1, "127.0.0.1, 10.9.9.9", False),
        (2, "127.0.0.1, 10.9.9.9", True),
        (1, "nonsense", False),
        (1, None, False),
    ],
)
async def test_a_key_bound_to_a_network_works_from_there_alone(
    site: OpenSite, proxies: int, forwarded: str | None, allowed: bool
) -> None:
    bound = with_key(site(server={"trusted_proxies": proxies}), networks=(ip_network("127.0.0.0/8"),))
    headers = {"authorization": f"Bearer {bound.key}"} | ({"x-forwarded-for": forwarded} if forwarded else {})
    response = await bound.client(**headers).post(PATH, json=chat())
    if allowed:
        assert response.status_code == 200
    else:
        assert error_of(response, 403, "network_not_allowed")["message"].startswith("Access denied due to Virtual Net")


async def test_a_disabled_tenant_is_refused_everywhere(site: OpenSite) -> None:
    open_site = site()
    with open_office(open_site.settings) as office:
        office.administration.disable_tenant(office.actor, "ward")
    client = site().client()
    error_of(await client.post(PATH, json=chat()), 403, "tenant_disabled")
    error_of(await client.get("/v1/models"), 403, "tenant_disabled")


def usage_of(open_site: Site) -> list[UsageRecord]:
    with open_office(open_site.settings) as office:
        return list(office.usage_store.records(UsageQuery()))


async def test_a_disk_with_no_room_for_the_log_keeps_no_request_out_of_the_books(
    site: OpenSite, tmp_path: Path
) -> None:
    (tmp_path / "state" / "logs").mkdir(parents=True)
    (tmp_path / "state" / "logs" / "requests.jsonl").symlink_to("/dev/full")
    open_site = site()
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            assert (await client.post(PATH, json=chat("one two three"))).status_code == 200
    assert [(record.outcome, record.prompt_tokens) for record in usage_of(open_site)] == [("ok", 3)]
    with open_office(open_site.settings) as office:
        assert list(office.audit_store.records())


async def test_each_admitted_request_is_in_the_ledger_after_an_orderly_stop_with_what_it_cost(site: OpenSite) -> None:
    engine = EchoEngine(failures=[PlannedFailure("DIE", "die", after=2), PlannedFailure("STALL", "stall", after=1)])
    open_site = site(engine, quotas=limited(requests_per_minute=4), usage={"flush": "1h"}, audit={"flush": "1h"})
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            await client.post(PATH, json=chat("one two three", max_tokens=2))
            await client.post(PATH, json=chat("DIE one two three", stream=True))
            with pytest.raises(httpx.ReadTimeout):
                await client.post(PATH, json=chat("STALL one two"), timeout=0.2)
            await eventually(lambda: engine.running == 0)
            await client.post(PATH, json=chat("n", n=3))
            error_of(await client.post(PATH, json=chat()), 429, "rate_limit_exceeded")
    found = [(r.outcome, r.prompt_tokens, r.completion_tokens, r.tenant, r.revision) for r in usage_of(open_site)]
    assert found == [
        ("ok", 3, 2, "ward", "echo"),
        ("engine_failed", 4, 2, "ward", "echo"),
        ("client_left", 3, 1, "ward", "echo"),
        ("ok", 1, 3, "ward", "echo"),
    ]


async def test_the_audit_chain_tells_of_each_request_and_of_no_content(site: OpenSite) -> None:
    open_site = site(quotas=limited(requests_per_minute=1))
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            first = await client.post(
                PATH, json=chat("CANARY lisinopril", temperature=0.5, user="CANARY", stop="CANARY")
            )
            refused = await client.post(PATH, json=chat("CANARY again"))
    with open_office(open_site.settings) as office:
        ids = [response.headers["x-request-id"] for response in (first, refused)]
        bodies = [json.loads(office.audit_store.find(AuditQuery(request_id=id)).items[0].body) for id in ids]
        answer = office.audit_log.digest(b"CANARY lisinopril")
        assert verify(office.audit_store.records(), office.audit_store.checkpoints(), [office.public_key]).valid
        assert "CANARY" not in str(list(office.audit_store.records()))
    done, not_done = [body["details"] for body in bodies]
    assert (done["decision"], done["outcome"], done["status"], done["answers"]) == ("admitted", "ok", 200, [answer])
    assert done["parameters"] == {"temperature": 0.5} and done["model"] == "echo" and done["prompt"]
    assert (not_done["decision"], not_done["outcome"]) == ("refused", "rate_limit_exceeded")
    assert (bodies[0]["tenant"], done["key_name"], done["address"]) == ("ward", "tests", "127.0.0.1")


async def test_a_price_puts_a_cost_on_each_request(site: OpenSite) -> None:
    price = {"prompt": "0.25", "completion": "1"}
    deployment = {"name": "echo", "engine": {"kind": "echo"}, "price": price}
    open_site = site(deployments=[deployment])
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            await client.post(PATH, json=chat("one two three four", max_tokens=2))
    assert [record.cost_micros for record in usage_of(open_site)] == [3]


@pytest.mark.parametrize(("when_away", "status"), [("refuse", 503), ("continue", 200)])
async def test_what_cannot_be_audited_is_not_served_unless_it_may_be(
    site: OpenSite, when_away: str, status: int
) -> None:
    open_site = site(audit={"when_away": when_away, "grace": "50ms", "flush": "10ms"})
    locked = sqlite3.connect(open_site.settings.server.state_dir / "clinserve.db", isolation_level=None)
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            assert (await client.post(PATH, json=chat())).status_code == 200
            await asyncio.sleep(0.2)  # it is written
            locked.execute("BEGIN IMMEDIATE")  # nobody else writes
            await client.post(PATH, json=chat())
            await asyncio.sleep(0.3)
            away = await client.post(PATH, json=chat())
            locked.execute("ROLLBACK")
            await asyncio.sleep(0.5)
            back = await client.post(PATH, json=chat())
    assert (away.status_code, back.status_code) == (status, 200)
    if status == 503:
        error_of(away, 503, "audit_unavailable")
        assert_says_when_to_come_back(away)
    assert len(usage_of(open_site)) == (3 if status == 503 else 4)
