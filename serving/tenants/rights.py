"""What roles allow an administrator. Those of the tenant `system` reach every tenant, others their own."""

from __future__ import annotations

from serving.errors import NotAllowed
from serving.tenants.callers import SYSTEM_TENANT, Caller, Role

ADMINISTRATIVE: tuple[Role, ...] = ("operator", "key_admin", "auditor")


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


def check_grant(actor: Caller, tenant: str, roles: frozenset[Role]) -> None:
    """Raise unless the actor may hand out a key with these roles in this tenant."""
    actor.require("key_admin")
    reach(actor, tenant)
    if "operator" in roles:
        require_system(actor, "key_admin")
