"""What roles allow an administrator. Those of the tenant `system` reach every tenant, others their own; and nobody
hands out, to himself or to others, what he does not have.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from serving.errors import NotAllowed
from serving.tenants.callers import SYSTEM_TENANT, Caller, Network, Role, plain_network
from serving.tenants.limits import Limits

ADMINISTRATIVE: tuple[Role, ...] = ("operator", "key_admin", "auditor")


class GrantTooWide(NotAllowed):
    """An administrator would hand out more than it has."""

    code = "grant_too_wide"
    default_message = "Nobody hands out what he does not have."


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key is to be allowed. Its fields are those of ApiKey."""

    tenant: str
    roles: frozenset[Role]
    deployments: frozenset[str] | None = None
    networks: tuple[Network, ...] | None = None
    expires_at: datetime | None = None


def require_system(actor: Caller, *roles: Role) -> None:
    """Raise unless the actor has one of these roles in system."""
    actor.require(*roles)
    if not actor.is_system:
        raise NotAllowed(f"Only administrators of the tenant '{SYSTEM_TENANT}' may do this.")


def reach(actor: Caller, tenant: str | None) -> str | None:
    """Whose things the actor gets when it asks for a tenant's or, None, for all it may see. None: everybody's.

    Raises NotAllowed for another tenant, in the same words whether there is one or not.
    """
    if actor.is_system or tenant == actor.tenant:
        return tenant
    if tenant is None:
        return actor.tenant
    raise NotAllowed(f"Administrators of the tenant '{actor.tenant}' see and change that tenant only.")


def check_grant(actor: Caller, grant: Grant) -> None:
    """Raise unless the actor may hand out such a key.

    Its roles are the actor's, and `inference`, which is what a key_admin is there to hand out. Where the actor is bound
    to deployments and networks, so is the key. A key that administers does not outlive the one that makes it.
    """
    actor.require("key_admin")
    reach(actor, grant.tenant)
    if "operator" in grant.roles:
        require_system(actor, "key_admin")
    if missing := grant.roles - actor.roles - {"inference"}:
        raise GrantTooWide(
            f"Nobody hands out a role that he does not have: here {', '.join(sorted(missing))}.", param="roles"
        )
    check_bounds(actor, grant.deployments, grant.networks)
    if actor.expires_at is None or not grant.roles & set(ADMINISTRATIVE):
        return
    if grant.expires_at is None or grant.expires_at > actor.expires_at:
        raise GrantTooWide(
            "The key of an administrator expires no later than the key that creates it.", param="expires_at"
        )


def check_bounds(actor: Caller, deployments: frozenset[str] | None, networks: tuple[Network, ...] | None) -> None:
    """Raise GrantTooWide for deployments or networks that are not all the actor's. None: all there are."""
    if actor.deployments is not None and (deployments is None or not deployments <= actor.deployments):
        raise GrantTooWide(
            "The caller is bound to deployments: name some of those that it may call itself.", param="deployments"
        )
    for bounds in (actor.networks, actor.tenant_networks):
        if bounds is None:
            continue
        if networks is None or not all(any(_within(one, bound) for bound in bounds) for one in networks):
            raise GrantTooWide("The caller is bound to networks: name networks within its own.", param="networks")


def check_own(actor: Caller, key_id: str) -> None:
    """Raise GrantTooWide for the actor's own key: nobody sets his own limits."""
    if actor.key_id == key_id:
        raise GrantTooWide("Nobody changes the limits of his own key.")


def check_limits_within(own: Limits, others: Limits) -> None:
    """Raise GrantTooWide where `others`, in force, would allow more than `own`. None: unlimited."""
    mine = asdict(own)
    for field, value in asdict(others).items():
        if mine[field] is not None and (value is None or value > mine[field]):
            raise GrantTooWide(f"The caller's own {field} is {mine[field]}: it cannot allow more.", param=field)


def _within(inner: Network, outer: Network) -> bool:
    inner, outer = plain_network(inner), plain_network(outer)
    if inner.version == 4 and outer.version == 4:
        return inner.subnet_of(outer)
    return inner.version == 6 and outer.version == 6 and inner.subnet_of(outer)
