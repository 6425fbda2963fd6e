"""/admin/v1/tenants: the organisations that keys, limits and usage belong to."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal, Self

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field, model_validator

from serving.gateway.admin.queries import PageQuery
from serving.gateway.admin.shapes import Closed, Listing, Names, Networks, parsed_networks, refusals
from serving.gateway.body import described_by, read_as
from serving.gateway.caller import SignedIn
from serving.gateway.names import PathName
from serving.gateway.parts import Gateway
from serving.protocol import bounds
from serving.tenants.registry import LONGEST_KEEP, SHORTEST_KEEP, Tenant, TenantExists, TenantStatus, UnknownTenant
from serving.tenants.rights import GrantTooWide

router = APIRouter(prefix="/tenants", tags=["tenants"])


class NewTenant(Closed):
    id: str = Field(max_length=bounds.ADMIN_NAME, description="1 to 63 of a-z, 0-9 and . _ -", examples=["cardiology"])
    name: str = Field(max_length=bounds.ADMIN_NAME, description="For people.", examples=["Cardiology, St. Mary"])


class TenantChanges(Closed):
    """What is left out stays as it is."""

    null_is_a_value: ClassVar[bool] = True
    keep_responses: int | None = Field(
        None,
        ge=-bounds.TOKENS,
        le=bounds.TOKENS,
        description=f"Seconds, {SHORTEST_KEEP} to {LONGEST_KEEP}, for which its responses are kept. null: not at all.",
        examples=[86400],
    )
    deployments: Names | None = Field(
        None, description="What all its keys and tokens may call, at most. null: all.", examples=[["notes"]]
    )
    networks: Networks = Field(None, description="Where from, at most. null: anywhere.", examples=[["10.20.0.0/16"]])

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError(f"names at least one of {', '.join(type(self).model_fields)}")
        return self


class TenantCard(BaseModel):
    object: Literal["tenant"] = "tenant"
    id: str
    name: str
    created_at: datetime
    disabled_at: datetime | None
    status: TenantStatus = Field(description="`refused`: changed in the database by something else than this product.")
    keep_responses: int | None = Field(description="Seconds for which its responses are kept. null: not at all.")
    deployments: list[str] | None = Field(description="What its callers may call, at most. null: all.")
    networks: list[str] | None = Field(description="Where its callers may be. null: anywhere.")


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


@router.patch(
    "/{id}",
    summary="Change a tenant",
    openapi_extra=described_by(TenantChanges),
    responses=refusals(UnknownTenant, GrantTooWide),
)
def change(
    id: PathName, caller: SignedIn, body: Annotated[TenantChanges, Depends(read_as(TenantChanges))], gateway: Gateway
) -> TenantCard:
    """How long its responses are kept, and the bounds of all its keys and tokens; within seconds everywhere, for what
    runs too. Responses that would be older go. For an operator of `system`.
    """
    verbs, asked = gateway.administration, body.model_fields_set
    if asked & {"deployments", "networks"}:
        tenant = verbs.get_tenant(caller, id)
        verbs.bound_tenant(
            caller,
            id,
            frozenset_of(body.deployments) if "deployments" in asked else tenant.deployments,
            parsed_networks(body.networks) if "networks" in asked else tenant.networks,
        )
    if "keep_responses" in asked:
        return _card(verbs.keep_responses(caller, id, body.keep_responses))
    return _card(verbs.get_tenant(caller, id))


def frozenset_of(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


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
        status=tenant.status,
        keep_responses=tenant.keep_responses,
        deployments=None if tenant.deployments is None else sorted(tenant.deployments),
        networks=None if tenant.networks is None else [str(network) for network in tenant.networks],
    )
