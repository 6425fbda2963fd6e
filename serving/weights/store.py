"""From a source to a directory that an engine may load, on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving import azure_storage
from serving.weights.digest import Digests, digest_of
from serving.weights.download import PIECE, WAITS, Download, free_bytes
from serving.weights.files import check_kinds, files_of
from serving.weights.hub import snapshot
from serving.weights.lock import alone
from serving.weights.source import BlobSource, FolderSource, HubSource, Source, WeightsError

if TYPE_CHECKING:
    from serving.weights.blobs import Blobs

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Weights as a configuration names them. digest: what they must be; only a blob source must have one."""

    source: Source
    digest: str | None = None
    allow_pickle: bool = False


@dataclass(frozen=True)
class Store:
    """folder: where downloads from Azure are kept, each under its digest: `sha256-...`, once it is whole and verified.

    endpoint: of a storage account, which stands there as {account}. connections: of one download.
    """

    folder: Path
    digests: Digests
    endpoint: str
    connections: int
    credential: Callable[[], Any] = azure_storage.credential
    piece: int = PIECE
    waits: Sequence[float] = WAITS
    free: Callable[[Path], int] = free_bytes

    def ready(self, wanted: Wanted, say: Say) -> Path:
        """The directory with these weights, verified; they are fetched if need be. Raises WeightsError.

        One process at a time works on a source; others wait for it. say: is told what is going on.
        """
        if isinstance(wanted.source, FolderSource) and wanted.digest is None:
            return self._checked(wanted.source.path, wanted)
        with self._alone(wanted.source, say):
            if isinstance(wanted.source, BlobSource):
                return self._checked(self._fetched(wanted.source, wanted, say), wanted)
            if isinstance(wanted.source, FolderSource):
                return self._checked(wanted.source.path, wanted)
            say("asking the hub")
            directory = snapshot(wanted.source, allow_pickle=wanted.allow_pickle, connections=self.connections)
            say("verifying")
            return self._checked(directory, wanted)

    def present(self, wanted: Wanted) -> Path | None:
        """Where these weights are if they are on this machine, unverified. Asks nobody."""
        if isinstance(wanted.source, HubSource):
            with contextlib.suppress(WeightsError):
                return snapshot(wanted.source, allow_pickle=wanted.allow_pickle, offline=True)
            return None
        place = self._place(wanted) if isinstance(wanted.source, BlobSource) else wanted.source.path
        return place if place.is_dir() else None

    def size_of(self, source: BlobSource) -> int:
        """Bytes, as the account says now. Asks once. Raises WeightsError."""
        with contextlib.closing(self._blobs(source)) as blobs:
            return sum(blob.size for blob in blobs.listing())

    def _checked(self, directory: Path, wanted: Wanted) -> Path:
        if not directory.is_dir():
            raise WeightsError(f"there is no directory {directory}")
        check_kinds(files_of(directory), allow_pickle=wanted.allow_pickle, of=str(directory))
        if wanted.digest is not None:
            match(self.digests.of(directory), wanted, directory)
        return directory

    def _fetched(self, source: BlobSource, wanted: Wanted, say: Say) -> Path:
        place = self._place(wanted)
        if place.is_dir():
            return place
        partial = self.folder / f"partial-{_key(source)}"
        with contextlib.closing(self._blobs(source)) as blobs:
            download = Download(self.connections, wanted.allow_pickle, _Pace(say).here, self.free, self.waits)
            files = download.run(blobs, partial, self.piece, str(source))
        say("verifying")
        digest = digest_of(files)
        match(digest, wanted, partial)
        try:
            files.replace(place)
        except OSError as error:
            if not place.is_dir():  # else another source with the same weights was first
                raise WeightsError(f"{place} cannot be made: {error.strerror}") from None
        self.digests.remember(place, digest)
        shutil.rmtree(partial, ignore_errors=True)
        return place

    def _blobs(self, source: BlobSource) -> Blobs:
        from serving.weights.blobs import Blobs  # azure's client: half a second

        return Blobs(source, endpoint=self.endpoint, piece=self.piece, credential=self.credential)

    def _place(self, wanted: Wanted) -> Path:
        return self.folder / (wanted.digest or "").replace(":", "-")

    @contextlib.contextmanager
    def _alone(self, source: Source, say: Say) -> Iterator[None]:
        lock = self.folder / f"{_key(source)}.lock"
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(alone(lock, waiting=lambda: say("waiting for another process that has begun")))
            except OSError as error:
                raise WeightsError(f"{self.folder} cannot be used: {error.strerror}") from None
            yield


def match(digest: str, wanted: Wanted, directory: Path) -> None:
    """Raises WeightsError unless it is the digest that is wanted."""
    if digest != wanted.digest:
        raise WeightsError(
            f"{wanted.source} is {digest}, but {wanted.digest} is pinned. Nothing is served from it. Find out which is "
            f"right; what is in {directory} stays until you delete it"
        )


def _key(source: Source) -> str:
    return hashlib.sha256(str(source).encode()).hexdigest()[:16]


class _Pace:
    """Says how far a download is, and how long it will take at the pace so far."""

    def __init__(self, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._first: tuple[float, int] | None = None

    def here(self, here: int, whole: int) -> None:
        began, before = self._first = self._first or (self._clock(), here)
        text = f"{here / 1e9:.2f} of {whole / 1e9:.2f} GB"
        if here - before > whole / 100:  # before that it would be a guess
            rate = (here - before) / (self._clock() - began)
            text += f", {rate / 1e6:.0f} MB/s, {(whole - here) / rate:.0f} s left"
        self._say(text)
