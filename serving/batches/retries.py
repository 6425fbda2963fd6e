"""Whether a line's request is made again, and when."""

from __future__ import annotations

import random
from collections.abc import Callable

from serving.batches.lines import Answer

LONGEST = 60.0
LONGEST_TOLD = 300.0
"""Seconds; the second for a Retry-After, which for a day's budget may be hours."""
_BROKE = frozenset({408, 500, 502, 504})


def wait_before_another(
    answer: Answer, attempt: int, *, tries: int, chance: Callable[[], float] = random.random
) -> float | None:
    """Seconds until the line is tried again; None: this answer is its result. attempt: from 1.

    503, and 429 with a Retry-After, say that nothing was generated and that it may be later: again until the batch
    expires. What broke is tried `tries` times in all. A 429 without a Retry-After is for good: the line alone is above
    a limit (tenants/quotas.py, RequestTooLarge); so is what the server says to be final.
    """
    if answer.is_final:
        return None
    later = answer.status == 503 or (answer.status == 429 and answer.retry_after is not None)
    if not later and (answer.status not in _BROKE or attempt >= tries):
        return None
    spread = 0.5 + chance() / 2  # so that not all come at the same time
    own: float = min(LONGEST, 0.25 * 2 ** min(attempt, 10)) * spread
    return max(own, min(LONGEST_TOLD, answer.retry_after or 0.0))
