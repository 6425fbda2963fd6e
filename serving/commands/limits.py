"""`clinserve limits`: what keys, tenants and deployments may use."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from serving.commands.configuration import Verbs
from serving.commands.office import Office
from serving.commands.pages import everything
from serving.commands.printing import Json, print_json, print_table
from serving.commands.session import opened
from serving.errors import InvalidRequest
from serving.tenants.administration import IDENTITY
from serving.tenants.key_text import public_name
from serving.tenants.limits import Limits, Scope, Subject

limits_app = Verbs(
    help="Set, list and clear limits. What is not set falls back to quotas.defaults of the configuration.",
    no_args_is_help=True,
)

FIELDS = tuple(asdict(Limits()))

ScopeArgument = Annotated[Scope, typer.Argument(help="What is limited.", show_default=False)]
SubjectArgument = Annotated[
    str, typer.Argument(help="A key's id or prefix, a tenant's id, a deployment's name.", show_default=False)
]


def _limit(help: str) -> Any:
    return typer.Option(help=help, metavar="N|unlimited|default", show_default=False)


@limits_app.command("set", epilog="Example: clinserve limits set tenant cardiology --tokens-per-minute 200000")
def set_limits(
    ctx: typer.Context,
    scope: ScopeArgument,
    subject: SubjectArgument,
    requests_per_minute: Annotated[str | None, _limit("Requests in any 60 seconds.")] = None,
    tokens_per_minute: Annotated[str | None, _limit("Tokens, prompt and answer, in any 60 seconds.")] = None,
    tokens_per_day: Annotated[str | None, _limit("Tokens in a day, UTC.")] = None,
    tokens_per_month: Annotated[str | None, _limit("Tokens in a month, UTC.")] = None,
    concurrent_requests: Annotated[str | None, _limit("Requests at a time, over all gateways.")] = None,
    as_json: Json = False,
) -> None:
    """Set limits; those that are not named stay as they are. Gateways that run notice within seconds.

    `unlimited` holds in spite of a default in the configuration, `default` goes back to it.
    """
    given = dict(
        zip(
            FIELDS,
            (requests_per_minute, tokens_per_minute, tokens_per_day, tokens_per_month, concurrent_requests),
            strict=True,
        )
    )
    with opened(ctx) as office:
        changes = {field: limit_of(field, text) for field, text in given.items() if text is not None}
        if not changes:
            raise InvalidRequest("Name a limit, such as --tokens-per-minute 200000.")
        limits = replace(row_of(office, Subject(scope, subject)), **changes)
        kept = office.administration.set_limits(office.actor, Subject(scope, subject), limits)
    if as_json:
        return print_json(public(kept, limits))
    typer.echo(f"{kept.scope} '{kept.id}': {spoken(limits)}")


@limits_app.command("list", epilog="Example: clinserve limits list --tenant cardiology")
def list_limits(
    ctx: typer.Context,
    scope: Annotated[Scope | None, typer.Option(help="Only those of this kind.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only those of this tenant and its keys.")] = None,
    as_json: Json = False,
) -> None:
    """List what is set."""
    with opened(ctx) as office:
        rows = list(everything(lambda page: office.administration.list_limits(office.actor, page, scope, tenant)))
    if as_json:
        return print_json([public(*row) for row in rows])
    columns = ("scope", "subject", *(field.replace("_", " ") for field in FIELDS))
    cells = [(subject.scope, subject.id, *map(shown, asdict(limits).values())) for subject, limits in rows]
    print_table(columns, cells, whole=("subject",))


@limits_app.command(epilog="Example: clinserve limits clear key csk_ab12cd34")
def clear(ctx: typer.Context, scope: ScopeArgument, subject: SubjectArgument) -> None:
    """Go back to the defaults of the configuration."""
    with opened(ctx) as office:
        office.administration.clear_limits(office.actor, Subject(scope, subject))
    typer.echo(f"{scope}: nothing is set; the defaults apply.")


def row_of(office: Office, subject: Subject) -> Limits:
    """What is set for the subject now."""
    if subject.scope == "key" and not subject.id.startswith(IDENTITY):
        subject = Subject("key", public_name(subject.id).removeprefix("csk_"))
    rows = everything(lambda page: office.administration.list_limits(office.actor, page, subject.scope))
    return dict(rows).get(subject, Limits())


def limit_of(field: str, text: str) -> int | None:
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        return {"unlimited": 0, "default": None}[text]
    except KeyError:
        option = field.replace("_", "-")
        raise InvalidRequest(f"--{option} takes a number, 'unlimited' or 'default'.") from None


def shown(limit: int | None) -> str:
    return {None: "-", 0: "unlimited"}.get(limit, str(limit))


def spoken(limits: Limits) -> str:
    values = asdict(limits).items()
    words = [f"{field.replace('_', ' ')} {shown(value)}" for field, value in values if value is not None]
    return ", ".join(words) or "nothing is set; the defaults apply"


def public(subject: Subject, limits: Limits) -> dict[str, Any]:
    return {"scope": subject.scope, "subject": subject.id, **asdict(limits)}
