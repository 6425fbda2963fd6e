"""Roles that nobody has together: who hands out keys is not the one who looks at what was done with them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from serving.errors import NotAllowed
from serving.tenants.callers import ROLES, Role

SEPARATED: tuple[frozenset[Role], ...] = (frozenset({"key_admin", "auditor"}),)


class RolesExclusive(NotAllowed):
    """These roles may not be in one hand here."""

    code = "roles_exclusive"
    default_message = "These roles exclude each other here (identity.exclusive_roles): give them to different people."


@dataclass(frozen=True, slots=True)
class ExclusiveRoles:
    """sets: of each, a key or token has one role at most."""

    sets: tuple[frozenset[Role], ...] = SEPARATED

    def broken_by(self, roles: Collection[Role]) -> str | None:
        """Those of `roles` that exclude each other, for people; None if none do."""
        for exclusive in self.sets:
            if len(both := exclusive & set(roles)) > 1:
                return " and ".join(sorted(both))
        return None

    def check(self, roles: Collection[Role]) -> None:
        """Raises RolesExclusive. All roles together are root's, for the first steps and for emergencies: only who has
        them all hands them out, and the audit log says so.
        """
        if set(roles) == set(ROLES):
            return
        if (both := self.broken_by(roles)) is not None:
            raise RolesExclusive(f"The roles {both} exclude each other here (identity.exclusive_roles).", param="roles")
