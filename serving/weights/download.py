"""A directory of blobs, brought here in pieces, several at a time; what an earlier attempt has brought stays."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from serving.weights.blobs import Blob, Blobs, Changed, Unreachable
from serving.weights.files import check_kinds, files_of
from serving.weights.partial import Partial
from serving.weights.source import WeightsError

PIECE = 8 * 2**20
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before storage that does not answer is asked again: about a minute in all."""
_LISTINGS = 3
_SPARE = 512 * 2**20
T = TypeVar("T")


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class Download:
    """connections: pieces at a time. here: is told bytes that are here, and all. waits: before repeats, in seconds."""

    connections: int
    allow_pickle: bool
    here: Callable[[int, int], None]
    free: Callable[[Path], int] = free_bytes
    waits: Sequence[float] = WAITS

    def run(self, blobs: Blobs, folder: Path, piece: int, of: str) -> Path:
        """The directory below `folder` that now holds exactly the blobs. Raises WeightsError.

        A blob that changes meanwhile begins anew. of: what the source is called in errors.
        """
        for _ in range(_LISTINGS):
            listing = self._persistent(blobs.listing, threading.Event())
            if not listing:
                raise WeightsError(f"there is nothing at {of}: check account, container and prefix")
            check_kinds((blob.name for blob in listing), allow_pickle=self.allow_pickle, of=of)
            try:
                self._fetch(blobs, folder, listing, piece)
            except Changed:
                continue
            except OSError as error:
                raise WeightsError(f"{of} cannot be written to {folder}: {error.strerror}") from None
            return folder / "files"
        raise WeightsError(f"{of} keeps changing while it is downloaded: let the upload end")

    def _fetch(self, blobs: Blobs, folder: Path, listing: Sequence[Blob], piece: int) -> None:
        _sweep(folder / "files", {blob.name for blob in listing})
        parts = [Partial(folder, blob, piece) for blob in listing]
        whole = sum(blob.size for blob in listing)
        left = sum(part.left() for part in parts)
        self._check_space(folder, left)
        self.here(whole - left, whole)
        stop, counting = threading.Event(), threading.Lock()

        def fetch(part: Partial, start: int) -> None:
            nonlocal left
            if stop.is_set():
                return
            data = self._persistent(lambda: blobs.read(part.blob, start), stop)
            part.keep(start, data)
            with counting:
                left -= len(data)
                self.here(whole - left, whole)

        with ThreadPoolExecutor(self.connections) as pool:
            try:
                tasks = [pool.submit(fetch, part, start) for part in parts for start in part.missing()]
                done, _ = wait(tasks, return_when=FIRST_EXCEPTION)
                for task in done:
                    task.result()
            finally:  # Ctrl-C too: what is under way ends, nothing else begins
                stop.set()
                pool.shutdown(cancel_futures=True)

    def _check_space(self, folder: Path, left: int) -> None:
        free = self.free(folder)
        if left and free < left + _SPARE:
            raise WeightsError(
                f"too little space in {folder}: {left / 1e9:.1f} GB are to come, {free / 1e9:.1f} GB are free. "
                "Free some, or set weights.folder to a larger disk"
            )

    def _persistent(self, ask: Callable[[], T], stop: threading.Event) -> T:
        for seconds in self.waits:
            try:
                return ask()
            except Unreachable:
                if stop.wait(seconds):
                    raise
        return ask()


def _sweep(directory: Path, names: set[str]) -> None:
    """Take away what is no longer among the blobs."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in files_of(directory):
        if name not in names:
            (directory / name).unlink()
