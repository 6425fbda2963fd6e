"""What a tenant may call, and from where, bounds all its keys and all its token callers, on every way in."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import httpx
import openai
import pytest

from serving.app import open_office
from serving.tenants.paging import PageRequest
from tests.batches.conftest import jsonl
from tests.batches.test_batches import ended
from tests.conftest import OpenSite
from tests.gateway.administrators import hospital
from tests.gateway.test_identity import DIRECTORY, claims
from tests.local import Site, Tree, chat, error_of, listening
from tests.tenants.issuer import LocalIssuer

ADAPTER = {"name": "radiology", "source": "hf://lab/radiology", "digest": "sha256:" + "1" * 64}
REFUSING = {"kind": "echo", "failures": [{"when": "", "action": "refuse"}]}
DEPLOYMENTS = [
    {"name": "inside", "engine": {"kind": "echo"}},
    {"name": "full", "engine": REFUSING, "spill_to": "overflow"},
    {"name": "overflow", "engine": {"kind": "echo"}, "adapters": [ADAPTER]},
]
OURS = frozenset({"inside", "full"})
PAGE = PageRequest()


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as issuer:
        yield issuer


@pytest.fixture
def place(site: OpenSite, issuer: LocalIssuer) -> Site:
    """Three deployments, and tokens of `issuer` for the tenant ward."""
    entra = {"kind": "entra", "name": "hospital", "tenant_ids": [DIRECTORY], "tenant": "ward"}
    entra |= {"authority": issuer.url, "authority_v1": issuer.url, "roles": {"Clinserve.Inference": "inference"}}
    return site(deployments=DEPLOYMENTS, identity={"issuers": [entra]}, quotas={"refresh": 0.05})


def bound(place: Site, deployments: frozenset[str] | None = OURS, *networks: str) -> None:
    """As an operator at the shell does. A gateway that is not told takes it over within quotas.refresh."""
    with open_office(place.settings) as office:
        parsed = tuple(ip_network(network) for network in networks)
        office.administration.bound_tenant(office.actor, "ward", deployments, parsed or None)


BY_KEY, BY_TOKEN = "a key", "a token"


def client_of(place: Site, issuer: LocalIssuer, who: str, url: str) -> httpx.Client:
    credential = place.key if who == BY_KEY else issuer.sign(claims(issuer))
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {credential}"})


WAYS: list[tuple[str, str, Tree]] = [
    ("chat", "/v1/chat/completions", chat(model="overflow")),
    ("chat, streamed", "/v1/chat/completions", chat(model="overflow", stream=True)),
    ("completions", "/v1/completions", {"model": "overflow", "prompt": "one"}),
    ("embeddings", "/v1/embeddings", {"model": "overflow", "input": "one"}),
    ("responses", "/v1/responses", {"model": "overflow", "input": "one", "store": False}),
    ("an adapter", "/v1/chat/completions", chat(model="overflow:radiology")),
    ("an adapter's long name", "/v1/chat/completions", chat(model="overflow:radiology@" + "1" * 12)),
    ("Azure v1", "/openai/v1/chat/completions", chat(model="overflow")),
    ("Azure dated", "/openai/deployments/overflow/chat/completions?api-version=2024-10-21", chat()),
    ("Azure, adapter", "/openai/deployments/overflow%3Aradiology/chat/completions?api-version=2024-10-21", chat()),
    ("Azure AI Inference", "/models/chat/completions?api-version=2024-05-01-preview", chat(model="overflow")),
]  # fmt: skip


@pytest.mark.parametrize("who", [BY_KEY, BY_TOKEN])
def test_no_way_in_leads_to_a_deployment_that_the_tenant_has_not(place: Site, issuer: LocalIssuer, who: str) -> None:
    bound(place)
    with listening(place.app) as url:
        client = client_of(place, issuer, who, url)
        for name, path, body in WAYS:
            answer = client.post(path, json=body)
            assert answer.status_code == 403, (name, answer.text)
            once = client.post(path, json=body, headers={"idempotency-key": name.replace(" ", "-")})
            assert once.status_code == 403, (name, once.text)
        assert client.post("/v1/chat/completions", json=chat(model="inside")).status_code == 200


@pytest.mark.parametrize("who", [BY_KEY, BY_TOKEN])
def test_what_the_tenant_has_not_is_in_no_list(place: Site, issuer: LocalIssuer, who: str) -> None:
    bound(place)
    with listening(place.app) as url:
        client = client_of(place, issuer, who, url)
        assert {card["id"] for card in client.get("/v1/models").json()["data"]} == OURS
        assert client.get("/v1/models/overflow").status_code == 403
        assert client.get("/v1/models/overflow:radiology").status_code == 403
        assert {one["name"] for one in client.get("/admin/v1/status").json()["deployments"]} == OURS
        assert set(client.get("/admin/v1/me").json()["deployments"]) == OURS
        near = client.post("/v1/chat/completions", json=chat(model="overflo"))
        assert "overflow" not in near.json()["error"]["message"]


@pytest.mark.parametrize("who", [BY_KEY, BY_TOKEN])
@pytest.mark.parametrize("header", [{}, {"x-ms-spillover-deployment": "overflow"}])
def test_a_spill_is_no_way_around_a_tenants_list(
    place: Site, issuer: LocalIssuer, who: str, header: dict[str, str]
) -> None:
    with listening(place.app) as url:
        client = client_of(place, issuer, who, url)
        assert client.post("/v1/chat/completions", json=chat(model="full"), headers=header).status_code == 200
        bound(place)
        wait_until_bound(client)
        refused = client.post("/v1/chat/completions", json=chat(model="full"), headers=header)
        assert refused.status_code == 503 and "x-ms-spillover-from-deployment" not in refused.headers


def wait_until_bound(client: httpx.Client) -> None:
    end = time.monotonic() + 5
    while client.post("/v1/chat/completions", json=chat(model="overflow")).status_code != 403:
        assert time.monotonic() < end, "the gateway did not hear of it"


@pytest.mark.parametrize("header", [{}, {"x-ms-spillover-deployment": "overflow"}])
async def test_a_key_that_is_bound_to_a_deployment_gets_no_answer_of_the_one_that_it_spills_to(
    place: Site, header: dict[str, str]
) -> None:
    with open_office(place.settings) as office:
        one = frozenset({"full"})
        _, secret = office.administration.create_key(office.actor, "ward", "narrow", deployments=one)
    client = place.client(authorization=f"Bearer {secret.reveal()}", **header)
    refused = await client.post("/v1/chat/completions", json=chat(model="full"))
    assert refused.status_code == 503 and "x-ms-spillover-from-deployment" not in refused.headers


@pytest.mark.parametrize("who", [BY_KEY, BY_TOKEN])
def test_a_batch_for_what_the_tenant_has_not_is_not_run(place: Site, issuer: LocalIssuer, who: str) -> None:
    bound(place)
    with listening(place.app) as url:
        batch = submitted_for(openai_of(place, issuer, who, url), "overflow")
        assert batch.status == "failed" and batch.errors.data[0].code == "model_not_found"


@pytest.mark.parametrize("who", [BY_KEY, BY_TOKEN])
def test_a_batch_that_runs_is_bound_too_from_then_on(site: OpenSite, issuer: LocalIssuer, who: str) -> None:
    entra = {"kind": "entra", "name": "hospital", "tenant_ids": [DIRECTORY], "tenant": "ward"}
    entra |= {"authority": issuer.url, "authority_v1": issuer.url, "roles": {"Clinserve.Inference": "inference"}}
    slow = {"kind": "echo", "first_token": 0.1}
    place = site(
        deployments=[{"name": "inside", "engine": {"kind": "echo"}}, {"name": "overflow", "engine": slow}],
        identity={"issuers": [entra]},
        quotas={"refresh": 0.05},
        batches={"lines": 1},
    )
    with listening(place.app) as url:
        client = openai_of(place, issuer, who, url)
        text = jsonl(
            [
                {"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": chat(model="overflow")}
                for n in range(60)
            ]
        )
        file = client.files.create(file=("lines.jsonl", text), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        end = time.monotonic() + 10
        while client.batches.retrieve(batch.id).request_counts.completed < 2:
            assert time.monotonic() < end, "no line was run"
            time.sleep(0.02)
        bound(place, frozenset({"inside"}))
        batch = ended(client, batch)
        lines = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
        assert {line["response"]["body"]["error"]["code"] for line in lines} == {"deployment_not_allowed"}
        assert batch.request_counts.completed + len(lines) == 60 and len(lines) > 30


def openai_of(place: Site, issuer: LocalIssuer, who: str, url: str) -> openai.OpenAI:
    credential = place.key if who == BY_KEY else issuer.sign(claims(issuer))
    return openai.OpenAI(base_url=f"{url}/v1", api_key=credential, max_retries=0)


def submitted_for(client: openai.OpenAI, model: str) -> Any:
    request = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": chat(model=model)}
    file = client.files.create(file=("lines.jsonl", jsonl([request])), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    return ended(client, batch)


@pytest.mark.parametrize("who", [BY_KEY, BY_TOKEN])
def test_the_background_is_no_way_around_a_tenants_list(place: Site, issuer: LocalIssuer, who: str) -> None:
    with open_office(place.settings) as office:
        office.administration.keep_responses(office.actor, "ward", 3600)
    bound(place)
    with listening(place.app) as url:
        client = openai_of(place, issuer, who, url)
        with pytest.raises(openai.PermissionDeniedError):
            client.responses.create(model="overflow", input="one", background=True)
        begun = client.responses.create(model="full", input="one", background=True)
        while (response := client.responses.retrieve(begun.id)).status in ("queued", "in_progress"):
            time.sleep(0.02)
        assert response.status == "failed"  # it would have spilled


@pytest.mark.parametrize("who", [BY_KEY, BY_TOKEN])
def test_a_tenant_is_bound_to_its_networks_whatever_its_keys_say(place: Site, issuer: LocalIssuer, who: str) -> None:
    bound(place, None, "10.0.0.0/8")
    with listening(place.app) as url:
        for path in ("/v1/models", "/admin/v1/me", "/v1/files"):
            error_of(client_of(place, issuer, who, url).get(path), 403, "network_not_allowed")
        bound(place, None, "10.0.0.0/8", "127.0.0.0/8")
        client = client_of(place, issuer, who, url)
        end = time.monotonic() + 5
        while client.get("/v1/models").status_code != 200:
            assert time.monotonic() < end


def test_what_runs_unattended_was_allowed_from_where_it_was_submitted(place: Site, issuer: LocalIssuer) -> None:
    bound(place, None, "127.0.0.0/8")
    with listening(place.app) as url:
        assert submitted_for(openai_of(place, issuer, BY_TOKEN, url), "inside").status == "completed"


@pytest.mark.parametrize("form", ["::ffff:10.1.2.3", "::ffff:a01:203", "10.1.2.3"])
@pytest.mark.parametrize("network", ["10.0.0.0/8", "::ffff:10.0.0.0/104"])
async def test_an_ipv4_address_is_one_however_it_and_its_network_are_written(
    site: OpenSite, form: str, network: str
) -> None:
    place = site(server={"trusted_proxies": 1})
    with open_office(place.settings) as office:
        networks = (ip_network(network),)
        _, secret = office.administration.create_key(office.actor, "ward", "there", networks=networks)
    headers = {"authorization": f"Bearer {secret.reveal()}"}
    inside = await place.client(**headers, **{"x-forwarded-for": form}).get("/v1/models")
    outside = await place.client(
        **headers, **{"x-forwarded-for": form.replace("10.1", "11.1").replace("a01", "b01")}
    ).get("/v1/models")
    assert (inside.status_code, outside.status_code) == (200, 403)


async def test_an_operator_bounds_a_tenant_over_http_and_no_wider_than_itself(site: OpenSite) -> None:
    there = hospital(site)
    changed = await there.ask(
        "operator", "PATCH", "/tenants/ward", {"deployments": ["echo"], "networks": ["10.0.0.0/8"]}
    )
    assert (changed.json()["deployments"], changed.json()["networks"]) == (["echo"], ["10.0.0.0/8"])
    later = await there.ask("operator", "PATCH", "/tenants/ward", {"networks": None})
    assert (later.json()["deployments"], later.json()["networks"]) == (["echo"], None)
    for body in ({"deployments": []}, {"networks": ["10.0.0.1/8"]}, {"deployments": ["nothing"]}, {}):
        assert (await there.ask("operator", "PATCH", "/tenants/ward", body)).status_code == 400
    await there.ask("root", "PATCH", "/tenants/system", {"deployments": ["echo"]})
    for body in ({"deployments": None}, {"networks": None}):
        answer = await there.ask("operator", "PATCH", "/tenants/lab", body)
        error_of(answer, 403, "grant_too_wide")
    for caller in ("key_admin", "auditor", "ward_admin", "ward_user"):
        assert (await there.ask(caller, "PATCH", "/tenants/ward", {"deployments": None})).status_code == 403


async def test_a_revoked_key_is_refused_by_another_gateway_within_the_bound(site: OpenSite) -> None:
    place = site(keys={"cache": 0.05})
    client = place.client()
    assert (await client.get("/v1/models")).status_code == 200
    with open_office(place.settings) as office:  # another process, as far as the gateway's memory goes
        (key,) = (k for k in office.administration.list_keys(office.actor, "ward", PAGE).items if k.name == "tests")
        office.administration.revoke_key(office.actor, key.id)
    statuses: list[int] = []

    async def refused() -> bool:
        statuses.append((await client.get("/v1/models")).status_code)
        return statuses[-1] == 401

    end = time.monotonic() + 5
    while not await refused():
        assert time.monotonic() < end, "the revoked key goes on"
    assert set(statuses) <= {200, 401}
