"""Where the bytes of files are kept, which sealed.py has sealed: a folder in disk.py, Azure Blob Storage in blob.py."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Protocol

from serving.errors import ServingError

Chunks = AsyncGenerator[bytes, None]
PIECE = 256 * 2**10
_ID = re.compile(r"file-[0-9a-zA-Z]{1,64}")


class ContentsUnavailable(ServingError):
    """The disk is away or failing, or Blob Storage does not answer. Nothing was changed."""

    status, kind, code = 503, "server_error", "contents_unavailable"
    default_message = "Files cannot be read or written right now. Nothing was changed; try again shortly."

    def __init__(self, message: str = "") -> None:
        super().__init__(message, retry_after=5)


class NoRoom(ContentsUnavailable):
    """A disk is full, or has no more than is kept free for the database and the audit log. Nothing was changed."""

    status, code = 507, "insufficient_storage"
    default_message = "There is no room to keep this right now. Nothing was changed; try again later."


class Contents(Protocol):
    """Contract, checked for each by tests/batches/test_contents_contract.py. All may raise ContentsUnavailable."""

    async def place(self) -> str:
        """Which place this is: the same for all that share it, another for a folder that is not mounted."""
        ...

    async def write(self, id: str, chunks: Chunks) -> int:
        """Keep what comes, replacing what was kept under this id, all or nothing; the number of bytes.

        Whatever the chunks raise is raised here, and nothing is kept. Closes them.
        """
        ...

    def read(self, id: str) -> Chunks:
        """In pieces of at most PIECE bytes. Nothing kept: raises FileNotFoundError on the first."""
        ...

    async def delete(self, id: str) -> None:
        """Nothing kept: nothing happens."""
        ...

    def ages(self) -> AsyncGenerator[tuple[str, float], None]:
        """All ids, and how many seconds ago each was written. What writers that died have left is deleted meanwhile."""
        ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...


def checked(id: str) -> str:
    """The id. Raises FileNotFoundError: ids are ours; one that is not would be a path of somebody's choice."""
    if not _ID.fullmatch(id):
        raise FileNotFoundError
    return id
