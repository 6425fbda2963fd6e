"""A running engine has the KV cache that was planned for it."""

from __future__ import annotations

import re

import httpx
import pytest

from serving.sizing.architecture import architecture_of
from serving.sizing.directory import config_in
from serving.sizing.kv_cache import kv_cache
from tests.e2e.conftest import MODEL
from tests.e2e.product import ROOT, Product

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def test_vllm_has_as_many_blocks_as_are_worked_out(product: Product) -> None:
    demo = architecture_of(config_in(ROOT / "deploy" / "demo_model" / MODEL))
    cache = kv_cache(demo, 2**30, number_bytes=2, tensor_parallel=1, in_flight=2048, block=128)
    text = httpx.get(product.metrics_url, timeout=30).text
    engines = [
        dict(re.findall(r'(\w+)="([^"]*)"', labels))
        for labels in re.findall(r"^vllm:cache_config_info{(.*)} 1", text, re.MULTILINE)
    ]
    said = [(e["block_size"], e["num_gpu_blocks"], e["kv_cache_size_tokens"]) for e in engines]
    assert (str(cache.block), str(cache.blocks), str(cache.tokens(2048))) in said
