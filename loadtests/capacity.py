"""Searches the highest rate that still meets the objective. Knows no server: `meets` says what a rate did."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Capacity:
    """highest: a rate that met the objective, 0 when none did. bound: the lowest that did not; None when all did.

    reliable: False when the run at the bound was invalid, for the client was its bottleneck; then the server may carry
    more than `highest`.
    """

    highest: float
    bound: float | None
    reliable: bool = True


def search(meets: Callable[[float], bool | None], first: float, *, precision: float = 0.1, most: int = 14) -> Capacity:
    """Double the rate until it misses (or halve it until it meets), then bisect to this precision.

    meets: True met, False missed, None the run was invalid. most: how many rates are tried at most.
    """
    found, rate = Capacity(0.0, None), first
    for _ in range(most):
        met = meets(rate)
        found = Capacity(rate, found.bound, found.reliable) if met else Capacity(found.highest, rate, met is not None)
        low, high = found.highest, found.bound
        if high is None:
            rate *= 2
        elif not low:
            rate /= 2
        elif high <= low * (1 + precision):
            break
        else:
            rate = (low * high) ** 0.5
    return found
