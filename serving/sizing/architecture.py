"""What a model is made of, as its config.json says it: layers, heads, windows, and how many weights that comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.sizing.errors import UnreadableModel
from serving.sizing.precision import KNOWN, bytes_of, quantisation_of

# What transformers fills in where a config.json is silent: Google's own for Gemma 3 leaves most of these out.
_GEMMA3 = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "gemma3_text": _GEMMA3,
    "gemma2": {"head_dim": 256, "tie_word_embeddings": True, "sliding_window_pattern": 2},
    "gemma": {"head_dim": 256, "tie_word_embeddings": True},
    "qwen2": {"use_sliding_window": False},
}


@dataclass(frozen=True, slots=True)
class Weights:
    """Numbers of weights. linear: in layers, which quantisation shrinks. active: of these, what one token meets; with
    experts, not all. output: 0 for one that shares the embedding. vision: tower and projector. Norms and biases are
    left out: less than one in a thousand.
    """

    linear: int
    active: int
    embedding: int
    output: int
    vision: int

    @property
    def total(self) -> int:
        return self.linear + self.embedding + self.output + self.vision


@dataclass(frozen=True, slots=True)
class Architecture:
    """routed: width of all experts that a token goes through, and so many copies of it; (0, 0) without experts.
    windows: for each layer, how many tokens back it looks; None for all of them. latent: numbers that a token leaves
    in a layer with multi-head latent attention (MLA), 0 for others. image_tokens: of one image, 0 for a text model.
    quantisation: that of the checkpoint itself.
    """

    hidden: int
    intermediate: int
    routed: tuple[int, int]
    heads: int
    kv_heads: int
    head_dim: int
    latent: int
    windows: tuple[int | None, ...]
    vocabulary: int
    context: int
    image_tokens: int
    dtype: str
    quantisation: str | None
    weights: Weights

    @property
    def layers(self) -> int:
        return len(self.windows)


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """From what a config.json holds. Raises UnreadableModel."""
    text = _Numbers(config)
    heads = text.number("num_attention_heads")
    kv_heads = text.number("num_key_value_heads", heads)
    latent = text.number("kv_lora_rank", 0)
    dtype = str(config.get("dtype") or config.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype") or "")
    vision, quantised = config.get("vision_config"), config.get("quantization_config")
    return Architecture(
        hidden=text.number("hidden_size"),
        intermediate=text.number("intermediate_size", 0),
        routed=_routed(text),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=text.number("head_dim", text.number("hidden_size") // heads),
        latent=latent and latent + text.number("qk_rope_head_dim"),
        windows=_windows(text),
        vocabulary=text.number("vocab_size"),
        context=text.number("max_position_embeddings"),
        image_tokens=config.get("mm_tokens_per_image", 0) if vision else 0,
        dtype=dtype if dtype and dtype != "auto" else "bfloat16",
        quantisation=quantisation_of(quantised) if quantised else None,
        weights=_weights(text, _vision(vision, text.number("hidden_size")) if vision else 0),
    )


class _Numbers:
    """The part of a config.json about text, with the family's defaults under it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        inner = config.get("text_config") or config.get("llm_config") or config
        if not isinstance(inner, Mapping):
            raise UnreadableModel("text_config is not a group of numbers; is this a config.json of transformers?")
        kind = str(inner.get("model_type") or config.get("model_type"))
        self._values = {**_DEFAULTS.get(kind, {}), **inner}
        if inner is not config and "tie_word_embeddings" in config:
            self._values["tie_word_embeddings"] = config["tie_word_embeddings"]

    def get(self, name: str) -> Any:
        return self._values.get(name)

    def number(self, name: str, default: int | None = None) -> int:
        value = self._values.get(name)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, int):
            raise UnreadableModel(f"config.json has no number '{name}', which memory depends on")
        return value


def _routed(text: _Numbers) -> tuple[int, int]:
    copies = text.number("num_experts_per_tok", 0)
    return copies * text.number("moe_intermediate_size", text.number("intermediate_size", 0)), copies


def _windows(text: _Numbers) -> tuple[int | None, ...]:
    layers, window = text.number("num_hidden_layers"), text.get("sliding_window")
    if kinds := text.get("layer_types"):
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
    if not window or text.get("use_sliding_window") is False:
        return (None,) * layers
    if pattern := text.get("sliding_window_pattern"):
        return tuple(window if (layer + 1) % pattern else None for layer in range(layers))
    first = text.number("max_window_layers", 0)  # Qwen 2: those before it look at everything
    return tuple(window if layer >= first else None for layer in range(layers))


def _weights(text: _Numbers, vision: int) -> Weights:
    hidden, layers = text.number("hidden_size"), text.number("num_hidden_layers")
    attention = layers * _attention(text, hidden)
    experts = text.number("n_routed_experts", text.number("num_local_experts", text.number("num_experts", 0)))
    dense = text.number("first_k_dense_replace", 0) if experts else layers
    mlp = 3 * hidden * text.number("intermediate_size", 0)
    one = 3 * hidden * text.number("moe_intermediate_size", text.number("intermediate_size", 0))
    shared = text.number("n_shared_experts", 0) * one
    routed = layers - dense
    embedding = text.number("vocab_size") * hidden
    return Weights(
        linear=attention + dense * mlp + routed * (experts * (one + hidden) + shared),
        active=attention + dense * mlp + routed * (text.number("num_experts_per_tok", 0) * one + shared),
        embedding=embedding,
        output=0 if text.get("tie_word_embeddings") else embedding,
        vision=vision,
    )


def _attention(text: _Numbers, hidden: int) -> int:
    heads = text.number("num_attention_heads")
    if rank := text.number("kv_lora_rank", 0):
        rope, plain, value = (text.number(n) for n in ("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"))
        asked = text.number("q_lora_rank", 0)
        query = asked * (hidden + heads * (plain + rope)) if asked else hidden * heads * (plain + rope)
        return query + hidden * (rank + rope) + rank * heads * (plain + value) + heads * value * hidden
    head_dim = text.number("head_dim", hidden // heads)
    return 2 * hidden * head_dim * (heads + text.number("num_key_value_heads", heads))


def _vision(tower: Mapping[str, Any], hidden: int) -> int:
    """A transformer on patches (SigLIP, CLIP and their kin) and a projector to the text's width."""

    def number(*names: str) -> int:
        for name in names:
            if isinstance(tower.get(name), int):
                return int(tower[name])
        raise UnreadableModel(f"vision_config has no number '{names[0]}', which memory depends on")

    width = number("hidden_size", "embed_dim")
    inner = tower.get("intermediate_size") or 4 * width
    layers = number("num_hidden_layers", "depth")
    patch = number("patch_size")
    places = (int(tower.get("image_size") or 0) // patch) ** 2
    return int(layers * (4 * width**2 + 2 * width * inner) + 3 * patch**2 * width + places * width + width * hidden)


def weight_bytes(architecture: Architecture, quantisation: str | None = None) -> float:
    """All weights, in bytes; quantisation: other than the checkpoint's own."""
    weights, plain = architecture.weights, bytes_of(architecture.dtype)
    linear = _linear_bytes(architecture, quantisation)
    return linear + (weights.embedding + weights.output + weights.vision) * plain


def read_bytes(architecture: Architecture, quantisation: str | None = None) -> float:
    """Of these, what every decoding step reads: of the embedding only rows, of the vision tower nothing."""
    weights = architecture.weights
    output = weights.output or weights.embedding
    return _linear_bytes(architecture, quantisation) + output * bytes_of(architecture.dtype)


def _linear_bytes(architecture: Architecture, quantisation: str | None) -> float:
    method = quantisation or architecture.quantisation
    return architecture.weights.linear * (KNOWN[method].bytes if method else bytes_of(architecture.dtype))
