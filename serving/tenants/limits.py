"""Limits: what a key, a tenant or a deployment may use. Where they are kept, and the book that requests look into."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, Protocol, get_args

from serving.errors import InvalidRequest
from serving.tenants.callers import SYSTEM_TENANT, Caller
from serving.tenants.paging import Page, PageRequest, bad_cursor
from serving.tenants.registry import Tenant, TenantDisabled, TenantStore
from serving.tenants.stores import StoreUnavailable

Scope = Literal["key", "tenant", "deployment"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

TenantState = Literal["active", "disabled", "refused", "unknown"]
HIGHEST_LIMIT = 10**12


@dataclass(frozen=True, slots=True)
class Subject:
    """What a limit is for: a key (by `Caller.key_id`), a tenant or a deployment (by name)."""

    scope: Scope
    id: str


@dataclass(frozen=True, slots=True)
class Limits:
    """None: unlimited. Minutes are any 60 seconds; days and months are UTC's.

    In a row of the LimitStore, and there only, None means "not set here", and 0 unlimited in spite of a default.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    concurrent_requests: int | None = None

    def over(self, defaults: Limits) -> Limits:
        """What is in force: this row, and the defaults where it sets nothing."""
        mine, others = asdict(self), asdict(defaults)
        chosen = {field: others[field] if mine[field] is None else mine[field] for field in mine}
        return Limits(**{field: value or None for field, value in chosen.items()})

    def budgets(self) -> Limits:
        """Of these the ones for a day and a month."""
        return Limits(tokens_per_day=self.tokens_per_day, tokens_per_month=self.tokens_per_month)


def check_limits(row: Limits) -> None:
    """Raise InvalidRequest for values that mean nothing."""
    for field, value in asdict(row).items():
        if value is not None and not (type(value) is int and 0 <= value <= HIGHEST_LIMIT):
            raise InvalidRequest(
                f"{field} is 1 to {HIGHEST_LIMIT}, or 0 for unlimited in spite of a default.", param=field
            )


def page_of(rows: Mapping[Subject, Limits], page: PageRequest) -> Page[tuple[Subject, Limits]]:
    """A page of rows in the order of scope and id; the cursor is both, since the row itself may be gone by then."""
    ordered = sorted(rows, key=_place)
    if page.after is not None:
        scope, _, id = page.after.partition(":")
        if scope not in SCOPES:
            raise bad_cursor()
        ordered = [subject for subject in ordered if _place(subject) > (scope, id)]
    items = tuple((subject, rows[subject]) for subject in ordered[: page.limit])
    return Page(items, ":".join(_place(items[-1][0])) if len(ordered) > page.limit else None)


def _place(subject: Subject) -> tuple[str, str]:
    return subject.scope, subject.id


class LimitStore(Protocol):
    """Where limits are kept. Called from several threads at once. Every method may raise `StoreUnavailable`."""

    def get(self, subject: Subject) -> Limits:
        """The subject's row; one that sets nothing if there is none."""

    def set(self, subject: Subject, limits: Limits) -> None:
        """Replace the subject's row."""

    def clear(self, subject: Subject) -> None:
        """Remove the subject's row, if there is one."""

    def all(self) -> Mapping[Subject, Limits]:
        """Every row. There are as many as somebody set by hand, so they are read whole."""


class MemoryLimits:
    """Limits that end with the process."""

    def __init__(self) -> None:
        self._rows: dict[Subject, Limits] = {}
        self._lock = threading.Lock()

    def get(self, subject: Subject) -> Limits:
        return self._rows.get(subject, Limits())

    def set(self, subject: Subject, limits: Limits) -> None:
        with self._lock:
            self._rows[subject] = limits

    def clear(self, subject: Subject) -> None:
        with self._lock:
            self._rows.pop(subject, None)

    def all(self) -> Mapping[Subject, Limits]:
        with self._lock:
            return dict(self._rows)


@dataclass(frozen=True, slots=True)
class Policies:
    """What both stores said at one time."""

    limits: Mapping[Subject, Limits]
    tenants: Mapping[str, Tenant]
    keeps: Mapping[str, int]
    read_at: float


class PolicyBook:
    """The limits and the tenants in force, from memory: requests ask it several times each and wait for nothing.

    It follows the stores: this process's changes by `refresh`, those of others every `every` seconds. While a store is
    away, what was last read stays in force; each failed attempt calls `on_stale`, and `age` grows. Before the first
    success nothing is known, so everything is refused with StoreUnavailable (503) rather than served without limits.

    defaults: for subjects of a scope, where their row sets nothing. timeout: seconds after which a store is away.
    """

    def __init__(
        self,
        tenants: TenantStore,
        limits: LimitStore,
        *,
        defaults: Mapping[Scope, Limits],
        every: float = 2.0,
        timeout: float = 5.0,
        on_stale: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tenants = tenants
        self._limits = limits
        self._defaults = {scope: Limits().over(defaults.get(scope, Limits())) for scope in SCOPES}
        self._every = every
        self._timeout = timeout
        self._on_stale = on_stale
        self._clock = clock
        self._policies: Policies | None = None
        self._reading = threading.Lock()
        self._attempt: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None

    def limits_of(self, subject: Subject) -> Limits:
        """The limits in force for a subject. Raises StoreUnavailable before the first success."""
        return self._in_force().limits.get(subject, self._defaults[subject.scope])

    def tenant_state(self, tenant: str) -> TenantState:
        """`system` is always active: it is who could enable it. Raises StoreUnavailable before the first success."""
        if tenant == SYSTEM_TENANT:
            return "active"
        known = self._in_force().tenants.get(tenant)
        return "unknown" if known is None else known.status

    def check_tenant(self, tenant: str) -> None:
        """Raise TenantDisabled unless the tenant is active."""
        state = self.tenant_state(tenant)
        if state == "disabled":
            raise TenantDisabled
        if state == "refused":
            raise TenantDisabled("The tenant of this key is refused. Its administrator can say why.")
        if state == "unknown":
            raise TenantDisabled("The tenant of this key is not registered. One that is new is known within seconds.")

    def bounded(self, caller: Caller) -> Caller:
        """The caller with no more than its tenant may: the one place where tenants' bounds are put on callers.

        Raises as `check_tenant`, for `system` too before the first success: it may have bounds.
        """
        self.check_tenant(caller.tenant)
        tenant = self._in_force().tenants.get(caller.tenant)
        return caller if tenant is None else caller.within(tenant.deployments, tenant.networks)

    def keeps(self) -> Mapping[str, int]:
        """Seconds for which responses are kept, by tenant, of those that keep any. Raises StoreUnavailable likewise."""
        return self._in_force().keeps

    @property
    def age(self) -> float | None:
        """Seconds since the stores were read, None before the first success."""
        return None if self._policies is None else self._clock() - self._policies.read_at

    def refresh(self) -> None:
        """Read both stores whole, or raise StoreUnavailable and keep what is in force. Blocks."""
        with self._reading:  # or who began earlier could end later, and put back what was in force before
            read_at = self._clock()
            limits = {subject: row.over(self._defaults[subject.scope]) for subject, row in self._limits.all().items()}
            registered = self._tenants.all()
            tenants = {tenant.id: tenant for tenant in registered}
            keeps = {tenant.id: tenant.keep_responses for tenant in registered if tenant.keep_responses is not None}
            self._policies = Policies(limits, tenants, keeps, read_at)

    async def start(self) -> None:
        """Read the stores, and go on following them. A store that is away now is tried again; see the class."""
        await self._follow()
        self._following = asyncio.create_task(self.keep_fresh())

    async def keep_fresh(self) -> None:
        """Follow the stores until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            try:
                await self._follow()
            except Exception:  # a row that nobody can read; going on with what is in force, and counted
                self._on_stale()

    async def close(self) -> None:
        tasks = [task for task in (self._following, self._attempt) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        """One attempt at a time: a store that hangs holds one thread, not one more every few seconds."""
        if self._attempt is None or self._attempt.done():
            self._attempt = asyncio.create_task(asyncio.to_thread(self.refresh))
            self._attempt.add_done_callback(_seen)
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.shield(self._attempt)
        except (StoreUnavailable, TimeoutError):
            self._on_stale()

    def _in_force(self) -> Policies:
        if self._policies is None:
            raise StoreUnavailable
        return self._policies


def _seen(attempt: asyncio.Task[None]) -> None:
    if not attempt.cancelled():
        attempt.exception()  # who waited may have left; asyncio would log "exception was never retrieved"
