"""`clinserve secrets list|rotate|retire`: versions of the installation's secrets. Values are never shown."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from serving.commands.configuration import Verbs, path_of
from serving.commands.office import Office
from serving.commands.printing import Json, print_json, print_table
from serving.commands.session import opened
from serving.commands.times import duration, shown
from serving.errors import InvalidRequest
from serving.sealing import Sealer
from serving.secret_rotation import SETTLED, locked, replace, retired, rotated, write_new
from serving.secret_versions import VersionedSecret, text_of
from serving.secrets import REQUIRED, vault_name
from serving.settings import load
from serving.tenants.keys import utcnow
from serving.tenants.row_seal import PepperSeals
from serving.tenants.sql.secret_uses import Uses
from serving.tenants.trail import Trail

WHAT_FOR = {
    "pepper": "digests of keys; seals of keys, tenants and limits",
    "engine": "opens the engines to gateways",
    "cache_salt": "separates tenants' KV caches",
    "content": "seals responses, files and results of batches",
    "audit": "digests of prompts and answers in the audit log",
    "signing": "signs the audit log",
}
_SLACK = timedelta(seconds=30)


class OrManifest(TyperGroup):
    """`clinserve secrets NAME` prints a new Secret for Kubernetes, as it did before there were verbs."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["new", *args]
        return super().resolve_command(ctx, args)


secrets_app = Verbs(
    cls=OrManifest,
    help="Versions of the installation's secrets; 'new' prints a Kubernetes Secret with all of them.",
    invoke_without_command=True,
)

Name = Annotated[str, typer.Argument(help=f"One of {', '.join(REQUIRED)}.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Output = Annotated[
    Path | None,
    typer.Option(help="A new file for the whole secret; `-` for standard output. Default: in its place, if a file."),
]


@secrets_app.callback()
def without_verb(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        new()


@secrets_app.command(reads_configuration=False)
def new(name: Annotated[str, typer.Argument(help="Of the Secret.")] = "clinserve") -> None:
    """Print a Kubernetes Secret with new secrets, for `kubectl apply -f -`. Nothing is kept here."""
    from serving.commands import secrets as command

    typer.echo(command.manifest(name), nl=False)


@secrets_app.command("list", epilog="Example: clinserve secrets list")
def list_versions(ctx: typer.Context, as_json: Json = False) -> None:
    """Say which versions there are, since when each writes, and what still needs it."""
    now = utcnow()
    with opened(ctx) as office:
        here = [name for name in REQUIRED if office.source.is_here(name)]
        rows = [row for name in here for row in _rows(office, name, now)]
    if as_json:
        return print_json(rows)
    columns = ("secret", "version", "state", "writes since", "needed by", "where")
    shown_rows = [
        (
            one["secret"],
            str(one["version"]),
            one["state"],
            one["since"] or "its start",
            _told(one["uses"]),
            one["place"],
        )
        for one in rows
    ]
    print_table(columns, shown_rows, whole=columns[:3])


@secrets_app.command(epilog="Example: clinserve secrets rotate pepper --in 1h")
def rotate(
    ctx: typer.Context,
    name: Name,
    begins: Annotated[
        str, typer.Option("--in", help="When the new version begins to write: by then everybody must know it.")
    ] = "1h",
    output: Output = None,
    dry_run: DryRun = False,
) -> None:
    """Add a version to a secret. All that was made with the others stays readable; nothing has to be started again."""
    now, wait = utcnow(), duration("--in", begins)
    with opened(ctx) as office:
        secret = _secret(office, name)
        least = 2 * timedelta(seconds=load(path_of(ctx), elsewhere=True).secrets.refresh) + _SLACK
        if wait < least:
            raise InvalidRequest(f"--in is at least {least}: running processes look every half of that, at worst.")
        changed = rotated(name, secret, now, now + wait)
        newest = changed.versions[0]
        if not dry_run:
            with _change(office, "secret.rotate", name, newest.number):
                changed = _put(office, name, output, lambda known: rotated(name, known, now, now + wait))
    verb = "would write" if dry_run else "writes"
    typer.echo(f"{name}: version {newest.number} {verb} from {shown(newest.writes_from)} on.", err=True)
    for line in _next_steps(office, name, output, wait):
        typer.echo(line, err=True)


@secrets_app.command(epilog="Example: clinserve secrets retire pepper 1")
def retire(
    ctx: typer.Context,
    name: Name,
    number: Annotated[int, typer.Argument(metavar="VERSION", help="As 'secrets list' shows it.", show_default=False)],
    output: Output = None,
    dry_run: DryRun = False,
) -> None:
    """Take an old version away, when nothing needs it. What can be sealed anew is, first. Exit status 1: it is needed.

    Of a signing key the public key stays, so that what it signed can be verified.
    """
    now = utcnow()
    with opened(ctx) as office:
        secret = _secret(office, name)
        retired(name, secret, number, now)  # whether it could be
        if not dry_run:
            for what, count in _resealed(office, name, secret, number).items():
                typer.echo(f"{name}: sealed anew under version {secret.writing.number}: {count} {what}.", err=True)
        uses = _uses(office, name, secret, number, now) if name != "signing" else {}
        if uses:
            raise InvalidRequest(f"{name}: version {number} is needed by {_told(uses)}. {_REMEDIES.get(name, '')}")
        if not dry_run:
            with _change(office, "secret.retire", name, number):
                _put(office, name, output, lambda known: retired(name, known, number, now))
    typer.echo(
        f"{name}: version {number} {'could be retired' if dry_run else 'is retired'}: nothing needs it.", err=True
    )


_REMEDIES = {
    "pepper": "A key that is used gets a digest of the new version; rotate or revoke the others (clinserve keys list).",
    "content": "What does not open is damaged: delete it, or wait until it expires.",
    "audit": "Without it, 'audit find' finds none of these: prune them first, or keep the version.",
}


def _secret(office: Office, name: str) -> VersionedSecret:
    if name not in REQUIRED:
        raise InvalidRequest(f"There is no secret of this name. There are: {', '.join(REQUIRED)}.")
    return office.source.versions(name)


def _rows(office: Office, name: str, now: datetime) -> list[dict[str, Any]]:
    secret = _secret(office, name)
    states = {}
    for version in secret.versions:
        later = version.number > secret.writing.number
        states[version.number] = "waits" if later else "writes" if version == secret.writing else "reads"
    return [
        {
            "secret": name,
            "version": version.number,
            "state": states[version.number],
            "since": shown(version.writes_from) if version.writes_from else None,
            "age_days": (now - version.writes_from).days if version.writes_from else None,
            "uses": _uses(office, name, secret, version.number, now),
            "what_for": WHAT_FOR[name],
            "place": office.source.place_of(name),
        }
        for version in secret.versions
    ]


def _uses(office: Office, name: str, secret: VersionedSecret, number: int, now: datetime) -> Uses:
    version = secret.version(number)
    since = version.writes_from if version else None
    following = [one.writes_from for one in secret.versions if one.number > number and one.writes_from]
    found: Uses = office.uses.of(name, number, since, min(following, default=None), now)
    return found


def _resealed(office: Office, name: str, secret: VersionedSecret, number: int) -> Uses:
    if name == "pepper":
        return {"rows": office.uses.reseal_rows(PepperSeals(secret))}
    return {"contents": office.uses.reseal_contents(Sealer(secret), number)} if name == "content" else {}


def _change(office: Office, action: str, name: str, number: int) -> Any:
    return Trail(office.audit_log, utcnow).change(office.actor, action, name, {"version": str(number)})


def _put(office: Office, name: str, output: Path | None, change: Any) -> VersionedSecret:
    """Where the secret is, or where it is to be put."""
    path = office.source.file_of(name)
    changed: VersionedSecret
    if output is not None:
        changed = change(_secret(office, name))
        if str(output) == "-":
            typer.echo(text_of(changed.versions), nl=False)
        else:
            try:
                write_new(output, changed)
            except OSError as error:
                raise InvalidRequest(f"{output}: {error.strerror}.") from None
        return changed
    if path is None:
        raise InvalidRequest(
            f"{name} is in {office.source.place_of(name)}, which is not written to from here. Name an --output, and "
            "put what is in it there."
        )
    with locked(path):
        changed = change(_secret(office, name))
        replace(path, changed)
    return changed


def _next_steps(office: Office, name: str, output: Path | None, wait: timedelta) -> list[str]:
    item = vault_name(REQUIRED[name])
    if output is not None or office.source.file_of(name) is None:
        first = f"Put the whole secret, old versions included, where processes read it from: item '{item}'."
    else:
        first = "Give the same file to every other gateway and engine machine, if there are any."
    steps = [
        f"1. {first}",
        f"2. Within {wait} all must have read it. They do by themselves (secrets.refresh), but for variables of "
        "the environment: restart what has it there.",
        f"3. When nothing needs the old version: clinserve secrets retire {name} VERSION, after {SETTLED} at least.",
    ]
    if name == "signing":
        steps.append("4. Keep the new public key apart from the database: clinserve audit public-key.")
    return steps


def _told(uses: Uses) -> str:
    return ", ".join(f"{count} {what}" for what, count in uses.items()) or "nothing"
