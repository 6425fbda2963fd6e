"""A gateway with tenants, the real `openai` clients of one of them, and whether its responses are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import openai
import pytest

from serving.app import open_office
from serving.tenants.audit_store import AuditQuery
from tests.conftest import OpenSite
from tests.gateway.administrators import Hospital, hospital
from tests.local import Site
from tests.tenants.conftest import postgresql

__all__ = ["postgresql"]  # a fixture

DAY = 86400


@dataclass(frozen=True)
class Place:
    """Its clients are callers of administrators.CALLERS."""

    hospital: Hospital

    @property
    def site(self) -> Site:
        return self.hospital.site

    def client(self, caller: str = "ward_user", url: str = "") -> openai.AsyncOpenAI:
        """url: of `listening`; else without a socket."""
        return openai.AsyncOpenAI(
            base_url=f"{url or 'http://gateway.test'}/v1",
            api_key=self.hospital.keys[caller],
            http_client=None if url else self._http(),
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
        """As an operator sets it."""
        answer = await self.hospital.ask("root", "PATCH", f"/tenants/{tenant}", {"keep_responses": seconds})
        assert answer.json()["keep_responses"] == seconds, answer.text

    def audited(self, prefix: str) -> list[tuple[str, str, str]]:
        """Action, target and outcome of the administrative acts that begin so, the oldest first."""
        with open_office(self.site.settings) as office:
            records = office.audit_store.find(AuditQuery(kind="admin")).items
        details = [json.loads(record.body)["details"] for record in reversed(records)]
        return [(d["action"], d["target"], d["outcome"]) for d in details if d["action"].startswith(prefix)]

    def _http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.site.app))


OpenPlace = Callable[..., Place]


@pytest.fixture
def place(site: OpenSite) -> OpenPlace:
    """place(...) takes what site(...) takes."""
    return lambda *args, **changes: Place(hospital(lambda: site(*args, **changes)))
