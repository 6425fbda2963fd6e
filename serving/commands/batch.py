"""`clinserve batch`: large jobs on a running server, from a shell. What they are: docs/batches.md.

Exit status of `submit --wait`, `wait` and `fetch`: 0 every line completed, 3 lines failed or were not run, 4 the batch
failed; 130 interrupted, and the batch goes on; 1 the command could not do it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.commands.batch_files import BadFile, check, download, upload
from serving.commands.batch_wait import ended, wait_for
from serving.commands.configuration import Verbs
from serving.commands.printing import Json, print_json, print_table
from serving.commands.remote import DEFAULT_URL, CannotAsk, Key, Url, asking
from serving.commands.times import shown

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

batch_app = Verbs(help="Run large jobs: submit, watch and fetch batches.", no_args_is_help=True)

LINES_FAILED, BATCH_FAILED, INTERRUPTED = 3, 4, 130
Id = Annotated[str, typer.Argument(help="The batch's id.")]


@batch_app.command(epilog="Example: clinserve batch submit notes.jsonl --wait", reads_configuration=False)
def submit(
    file: Annotated[Path, typer.Argument(help="JSON Lines, a request a line.")],
    endpoint: Annotated[str | None, typer.Option(help="Default: the first line's url.")] = None,
    window: Annotated[str, typer.Option(help="Time that the batch has; servers know 24h.")] = "24h",
    metadata: Annotated[list[str] | None, typer.Option(help="NAME=VALUE to keep with the batch; repeatable.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Check a file, upload it and start a batch of it."""
    with _client(url, key) as client:
        checked = check(file, endpoint, [card.id for card in client.models.list()])
        about = dict(_pair(one) for one in metadata or [])
        uploaded = upload(client, file)
        try:
            batch = client.batches.create(
                input_file_id=uploaded.id,
                endpoint=checked.endpoint,  # type: ignore[arg-type]  # the server knows which there are
                completion_window=window,  # type: ignore[arg-type]
                metadata=about,
            )
        except Exception:
            client.files.delete(uploaded.id)  # what nobody uses is not to stay there
            raise
        if wait:
            _wait(client, batch.id, as_json=as_json)
        if as_json:
            print_json(batch.model_dump())
        else:
            typer.echo(f"{batch.id}  {checked.lines} lines")
            typer.echo(f"Wait for it: clinserve batch wait {batch.id}", err=True)


@batch_app.command(reads_configuration=False)
def status(id: Id, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Show a batch: its state, counts, files, and why it failed."""
    with _client(url, key) as client:
        _show(client.batches.retrieve(id), as_json=as_json)


@batch_app.command("list", reads_configuration=False)
def list_batches(
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1, max=1000)] = 20,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """List the tenant's batches, the newest first."""
    with _client(url, key) as client:
        batches = client.batches.list(limit=limit).data
    if as_json:
        print_json([batch.model_dump() for batch in batches])
    else:
        columns = ("id", "status", "created", "total", "completed", "failed")
        print_table(columns, [_row(batch) for batch in batches], whole=("id",), right=columns[3:])


@batch_app.command(reads_configuration=False)
def wait(id: Id, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Wait until a batch has ended. Ctrl-C ends the waiting, not the batch."""
    with _client(url, key) as client:
        _wait(client, id, as_json=as_json)


@batch_app.command(
    epilog="Example: clinserve batch fetch batch_0a1b --output answers.jsonl --errors errors.jsonl",
    reads_configuration=False,
)
def fetch(
    id: Id,
    output: Annotated[str | None, typer.Option("--output", "-o", help="Default: ID_output.jsonl; - to print.")] = None,
    errors: Annotated[str | None, typer.Option(help="Default: ID_errors.jsonl, if lines failed.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Download the results of a batch that has ended."""
    with _client(url, key) as client:
        batch = client.batches.retrieve(id)
        if not ended(batch):
            raise CannotAsk(f"the batch is still {batch.status}: clinserve batch wait {id}")
        for file_id, to in (
            (batch.output_file_id, output or f"{id}_output.jsonl"),
            (batch.error_file_id, errors or f"{id}_errors.jsonl"),
        ):
            if file_id:
                download(client, file_id, to)
    raise typer.Exit(status_of(batch))


@batch_app.command(reads_configuration=False)
def cancel(id: Id, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Stop a batch. Lines that have ended keep their results."""
    with _client(url, key) as client:
        _show(client.batches.cancel(id), as_json=as_json)


def status_of(batch: Batch) -> int:
    """The exit status that says how a batch ended."""
    if batch.status == "failed":
        return BATCH_FAILED
    failed = batch.request_counts.failed if batch.request_counts else 0
    return LINES_FAILED if failed or batch.status != "completed" else 0


@contextmanager
def _client(url: str, key: str | None) -> Iterator[OpenAI]:
    """A client for one command. What goes wrong is on standard error, and exit status 1."""
    try:
        with asking(url, key) as client:
            yield client
    except (CannotAsk, BadFile) as error:
        for line in str(error).splitlines():
            typer.secho(f"clinserve: {line}", fg="red", err=True)
        raise typer.Exit(1) from None


def _wait(client: OpenAI, id: str, *, as_json: bool) -> None:
    try:
        batch = wait_for(client, id)
    except KeyboardInterrupt:
        typer.echo(
            f"The batch goes on. Wait again: clinserve batch wait {id}\nStop it: clinserve batch cancel {id}",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None
    _show(batch, as_json=as_json)
    if not as_json and (batch.output_file_id or batch.error_file_id):
        typer.echo(f"Fetch the results: clinserve batch fetch {id}", err=True)
    raise typer.Exit(status_of(batch))


def _show(batch: Batch, *, as_json: bool) -> None:
    if as_json:
        print_json(batch.model_dump())
        return
    counts = batch.request_counts
    typer.echo(f"{batch.id}  {batch.status}" + (f"  {batch.model}" if batch.model else ""))
    if counts and counts.total:
        typer.echo(f"{counts.total} lines: {counts.completed} completed, {counts.failed} failed")
    for name, file_id in (("output", batch.output_file_id), ("errors", batch.error_file_id)):
        if file_id:
            typer.echo(f"{name}  {file_id}")
    for problem in (batch.errors and batch.errors.data) or []:
        where = f"line {problem.line}: " if problem.line else ""
        typer.echo(f"{where}{problem.code}: {problem.message}")


def _row(batch: Batch) -> list[str]:
    counts: Any = batch.request_counts
    created = shown(datetime.fromtimestamp(batch.created_at, UTC))
    return [batch.id, batch.status, created, str(counts.total), str(counts.completed), str(counts.failed)]


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise CannotAsk("--metadata takes NAME=VALUE")
    return name, value
