"""/admin/v1/audit: what was done, by whom, as the audit log has it. No content: names, numbers, keyed digests."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from serving.gateway.admin.queries import Filter, FromQuery, PageQuery, ToQuery
from serving.gateway.admin.shapes import Listing
from serving.gateway.caller import SignedIn
from serving.gateway.parts import Gateway
from serving.tenants.audit import Kind, Record
from serving.tenants.audit_store import AuditQuery, cursor_for

router = APIRouter(prefix="/audit", tags=["audit"])


class AuditCard(BaseModel):
    """A link of a chain. Its hash is that of its body, which `clinserve audit export` holds."""

    object: Literal["audit_record"] = "audit_record"
    id: str = Field(description="For `after`.")
    chain: str
    seq: int
    at: datetime
    kind: str = Field(
        description="inference, admin, access; or of the log itself: opened, witness, pruned, restored, closed."
    )
    tenant: str
    actor: str = Field(description="The id of a key, `oidc:...`, or `cli:...` of a command line.")
    request_id: str
    details: dict[str, Any] | None = Field(description="null: damaged; `clinserve audit verify` says more.")
    hash: str


@router.get("", summary="The audit log")
def records(
    caller: SignedIn,
    gateway: Gateway,
    page: PageQuery,
    tenant: Annotated[Filter | None, Query(description="Only this tenant's.")] = None,
    kind: Annotated[Kind | None, Query(description="Only of this kind.")] = None,
    request_id: Annotated[Filter | None, Query(description="Only of this request: its x-request-id.")] = None,
    since: FromQuery = None,
    until: ToQuery = None,
) -> Listing[AuditCard]:
    """The newest first. For an auditor; outside `system`, of its own tenant."""
    query = AuditQuery(tenant=tenant, kind=kind, request_id=request_id, since=since, until=until, page=page)
    found = gateway.administration.audit_records(caller, query)
    return Listing[AuditCard].of(found, _card, lambda record: record.id)


def _card(record: Record) -> AuditCard:
    body = _read(record.body)
    return AuditCard(
        id=cursor_for(record).replace("+00:00", "Z"),  # a + in an address is a space to many
        chain=record.chain,
        seq=record.seq,
        at=record.at,
        kind=record.kind,
        tenant=record.tenant,
        actor=str(body.get("actor", "")),
        request_id=record.request_id,
        details=body.get("details") if isinstance(body.get("details"), dict) else None,
        hash=record.hash,
    )


def _read(text: str) -> dict[str, Any]:
    """A body; empty for what somebody wrote there who was not us."""
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {}
