"""Azure OpenAI's dialect: its paths, its errors and its headers, as its clients look for them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from serving.errors import EngineTimeout, EngineUnavailable
from tests.conftest import OpenSite
from tests.local import RecordingEngine, chat, events

DATED = "/openai/deployments/echo/chat/completions?api-version=2024-10-21"
V1 = "/openai/v1/chat/completions"


@pytest.mark.parametrize(
    "path",
    [
        DATED,
        "//openai/deployments/echo/chat/completions?api-version=2025-04-01-preview",
        "/openai/v1/deployments/echo/chat/completions?api-version=2024-10-21",
        V1,
        V1 + "?api-version=preview",
    ],
)
async def test_every_path_that_clients_build_leads_to_the_deployment(site: OpenSite, path: str) -> None:
    response = await site().client().post(f"http://gateway.test{path}", json=chat("hello there"))
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"] == "hello there"


@pytest.mark.parametrize("model", [None, "text-embedding-ada-002", 7])
async def test_the_deployment_in_the_path_wins_over_the_bodys_model(site: OpenSite, model: Any) -> None:
    engine = RecordingEngine()
    response = await site(engine).client().post(DATED, json=chat() | {"model": model})
    assert response.status_code == 200 and engine.asked[0].body["model"] == "echo"


async def test_completions_embeddings_and_models_are_there_too(site: OpenSite) -> None:
    client = site(RecordingEngine()).client()
    for path, body in (("completions", {"prompt": "x"}), ("embeddings", {"input": "x"})):
        url = f"/openai/deployments/echo/{path}?api-version=2024-10-21"
        assert (await client.post(url, json=body)).status_code == 200
    for path in ("/openai/models?api-version=2024-10-21", "/openai/v1/models"):
        assert [card["id"] for card in (await client.get(path)).json()["data"]] == ["echo"]


async def test_without_an_api_version_a_dated_path_does_not_exist(site: OpenSite) -> None:
    response = await site().client().post(DATED.partition("?")[0], json=chat())
    assert (response.status_code, response.json()) == (404, {"error": {"code": "404", "message": "Resource not found"}})


async def test_an_api_version_that_is_none_is_refused(site: OpenSite) -> None:
    for path in (DATED.replace("2024-10-21", "CANARY"), V1 + "?api-version=CANARY"):
        response = await site().client().post(path, json=chat())
        assert response.status_code == 400 and "API version not supported" in response.json()["error"]["message"]
        assert "CANARY" not in response.text


async def test_an_unknown_deployment_is_told_in_azures_words(site: OpenSite) -> None:
    response = await site().client().post(DATED.replace("echo", "ecko"), json=chat())
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (404, "DeploymentNotFound")
    assert error["message"].startswith("The API deployment for this resource does not exist")


async def test_a_key_may_come_in_each_header_or_in_both(site: OpenSite) -> None:
    open_site = site()
    for headers in (
        {"api-key": open_site.key},
        {"authorization": f"Bearer {open_site.key}"},
        {"api-key": open_site.key, "authorization": f"Bearer {open_site.key}"},
    ):
        assert (await open_site.client(**headers).post(DATED, json=chat())).status_code == 200
    refused = await open_site.client(**{"api-key": "wrong"}).post(DATED, json=chat())
    assert refused.status_code == 401 and refused.json()["error"]["code"] == "401"
    assert refused.json()["error"]["message"].startswith("Access denied due to invalid subscription key")


async def test_a_full_deployment_says_when_to_come_back_in_headers_and_in_words(site: OpenSite) -> None:
    defaults = {"key": {"requests_per_minute": 1}}
    client = site(quotas={"defaults": defaults}).client()
    admitted = await client.post(DATED, json=chat())
    assert admitted.headers["x-ratelimit-remaining-requests"] == "0"
    assert admitted.headers["x-ratelimit-reset-requests"].isdigit()
    refused = await client.post(DATED, json=chat())
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "RateLimitReached")
    assert f"Please retry after {refused.headers['retry-after']} second" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(EngineTimeout(retry_after=2), 408, "Timeout"), (EngineUnavailable(retry_after=2), 503, "ServiceUnavailable")],
)
async def test_a_slow_or_absent_model_is_told_so_that_azures_clients_try_again(
    site: OpenSite, error: Exception, status: int, code: str
) -> None:
    response = await site(RecordingEngine((), error)).client().post(DATED, json=chat())
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.headers["retry-after"] == "2"


async def test_every_answer_has_azures_headers(site: OpenSite) -> None:
    client, own = site(server={"region": "Sweden Central"}).client(), str(uuid.uuid4())
    for path, status in ((DATED, 200), ("/openai/nowhere", 404)):
        response = await client.post(path, json=chat(), headers={"x-ms-client-request-id": own})
        assert response.status_code == status
        assert response.headers["x-ms-client-request-id"] == own
        assert response.headers["x-ms-region"] == "Sweden Central"
        uuid.UUID(response.headers["apim-request-id"])
    forged = await client.post(DATED, json=chat(), headers={"x-ms-client-request-id": "CANARY"})
    assert "CANARY" not in str(forged.headers)


async def test_a_stream_is_the_same_as_openais(site: OpenSite) -> None:
    response = await site().client().post(DATED, json=chat("a b", stream=True))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert events(response.content)[-1] == "[DONE]"


async def test_an_operation_that_the_model_cannot_do_is_told(site: OpenSite) -> None:
    generator = {"name": "chat", "engine": {"kind": "vllm"}, "model": {"source": "org/model"}}
    from serving.app import operations_of
    from serving.settings import parse

    deployment = parse({"deployments": [generator]}).deployments[0]
    assert operations_of(deployment) == {"chat", "completions"}
    pooling = generator | {"engine": {"kind": "vllm", "args": {"runner": "pooling"}}}
    assert operations_of(parse({"deployments": [pooling]}).deployments[0]) == {"embeddings"}


async def test_the_deployments_are_listed_as_azure_lists_them(site: OpenSite) -> None:
    client = site().client()
    listed = await client.get("/openai/deployments?api-version=2022-12-01")
    assert listed.status_code == 200 and listed.json()["object"] == "list"
    (only,) = listed.json()["data"]
    assert (only["id"], only["object"], only["status"]) == ("echo", "deployment", "succeeded")
    assert (await client.get("/openai/deployments/echo?api-version=2022-12-01")).json() == only
    assert (await client.get("/openai/deployments/other?api-version=2022-12-01")).status_code == 404
    assert (await client.get("/openai/deployments")).status_code == 404, "without api-version, as everywhere at Azure"
