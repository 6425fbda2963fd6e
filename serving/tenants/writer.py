"""Records on their way to a store: taken at once, written in batches by a thread, kept on disk while it is away."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from serving.errors import ServingError
from serving.tenants.spool import Spool, SpoolFile, bad_files
from serving.tenants.stores import NotStorable

T = TypeVar("T")
_BATCH = 500
_FASTEST, _SLOWEST = 0.1, 2.0  # seconds between attempts
_LOOK_SECONDS = 30.0  # between looks into the spool
_log = logging.getLogger(__name__)


class BatchWriter(Generic[T]):
    """Hands what is `put` to `write`, in order, every `flush` seconds; a batch that fails is tried again, the same one.

    write       Called in a thread of the writer's own; idempotent, since a batch whose outcome is unknown comes again.
    size        Records that wait in memory at most. What does not fit, and what cannot be delivered at the end, goes to
                the folder `spool`, and from there to the store, at the next start or when it takes records again.
                on_lost: the disk failed as well.
    on_refused  Told of each record that the store does not take though it is there: it is set aside in a file of the
                spool, for somebody to look at, and the others go on. Not one must stop the books of all.
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
        on_refused: Callable[[], None] = lambda: None,
        before: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._spool = Spool[T](spool, encode, decode)
        self._folder = spool
        self._flush_seconds = flush
        self._size = size
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._before = before
        self._clock = clock
        self._waiting: deque[T] = deque()
        self._batch: list[T] = []
        self._wake = threading.Event()
        self._idle = threading.Condition()
        self._closing = self._closed = False
        self._thread: threading.Thread | None = None
        self._taken: deque[SpoolFile[T]] = deque()
        self._looked = clock()
        self.failing_since: float | None = None
        """By the clock; None while the store takes what it is given."""
        self.busy_since: float | None = None
        """By the clock; since when the store has been at work on something. Long: it hangs."""

    @property
    def backlog(self) -> int:
        return len(self._waiting) + len(self._batch) + sum(len(file.records) for file in list(self._taken))

    @property
    def bad_files(self) -> int:
        """Damaged files in the spool, which somebody should look at. Looks at the disk."""
        return len(bad_files(self._folder))

    def pending(self) -> list[T]:
        """What has been put and is not written yet."""
        kept = [record for file in list(self._taken) for record in file.records]
        return [*kept, *self._batch, *self._waiting]

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
        # A write that hangs may yet succeed: then these come twice, which the store knows. Files stay where they are.
        left = [*self._batch, *self._waiting]
        self._waiting.clear()
        self._batch = []
        if left:
            self._keep(left)

    def _run(self) -> None:
        failures = 0
        while not (self._closing and (failures or not self.backlog)):
            if not self._closing:
                self._wake.wait(min(_SLOWEST, _FASTEST * 2**failures) if failures else self._flush_seconds)
                self._wake.clear()
            if self._round():
                failures, self.failing_since = 0, None
                if self._clock() - self._looked > _LOOK_SECONDS:
                    self._take_back()
            else:
                failures += 1
            with self._idle:
                self._idle.notify_all()

    def _round(self) -> bool:
        """Write all that waits; False at the first failure."""
        if not self._try(self._before):
            return False
        while self._taken:
            if not self._deliver(self._taken[0]):
                return False
            self._taken.popleft()
        while self._waiting or self._batch:
            if not self._batch:
                self._batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            if not self._try(lambda: self._hand_over(self._batch)):
                return False
        return True

    def _hand_over(self, items: list[T]) -> None:
        """Write all but what the store refuses, and take them out of the list. Raises what says that it is away."""
        while items:
            piece = items[:_BATCH]
            try:
                self._write(piece)
            except Exception as error:
                if _is_away(error):
                    raise
                self._hand_over_singly(items, len(piece))
            else:
                del items[: len(piece)]

    def _hand_over_singly(self, items: list[T], count: int) -> None:
        for _ in range(count):
            try:
                self._write(items[:1])
            except Exception as error:
                if _is_away(error):
                    raise
                self._set_aside(items[0], error)
            del items[0]

    def _set_aside(self, item: T, error: Exception) -> None:
        cause = type(error.__cause__ or error).__name__  # its text may quote the record
        _log.error("spool: a record is refused by the store and set aside in %s: %s", self._folder, cause)
        self._on_refused()
        try:
            self._spool.keep_aside(item)
        except Exception:  # a full disk, or a record that is no JSON either
            self._on_lost(1)

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

    def _deliver(self, file: SpoolFile[T]) -> bool:
        """False: the store is away."""
        if not self._try(lambda: self._hand_over(file.records)):
            return False
        self._spool.done(file)
        return True

    def _take_back(self) -> None:
        """What could not be delivered before, here or by an earlier process; so much as may be in memory. Of several
        processes all do so; the store knows records that come twice.
        """
        self._looked = self._clock()
        room = self._size
        for file in self._spool.files():
            if not file.records:
                self._spool.done(file)
                continue
            self._taken.append(file)
            room -= len(file.records)
            if room <= 0:
                return

    def _keep(self, items: Sequence[T]) -> None:
        try:
            self._spool.keep(items)
        except OSError as error:
            _log.error("%d records are lost: the spool cannot be written: %s", len(items), error.strerror)
            self._on_lost(len(items))


def _is_away(error: Exception) -> bool:
    """Else the store, or what leads to it, does not take what it was given; it would not the next time."""
    return isinstance(error, ServingError | OSError | MemoryError) and not isinstance(error, NotStorable)
