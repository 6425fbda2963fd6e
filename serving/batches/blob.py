"""Bytes of files in Azure Blob Storage, which all gateways share. What a write that was broken off has left there is
invisible, sealed, and deleted by Azure within a week.

Signed in as azure_storage.py says, on AKS with Workload Identity; it needs "Storage Blob Data Contributor" on the
container. The container is made by whoever makes the account.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobBlock
from azure.storage.blob.aio import BlobClient, ContainerClient, ExponentialRetry

from serving import azure_storage
from serving.batches.contents import PIECE, Chunks, ContentsUnavailable, checked

_log = logging.getLogger(__name__)
_BLOCK = 4 * 2**20
_SECONDS = 30.0
_RETRIES = 2
_MARK = "place"
_FAILURES = (AzureError, azure_storage.NotSignedIn, OSError, ValueError)  # ValueError: an address, an AZURE_* variable
T = TypeVar("T")


class BlobContents:
    """container: https://ACCOUNT.blob.core.windows.net/NAME. seconds: longest wait for one block, sign-in and repeats
    included. credential: makes the client's; tests have their own.
    """

    def __init__(
        self,
        container: str,
        *,
        seconds: float = _SECONDS,
        credential: Callable[[], Any] = azure_storage.credential,
    ) -> None:
        self._url = container
        self._seconds = seconds
        self._credential = credential
        self._container: ContainerClient | None = None
        self._place = ""

    async def write(self, id: str, chunks: Chunks) -> int:
        # The blob appears when its blocks are committed: a write that is broken off leaves what was there. The token
        # keeps the blocks of two writers apart, as when two workers finish the same batch.
        token, blocks, size, held = secrets.token_hex(8), list[BlobBlock](), 0, bytearray()

        async def stage(block: bytes) -> None:
            blocks.append(BlobBlock(f"{token}{len(blocks):06}"))
            await self._bounded(self._blob(id).stage_block(blocks[-1].id, block))

        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                size += len(chunk)
                held += chunk
                while len(held) >= _BLOCK:
                    await stage(bytes(held[:_BLOCK]))
                    del held[:_BLOCK]
            if held:
                await stage(bytes(held))
            await self._bounded(self._blob(id).commit_block_list(blocks))
        return size

    async def read(self, id: str) -> Chunks:
        stream = await self._bounded(self._blob(id).download_blob())
        pieces = aiter(stream.chunks())
        while piece := await self._bounded(anext(pieces, b"")):
            for start in range(0, len(piece), PIECE):
                yield piece[start : start + PIECE]

    async def delete(self, id: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            await self._bounded(self._blob(id).delete_blob())

    async def place(self) -> str:
        if not self._place:
            mark = self._in_container().get_blob_client(_MARK)
            with contextlib.suppress(FileExistsError):
                await self._bounded(mark.upload_blob(secrets.token_hex(16).encode(), overwrite=False))
            found = await self._bounded(mark.download_blob(offset=0, length=64))
            self._place = (await self._bounded(found.readall())).decode(errors="replace")
        return self._place

    async def ages(self) -> AsyncGenerator[tuple[str, float], None]:
        blobs = aiter(self._in_container().list_blobs(name_starts_with="file-"))
        while (blob := await self._bounded(anext(blobs, None))) is not None:
            yield blob.name, (datetime.now(UTC) - blob.last_modified).total_seconds()

    async def start(self) -> None: ...

    async def close(self) -> None:
        if self._container is not None:
            await self._container.close()

    async def _bounded(self, call: Awaitable[T]) -> T:
        with _translated():
            async with asyncio.timeout(self._seconds):
                return await call

    def _blob(self, id: str) -> BlobClient:
        return self._in_container().get_blob_client(checked(id))

    def _in_container(self) -> ContainerClient:
        # Made on first use: it belongs to the event loop that serves, not to the one that builds.
        if self._container is None:
            with _translated():
                self._container = self._client()
        return self._container

    def _client(self) -> ContainerClient:
        credential = self._credential()
        if isinstance(credential, azure_storage.SignIn):
            credential = azure_storage.AsyncSignIn(credential)
        return ContainerClient.from_container_url(
            self._url,
            credential=credential,
            max_single_get_size=_BLOCK,
            max_chunk_get_size=_BLOCK,
            connection_timeout=azure_storage.CONNECT_SECONDS,
            read_timeout=self._seconds,
            connection_verify=azure_storage.trusted(),
            # The client's own waits 15 s before it asks again.
            retry_policy=ExponentialRetry(
                initial_backoff=1, increment_base=2, random_jitter_range=1, retry_total=_RETRIES
            ),
        )


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """FileNotFoundError for a blob that is not there, FileExistsError for one that should not be. ContentsUnavailable
    for all else, with the reason in the log.
    """
    try:
        yield
    except _FAILURES as error:
        if isinstance(error, ResourceExistsError):
            raise FileExistsError from None
        if isinstance(error, ResourceNotFoundError) and _code_of(error) == "BlobNotFound":
            raise FileNotFoundError from None
        reason = azure_storage.reason_of(error, role="Storage Blob Data Contributor")
        _log.warning("files of batches: %s", reason)
        raise ContentsUnavailable from error


def _code_of(error: ResourceNotFoundError) -> str:
    code = getattr(error, "error_code", "")
    return str(getattr(code, "value", code))
