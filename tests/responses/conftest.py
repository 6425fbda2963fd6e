"""A gateway with tenants, the real `openai` clients of one of them, and whether its responses are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx
import openai
import pytest

from serving.app import open_office
from tests.conftest import OpenSite
from tests.gateway.administrators import Hospital, hospital
from tests.local import Site


@dataclass(frozen=True)
class Place:
    """of: clients of a kind of caller of administrators.CALLERS; `ward_user` is who most tests are."""

    hospital: Hospital

    @property
    def site(self) -> Site:
        return self.hospital.site

    def _http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.site.app))

    def client(self, key: str = "") -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url="http://gateway.test/v1",
            api_key=key or self.hospital.keys["ward_user"],
            http_client=self._http(),
            max_retries=0,
        )

    def azure(self) -> openai.AsyncAzureOpenAI:
        return openai.AsyncAzureOpenAI(
            azure_endpoint="http://gateway.test",
            api_key=self.hospital.keys["ward_user"],
            api_version="2025-03-01-preview",
            http_client=self._http(),
            max_retries=0,
        )

    async def keep(self, seconds: int | None, tenant: str = "ward") -> None:
        answer = await self.hospital.ask("root", "PATCH", f"/tenants/{tenant}", {"keep_responses": seconds})
        assert answer.json()["keep_responses"] == seconds, answer.text

    async def audited(self, action: str) -> list[str]:
        """Targets of the acts of this name, the newest first."""
        with open_office(self.site.settings) as office:
            found = office.audit_store.find
        raise NotImplementedError(found)


OpenPlace = Callable[..., Place]


@pytest.fixture
def place(site: OpenSite) -> OpenPlace:
    return lambda *args, **changes: Place(hospital(lambda: site(*args, **changes)))
