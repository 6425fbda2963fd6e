"""Records on their way to a store: taken at once, written in batches by a thread, kept on disk while it is away."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
_BATCH = 500
_FASTEST, _SLOWEST = 0.1, 2.0  # seconds between attempts


class BatchWriter(Generic[T]):
    """Hands what is `put` to `write`, in order, every `flush` seconds; a batch that fails is tried again, the same one.

    write       Called in a thread of the writer's own; idempotent, since a batch whose outcome is unknown comes again.
    size        Records that wait in memory at most. What does not fit, and what cannot be delivered at the end, goes to
                the folder `spool`, and from there to the store with the next start. on_lost: the disk failed as well.
    before      Called in the thread each time that it looks for records; what it raises makes that time a failure.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], None],
        *,
        encode: Callable[[T], object],
        decode: Callable[[object], T],
        spool: Path,
        flush: float = 1.0,
        size: int = 100_000,
        on_lost: Callable[[int], None] = lambda count: None,
        before: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._encode, self._decode, self._spool = encode, decode, spool
        self._flush_seconds = flush
        self._size = size
        self._on_lost = on_lost
        self._before = before
        self._clock = clock
        self._waiting: deque[T] = deque()
        self._batch: list[T] = []
        self._wake = threading.Event()
        self._idle = threading.Condition()
        self._closing = self._closed = False
        self._thread: threading.Thread | None = None
        self._taken: list[Path] = []
        self.failing_since: float | None = None
        """By the clock; None while the store takes what it is given."""
        self.busy_since: float | None = None
        """By the clock; since when the store has been at work on something. Long: it hangs."""

    @property
    def backlog(self) -> int:
        return len(self._waiting) + len(self._batch)

    def pending(self) -> list[T]:
        """What has been put and is not written yet."""
        return [*self._batch, *self._waiting]

    def put(self, item: T) -> None:
        """A plain call that waits for nothing; from any thread, also in the clean-up of a cancelled task."""
        if len(self._waiting) < self._size and not self._closed:
            self._waiting.append(item)
        else:
            self._keep([item])

    def start(self) -> None:
        self._take_back()
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        self._thread.start()

    def flush(self, timeout: float) -> bool:
        """Wait until all that was put is written; False if that takes longer."""
        self._wake.set()
        with self._idle:
            return self._idle.wait_for(lambda: self.backlog == 0, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Write what is left, or keep it on disk for the next start."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
        self._closed = True
        left = self.pending()  # a write that hangs may yet succeed: then these come twice, which the store knows
        self._waiting.clear()
        self._batch = []
        if left:
            self._keep(left)
        self._forget_taken()

    def _run(self) -> None:
        failures = 0
        while not (self._closing and (failures or not self.backlog)):
            if not self._closing:
                self._wake.wait(min(_SLOWEST, _FASTEST * 2**failures) if failures else self._flush_seconds)
                self._wake.clear()
            if self._round():
                failures, self.failing_since = 0, None
                self._forget_taken()
            else:
                failures += 1
            with self._idle:
                self._idle.notify_all()

    def _round(self) -> bool:
        """Write all that waits; False at the first failure."""
        if not self._try(self._before):
            return False
        while self.backlog:
            if not self._batch:
                self._batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            if not self._try(lambda: self._write(self._batch)):
                return False
            self._batch = []
        return True

    def _try(self, step: Callable[[], None]) -> bool:
        begun = self._clock()
        hanging, self.busy_since = self.busy_since, begun
        try:
            step()
        except Exception:  # whatever it is, what waits goes on waiting, and `failing_since` shows it
            if self.failing_since is None:
                self.failing_since = begun
            return False
        finally:
            self.busy_since = hanging
        return True

    def _take_back(self) -> None:
        """Put what an earlier process could not deliver before all else. Of several that start at once all do so; the
        store knows records that come twice.
        """
        kept: list[T] = []
        for path in sorted(self._spool.glob("*.jsonl")):
            with contextlib.suppress(FileNotFoundError):
                kept += [self._decode(json.loads(line)) for line in path.read_text().splitlines()]
                self._taken.append(path)
        self._waiting.extendleft(reversed(kept))

    def _forget_taken(self) -> None:
        """What was in those files is written, or kept anew."""
        for path in self._taken:
            path.unlink(missing_ok=True)
        self._taken.clear()

    def _keep(self, items: Sequence[T]) -> None:
        try:
            self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._spool / f"{time.time_ns():020d}-{secrets.token_hex(4)}.jsonl"
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.writelines(json.dumps(self._encode(item)) + "\n" for item in items)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self._on_lost(len(items))
