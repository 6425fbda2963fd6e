"""Whether what clients saw is what was charged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.fleet.streams import Ended


@dataclass(frozen=True, slots=True)
class Books:
    """Requests: charged another number of tokens than their clients counted; more than once; less than was seen before
    they broke; whole and not charged at all.
    """

    wrong: int = 0
    twice: int = 0
    too_little: int = 0
    missing: int = 0

    @property
    def exact(self) -> bool:
        return self == Books()

    @property
    def nobody_twice(self) -> bool:
        return not self.twice and not self.wrong


def books_of(ended: Sequence[Ended], charged: Mapping[str, Sequence[Mapping[str, Any]]]) -> Books:
    """charged: the ledger's records by request id."""
    wrong = twice = too_little = missing = 0
    for one in ended:
        records = charged.get(one.request_id, ())
        tokens = records[0]["completion_tokens"] if records else 0
        twice += len(records) > 1
        if one.outcome == "ok":
            missing += not records
            wrong += bool(records) and tokens != one.counted
        elif one.outcome == "error event":
            too_little += tokens < one.seen
    return Books(wrong, twice, too_little, missing)
