"""Administration: what administrators do, for REST and the command line alike. Who may, done, and audited.

    operator   of the tenant `system`: tenants, and the limits of everything
    key_admin  of `system`: all keys and their limits. Of another tenant: its own
    auditor    of `system`: usage and audit log of all. Of another tenant: its own

Nobody hands out what he does not have: roles (`inference` aside), deployments, networks, limits (rights.py).

Every verb blocks on the database: in a server, call it from a thread. All may raise RoleMissing and NotAllowed (403)
and StoreUnavailable (503); those that change something also AuditUnavailable (503).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta

from serving.errors import InvalidRequest, UnknownDeployment
from serving.tenants.access import Access, AccessLog, NoAccessLog
from serving.tenants.audit import Record
from serving.tenants.audit_store import AuditQuery, AuditStore
from serving.tenants.callers import ROLES, SYSTEM_TENANT, Caller, Network, Role
from serving.tenants.exclusive_roles import ExclusiveRoles
from serving.tenants.key_store import ApiKey, TooManyKeys, UnknownKey
from serving.tenants.key_text import Secret, public_name
from serving.tenants.keys import Keyring, check_named, utcnow
from serving.tenants.ledger import UsageQuery, UsageRecord, UsageRow, UsageStore
from serving.tenants.limits import Limits, LimitStore, Scope, Subject, check_limits, page_of
from serving.tenants.paging import Page, PageRequest
from serving.tenants.registry import Tenant, TenantExists, TenantStore, UnknownTenant, check_keep, check_new
from serving.tenants.rights import (
    ADMINISTRATIVE,
    Grant,
    check_bounds,
    check_grant,
    check_limits_within,
    check_own,
    reach,
    require_system,
)
from serving.tenants.stores import StoreUnavailable
from serving.tenants.trail import Audit, Trail

SERVER = Caller(tenant=SYSTEM_TENANT, key_id="server", key_name="clinserve", roles=frozenset())
"""The actor of what the server does at its start."""
IDENTITY = "oidc:"  # how the ids of callers with tokens begin
LONGEST_ID = 300  # of a caller with a token


class Administration:
    """deployments: the names that exist. default_limits: of keys, where nobody set others. exclusive: roles that no
    key has together. on_change: after a change of tenants or limits, so that this process's PolicyBook takes it over
    at once; the others do within seconds.
    """

    def __init__(
        self,
        *,
        tenants: TenantStore,
        keyring: Keyring,
        limits: LimitStore,
        usage: UsageStore,
        audit: Audit,
        audit_store: AuditStore,
        deployments: Collection[str],
        default_limits: Limits = Limits(),  # noqa: B008  # frozen
        exclusive: ExclusiveRoles = ExclusiveRoles(),  # noqa: B008  # frozen
        now: Callable[[], datetime] = utcnow,
        on_change: Callable[[], None] = lambda: None,
        access: AccessLog | NoAccessLog = NoAccessLog(),  # noqa: B008  # it holds nothing
    ) -> None:
        self._tenants = tenants
        self._keyring = keyring
        self._limits = limits
        self._usage = usage
        self._audit_store = audit_store
        self._deployments = deployments
        self._default_limits = default_limits
        self._exclusive = exclusive
        self._now = now
        self._on_change = on_change
        self._access = access
        self._trail = Trail(audit, now)

    # Tenants

    def create_tenant(self, actor: Caller, id: str, name: str) -> Tenant:
        """For an operator of system. Raises TenantExists (409), InvalidRequest."""
        with self._trail.change(actor, "tenant.create", id, {"name": name}) as entry:
            require_system(actor, "operator")
            tenant = Tenant(id, name, self._now())
            check_new(tenant)
            self._tenants.add(tenant)
            entry.tenant = id
        self._changed()
        return tenant

    def get_tenant(self, actor: Caller, id: str) -> Tenant:
        """For any administrative role; outside system, its own tenant. Raises UnknownTenant, NotAllowed."""
        actor.require(*ADMINISTRATIVE)
        reach(actor, id)
        return self._tenant(id)

    def list_tenants(self, actor: Caller, page: PageRequest) -> Page[Tenant]:
        """For any administrative role; outside system, its own tenant alone. Oldest first."""
        actor.require(*ADMINISTRATIVE)
        return self._tenants.page(page) if actor.is_system else Page((self._tenant(actor.tenant),))

    def disable_tenant(self, actor: Caller, id: str) -> Tenant:
        """For an operator of system. Its keys are refused from now on. `system` cannot be disabled."""
        with self._trail.change(actor, "tenant.disable", id) as entry:
            require_system(actor, "operator")
            if id == SYSTEM_TENANT:
                raise InvalidRequest(f"The tenant '{SYSTEM_TENANT}' cannot be disabled: nobody could enable it again.")
            entry.tenant = self._tenant(id).id
            tenant = self._tenants.disable(id, self._now())
        self._changed()
        return tenant

    def enable_tenant(self, actor: Caller, id: str) -> Tenant:
        """For an operator of system."""
        with self._trail.change(actor, "tenant.enable", id) as entry:
            require_system(actor, "operator")
            entry.tenant = self._tenant(id).id
            tenant = self._tenants.enable(id)
        self._changed()
        return tenant

    def keep_responses(self, actor: Caller, id: str, seconds: int | None) -> Tenant:
        """For an operator of system. How long the tenant's responses are kept from now on; None: not at all.

        What is there already and would not be kept so long is not given out any more, and goes. Raises InvalidRequest.
        """
        kept = {"keep_responses": seconds or 0}
        with self._trail.change(actor, "tenant.keep_responses", id, kept) as entry:
            require_system(actor, "operator")
            check_keep(seconds)
            entry.tenant = self._tenant(id).id
            tenant = self._tenants.keep_responses(id, seconds)
        self._changed()
        return tenant

    def bound_tenant(
        self, actor: Caller, id: str, deployments: frozenset[str] | None, networks: tuple[Network, ...] | None
    ) -> Tenant:
        """For an operator of system, no wider than its own bounds. What all keys and token callers of the tenant may
        call, and from where, from now on; None: no such bound. Batches that run are bound too.

        Raises UnknownTenant, InvalidRequest, GrantTooWide (403).
        """
        asked = {
            "deployments": None if deployments is None else sorted(deployments),
            "networks": None if networks is None else [str(network) for network in networks],
        }
        with self._trail.change(actor, "tenant.bound", id, asked) as entry:
            require_system(actor, "operator")
            check_bounds(actor, deployments, networks)
            entry.tenant = self._tenant(id).id
            self._check_deployments(deployments or frozenset())
            check_named(deployments, networks)
            tenant = self._tenants.bound(id, deployments, networks)
        self._changed()
        return tenant

    # Keys

    def create_key(
        self,
        actor: Caller,
        tenant: str,
        name: str,
        *,
        roles: frozenset[Role] = frozenset({"inference"}),
        deployments: frozenset[str] | None = None,
        networks: tuple[Network, ...] | None = None,
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, Secret]:
        """For a key_admin, who has what it hands out. Only one of system grants `operator`. Where the actor's key has
        limits of its own, so has the new one, unless the actor is an operator.

        Raises GrantTooWide, RolesExclusive (403), UnknownTenant, InvalidRequest, TooManyKeys (400): the owner, a
        tenant's name, has two live keys.
        """
        rights = {
            "tenant": tenant,
            "name": name,
            "roles": sorted(roles),
            "deployments": None if deployments is None else sorted(deployments),
            "networks": None if networks is None else [str(network) for network in networks],
            "expires_at": None if expires_at is None else expires_at.isoformat(),
        }
        with self._trail.change(actor, "key.create", parameters=rights) as entry:
            check_grant(actor, Grant(tenant, roles, deployments, networks, expires_at))
            self._exclusive.check(roles)
            entry.tenant = self._tenant(tenant).id
            self._check_deployments(deployments or frozenset())
            key, secret = self._keyring.mint(
                tenant, name, expires_at, roles=roles, deployments=deployments, networks=networks
            )
            entry.target = key.id
            if not _is_operator(actor):
                self._hand_down_limits(actor.key_id, key)
        return key, secret

    def rotate_key(self, actor: Caller, id_or_prefix: str, *, grace: timedelta) -> tuple[ApiKey, Secret]:
        """For a key_admin who could create the key. The new key has the old one's rights, limits and lifetime; the old
        one goes on for `grace`. The key of an administrator ends no later than that of who rotates it, which is also
        how one's own is rotated without being prolonged.

        Raises UnknownKey, TooManyKeys (400): with another live key, the named one is replaced at once (grace 0) or
        not at all; InvalidRequest if it has ended.
        """
        seconds = {"grace_seconds": int(grace.total_seconds())}
        with self._trail.change(actor, "key.rotate", public_name(id_or_prefix), seconds) as entry:
            old = self._key(actor, id_or_prefix)
            entry.tenant, entry.target = old.tenant, old.id
            latest = actor.expires_at if old.roles & set(ADMINISTRATIVE) else None
            check_grant(actor, Grant(old.tenant, old.roles, old.deployments, old.networks, latest))
            key, secret = self._keyring.rotate(old.id, grace, latest=latest)
            entry.result = key.id
            self._hand_down_limits(old.id, key)
        return key, secret

    def revoke_key(self, actor: Caller, id_or_prefix: str) -> ApiKey:
        """For a key_admin. Takes the whole text of a leaked key too. Raises UnknownKey."""
        with self._trail.change(actor, "key.revoke", public_name(id_or_prefix)) as entry:
            key = self._key(actor, id_or_prefix)
            entry.tenant, entry.target = key.tenant, key.id
            return self._keyring.revoke(key.id)

    def list_keys(self, actor: Caller, tenant: str | None, page: PageRequest) -> Page[ApiKey]:
        """For a key_admin. tenant: None for all that the actor may see. Oldest first, also ended ones."""
        actor.require("key_admin")
        tenant = reach(actor, tenant)
        self.note_read(actor, "key.list", tenant)
        return self._keyring.page(None if tenant is None else self._tenant(tenant).id, page)

    # Limits

    def set_limits(self, actor: Caller, subject: Subject, limits: Limits) -> Subject:
        """Replace the subject's row. None: not set here, the configured default applies. 0: unlimited in spite of it.

        For an operator of system; limits of a key also for a key_admin of its tenant or of system, up to its own. Not
        of one's own key. A key is named by its id or prefix; the answer is the subject as kept. Raises UnknownKey,
        UnknownTenant, UnknownDeployment (404), GrantTooWide (403).
        """
        values = {field: value for field, value in asdict(limits).items() if value is not None}
        with self._trail.change(actor, "limits.set", _target(subject), values) as entry:
            subject, entry.tenant = self._limited(actor, subject)
            entry.target = _target(subject)
            if subject.scope == "deployment" and subject.id not in self._deployments:
                raise UnknownDeployment(f"No deployment has this name. {self._there_are()}")
            check_limits(limits)
            self._check_raise(actor, subject, limits)
            self._limits.set(subject, limits)
        self._changed()
        return subject

    def clear_limits(self, actor: Caller, subject: Subject) -> None:
        """Back to the configured defaults. For whom set_limits is for; what is not set stays so."""
        with self._trail.change(actor, "limits.clear", _target(subject)) as entry:
            subject, entry.tenant = self._limited(actor, subject)
            entry.target = _target(subject)
            self._check_raise(actor, subject, Limits())
            self._limits.clear(subject)
        self._changed()

    def list_limits(
        self, actor: Caller, page: PageRequest, scope: Scope | None = None, tenant: str | None = None
    ) -> Page[tuple[Subject, Limits]]:
        """The rows that are set, by scope and id. tenant: those of a tenant and its keys.

        For any administrative role; outside system, of its own tenant.
        """
        actor.require(*ADMINISTRATIVE)
        tenant = reach(actor, tenant)
        rows = {subject: row for subject, row in self._limits.all().items() if scope in (None, subject.scope)}
        if tenant is not None:
            theirs = {Subject("key", key.id) for key in self._keyring.list(self._tenant(tenant).id)}
            theirs.add(Subject("tenant", tenant))
            rows = {subject: row for subject, row in rows.items() if subject in theirs}
        return page_of(rows, page)

    # Reading

    def usage(self, actor: Caller, query: UsageQuery) -> Page[UsageRow]:
        """For an auditor or operator; outside system, of its own tenant. Sums, as the query groups them."""
        query = _own_usage(actor, query)
        self.note_read(actor, "usage.read", query.tenant)
        return self._usage.usage(query)

    def usage_records(self, actor: Caller, query: UsageQuery) -> Iterator[UsageRecord]:
        """For an auditor or operator; outside system, of its own tenant. The requests one by one, read in pieces: the
        iterator too blocks on the database.
        """
        query = _own_usage(actor, query)
        self.note_read(actor, "usage.records", query.tenant)
        return self._usage.records(query)

    def audit_records(self, actor: Caller, query: AuditQuery) -> Page[Record]:
        """For an auditor; outside system, of its own tenant. The newest first."""
        actor.require("auditor")
        query = replace(query, tenant=reach(actor, query.tenant))
        self.note_read(actor, "audit.read", query.tenant)
        return self._audit_store.find(query)

    def note_read(self, actor: Caller, action: str, tenant: str | None = None) -> None:
        """Somebody reads what not everybody may. tenant: whose; None: of all. Counted when it comes in numbers."""
        access = Access(action, "ok", actor.tenant, actor.key_id, actor.address, target=tenant or "all")
        self._access.note(access, actor.request_id)

    # The server's own start

    def bootstrap(self) -> Secret | None:
        """A key with all roles in system, called 'bootstrap', if system has no live key with key_admin."""
        self.ensure_tenant(SYSTEM_TENANT)
        if self._has_administrator():
            return None
        try:
            with self._trail.change(
                SERVER, "key.create", parameters={"name": "bootstrap", "roles": list(ROLES)}
            ) as entry:
                key, secret = self._keyring.mint(SYSTEM_TENANT, "bootstrap", roles=frozenset(ROLES))
                entry.target = key.id
        except TooManyKeys:
            if not self._has_administrator():  # else other processes, starting too, were quicker
                raise
            return None
        return secret

    def adopt_admin(self, secret: Secret) -> None:
        """Make a key text that was given from outside a key of system with all roles. Idempotent; a revoked one stays
        revoked. Raises InvalidRequest for a text that is no key's, or is that of a lesser key.
        """
        self.ensure_tenant(SYSTEM_TENANT)
        key = self._keyring.known(secret)
        if key is None:
            with self._trail.change(SERVER, "key.adopt", public_name(secret.reveal())):
                key = self._keyring.adopt(SYSTEM_TENANT, "adopted", secret, roles=frozenset(ROLES))
        if key.tenant != SYSTEM_TENANT or "key_admin" not in key.roles:
            raise InvalidRequest("This is the text of a key that is no administrator's. Make another one.")

    def ensure_tenant(self, id: str) -> None:
        """Register a tenant that the configuration names, unless it is registered. Raises InvalidRequest."""
        try:
            self._tenants.get(id)
        except UnknownTenant:
            self._register(id)

    def _register(self, id: str) -> None:
        tenant = Tenant(id, id, self._now())
        check_new(tenant)
        with self._trail.change(SERVER, "tenant.create", id, {"name": id}) as entry:
            entry.tenant = id
            try:
                self._tenants.add(tenant)
            except TenantExists:
                return  # another process, starting too, was quicker
        self._changed()

    def _has_administrator(self) -> bool:
        now = self._now()
        return any("key_admin" in k.roles and k.status(now) == "active" for k in self._keyring.list(SYSTEM_TENANT))

    def _changed(self) -> None:
        with suppress(StoreUnavailable):  # the change is made; the book takes it over as soon as it can read
            self._on_change()

    def _tenant(self, id: str) -> Tenant:
        if not id.isprintable():  # PostgreSQL fails on a NUL
            raise UnknownTenant
        return self._tenants.get(id)

    def _key(self, actor: Caller, id_or_prefix: str) -> ApiKey:
        """A key that the actor administers. Those of other tenants look as if they did not exist."""
        actor.require("key_admin")
        key = self._keyring.get(id_or_prefix)
        if not actor.is_system and key.tenant != actor.tenant:
            raise UnknownKey
        return key

    def _limited(self, actor: Caller, subject: Subject) -> tuple[Subject, str]:
        """The subject as it is kept, and the tenant that it belongs to, if the actor may limit it."""
        if subject.scope == "key" and not subject.id.startswith(IDENTITY):
            key = self._keyring.get(subject.id) if _is_operator(actor) else self._key(actor, subject.id)
            return Subject("key", key.id), key.tenant
        require_system(actor, "operator")
        if subject.scope == "tenant":
            return subject, self._tenant(subject.id).id
        if not (subject.id.isprintable() and len(subject.id) <= LONGEST_ID):
            raise InvalidRequest(f"An id is 1 to {LONGEST_ID} printable characters.", param="id")
        return subject, SYSTEM_TENANT

    def _check_raise(self, actor: Caller, subject: Subject, row: Limits) -> None:
        """Raise GrantTooWide where the actor would raise itself, or another above itself."""
        if subject.scope != "key":
            return
        check_own(actor, subject.id)
        if not _is_operator(actor):
            check_limits_within(self._key_limits(actor.key_id), row.over(self._default_limits))

    def _key_limits(self, key_id: str) -> Limits:
        return self._limits.get(Subject("key", key_id)).over(self._default_limits)

    def _hand_down_limits(self, key_id: str, new: ApiKey) -> None:
        """What is set for one key is set for a new one too. A new key that has not got it does not stay."""
        try:
            row = self._limits.get(Subject("key", key_id))
            if row != Limits():
                self._limits.set(Subject("key", new.id), row)
        except StoreUnavailable:
            with suppress(StoreUnavailable):
                self._keyring.revoke(new.id)
            raise
        if row != Limits():
            self._changed()

    def _check_deployments(self, names: frozenset[str]) -> None:
        if not names <= set(self._deployments):
            raise InvalidRequest(f"deployments: {self._there_are()}", param="deployments")

    def _there_are(self) -> str:
        return f"There are: {', '.join(sorted(self._deployments))}."


def _is_operator(actor: Caller) -> bool:
    """Of system: whose limits are whatever it says."""
    return actor.is_system and "operator" in actor.roles


def _own_usage(actor: Caller, query: UsageQuery) -> UsageQuery:
    actor.require("auditor", "operator")
    return replace(query, tenant=reach(actor, query.tenant))


def _target(subject: Subject) -> str:
    """The subject in the audit log. What is no id of a key may be a whole key, pasted."""
    id = subject.id
    if subject.scope == "key" and not id.startswith(IDENTITY):
        id = public_name(id)
    return f"{subject.scope}:{id}"
