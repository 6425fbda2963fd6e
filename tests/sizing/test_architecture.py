"""What is read out of a config.json: weights, windows, heads, and what is said when it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serving.sizing.architecture import architecture_of, read_bytes, weight_bytes
from serving.sizing.catalog import catalog
from serving.sizing.directory import config_in, weight_bytes_in
from serving.sizing.errors import UnknownPrecision, UnreadableModel

DEMO = Path(__file__).parents[2] / "deploy" / "demo_model" / "clinical-demo"
LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048,
    "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "vocab_size": 129280,
    "max_position_embeddings": 163840, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128, "v_head_dim": 128, "n_routed_experts": 256, "n_shared_experts": 1,
    "num_experts_per_tok": 8, "first_k_dense_replace": 3,
}  # fmt: skip


def test_llama_3_8b_has_as_many_weights_as_meta_says() -> None:
    weights = architecture_of(LLAMA_8B).weights
    assert weights.total == pytest.approx(8.03e9, rel=0.001)
    # vLLM's log in https://github.com/vllm-project/vllm/issues/10517: "Loading model weights took 14.9888 GB"
    assert weight_bytes(architecture_of(LLAMA_8B)) / 2**30 == pytest.approx(14.9888, rel=0.003)


def test_the_demo_models_weights_are_those_of_its_file() -> None:
    architecture = architecture_of(config_in(DEMO))
    on_disk = weight_bytes_in(DEMO)
    assert on_disk and weight_bytes(architecture) == pytest.approx(on_disk, rel=0.01)


def test_a_checkpoint_of_the_catalogue_is_as_large_as_its_files_were_listed() -> None:
    listed = 4.88 + 4.93 + 4.33 + 1.09  # GB, of HuatuoGPT-o1 7B at the commit in the catalogue
    assert weight_bytes(catalog()["huatuogpt-o1-7b"].architecture) / 1e9 == pytest.approx(listed, rel=0.002)


def test_every_sixth_layer_of_gemma_3_sees_everything_and_the_others_a_window() -> None:
    windows = catalog()["medgemma-27b-text"].architecture.windows
    assert (windows.count(1024), windows.count(None)) == (52, 10)
    assert windows[:6] == (1024,) * 5 + (None,)


def test_what_a_config_of_gemma_3_leaves_out_is_filled_in_as_transformers_does() -> None:
    silent = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    tower = catalog()["medgemma-4b"].config["vision_config"]
    read = architecture_of({"text_config": silent | {"sliding_window": 1024}, "vision_config": tower})
    assert read.weights == catalog()["medgemma-4b"].architecture.weights
    assert read.windows == catalog()["medgemma-4b"].architecture.windows


def test_qwen_2_has_no_window_although_its_config_names_one() -> None:
    config = catalog()["huatuogpt-o1-7b"].config | {"sliding_window": 131072}
    assert set(architecture_of(config).windows) == {None}


def test_with_experts_a_token_meets_few_of_the_weights() -> None:
    moe = catalog()["baichuan-m3-235b"].architecture.weights
    assert (moe.total, moe.active + moe.output) == (pytest.approx(235e9, rel=0.005), pytest.approx(22e9, rel=0.05))
    weights = architecture_of(DEEPSEEK_V3).weights
    assert (weights.total, weights.active) == (pytest.approx(671e9, rel=0.005), pytest.approx(36e9, rel=0.04))


def test_latent_attention_keeps_one_latent_for_all_heads() -> None:
    assert architecture_of(DEEPSEEK_V3).latent == 512 + 64


@pytest.mark.parametrize(("method", "share"), [("fp8", 0.57), ("awq", 0.35)])
def test_quantisation_shrinks_layers_and_leaves_the_embedding(method: str, share: float) -> None:
    plain = architecture_of(LLAMA_8B)
    shrunk = architecture_of(LLAMA_8B | {"quantization_config": {"quant_method": method}})
    assert shrunk.quantisation == method
    assert weight_bytes(shrunk) / weight_bytes(plain) == pytest.approx(share, abs=0.01)
    assert weight_bytes(shrunk) == weight_bytes(plain, method)
    assert read_bytes(shrunk) < weight_bytes(shrunk)


def test_a_compressed_checkpoint_is_as_large_as_its_bits() -> None:
    def compressed(bits: int) -> dict[str, Any]:
        groups = {"group_0": {"weights": {"num_bits": bits}}}
        return LLAMA_8B | {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": groups}}

    eight, four = (weight_bytes(architecture_of(compressed(bits))) for bits in (8, 4))
    assert four < 0.7 * eight
    other = {"quant_method": "gptq", "bits": 8}
    assert weight_bytes(architecture_of(LLAMA_8B | {"quantization_config": other})) == eight


def test_a_quantisation_that_is_not_known_is_not_taken_for_none() -> None:
    with pytest.raises(
        UnknownPrecision, match=r"quantization_config: no 'bitsandbite' is known: did you mean bitsandbytes"
    ):
        architecture_of(LLAMA_8B | {"quantization_config": {"quant_method": "bitsandbite"}})


def test_a_number_that_is_missing_is_named() -> None:
    with pytest.raises(UnreadableModel, match="no number 'hidden_size'"):
        architecture_of({name: value for name, value in LLAMA_8B.items() if name != "hidden_size"})
    with pytest.raises(UnreadableModel, match="vision_config has no number 'patch_size'"):
        architecture_of(LLAMA_8B | {"vision_config": {"hidden_size": 8, "num_hidden_layers": 1}})


def test_the_index_of_a_checkpoint_in_parts_says_how_large_it_is(tmp_path: Path) -> None:
    assert weight_bytes_in(tmp_path) is None
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"12345")
    assert weight_bytes_in(tmp_path) == 5
    index = {"metadata": {"total_size": 16060522496}, "weight_map": {}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weight_bytes_in(tmp_path) == 16060522496


@pytest.mark.parametrize(("text", "message"), [(None, "has one"), ("{", "not valid JSON"), ("[1]", "no settings")])
def test_a_directory_without_a_usable_config_says_so(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UnreadableModel, match=message):
        config_in(tmp_path)
