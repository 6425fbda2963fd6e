"""Admission: all of audit, place and quotas, or nothing held."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from serving.errors import NotAllowed, TooManyRequests
from serving.tenants.admission import Admission
from serving.tenants.callers import Caller
from serving.tenants.capacity import Capacity
from serving.tenants.limits import Limits, Subject
from serving.tenants.quotas import Claim, Lease, NoQuotas, Unlimited, Usage

CALLER = Caller(tenant="ward", key_id="k1", key_name="tests")


@dataclass
class Book:
    """Policies of the test's own; everything else is unlimited."""

    limits: dict[Subject, Limits] = field(default_factory=dict)

    def limits_of(self, subject: Subject) -> Limits:
        return self.limits.get(subject, Limits())


class KeptClaims(NoQuotas):
    def __init__(self, error: BaseException | None = None) -> None:
        self.claims: list[Claim] = []
        self.error = error

    async def reserve(self, claim: Claim) -> Lease:
        self.claims.append(claim)
        if self.error:
            raise self.error
        return Unlimited()


def admission(quotas: KeptClaims, book: Book | None = None, error: Exception | None = None) -> Admission:
    def check_audit() -> None:
        if error:
            raise error

    return Admission(
        capacity=Capacity(total=1, per_deployment={"echo": 1}),
        quotas=quotas,
        policies=book or Book(),
        check_audit=check_audit,
    )


async def test_a_request_claims_on_its_key_its_tenant_and_its_deployment_at_once() -> None:
    quotas, tenant = KeptClaims(), Subject("tenant", "ward")
    few = Limits(requests_per_minute=5)
    await admission(quotas, Book({tenant: few})).reserve(CALLER, "echo", request_id="r", tokens=7)
    (claim,) = quotas.claims
    assert (claim.id, claim.tokens) == ("r", 7)
    assert claim.limits == {Subject("key", "k1"): Limits(), tenant: few, Subject("deployment", "echo"): Limits()}


@pytest.mark.parametrize("error", [TooManyRequests(), asyncio.CancelledError()])
async def test_a_request_without_quota_leaves_its_place(error: BaseException) -> None:
    quotas = KeptClaims(error)
    admits = admission(quotas)
    for _ in range(2):  # there is one place
        with pytest.raises(type(error)):
            await admits.reserve(CALLER, "echo", request_id="r", tokens=7)
    quotas.error = None
    await admits.reserve(CALLER, "echo", request_id="r", tokens=7)


async def test_settling_gives_the_place_back() -> None:
    admits = admission(KeptClaims())
    (await admits.reserve(CALLER, "echo", request_id="r", tokens=7)).settle(Usage())
    await admits.reserve(CALLER, "echo", request_id="r", tokens=7)


async def test_what_cannot_be_audited_holds_nothing() -> None:
    quotas = KeptClaims()
    with pytest.raises(NotAllowed):
        await admission(quotas, error=NotAllowed()).reserve(CALLER, "echo", request_id="r", tokens=7)
    assert quotas.claims == []
