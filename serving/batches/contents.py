"""Where the bytes of files are kept: a folder here, Azure Blob Storage in blob.py."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import IO, Protocol

from serving.errors import ServingError

Chunks = AsyncGenerator[bytes, None]
PIECE = 256 * 2**10
_ID = re.compile(r"file-[0-9a-zA-Z]{1,64}")


class ContentsUnavailable(ServingError):
    """The disk is full or away, or Blob Storage does not answer. Nothing was changed."""

    status, kind, code = 503, "server_error", "contents_unavailable"
    default_message = "Files cannot be read or written right now. Nothing was changed; try again shortly."

    def __init__(self, message: str = "") -> None:
        super().__init__(message, retry_after=5)


class Contents(Protocol):
    """Contract, checked for each by tests/batches/test_contents_contract.py. All may raise ContentsUnavailable."""

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

    async def start(self) -> None: ...

    async def close(self) -> None: ...


def checked(id: str) -> str:
    """The id. Raises FileNotFoundError: ids are ours; one that is not would be a path of somebody's choice."""
    if not _ID.fullmatch(id):
        raise FileNotFoundError
    return id


class DiskContents:
    """In one folder, readable for this user only. Several gateways need the same folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def write(self, id: str, chunks: Chunks) -> int:
        size, path, fresh = 0, self._path(id), self._folder / f".{secrets.token_hex(8)}"
        async with contextlib.aclosing(chunks):
            with _translated():
                file = await asyncio.to_thread(self._create, fresh)
            try:
                async for chunk in chunks:
                    with _translated():
                        await asyncio.to_thread(file.write, chunk)
                    size += len(chunk)
                with _translated():
                    await asyncio.to_thread(_finish, file, fresh, path)
            except BaseException:
                file.close()  # short plain calls: this may run in a cancelled task
                fresh.unlink(missing_ok=True)
                raise
        return size

    async def read(self, id: str) -> Chunks:
        with _translated():
            file = await asyncio.to_thread(self._path(id).open, "rb")
        with file:
            while True:
                with _translated():
                    piece = await asyncio.to_thread(file.read, PIECE)
                if not piece:
                    return
                yield piece

    async def delete(self, id: str) -> None:
        with contextlib.suppress(FileNotFoundError), _translated():
            await asyncio.to_thread(self._path(id).unlink)

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def _path(self, id: str) -> Path:
        return self._folder / checked(id)

    def _create(self, path: Path) -> IO[bytes]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _finish(file: IO[bytes], fresh: Path, path: Path) -> None:
    """On the disk for good before it has its name, and the name too: a batch is completed only when its output is."""
    with file:
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ContentsUnavailable from error
