"""What PostgreSQL cannot take in a text never reaches it, or what a client writes would look like an outage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.app import build_keyring, open_office
from tests.conftest import OpenSite
from tests.local import error_of, listening
from tests.tenants.databases import migrated


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Its URL."""
    with migrated("postgresql", request, tmp_path):
        yield request.getfixturevalue("postgresql")


async def test_a_nul_in_an_address_or_an_id_is_no_outage(site: OpenSite, database: str) -> None:
    place = site(database={"url": database})
    with open_office(place.settings) as office:
        office.administration.ensure_tenant("ward")
    _, secret = build_keyring(place.settings).mint("ward", "nul")
    with listening(place.app) as url:
        async with place.client(url, authorization=f"Bearer {secret.reveal()}") as client:
            for path in ("files/%00", "files/%00/content", "batches/%00", "responses/%00", "models/%00"):
                assert (await client.get(f"/v1/{path}")).status_code == 404, path
            for path in ("files?purpose=%00", "files?after=%00", "batches?after=%00"):
                error_of(await client.get(f"/v1/{path}"), 400, "invalid_request")
            wanted = {"input_file_id": "\0", "endpoint": "/v1/embeddings", "completion_window": "24h"}
            error_of(await client.post("/v1/batches", json=wanted), 404, "file_not_found")
            going_on = {"model": "echo", "input": "a", "previous_response_id": "\0"}
            assert (await client.post("/v1/responses", json=going_on)).status_code in (400, 404)
