"""Bytes of files in Azure Blob Storage, which all gateways share and Azure encrypts.

Signed in with DefaultAzureCredential, which on AKS is Workload Identity; it needs "Storage Blob Data Contributor" on
the container. The container is made by whoever makes the account.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.blob.aio import ContainerClient

from serving.batches.contents import PIECE, Chunks, ContentsUnavailable

_BLOCK = 4 * 2**20
_SECONDS = 20


class BlobContents:
    """container: https://ACCOUNT.blob.core.windows.net/NAME. credential: makes the client's; tests have their own."""

    def __init__(self, container: str, credential: Callable[[], Any] | None = None) -> None:
        self._url = container
        self._credential_of = credential or _default_credential
        self._credential: Any = None
        self._container: ContainerClient | None = None

    async def write(self, id: str, chunks: Chunks) -> int:
        size = 0

        async def counted() -> AsyncGenerator[bytes, None]:
            nonlocal size
            async for chunk in chunks:
                size += len(chunk)
                yield chunk

        # The blob appears when its last block is committed: one that was broken off leaves what was there.
        async with contextlib.aclosing(chunks):
            with _translated():
                await self._client().upload_blob(id, counted(), overwrite=True, max_concurrency=1)
        return size

    async def read(self, id: str) -> Chunks:
        with _translated():
            stream = await self._client().download_blob(id)
            pieces = aiter(stream.chunks())
        while True:
            with _translated():
                piece = await anext(pieces, b"")
            if not piece:
                return
            for start in range(0, len(piece), PIECE):
                yield piece[start : start + PIECE]

    async def delete(self, id: str) -> None:
        with contextlib.suppress(FileNotFoundError), _translated():
            await self._client().delete_blob(id)

    async def start(self) -> None: ...

    async def close(self) -> None:
        if self._container is not None:
            await self._container.close()
        if hasattr(self._credential, "close"):
            await self._credential.close()

    def _client(self) -> ContainerClient:
        # Made on first use: it belongs to the event loop that serves, not to the one that builds.
        if self._container is None:
            self._credential = self._credential_of()
            self._container = ContainerClient.from_container_url(
                self._url,
                credential=self._credential,
                max_block_size=_BLOCK,
                max_single_put_size=_BLOCK,
                max_single_get_size=_BLOCK,
                max_chunk_get_size=_BLOCK,
                connection_timeout=_SECONDS,
                read_timeout=_SECONDS,
                retry_total=3,
            )
        return self._container


def _default_credential() -> Any:
    from azure.identity.aio import DefaultAzureCredential

    return DefaultAzureCredential()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ResourceNotFoundError as error:
        if "BlobNotFound" in str(getattr(error, "error_code", "")):
            raise FileNotFoundError from None
        raise ContentsUnavailable from error
    except AzureError as error:
        raise ContentsUnavailable from error
