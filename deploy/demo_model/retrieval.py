"""How often the right note is found by its embedding: recall@1 and @5 among held-out notes, and how it is measured.

Two searches: by a question ("woman of 67 on lisinopril 10 mg, allergic to penicillin"), which names who the patient is
and two or three facts, and by a paraphrase, the same facts written as another clinician would.
"""

from __future__ import annotations

import argparse
import base64
import json
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from notes import Note, held_out_seed, make_note, rewritten
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

Embedder = Callable[[Sequence[str]], np.ndarray]
SEARCHES = ("question", "paraphrase")


@dataclass(frozen=True)
class Sought:
    """A note and the two ways in which it is looked for."""

    note: str
    question: str
    paraphrase: str


def sought(seed: int, size: int = 2) -> Sought:
    """The note of a seed; size limits it as in make_note."""
    rng = Random(seed)
    note = make_note(rng, size)
    return Sought(note.text, search_for(rng, note), rewritten(rng, note).text)


def search_for(rng: Random, note: Note) -> str:
    """What someone types who remembers the patient: age and sex, the reason or not, and two or three facts."""
    person = {"female": ("woman", "female patient", "lady"), "male": ("man", "male patient", "gentleman")}[note.sex]
    facts = [f"with {problem}" for problem in note.problems[:4]]
    facts += [f"{rng.choice(('on', 'taking', 'who takes'))} {drug}" for drug in note.medications[:4]]
    facts += [f"allergic to {allergy.split(' (')[0]}" for allergy in note.allergies[:2]]
    facts += [f"whose {name} was {value}" for name, value in note.labs[:3]]
    facts += [f"planned: {item}" for item in note.plan[:2]]
    chosen = rng.sample(facts, min(len(facts), rng.choice((2, 2, 3))))
    if rng.random() < 0.5:
        chosen.insert(0, f"seen for {note.reason}")
    who = rng.choice((f"{note.age}-year-old {rng.choice(person)}", f"{rng.choice(person)} of {note.age}"))
    asked = f"{who} {', '.join(chosen)}"
    return rng.choice((asked, f"Which patient is a {asked}?", f"Find the {asked}.", f"{asked}?"))


def load(directory: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="right")
    return AutoModel.from_pretrained(directory, dtype=torch.float32), tokenizer


def vectors(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> torch.Tensor:
    """The mean over a text's tokens, as vLLM pools with `seq_pooling_type: MEAN`; not yet of length 1."""
    inputs = tokenizer(list(texts), padding=True, return_tensors="pt")
    mask = inputs["attention_mask"].unsqueeze(-1)
    hidden = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
    return (hidden * mask).sum(1) / mask.sum(1)


def local_embedder(directory: Path, dimensions: int | None) -> Embedder:
    """With transformers, from a model directory."""
    model, tokenizer = load(directory)

    def embed(texts: Sequence[str]) -> np.ndarray:
        with torch.inference_mode():
            parts = [vectors(model, tokenizer, texts[i : i + 32]) for i in range(0, len(texts), 32)]
        return torch.cat(parts)[:, :dimensions].numpy()

    return embed


def server_embedder(url: str, key: str, model: str, dimensions: int | None) -> Embedder:
    """From an OpenAI-compatible server; url ends in /v1."""

    def embed(texts: Sequence[str]) -> np.ndarray:
        body = {"model": model, "input": list(texts), "encoding_format": "base64"}
        if dimensions:
            body["dimensions"] = dimensions
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        request = urllib.request.Request(f"{url.rstrip('/')}/embeddings", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=300) as response:
            data = json.load(response)["data"]
        return np.stack([np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4") for item in data])

    return embed


def recall(embed: Embedder, cases: Sequence[Sought]) -> dict[str, dict[str, float]]:
    """For each kind of search, the share of notes that are first, and among the first five, of all."""

    def unit(texts: Sequence[str]) -> np.ndarray:
        given = embed(texts)
        return given / np.linalg.norm(given, axis=1, keepdims=True)

    notes, table = unit([case.note for case in cases]), {}
    for search in SEARCHES:
        scores = unit([getattr(case, search) for case in cases]) @ notes.T
        ranks = (scores > scores.diagonal()[:, None]).sum(1)
        table[search] = {f"recall@{k}": round(float((ranks < k).mean()), 3) for k in (1, 5)}
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path(__file__).with_name("clinical-embed"))
    parser.add_argument("--url", help="base address of an OpenAI-compatible server, ending in /v1")
    parser.add_argument("--key", default="", help="API key for --url")
    parser.add_argument("--model", default="clinical-embed", help="model name for --url")
    parser.add_argument("--dimensions", type=int, help="the first so many only")
    parser.add_argument("--notes", type=int, default=200)
    arguments = parser.parse_args()
    cases = [sought(held_out_seed(index)) for index in range(arguments.notes)]
    embed = (
        server_embedder(arguments.url, arguments.key, arguments.model, arguments.dimensions)
        if arguments.url
        else local_embedder(arguments.directory, arguments.dimensions)
    )
    for search, found in recall(embed, cases).items():
        print(f"{search:10}", *(f"{name} {100 * share:.1f} %" for name, share in found.items()), f"of {len(cases)}")


if __name__ == "__main__":
    main()
