"""What a tenant may do with files."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import datetime, timedelta

from serving.batches.batch import BatchStore
from serving.batches.contents import Chunks, ContentsUnavailable
from serving.batches.file import File, FileStore, Purpose, TooManyFiles, UnknownFile
from serving.batches.sealed import Kept, SealedContents
from serving.errors import BodyTooLarge, InvalidRequest
from serving.tenants.callers import Caller
from serving.tenants.paging import Page, PageRequest
from serving.tenants.trail import Trail

SHORTEST_KEEP, LONGEST_KEEP = 3600, 30 * 86400
"""Seconds; OpenAI's. Azure's begin at 14 days (azure-wire-format, 3.1)."""
_LONGEST_NAME = 255
_SWEEP = 100


class FileInUse(InvalidRequest):
    code = "file_in_use"
    default_message = "A batch is reading this file. Cancel the batch, or delete the file when it has ended."


class Files:
    """most: files that a tenant uploaded. largest: bytes of one. total_of: bytes that all files of a tenant may be,
    those of its batches too; no more is uploaded then, but a batch that ran gets its output. check_room: raises NoRoom
    where something else needs the disk. keep: until a file expires, unless its owner says otherwise; None: never.
    """

    def __init__(
        self,
        store: FileStore,
        contents: SealedContents,
        batches: BatchStore,
        trail: Trail,
        *,
        now: Callable[[], datetime],
        most: int,
        largest: int,
        total_of: Callable[[str], int],
        keep: timedelta | None,
        check_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._contents = contents
        self._batches = batches
        self._trail = trail
        self._now = now
        self._most = most
        self._largest = largest
        self._total_of = total_of
        self._keep = keep
        self._check_room = check_room

    async def receive(self, caller: Caller, chunks: Chunks) -> Draft:
        """Take the bytes in. What the file is called and for comes before or after them: see Draft.

        Raises TooManyFiles before reading, BodyTooLarge, ContentsUnavailable, NoRoom.
        """
        caller.require("inference")
        async with contextlib.aclosing(chunks):
            if await asyncio.to_thread(self._store.count, caller.tenant) >= self._most:
                raise TooManyFiles(f"A tenant may keep at most {self._most} uploaded files. Delete some first.")
            room = await self.room(caller)
            return Draft(await self._contents.write(caller.tenant, self._measured(chunks, room)))

    async def room(self, caller: Caller) -> int:
        """Bytes that the tenant may still keep. Raises TooManyFiles when there are none, NoRoom."""
        self._check_room()
        total = self._total_of(caller.tenant)
        room = total - await asyncio.to_thread(self._store.size, caller.tenant)
        if room <= 0:
            raise _too_large_together(total)
        return room

    async def keep(
        self, caller: Caller, draft: Draft, *, name: str, purpose: str | None, seconds: int | None = None
    ) -> File:
        """The draft becomes a file. Raises InvalidRequest, and then the bytes are gone."""
        try:
            if purpose != "batch":
                raise InvalidRequest("'purpose' must be 'batch': files are for batches here.", param="purpose")
            file = File(
                id=f"file-{secrets.token_hex(16)}",
                tenant=caller.tenant,
                key_id=caller.key_id,
                name=name[:_LONGEST_NAME].encode(errors="replace").decode().replace("\0", "") or "file.jsonl",
                purpose="batch",
                bytes=draft.kept.size,
                created_at=self._now(),
                kept=draft.kept,
            )
            file = replace(file, expires_at=self.expiry(file.created_at, seconds))
            with self._trail.change(caller, "file.upload", file.id, {"bytes": file.bytes}):
                await asyncio.to_thread(self._store.put, file, most=self._total_of(caller.tenant))
        except BaseException:
            await asyncio.shield(self.discard(draft))
            raise
        return file

    async def discard(self, draft: Draft) -> None:
        with contextlib.suppress(ContentsUnavailable):  # then the clean-up finds them; nobody can read them
            await self._contents.delete(draft.kept)

    def expiry(self, created: datetime, seconds: int | None) -> datetime | None:
        """When a file of that time ends. Raises InvalidRequest."""
        if seconds is None:
            return None if self._keep is None else created + self._keep
        if not SHORTEST_KEEP <= seconds <= LONGEST_KEEP:
            raise InvalidRequest(
                f"expires_after.seconds must be {SHORTEST_KEEP} to {LONGEST_KEEP}.", param="expires_after"
            )
        return created + timedelta(seconds=seconds)

    async def get(self, caller: Caller, id: str) -> File:
        """Raises UnknownFile."""
        caller.require("inference")
        file = await asyncio.to_thread(self._store.get, caller.tenant, id) if id.isprintable() else None
        if file is None or (file.expires_at is not None and file.expires_at <= self._now()):
            raise UnknownFile
        return file

    async def page(self, caller: Caller, page: PageRequest, *, purpose: str | None, oldest_first: bool) -> Page[File]:
        caller.require("inference")
        return await asyncio.to_thread(
            self._store.page, caller.tenant, page, purpose=purpose, oldest_first=oldest_first
        )

    async def open(self, caller: Caller, id: str) -> tuple[File, Chunks]:
        """A file and its bytes; reading them is in the audit log. Raises UnknownFile."""
        file = await self.get(caller, id)
        with self._trail.change(caller, "file.download", id):
            return file, _there(self._contents.read(file.tenant, file.kept))

    async def read(self, tenant: str, id: str) -> Chunks:
        """The bytes, for a batch of the tenant. Raises FileNotFoundError, ContentsDamaged, ContentsUnavailable."""
        file = await asyncio.to_thread(self._store.get, tenant, id)
        if file is None:
            raise FileNotFoundError
        async with contextlib.aclosing(self._contents.read(tenant, file.kept)) as pieces:
            async for piece in pieces:
                yield piece

    async def delete(self, caller: Caller, id: str) -> None:
        """When this returns, bytes and key are gone. Raises UnknownFile, FileInUse; ContentsUnavailable, and then it is
        still listed.
        """
        file = await self.get(caller, id)
        with self._trail.change(caller, "file.delete", id):
            if await asyncio.to_thread(self._batches.uses, caller.tenant, id):
                raise FileInUse
            await self._contents.delete(file.kept)  # first: a row without bytes is found again
            await asyncio.to_thread(self._store.remove, file)

    async def add_output(self, batch_id: str, owner: Caller, kind: str, chunks: Chunks, seconds: int | None) -> File:
        """A file that a batch made. The same id each time, so that a batch finished twice has one."""
        id = output_id(batch_id, kind)
        kept, created = await self._contents.write(owner.tenant, chunks), self._now()
        purpose: Purpose = "batch_output"
        name = f"{batch_id}_{kind}.jsonl"
        expires = self.expiry(created, seconds)
        file = File(id, owner.tenant, owner.key_id, name, purpose, kept.size, created, kept, expires)
        before = await asyncio.to_thread(self._store.put, file)
        if before is not None:
            await self.discard(Draft(before.kept))
        return file

    async def sweep(self) -> int:
        """Delete some of the files whose time is over and that are where this process can delete them; how many."""
        place = await self._contents.place()
        files = await asyncio.to_thread(self._store.expired, self._now(), place, _SWEEP)
        swept = 0
        for file in files:
            if not await asyncio.to_thread(self._batches.uses, file.tenant, file.id):
                await self._contents.delete(file.kept)
                swept += await asyncio.to_thread(self._store.remove, file)
        return swept

    async def _measured(self, chunks: Chunks, room: int) -> AsyncGenerator[bytes, None]:
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > self._largest:
                raise BodyTooLarge(f"The file is larger than {self._largest} bytes.")
            if size > room:
                raise TooManyFiles(f"The tenant's files may be only {room} bytes more. Delete some first.")
            yield chunk


class Draft:
    """Bytes that were taken in, and are no file yet."""

    __slots__ = ("kept",)

    def __init__(self, kept: Kept) -> None:
        self.kept = kept


def _too_large_together(total: int) -> TooManyFiles:
    return TooManyFiles(f"The tenant's files are {total} bytes together, which is its limit. Delete some first.")


def output_id(batch_id: str, kind: str) -> str:
    return f"file-{batch_id.removeprefix('batch_')}{kind}"


async def _there(chunks: Chunks) -> Chunks:
    """The bytes; a row whose bytes are gone is a file that is gone."""
    async with contextlib.aclosing(chunks):
        try:
            async for chunk in chunks:
                yield chunk
        except FileNotFoundError:
            raise UnknownFile from None
