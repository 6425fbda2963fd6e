"""Who a request is from, and what they may do. However it was authenticated, a request has one Caller."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Literal, get_args

from serving.errors import NotAllowed

Role = Literal["inference", "operator", "key_admin", "auditor"]
"""inference: call deployments. operator: tenants and limits. key_admin: keys. auditor: read usage and the audit log."""
ROLES: tuple[Role, ...] = get_args(Role)
SYSTEM_TENANT = "system"
"""The tenant of those who run the server. Its administrators act on every tenant, those of others on their own."""

Network = IPv4Network | IPv6Network


_MAPPED = IPv6Network("::ffff:0:0/96")


def plain_network(network: Network) -> Network:
    """An IPv4 network as such, also where it is written as IPv6 writes one (RFC 4291, 2.5.5.2)."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


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
    names that may be called, None for all. networks: where from, None for anywhere. tenant_networks: the same, of its
    tenant; both hold. expires_at: when the key ends; None for never, and for identities, which outlive their tokens.
    address, request_id: where this request is from, and which; for the audit log.
    """

    tenant: str
    key_id: str
    key_name: str
    roles: frozenset[Role] = frozenset({"inference"})
    deployments: frozenset[str] | None = None
    networks: tuple[Network, ...] | None = None
    tenant_networks: tuple[Network, ...] | None = None
    expires_at: datetime | None = None
    address: str = field(default="", compare=False)
    request_id: str = field(default="", compare=False)

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
        for networks in (self.networks, self.tenant_networks):
            if networks is not None and not _is_in(address, networks):
                raise NetworkNotAllowed

    def within(self, deployments: frozenset[str] | None, networks: tuple[Network, ...] | None) -> Caller:
        """The caller with no more than its tenant has: these deployments, from these networks. None: no such bound."""
        if deployments is not None and self.deployments is not None:
            deployments &= self.deployments
        elif deployments is None:
            deployments = self.deployments
        return replace(self, deployments=deployments, tenant_networks=networks)

    def may_call(self, deployment: str) -> bool:
        return self.deployments is None or deployment in self.deployments


def _is_in(address: str | None, networks: tuple[Network, ...]) -> bool:
    try:
        given = ip_address(address or "")
    except ValueError:
        return False
    if (mapped := getattr(given, "ipv4_mapped", None)) is not None:
        given = mapped  # ::ffff:10.0.0.1, as a dual-stack socket shows an IPv4 peer
    return any(given in plain_network(network) for network in networks)
