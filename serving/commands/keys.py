"""`clinserve keys`: create, list, rotate and revoke API keys from a shell."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network
from typing import Annotated, Any

import typer

from serving.commands.configuration import Verbs
from serving.commands.pages import everything
from serving.commands.printing import Json, print_json, print_table
from serving.commands.session import opened
from serving.commands.times import duration, shown
from serving.errors import InvalidRequest
from serving.tenants.callers import ROLES, SYSTEM_TENANT, Network, Role
from serving.tenants.keys import ApiKey, Secret, utcnow

keys_app = Verbs(help="Create, list, rotate and revoke API keys.", no_args_is_help=True)

DEFAULT_TENANT = "default"
SHOWN_ONCE = "This is the only time that the key is shown: we do not keep it. Put it where the caller reads it from."

Id = Annotated[str, typer.Argument(help="As 'clinserve keys list' shows it.", show_default=False)]


@keys_app.command(epilog="Example: clinserve keys create --tenant cardiology --name discharge-letters")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Option(help="What the key is for, such as the application that uses it.")],
    tenant: Annotated[str, typer.Option(help="The tenant who is charged.")] = DEFAULT_TENANT,
    role: Annotated[
        list[str] | None,
        typer.Option(metavar="|".join(ROLES), help="What it may do; repeatable. Default: inference."),
    ] = None,
    deployment: Annotated[
        list[str] | None, typer.Option(help="The only deployment it may call; repeatable. Default: all.")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="Where from, such as 10.20.0.0/16; repeatable. Default: anywhere.")
    ] = None,
    expires_in: Annotated[str | None, typer.Option(help="For example 90d or 12h. Without it, the key lasts.")] = None,
    as_json: Json = False,
) -> None:
    """Create a key and print it, once."""
    with opened(ctx) as office:
        expires_at = None if expires_in is None else utcnow() + duration("--expires-in", expires_in)
        networks = tuple(network_of(text) for text in network or ())
        if tenant in (DEFAULT_TENANT, SYSTEM_TENANT):  # others have a name, so somebody creates them
            office.administration.ensure_tenant(tenant)
        key, secret = office.administration.create_key(
            office.actor,
            tenant,
            name,
            roles=roles_of(role or ["inference"]),
            deployments=frozenset(deployment) if deployment else None,
            networks=networks or None,
            expires_at=expires_at,
        )
    show_once(key, secret, as_json=as_json)


@keys_app.command("list", epilog="Example: clinserve keys list --tenant cardiology")
def list_keys(
    ctx: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's keys.")] = None,
    as_json: Json = False,
) -> None:
    """List the keys, oldest first. The keys themselves cannot be shown: we do not keep them."""
    with opened(ctx) as office:
        keys = list(everything(lambda page: office.administration.list_keys(office.actor, tenant, page)))
    if as_json:
        return print_json([public(key) for key in keys])
    now = utcnow()
    rows = [
        (k.id, k.prefix, k.tenant, k.name, bounds(k), shown(k.created_at), shown(k.expires_at), k.status(now))
        for k in keys
    ]
    columns = ("id", "prefix", "tenant", "name", "may", "created", "expires", "status")
    print_table(columns, rows, whole=("id", "prefix", "status"))


@keys_app.command(epilog="Example: clinserve keys rotate csk_ab12cd34 --grace 24h")
def rotate(
    ctx: typer.Context,
    id_or_prefix: Id,
    grace: Annotated[str, typer.Option(help="How long the old key goes on, such as 24h; 0 ends it now.")] = "24h",
    as_json: Json = False,
) -> None:
    """Print a new key with the rights and the lifetime of this one."""
    with opened(ctx) as office:
        lasting = timedelta(0) if grace == "0" else duration("--grace", grace)
        key, secret = office.administration.rotate_key(office.actor, id_or_prefix, grace=lasting)
    show_once(key, secret, as_json=as_json)


@keys_app.command(epilog="Example: clinserve keys revoke csk_ab12cd34")
def revoke(ctx: typer.Context, id_or_prefix: Id) -> None:
    """End a key. Gateways that run notice within seconds."""
    with opened(ctx) as office:
        key = office.administration.revoke_key(office.actor, id_or_prefix)
    typer.echo(f"Revoked {key.prefix} ('{key.name}' of tenant '{key.tenant}').")


def show_once(key: ApiKey, secret: Secret, *, as_json: bool) -> None:
    """The key alone goes to stdout, so that KEY=$(clinserve keys create --name ci) works."""
    if as_json:
        print_json({"key": secret.reveal(), **public(key)})
    else:
        typer.echo(secret.reveal())
    typer.echo(SHOWN_ONCE, err=True)


def public(key: ApiKey) -> dict[str, Any]:
    """The key for JSON, without its digest."""
    return {
        "id": key.id,
        "prefix": key.prefix,
        "tenant": key.tenant,
        "name": key.name,
        "roles": sorted(key.roles),
        "deployments": None if key.deployments is None else sorted(key.deployments),
        "networks": None if key.networks is None else [str(network) for network in key.networks],
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
        "status": key.status(utcnow()),
    }


def bounds(key: ApiKey) -> str:
    """What the key may do, on what and from where, in a cell."""
    parts = [", ".join(sorted(key.roles))]
    if key.deployments is not None:
        parts.append(f"on {', '.join(sorted(key.deployments))}")
    if key.networks is not None:
        parts.append(f"from {', '.join(map(str, key.networks))}")
    return " ".join(parts)


def roles_of(names: list[str]) -> frozenset[Role]:
    unknown = set(names) - set(ROLES)
    if unknown:
        raise InvalidRequest(f"--role takes one of {', '.join(ROLES)}.")
    return frozenset(role for role in ROLES if role in names)


def network_of(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise InvalidRequest(f"--network takes a network such as 10.20.0.0/16: {error}.") from None
