"""A vLLM replica's load, from books as vLLM keeps them. That these are vLLM's is for tests/e2e/test_serving.py."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from serving.deployments.vllm_signals import VllmSignals


def client(*, waiting: int = 0, prompts: int = 0) -> Any:
    """An engine's client with so many requests that have a token already, and so many that have none."""
    states = {f"r{n}": SimpleNamespace(prompt_len=100, is_prefilling=n < prompts) for n in range(waiting + 3)}
    return SimpleNamespace(
        output_processor=SimpleNamespace(request_states=states), logger_manager=SimpleNamespace(stat_loggers=[])
    )


def step(tokens: int = 0, prompt: int = 0, first: tuple[float, ...] = (), per_token: tuple[float, ...] = ()) -> Any:
    return SimpleNamespace(
        num_generation_tokens=tokens,
        prompt_token_stats=SimpleNamespace(computed=prompt),
        time_to_first_tokens_iter=list(first),
        finished_requests=[SimpleNamespace(mean_time_per_output_token=one) for one in per_token],
    )


def scheduler(running: int, kv_cache: float = 0.25) -> Any:
    return SimpleNamespace(num_running_reqs=running, kv_cache_usage=kv_cache)


def test_it_adds_up_what_vllm_hands_its_loggers() -> None:
    engine = client(waiting=2, prompts=2)
    signals = VllmSignals(engine)
    (logger,) = engine.logger_manager.stat_loggers
    for _ in range(10):
        logger.record(scheduler(3), step(3, 50, (0.2,), (0.01, 0.0)), mm_cache_stats=None, engine_idx=0)
    read = signals.read()
    assert (read.running, read.waiting, read.kv_cache, read.prefill_backlog) == (3, 2, 0.25, 200)
    assert (read.ttft_p95, read.tpot_p95) == (0.2, 0.01)  # 0: an answer of one token has none
    assert read.decode_rate > 0 and read.prefill_rate / read.decode_rate == pytest.approx(50 / 3)
    for name in ("log", "log_engine_initialized", "record_sleep_state"):
        getattr(logger, name)()


def test_an_idle_engine_is_idle_whatever_its_last_step_said() -> None:
    engine = client()
    signals = VllmSignals(engine)
    signals.record(scheduler(3), None)
    engine.output_processor.request_states = {}
    read = signals.read()
    assert (read.running, read.waiting, read.kv_cache, read.prefill_backlog) == (0, 0, 0.0, 0)


def test_schedulers_side_by_side_are_added() -> None:
    signals = VllmSignals(client(waiting=9))
    signals.record(scheduler(4), None, engine_idx=0)
    signals.record(scheduler(5, 0.9), None, engine_idx=1)
    read = signals.read()
    assert (read.running, read.waiting, read.kv_cache) == (9, 3, 0.9)


def test_counts_of_another_shape_do_not_stop_vllm_and_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    signals = VllmSignals(client())
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            signals.record(scheduler(1), SimpleNamespace())
    assert caplog.text.count("cannot be read from this version of vLLM") == 1
    assert signals.read().running == 1
