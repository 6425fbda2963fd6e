"""/admin/v1/limits: what keys, tenants and deployments may use, as far as somebody set it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from serving.errors import UnknownDeployment
from serving.gateway.admin.queries import Filter, PageQuery
from serving.gateway.admin.shapes import Closed, Listing, refusals
from serving.gateway.body import described_by, read_as
from serving.gateway.caller import SignedIn
from serving.gateway.names import PathName
from serving.gateway.parts import Gateway
from serving.protocol import bounds
from serving.tenants.administration import IDENTITY, Administration
from serving.tenants.callers import Caller
from serving.tenants.key_store import UnknownKey
from serving.tenants.key_text import public_name
from serving.tenants.limits import Limits, Scope, Subject
from serving.tenants.paging import LONGEST_PAGE, PageRequest
from serving.tenants.registry import UnknownTenant
from serving.tenants.rights import GrantTooWide

router = APIRouter(prefix="/limits", tags=["limits"])


Quota = Annotated[int, Field(ge=-bounds.QUOTA, le=bounds.QUOTA)]


class LimitsBody(Closed):
    """null, or left out: not set here, so the configured default applies. 0: unlimited in spite of a default."""

    requests_per_minute: Quota | None = Field(None, description="Requests in any 60 seconds.")
    tokens_per_minute: Quota | None = Field(None, description="Tokens, prompt and answer, in any 60 seconds.")
    tokens_per_day: Quota | None = Field(None, description="Tokens in a day, UTC.")
    tokens_per_month: Quota | None = Field(None, description="Tokens in a month, UTC.")
    concurrent_requests: Quota | None = Field(None, description="Requests at a time, over all gateways.")


class LimitsCard(BaseModel):
    """null: not set here. 0: unlimited in spite of a default."""

    object: Literal["limits"] = "limits"
    id: str = Field(description="The scope and the subject; for `after`.", examples=["tenant:cardiology"])
    scope: Scope
    subject: str = Field(description="The id of a key or tenant, or the name of a deployment.")
    requests_per_minute: int | None
    tokens_per_minute: int | None
    tokens_per_day: int | None
    tokens_per_month: int | None
    concurrent_requests: int | None


@router.get("", summary="List limits", responses=refusals(UnknownTenant))
def list_all(
    caller: SignedIn,
    gateway: Gateway,
    page: PageQuery,
    scope: Annotated[Scope | None, Query(description="Only those of this kind.")] = None,
    tenant: Annotated[Filter | None, Query(description="Only those of this tenant and its keys.")] = None,
) -> Listing[LimitsCard]:
    """What is set, by scope and subject. For every administrator; outside `system`, its own tenant's."""
    found = gateway.administration.list_limits(caller, page, scope, tenant)
    return Listing[LimitsCard].of(found, lambda row: _card(*row), lambda limits: limits.id)


@router.get("/{scope}/{subject:path}", summary="The limits of one subject")
def get(scope: Scope, subject: PathName, caller: SignedIn, gateway: Gateway) -> LimitsCard:
    """What is set for it; all null if nothing is. For every administrator; outside `system`, of its own tenant."""
    wanted = _as_kept(Subject(scope, subject))
    return _card(wanted, _set_for(wanted, caller, gateway.administration))


@router.put(
    "/{scope}/{subject:path}",
    summary="Set the limits of one subject",
    openapi_extra=described_by(LimitsBody),
    responses=refusals(UnknownTenant, UnknownKey, UnknownDeployment, GrantTooWide),
)
def put(
    scope: Scope,
    subject: PathName,
    caller: SignedIn,
    body: Annotated[LimitsBody, Depends(read_as(LimitsBody))],
    gateway: Gateway,
) -> LimitsCard:
    """Replaces all that was set for it. A key is named by its id or prefix, the holder of a token by `oidc:...`.

    For an operator of `system`; limits of a key also for a key_admin, up to its own. Not of one's own key.
    """
    limits = Limits(**body.model_dump())
    return _card(gateway.administration.set_limits(caller, Subject(scope, subject), limits), limits)


@router.delete(
    "/{scope}/{subject:path}",
    status_code=204,
    summary="Back to the defaults",
    responses=refusals(UnknownTenant, UnknownKey, GrantTooWide),
)
def delete(scope: Scope, subject: PathName, caller: SignedIn, gateway: Gateway) -> None:
    """Also when nothing was set. For whom `PUT` is."""
    gateway.administration.clear_limits(caller, Subject(scope, subject))


def _as_kept(subject: Subject) -> Subject:
    """A key by its id, however it was named."""
    if subject.scope != "key" or subject.id.startswith(IDENTITY):
        return subject
    return Subject("key", public_name(subject.id).removeprefix("csk_"))


def _set_for(wanted: Subject, caller: Caller, administration: Administration) -> Limits:
    page = PageRequest(LONGEST_PAGE)
    while True:
        found = administration.list_limits(caller, page, wanted.scope)
        rows = dict(found.items)
        if wanted in rows or found.after is None:
            return rows.get(wanted, Limits())
        page = PageRequest(LONGEST_PAGE, found.after)


def _card(subject: Subject, limits: Limits) -> LimitsCard:
    return LimitsCard(id=f"{subject.scope}:{subject.id}", scope=subject.scope, subject=subject.id, **asdict(limits))
