"""What a file is, and where its row is kept. Its bytes are in contents.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from serving.errors import ServingError
from serving.tenants.paging import Page, PageRequest

Purpose = Literal["batch", "batch_output"]


class UnknownFile(ServingError):
    """There is none, it has expired, or it is another tenant's: nobody can tell which."""

    status, kind, code = 404, "invalid_request_error", "file_not_found"
    default_message = "There is no file of this id. GET /v1/files lists them."


@dataclass(frozen=True, slots=True)
class File:
    """bytes: its size. key_id: whose it is within the tenant; everyone of the tenant may use it."""

    id: str
    tenant: str
    key_id: str
    name: str
    purpose: Purpose
    bytes: int
    created_at: datetime
    expires_at: datetime | None = None


class FileStore(Protocol):
    """Called from several threads at once. Every method may raise StoreUnavailable."""

    def put(self, file: File) -> None:
        """Add the row, or replace the one of that id: whoever finishes a batch again writes the same."""

    def get(self, tenant: str, id: str) -> File | None:
        """The row, also of an expired file."""

    def remove(self, tenant: str, id: str) -> bool:
        """Was there one?"""

    def count(self, tenant: str) -> int:
        """Of those that it uploaded."""

    def page(self, tenant: str, page: PageRequest, *, purpose: str | None, oldest_first: bool) -> Page[File]:
        """In the order of creation. The cursor is the last file's id."""

    def expired(self, now: datetime, limit: int) -> list[File]:
        """Some of those whose time is over, of all tenants."""
