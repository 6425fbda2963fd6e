"""The blobs of a source: their listing, and pieces of them. Owns Azure Storage here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import BlobProperties, ContainerClient

from serving import azure_storage
from serving.weights.files import hidden
from serving.weights.source import BlobSource, WeightsError

_READ_SECONDS = 20.0
_WORTH_A_REPEAT = frozenset({408, 429, 500, 502, 503, 504})
T = TypeVar("T")


class Changed(Exception):
    """A blob is no longer what the listing says."""


class Unreachable(WeightsError):
    """Storage does not answer, or breaks off: it may be asked again."""


@dataclass(frozen=True, slots=True)
class Blob:
    """name: below the source's prefix."""

    name: str
    size: int
    etag: str


class Blobs:
    """Of one source. endpoint: of a storage account, which stands there as {account}. credential: makes the client's.

    Nothing is repeated here; each call may raise Unreachable, or WeightsError when a repeat cannot help.
    """

    def __init__(
        self,
        source: BlobSource,
        *,
        endpoint: str,
        piece: int,
        seconds: float = _READ_SECONDS,
        credential: Callable[[], Any] = azure_storage.credential,
    ) -> None:
        self._source = source
        self._endpoint = endpoint
        self._piece = piece
        self._seconds = seconds
        self._credential = credential
        self._container: ContainerClient | None = None

    def listing(self) -> list[Blob]:
        """All but hidden ones, in the order of their names. Raises WeightsError for a name that is no path."""
        below = self._source.prefix and self._source.prefix + "/"
        found = self._asked(
            lambda: list(self._client().list_blobs(name_starts_with=below or None, include=["metadata"]))
        )
        return list(_files(self._source, below, found))

    def read(self, blob: Blob, start: int) -> bytes:
        """One piece. Raises Changed."""
        name = "/".join(filter(None, (self._source.prefix, blob.name)))
        length = min(self._piece, blob.size - start)
        unchanged: dict[str, Any] = {"etag": blob.etag, "match_condition": MatchConditions.IfNotModified}
        data: bytes = self._asked(lambda: self._client().download_blob(name, start, length, **unchanged).readall())
        if len(data) != length:
            raise Unreachable(f"{self._source}: {blob.name} broke off")
        return data

    def close(self) -> None:
        if self._container is not None:
            self._container.close()

    def _client(self) -> ContainerClient:
        if self._container is None:
            credential = self._credential()
            if isinstance(credential, str):  # by its account's name: the client would look for it in the endpoint
                credential = AzureNamedKeyCredential(self._source.account, credential)
            self._container = ContainerClient(
                self._endpoint.format(account=self._source.account),
                self._source.container,
                credential=credential,
                max_single_get_size=self._piece,
                connection_timeout=azure_storage.CONNECT_SECONDS,
                read_timeout=self._seconds,
                retry_total=0,
            )
        return self._container

    def _asked(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except (AzureError, azure_storage.NotSignedIn, OSError, ValueError) as error:
            status = error.status_code if isinstance(error, HttpResponseError) else None
            code = getattr(error, "error_code", "")
            if status == 412 or "BlobNotFound" in (code, getattr(code, "value", "")):
                raise Changed from None
            reason = f"{self._source}: {azure_storage.reason_of(error, role='Storage Blob Data Reader')}"
            if status == 404:
                reason = f"{self._source}: there is no such container"
            ours = isinstance(error, azure_storage.NotSignedIn | ValueError)
            may_pass = status in _WORTH_A_REPEAT or (status is None and not ours)
            raise (Unreachable if may_pass else WeightsError)(reason) from None


def _files(source: BlobSource, below: str, found: Iterable[BlobProperties]) -> Iterable[Blob]:
    names: set[str] = set()
    for blob in found:
        name = blob.name.removeprefix(below)
        if not name or name.endswith("/") or (blob.metadata or {}).get("hdi_isfolder"):
            continue  # how accounts with folders, and some tools, write one
        parts = name.split("/")
        if {"", ".", ".."} & set(parts) or "\\" in name or not name.isprintable():
            raise WeightsError(f"{source} holds a blob whose name is no path below it: {name!r}")
        if hidden(name):
            continue
        if any("/".join(parts[:depth]) in names for depth in range(1, len(parts))):
            raise WeightsError(f"{source} holds a blob and others below it as if it were a folder: {name!r}")
        names.add(name)
        yield Blob(name, blob.size, blob.etag)
