"""Admission: what a request must pass and hold before an engine sees it. The audit, a place here, quotas everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from serving.tenants.callers import Caller
from serving.tenants.capacity import Capacity, Nowhere, Place
from serving.tenants.limits import Limits, Subject
from serving.tenants.quotas import Claim, Lease, Quotas, RateState, Usage


class Policies(Protocol):
    def limits_of(self, subject: Subject) -> Limits:
        """The limits in force for a subject. Memory only: it is asked three times a request."""
        ...


class Admission:
    """check_audit: raises when nothing may be served because it could not be audited."""

    def __init__(
        self, *, capacity: Capacity, quotas: Quotas, policies: Policies, check_audit: Callable[[], None]
    ) -> None:
        self._capacity = capacity
        self._quotas = quotas
        self._policies = policies
        self._check_audit = check_audit

    async def reserve(
        self, caller: Caller, deployment: str, *, request_id: str, tokens: int, batch: bool = False
    ) -> Lease:
        """Hold a place and `tokens` on the limits of the key, the tenant and the deployment, all of them or none.

        batch: a line of a batch. It takes nobody's place and none of the limits per minute: those are for people who
        wait, and the batch worker has a pace of its own. Budgets per day and month hold for it too.

        Raises AuditUnavailable (503), TooManyRequests and its kin (429), QuotasUnavailable (503).
        """
        self._check_audit()
        place = Nowhere() if batch else self._capacity.take(deployment)
        try:
            lease = await self._quotas.reserve(self._claim(caller, deployment, request_id, tokens, batch))
        except BaseException:
            place.leave()
            raise
        return Admitted(lease, place)

    def _claim(self, caller: Caller, deployment: str, request_id: str, tokens: int, batch: bool) -> Claim:
        subjects = (Subject("key", caller.key_id), Subject("tenant", caller.tenant), Subject("deployment", deployment))
        limits = {subject: self._policies.limits_of(subject) for subject in subjects}
        if batch:
            limits = {subject: one.budgets() for subject, one in limits.items()}
        return Claim(id=request_id, limits=limits, tokens=tokens)


class Admitted:
    """The Lease of an admitted request: its quotas and its place."""

    __slots__ = ("_lease", "_place")

    def __init__(self, lease: Lease, place: Place | Nowhere) -> None:
        self._lease = lease
        self._place = place

    @property
    def requests(self) -> RateState | None:
        return self._lease.requests

    @property
    def tokens(self) -> RateState | None:
        return self._lease.tokens

    def settle(self, usage: Usage) -> None:
        self._place.leave()
        self._lease.settle(usage)
