"""Whole lists at a shell: page after page, until the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from serving.tenants.paging import LONGEST_PAGE, Page, PageRequest

T = TypeVar("T")


def everything(page_at: Callable[[PageRequest], Page[T]]) -> Iterator[T]:
    page = page_at(PageRequest(LONGEST_PAGE))
    yield from page.items
    while page.after is not None:
        page = page_at(PageRequest(LONGEST_PAGE, page.after))
        yield from page.items
