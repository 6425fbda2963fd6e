"""`clinserve tenants`: the organisations that keys, limits and usage belong to."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

import typer

from serving.commands.configuration import Verbs
from serving.commands.keys import network_of
from serving.commands.limits import row_of, spoken
from serving.commands.pages import everything
from serving.commands.printing import Json, print_json, print_table
from serving.commands.session import opened
from serving.commands.times import duration, shown
from serving.tenants.limits import Subject
from serving.tenants.registry import Tenant

tenants_app = Verbs(help="Create, list and disable tenants.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="As 'clinserve tenants list' shows it.", show_default=False)]


@tenants_app.command(epilog="Example: clinserve tenants create cardiology --name 'Cardiology, St. Mary'")
def create(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(help="1 to 63 of a-z, 0-9 and . _ -", show_default=False)],
    name: Annotated[str | None, typer.Option(help="For people. Default: the id.")] = None,
    as_json: Json = False,
) -> None:
    """Register an organisation."""
    with opened(ctx) as office:
        tenant = office.administration.create_tenant(office.actor, id, name or id)
    if as_json:
        return print_json(public(tenant))
    typer.echo(f"Created '{tenant.id}'. A key for it: clinserve keys create --tenant {tenant.id} --name APPLICATION")


@tenants_app.command("list", epilog="Example: clinserve tenants list --json")
def list_tenants(ctx: typer.Context, as_json: Json = False) -> None:
    """List the tenants, oldest first."""
    with opened(ctx) as office:
        tenants = list(everything(lambda page: office.administration.list_tenants(office.actor, page)))
    if as_json:
        return print_json([public(tenant) for tenant in tenants])
    rows = [(tenant.id, tenant.name, shown(tenant.created_at), status(tenant)) for tenant in tenants]
    print_table(("id", "name", "created", "status"), rows, whole=("id", "status"))


@tenants_app.command(epilog="Example: clinserve tenants show cardiology")
def show(ctx: typer.Context, id: Id, as_json: Json = False) -> None:
    """Show one tenant with the limits that are set for it."""
    with opened(ctx) as office:
        tenant = office.administration.get_tenant(office.actor, id)
        limits = row_of(office, Subject("tenant", id))
    if as_json:
        return print_json(public(tenant) | {"limits": asdict(limits)})
    facts = {
        "id": tenant.id,
        "name": tenant.name,
        "created": shown(tenant.created_at),
        "status": status(tenant) + (f" since {shown(tenant.disabled_at)}" if tenant.disabled_at else ""),
        "limits": spoken(limits),
        "responses": kept(tenant),
        "may call": bounds_of(tenant),
    }
    for name, value in facts.items():
        typer.echo(f"{name:<9} {value}")


@tenants_app.command(epilog="Example: clinserve tenants disable cardiology")
def disable(ctx: typer.Context, id: Id) -> None:
    """Refuse all keys and tokens of a tenant. Gateways that run notice within seconds."""
    with opened(ctx) as office:
        tenant = office.administration.disable_tenant(office.actor, id)
    typer.echo(f"Disabled '{tenant.id}'. 'clinserve tenants enable {tenant.id}' undoes it.")


@tenants_app.command(epilog="Example: clinserve tenants enable cardiology")
def enable(ctx: typer.Context, id: Id) -> None:
    """Let a disabled tenant in again."""
    with opened(ctx) as office:
        tenant = office.administration.enable_tenant(office.actor, id)
    typer.echo(f"Enabled '{tenant.id}'.")


@tenants_app.command(epilog="Example: clinserve tenants keep-responses cardiology 7d")
def keep_responses(
    ctx: typer.Context,
    id: Id,
    time: Annotated[str, typer.Argument(help="For example 12h or 30d; off: not at all.", show_default=False)],
) -> None:
    """Keep what /v1/responses answers for a while, so that clients can go on from it. Off unless set."""
    with opened(ctx) as office:
        seconds = None if time == "off" else int(duration("TIME", time).total_seconds())
        tenant = office.administration.keep_responses(office.actor, id, seconds)
    typer.echo(f"Responses of '{tenant.id}': {kept(tenant)}.")


@tenants_app.command(epilog="Example: clinserve tenants bound cardiology --deployment notes --network 10.20.0.0/16")
def bound(
    ctx: typer.Context,
    id: Id,
    deployment: Annotated[
        list[str] | None, typer.Option(help="The only deployment to call; repeatable. Without: all.")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="Where from, such as 10.20.0.0/16; repeatable. Without: anywhere.")
    ] = None,
) -> None:
    """Bound all keys and token callers of a tenant, whatever else they are allowed. Replaces the bounds before."""
    with opened(ctx) as office:
        networks = tuple(network_of(text) for text in network or ())
        deployments = frozenset(deployment) if deployment else None
        tenant = office.administration.bound_tenant(office.actor, id, deployments, networks or None)
    typer.echo(f"Callers of '{tenant.id}' may call {bounds_of(tenant)}.")


def bounds_of(tenant: Tenant) -> str:
    may = "all deployments" if tenant.deployments is None else ", ".join(sorted(tenant.deployments))
    return f"{may} from {'anywhere' if tenant.networks is None else ', '.join(map(str, tenant.networks))}"


def kept(tenant: Tenant) -> str:
    return "not kept" if tenant.keep_responses is None else f"kept for {timedelta(seconds=tenant.keep_responses)}"


def status(tenant: Tenant) -> str:
    return tenant.status


def public(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": tenant.id,
        "name": tenant.name,
        "created_at": tenant.created_at.isoformat(),
        "disabled_at": tenant.disabled_at.isoformat() if tenant.disabled_at else None,
        "status": status(tenant),
        "keep_responses": tenant.keep_responses,
        "deployments": None if tenant.deployments is None else sorted(tenant.deployments),
        "networks": None if tenant.networks is None else [str(network) for network in tenant.networks],
    }
