"""Paging: long lists are read a page at a time, each page asked for by where the one before it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from serving.errors import InvalidRequest

T = TypeVar("T")

LONGEST_PAGE = 1000


@dataclass(frozen=True, slots=True)
class PageRequest:
    """At most `limit` items, those that come after the one named. after: as a Page gave it; None: from the start."""

    limit: int = 100
    after: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= LONGEST_PAGE:
            raise InvalidRequest(f"A page has 1 to {LONGEST_PAGE} items.", param="limit")
        if self.after is not None and not self.after.isprintable():  # PostgreSQL fails on a NUL
            raise bad_cursor()


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """after: asks for the next page; None when this is the last."""

    items: tuple[T, ...]
    after: str | None = None


def bad_cursor() -> InvalidRequest:
    return InvalidRequest("after: no such place in this list. Take it from the page before.", param="after")
