"""`clinserve keys`: create, list and revoke API keys from a shell. The root command says where the keys are kept.

The root's callback sets `ctx.obj` to a callable that opens the keyring, so that `--help` opens no database.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serving.errors import InvalidRequest, ServingError
from serving.tenants.keys import ApiKey, DuplicateKey, Keyring, StoreTooNew, StoreUnavailable, UnknownKey, utcnow

keys_app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

SHOWN_ONCE = "This is the only time that the key is shown: we do not keep it. Put it where the caller reads it from."
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@keys_app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Option(help="What the key is for, such as the application that uses it.")],
    tenant: Annotated[str, typer.Option(help="The tenant who is charged.")] = "default",
    expires_in: Annotated[str | None, typer.Option(help="For example 90d or 12h. Without it, the key lasts.")] = None,
    as_json: Json = False,
) -> None:
    """Create a key and print it, once."""
    with one_line_errors():
        expires_at = None if expires_in is None else utcnow() + duration(expires_in)
        key, secret = keyring(ctx).mint(tenant, name, expires_at)
    # The key alone goes to stdout, so that KEY=$(clinserve keys create --name ci) works.
    typer.echo(json.dumps({"key": secret.reveal(), **public(key)}, indent=2) if as_json else secret.reveal())
    typer.echo(SHOWN_ONCE, err=True)


@keys_app.command("list")
def list_keys(
    ctx: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's keys.")] = None,
    as_json: Json = False,
) -> None:
    """List the keys, oldest first. The keys themselves cannot be shown: we do not keep them."""
    with one_line_errors():
        keys = keyring(ctx).list(tenant)
    if as_json:
        typer.echo(json.dumps([public(key) for key in keys], indent=2))
        return
    table = Table("id", "prefix", "tenant", "name", "created", "expires", "status", box=None)
    for column in table.columns:
        column.no_wrap = column.header in ("id", "prefix", "status")  # whole, for copying, in a narrow terminal too
        column.overflow = "fold"
    now = utcnow()
    for key in keys:
        cells = (key.id, key.prefix, key.tenant, key.name, day(key.created_at), day(key.expires_at), key.status(now))
        table.add_row(*map(Text, cells))  # Text: a name like [red] is no markup
    Console().print(table)


@keys_app.command()
def revoke(
    ctx: typer.Context,
    id_or_prefix: Annotated[str, typer.Argument(help="As 'clinserve keys list' shows it.", show_default=False)],
) -> None:
    """End a key. Gateways that run notice within seconds."""
    with one_line_errors():
        key = keyring(ctx).revoke(id_or_prefix)
    typer.echo(f"Revoked {key.prefix} ('{key.name}' of tenant '{key.tenant}').")


def keyring(ctx: typer.Context) -> Keyring:
    open_keyring: Callable[[], Keyring] = ctx.obj
    return open_keyring()


def public(key: ApiKey) -> dict[str, str | None]:
    """The key for JSON, without its digest."""
    return {
        "id": key.id,
        "prefix": key.prefix,
        "tenant": key.tenant,
        "name": key.name,
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
        "status": key.status(utcnow()),
    }


def day(time: datetime | None) -> str:
    return "never" if time is None else f"{time:%Y-%m-%d %H:%M}Z"


def duration(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9][0-9]{0,3})([mhdw])", text)
    if match is None:
        raise InvalidRequest("--expires-in takes a number and m, h, d or w, such as 90d or 12h.")
    return int(match[1]) * UNITS[match[2]]


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What an operator can do something about is one line and exit code 1. Anything else is our bug: a traceback."""
    try:
        yield
    except UnknownKey as error:
        problem = f"{error} 'clinserve keys list' shows all keys."
    except StoreUnavailable as error:
        cause = str(error.__cause__ or error).partition("\n")[0]  # SQLAlchemy adds the statement and a link below
        problem = f"The database with the keys cannot be used: {cause}"
    except (ServingError, DuplicateKey, StoreTooNew, OSError) as error:
        problem = str(error)
    else:
        return
    typer.echo(f"clinserve: {problem}", err=True)
    raise typer.Exit(1)
