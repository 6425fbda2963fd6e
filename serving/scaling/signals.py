"""What a replica tells about its load, and its form on the way: flat numbers by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaSignals:
    """One replica's load.

    running, waiting: requests. kv_cache: the part in use, 0 to 1. prefill_backlog: tokens of prompts that wait to be
    computed. decode_rate, prefill_rate: tokens a second over the last seconds. ttft_p95: seconds, of the last requests;
    None without any. tpot_p95: seconds between tokens, likewise.
    """

    running: int = 0
    waiting: int = 0
    kv_cache: float = 0.0
    prefill_backlog: int = 0
    decode_rate: float = 0.0
    prefill_rate: float = 0.0
    ttft_p95: float | None = None
    tpot_p95: float | None = None

    @property
    def in_flight(self) -> int:
        return self.running + self.waiting

    def to_numbers(self) -> dict[str, float]:
        """As Ray's record_autoscaling_stats carries them; what is None is left out."""
        numbers = {
            "running": float(self.running),
            "waiting": float(self.waiting),
            "kv_cache": self.kv_cache,
            "prefill_backlog": float(self.prefill_backlog),
            "decode_rate": self.decode_rate,
            "prefill_rate": self.prefill_rate,
        }
        times = {"ttft_p95": self.ttft_p95, "tpot_p95": self.tpot_p95}
        return numbers | {name: seconds for name, seconds in times.items() if seconds is not None}

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, float]) -> ReplicaSignals:
        """Unknown names are passed over: two versions of the product may be running side by side."""
        return cls(
            running=round(numbers.get("running", 0)),
            waiting=round(numbers.get("waiting", 0)),
            kv_cache=numbers.get("kv_cache", 0.0),
            prefill_backlog=round(numbers.get("prefill_backlog", 0)),
            decode_rate=numbers.get("decode_rate", 0.0),
            prefill_rate=numbers.get("prefill_rate", 0.0),
            ttft_p95=numbers.get("ttft_p95"),
            tpot_p95=numbers.get("tpot_p95"),
        )


NAMES = frozenset(ReplicaSignals(ttft_p95=0.0, tpot_p95=0.0).to_numbers())
