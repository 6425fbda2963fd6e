"""A gateway with tenants, and a key for each kind of caller that administration tells apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from serving.app import open_office
from serving.commands.office import Office
from serving.settings import Settings
from serving.tenants.callers import ROLES, Role
from tests.conftest import OpenSite
from tests.local import Site, Tree

CALLERS: dict[str, tuple[str, frozenset[Role]]] = {
    "root": ("system", frozenset(ROLES)),
    "operator": ("system", frozenset({"operator"})),
    "key_admin": ("system", frozenset({"key_admin"})),
    "auditor": ("system", frozenset({"auditor"})),
    "ward_admin": ("ward", frozenset({"key_admin"})),
    "ward_auditor": ("ward", frozenset({"auditor"})),
    "ward_user": ("ward", frozenset({"inference"})),
}


@dataclass(frozen=True)
class Hospital:
    """A site with the tenants system, ward and lab, and a key for each of CALLERS."""

    site: Site
    keys: dict[str, str]

    def office(self) -> Office:
        return open_office(self.site.settings)

    def client(self, caller: str = "root") -> httpx.AsyncClient:
        client = self.site.client(authorization=f"Bearer {self.keys[caller]}")
        client.base_url = httpx.URL("http://gateway.test/admin/v1")
        return client

    async def ask(self, caller: str, method: str, path: str, body: Any = None, **query: Any) -> httpx.Response:
        return await self.client(caller).request(method, path, json=body, params=query or None)

    async def new_key(self, tenant: str, name: str) -> Tree:
        """What the answer to creating a key says."""
        answer = await self.ask("root", "POST", "/keys", {"tenant": tenant, "name": name})
        created: Tree = answer.raise_for_status().json()
        return created


def hospital(site: OpenSite) -> Hospital:
    open_site = site()
    return Hospital(open_site, enrol(open_site.settings))


def enrol(settings: Settings) -> dict[str, str]:
    """The tenants, and a key for each of CALLERS."""
    keys = {}
    with open_office(settings) as office:
        verbs = office.administration
        verbs.ensure_tenant("system")
        verbs.create_tenant(office.actor, "lab", "Laboratory")
        for name, (tenant, roles) in CALLERS.items():
            _, secret = verbs.create_key(office.actor, tenant, name, roles=roles)
            keys[name] = secret.reveal()
    return keys
