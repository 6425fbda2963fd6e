"""Lists as OpenAI's clients page through them: by the last item's id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import Query

from serving.tenants.paging import Page

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]
After = Annotated[str | None, Query(max_length=100, description="The `last_id` of the page before.")]


def listed(page: Page[T], shape: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    data = [shape(item) for item in page.items]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": page.after is not None,
    }


def seconds(time: Any) -> int | None:
    """A datetime as OpenAI writes it: Unix time."""
    return None if time is None else int(time.timestamp())
