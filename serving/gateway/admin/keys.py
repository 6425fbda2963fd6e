"""/admin/v1/keys: the credentials of tenants. The text of a key is in the answer that creates it, and nowhere else."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field

from serving.gateway.admin.queries import Filter, Moment, PageQuery
from serving.gateway.admin.shapes import Closed, Listing, Names, Networks, parsed_networks, refusals
from serving.gateway.body import described_by, read_as
from serving.gateway.caller import SignedIn
from serving.gateway.names import PathName
from serving.gateway.parts import Gateway
from serving.protocol import bounds
from serving.tenants.callers import Role
from serving.tenants.exclusive_roles import RolesExclusive
from serving.tenants.key_store import KeyStatus
from serving.tenants.keys import ApiKey, KeyEnded, Secret, TooManyKeys, UnknownKey, utcnow
from serving.tenants.registry import UnknownTenant
from serving.tenants.rights import GrantTooWide

router = APIRouter(prefix="/keys", tags=["keys"])


class NewKey(Closed):
    tenant: str = Field(
        max_length=bounds.ADMIN_NAME, description="The id of the tenant that is charged.", examples=["cardiology"]
    )
    name: str = Field(
        max_length=bounds.ADMIN_NAME,
        description="The application or person. One name has at most two live keys.",
        examples=["ci"],
    )
    roles: Annotated[list[Role], Field(min_length=1, max_length=bounds.ADMIN_LIST)] = Field(
        ["inference"],
        description="What it may do: no role that its creator has not, but `inference`. `operator`: by `system` only.",
    )
    deployments: Names | None = Field(None, description="What it may call. Default: all.", examples=[["notes"]])
    networks: Networks = Field(
        None, description="Where from. Default: anywhere.", examples=[["10.20.0.0/16", "2001:db8::/32"]]
    )
    expires_at: Moment | None = Field(None, description="Default: it lasts until it is revoked.")


class Rotation(Closed):
    grace_seconds: int = Field(86400, ge=0, le=365 * 86400, description="How long the old key goes on working.")


class KeyCard(BaseModel):
    """All that is kept of a key, but for its digest."""

    object: Literal["key"] = "key"
    id: str
    prefix: str = Field(description="How the key begins; may be shown and logged.")
    tenant: str
    name: str
    roles: list[Role]
    deployments: list[str] | None = Field(description="null: all.")
    networks: list[str] | None = Field(description="null: anywhere.")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    status: KeyStatus = Field(description="`refused`: changed in the database by something else than this product.")


class CreatedKey(KeyCard):
    key: str = Field(description="The key. Shown this once: we keep no copy.")


@router.post(
    "",
    status_code=201,
    summary="Create a key",
    openapi_extra=described_by(NewKey),
    responses=refusals(TooManyKeys, UnknownTenant, GrantTooWide, RolesExclusive),
)
def create(
    caller: SignedIn, body: Annotated[NewKey, Depends(read_as(NewKey))], gateway: Gateway, response: Response
) -> CreatedKey:
    """The answer holds the key, once. For a key_admin; outside `system`, of its own tenant. Not beyond its own roles,
    deployments and networks.
    """
    key, secret = gateway.administration.create_key(
        caller,
        body.tenant,
        body.name,
        roles=frozenset(body.roles),
        deployments=None if body.deployments is None else frozenset(body.deployments),
        networks=parsed_networks(body.networks),
        expires_at=body.expires_at,
    )
    return _created(key, secret, response)


@router.get("", summary="List keys", responses=refusals(UnknownTenant))
def list_all(
    caller: SignedIn,
    gateway: Gateway,
    page: PageQuery,
    tenant: Annotated[Filter | None, Query(description="Only this tenant's.")] = None,
) -> Listing[KeyCard]:
    """Oldest first, ended ones too. For a key_admin; outside `system`, its own tenant's."""
    return Listing[KeyCard].of(gateway.administration.list_keys(caller, tenant, page), _card, lambda key: key.id)


@router.post(
    "/{id}/rotate",
    status_code=201,
    summary="Replace a key",
    openapi_extra=described_by(Rotation),
    responses=refusals(KeyEnded, TooManyKeys, UnknownKey, GrantTooWide),
)
def rotate(
    id: PathName,
    caller: SignedIn,
    body: Annotated[Rotation, Depends(read_as(Rotation))],
    gateway: Gateway,
    response: Response,
) -> CreatedKey:
    """The answer holds a new key with the rights and the lifetime of this one, which goes on for the grace.

    By id or prefix. For a key_admin who could create the key.
    """
    grace = timedelta(seconds=body.grace_seconds)
    return _created(*gateway.administration.rotate_key(caller, id, grace=grace), response)


@router.post("/{id}/revoke", summary="Revoke a key", responses=refusals(UnknownKey))
def revoke(id: PathName, caller: SignedIn, gateway: Gateway) -> KeyCard:
    """It ends here at once and elsewhere within seconds. By id or prefix. For a key_admin."""
    return _card(gateway.administration.revoke_key(caller, id))


def _created(key: ApiKey, secret: Secret, response: Response) -> CreatedKey:
    response.headers["cache-control"] = "no-store"
    return CreatedKey(**_card(key).model_dump(), key=secret.reveal())


def _card(key: ApiKey) -> KeyCard:
    return KeyCard(
        id=key.id,
        prefix=key.prefix,
        tenant=key.tenant,
        name=key.name,
        roles=sorted(key.roles),
        deployments=None if key.deployments is None else sorted(key.deployments),
        networks=None if key.networks is None else [str(network) for network in key.networks],
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        status=key.status(utcnow()),
    )
