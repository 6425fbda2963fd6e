"""/admin/v1/me: who the caller is, what it may do and use."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from serving.gateway.caller import SignedIn
from serving.gateway.parts import Gateway
from serving.tenants.callers import Role
from serving.tenants.limits import Subject

router = APIRouter(prefix="/me", tags=["me"])


class LimitsInForce(BaseModel):
    """null: unlimited."""

    requests_per_minute: int | None
    tokens_per_minute: int | None
    tokens_per_day: int | None
    tokens_per_month: int | None
    concurrent_requests: int | None


class OwnLimits(BaseModel):
    """A request must fit both, and the deployment's."""

    key: LimitsInForce
    tenant: LimitsInForce


class Me(BaseModel):
    object: Literal["caller"] = "caller"
    tenant: str
    key_id: str = Field(description="The key's id, or `oidc:...` for the holder of a token.")
    key_name: str
    roles: list[Role]
    deployments: list[str] | None = Field(description="null: all.")
    networks: list[str] | None = Field(description="null: anywhere.")
    limits: OwnLimits


@router.get("", summary="Who am I")
def me(caller: SignedIn, gateway: Gateway) -> Me:
    """For everybody with a key or a token."""

    def in_force(subject: Subject) -> LimitsInForce:
        return LimitsInForce(**asdict(gateway.limits_of(subject)))

    return Me(
        tenant=caller.tenant,
        key_id=caller.key_id,
        key_name=caller.key_name,
        roles=sorted(caller.roles),
        deployments=None if caller.deployments is None else sorted(caller.deployments),
        networks=None if caller.networks is None else [str(network) for network in caller.networks],
        limits=OwnLimits(
            key=in_force(Subject("key", caller.key_id)), tenant=in_force(Subject("tenant", caller.tenant))
        ),
    )
