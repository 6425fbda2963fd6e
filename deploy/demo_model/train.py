"""Trains the demonstration model from scratch on generated dialogues and writes its directory."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from copying_circuit import install_copying_circuit
from notes import make_dialogue, training_seed
from tokenizer import CONTEXT_LENGTH, TEMPLATE, train_tokenizer
from torch.nn import functional
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

CARD = Path(__file__).with_name("model_card.md")
BATCH_TOKENS = 6144
POOL = 160


@dataclass(frozen=True)
class Example:
    """Token identifiers of one dialogue and the positions whose next token is part of an answer."""

    tokens: list[int]
    positions: list[int]


def build_model(tokenizer: PreTrainedTokenizerBase, seed: int) -> LlamaForCausalLM:
    """The untrained network, with the copying circuit in place."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=CONTEXT_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=False,
    )
    model = LlamaForCausalLM(config)
    install_copying_circuit(model)
    return model


def encode(tokenizer: PreTrainedTokenizerBase, seed: int, size: int) -> Example:
    """The dialogue of a seed as the chat template renders it."""
    dialogue = make_dialogue(seed, size)
    text = tokenizer.apply_chat_template(list(dialogue.messages), tools=list(dialogue.tools) or None, tokenize=False)
    tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    assistant = tokenizer.convert_tokens_to_ids("<|assistant|>")
    end = tokenizer.eos_token_id
    positions: list[int] = []
    answering = False
    for index, token in enumerate(tokens[:-1]):
        if token == assistant:
            answering = True
        elif answering:  # the newline after the role is part of the prompt
            positions.append(index)
            answering = tokens[index + 1] != end
    return Example(tokens, positions)


def size_of_notes(progress: float, index: int) -> int:
    """Curriculum: short notes first, then the full range with some long notes."""
    if progress < 0.06:
        return 0
    if progress < 0.15:
        return index % 2
    return (2, 1, 2, 3, 2, 2, 1, 2, 3, 0)[index % 10]


class Batches:
    """Endless batches of dialogues of similar length, padded on the right."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, start: int) -> None:
        self.tokenizer = tokenizer
        self.index = start
        self.progress = 0.0
        self.shuffler = torch.Generator().manual_seed(start)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        pad = self.tokenizer.pad_token_id
        while True:
            pool: list[Example] = []
            while len(pool) < POOL:
                size = size_of_notes(self.progress, self.index)
                example = encode(self.tokenizer, training_seed(self.index), size)
                self.index += 1
                if len(example.tokens) <= 1280:
                    pool.append(example)
            pool.sort(key=lambda e: len(e.tokens))
            groups: list[list[Example]] = [[]]
            for example in pool:
                if (len(groups[-1]) + 1) * len(example.tokens) > BATCH_TOKENS:
                    groups.append([])
                groups[-1].append(example)
            for place in torch.randperm(len(groups), generator=self.shuffler).tolist():
                group = groups[place]
                width = max(len(e.tokens) for e in group)
                tokens = torch.tensor([e.tokens + [pad] * (width - len(e.tokens)) for e in group])
                positions = torch.tensor([row * width + p for row, e in enumerate(group) for p in e.positions])
                yield tokens, positions


def answer_loss(model: LlamaForCausalLM, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Cross-entropy on the tokens of the answers only."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state.flatten(0, 1)[positions]
        logits = model.lm_head(hidden)
    targets = tokens.flatten()[positions + 1]
    return functional.cross_entropy(logits.float(), targets)


def learning_rate(progress: float, step: int, peak: float) -> float:
    """Linear warm-up over 60 steps, then a cosine down to two percent."""
    cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return peak * min(1.0, (step + 1) / 60) * cosine


def publish(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Write the model directory next to its place and rename the files in one by one."""
    out.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=out.parent))
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy = copy.to(torch.bfloat16)
    copy.config.use_cache = True
    copy.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    copy.save_pretrained(staging)
    generation = json.loads((staging / "generation_config.json").read_text(encoding="utf-8"))
    generation["temperature"] = 0.0  # the default of a server that reads this file; requests may still set their own
    (staging / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(staging)
    settings = json.loads((staging / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings = {key: value for key, value in settings.items() if key not in ("is_local", "local_files_only")}
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # a name that older transformers know too
    (staging / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    shutil.copy(CARD, staging / "README.md")
    for file in staging.iterdir():
        file.chmod(0o644)
        file.replace(out / file.name)
    staging.rmdir()
    model.config.use_cache = False


def train(arguments: argparse.Namespace) -> None:
    """Train for the given minutes or steps, publishing checkpoints on the way."""
    torch.set_num_threads(arguments.threads)
    known = arguments.resume or arguments.out
    if (known / "tokenizer.json").exists() and not arguments.new_tokenizer:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(known)
        tokenizer.chat_template = TEMPLATE.read_text(encoding="utf-8")
    else:
        tokenizer = train_tokenizer()
    model = build_model(tokenizer, arguments.seed)
    if arguments.resume:
        model.load_state_dict(LlamaForCausalLM.from_pretrained(arguments.resume, dtype=torch.float32).state_dict())
    count = sum(p.numel() for p in model.parameters())
    print(f"{count} parameters, vocabulary of {len(tokenizer)}", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    batches = Batches(tokenizer, start=arguments.seed * 10_000_000)
    batches.progress = 1.0 if arguments.resume else 0.0
    began = published = time.monotonic()
    seen = step = 0
    recent: list[float] = []
    for tokens, positions in batches:
        elapsed = time.monotonic() - began
        progress = step / arguments.steps if arguments.steps else elapsed / (60 * arguments.minutes)
        if progress >= 1:
            break
        batches.progress = 1.0 if arguments.resume else progress
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, step, arguments.peak)
        loss = answer_loss(model, tokens, positions)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent = [*recent[-49:], loss.item()]
        seen += tokens.numel()
        step += 1
        if step % 25 == 0:
            left = elapsed / max(progress, 1e-9) - elapsed
            print(
                f"step {step} loss {sum(recent) / len(recent):.4f} tokens {seen} rate {seen / max(elapsed, 1):.0f}/s "
                f"elapsed {elapsed / 60:.1f} min left {left / 60:.1f} min",
                flush=True,
            )
        if time.monotonic() - published > 60 * arguments.publish_every:
            publish(model, tokenizer, arguments.out)
            published = time.monotonic()
    publish(model, tokenizer, arguments.out)
    elapsed = time.monotonic() - began
    print(f"done: {step} steps, {seen} tokens, {batches.index} dialogues drawn, {elapsed / 60:.1f} min", flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("clinical-demo"))
    parser.add_argument("--minutes", type=float, default=50.0, help="wall-clock training time")
    parser.add_argument("--steps", type=int, default=0, help="number of steps; replaces --minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--publish-every", type=float, default=4.0, help="minutes between published checkpoints")
    parser.add_argument("--resume", type=Path, help="start from the weights of this model directory")
    parser.add_argument("--new-tokenizer", action="store_true", help="train the tokenizer again if one exists")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
