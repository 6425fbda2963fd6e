"""One suite for FileStore and BatchStore, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from serving.batches.batch import Batch, Claim, ClaimLost, Problem, Result, TooManyBatches
from serving.batches.file import File, TooManyFiles
from serving.batches.sealed import Kept
from serving.batches.sql import SqlBatches, SqlFiles
from serving.errors import InvalidRequest
from serving.tenants.callers import Caller
from serving.tenants.paging import PageRequest
from serving.tenants.stores import StoreUnavailable
from tests.batches.workshop import NOON
from tests.tenants.databases import migrated

SECOND = timedelta(seconds=1)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with migrated(request.param, request, tmp_path) as engine:
        yield engine


@pytest.fixture
def files(engine: Engine) -> SqlFiles:
    return SqlFiles(engine)


@pytest.fixture
def batches(engine: Engine) -> SqlBatches:
    return SqlBatches(engine)


def file(number: int, **changes: Any) -> File:
    kept = Kept(f"file-c{number}", "here", b"sealed", 2**40)
    one = File(f"file-{number}", "ward", "key-1", "notes.jsonl", "batch", 2**40, NOON + number * SECOND, kept)
    changes.setdefault("kept", replace(kept, size=changes.get("bytes", 2**40)))
    return replace(one, **changes)


def batch(number: int, tenant: str = "ward", **changes: Any) -> Batch:
    owner = Caller(tenant, "key-1", "tests", deployments=frozenset({"m", "n"}))
    made = NOON + number * SECOND
    one = Batch(f"batch_{tenant}{number}", owner, "/v1/embeddings", f"file-{number}", made, made + timedelta(hours=24))
    return replace(one, metadata={"study": "a\0b"}, output_keep=3600) if not changes else replace(one, **changes)


def claimed(batches: SqlBatches, seconds: float = 0) -> tuple[Batch, Claim]:
    now = NOON + timedelta(hours=1, seconds=seconds)
    taken = batches.claim(now, now + 15 * SECOND)
    assert taken is not None
    return taken


def test_a_file_comes_back_as_it_was_and_for_its_tenant_only(files: SqlFiles) -> None:
    files.put(file(1, expires_at=NOON))
    assert files.get("ward", "file-1") == file(1, expires_at=NOON)
    assert files.get("lab", "file-1") is None
    assert not files.remove(file(1, tenant="lab"))
    assert files.remove(file(1)) and not files.remove(file(1))


def test_a_file_that_is_put_again_is_there_once(files: SqlFiles) -> None:
    assert files.put(file(1)) is None
    assert files.put(file(1, bytes=7)) == file(1)
    assert files.get("ward", "file-1") == file(1, bytes=7)
    assert files.count("ward") == 1


def test_what_batches_made_does_not_count_as_uploaded(files: SqlFiles) -> None:
    files.put(file(1))
    files.put(file(2, purpose="batch_output"))
    files.put(file(3, tenant="lab"))
    assert files.count("ward") == 1


def test_one_with_other_bytes_by_now_is_not_removed(files: SqlFiles) -> None:
    files.put(file(1))
    assert not files.remove(file(1, kept=Kept("file-else", "here", b"", 1)))
    assert files.get("ward", "file-1") == file(1)


def test_contents_that_belong_to_a_file_are_known_and_older_files_are_found(files: SqlFiles) -> None:
    for number in range(4):
        files.put(file(number, tenant=f"ward{number % 2}"))
    assert files.known(["file-c1", "file-c3", "file-none"]) == {"file-c1", "file-c3"}
    assert [one.id for one in files.older(NOON + 3 * SECOND, "file-0", 2)] == ["file-1", "file-2"]
    assert files.older(NOON + 3 * SECOND, "file-2", 2) == []


def test_the_files_of_a_tenant_are_no_more_bytes_than_its_total_however_many_add_some_at_once(files: SqlFiles) -> None:
    def put(number: int) -> bool:
        try:
            files.put(file(number, bytes=10), most=55)
        except TooManyFiles:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(put, range(20))) == 5
    assert files.size("ward") == 50 and files.size("lab") == 0
    files.put(file(21, bytes=10))  # what a batch made is paid for
    assert files.size("ward") == 60


def test_files_are_listed_by_age_in_both_orders_and_by_purpose(files: SqlFiles) -> None:
    for number in range(5):
        files.put(file(number, purpose="batch_output" if number == 2 else "batch"))
    files.put(file(9, tenant="lab"))

    def walk(**options: Any) -> list[str]:
        page, found = PageRequest(2), []
        while True:
            got = files.page("ward", page, **options)
            found += [one.id for one in got.items]
            if got.after is None:
                return found
            page = PageRequest(2, got.after)

    assert walk(purpose=None, oldest_first=True) == [f"file-{number}" for number in range(5)]
    assert walk(purpose=None, oldest_first=False) == [f"file-{number}" for number in (4, 3, 2, 1, 0)]
    assert walk(purpose="batch", oldest_first=True) == ["file-0", "file-1", "file-3", "file-4"]
    with pytest.raises(InvalidRequest):
        files.page("ward", PageRequest(2, "file-9"), purpose=None, oldest_first=True)


def test_files_of_one_moment_are_all_listed(files: SqlFiles) -> None:
    for number in range(4):
        files.put(file(number, created_at=NOON))
    first = files.page("ward", PageRequest(2), purpose=None, oldest_first=False)
    second = files.page("ward", PageRequest(2, first.after), purpose=None, oldest_first=False)
    assert {one.id for one in (*first.items, *second.items)} == {f"file-{number}" for number in range(4)}


def test_files_whose_time_is_over_are_found_of_all_tenants(files: SqlFiles) -> None:
    files.put(file(1, expires_at=NOON))
    files.put(file(2, expires_at=NOON + SECOND, tenant="lab"))
    files.put(file(3))
    assert [one.id for one in files.expired(NOON + SECOND, "here", 10)] == ["file-1", "file-2"]
    assert [one.id for one in files.expired(NOON + SECOND, "here", 1)] == ["file-1"]
    assert files.expired(NOON - SECOND, "here", 10) == []
    assert files.expired(NOON + SECOND, "elsewhere", 10) == []  # only where they are can they be deleted


def test_a_batch_comes_back_as_it_was_and_for_its_tenant_only(batches: SqlBatches) -> None:
    batches.add(batch(1), most=1)
    assert batches.get("ward", "batch_ward1") == batch(1)
    assert batches.get("lab", "batch_ward1") is None
    assert batches.cancel("lab", "batch_ward1", NOON) is None
    assert batches.page("lab", PageRequest()).items == ()
    unbound = batch(2, owner=Caller("ward", "key-1", "tests"))
    batches.add(unbound, most=2)
    assert batches.get("ward", unbound.id) == unbound


def test_a_tenant_has_so_many_open_batches_and_ended_ones_do_not_count(batches: SqlBatches) -> None:
    batches.add(batch(1), most=1)
    with pytest.raises(TooManyBatches):
        batches.add(batch(2), most=1)
    batches.add(batch(3, "lab"), most=1)
    _, claim = claimed(batches)
    batches.end(claim, status="completed")
    batches.add(batch(2), most=1)


def test_batches_are_listed_from_the_newest(batches: SqlBatches) -> None:
    for number in range(5):
        batches.add(batch(number), most=9)
    first = batches.page("ward", PageRequest(3))
    assert [one.id for one in first.items] == ["batch_ward4", "batch_ward3", "batch_ward2"]
    second = batches.page("ward", PageRequest(3, first.after))
    assert ([one.id for one in second.items], second.after) == (["batch_ward1", "batch_ward0"], None)
    with pytest.raises(InvalidRequest):
        batches.page("lab", PageRequest(3, first.after))


def test_the_input_of_an_open_batch_is_in_use(batches: SqlBatches) -> None:
    batches.add(batch(1), most=1)
    assert batches.uses("ward", "file-1")
    assert not batches.uses("lab", "file-1") and not batches.uses("ward", "file-2")
    _, claim = claimed(batches)
    batches.end(claim, status="failed")
    assert not batches.uses("ward", "file-1")


def test_only_what_has_not_ended_can_be_cancelled(batches: SqlBatches) -> None:
    batches.add(batch(1), most=1)
    cancelled = batches.cancel("ward", "batch_ward1", NOON)
    assert cancelled and (cancelled.status, cancelled.cancelling_at) == ("cancelling", NOON)
    again = batches.cancel("ward", "batch_ward1", NOON + SECOND)
    assert again == cancelled
    _, claim = claimed(batches)
    batches.end(claim, status="cancelled")
    ended = batches.cancel("ward", "batch_ward1", NOON)
    assert ended and ended.status == "cancelled"


def test_a_batch_is_taken_by_one_and_by_the_next_when_its_time_is_over(batches: SqlBatches) -> None:
    batches.add(batch(1), most=1)
    assert claimed(batches)[1] == Claim("batch_ward1", 1)
    now = NOON + timedelta(hours=1)
    assert batches.claim(now, now + SECOND) is None
    assert batches.claim(now + 16 * SECOND, now, but=["batch_ward1"]) is None
    assert claimed(batches, seconds=16)[1] == Claim("batch_ward1", 2)


def test_of_many_that_look_at_once_each_batch_is_taken_by_one(batches: SqlBatches) -> None:
    for number in range(6):
        batches.add(batch(number), most=9)
    ready, now = threading.Barrier(8), NOON + timedelta(hours=1)

    def look() -> list[str]:
        ready.wait()
        found = []
        for _ in range(6):
            try:
                taken = batches.claim(now, now + 60 * SECOND)
            except StoreUnavailable:  # SQLite: somebody else wrote in between; the worker looks again
                continue
            if taken:
                found.append(taken[0].id)
        return found

    with ThreadPoolExecutor(8) as pool:
        taken = [id for ids in pool.map(lambda _: look(), range(8)) for id in ids]
    assert sorted(taken) == sorted(set(taken)) and len(taken) >= 3


def test_a_tenant_with_many_batches_does_not_keep_another_waiting(batches: SqlBatches) -> None:
    for number in range(3):
        batches.add(batch(number), most=9)
    batches.add(batch(9, "lab"), most=9)
    assert [claimed(batches)[0].id for _ in range(4)] == ["batch_ward0", "batch_lab9", "batch_ward1", "batch_ward2"]


def test_a_claim_that_ran_out_can_be_renewed_until_somebody_takes_the_batch(batches: SqlBatches) -> None:
    batches.add(batch(1), most=1)
    _, first = claimed(batches)
    assert batches.renew(first, NOON + timedelta(hours=2)).id == "batch_ward1"
    assert batches.claim(NOON + timedelta(hours=1, seconds=16), NOON) is None
    batches.release(first)
    _, second = claimed(batches)
    with pytest.raises(ClaimLost):
        batches.renew(first, NOON)
    batches.release(first)
    assert batches.renew(second, NOON + timedelta(hours=2))


def test_whoever_lost_a_claim_changes_nothing(batches: SqlBatches) -> None:
    batches.add(batch(1), most=1)
    _, old = claimed(batches)
    _, new = claimed(batches, seconds=16)
    result = Result(1, False, b"sealed", 1, 1, 1)
    for act in (
        lambda: batches.move(old, "validating", status="failed"),
        lambda: batches.end(old, status="failed"),
        lambda: batches.add_results(old, [result]),
    ):
        with pytest.raises(ClaimLost):
            act()
    assert batches.get("ward", "batch_ward1") == batch(1)
    assert batches.finished_lines("batch_ward1") == set()
    batches.add_results(new, [result])


def test_a_move_from_another_state_changes_nothing_and_tells_the_state(batches: SqlBatches) -> None:
    batches.add(batch(1), most=1)
    _, claim = claimed(batches)
    problems = (Problem("invalid_method", "'method' must be POST.", 3, "method"), Problem("empty_file", "None."))
    moved = batches.move(claim, "validating", status="in_progress", total=7, in_progress_at=NOON, errors=problems)
    assert (moved.status, moved.total, moved.in_progress_at, moved.errors) == ("in_progress", 7, NOON, problems)
    batches.cancel("ward", "batch_ward1", NOON)
    assert batches.move(claim, "in_progress", status="finalizing").status == "cancelling"


def test_a_result_counts_once_however_often_it_is_kept(batches: SqlBatches) -> None:
    batches.add(batch(1), most=1)
    _, claim = claimed(batches)
    one, two = Result(1, False, b"\0sealed", 5, 2, 3), Result(2, True, b"sealed", 1, 0, 0)
    batches.add_results(claim, [one, two])
    batches.add_results(claim, [replace(one, text=b"other"), Result(3, False, b"x", 1, 1, 1)])
    found = batches.get("ward", "batch_ward1")
    assert found and (found.completed, found.failed) == (2, 1)
    assert (found.prompt_tokens, found.cached_tokens, found.completion_tokens) == (7, 3, 4)
    assert batches.finished_lines("batch_ward1") == {1, 2, 3}
    assert [(one.line, one.text) for one in batches.results("batch_ward1", failed=False)] == [
        (1, b"\0sealed"),
        (3, b"x"),
    ]
    assert [one.line for one in batches.results("batch_ward1", failed=True)] == [2]


def test_results_are_read_in_pieces_by_line(batches: SqlBatches) -> None:
    batches.add(batch(1), most=1)
    _, claim = claimed(batches)
    numbers = [*range(1, 450)]
    batches.add_results(claim, [Result(number, False, b"x") for number in reversed(numbers)])
    assert [one.line for one in batches.results("batch_ward1", failed=False)] == numbers


def test_an_ended_batch_has_no_results(batches: SqlBatches) -> None:
    batches.add(batch(1), most=1)
    batches.add(batch(2), most=2)
    for _ in range(2):
        one, claim = claimed(batches)
        batches.add_results(claim, [Result(1, False, b"x")])
    ended = batches.end(claim, status="completed", completed_at=NOON, output_file_id="file-o")
    assert (ended.status, ended.completed_at, ended.output_file_id) == ("completed", NOON, "file-o")
    assert (batches.finished_lines("batch_ward2"), batches.finished_lines("batch_ward1")) == (set(), {1})
    assert one.id == "batch_ward2" and batches.claim(NOON + timedelta(days=9), NOON + timedelta(days=9)) is not None
