"""What vLLM's own code makes of a config.json: sizes, and the tokens of a KV cache. Run as a process of its own.

Cases come as JSON and answers go as JSON. No engine, no weights, no GPU: vLLM's reader of configurations, and its
functions that divide memory, given what an engine would give them. Layers are stood in for by their specs.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any


def main() -> None:
    print(json.dumps([view(**case) for case in json.load(sys.stdin)]))


def view(directory: str, gpus: int, context: int, memory: int, in_flight: int, kv_bytes: int) -> dict[str, Any]:
    import torch
    import vllm.config  # noqa: F401  # before the modules below, which import each other
    from vllm.transformers_utils.config import get_config, get_hf_text_config
    from vllm.transformers_utils.model_arch_config_convertor import (
        MODEL_ARCH_CONFIG_CONVERTORS,
        ModelArchConfigConvertorBase,
    )
    from vllm.v1.core import kv_cache_utils
    from vllm.v1.kv_cache_interface import FullAttentionSpec, SlidingWindowSpec
    from vllm.v1.kv_cache_layout import KVCacheLayout

    config = get_config(directory, trust_remote_code=False)
    text = get_hf_text_config(config)
    convertor = MODEL_ARCH_CONFIG_CONVERTORS.get(config.model_type, ModelArchConfigConvertorBase)(config, text)
    read = convertor.convert()
    shape = {
        "block_size": 16,
        "num_kv_heads": max(1, read.total_num_kv_heads // gpus),
        "head_size": read.head_size,
        "dtype": {1: torch.uint8, 2: torch.bfloat16}[kv_bytes],
    }
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None) or (
        ["sliding_attention" if window else "full_attention"] * read.total_num_hidden_layers
    )
    specs = {
        f"layer.{number}": SlidingWindowSpec(sliding_window=window, **shape)
        if kind == "sliding_attention"
        else FullAttentionSpec(**shape)
        for number, kind in enumerate(kinds)
    }
    engine = SimpleNamespace(
        model_config=SimpleNamespace(max_model_len=context, original_max_model_len=context),
        parallel_config=SimpleNamespace(decode_context_parallel_size=1),
        max_in_flight_tokens=in_flight,
        speculative_config=None,
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=False),
        cache_config=SimpleNamespace(
            num_gpu_blocks_override=None,
            prefix_cache_retention_interval=None,
            get_resolved_kv_cache_layout=lambda: KVCacheLayout.LBNHC,
        ),
    )
    (cache,) = kv_cache_utils.get_kv_cache_configs(engine, [specs], [memory])
    tokens, _ = kv_cache_utils.get_kv_cache_capacity(engine, cache)
    return {
        "tokens": tokens,
        "blocks": cache.num_blocks,
        "groups": len(cache.kv_cache_groups),
        "layers": len(kinds),
        "heads": read.total_num_attention_heads,
        "kv_heads": read.total_num_kv_heads,
        "head_size": read.head_size,
        "hidden": read.hidden_size,
        "vocabulary": read.vocab_size,
        "context": convertor.derive_max_model_len_and_key()[0],
    }


if __name__ == "__main__":
    main()
