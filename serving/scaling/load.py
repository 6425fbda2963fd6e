"""A fleet's load at one moment, and how many replicas' worth of capacity it fills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from serving.scaling.profile import CapacityProfile
from serving.scaling.signals import ReplicaSignals

Resource = Literal["concurrency", "tokens", "prefill", "kv_cache"]
_TTFT_BUDGET = 2.0
"""Seconds in which prompts that wait should be read, where there is no goal."""


@dataclass(frozen=True, slots=True)
class Load:
    """Sums over the fleet. ttft_p95, tpot_p95: of the replica where it is worst."""

    running: float
    waiting: float
    decode_rate: float
    prefill_rate: float
    prefill_backlog: float
    kv_cache: float
    ttft_p95: float | None
    tpot_p95: float | None

    @classmethod
    def of(cls, replicas: tuple[ReplicaSignals, ...], *, running: int, held: int) -> Load:
        """running: replicas that run. The silent ones among them are taken for as busy as the others are on average:
        one replica that does not report must not stop the scaling of all
        (https://github.com/vllm-project/aibrix/issues/1032).
        """
        more = max(1.0, running / len(replicas)) if replicas else 1.0
        return cls(
            running=more * sum(one.running for one in replicas),
            waiting=more * sum(one.waiting for one in replicas) + held,
            decode_rate=more * sum(one.decode_rate for one in replicas),
            prefill_rate=more * sum(one.prefill_rate for one in replicas),
            prefill_backlog=more * sum(one.prefill_backlog for one in replicas),
            kv_cache=more * sum(one.kv_cache for one in replicas),
            ttft_p95=max((one.ttft_p95 for one in replicas if one.ttft_p95 is not None), default=None),
            tpot_p95=max((one.tpot_p95 for one in replicas if one.tpot_p95 is not None), default=None),
        )

    @property
    def in_flight(self) -> float:
        return self.running + self.waiting

    def filled(self, profile: CapacityProfile, ttft: float | None) -> Mapping[Resource, float]:
        """Replicas' worth of each resource. ttft: the goal, in which prompts that wait should be read.

        One engine's time goes into prompts and into answers, so what these fill is a sum: tokens.
        """
        backlog = self.prefill_backlog / (profile.prefill_rate * (ttft or _TTFT_BUDGET))
        return {
            "concurrency": self.in_flight / profile.concurrency,
            "tokens": self.decode_rate / profile.decode_rate + self.prefill_rate / profile.prefill_rate,
            "prefill": backlog,
            "kv_cache": self.kv_cache,
        }
