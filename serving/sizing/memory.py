"""What fills a GPU besides the KV cache: weights, and allowances for what vLLM measures when it starts."""

from __future__ import annotations

from dataclasses import dataclass

from serving.sizing.architecture import Architecture
from serving.sizing.gpus import Gpu

GIB = 2**30
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one GPU, in bytes. unused: beyond gpu_memory_utilization, for whatever else is on the GPU."""

    weights: float
    activations: float
    overhead: float
    kv: float
    unused: float


def memory_of(architecture: Architecture, weights: int, gpu: Gpu, gpus: int, *, share: float, sequences: int) -> Memory:
    """weights: bytes of the whole model. share: vLLM's gpu_memory_utilization. sequences: its max_num_seqs."""
    activations, overhead = _activations(architecture, gpu, gpus, sequences), _overhead(architecture, gpus)
    budget = gpu.memory * share
    return Memory(
        weights=weights / gpus,
        activations=activations,
        overhead=overhead,
        kv=max(0.0, budget - weights / gpus - activations - overhead),
        unused=gpu.memory - budget,
    )


def _activations(architecture: Architecture, gpu: Gpu, gpus: int, sequences: int) -> float:
    """At vLLM's largest step: the widest layer's numbers for each token, and what sampling makes of all logits."""
    heads = architecture.heads + 2 * architecture.kv_heads
    widest = 4 * architecture.hidden + (3 * architecture.intermediate + heads * architecture.head_dim) / gpus
    inside, copies = architecture.routed  # vLLM's kernel for experts works on a copy of the token for each of them
    widest += 2 * copies * architecture.hidden + 3 * inside / gpus
    logits = sequences * architecture.vocabulary * 12  # as 32-bit numbers, sorted and as probabilities
    image = 0.75 * GIB if architecture.image_tokens else 0.0
    return gpu.batched_tokens * widest * 2 + logits + image


def _overhead(architecture: Architecture, gpus: int) -> float:
    """CUDA's context and libraries, buffers between GPUs, and CUDA graphs, which grow with the number of layers."""
    between = 1.0 * GIB if gpus > 1 else 0.0
    return 0.95 * GIB + between + architecture.layers * 12 * _MIB
