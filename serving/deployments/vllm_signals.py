"""A vLLM replica's load, from what vLLM counts at each step for its own metrics.

A stat logger is handed those counts; this one adds up a few of them. That there is one more is told to the manager of
loggers after the engine has started: Ray's LLM server makes the engine and takes no loggers. The manager's list is no
public API: it is used here only, pinned, and tests/e2e compares what is reported with vLLM's metrics.
"""

from __future__ import annotations

import logging
from typing import Any

from serving.scaling.meter import Meter
from serving.scaling.signals import ReplicaSignals

_log = logging.getLogger(__name__)


class VllmSignals:
    """One of vLLM's stat loggers (vllm.v1.metrics.loggers.AggregateStatLoggerBase)."""

    def __init__(self, engine_client: Any) -> None:
        self._meter = Meter()
        self._processor = engine_client.output_processor
        self._is_readable = True
        self.steps = 0
        """That the engine has made."""
        self._schedulers: dict[int, Any] = {}
        """The last word of each: there are several with data parallelism."""
        engine_client.logger_manager.stat_loggers.append(self)

    @property
    def has_work(self) -> bool:
        return bool(self._processor.request_states)

    def read(self) -> ReplicaSignals:
        """All that is in the engine's books: a few additions for each request, once a second.

        A request that has no first token yet counts whole in the backlog, also what a chunk of it has computed.
        """
        states = list(self._processor.request_states.values())
        schedulers = list(self._schedulers.values())
        # An idle engine takes no steps, so its schedulers' last word may be old; the requests are not.
        running = min(len(states), sum(scheduler.num_running_reqs for scheduler in schedulers))
        return self._meter.read(
            running=running,
            waiting=len(states) - running,
            kv_cache=max((one.kv_cache_usage for one in schedulers), default=0.0) if states else 0.0,
            prefill_backlog=sum(state.prompt_len for state in states if state.is_prefilling),
        )

    def record(
        self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
    ) -> None:
        """Called by vLLM after each step."""
        self.steps += 1
        try:
            if scheduler_stats is not None:
                self._schedulers[engine_idx] = scheduler_stats
            if iteration_stats is not None and self._is_readable:
                self._add(iteration_stats)
        except Exception:  # it would end the loop that all answers come through
            self._is_readable = False
            _log.exception("rates and times cannot be read from this version of vLLM")

    def _add(self, step: Any) -> None:
        self._meter.decoded(step.num_generation_tokens)
        self._meter.prefilled(step.prompt_token_stats.computed)
        for seconds in step.time_to_first_tokens_iter:
            self._meter.first_token(seconds)
        for finished in step.finished_requests:
            if finished.mean_time_per_output_token:
                self._meter.per_token(finished.mean_time_per_output_token)

    def log(self) -> None:
        """What a stat logger has beside `record`, and this one does not need."""

    def log_engine_initialized(self) -> None: ...

    def record_sleep_state(self, sleep: int = 0, level: int = 0) -> None: ...
