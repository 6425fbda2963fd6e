"""How many bytes a number takes: weights by their quantisation, the KV cache by its type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.sizing.errors import UnknownPrecision, nearest

_DTYPES = {"bfloat16": 2.0, "float16": 2.0, "half": 2.0, "float32": 4.0, "float": 4.0}
_KV_DTYPES = {"fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0, "int8_per_token_head": 1.0}


@dataclass(frozen=True, slots=True)
class Quantisation:
    """name: vLLM's. bytes: of a weight in a linear layer; embeddings, output and vision tower stay as they are.
    on_load: vLLM does it to any checkpoint; else the checkpoint must be one that somebody quantised.
    fp8_units: whether it multiplies in the GPU's 8-bit units where there are some.
    """

    name: str
    bytes: float
    on_load: bool
    fp8_units: bool


QUANTISATIONS = {
    q.name: q
    for q in (
        Quantisation("fp8", 1.0, True, True),
        Quantisation("compressed-tensors", 1.0, False, True),  # with 8 bits
        # 4 bits, and for each group of 128 a scale of 16 and a zero of 4.
        Quantisation("awq", 0.5 + 2.5 / 128, False, False),
        Quantisation("gptq", 0.5 + 2.5 / 128, False, False),
        Quantisation("bitsandbytes", 0.5 + 4 / 64, True, False),  # 4 bits, blocks of 64
        Quantisation("mxfp4", 0.5 + 1 / 32, False, False),
    )
}

# What checkpoints have besides, and nobody can ask for by one name.
_EIGHT, _FOUR = (Quantisation(f"{bits} bits", size, False, False) for bits, size in ((8, 1.0), (4, 0.5 + 2.5 / 128)))
KNOWN = QUANTISATIONS | {q.name: q for q in (_EIGHT, _FOUR)}
_OTHER_NAMES = {
    "fbgemm_fp8": "fp8",
    "modelopt": "fp8",
    "gptq_marlin": "gptq",
    "awq_marlin": "awq",
    "auto-round": "gptq",
}


def quantisation_of(config: Mapping[str, Any]) -> str:
    """The name in KNOWN for a config.json's quantization_config. Raises UnknownPrecision."""
    method = str(config.get("quant_method", ""))
    method = _OTHER_NAMES.get(method, method)
    if method not in QUANTISATIONS:
        raise UnknownPrecision(f"quantization_config: no '{method}' is known: {nearest(method, QUANTISATIONS)}")
    bits = _bits_in(config)
    if bits == 8 and QUANTISATIONS[method].bytes < 1:
        return _EIGHT.name
    return _FOUR.name if bits == 4 and method == "compressed-tensors" else method


def _bits_in(config: Mapping[str, Any]) -> int | None:
    for group in (config.get("config_groups") or {}).values():
        return int(group["weights"]["num_bits"])
    return 8 if config.get("load_in_8bit") else config.get("bits")


def bytes_of(dtype: str) -> float:
    """Of a number of a checkpoint's dtype. Raises UnknownPrecision."""
    try:
        return _DTYPES[dtype.removeprefix("torch.")]
    except KeyError:
        raise UnknownPrecision(f"no dtype '{dtype}' is known: {nearest(dtype, _DTYPES)}") from None


def kv_bytes_of(kv_dtype: str, dtype: str) -> float:
    """auto: as the weights that are not quantised. Raises UnknownPrecision."""
    if kv_dtype == "auto":
        return bytes_of(dtype)
    known = _KV_DTYPES | _DTYPES
    if kv_dtype not in known:
        raise UnknownPrecision(f"no type '{kv_dtype}' of the KV cache is known: {nearest(kv_dtype, ['auto', *known])}")
    return known[kv_dtype]


def quantisation_named(name: str) -> Quantisation:
    """Raises UnknownPrecision."""
    if name not in QUANTISATIONS:
        raise UnknownPrecision(f"no quantisation '{name}' is known: {nearest(name, QUANTISATIONS)}")
    return QUANTISATIONS[name]
