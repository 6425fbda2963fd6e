"""Searches the highest rate that still meets the objective. Knows no server: `meets` says what a rate did."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Capacity:
    """highest: a rate that met the objective, 0 when none did. lowest_missed: one that did not; None when none did not.

    reliable: False when the client gave up before the server did; then the truth is at or above `highest`.
    """

    highest: float
    lowest_missed: float | None
    reliable: bool = True


def search(meets: Callable[[float], bool | None], first: float, *, precision: float = 0.1, most: int = 14) -> Capacity:
    """Double the rate until it misses (or halve it until it meets), then bisect to this precision.

    meets: True met, False missed, None the run was invalid. most: how many rates are tried at most.
    """
    low, high, rate = 0.0, None, first
    for _ in range(most):
        met = meets(rate)
        if met is None:
            return Capacity(low, high, reliable=False)
        if met:
            low = max(low, rate)
        else:
            high = rate if high is None else min(high, rate)
        if high is not None and low and high <= low * (1 + precision):
            break
        if high is None:
            rate *= 2
        elif not low:
            rate /= 2
        else:
            rate = (low * high) ** 0.5
    return Capacity(low, high)
