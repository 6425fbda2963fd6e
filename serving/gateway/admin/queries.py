"""What the queries of /admin/v1 share: pages, times, and refusals that name the parameter, never its value."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.dependencies.utils import get_flat_dependant
from pydantic import AfterValidator, BeforeValidator, Field

from serving.errors import InvalidRequest
from serving.gateway.caller import SignedIn
from serving.protocol import bounds
from serving.tenants.paging import LONGEST_PAGE, PageRequest


def only_known_names(caller: SignedIn, request: Request) -> None:
    """Refuse a query with a name that the route does not know: a filter with a typo would show everything."""
    known = {field.alias for field in get_flat_dependant(request.scope["route"].dependant).query_params}
    if not known.issuperset(request.query_params):
        there_are = f"There are: {', '.join(sorted(known))}." if known else "This path takes none."
        raise InvalidRequest(f"The query has an unknown parameter. {there_are}")


def _page(
    limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE, description="At most so many items.")] = 100,
    after: Annotated[
        str | None, Query(max_length=bounds.QUERY_VALUE, description="Those that come after this: a page's `last_id`.")
    ] = None,
) -> PageRequest:
    return PageRequest(limit, after)


PageQuery = Annotated[PageRequest, Depends(_page)]


def _printable(text: str) -> str:
    if not text.isprintable():  # PostgreSQL fails on a NUL
        raise ValueError("write printable characters")
    return text


Filter = Annotated[str, Field(max_length=bounds.QUERY_VALUE), AfterValidator(_printable)]


def moment(value: object) -> datetime:
    """A time as ISO 8601 writes it; a day is its beginning, and what names no zone is UTC's."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
        if time is not None:
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("write a day or a time in UTC, such as 2026-11-01 or 2026-11-01T08:00:00Z")


Moment = Annotated[datetime, BeforeValidator(moment)]
FromQuery = Annotated[Moment | None, Query(alias="from", description="From this time on, such as 2026-11-01.")]
ToQuery = Annotated[Moment | None, Query(alias="to", description="Before this time.")]
