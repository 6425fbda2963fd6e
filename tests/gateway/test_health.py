"""GET /livez, /readyz, /metrics, and the port of their own that metrics have."""

from __future__ import annotations

import sqlite3
import time

import httpx
import pytest

from serving.app import build_keyring
from serving.deployments.environment import free_ports
from tests.conftest import OpenSite
from tests.local import assert_says_when_to_come_back, chat, error_of, listening

CLOSED = {"name": "far-away", "engine": {"kind": "http", "url": "http://127.0.0.1:9/v1"}}  # nobody listens there
ECHO = {"name": "echo", "engine": {"kind": "echo"}}


async def test_probes_need_no_key_and_are_not_logged(site: OpenSite) -> None:
    open_site = site()
    client = open_site.client(authorization="")
    for path in ("/livez", "/readyz"):
        assert (await client.get(path)).status_code == 200
    assert open_site.log() == []


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/v1/models", "/openai/v1/models", "/docs"])
async def test_head_is_get_without_its_body(site: OpenSite, path: str) -> None:
    client = site().client()
    client.headers["accept-encoding"] = "identity"
    asked, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == asked.headers["content-length"] == str(len(asked.content))


async def test_head_of_what_only_takes_post_is_refused_as_get_is(site: OpenSite) -> None:
    response = await site().client().head("/v1/chat/completions")
    assert (response.status_code, response.content) == (405, b"") and response.headers["allow"] == "POST"


async def test_health_answers_as_livez_does(site: OpenSite) -> None:
    client = site().client(authorization="")
    assert (await client.get("/health")).json() == (await client.get("/livez")).json()


async def test_alive_and_ready_are_both_ok_when_all_is_well(site: OpenSite) -> None:
    client = site().client()
    for path in ("/livez", "/readyz"):
        assert (await client.get(path)).json() == {"status": "ok"}


async def test_not_ready_names_the_deployment_that_waits_and_not_the_others(site: OpenSite) -> None:
    open_site = site(deployments=[ECHO, CLOSED])
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            response, alive = await client.get("/readyz"), await client.get("/livez")
    assert error_of(response, 503, "engine_unavailable")["message"] == "Not ready yet: far-away."
    assert_says_when_to_come_back(response)
    assert alive.status_code == 200


async def test_without_a_key_nothing_is_named_and_a_key_sees_what_it_may_call(site: OpenSite) -> None:
    open_site = site(deployments=[ECHO, CLOSED])
    keyring = build_keyring(open_site.settings)
    _, other = keyring.mint("ward", "echo only", deployments=frozenset({"echo"}))
    for headers in ({"accept": "*/*"}, {"api-key": other.reveal()}):
        response = await open_site.client(**headers).get("/readyz")
        assert error_of(response, 503, "engine_unavailable")["message"] == "Not ready yet."
    error_of(await open_site.client(**{"api-key": "no key"}).get("/readyz"), 401, "invalid_api_key")


async def test_metrics_are_for_those_who_run_the_server(site: OpenSite) -> None:
    open_site = site()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(open_site.app), base_url="http://gateway.test") as plain:
        assert (await plain.get("/metrics")).status_code == 401
        ward = await plain.get("/metrics", headers={"api-key": open_site.key})
        error_of(ward, 403, "role_missing")
        assert "clinserve" not in ward.text
        assert "clinserve_" in (await plain.get("/metrics", headers={"api-key": open_site.operator_key()})).text


def test_scrapers_without_a_key_have_a_port_of_their_own_and_get_one_page_a_second(site: OpenSite) -> None:
    (port,) = free_ports(1)
    open_site = site(telemetry={"metrics_port": port, "metrics_interval": 3600, "request_log": "off"})
    with listening(open_site.app) as url:
        first = answered(f"http://127.0.0.1:{port}/metrics")
        httpx.get(f"{url}/livez")
        assert first.text == answered(f"http://127.0.0.1:{port}/metrics").text and "clinserve_" in first.text
        assert answered(f"http://127.0.0.1:{port}/readyz").status_code == 404


def test_a_gateway_takes_over_the_port_when_the_one_that_had_it_ends(site: OpenSite) -> None:
    (port,) = free_ports(1)
    one, other = (site(telemetry={"metrics_port": port, "request_log": "off"}) for _ in range(2))
    with listening(other.app):
        with listening(one.app):
            assert answered(f"http://127.0.0.1:{port}/metrics").status_code == 200
        assert answered(f"http://127.0.0.1:{port}/metrics").status_code == 200


def answered(url: str) -> httpx.Response:
    """Once somebody listens."""
    end = time.monotonic() + 10
    while True:
        try:
            return httpx.get(url, timeout=10)
        except httpx.TransportError:
            assert time.monotonic() < end
            time.sleep(0.05)


async def test_not_ready_names_the_key_store_when_it_is_away_and_a_key_is_then_neither_good_nor_bad(
    site: OpenSite,
) -> None:
    open_site = site()
    client = open_site.client()
    with sqlite3.connect(open_site.settings.server.state_dir / "clinserve.db") as database:
        database.execute("DROP TABLE api_keys")
    message = error_of(await client.get("/readyz"), 503, "engine_unavailable")["message"]
    assert message == "Not ready yet: key store."
    response = await client.post("/v1/chat/completions", json=chat())
    error_of(response, 503, "store_unavailable")
    assert_says_when_to_come_back(response)


async def test_metrics_tell_requests_tokens_and_times_by_deployment(site: OpenSite) -> None:
    client = site().client()
    await client.post("/v1/chat/completions", json=chat("one two three"))
    await client.post("/v1/chat/completions", json=chat("one two three", stream=True))
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    for line in (
        'clinserve_requests_total{deployment="echo",operation="chat",outcome="ok",result="ok"} 2.0',
        'clinserve_tokens_total{deployment="echo",type="prompt"} 6.0',
        'clinserve_tokens_total{deployment="echo",type="completion"} 6.0',
        'clinserve_requests_in_flight{deployment="echo"} 0.0',
        'gen_ai_server_time_to_first_token_seconds_count{deployment="echo",operation="chat"} 1.0',
        'gen_ai_server_request_duration_seconds_count{deployment="echo",operation="chat",outcome="ok"} 2.0',
        'clinserve_http_requests_total{method="POST",route="/v1/chat/completions",status="200"} 2.0',
    ):
        assert line in response.text.splitlines()


async def test_metrics_and_the_log_can_be_off(site: OpenSite) -> None:
    client = site(telemetry={"metrics": False, "request_log": "off"}).client()
    assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200
    assert (await client.get("/metrics")).text == ""
