"""What a tenant may do with batches."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from serving.batches.batch import ENDPOINTS, Batch, BatchEnded, BatchStore, UnknownBatch
from serving.batches.files import Files
from serving.batches.lines import plain
from serving.errors import InvalidRequest
from serving.protocol import bounds
from serving.tenants.callers import Caller
from serving.tenants.paging import Page, PageRequest
from serving.tenants.trail import Trail

WINDOW = "24h"


class Batches:
    """most: batches of a tenant at a time. on_submitted: told at once, so that this process's worker need not look."""

    def __init__(
        self,
        store: BatchStore,
        files: Files,
        trail: Trail,
        *,
        now: Callable[[], datetime],
        most: int,
        on_submitted: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._files = files
        self._trail = trail
        self._now = now
        self._most = most
        self._on_submitted = on_submitted

    async def submit(
        self,
        caller: Caller,
        *,
        input_file_id: str,
        endpoint: str,
        window: str,
        metadata: Mapping[str, str] | None = None,
        output_keep: int | None = None,
    ) -> Batch:
        """Raises InvalidRequest, UnknownFile, TooManyBatches, TooManyFiles, NoRoom."""
        caller.require("inference")
        if plain(endpoint) not in ENDPOINTS:
            raise InvalidRequest(f"'endpoint' must be one of {', '.join(ENDPOINTS)}.", param="endpoint")
        if window != WINDOW:
            raise InvalidRequest(f"'completion_window' must be {WINDOW}.", param="completion_window")
        _check_metadata(metadata or {})
        now = self._now()
        self._files.expiry(now, output_keep)
        await self._files.room(caller)
        file = await self._files.get(caller, input_file_id)
        if file.purpose != "batch":
            raise InvalidRequest("The input file's purpose must be 'batch'.", param="input_file_id")
        batch = Batch(
            id=f"batch_{secrets.token_hex(16)}",
            owner=caller,
            endpoint=endpoint,
            input_file_id=file.id,
            created_at=now,
            expires_at=now + timedelta(hours=24),
            metadata=dict(metadata or {}),
            output_keep=output_keep,
        )
        with self._trail.change(caller, "batch.create", batch.id, {"input": file.id}):
            await asyncio.to_thread(self._store.add, batch, most=self._most)
        self._on_submitted()
        return batch

    async def get(self, caller: Caller, id: str) -> Batch:
        """Raises UnknownBatch."""
        caller.require("inference")
        batch = await asyncio.to_thread(self._store.get, caller.tenant, id) if id.isprintable() else None
        if batch is None:
            raise UnknownBatch
        return batch

    async def page(self, caller: Caller, page: PageRequest) -> Page[Batch]:
        caller.require("inference")
        return await asyncio.to_thread(self._store.page, caller.tenant, page)

    async def cancel(self, caller: Caller, id: str) -> Batch:
        """It is `cancelling`, and `cancelled` when its files are written. Twice is as once.

        Raises UnknownBatch, BatchEnded.
        """
        await self.get(caller, id)
        with self._trail.change(caller, "batch.cancel", id):
            batch = await asyncio.to_thread(self._store.cancel, caller.tenant, id, self._now())
            if batch is None:
                raise UnknownBatch
            if batch.status not in ("cancelling", "cancelled"):
                raise BatchEnded
        return batch


def _check_metadata(metadata: Mapping[str, str]) -> None:
    entries, names, values = bounds.METADATA, bounds.METADATA_NAME, bounds.METADATA_VALUE
    if len(metadata) > entries or any(len(n) > names or len(v) > values for n, v in metadata.items()):
        raise InvalidRequest(
            f"'metadata' has at most {entries} entries, with names of {names} and values of {values} characters.",
            param="metadata",
        )
