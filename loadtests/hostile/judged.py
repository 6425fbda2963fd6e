"""What an attack did to everybody else, and whether that is within the bar."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtests.hostile.attack import Attack
from loadtests.hostile.product import Vitals

TTFT_TIMES, TTFT_MORE_S, LAG_S = 2.0, 0.05, 0.1
KEPT_BYTES = 48 * 2**20
"""Growth of a role's memory below this is the allocator's. Above it, the attack is made again: what is kept grows
again, what was only needed once does not."""


@dataclass(frozen=True)
class Quiet:
    """Seconds to the bystander's first token, the gateway's longest lag and requests in flight without an attack."""

    p50: float
    p99: float
    lag: float
    in_flight: float

    @property
    def limit(self) -> float:
        return TTFT_TIMES * self.p99 + TTFT_MORE_S


@dataclass(frozen=True)
class Found:
    """Of one attack. got: what the attacker got, counted. failures: the bystander's, by what was wrong. p50, p99:
    seconds to his first token, over `counted` streams; `void` were measured by a caller who was late himself.
    lag: seconds; at most so much, as the metric's buckets tell. grown: bytes by role, once all was over. restarted:
    roles of processes that ended. calm_s: until all was as before; infinite: it never was. leaked: logs with its text.
    """

    attack: Attack
    got: Mapping[str, int]
    failures: Mapping[str, int]
    requests: int
    p50: float
    p99: float
    counted: int
    void: int
    lag: float
    grown: Mapping[str, int]
    restarted: Sequence[str]
    calm_s: float
    stored: int
    leaked: Sequence[str] = ()
    kept: Sequence[str] = ()
    """Roles whose memory grew again when the attack was made again."""

    def faults(self, quiet: Quiet) -> list[str]:
        """What is beyond the bar, in words; nothing where all held."""
        wrong = sorted(set(self.got) - self.attack.gets)
        checks = (
            (bool(self.failures), f"bystander: {told(self.failures)}"),
            (self.p99 > quiet.limit, f"TTFT p99 {1000 * self.p99:.0f} ms"),
            (self.lag > LAG_S, f"lag {_lag(self.lag)}"),
            (bool(self.restarted), f"restarted: {', '.join(self.restarted)}"),
            (bool(self.kept), f"memory kept: {', '.join(self.kept)}"),
            (bool(wrong), f"answers: {', '.join(wrong)}"),
            (not self.got, "the attacker got nothing"),
            (math.isinf(self.calm_s), "not as before"),
            (self.stored > 0 and not self.attack.leaves_files, f"{self.stored} bytes of files left"),
            (bool(self.leaked), f"its text is in {', '.join(self.leaked)}"),
            (self.counted < self.void, "void: the bystander was late"),
        )
        return [text for is_so, text in checks if is_so]


def longest_lag(before: Vitals, after: Vitals) -> float:
    """The bound of the highest bucket that has grown: how late a gateway's event loop was at most."""
    grown = {le: count - before.lag.get(le, 0.0) for le, count in after.lag.items()}
    most = max(grown.values(), default=0.0)
    return min((le for le, count in grown.items() if count >= most), default=0.0) if most else 0.0


def restarted(before: Vitals, after: Vitals) -> list[str]:
    """Roles of lasting processes that have ended or are new."""
    old, new = before.lasting(), after.lasting()
    return sorted({name for process, name in (old | new).items() if (process in old) != (process in new)})


def growth(before: Vitals, after: Vitals) -> dict[str, int]:
    return {name: after.rss.get(name, 0) - before.rss.get(name, 0) for name in {*before.rss, *after.rss}}


def told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def _lag(seconds: float) -> str:
    return "above 2.5 s" if math.isinf(seconds) else f"up to {1000 * seconds:.0f} ms"
