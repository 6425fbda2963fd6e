"""`clinserve usage`: what was used, summed up or request by request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import date, datetime, timedelta
from typing import Annotated, Any, TypeVar, cast

import typer

from serving.commands.configuration import Verbs
from serving.commands.files import write_lines
from serving.commands.pages import everything
from serving.commands.plot import drawn
from serving.commands.printing import Json, print_json_list, print_table
from serving.commands.session import opened
from serving.commands.times import moment, shown
from serving.errors import InvalidRequest
from serving.tenants.keys import utcnow
from serving.tenants.ledger import Group, UsageQuery, UsageRecord, UsageRow, usage_csv
from serving.tenants.trail import Trail

usage_app = Verbs(help="Show what was used; by day and deployment, and of the last 30 days, unless told.")

Row = TypeVar("Row", UsageRow, UsageRecord)

DAYS = 30
SUM_COLUMNS = ("requests", "prompt", "cached", "completion", "total", "cost")
RECORD_COLUMNS = ("began", "request", "tenant", "key", "deployment", "outcome", *SUM_COLUMNS[1:])


@usage_app.group(
    invoke_without_command=True,
    epilog="Example: clinserve usage --by tenant,key --from 2026-11-01 --to 2026-12-01 --csv november.csv",
)
def usage(
    ctx: typer.Context,
    by: Annotated[str, typer.Option(help="Sum by some of tenant, key, deployment and day.")] = "day,deployment",
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    key: Annotated[str | None, typer.Option(help="Only this key's, by its id or prefix.")] = None,
    deployment: Annotated[str | None, typer.Option(help="Only of this deployment.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="From this day or time on, UTC.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Before this day or time, UTC.")] = None,
    records: Annotated[bool, typer.Option("--records", help="Request by request instead of sums.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the tokens of each day.")] = False,
    csv: Annotated[str | None, typer.Option(help="Write CSV to this file; - is standard output.")] = None,
    as_json: Json = False,
) -> None:
    """Show what was used; by day and deployment, and of the last 30 days, unless told."""
    if ctx.invoked_subcommand is not None:
        return
    with opened(ctx) as office:
        query = UsageQuery(
            by=cast("tuple[Group, ...]", tuple(by.split(","))),
            tenant=tenant,
            key=key and key.removeprefix("csk_"),
            deployment=deployment,
            since=moment("--from", since) if since else midnight(utcnow() - timedelta(days=DAYS)),
            until=moment("--to", until) if until else None,
        )
        if plot:
            if records or as_json or csv is not None:
                raise InvalidRequest("--plot draws for people: leave out --records, --json and --csv.")
            daily = everything(
                lambda page: office.administration.usage(office.actor, replace(query, by=("day",), page=page))
            )
            typer.echo("\n".join(drawn({row.day: row.total_tokens for row in daily if row.day}, *days_of(query))))
        elif records:
            single = office.administration.usage_records(office.actor, query)
            show(UsageRecord, single, RECORD_COLUMNS, record_cells, csv=csv, as_json=as_json)
        else:
            sums = everything(lambda page: office.administration.usage(office.actor, replace(query, page=page)))
            columns = (*query.by, *SUM_COLUMNS)
            show(UsageRow, sums, columns, lambda row: sum_cells(row, query.by), csv=csv, as_json=as_json)


@usage_app.command(epilog="Example: clinserve usage prune --before 2024-01-01")
def prune(ctx: typer.Context, before: Annotated[str, typer.Option(help="This day or time, UTC.")]) -> None:
    """Delete the records of requests that began earlier. Those of this month stay: limits by month count from them."""
    with opened(ctx) as office:
        time = moment("--before", before)
        if time > midnight(utcnow()).replace(day=1):
            raise InvalidRequest("The records of this month stay: limits by day and month count from them.")
        trail = Trail(office.audit_log, utcnow)
        with trail.change(office.actor, "usage.prune", parameters={"before": time.isoformat()}) as entry:
            removed = office.usage_store.delete_before(time)
            entry.result = str(removed)
    typer.echo(f"Deleted {removed} records from before {shown(time)}.")


def show(
    kind: type[Row],
    found: Iterator[Row],
    columns: Sequence[str],
    cells: Callable[[Row], Sequence[str]],
    *,
    csv: str | None,
    as_json: bool,
) -> None:
    if csv is not None:
        write_lines(csv, usage_csv(found, kind))
    elif as_json:
        print_json_list(map(public, found))
    else:
        print_table(columns, map(cells, found), whole=("day", "request"), right=SUM_COLUMNS)


def days_of(query: UsageQuery) -> tuple[date, date]:
    """The first and the last day that are asked for."""
    assert query.since is not None
    last = utcnow() if query.until is None else query.until - timedelta(microseconds=1)
    return query.since.date(), last.date()


def sum_cells(row: UsageRow, by: Sequence[Group]) -> list[str]:
    counts = (row.requests, row.prompt_tokens, row.cached_tokens, row.completion_tokens, row.total_tokens)
    return [*(str(getattr(row, group)) for group in by), *map(str, counts), cost(row.cost_micros)]


def record_cells(record: UsageRecord) -> list[str]:
    facts = (shown(record.started_at), record.id, record.tenant, record.key_name, record.deployment, record.outcome)
    total = record.prompt_tokens + record.completion_tokens
    counts = (record.prompt_tokens, record.cached_tokens, record.completion_tokens, total)
    return [*facts, *map(str, counts), cost(record.cost_micros)]


def cost(micros: int | None) -> str:
    return "-" if micros is None else f"{micros / 1_000_000:.4f}"


def public(row: UsageRow | UsageRecord) -> dict[str, Any]:
    fields = {name: value.isoformat() if isinstance(value, date) else value for name, value in asdict(row).items()}
    return fields | {"total_tokens": row.prompt_tokens + row.completion_tokens}


def midnight(time: datetime) -> datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0)
