"""Requests in flight: how many are admitted, and how a lease is given back."""

from __future__ import annotations

import pytest

from serving.errors import TooManyRequests
from serving.tenants.keys import Caller
from serving.tenants.quotas import InFlightQuotas, Usage

CALLER = Caller(tenant="ward", key_id="x", key_name="tests")


async def test_a_deployment_is_full_at_its_limit_and_the_others_are_not() -> None:
    quotas = InFlightQuotas(total=10, per_deployment={"a": 2, "b": 1})
    for name in ("a", "a", "b"):
        await quotas.reserve(CALLER, name)
    for name, limit in (("a", 2), ("b", 1)):
        with pytest.raises(TooManyRequests, match=f"'{name}' is answering {limit} requests") as refused:
            await quotas.reserve(CALLER, name)
        assert refused.value.retry_after == 1.0


async def test_the_server_is_full_at_the_total_of_all() -> None:
    quotas = InFlightQuotas(total=2, per_deployment={"a": 2, "b": 2})
    await quotas.reserve(CALLER, "a")
    await quotas.reserve(CALLER, "b")
    with pytest.raises(TooManyRequests, match="The server is answering 2 requests"):
        await quotas.reserve(CALLER, "a")


async def test_a_settled_lease_makes_room_once_however_often_it_is_settled() -> None:
    quotas = InFlightQuotas(total=9, per_deployment={"a": 2})
    first, _ = [await quotas.reserve(CALLER, "a") for _ in range(2)]
    for _ in range(3):
        first.settle(Usage(completion=5))
    await quotas.reserve(CALLER, "a")
    with pytest.raises(TooManyRequests):
        await quotas.reserve(CALLER, "a")


async def test_a_refusal_holds_nothing() -> None:
    quotas = InFlightQuotas(total=1, per_deployment={"a": 1})
    lease = await quotas.reserve(CALLER, "a")
    for _ in range(3):
        with pytest.raises(TooManyRequests):
            await quotas.reserve(CALLER, "a")
    lease.settle(Usage())
    await quotas.reserve(CALLER, "a")
