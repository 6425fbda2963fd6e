"""Records on their way to a store: none is lost or reordered, whatever the store does."""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from serving.tenants.stores import StoreUnavailable
from serving.tenants.writer import BatchWriter


class Store:
    """Keeps what it is given; refuses while `away`, and fails after having kept while `torn`."""

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.batches = 0
        self.away = self.torn = False

    def write(self, batch: Sequence[int]) -> None:
        if self.away:
            raise StoreUnavailable
        self.batches += 1
        self.kept += [item for item in batch if item not in self.kept]
        if self.torn:
            self.torn = False
            raise StoreUnavailable


@contextmanager
def writing(
    store: Store, spool: Path, size: int = 10_000, on_lost: Callable[[int], None] = print
) -> Iterator[BatchWriter[int]]:
    writer = BatchWriter[int](
        store.write,
        encode=lambda i: i,
        decode=lambda v: int(str(v)),
        spool=spool,
        flush=0.01,
        size=size,
        on_lost=on_lost,
    )
    writer.start()
    yield writer
    writer.close(timeout=1)


def test_what_is_put_is_written_in_order_and_in_few_batches(tmp_path: Path) -> None:
    store = Store()
    with writing(store, tmp_path) as writer:
        for number in range(1200):
            writer.put(number)
        assert writer.flush(5)
    assert store.kept == list(range(1200)) and store.batches < 100


def test_an_orderly_end_writes_what_is_left() -> None:
    store = Store()
    with writing(store, Path("/nonexistent")) as writer:
        writer.put(1)
    assert store.kept == [1]


def test_a_batch_whose_outcome_is_unknown_comes_again_and_counts_once(tmp_path: Path) -> None:
    store = Store()
    store.torn = True
    with writing(store, tmp_path) as writer:
        writer.put(1)
        writer.put(2)
        assert writer.flush(5)
    assert store.kept == [1, 2] and store.batches == 2


def test_a_store_that_comes_back_gets_everything_and_while_it_is_away_that_shows(tmp_path: Path) -> None:
    store = Store()
    store.away = True
    with writing(store, tmp_path) as writer:
        for number in range(5):
            writer.put(number)
        assert not writer.flush(0.3)
        assert writer.failing_since is not None and writer.backlog == 5
        store.away = False
        assert writer.flush(5)
        assert writer.failing_since is None and writer.backlog == 0
    assert store.kept == list(range(5))


def test_what_cannot_be_delivered_at_the_end_is_kept_for_the_next_start(tmp_path: Path) -> None:
    store = Store()
    store.away = True
    with writing(store, tmp_path / "spool") as writer:
        for number in range(5):
            writer.put(number)
    (file,) = (tmp_path / "spool").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    store.away = False
    with writing(store, tmp_path / "spool") as writer:
        writer.put(5)
        assert writer.flush(5)
    assert store.kept == list(range(6)) and not list((tmp_path / "spool").iterdir())


def test_what_does_not_fit_in_memory_goes_to_disk(tmp_path: Path) -> None:
    store = Store()
    store.away = True
    with writing(store, tmp_path, size=2) as writer:
        for number in range(10):
            writer.put(number)
    store.away = False
    with writing(store, tmp_path) as writer:
        assert writer.flush(5)
    assert sorted(store.kept) == list(range(10))


def test_what_not_even_the_disk_takes_is_counted(tmp_path: Path) -> None:
    store, lost = Store(), list[int]()
    store.away = True
    (tmp_path / "file").write_text("")
    with writing(store, tmp_path / "file" / "spool", on_lost=lost.append) as writer:
        writer.put(1)
        writer.put(2)
    assert sum(lost) == 2


def test_putting_waits_for_nothing_while_a_write_hangs(tmp_path: Path) -> None:
    store, hangs = Store(), threading.Event()
    writer = BatchWriter[int](
        lambda batch: bool(hangs.wait(5)) or store.write(batch),
        encode=int,
        decode=lambda v: int(str(v)),
        spool=tmp_path,
        flush=0.01,
    )
    writer.start()
    writer.put(1)
    time.sleep(0.1)
    begin = time.monotonic()
    for number in range(1000):
        writer.put(number)
    assert time.monotonic() - begin < 0.5 and writer.busy_since is not None
    hangs.set()
    writer.close()


def test_a_record_that_the_store_does_not_take_costs_itself_only(tmp_path: Path) -> None:
    store, refused = Store(), list[int]()

    def write(batch: Sequence[int]) -> None:
        if 7 in batch:
            raise OverflowError("too large")
        store.write(batch)

    writer = BatchWriter[int](
        write, encode=lambda i: i, decode=lambda v: int(str(v)), spool=tmp_path, on_refused=lambda: refused.append(7)
    )
    for number in range(20):
        writer.put(number)
    writer.start()
    assert writer.flush(5) and store.kept == [n for n in range(20) if n != 7] and refused == [7]
    writer.close()
    (aside,) = tmp_path.iterdir()  # for somebody to look at; the next start does not take it up
    assert aside.suffix == ".bad" and aside.read_text() == "7\n"


def test_a_store_that_goes_away_among_records_that_it_does_not_take_loses_none(tmp_path: Path) -> None:
    store, tries = Store(), list[int]()

    def write(batch: Sequence[int]) -> None:
        tries.append(len(batch))
        if len(tries) == 3:
            raise StoreUnavailable
        if 1 in batch:
            raise OverflowError
        store.write(batch)

    writer = BatchWriter[int](write, encode=lambda i: i, decode=lambda v: int(str(v)), spool=tmp_path)
    for number in range(4):
        writer.put(number)
    writer.start()
    assert writer.flush(5) and store.kept == [0, 2, 3]
    writer.close()
