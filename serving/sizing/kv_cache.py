"""How vLLM (0.29) divides memory for the KV cache into blocks, and how many tokens and requests that is.

Layers that look at everything and layers with a window keep different tokens, so vLLM puts them into groups of equally
many layers, and a request holds blocks of each group (v1/core/kv_cache_utils.py; a test runs that code beside this).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from serving.sizing.architecture import Architecture

BLOCK = 16
"""Tokens of a block: vLLM's default on a GPU; on a CPU it takes 128."""


@dataclass(frozen=True, slots=True)
class KvCache:
    """On one GPU. windows: of each group of layers, None for one that keeps all tokens. block: tokens of one.
    block_bytes: of a block, in all layers of a group. in_flight: tokens that vLLM may have computed and not yet
    accounted for; a group with a window keeps their blocks as well.
    """

    windows: tuple[int | None, ...]
    block_bytes: int
    blocks: int
    in_flight: int
    block: int = BLOCK

    def blocks_of(self, tokens: int, in_flight: int = 1) -> int:
        """That one request of so many tokens holds."""
        return sum(self._blocks_in(window, tokens, in_flight) for window in self.windows)

    def tokens(self, context: int) -> int:
        """As vLLM's log says it: of requests that are as long as the context."""
        return int(self.blocks / self.blocks_of(context, self.in_flight) * context)

    def requests(self, tokens: int) -> int:
        """Of so many tokens, at a time, without shared prefixes. What is in flight is all requests' together."""
        chunk = sum(_ceil(self.in_flight, self.block) for window in self.windows if window is not None)
        return max(0, (self.blocks - 1 - chunk) // self.blocks_of(tokens))  # 1: a block that vLLM keeps for itself

    def holds(self, context: int) -> bool:
        """Whether vLLM starts with this context: one request of it fits."""
        return self.blocks - 1 >= self.blocks_of(context, self.in_flight)

    def _blocks_in(self, window: int | None, tokens: int, in_flight: int) -> int:
        if window is None:
            return _ceil(tokens, self.block)
        # One more: a window need not begin where a block does.
        return _ceil(min(window - 1 + in_flight, tokens), self.block) + 1


def kv_cache(
    architecture: Architecture,
    memory: float,
    *,
    number_bytes: float,
    tensor_parallel: int,
    in_flight: int,
    block: int = BLOCK,
) -> KvCache:
    """memory: bytes for the cache of one GPU. number_bytes: of one number in it."""
    layers_in_group, windows = _groups(architecture.windows)
    block_bytes = int(block * token_bytes(architecture, number_bytes, tensor_parallel)) * layers_in_group
    return KvCache(windows, block_bytes, max(0, int(memory // block_bytes)), in_flight, block)


def token_bytes(architecture: Architecture, number_bytes: float, tensor_parallel: int) -> float:
    """What a token leaves in one layer, on one GPU. A latent is not divided among GPUs, nor is a single head."""
    if architecture.latent:
        return architecture.latent * number_bytes
    heads = max(1, architecture.kv_heads // tensor_parallel)
    return 2 * heads * architecture.head_dim * number_bytes


def _groups(windows: tuple[int | None, ...]) -> tuple[int, tuple[int | None, ...]]:
    """Layers in each group, and the groups' windows."""
    counts = Counter(windows)
    size = min(counts.values())
    if max(counts.values()) < 1.5 * size:
        size = max(counts.values())
    return size, tuple(window for window, layers in counts.items() for _ in range(_ceil(layers, size)))


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)
