"""`clinserve plan`: what a model needs of a GPU, printed with everything that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from serving.commands.printing import print_json, print_table
from serving.sizing.catalog import Entry, catalog
from serving.sizing.deployment import deployment_block
from serving.sizing.errors import DoesNotFit
from serving.sizing.gpus import gpu_named
from serving.sizing.memory import GIB
from serving.sizing.plan import Plan, Question, assumptions
from serving.sizing.plan import plan as worked_out
from serving.sizing.precision import quantisation_named
from serving.sizing.subject import Subject, subject

_LENGTHS = (2048, 8192, 16384, 32768)


def plan(
    model: str,
    gpu: str,
    question: Question,
    lengths: Sequence[int],
    *,
    as_json: bool,
    as_deployment: bool,
    folder: Path,
) -> None:
    """Raises SizingError. lengths: of the requests whose number at a time is told besides the record's."""
    if question.quantisation:
        quantisation_named(question.quantisation)
    asked = subject(model, catalog(folder))
    found = worked_out(asked.architecture, gpu_named(gpu), question, weights=asked.weights)
    if too_long := [length for length in lengths if length > found.context]:
        raise DoesNotFit(f"requests of {too_long[0]:,} tokens are longer than the context of {found.context:,}")
    shown = sorted({found.question.record, *(lengths or (n for n in _LENGTHS if n <= found.context))})
    if as_deployment:
        typer.echo(deployment_block(asked, found), nl=False)
    elif as_json:
        print_json(_public(asked, found, shown))
    else:
        _print(asked, found, shown)


def models(folder: Path) -> None:
    """The catalogue as a table. Raises CatalogError."""
    rows = [
        (e.name, f"{e.architecture.weights.total / 1e9:.1f}", f"{e.context:,}", e.serves, e.licence.name)
        for e in catalog(folder).values()
    ]
    columns = ("model", "billions", "context", "serves", "licence")
    print_table(columns, rows, whole=("model",), right=("billions", "context"))
    typer.echo("Or any directory with a config.json: clinserve plan DIRECTORY --gpu H100")


def _print(asked: Subject, found: Plan, lengths: Sequence[int]) -> None:
    where = f"{found.gpus} × {found.gpu.name}" if found.gpus > 1 else found.gpu.name
    typer.secho(f"{asked.title} on {where}, tensor_parallel_size {found.gpus}", bold=True)
    if found.gpu.azure:
        typer.echo(f"In Azure, for example: {found.gpu.azure}")
    m, a = found.memory, asked.architecture
    kind = found.quantisation or a.dtype
    source = "as on the disk" if asked.weights and not found.question.quantisation else "worked out"
    print_table(
        ("memory of each GPU", "GiB", ""),
        [
            ("weights", _gib(m.weights), f"{_count(a.weights.total)}, {kind}, {source}"),
            ("activations", _gib(m.activations), "allowance"),
            ("CUDA graphs, libraries", _gib(m.overhead), "allowance"),
            ("KV cache", _gib(m.kv), f"{found.kv_token_bytes / 1024:.0f} KiB a token in all layers{_attention(asked)}"),
            ("unused", _gib(m.unused), f"gpu_memory_utilization {found.question.memory_share}"),
        ],
        right=("GiB",),
    )
    typer.echo(f"\nKV cache: {found.kv_tokens:,} tokens, as vLLM's log counts them at a context of {found.context:,}\n")
    print_table(
        ("tokens of a request", "requests at a time"), [(f"{n:,}", f"{found.requests(n):,}") for n in lengths],
        right=("tokens of a request", "requests at a time"),
    )  # fmt: skip
    s, q = found.speed, found.question
    typer.echo(
        f"\nOne replica with {s.requests} requests of {q.record:,} tokens at a time: {s.prompt:,.0f} prompt and "
        f"{s.answer:,.0f} answer tokens a second, {s.between_tokens * 1000:.0f} ms between tokens; alone, the first "
        f"token after {s.first_token:.2f} s"
    )
    if found.cost:
        c = found.cost
        typer.echo(f"A million tokens: prompt {c.prompt:.2f}, answer {c.answer:.2f}, together {c.all:.2f}")
    _print_notes("Assumptions", assumptions(found))
    if asked.entry:
        _print_notes("The model", _remarks(asked.entry))


def _print_notes(title: str, notes: Iterator[str]) -> None:
    typer.secho(f"\n{title}", bold=True)
    for note in notes:
        typer.echo(f"- {note}")


def _remarks(entry: Entry) -> Iterator[str]:
    yield f"{entry.source} at {entry.commit or 'no commit that was seen: pin one before use'}"
    yield f"{entry.licence.name}, {entry.licence.url}{' (gated)' if entry.licence.gated else ''}"
    yield entry.licence.clinical_use
    yield from entry.template
    yield f"numbers of config.json: {entry.checked.config}"


def _attention(asked: Subject) -> str:
    windows = [w for w in asked.architecture.windows if w is not None]
    if not windows:
        return ", one latent for all heads" if asked.architecture.latent else ""
    return f"; {len(windows)} of {asked.architecture.layers} keep {max(windows):,} tokens only"


def _count(weights: int) -> str:
    return f"{weights / 1e9:.2f} billion" if weights > 1e8 else f"{weights / 1e6:.1f} million"


def _gib(number: float) -> str:
    return f"{number / GIB:.1f}"


def _public(asked: Subject, found: Plan, lengths: Sequence[int]) -> Mapping[str, Any]:
    m, s = found.memory, found.speed
    return {
        "model": asked.name,
        "source": asked.source,
        "revision": asked.entry.commit if asked.entry else None,
        "gpu": found.gpu.name,
        "tensor_parallel_size": found.gpus,
        "max_model_len": found.context,
        "quantization": found.quantisation,
        "parameters": asked.architecture.weights.total,
        "gpu_memory_bytes": {
            "weights": round(m.weights),
            "activations": round(m.activations),
            "overhead": round(m.overhead),
            "kv_cache": round(m.kv),
            "unused": round(m.unused),
        },
        "kv_cache_tokens": found.kv_tokens,
        "requests_at_a_time": {str(n): found.requests(n) for n in lengths},
        "speed": {
            "requests": s.requests,
            "first_token_seconds": round(s.first_token, 4),
            "between_tokens_seconds": round(s.between_tokens, 5),
            "prompt_tokens_per_second": round(s.prompt, 1),
            "answer_tokens_per_second": round(s.answer, 1),
        },
        "cost_per_million_tokens": found.cost
        and {
            "prompt": round(found.cost.prompt, 4),
            "answer": round(found.cost.answer, 4),
            "all": round(found.cost.all, 4),
        },
        "assumptions": [*assumptions(found)],
        "licence": asked.entry and asked.entry.licence.model_dump(),
    }
