"""A deployment's router: what it counts, whom it leaves alone."""

from __future__ import annotations

import random
from typing import Any

from serving.engines.engine import BATCH, EngineRequest
from serving.routing.router import Router, Seat
from serving.routing.rules import Choice, PowerOfTwo, PrefixAffinity

TWO = {"a": "http://a/v1", "b": "http://b/v1"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def a_chat(text: str = "Hello", **fields: Any) -> EngineRequest:
    body = {"messages": [{"role": "user", "content": text}]}
    return EngineRequest("chat", body, stream=True, request_id="req_1", cache_salt="salt", **fields)


def router(**options: Any) -> Router:
    return Router(PowerOfTwo(random.Random(1)), **options)


def names(seats: list[Seat]) -> list[str]:
    return sorted(seat.url[7] for seat in seats)


def test_requests_that_stay_are_spread_evenly() -> None:
    of = router()
    assert names([of.seat(a_chat(), TWO) for _ in range(10)]) == ["a"] * 5 + ["b"] * 5


def test_who_has_left_is_not_counted_however_often_it_says_so() -> None:
    of = router()
    seats = [of.seat(a_chat(), TWO) for _ in range(10)]
    for seat in seats:
        if seat.url == TWO["a"]:
            seat.left()
            seat.left()
            seat.began()
    assert names([of.seat(a_chat(), TWO) for _ in range(5)]) == ["a"] * 5


def test_a_prompt_that_has_been_read_weighs_less_than_one_that_waits() -> None:
    of = router()
    long = of.seat(a_chat("word " * 2000), TWO)
    others = [of.seat(a_chat(), TWO) for _ in range(6)]
    assert long.url not in {seat.url for seat in others}
    long.began()
    assert {of.seat(a_chat(), TWO).url for _ in range(4)} == {long.url}


def test_interactive_requests_do_not_see_lines_of_batches_but_lines_see_all() -> None:
    of = router()
    for _ in range(4):
        of.seat(a_chat(priority=BATCH), {"a": TWO["a"]})
    assert names([of.seat(a_chat(), TWO) for _ in range(4)]) == ["a", "a", "b", "b"]
    assert names([of.seat(a_chat(priority=BATCH), TWO) for _ in range(4)]) == ["b"] * 4


def test_a_replica_that_was_not_reached_is_left_alone_for_a_while() -> None:
    """With nothing to do it would be everybody's choice."""
    clock = Clock()
    of = router(clock=clock)
    seat = of.seat(a_chat(), {"a": TWO["a"]})
    seat.broke()
    seat.left()
    assert names([of.seat(a_chat(), TWO) for _ in range(4)]) == ["b"] * 4
    clock.now = 3.1
    assert of.seat(a_chat(), TWO).url == TWO["a"]


def test_the_only_replica_is_asked_although_it_was_not_reached() -> None:
    of = router()
    seat = of.seat(a_chat(), {"a": TWO["a"]})
    seat.broke()
    seat.left()
    assert of.seat(a_chat(), {"a": TWO["a"]}, avoid=[TWO["a"]]).url == TWO["a"]


def test_a_replica_that_did_not_take_this_request_is_not_asked_again() -> None:
    of = router()
    assert {of.seat(a_chat(), TWO, avoid=[TWO["a"]]).url for _ in range(5)} == {TWO["b"]}


def test_every_choice_is_told_with_its_reason() -> None:
    told: list[Choice] = []
    of = Router(PrefixAffinity(PowerOfTwo(random.Random(1))), on_choice=told.append)
    for text in ("Hello", "word " * 2000, "word " * 2000):
        of.seat(a_chat(text), TWO).left()
    assert [choice.why for choice in told] == ["load", "home", "known"]
    assert told[1].replica == told[2].replica
