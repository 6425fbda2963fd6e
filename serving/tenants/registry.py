"""Tenants: the organisations that keys, limits and usage belong to. Where they are registered; they are never deleted,
since usage and the audit log go on referring to them.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol

from serving.errors import InvalidRequest, NotAllowed, ServingError
from serving.tenants.callers import Network
from serving.tenants.paging import Page, PageRequest, bad_cursor

TENANT_ID = re.compile(r"[a-z0-9._-]{1,63}")
SHORTEST_KEEP, LONGEST_KEEP = 60, 400 * 86400
"""Seconds for which responses can be kept."""


TenantStatus = Literal["active", "disabled", "refused"]
"""refused: the row was changed by somebody else than this product."""


class UnknownTenant(ServingError):
    """An administrator named a tenant that does not exist."""

    status, kind, code = 404, "invalid_request_error", "tenant_not_found"
    default_message = "No tenant has this id."


class TenantExists(ServingError):
    """The id of a new tenant is taken."""

    status, kind, code = 409, "invalid_request_error", "conflict"
    default_message = "A tenant with this id exists already."


class TenantDisabled(NotAllowed):
    """The caller's tenant may use nothing: it was disabled, or it is not registered."""

    code = "tenant_disabled"
    default_message = "The tenant of this key is disabled. Its administrator can say why."


@dataclass(frozen=True, slots=True)
class Tenant:
    """id: what keys and usage refer to. name: for people. Times are UTC and aware. keep_responses: seconds for which
    responses are kept (serving/responses); None: not at all. deployments, networks: what all its keys and token callers
    may call, and from where, whatever else they are allowed; None: no such bound. genuine: whether the row is as this
    product wrote it (row_seal.py).
    """

    id: str
    name: str
    created_at: datetime
    disabled_at: datetime | None = None
    keep_responses: int | None = None
    deployments: frozenset[str] | None = None
    networks: tuple[Network, ...] | None = None
    genuine: bool = True

    @property
    def status(self) -> TenantStatus:
        if not self.genuine:
            return "refused"
        return "active" if self.disabled_at is None else "disabled"


def check_new(tenant: Tenant) -> None:
    """Raise InvalidRequest for an id or name that a new tenant cannot have. Those of old releases may have others."""
    if not TENANT_ID.fullmatch(tenant.id):
        raise InvalidRequest("The id of a tenant is 1 to 63 of a-z, 0-9 and . _ -", param="id")
    name = tenant.name
    if not (0 < len(name) <= 200 and name.isprintable() and name == name.strip()):
        raise InvalidRequest("The name of a tenant is 1 to 200 printable characters.", param="name")


def check_keep(seconds: int | None) -> None:
    """Raise InvalidRequest for a time that responses cannot be kept."""
    if seconds is not None and not SHORTEST_KEEP <= seconds <= LONGEST_KEEP:
        raise InvalidRequest(
            f"Responses are kept for {SHORTEST_KEEP} to {LONGEST_KEEP} seconds, or not at all.", param="keep_responses"
        )


class TenantStore(Protocol):
    """Where tenants are kept. Called from several threads at once.

    Every method raises `StoreUnavailable` when the store cannot answer.
    """

    def add(self, tenant: Tenant) -> None:
        """Keep a new tenant, or raise `TenantExists` and keep nothing."""

    def get(self, id: str) -> Tenant:
        """The tenant, also when it is disabled, or raise `UnknownTenant`."""

    def disable(self, id: str, at: datetime) -> Tenant:
        """Mark the tenant as disabled and return it, or raise `UnknownTenant`. A disabled one keeps its first time."""

    def enable(self, id: str) -> Tenant:
        """Take the mark off and return the tenant, or raise `UnknownTenant`."""

    def keep_responses(self, id: str, seconds: int | None) -> Tenant:
        """Set how long the tenant's responses are kept and return it, or raise `UnknownTenant`."""

    def bound(self, id: str, deployments: frozenset[str] | None, networks: tuple[Network, ...] | None) -> Tenant:
        """Set what the tenant may call and from where, and return it, or raise `UnknownTenant`."""

    def page(self, page: PageRequest) -> Page[Tenant]:
        """Tenants, oldest first; the cursor is a tenant's id. Raises `InvalidRequest` for a cursor that is none."""

    def all(self) -> tuple[Tenant, ...]:
        """Every tenant, for the book that requests look into."""


class MemoryTenants:
    """Tenants that end with the process."""

    def __init__(self) -> None:
        self._tenants: dict[str, Tenant] = {}
        self._lock = threading.Lock()

    def add(self, tenant: Tenant) -> None:
        with self._lock:
            if tenant.id in self._tenants:
                raise TenantExists
            self._tenants[tenant.id] = tenant

    def get(self, id: str) -> Tenant:
        try:
            return self._tenants[id]
        except KeyError:
            raise UnknownTenant from None

    def disable(self, id: str, at: datetime) -> Tenant:
        with self._lock:
            tenant = self.get(id)
            if tenant.disabled_at is None:
                tenant = self._tenants[id] = replace(tenant, disabled_at=at)
            return tenant

    def enable(self, id: str) -> Tenant:
        with self._lock:
            tenant = self._tenants[id] = replace(self.get(id), disabled_at=None)
            return tenant

    def keep_responses(self, id: str, seconds: int | None) -> Tenant:
        with self._lock:
            tenant = self._tenants[id] = replace(self.get(id), keep_responses=seconds)
            return tenant

    def bound(self, id: str, deployments: frozenset[str] | None, networks: tuple[Network, ...] | None) -> Tenant:
        with self._lock:
            tenant = self._tenants[id] = replace(self.get(id), deployments=deployments, networks=networks)
            return tenant

    def page(self, page: PageRequest) -> Page[Tenant]:
        tenants = self.all()
        start = 0
        if page.after is not None:
            start = next((n for n, tenant in enumerate(tenants, 1) if tenant.id == page.after), 0)
            if not start:
                raise bad_cursor()
        items = tenants[start : start + page.limit]
        return Page(items, items[-1].id if start + page.limit < len(tenants) else None)

    def all(self) -> tuple[Tenant, ...]:
        with self._lock:
            tenants = list(self._tenants.values())
        return tuple(sorted(tenants, key=lambda tenant: (tenant.created_at, tenant.id)))
