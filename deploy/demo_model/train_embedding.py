"""Trains the demonstration's embedding model: a note comes to lie where its questions and paraphrases do."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
import time
from pathlib import Path

import torch
from notes import training_seed
from retrieval import load, sought, vectors
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

HERE = Path(__file__).parent
CARD = HERE / "embedding_card.md"
LAYERS = 2
WIDTHS = (64, 128, 256)
"""Each so many leading numbers are a vector too: what `dimensions` asks for."""
BATCH = 48
SHARPNESS = 20.0
FIRST_SEED = 900_000_000  # beyond those of the language model, below the held-out ones


def build_model(source: Path, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The first layers of the language model: its words, and how it looks at their neighbours."""
    torch.manual_seed(seed)
    model, tokenizer = load(source)
    model.layers = model.layers[:LAYERS]
    model.config.num_hidden_layers = LAYERS
    model.config.use_cache = False
    return model.train(), tokenizer


def contrast(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, first: int, size: int) -> torch.Tensor:
    """Of the notes in a batch each search must prefer its own, and each note its own search; at every width."""
    cases = [sought(training_seed(first + i), size) for i in range(BATCH)]
    with torch.autocast("cpu", torch.bfloat16):
        groups = [
            vectors(model, tokenizer, [getattr(case, part) for case in cases])
            for part in ("note", "question", "paraphrase")
        ]
    own = torch.arange(BATCH)
    losses = []
    for width in WIDTHS:
        notes, *searches = (functional.normalize(group[:, :width].float(), dim=1) for group in groups)
        for search in searches:
            scores = SHARPNESS * search @ notes.T
            losses += [functional.cross_entropy(scores, own), functional.cross_entropy(scores.T, own)]
    return torch.stack(losses).mean()


def publish(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Write the model directory next to its place and rename the files in one by one. The end of the model here."""
    out.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=out.parent))
    model.config.matryoshka_dimensions = list(WIDTHS)
    model.to(torch.bfloat16).save_pretrained(staging)
    tokenizer.chat_template = None
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


def train(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    model, tokenizer = build_model(arguments.source, arguments.seed)
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    began, step = time.monotonic(), 0
    recent: list[float] = []
    while (progress := (time.monotonic() - began) / (60 * arguments.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = (
                arguments.peak * min(1.0, (step + 1) / 20) * (0.02 + 0.49 * (1 + math.cos(math.pi * progress)))
            )
        loss = contrast(model, tokenizer, FIRST_SEED + step * BATCH, size=(2, 1, 2, 3)[step % 4])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent, step = [*recent[-19:], loss.item()], step + 1
        if step % 10 == 0:
            print(f"step {step} loss {sum(recent) / len(recent):.4f} {100 * progress:.0f} % of the time", flush=True)
    publish(model, tokenizer, arguments.out)
    print(f"done: {step} steps, {step * BATCH} notes", flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=HERE / "clinical-demo", help="language model to start from")
    parser.add_argument("--out", type=Path, default=HERE / "clinical-embed")
    parser.add_argument("--minutes", type=float, default=15.0, help="wall-clock training time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", type=float, default=1e-3, help="highest learning rate")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
