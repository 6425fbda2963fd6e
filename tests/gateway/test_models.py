"""GET /v1/models and /v1/models/{name}."""

from __future__ import annotations

from tests.conftest import OpenSite
from tests.local import error_of

TWO = [{"name": "echo", "engine": {"kind": "echo"}}, {"name": "other.v1", "engine": {"kind": "echo"}}]


async def test_the_list_has_every_deployment_with_its_notice(site: OpenSite) -> None:
    response = await site(model={"notice": "Not for clinical use."}).client().get("/v1/models")
    (card,) = response.json()["data"]
    assert (response.status_code, response.json()["object"]) == (200, "list")
    assert card.pop("created") > 1_600_000_000
    assert card == {
        "id": "echo", "object": "model", "owned_by": "clinserve", "parent": None,
        "description": "Not for clinical use.",
    }  # fmt: skip


async def test_the_list_keeps_the_order_of_the_configuration(site: OpenSite) -> None:
    cards = (await site(deployments=TWO).client().get("/v1/models")).json()["data"]
    assert [card["id"] for card in cards] == ["echo", "other.v1"]


async def test_one_deployment_is_found_by_its_name(site: OpenSite) -> None:
    response = await site(deployments=TWO).client().get("/v1/models/other.v1")
    assert (response.status_code, response.json()["id"]) == (200, "other.v1")


async def test_an_unknown_one_is_404_with_the_nearest_real_name(site: OpenSite) -> None:
    response = await site(deployments=TWO).client().get("/v1/models/other.v2")
    assert "Did you mean 'other.v1'?" in error_of(response, 404, "model_not_found")["message"]


async def test_models_are_for_those_with_a_key(site: OpenSite) -> None:
    client = site().client(authorization="Bearer wrong")
    for path in ("/v1/models", "/v1/models/echo", "/v1/models/nobody"):
        error_of(await client.get(path), 401, "invalid_api_key")
