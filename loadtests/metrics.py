"""What is counted and timed: one row for each request, tallies of rows, histograms that merge without loss.

Times are seconds. The definitions are printed at the end of every report (`DEFINITIONS`). Nothing here sends or waits.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

Kind = Literal[
    "ok",  # the whole answer, in order, with its usage
    "left",  # the client left on purpose
    "limited",  # 429 that says when to come back
    "limited_bare",  # 429 that does not
    "unauthorized",  # 401 or 403
    "refused",  # any other 4xx
    "unavailable",  # 503
    "failed",  # any other 5xx
    "error_event",  # the stream said that it failed
    "broken",  # the stream ended without [DONE]
    "malformed",  # events in a wrong order, no usage, or no JSON
    "timeout",  # the client gave up waiting
    "unreachable",  # no connection, or it broke before a status
    "unfinished",  # still running when the run ended
    "dropped",  # never sent: the client had no place for it
]
WHOLE: frozenset[Kind] = frozenset({"ok"})

DEFINITIONS = {
    "intended": "when the schedule wanted it sent. Every latency counts from here, so a late client shows in it",
    "TTFT": "intended until the first event with text (content, reasoning or a tool's arguments; a role is none)",
    "ITL": "gaps between events with text. Below 0.9 events a token these are gaps between events, not tokens",
    "TPOT": "(end - first text) / (answer tokens - 1); tokens as the server's usage counts them; none for one token",
    "E2E": "intended until [DONE], or until the error",
    "normalised": "E2E / answer tokens",
    "good": "answered in full (or as the scenario wants) and within every limit of its objective",
    "attainment": "good / offered. Offered is all that the schedule wanted in the measured window: 429, 5xx, timeouts "
    "and what the client could not send are in it",
    "goodput": "good requests a second of the measured window",
    "client lag": "sent - intended: the client's own lateness, which is in every TTFT and E2E above",
}


@dataclass
class Histogram:
    """Counts in buckets that are 1 % wide, from 10 microseconds up. Merging is adding, so it loses nothing."""

    counts: Counter[int] = field(default_factory=Counter)
    total: float = 0.0
    least: float = math.inf
    most: float = -math.inf

    FLOOR = 1e-5
    GROWTH = 1.01
    _LOG = math.log(GROWTH)

    def add(self, value: float) -> None:
        self.counts[self._bucket(value)] += 1
        self.total += value
        self.least = min(self.least, value)
        self.most = max(self.most, value)

    @property
    def count(self) -> int:
        return self.counts.total()

    @property
    def mean(self) -> float:
        return self.total / self.count if self.counts else math.nan

    def percentile(self, share: float) -> float:
        """The value that this share of all values does not exceed, within half a bucket (0.5 %); nan without values."""
        rank, seen = math.ceil(share * self.count), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= max(1, rank):
                return min(self.most, max(self.least, self._middle(bucket)))
        return math.nan

    def curve(self) -> list[tuple[float, float]]:
        """The cumulative distribution: (value, share of values up to it)."""
        seen, points = 0, []
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            points.append((self._middle(bucket), seen / self.count))
        return points

    def merge(self, other: Self) -> None:
        self.counts.update(other.counts)
        self.total += other.total
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)

    def packed(self) -> list[Any]:
        """As plain lists, for a message or a file."""
        if not self.counts:
            return []
        return [self.total, self.least, self.most, *(number for item in sorted(self.counts.items()) for number in item)]

    @classmethod
    def unpacked(cls, data: list[Any]) -> Self:
        if not data:
            return cls()
        total, least, most, *pairs = data
        return cls(Counter(dict(zip(pairs[::2], pairs[1::2], strict=True))), total, least, most)

    def _bucket(self, value: float) -> int:
        return max(0, int(math.log(max(value, self.FLOOR) / self.FLOOR) / self._LOG))

    def _middle(self, bucket: int) -> float:
        return float(self.FLOOR * self.GROWTH ** (bucket + 0.5))


@dataclass(frozen=True, slots=True)
class Row:
    """One request that the schedule wanted. intended, sent, first and end are seconds since the run's begin."""

    flow: str
    label: str
    stage: str
    tenant: str
    number: int
    kind: Kind
    good: bool
    measured: bool
    status: int
    attempts: int
    intended: float
    sent: float | None
    first: float | None
    end: float
    prompt_tokens: int
    answer_tokens: int
    frames: int
    stall: float

    @property
    def lag(self) -> float | None:
        return None if self.sent is None else self.sent - self.intended

    @property
    def ttft(self) -> float | None:
        return None if self.first is None else self.first - self.intended

    @property
    def e2e(self) -> float:
        return self.end - self.intended

    @property
    def tpot(self) -> float | None:
        """Undefined for one token, and for an answer that is not whole: its tokens are not known."""
        if self.kind != "ok" or self.first is None or self.answer_tokens < 2:
            return None
        return (self.end - self.first) / (self.answer_tokens - 1)

    @property
    def normalised(self) -> float | None:
        return self.e2e / self.answer_tokens if self.kind == "ok" and self.answer_tokens else None


STALL_S = 1.0
TIMES = ("ttft", "itl", "tpot", "e2e", "normalised", "lag")


@dataclass
class Tally:
    """Sums over requests. Every offered request is of exactly one kind, so `offered` is the sum of `kinds`."""

    kinds: Counter[str] = field(default_factory=Counter)
    good: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    good_tokens: int = 0
    frames: int = 0
    stalled: int = 0
    times: dict[str, Histogram] = field(default_factory=lambda: {name: Histogram() for name in TIMES})

    @property
    def offered(self) -> int:
        return self.kinds.total()

    @property
    def attainment(self) -> float:
        return self.good / self.offered if self.offered else math.nan

    @property
    def frames_per_token(self) -> float:
        return self.frames / self.answer_tokens if self.answer_tokens else math.nan

    def add(self, row: Row, gaps: Iterable[float] = ()) -> None:
        self.kinds[row.kind] += 1
        self.good += row.good
        self.attempts += row.attempts
        self.prompt_tokens += row.prompt_tokens
        self.answer_tokens += row.answer_tokens
        self.good_tokens += row.answer_tokens if row.good else 0
        self.frames += row.frames if row.kind == "ok" else 0
        self.stalled += row.stall > STALL_S
        whole = row.kind in ("ok", "left")  # how fast a refusal came says nothing about answers
        for name, value in (
            ("ttft", row.ttft if whole else None),
            ("tpot", row.tpot),
            ("e2e", row.e2e if row.kind == "ok" else None),
            ("normalised", row.normalised),
            ("lag", row.lag),
        ):
            if value is not None:
                self.times[name].add(value)
        for gap in gaps:
            self.times["itl"].add(gap)

    def merge(self, other: Self) -> None:
        self.kinds.update(other.kinds)
        for name in ("good", "attempts", "prompt_tokens", "answer_tokens", "good_tokens", "frames", "stalled"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, histogram in other.times.items():
            self.times[name].merge(histogram)

    def packed(self) -> dict[str, Any]:
        plain = asdict(self) | {"kinds": dict(self.kinds)}
        return plain | {"times": {name: histogram.packed() for name, histogram in self.times.items()}}

    @classmethod
    def unpacked(cls, data: Mapping[str, Any]) -> Self:
        times = {name: Histogram.unpacked(packed) for name, packed in data["times"].items()}
        return cls(**{**data, "kinds": Counter(data["kinds"]), "times": times})


Key = tuple[str, str, str, str]
"""flow, label, stage, tenant"""


class Tallies:
    """A tally for each flow, label, stage and tenant; only of requests in the measured window."""

    def __init__(self) -> None:
        self.by_key: dict[Key, Tally] = {}

    def add(self, row: Row, gaps: Iterable[float] = ()) -> None:
        if row.measured:
            self.by_key.setdefault((row.flow, row.label, row.stage, row.tenant), Tally()).add(row, gaps)

    def merge(self, other: Self) -> None:
        for key, tally in other.by_key.items():
            self.by_key.setdefault(key, Tally()).merge(tally)

    def sum(self, **wanted: str) -> Tally:
        """One tally of all whose flow, label, stage or tenant is the wanted one."""
        total = Tally()
        for key, tally in self.by_key.items():
            named = dict(zip(("flow", "label", "stage", "tenant"), key, strict=True))
            if all(named[name] == value for name, value in wanted.items()):
                total.merge(tally)
        return total

    def values(self, name: Literal["flow", "label", "stage", "tenant"], flow: str | None = None) -> list[str]:
        """What this part of the key takes, in order of first appearance, over all flows or in one."""
        place = ("flow", "label", "stage", "tenant").index(name)
        return list(dict.fromkeys(key[place] for key in self.by_key if flow is None or key[0] == flow))

    def packed(self) -> list[Any]:
        return [[list(key), tally.packed()] for key, tally in self.by_key.items()]

    @classmethod
    def unpacked(cls, data: Iterable[Any]) -> Self:
        tallies = cls()
        for (flow, label, stage, tenant), tally in data:
            tallies.by_key[flow, label, stage, tenant] = Tally.unpacked(tally)
        return tallies
