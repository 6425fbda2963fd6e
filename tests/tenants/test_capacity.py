"""Places for requests in one gateway: how many there are, and how one is given back."""

from __future__ import annotations

import pytest

from serving.errors import TooManyRequests
from serving.tenants.capacity import Capacity


def test_a_deployment_is_full_at_its_limit_and_the_others_are_not() -> None:
    capacity = Capacity(total=10, per_deployment={"a": 2, "b": 1})
    for name in ("a", "a", "b"):
        capacity.take(name)
    for name, limit in (("a", 2), ("b", 1)):
        with pytest.raises(TooManyRequests, match=f"'{name}' is answering {limit} requests") as refused:
            capacity.take(name)
        assert refused.value.retry_after == 1.0


def test_the_server_is_full_at_the_total_of_all() -> None:
    capacity = Capacity(total=2, per_deployment={"a": 2, "b": 2})
    capacity.take("a")
    capacity.take("b")
    with pytest.raises(TooManyRequests, match="The server is answering 2 requests"):
        capacity.take("a")


def test_a_place_is_given_back_once_however_often_one_leaves_it() -> None:
    capacity = Capacity(total=9, per_deployment={"a": 2})
    first, _ = [capacity.take("a") for _ in range(2)]
    for _ in range(3):
        first.leave()
    capacity.take("a")
    with pytest.raises(TooManyRequests):
        capacity.take("a")


def test_a_refusal_holds_nothing() -> None:
    capacity = Capacity(total=1, per_deployment={"a": 1})
    place = capacity.take("a")
    for _ in range(3):
        with pytest.raises(TooManyRequests):
            capacity.take("a")
    place.leave()
    capacity.take("a")
