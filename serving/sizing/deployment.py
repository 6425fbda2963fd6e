"""A plan as a block of the configuration, with what remains to be done as comments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from serving.sizing.plan import Plan
from serving.sizing.subject import Subject


def deployment_block(subject: Subject, plan: Plan) -> str:
    """YAML that the settings take as it is."""
    lines = [*_remarks(subject, plan), yaml.safe_dump({"deployments": [_deployment(subject, plan)]}, sort_keys=False)]
    return "\n".join(lines)


def _remarks(subject: Subject, plan: Plan) -> Iterator[str]:
    entry = subject.entry
    yield f"# {subject.title} on {plan.gpus} × {plan.gpu.name}: {plan.kv_tokens:,} tokens of KV cache as planned"
    if entry and not entry.commit:
        yield "# No commit of these weights was seen: set model.revision, or model.digest, before you go live"
    if entry and entry.licence.gated:
        yield f"# Gated: accept {entry.licence.url}, then pass HF_TOKEN or point source at a directory"
    if entry and entry.serves == "base":
        yield "# Not tuned for chat: it has no chat template; clients call /v1/completions"
    quantisation = plan.question.quantisation
    if quantisation and not plan.quantises_on_load:
        yield f"# {quantisation} needs a checkpoint that was quantised so: point source at one"


def _deployment(subject: Subject, plan: Plan) -> dict[str, Any]:
    question, entry = plan.question, subject.entry
    model: dict[str, Any] = {"source": subject.source}
    if entry:
        model |= {"revision": entry.commit} if entry.commit else {}
        model["notice"] = f"{entry.title}, under {entry.licence.name}. Verify before any clinical use."
    args: dict[str, Any] = {
        "max_model_len": plan.context,
        "max_num_seqs": question.sequences,
        "max_num_batched_tokens": plan.gpu.batched_tokens,
        "gpu_memory_utilization": question.memory_share,
        "enable_prefix_caching": True,
    }
    args |= {"quantization": question.quantisation} if question.quantisation else {}
    args |= {"kv_cache_dtype": question.kv_dtype} if question.kv_dtype != "auto" else {}
    args |= entry.engine if entry else {}
    found: dict[str, Any] = {
        "name": subject.name,
        "model": model,
        "engine": {
            "kind": "vllm",
            "device": "gpu",
            "accelerator_type": plan.gpu.ray,
            "tensor_parallel_size": plan.gpus,
            "args": args,
        },
    }
    if plan.cost:
        found["price"] = {"prompt": round(plan.cost.prompt, 2), "completion": round(plan.cost.answer, 2)}
    return found
