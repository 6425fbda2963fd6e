"""The engine dashboard: what vLLM says of its replicas. Each panel answers the question in its description."""

from __future__ import annotations

from panels import Json, Panel, Query, Variable, dashboard, quantile, rate

_M = 'model_name=~"$model_name"'


def engine() -> Json:
    def per_replica(gauge: str) -> Query:
        return Query(f"sum by (model_name, instance, pid) ({gauge}{{{_M}}})", "{{model_name}} {{instance}} {{pid}}")

    return dashboard(
        "clinserve-engine",
        "clinserve: Engine",
        "Do the replicas keep up? If not: are they short of KV cache, of steps, or of copies?",
        variables=[Variable("model_name", "vllm:num_requests_running", "model_name")],
        rows=[
            [
                Panel(
                    "Running and waiting",
                    "Waiting for long: more replicas, or a full KV cache.",
                    (
                        Query(f"sum by (model_name) (vllm:num_requests_running{{{_M}}})", "{{model_name}} running"),
                        Query(f"sum by (model_name) (vllm:num_requests_waiting{{{_M}}})", "{{model_name}} waiting"),
                    ),
                ),
                Panel(
                    "KV cache in use, by replica",
                    "Near 100 % requests wait, or are preempted and computed twice.",
                    (per_replica("vllm:kv_cache_usage_perc"),),
                    unit="percentunit",
                    top=1.0,
                    limit=0.95,
                ),
            ],
            [
                Panel(
                    "Tokens a second",
                    "What the engines compute: prompts, and answers.",
                    (
                        Query(rate("vllm:prompt_tokens_total", _M, "model_name"), "{{model_name}} prompt"),
                        Query(rate("vllm:generation_tokens_total", _M, "model_name"), "{{model_name}} answer"),
                    ),
                ),
                Panel(
                    "What a first token waits for, p95",
                    "Queue: too few replicas. Prefill: long prompts.",
                    (
                        Query(
                            quantile(0.95, "vllm:request_queue_time_seconds", _M, "model_name"), "{{model_name}} queue"
                        ),
                        Query(
                            quantile(0.95, "vllm:request_prefill_time_seconds", _M, "model_name"),
                            "{{model_name}} prefill",
                        ),
                        Query(
                            quantile(0.95, "vllm:time_to_first_token_seconds", _M, "model_name"),
                            "{{model_name}} first token",
                        ),
                    ),
                    unit="s",
                ),
            ],
            [
                Panel(
                    "Between tokens, p95",
                    "The length of a step. It grows with the batch and with long prompts beside it.",
                    (Query(quantile(0.95, "vllm:inter_token_latency_seconds", _M, "model_name"), "{{model_name}}"),),
                    unit="s",
                    limit=0.1,
                    width=8,
                ),
                Panel(
                    "Prompt tokens found in the prefix cache",
                    "What need not be computed again. Each tenant has its own.",
                    (
                        Query(
                            f"{rate('vllm:prefix_cache_hits_total', _M, 'model_name')} / "
                            f"{rate('vllm:prefix_cache_queries_total', _M, 'model_name')}",
                            "{{model_name}}",
                        ),
                    ),
                    unit="percentunit",
                    top=1.0,
                    width=8,
                ),
                Panel(
                    "Preemptions",
                    "Requests thrown out of a full cache. Often: lower limits.max_in_flight or max_num_seqs.",
                    (Query(rate("vllm:num_preemptions_total", _M, "model_name"), "{{model_name}}"),),
                    unit="reqps",
                    width=8,
                ),
            ],
        ],
    )
