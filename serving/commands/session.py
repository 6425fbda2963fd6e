"""One administrative command: the office is open while it runs, and what goes wrong is one line.

The root's callback sets `ctx.obj` to what opens the office, so that `--help` opens no database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from serving.commands.configuration import ConfigurationFile
from serving.commands.office import Office
from serving.errors import ServingError
from serving.secrets import SecretsError
from serving.tenants.key_store import DuplicateKey, UnknownKey
from serving.tenants.registry import UnknownTenant
from serving.tenants.stores import StoreTooNew, StoreUnavailable


@contextmanager
def opened(ctx: typer.Context) -> Iterator[Office]:
    """The office, for one command."""
    file: ConfigurationFile = ctx.obj
    with one_line_errors(), file.open_office() as office:
        yield office


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What an operator can do something about is one line and exit code 1. Anything else is our bug: a traceback."""
    try:
        yield
    except BrokenPipeError:  # `| head` has seen enough; click ends quietly
        raise
    except UnknownKey as error:
        problem = f"{error} 'clinserve keys list' shows all keys."
    except UnknownTenant as error:
        problem = f"{error} 'clinserve tenants list' shows all, 'clinserve tenants create ID' makes one."
    except StoreUnavailable as error:
        cause = str(error.__cause__ or error).partition("\n")[0]  # SQLAlchemy adds the statement and a link below
        problem = f"The database cannot be used: {cause}"
    except OSError as error:
        problem = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except (ServingError, SecretsError, DuplicateKey, StoreTooNew) as error:
        problem = str(error)
    else:
        return
    typer.echo(f"clinserve: {problem}", err=True)
    raise typer.Exit(1)
