"""The `FileStore` and the `BatchStore` in the database (tenants/sql has the tables)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from serving.batches.batch import OPEN, Batch, Claim, ClaimLost, Problem, Result, Status, TooManyBatches
from serving.batches.file import File, TooManyFiles
from serving.batches.sealed import Kept
from serving.tenants.callers import Caller
from serving.tenants.paging import Page, PageRequest, bad_cursor
from serving.tenants.sql.database import translated
from serving.tenants.sql.tables import batch_results, batches, files

_PIECE = 200


class SqlFiles:
    """The `FileStore` that all gateways share."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(self, file: File, *, most: int | None = None) -> File | None:
        with translated(), self._engine.begin() as connection:
            self._take_turns(connection, file)
            before = _file(connection, file.tenant, file.id)
            connection.execute(delete(files).where(files.c.tenant == file.tenant, files.c.id == file.id))
            if most is not None and _size(connection, file.tenant) + file.bytes > most:
                raise TooManyFiles(f"The tenant's files may be {most} bytes together. Delete some first.")
            connection.execute(insert(files), _file_row(file))
        return before

    def _take_turns(self, connection: Connection, file: File) -> None:
        """Those who add files of one tenant, until the end of the transaction: two would not see each other's bytes."""
        if connection.dialect.name == "postgresql":
            lock = func.pg_advisory_xact_lock(func.hashtextextended(f"files of {file.tenant}", 0))
            connection.execute(select(lock))
        else:  # a write takes SQLite's one lock, before anything is read
            connection.execute(delete(files).where(files.c.id == ""))

    def get(self, tenant: str, id: str) -> File | None:
        with translated(), self._engine.connect() as connection:
            return _file(connection, tenant, id)

    def remove(self, file: File) -> bool:
        mine = (files.c.tenant == file.tenant, files.c.id == file.id, files.c.content == file.kept.name)
        with translated(), self._engine.begin() as connection:
            return connection.execute(delete(files).where(*mine)).rowcount > 0

    def count(self, tenant: str) -> int:
        with translated(), self._engine.connect() as connection:
            uploaded = and_(files.c.tenant == tenant, files.c.purpose == "batch")
            return int(connection.execute(select(func.count()).select_from(files).where(uploaded)).scalar_one())

    def size(self, tenant: str) -> int:
        with translated(), self._engine.connect() as connection:
            return _size(connection, tenant)

    def page(self, tenant: str, page: PageRequest, *, purpose: str | None, oldest_first: bool) -> Page[File]:
        place = tuple_(files.c.created_at, files.c.id)
        columns = (files.c.created_at, files.c.id)
        question = select(files).where(files.c.tenant == tenant).limit(page.limit + 1)
        question = question.order_by(*(columns if oldest_first else [column.desc() for column in columns]))
        if purpose is not None:
            question = question.where(files.c.purpose == purpose)
        with translated(), self._engine.connect() as connection:
            if page.after is not None:
                last = _file(connection, tenant, page.after)
                if last is None:
                    raise bad_cursor()
                at = tuple_(last.created_at, last.id)
                question = question.where(place > at if oldest_first else place < at)
            found = [_file_of(row) for row in connection.execute(question).mappings()]
        return Page(tuple(found[: page.limit]), found[page.limit - 1].id if len(found) > page.limit else None)

    def expired(self, now: datetime, place: str, limit: int) -> list[File]:
        question = select(files).where(files.c.expires_at <= now, files.c.place == place)
        with translated(), self._engine.connect() as connection:
            question = question.order_by(files.c.expires_at).limit(limit)
            return [_file_of(row) for row in connection.execute(question).mappings()]

    def known(self, names: Collection[str]) -> set[str]:
        with translated(), self._engine.connect() as connection:
            return set(connection.execute(select(files.c.content).where(files.c.content.in_(names))).scalars())

    def older(self, created: datetime, after: str, limit: int) -> list[File]:
        question = select(files).where(files.c.created_at < created, files.c.id > after)
        with translated(), self._engine.connect() as connection:
            return [_file_of(row) for row in connection.execute(question.order_by(files.c.id).limit(limit)).mappings()]


def _size(connection: Connection, tenant: str) -> int:
    total = select(func.coalesce(func.sum(files.c.bytes), 0)).where(files.c.tenant == tenant)
    return int(connection.execute(total).scalar_one())


def _file_of(row: Mapping[Any, Any]) -> File:
    values = dict(row)
    kept = Kept(values.pop("content"), values.pop("place"), values.pop("content_key"), values["bytes"])
    return File(**values, kept=kept)


def _file_row(file: File) -> dict[str, Any]:
    kept = {"content": file.kept.name, "place": file.kept.place, "content_key": file.kept.key}
    return {one.name: getattr(file, one.name) for one in fields(File) if one.name != "kept"} | kept


def _file(connection: Connection, tenant: str, id: str) -> File | None:
    row = connection.execute(select(files).where(files.c.tenant == tenant, files.c.id == id)).mappings().one_or_none()
    return None if row is None else _file_of(row)


class SqlBatches:
    """The `BatchStore` that all gateways share."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._postgresql = engine.dialect.name == "postgresql"
        dialect = postgresql if self._postgresql else sqlite
        # RETURNING says whether a row was added; the count of rows does not, with psycopg.
        self._insert_result = dialect.insert(batch_results).on_conflict_do_nothing().returning(batch_results.c.line)

    def add(self, batch: Batch, *, most: int) -> None:
        row = _row_of(batch) | {"fence": 0, "held_until": None}
        with translated(), self._engine.begin() as connection:
            question = select(func.count()).select_from(batches)
            of_tenant = and_(batches.c.tenant == batch.owner.tenant, batches.c.status.in_(OPEN))
            # Two at once may both pass: the limit is against hundreds, and one more does no harm.
            if connection.execute(question.where(of_tenant)).scalar_one() >= most:
                raise TooManyBatches(f"A tenant may have at most {most} batches at a time. Wait until one has ended.")
            connection.execute(insert(batches), row)

    def get(self, tenant: str, id: str) -> Batch | None:
        with translated(), self._engine.connect() as connection:
            return _batch(connection, batches.c.tenant == tenant, batches.c.id == id)

    def page(self, tenant: str, page: PageRequest) -> Page[Batch]:
        columns = (batches.c.created_at, batches.c.id)
        question = select(batches).where(batches.c.tenant == tenant).limit(page.limit + 1)
        question = question.order_by(*[column.desc() for column in columns])
        with translated(), self._engine.connect() as connection:
            if page.after is not None:
                last = _batch(connection, batches.c.tenant == tenant, batches.c.id == page.after)
                if last is None:
                    raise bad_cursor()
                question = question.where(tuple_(*columns) < tuple_(last.created_at, last.id))
            found = [_batch_of(row) for row in connection.execute(question).mappings()]
        return Page(tuple(found[: page.limit]), found[page.limit - 1].id if len(found) > page.limit else None)

    def uses(self, tenant: str, file_id: str) -> bool:
        using = and_(batches.c.tenant == tenant, batches.c.input_file_id == file_id, batches.c.status.in_(OPEN))
        with translated(), self._engine.connect() as connection:
            return connection.execute(select(batches.c.id).where(using).limit(1)).first() is not None

    def cancel(self, tenant: str, id: str, now: datetime) -> Batch | None:
        mine = (batches.c.tenant == tenant, batches.c.id == id)
        with translated(), self._engine.begin() as connection:
            open_yet = batches.c.status.in_(("validating", "in_progress"))
            connection.execute(update(batches).where(*mine, open_yet).values(status="cancelling", cancelling_at=now))
            return _batch(connection, *mine)

    def claim(self, now: datetime, until: datetime, *, but: Collection[str] = ()) -> tuple[Batch, Claim] | None:
        free = and_(batches.c.status.in_(OPEN), or_(batches.c.held_until.is_(None), batches.c.held_until < now))
        free = and_(free, batches.c.id.not_in(but))
        held = batches.alias()
        of_tenant = select(func.count()).where(held.c.tenant == batches.c.tenant, held.c.held_until >= now)
        of_tenant = of_tenant.where(held.c.status.in_(OPEN))
        order = (of_tenant.scalar_subquery(), batches.c.created_at, batches.c.id)
        question = select(batches).where(free).order_by(*order).limit(1)
        if self._postgresql:
            question = question.with_for_update(skip_locked=True, of=batches)
        with translated():
            if not self._postgresql:
                # Most looks find nothing: on SQLite they must not take the one lock for writing.
                with self._engine.connect() as connection:
                    if connection.execute(question).first() is None:
                        return None
            with self._engine.begin() as connection:
                row = connection.execute(question).mappings().first()
                if row is None:
                    return None
                # Also the fence: on SQLite another process may have taken it since it was read.
                same = and_(batches.c.id == row["id"], batches.c.fence == row["fence"])
                taken = connection.execute(
                    update(batches).where(same).values(fence=batches.c.fence + 1, held_until=until)
                )
                return (_batch_of(row), Claim(row["id"], row["fence"] + 1)) if taken.rowcount else None

    def renew(self, claim: Claim, until: datetime) -> Batch:
        with translated(), self._engine.begin() as connection:
            return _changed(connection, claim, {"held_until": until})

    def release(self, claim: Claim) -> None:
        with translated(), self._engine.begin() as connection:
            connection.execute(update(batches).where(*_held(claim)).values(held_until=None))

    def move(self, claim: Claim, *before: Status, **values: Any) -> Batch:
        change = update(batches).where(*_held(claim), batches.c.status.in_(before)).values(**_columns(values))
        with translated(), self._engine.begin() as connection:
            connection.execute(change)
            return _changed(connection, claim, {"fence": claim.fence})

    def end(self, claim: Claim, **values: Any) -> Batch:
        with translated(), self._engine.begin() as connection:
            batch = _changed(connection, claim, _columns(values))
            connection.execute(delete(batch_results).where(batch_results.c.batch == claim.batch_id))
            return batch

    def add_results(self, claim: Claim, results: Sequence[Result]) -> None:
        with translated(), self._engine.begin() as connection:
            _changed(connection, claim, {"fence": claim.fence})  # first: it locks the row, and so the fence
            added = [
                result
                for result in results
                if connection.execute(
                    self._insert_result,
                    {"batch": claim.batch_id, "line": result.line, "failed": result.failed, "text": result.text},
                ).first()
            ]
            counted = {
                "completed": sum(not result.failed for result in added),
                "failed": sum(result.failed for result in added),
                "prompt_tokens": sum(result.prompt_tokens for result in added),
                "cached_tokens": sum(result.cached_tokens for result in added),
                "completion_tokens": sum(result.completion_tokens for result in added),
            }
            grown = {name: batches.c[name] + count for name, count in counted.items()}
            connection.execute(update(batches).where(*_held(claim)).values(**grown))

    def finished_lines(self, batch_id: str) -> set[int]:
        with translated(), self._engine.connect() as connection:
            question = select(batch_results.c.line).where(batch_results.c.batch == batch_id)
            return set(connection.execute(question).scalars())

    def results(self, batch_id: str, *, failed: bool) -> Iterator[Result]:
        row, last = batch_results.c, 0
        of_batch = select(row.line, row.failed, row.text).where(row.batch == batch_id, row.failed == failed)
        while True:
            with translated(), self._engine.connect() as connection:
                piece = of_batch.where(row.line > last).order_by(row.line).limit(_PIECE)
                found = [Result(*one) for one in connection.execute(piece)]
            yield from found
            if len(found) < _PIECE:
                return
            last = found[-1].line


def _columns(values: dict[str, Any]) -> dict[str, Any]:
    if "errors" not in values:
        return values
    return values | {"errors": json.dumps([asdict(problem) for problem in values["errors"]])}


def _held(claim: Claim) -> tuple[Any, Any]:
    return batches.c.id == claim.batch_id, batches.c.fence == claim.fence


def _changed(connection: Connection, claim: Claim, values: Mapping[str, Any]) -> Batch:
    if not connection.execute(update(batches).where(*_held(claim)).values(**values)).rowcount:
        raise ClaimLost
    batch = _batch(connection, batches.c.id == claim.batch_id)
    assert batch is not None
    return batch


def _batch(connection: Connection, *which: Any) -> Batch | None:
    row = connection.execute(select(batches).where(*which)).mappings().one_or_none()
    return None if row is None else _batch_of(row)


_PLAIN = tuple(one.name for one in fields(Batch) if one.name not in ("owner", "metadata", "errors"))


def _batch_of(row: Mapping[Any, Any]) -> Batch:
    deployments = None if row["deployments"] is None else frozenset(json.loads(row["deployments"]))
    return Batch(
        owner=Caller(row["tenant"], row["key_id"], row["key_name"], deployments=deployments),
        metadata=json.loads(row["metadata"]),
        errors=tuple(Problem(**problem) for problem in json.loads(row["errors"])),
        **{name: row[name] for name in _PLAIN},
    )


def _row_of(batch: Batch) -> dict[str, Any]:
    owner = batch.owner
    return {name: getattr(batch, name) for name in _PLAIN} | {
        "tenant": owner.tenant,
        "key_id": owner.key_id,
        "key_name": owner.key_name,
        "deployments": None if owner.deployments is None else json.dumps(sorted(owner.deployments)),
        "metadata": json.dumps(dict(batch.metadata)),
        "errors": json.dumps([asdict(problem) for problem in batch.errors]),
    }
