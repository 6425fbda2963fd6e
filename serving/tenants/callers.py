"""Who a request is from, and what they may do. However it was authenticated, a request has one Caller."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Literal, get_args

from serving.errors import NotAllowed

Role = Literal["inference", "operator", "key_admin", "auditor"]
"""inference: call deployments. operator: tenants and limits. key_admin: keys. auditor: read usage and the audit log."""
ROLES: tuple[Role, ...] = get_args(Role)
SYSTEM_TENANT = "system"
"""The tenant of those who run the server. Its administrators act on every tenant, those of others on their own."""

Network = IPv4Network | IPv6Network


class RoleMissing(NotAllowed):
    """Signed in, but without the role that this needs."""

    code = "role_missing"


class NetworkNotAllowed(NotAllowed):
    """The key may not be used from this address. Azure's wording (azure-wire-format, 1.3)."""

    code = "network_not_allowed"
    default_message = "Access denied due to Virtual Network/Firewall rules: this key may not be used from this address."


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request is from: the holder of a key, or an identity of an OpenID Connect issuer.

    key_id: the key's id, or `oidc:` and the identity's own; the subject of limits, usage and audit. deployments: the
    names that may be called, None for all. networks: where from, None for anywhere.
    """

    tenant: str
    key_id: str
    key_name: str
    roles: frozenset[Role] = frozenset({"inference"})
    deployments: frozenset[str] | None = None
    networks: tuple[Network, ...] | None = None

    @property
    def is_system(self) -> bool:
        return self.tenant == SYSTEM_TENANT

    def require(self, *roles: Role) -> None:
        """Raise RoleMissing unless the caller has one of these roles."""
        if not self.roles & set(roles):
            needed = " or ".join(roles)
            raise RoleMissing(f"This needs the role {needed}, which the caller does not have.")

    def check_network(self, address: str | None) -> None:
        """Raise NetworkNotAllowed for an address outside the caller's networks; an unknown address is outside."""
        if self.networks is None:
            return
        try:
            given = ip_address(address or "")
        except ValueError:
            raise NetworkNotAllowed from None
        if (mapped := getattr(given, "ipv4_mapped", None)) is not None:
            given = mapped  # ::ffff:10.0.0.1, as a dual-stack socket shows an IPv4 peer
        if not any(given in network for network in self.networks):
            raise NetworkNotAllowed

    def may_call(self, deployment: str) -> bool:
        return self.deployments is None or deployment in self.deployments
