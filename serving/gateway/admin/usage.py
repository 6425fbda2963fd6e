"""/admin/v1/usage: what was used, summed up or request by request."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Iterator
from dataclasses import asdict, replace
from datetime import date
from typing import Annotated, Literal, cast

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from serving.gateway.admin.queries import Filter, FromQuery, PageQuery, ToQuery
from serving.gateway.admin.shapes import Listing
from serving.gateway.caller import SignedIn
from serving.gateway.parts import Gateway
from serving.tenants.ledger import Group, UsageQuery, UsageRecord, UsageRow, cursor_for, usage_csv

router = APIRouter(prefix="/usage", tags=["usage"])

_LINES = 500  # of CSV that a thread reads at a time


class UsageCard(BaseModel):
    """Sums over requests that agree in what is grouped by; the others of tenant, key, deployment and day are null."""

    object: Literal["usage"] = "usage"
    id: str = Field(description="For `after`.")
    tenant: str | None
    key: str | None = Field(description="The id of a key, or `oidc:...`.")
    deployment: str | None
    day: date | None = Field(description="UTC.")
    requests: int
    prompt_tokens: int
    cached_tokens: int = Field(description="The part of prompt_tokens that the KV cache held.")
    completion_tokens: int
    total_tokens: int
    cost_micros: int | None = Field(description="Millionths of your currency; null where there was no price.")


def _filters(
    tenant: Annotated[Filter | None, Query(description="Only this tenant's.")] = None,
    key: Annotated[Filter | None, Query(description="Only this key's, by its id or prefix.")] = None,
    deployment: Annotated[Filter | None, Query(description="Only of this deployment.")] = None,
    since: FromQuery = None,
    until: ToQuery = None,
) -> UsageQuery:
    key = key and key.removeprefix("csk_")
    return UsageQuery(tenant=tenant, key=key, deployment=deployment, since=since, until=until)


Filters = Annotated[UsageQuery, Depends(_filters)]


@router.get("", summary="Usage, summed up")
def sums(
    caller: SignedIn,
    gateway: Gateway,
    filters: Filters,
    page: PageQuery,
    group_by: Annotated[
        Filter, Query(description="Some of tenant, key, deployment and day, with commas.", examples=["tenant,day"])
    ] = "day,deployment",
) -> Listing[UsageCard]:
    """For an auditor or operator; outside `system`, of its own tenant."""
    query = replace(filters, by=cast("tuple[Group, ...]", tuple(group_by.split(","))), page=page)
    found = gateway.administration.usage(caller, query)
    return Listing[UsageCard].of(found, lambda row: _card(row, query.by), lambda usage: usage.id)


@router.get(
    "/records.csv",
    summary="Usage, request by request",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "One line a request."}},
)
def records(caller: SignedIn, gateway: Gateway, filters: Filters) -> Response:
    """CSV, the oldest request first. For an auditor or operator; outside `system`, of its own tenant."""
    lines = usage_csv(gateway.administration.usage_records(caller, filters), UsageRecord)
    first = list(itertools.islice(lines, _LINES))  # what can fail fails here, while a status can be sent
    return StreamingResponse(
        _pieces(first, lines),
        media_type="text/csv",
        headers={"content-disposition": 'attachment; filename="usage.csv"'},
    )


async def _pieces(first: list[str], lines: Iterator[str]) -> AsyncGenerator[str, None]:
    piece = first
    while piece:
        yield "".join(piece)
        piece = await to_thread.run_sync(lambda: list(itertools.islice(lines, _LINES)))


def _card(row: UsageRow, by: tuple[Group, ...]) -> UsageCard:
    return UsageCard(
        id=cursor_for([str(getattr(row, group)) for group in by]),
        total_tokens=row.total_tokens,
        **asdict(row),
    )
