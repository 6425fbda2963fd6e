"""What each GPU has: memory, bandwidth, arithmetic.

As the makers' data sheets and Azure's lists have them, dense (without sparsity), from memory: check what you rent.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.sizing.errors import UnknownGpu, nearest

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Gpu:
    """memory: bytes that the driver shows, a little less than on the box. bandwidth: bytes a second. bf16, fp8:
    operations a second; fp8 as bf16 where the hardware has no such unit and weights are unpacked first. ray: its name
    as `accelerator_type`. azure: virtual machines that have it, and how many; empty for none. batched_tokens: vLLM's
    default on it (0.29) for max_num_batched_tokens.
    """

    name: str
    memory: int
    bandwidth: float
    bf16: float
    fp8: float
    ray: str
    azure: str
    batched_tokens: int


def _gpu(name: str, mib: int, gb_s: float, bf16: float, fp8: float | None, ray: str, azure: str) -> Gpu:
    memory = mib * _MIB
    # vLLM 0.29, engine/arg_utils.py: by memory, with the A100 left out because large steps made it slower.
    if memory >= 160 * 2**30:
        batched_tokens = 16384
    elif memory >= 70 * 2**30 and "A100" not in name:
        batched_tokens = 8192
    else:
        batched_tokens = 2048
    return Gpu(name, memory, gb_s * 1e9, bf16 * 1e12, (fp8 or bf16) * 1e12, ray, azure, batched_tokens)


GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("L4", 23034, 300, 121, 242, "L4", ""),
        _gpu("A10", 23028, 600, 125, None, "A10G", "NV36ads_A10_v5"),
        # Ray itself calls both A100; the sizes are labels that somebody would have to add.
        _gpu("A100-40G", 40960, 1555, 312, None, "A100", "ND96asr_v4 (8)"),
        _gpu("L40S", 46068, 864, 362, 733, "L40S", ""),
        _gpu("A100-80G", 81920, 1935, 312, None, "A100", "NC24ads_A100_v4 (1), NC96ads_A100_v4 (4)"),
        _gpu("H100", 81559, 3350, 989, 1979, "H100", "ND96isr_H100_v5 (8)"),
        _gpu("H100-NVL", 95830, 3900, 835, 1671, "H100", "NC40ads_H100_v5 (1), NC80adis_H100_v5 (2)"),
        _gpu("H200", 143771, 4800, 989, 1979, "H200", "ND96isr_H200_v5 (8)"),
        _gpu("B200", 183359, 7700, 2250, 4500, "B200", ""),
        _gpu("MI300X", 196592, 5300, 1307, 2614, "AMD-Instinct-MI300X-OAM", "ND96isr_MI300X_v5 (8)"),
    )
}


def gpu_named(name: str) -> Gpu:
    """In any case, with `A100` for the one of 80 GB. Raises UnknownGpu."""
    wanted = {"a100": "a100-80g"}.get(name.lower(), name.lower())
    for known, gpu in GPUS.items():
        if known.lower() == wanted:
            return gpu
    raise UnknownGpu(f"no GPU '{name}' is known: {nearest(name, GPUS)}")
