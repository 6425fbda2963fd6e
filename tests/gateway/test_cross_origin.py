"""Pages of other origins: none may call the API from a browser unless its origin is configured."""

from __future__ import annotations

import pytest

from serving.settings import SettingsError
from tests.conftest import OpenSite
from tests.local import chat

PAGE = "https://app.example.org"
ASKS = {"origin": PAGE, "access-control-request-method": "POST"}
PATHS = ["/v1/chat/completions", "/openai/deployments/echo/chat/completions?api-version=2024-10-21", "/models/info"]


@pytest.mark.parametrize("path", PATHS)
async def test_by_default_no_page_may(site: OpenSite, path: str) -> None:
    client = site().client()
    asked = await client.options(path, headers=ASKS)
    assert asked.status_code == 405 and "access-control-allow-origin" not in asked.headers
    answer = await client.post("/v1/chat/completions", json=chat(), headers={"origin": PAGE})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_of_a_configured_origin_may_without_a_key_in_the_question(site: OpenSite, path: str) -> None:
    client = site(server={"cors_origins": [PAGE]}).client(authorization="")
    headers = {"access-control-request-headers": "api-key, x-stainless-lang"}
    asked = await client.options(path, headers=ASKS | headers)
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, PAGE)
    assert "api-key" in asked.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in asked.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.example.org.evil.example", ""])
async def test_a_page_of_another_origin_may_not(site: OpenSite, origin: str) -> None:
    client = site(server={"cors_origins": [PAGE]}).client()
    answer = await client.post("/v1/chat/completions", json=chat(), headers={"origin": origin})
    assert "access-control-allow-origin" not in answer.headers


async def test_the_page_reads_our_headers_also_of_a_stream_and_of_an_error(site: OpenSite) -> None:
    client = site(server={"cors_origins": [PAGE]}).client()
    for body in (chat(), chat(stream=True), {}):
        answer = await client.post("/v1/chat/completions", json=body, headers={"origin": PAGE})
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "x-request-id" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize("origin", ["*", "https://*.example.org", "app.example.org", "https://a.org/path", "null", ""])
def test_what_is_no_origin_is_refused(site: OpenSite, origin: str) -> None:
    with pytest.raises(SettingsError, match="cors_origins"):
        site(server={"cors_origins": [origin]})
