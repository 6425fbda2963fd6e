"""Bytes of files in one folder, readable for this user only. Several gateways need the same one."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import IO

from serving.batches.contents import PIECE, Chunks, ContentsUnavailable, NoRoom, checked
from serving.disk import PARTIAL, is_full, sync_folder

_OLD = 3600.0  # seconds without a write
_LOCKED_BY = 1.0  # seconds after it was made
_PLACE = re.compile(r"[0-9a-f]{32}")


class DiskContents:
    """reserve: bytes of the disk that stay free, for others who write there. mark: the file, on the same disk, that
    says which place this is; in the folder unless given.
    """

    def __init__(self, folder: Path, *, reserve: int = 0, mark: Path | None = None) -> None:
        self._folder = folder
        self._mark = mark or folder / ".place"
        self._reserve = reserve
        self._host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12]

    async def place(self) -> str:
        with _translated():
            return await asyncio.to_thread(self._place)

    async def write(self, id: str, chunks: Chunks) -> int:
        size, path = 0, self._path(id)
        fresh = self._folder / f".{id}.{self._host}.{secrets.token_hex(8)}{PARTIAL}"
        async with contextlib.aclosing(chunks):
            with _translated():
                file = await asyncio.to_thread(self._create, fresh)
            try:
                async for chunk in chunks:
                    with _translated():
                        await asyncio.to_thread(self._add, file, chunk)
                    size += len(chunk)
                with _translated():
                    await asyncio.to_thread(_finish, file, fresh, path)
            except BaseException:
                with contextlib.suppress(OSError):  # short plain calls: this may run in a cancelled task
                    file.close()
                with contextlib.suppress(OSError):
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
            await asyncio.to_thread(self._unlink, self._path(id))

    async def ages(self) -> AsyncGenerator[tuple[str, float], None]:
        with _translated():
            found = await asyncio.to_thread(self._look)
        for one in found:
            yield one

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def _path(self, id: str) -> Path:
        return self._folder / checked(id)

    def _place(self) -> str:
        """In a file there: a folder whose disk is not mounted has none, or another."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark = self._mark
        with contextlib.suppress(FileNotFoundError):
            return _read_mark(mark)
        fresh = mark.with_name(f".{mark.name}.{secrets.token_hex(8)}{PARTIAL}")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(16))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # another process that starts now was first
                os.link(fresh, mark)
        finally:
            fresh.unlink(missing_ok=True)
        return _read_mark(mark)

    def _create(self, path: Path) -> IO[bytes]:
        self._place()
        self._check_room(0)
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        with contextlib.suppress(OSError):  # a disk without locks: age alone says that a writer is dead
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file

    def _add(self, file: IO[bytes], chunk: bytes) -> None:
        self._check_room(len(chunk))
        file.write(chunk)

    def _check_room(self, coming: int) -> None:
        if self._reserve and shutil.disk_usage(self._folder).free < self._reserve + coming:
            raise NoRoom

    def _unlink(self, path: Path) -> None:
        path.unlink()
        sync_folder(self._folder)  # a power failure must not bring back what was said to be deleted

    def _look(self) -> list[tuple[str, float]]:
        self._place()  # there may be no folder yet
        found, now = [], time.time()
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another process was first, or the name is not ours
                    age = now - entry.stat(follow_symlinks=False).st_mtime
                    if not entry.name.startswith("."):
                        found.append((checked(entry.name), age))
                    elif entry.name.endswith(PARTIAL) and self._is_left(entry, age):
                        Path(entry.path).unlink()
        return found

    def _is_left(self, entry: os.DirEntry[str], age: float) -> bool:
        """By a writer that died: of this machine by its lock, of another, whose locks may not be seen, by age."""
        return age > _OLD or (age > _LOCKED_BY and f".{self._host}." in entry.name and _is_abandoned(entry.path))


def _read_mark(mark: Path) -> str:
    text = mark.read_text(errors="replace")[:64]
    if not _PLACE.fullmatch(text):
        raise OSError(f"{mark} is damaged")
    return text


def _is_abandoned(path: str) -> bool:
    """Does nobody hold its lock? The system frees that of a process which was killed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _finish(file: IO[bytes], fresh: Path, path: Path) -> None:
    """On the disk for good before it has its name, and the name too: a batch is completed only when its output is."""
    with file:
        file.flush()
        os.fsync(file.fileno())
        try:
            fresh.replace(path)  # while it is locked
        except FileNotFoundError:  # somebody has cleaned up
            raise ContentsUnavailable from None
    sync_folder(path.parent)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise (NoRoom if is_full(error) else ContentsUnavailable) from error
