"""The URLs that an endpoint's configuration leads to."""

from __future__ import annotations

import pytest

from serving.engines.endpoints import FixedEndpoint, addressed

AZURE = "https://r.openai.azure.com"
NAMED = AZURE + "/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
MODELS = AZURE + "/openai/models?api-version=2024-10-21"
WAYS = [
    AZURE, AZURE + "/", AZURE + "/openai", AZURE + "/openai/", AZURE + "/openai/deployments/gpt",
    AZURE + "/openai/deployments/gpt/", NAMED, AZURE + "/openai/deployments/gpt/embeddings?api-version=2023-05-15",
]  # fmt: skip


@pytest.mark.parametrize("url", WAYS)
async def test_an_azure_deployment_is_found_however_its_address_is_written(url: str) -> None:
    endpoints, address = addressed(url, model="gpt", api_version="2024-10-21")
    base = (await endpoints.pick()).url
    assert address.of(base, "chat") == NAMED and address.ready(base) == MODELS


async def test_a_deployments_name_is_escaped() -> None:
    endpoints, address = addressed(AZURE, model="my dep/x", api_version="2024-10-21")
    url = address.of((await endpoints.pick()).url, "embeddings")
    assert url == AZURE + "/openai/deployments/my%20dep%2Fx/embeddings?api-version=2024-10-21"


PLAIN = [
    ("http://host:8000/v1", None, "http://host:8000/v1/completions", "http://host:8000/v1/models"),
    (AZURE + "/openai/v1/", None, AZURE + "/openai/v1/completions", AZURE + "/openai/v1/models"),
    (
        AZURE + "/openai/v1", "preview", AZURE + "/openai/v1/completions?api-version=preview",
        AZURE + "/openai/v1/models?api-version=preview",
    ),
    (
        "https://r.services.ai.azure.com/models", "2024-05-01-preview",
        "https://r.services.ai.azure.com/models/completions?api-version=2024-05-01-preview",
        "https://r.services.ai.azure.com/models/info?api-version=2024-05-01-preview",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("url", "version", "completions", "ready"), PLAIN)
async def test_others_are_used_as_written(url: str, version: str | None, completions: str, ready: str) -> None:
    endpoints, address = addressed(url, model="m", api_version=version)
    base = (await endpoints.pick()).url
    assert (address.of(base, "completions"), address.ready(base)) == (completions, ready)


async def test_a_url_may_end_with_a_slash() -> None:
    assert (await FixedEndpoint("http://host/v1/").pick()).url == "http://host/v1"
