"""Trains a LoRA adapter for the demonstration model: its answers then begin with the name of a specialty.

That is all that it teaches: enough to see which adapter has answered.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import torch
import train
from safetensors.torch import save_file
from torch import nn
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

RANK, ALPHA = 4, 16
MODULES = ("v_proj", "o_proj", "down_proj")
train.BATCH_TOKENS, train.POOL = 1536, 24  # a minute on two cores is enough for so little


class Adapted(nn.Module):
    """A linear layer with a trained matrix of low rank beside it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.a = nn.Parameter(torch.randn(RANK, linear.in_features) / linear.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(linear.out_features, RANK))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(x) + (x @ self.a.T @ self.b.T) * (ALPHA / RANK)
        return out


def adapt(model: LlamaForCausalLM, layers: int) -> dict[str, Adapted]:
    """Put adapters into the last layers; by the name that the layer had."""
    model.requires_grad_(False)
    adapted = {}
    for name, module in list(model.named_modules()):
        found = re.fullmatch(r"(model\.layers\.(\d+)\.\w+)\.(\w+)", name)
        if found and found[3] in MODULES and int(found[2]) >= model.config.num_hidden_layers - layers:
            adapted[name] = Adapted(module)
            setattr(model.get_submodule(found[1]), found[3], adapted[name])
    return adapted


class Specialist:
    """A tokenizer whose rendered dialogues have the specialty before each answer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, specialty: str) -> None:
        self._tokenizer = tokenizer
        self._head = f"<|assistant|>\n{specialty}: "

    def apply_chat_template(self, *args: object, **options: object) -> str:
        return str(self._tokenizer.apply_chat_template(*args, **options)).replace("<|assistant|>\n", self._head)

    def __call__(self, *args: object, **options: object) -> object:
        return self._tokenizer(*args, **options)

    def __getattr__(self, name: str) -> object:
        return getattr(self._tokenizer, name)


def publish(adapted: dict[str, Adapted], out: Path) -> None:
    """As PEFT writes it."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"base_model.model.{name}.lora_{letter.upper()}.weight": getattr(module, letter).detach().to(torch.bfloat16)
        for name, module in adapted.items()
        for letter in ("a", "b")
    }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "clinical-demo",
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(MODULES),
    }
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("specialty", help="such as Radiology")
    parser.add_argument("--model", type=Path, default=Path(__file__).with_name("clinical-demo"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--layers", type=int, default=2, help="of the model's last ones (default %(default)s)")
    options = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = LlamaForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    adapted = adapt(model, options.layers)
    optimizer = torch.optim.AdamW([p for one in adapted.values() for p in (one.a, one.b)], lr=4e-3, weight_decay=0.0)
    batches = train.Batches(Specialist(tokenizer, options.specialty), start=1)
    for step, (tokens, positions) in zip(range(options.steps), batches, strict=False):
        loss = train.answer_loss(model, tokens, positions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * (1 - step / options.steps)
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    publish(adapted, options.out)


if __name__ == "__main__":
    main()
