"""/admin/v1/tenants: the organisations that keys, limits and usage belong to."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from serving.gateway.admin.queries import PageQuery
from serving.gateway.admin.shapes import Closed, Listing, refusals
from serving.gateway.body import described_by, read_as
from serving.gateway.caller import SignedIn
from serving.gateway.names import PathName
from serving.gateway.parts import Gateway
from serving.protocol import bounds
from serving.tenants.registry import LONGEST_KEEP, SHORTEST_KEEP, Tenant, TenantExists, UnknownTenant

router = APIRouter(prefix="/tenants", tags=["tenants"])


class NewTenant(Closed):
    id: str = Field(max_length=bounds.ADMIN_NAME, description="1 to 63 of a-z, 0-9 and . _ -", examples=["cardiology"])
    name: str = Field(max_length=bounds.ADMIN_NAME, description="For people.", examples=["Cardiology, St. Mary"])


class Keeping(Closed):
    keep_responses: int | None = Field(
        ge=-bounds.TOKENS,
        le=bounds.TOKENS,
        description=f"Seconds, {SHORTEST_KEEP} to {LONGEST_KEEP}, for which its responses are kept. null: not at all.",
        examples=[86400],
    )


class TenantCard(BaseModel):
    object: Literal["tenant"] = "tenant"
    id: str
    name: str
    created_at: datetime
    disabled_at: datetime | None
    status: Literal["active", "disabled"]
    keep_responses: int | None = Field(description="Seconds for which its responses are kept. null: not at all.")


@router.post(
    "",
    status_code=201,
    summary="Create a tenant",
    openapi_extra=described_by(NewTenant),
    responses=refusals(TenantExists),
)
def create(caller: SignedIn, body: Annotated[NewTenant, Depends(read_as(NewTenant))], gateway: Gateway) -> TenantCard:
    """For an operator of the tenant `system`."""
    return _card(gateway.administration.create_tenant(caller, body.id, body.name))


@router.get("", summary="List tenants")
def list_all(caller: SignedIn, gateway: Gateway, page: PageQuery) -> Listing[TenantCard]:
    """Oldest first. For every administrator; outside `system`, its own tenant."""
    return Listing[TenantCard].of(gateway.administration.list_tenants(caller, page), _card, lambda tenant: tenant.id)


@router.get("/{id}", summary="One tenant", responses=refusals(UnknownTenant))
def get(id: PathName, caller: SignedIn, gateway: Gateway) -> TenantCard:
    """For every administrator; outside `system`, its own tenant."""
    return _card(gateway.administration.get_tenant(caller, id))


@router.patch("/{id}", summary="Keep responses", openapi_extra=described_by(Keeping), responses=refusals(UnknownTenant))
def keep(
    id: PathName, caller: SignedIn, body: Annotated[Keeping, Depends(read_as(Keeping))], gateway: Gateway
) -> TenantCard:
    """How long its responses are kept, within seconds everywhere. Those that would be older go. For an operator of
    `system`.
    """
    return _card(gateway.administration.keep_responses(caller, id, body.keep_responses))


@router.post("/{id}/disable", summary="Disable a tenant", responses=refusals(UnknownTenant))
def disable(id: PathName, caller: SignedIn, gateway: Gateway) -> TenantCard:
    """Its keys and tokens are refused from now on, within seconds everywhere. For an operator of `system`."""
    return _card(gateway.administration.disable_tenant(caller, id))


@router.post("/{id}/enable", summary="Enable a tenant", responses=refusals(UnknownTenant))
def enable(id: PathName, caller: SignedIn, gateway: Gateway) -> TenantCard:
    """Undo `disable`. For an operator of `system`."""
    return _card(gateway.administration.enable_tenant(caller, id))


def _card(tenant: Tenant) -> TenantCard:
    return TenantCard(
        id=tenant.id,
        name=tenant.name,
        created_at=tenant.created_at,
        disabled_at=tenant.disabled_at,
        status="active" if tenant.disabled_at is None else "disabled",
        keep_responses=tenant.keep_responses,
    )
