"""`clinserve audit`: read, verify, export and prune the audit log, and find what a text came from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from serving.commands.audit_file import ExportedLog, Log, StoredLog, anchors_in, export
from serving.commands.configuration import Verbs
from serving.commands.files import write_lines
from serving.commands.office import Office
from serving.commands.pages import everything
from serving.commands.printing import Json, print_json, print_json_list, print_table
from serving.commands.session import one_line_errors, opened
from serving.commands.times import moment, shown
from serving.errors import InvalidRequest
from serving.gateway.digests import prompt_bytes
from serving.tenants.audit import Checkpoint, Head, Kind, Record, Unreadable
from serving.tenants.audit_store import AuditQuery
from serving.tenants.audit_verify import Finding, Report, verify
from serving.tenants.keys import utcnow
from serving.tenants.trail import Trail

audit_app = Verbs(
    help="Read, verify, export and prune the audit log, and find what a text came from.", no_args_is_help=True
)

PUBLIC_KEY = re.compile("[0-9a-f]{64}")
FOUND_SOMETHING_WRONG = 2
"""Exit status; 1 is for not having been able to verify at all."""


@audit_app.command("list", epilog="Example: clinserve audit list --kind admin --from 2026-11-01")
def list_records(
    ctx: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only of this kind.")] = None,
    request: Annotated[str | None, typer.Option(help="Only of this request: its x-request-id.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="From this day or time on, UTC.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Before this day or time, UTC.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    as_json: Json = False,
) -> None:
    """List what was done, the newest first."""
    with opened(ctx) as office:
        query = AuditQuery(
            tenant=tenant,
            kind=kind,
            request_id=request,
            since=moment("--from", since) if since else None,
            until=moment("--to", until) if until else None,
        )
        show(islice(found(office, query), limit), as_json=as_json)


@audit_app.command("verify", epilog="Example: clinserve audit verify --file audit.jsonl --public-key HEX")
def verify_log(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Option(help="An export. Default: the database.")] = None,
    public_key: Annotated[
        list[str] | None, typer.Option(help="Whose signatures are trusted; repeatable. Default: this server's.")
    ] = None,
    anchors: Annotated[
        list[Path] | None,
        typer.Option(
            help="What knows how far chains had come, kept elsewhere: a request log, or a folder of anchors; "
            "repeatable. This machine's own are used in any case, unless a file is verified."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which records were changed, are missing or were moved. Exit status: 0 valid, 2 not valid, 1 not verified.

    With a file and a public key it needs neither database nor secrets.
    """
    with one_line_errors():
        if not all(PUBLIC_KEY.fullmatch(key) for key in public_key or ()):
            raise InvalidRequest("--public-key takes what 'clinserve audit public-key' prints: 64 hexadecimal digits.")
        if file is not None:
            ExportedLog(file).check()
        heads = [
            head for path in anchors or () for head in anchors_in(path)
        ]  # before the log: it has come further since
        if file is not None and public_key:
            report = checked(ExportedLog(file), public_key, heads)
        else:
            with opened(ctx) as office:
                if file is None:  # an export is not as new as what is kept here
                    heads += office.kept_anchors()
                log = ExportedLog(file) if file else StoredLog(office.audit_store)
                report = checked(log, public_key or office.public_keys, heads)
    if as_json:
        print_json({"valid": report.valid} | asdict(report))
    else:
        tell(report)
    raise typer.Exit(0 if report.valid else FOUND_SOMETHING_WRONG)


@audit_app.command("export", epilog="Example: clinserve audit export --output audit.jsonl")
def export_log(
    ctx: typer.Context,
    output: Annotated[str, typer.Option(help="A file that you alone may read; - is standard output.")] = "-",
) -> None:
    """Write the whole log as JSON lines, for 'audit verify --file'."""
    with opened(ctx) as office, counting("Exporting") as on_progress:
        office.administration.note_read(office.actor, "audit.export")
        write_lines(output, counted(export(StoredLog(office.audit_store)), on_progress))


@audit_app.command(epilog="Example: clinserve audit find --answer letter.txt")
def find(
    ctx: typer.Context,
    answer: Annotated[Path | None, typer.Option(help="A file with the text of an answer.")] = None,
    prompt: Annotated[
        Path | None, typer.Option(help="A file with a request's body, its messages, or the text of its one message.")
    ] = None,
    request: Annotated[str | None, typer.Option(help="A request's id: its x-request-id.")] = None,
    as_json: Json = False,
) -> None:
    """Say which request produced a text, or was asked it. Exit status: 0 found, 1 not found."""
    with opened(ctx) as office:
        if sum(one is not None for one in (answer, prompt, request)) != 1:
            raise InvalidRequest("Name one of --answer FILE, --prompt FILE and --request ID.")
        if request is not None:
            queries = [AuditQuery(request_id=request)]
        else:
            forms = answer_forms(answer) if answer else prompt_forms(prompt or Path())
            digests = [digest for form in forms for digest in office.audit_log.digests(form)]
            queries = [AuditQuery(digest=digest) for digest in digests]
        with counting("Searching"):
            records = [record for query in queries for record in found(office, query)]
    if not records:
        typer.echo("clinserve: no request in the audit log fits.", err=True)
        raise typer.Exit(1)
    show(iter(records), as_json=as_json)


@audit_app.command(epilog="Example: clinserve audit prune --before 2020-01-01")
def prune(
    ctx: typer.Context,
    before: Annotated[str | None, typer.Option(help="This day or time, UTC; older than audit.retention.")] = None,
    approve: Annotated[str | None, typer.Option(help="What another administrator has asked for, by its id.")] = None,
) -> None:
    """Ask that older records are deleted, or approve it: two administrators decide, unless audit.prune_approvals is 0.

    From the beginning of each chain up to a signature. The rest still verifies, and says what is missing.
    """
    with opened(ctx) as office:
        if (before is None) == (approve is None):
            raise InvalidRequest("Name one of --before DAY and --approve ID.")
        if approve is not None:
            typer.echo(f"Deleted {office.pruning.approve(office.actor, approve)} records.")
            return
        done = office.pruning.request(office.actor, moment("--before", before or ""))
    if isinstance(done, int):
        typer.echo(f"Deleted {done} records from before {before}.")
    else:
        typer.echo(f"Asked. Another administrator approves within seven days: clinserve audit prune --approve {done}")


@audit_app.command(epilog='Example: clinserve audit restored --reason "disk of node 3 lost, backup of 2026-11-01"')
def restored(
    ctx: typer.Context, reason: Annotated[str, typer.Option(help="What happened, for auditors; no names of patients.")]
) -> None:
    """After a restore from a backup: state, signed, which records it did not bring back. 'audit verify' lists them from
    then on, and is valid.
    """
    with (
        opened(ctx) as office,
        Trail(office.audit_log, utcnow).change(office.actor, "audit.restored", parameters={"reason": reason}) as entry,
    ):
        lost = office.audit_log.restored(reason)
        entry.result = str(len(lost))
    for head in lost:
        typer.echo(f"chain {head.chain}: what followed up to record {head.seq} is lost")
    typer.echo(f"Stated for {len(lost)} chains.")


@audit_app.command("public-key", epilog="Example: clinserve audit public-key > clinserve-audit.pub")
def public_key(ctx: typer.Context) -> None:
    """Print the keys that verify this server's signatures, the newest first. Keep them apart from the database."""
    with opened(ctx) as office:
        for key in office.public_keys:
            typer.echo(key)


def checked(log: Log, public_keys: Collection[str], heads: list[Head | Checkpoint | Unreadable]) -> Report:
    with counting("Verifying") as on_progress:
        report = verify(log.records(), log.checkpoints(), public_keys, anchors=heads, on_progress=on_progress)
    if not report.records and report.valid:
        # Whoever made the first key has left a record.
        report.findings.append(Finding("", 0, "the log is empty: nothing was written, or all of it was deleted"))
    return report


def tell(report: Report) -> None:
    for finding in report.findings:
        place = f"record {finding.seq}" if finding.seq else "as a whole"
        typer.echo(f"chain {finding.chain}, {place}: {finding.what}" if finding.chain else finding.what)
    for one in report.missing:
        upto = "its records up to" if one.why == "pruned" else "what followed its end, up to"
        typer.echo(f"chain {one.chain}: {upto} {one.seq} are missing: {one.why}, as {one.said_by} says")
    for chain in report.open_chains:
        typer.echo(f"chain {chain} is not closed: its process runs, or crashed and lost its last seconds")
    size = (
        f"{report.chains} chains, {report.records} records, {report.checkpoints} checkpoints, {report.anchors} anchors"
    )
    typer.echo(f"{size}: " + ("valid" if report.valid else f"NOT VALID, {len(report.findings)} findings"))


def found(office: Office, query: AuditQuery) -> Iterator[Record]:
    return everything(lambda page: office.administration.audit_records(office.actor, replace(query, page=page)))


def answer_forms(file: Path) -> list[bytes]:
    """What an answer's digest may be over: editors end a file with a line's end that the answer had not."""
    text = file.read_bytes()
    return [text, text.removesuffix(b"\n")] if text.endswith(b"\n") else [text]


def prompt_forms(file: Path) -> list[bytes]:
    """What a prompt's digest may be over."""
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if isinstance(given, dict):
        return [prompt_bytes(given)]
    if isinstance(given, list):
        return [prompt_bytes({"messages": given})]
    texts = {text, text.removesuffix("\n")}
    bodies = [{"messages": [{"role": "user", "content": one}]} for one in texts] + [{"prompt": one} for one in texts]
    return [prompt_bytes(body) for body in bodies]


def show(records: Iterator[Record], *, as_json: bool) -> None:
    if as_json:
        print_json_list(map(public, records))
    else:
        columns = ("at", "kind", "tenant", "actor", "what", "outcome", "request")
        print_table(columns, map(cells, records), whole=("at", "kind", "request"))


def cells(record: Record) -> list[str]:
    actor, details = said_in(record)
    if details is None:
        what = "damaged: 'clinserve audit verify' says more"
    else:
        facts = [details.get(name) for name in ("action", "target", "result", "deployment", "operation")]
        what = " ".join(str(fact) for fact in facts if fact)
    outcome = str((details or {}).get("outcome", ""))
    return [shown(record.at), record.kind, record.tenant, actor, what, outcome, record.request_id]


def public(record: Record) -> dict[str, Any]:
    """As /admin/v1/audit shows it. details: null where the record is damaged."""
    actor, details = said_in(record)
    return {
        "chain": record.chain,
        "seq": record.seq,
        "at": record.at.isoformat(),
        "kind": record.kind,
        "tenant": record.tenant,
        "actor": actor,
        "request_id": record.request_id,
        "details": details,
        "hash": record.hash,
    }


def said_in(record: Record) -> tuple[str, dict[str, Any] | None]:
    """Who did it, and how; nothing for a body that somebody wrote who was not us."""
    try:
        body = json.loads(record.body)
    except ValueError:
        body = None
    if not (isinstance(body, dict) and isinstance(body.get("details"), dict)):
        return "", None
    return str(body.get("actor", "")), body["details"]


@contextmanager
def counting(title: str) -> Iterator[Callable[[int], None]]:
    """How far long work has come, on a terminal."""
    with Console(stderr=True).status(title) as status:
        yield lambda count: status.update(f"{title}, {count} so far")


def counted(lines: Iterable[str], on_progress: Callable[[int], None]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if number % 1000 == 0:
            on_progress(number)
        yield line
