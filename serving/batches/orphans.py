"""Bytes without a file, and files without bytes: what a process that was killed, or a restored database, has left."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from serving.batches.contents import Contents
from serving.batches.file import FileStore

_OLD = timedelta(hours=1)
"""Longer than between bytes and their row, and than between two writes of an upload."""
_PIECE = 500
_log = logging.getLogger(__name__)


class Orphans:
    """Several gateways may do this at once, on the same place and the same database."""

    def __init__(self, store: FileStore, contents: Contents) -> None:
        self._store = store
        self._contents = contents

    async def sweep(self, now: datetime) -> int:
        """Delete them; how many. Raises ContentsUnavailable, StoreUnavailable."""
        place = await self._contents.place()
        there, swept, old = set[str](), 0, list[str]()
        async for name, age in self._contents.ages():
            there.add(name)
            if age > _OLD.total_seconds():
                old.append(name)
            if len(old) == _PIECE:
                swept += await self._delete_unknown(old)
                old = []
        swept += await self._delete_unknown(old)
        return swept + await self._delete_empty(place, there, now - _OLD)

    async def _delete_unknown(self, names: list[str]) -> int:
        unknown = set(names) - await asyncio.to_thread(self._store.known, names)
        for name in unknown:
            await self._contents.delete(name)
        if unknown:
            _log.warning("files: %d contents belonged to no file and are deleted", len(unknown))
        return len(unknown)

    async def _delete_empty(self, place: str, there: set[str], before: datetime) -> int:
        """Rows of files whose bytes were here: those of another place may be well."""
        swept, after = 0, ""
        while rows := await asyncio.to_thread(self._store.older, before, after, _PIECE):
            after = rows[-1].id
            for file in rows:
                if file.kept.place == place and file.kept.name not in there:
                    _log.error("files: the bytes of %s are gone", file.id)
                    swept += await asyncio.to_thread(self._store.remove, file)
        return swept
