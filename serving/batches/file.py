"""What a file is, and where its row is kept. Its bytes are in contents.py."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from serving.batches.sealed import Kept
from serving.errors import InvalidRequest, ServingError
from serving.tenants.paging import Page, PageRequest

Purpose = Literal["batch", "batch_output"]


class UnknownFile(ServingError):
    """There is none, it has expired, or it is another tenant's: nobody can tell which."""

    status, kind, code = 404, "invalid_request_error", "file_not_found"
    default_message = "There is no file of this id. GET /v1/files lists them."


class TooManyFiles(InvalidRequest):
    """Azure's code and status, whose wording clients look for (azure-wire-format, 3.1)."""

    code = "quotaExceeded"


@dataclass(frozen=True, slots=True)
class File:
    """bytes: its size. key_id: whose it is within the tenant; everyone of the tenant may use it. kept: where its bytes
    are (sealed.py).
    """

    id: str
    tenant: str
    key_id: str
    name: str
    purpose: Purpose
    bytes: int
    created_at: datetime
    kept: Kept
    expires_at: datetime | None = None


class FileStore(Protocol):
    """Called from several threads at once. Every method may raise StoreUnavailable."""

    def put(self, file: File, *, most: int | None = None) -> File | None:
        """Add the row, or replace the one of that id, which is returned: a batch that is finished again puts it again.

        most: bytes that the tenant's files may have then, or raises TooManyFiles; exactly, whoever else adds one now.
        """

    def get(self, tenant: str, id: str) -> File | None:
        """The row, also of an expired file."""

    def remove(self, file: File) -> bool:
        """The row, with its bytes' key. False: it is not there, or has other bytes by now."""

    def count(self, tenant: str) -> int:
        """Of those that it uploaded."""

    def size(self, tenant: str) -> int:
        """Bytes of all its files."""

    def page(self, tenant: str, page: PageRequest, *, purpose: str | None, oldest_first: bool) -> Page[File]:
        """In the order of creation. The cursor is the last file's id."""

    def expired(self, now: datetime, place: str, limit: int) -> list[File]:
        """Some of those in this place whose time is over, of all tenants."""

    def known(self, names: Collection[str]) -> set[str]:
        """Which of these contents belong to a file."""

    def older(self, created: datetime, after: str, limit: int) -> list[File]:
        """Files of before that time, of all tenants, by id; those after an id."""
