"""The usage ledger: one record for each admitted request, whatever became of it, written beside the request path."""

from __future__ import annotations

import asyncio
import csv
import io
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal, Protocol, get_args

from serving.errors import InvalidRequest
from serving.tenants.limits import Subject
from serving.tenants.paging import Page, PageRequest, bad_cursor
from serving.tenants.quotas import Usage
from serving.tenants.spool import storable
from serving.tenants.writer import BatchWriter

Group = Literal["tenant", "key", "deployment", "day"]
GROUPS: tuple[Group, ...] = get_args(Group)
_HISTORY_SECONDS = 2.0
_COLUMN: dict[Group, str] = {"tenant": "tenant", "key": "key_id", "deployment": "deployment", "day": "day"}


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One request. id: the request's, so that a record written twice is one. Times: aware UTC, and seconds.

    cost_micros: millionths of the configured currency, at the price of its time; None where there is no price.
    estimated: the engine did not say all of the tokens, or not in numbers that can be.
    """

    id: str
    started_at: datetime
    tenant: str
    key_id: str
    key_name: str
    deployment: str
    revision: str
    operation: str
    stream: bool
    outcome: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_micros: int | None
    first_token: float | None
    duration: float
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Price:
    """Of a million tokens. cached: of prompt tokens that the KV cache held; they do not cost `prompt` too."""

    prompt: Decimal
    cached: Decimal
    completion: Decimal

    def micros(self, usage: Usage) -> int:
        """Millionths of the currency, half a one rounded up."""
        cost = (
            self.prompt * (usage.prompt - usage.cached)
            + self.cached * usage.cached
            + self.completion * usage.completion
        )
        return int(cost.to_integral_value(ROUND_HALF_UP))


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which records, and by what they are summed. since inclusive, until exclusive; None: no bound."""

    by: tuple[Group, ...] = ("day", "deployment")
    tenant: str | None = None
    key: str | None = None
    deployment: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    page: PageRequest = field(default_factory=PageRequest)

    def __post_init__(self) -> None:
        if not self.by or not set(self.by) <= set(GROUPS) or len(set(self.by)) < len(self.by):
            raise InvalidRequest(f"Usage is summed by some of {', '.join(GROUPS)}, each once.", param="group_by")


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Sums of the records that agree in what the query groups by; what it does not is None."""

    tenant: str | None
    key: str | None
    deployment: str | None
    day: date | None
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_micros: int | None

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class UsageStore(Protocol):
    """Where records are kept. Called from several threads at once. Every method may raise `StoreUnavailable`."""

    def add(self, records: Sequence[UsageRecord]) -> None:
        """Keep all of them; one whose id is known already is left as it is."""

    def usage(self, query: UsageQuery) -> Page[UsageRow]:
        """Sums, in the order of what they are grouped by."""

    def records(self, query: UsageQuery) -> Iterator[UsageRecord]:
        """Single records in the order of their time; reads a piece at a time."""

    def spent(self, subject: Subject, since: datetime) -> int:
        """Tokens, prompt and completion, of the subject's records since then."""

    def delete_before(self, time: datetime) -> int:
        """Remove older records; how many there were."""


class Ledger(Protocol):
    @property
    def backlog(self) -> int: ...

    @property
    def bad_files(self) -> int:
        """Damaged files in the spool. Looks at the disk."""
        ...

    def record(self, record: UsageRecord) -> None:
        """Hand over to be written. A plain call that waits for nothing."""
        ...

    async def start(self) -> None: ...
    async def close(self) -> None: ...


class NoLedger:
    """A ledger that is off."""

    backlog = bad_files = 0

    def record(self, record: UsageRecord) -> None: ...
    async def start(self) -> None: ...
    async def close(self) -> None: ...


class StoredLedger:
    """Writes in batches. writer: on a UsageStore's `add`."""

    def __init__(self, writer: BatchWriter[UsageRecord]) -> None:
        self._writer = writer

    @property
    def backlog(self) -> int:
        return self._writer.backlog

    @property
    def bad_files(self) -> int:
        return self._writer.bad_files

    def record(self, record: UsageRecord) -> None:
        self._writer.put(record)

    def pending(self) -> list[UsageRecord]:
        return self._writer.pending()

    async def start(self) -> None:
        await asyncio.to_thread(self._writer.start)

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.close)


class LedgerHistory:
    """quotas.History on the ledger: what is stored, and what this process has not written yet."""

    def __init__(self, store: UsageStore, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    async def spent(self, subject: Subject, since: datetime) -> int:
        # First what waits: a record that is written in between would else be missed. It may then count twice: a
        # limit that is a request too tight for a moment is better than one too wide.
        pending = self._ledger.pending() if isinstance(self._ledger, StoredLedger) else []
        waiting = sum(_tokens(r) for r in pending if r.started_at >= since and belongs(r, subject))
        async with asyncio.timeout(_HISTORY_SECONDS):
            return waiting + await asyncio.to_thread(self._store.spent, subject, since)


def belongs(record: UsageRecord, subject: Subject) -> bool:
    owner = {"key": record.key_id, "tenant": record.tenant, "deployment": record.deployment}[subject.scope]
    return owner == subject.id


_record_of = storable(UsageRecord)


def encoded(record: UsageRecord) -> dict[str, Any]:
    """For a spool file."""
    return asdict(record) | {"started_at": record.started_at.isoformat()}


def decoded(value: Any) -> UsageRecord:
    """Raises ValueError, TypeError or LookupError for what is none."""
    return _record_of(value | {"started_at": datetime.fromisoformat(value["started_at"])})


def _tokens(record: UsageRecord) -> int:
    return record.prompt_tokens + record.completion_tokens


class MemoryUsage:
    """Records that end with the process."""

    def __init__(self) -> None:
        self._records: dict[str, UsageRecord] = {}
        self._lock = threading.Lock()

    def add(self, records: Sequence[UsageRecord]) -> None:
        with self._lock:
            for record in records:
                self._records.setdefault(record.id, record)

    def usage(self, query: UsageQuery) -> Page[UsageRow]:
        groups: defaultdict[tuple[str, ...], list[UsageRecord]] = defaultdict(list)
        for record in self.records(query):
            groups[tuple(_value(record, group) for group in query.by)].append(record)
        after = cursor_of(query)
        ordered = [key for key in sorted(groups) if after is None or key > after]
        page = ordered[: query.page.limit]
        rows = tuple(_row(dict(zip(query.by, key, strict=True)), groups[key]) for key in page)
        return Page(rows, cursor_for(page[-1]) if len(ordered) > len(page) else None)

    def records(self, query: UsageQuery) -> Iterator[UsageRecord]:
        with self._lock:
            records = sorted(self._records.values(), key=lambda r: (r.started_at, r.id))
        yield from (record for record in records if _matches(record, query))

    def spent(self, subject: Subject, since: datetime) -> int:
        with self._lock:
            return sum(_tokens(r) for r in self._records.values() if r.started_at >= since and belongs(r, subject))

    def delete_before(self, time: datetime) -> int:
        with self._lock:
            old = [id for id, record in self._records.items() if record.started_at < time]
            for id in old:
                del self._records[id]
        return len(old)


def _matches(record: UsageRecord, query: UsageQuery) -> bool:
    return (
        query.tenant in (None, record.tenant)
        and query.key in (None, record.key_id)
        and query.deployment in (None, record.deployment)
        and (query.since is None or record.started_at >= query.since)
        and (query.until is None or record.started_at < query.until)
    )


def _value(record: UsageRecord, group: Group) -> str:
    return record.started_at.date().isoformat() if group == "day" else str(getattr(record, _COLUMN[group]))


def _row(group: Mapping[Group, str], records: Sequence[UsageRecord]) -> UsageRow:
    costs = [r.cost_micros for r in records if r.cost_micros is not None]
    return row_of(
        group,
        requests=len(records),
        prompt_tokens=sum(r.prompt_tokens for r in records),
        cached_tokens=sum(r.cached_tokens for r in records),
        completion_tokens=sum(r.completion_tokens for r in records),
        cost_micros=sum(costs) if costs else None,
    )


def row_of(group: Mapping[Group, str], **sums: Any) -> UsageRow:
    day = group.get("day")
    return UsageRow(
        tenant=group.get("tenant"),
        key=group.get("key"),
        deployment=group.get("deployment"),
        day=None if day is None else date.fromisoformat(day),
        **sums,
    )


def cursor_for(key: Sequence[str]) -> str:
    return ",".join(part.encode().hex() for part in key)


def cursor_of(query: UsageQuery) -> tuple[str, ...] | None:
    """Where the page before ended. Raises InvalidRequest."""
    if query.page.after is None:
        return None
    try:
        key = tuple(bytes.fromhex(part).decode() for part in query.page.after.split(","))
    except ValueError:
        raise bad_cursor() from None
    if len(key) != len(query.by):
        raise bad_cursor()
    return key


def usage_csv(rows: Iterable[UsageRow | UsageRecord], of: type[UsageRow | UsageRecord]) -> Iterator[str]:
    """Lines of CSV, the names first. A cell that a spreadsheet would run as a formula is quoted as text."""
    yield _line([field.name for field in fields(of)])
    for row in rows:
        yield _line([_cell(value) for value in asdict(row).values()])


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"  # https://owasp.org/www-community/attacks/CSV_Injection
    return "" if value is None else value


def _line(cells: Sequence[object]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()
