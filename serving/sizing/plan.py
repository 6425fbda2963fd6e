"""From a model and a GPU to a plan: how many GPUs, what fits into their memory, how fast, and what a token costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from serving.sizing.architecture import Architecture, read_bytes, weight_bytes
from serving.sizing.errors import DoesNotFit
from serving.sizing.gpus import Gpu
from serving.sizing.kv_cache import BLOCK, KvCache, kv_cache, token_bytes
from serving.sizing.memory import GIB, Memory, memory_of
from serving.sizing.precision import QUANTISATIONS, kv_bytes_of
from serving.sizing.speed import Cost, Efficiency, Machine, Speed, cost_of

_SIZES = (1, 2, 4, 8)
_CONTEXT, _RECORD = 32768, 8192


@dataclass(frozen=True, slots=True)
class Question:
    """What a plan is asked for. gpus: 0 for the fewest that do. quantisation: None for the checkpoint's own. context:
    vLLM's max_model_len; 0 for the model's, to 32,768. record, answer: tokens of a request, the answer included, and of
    its answer; record 0 for 8,192, to the context. at_least: such requests at a time. sequences: vLLM's max_num_seqs.
    memory_share: its gpu_memory_utilization. load: share of the time in which a paid GPU is busy. price: of one GPU for
    an hour; None: no cost.
    """

    gpus: int = 0
    quantisation: str | None = None
    kv_dtype: str = "auto"
    context: int = 0
    record: int = 0
    answer: int = 512
    at_least: int = 1
    sequences: int = 256
    memory_share: float = 0.92
    load: float = 0.6
    price: float | None = None
    efficiency: Efficiency = field(default_factory=Efficiency)


@dataclass(frozen=True, slots=True)
class Plan:
    """question: with what was left to us filled in. kv_token_bytes: what a token leaves in all layers, on all GPUs."""

    gpu: Gpu
    gpus: int
    quantisation: str | None
    memory: Memory
    kv: KvCache
    kv_token_bytes: float
    speed: Speed
    cost: Cost | None
    question: Question

    @property
    def context(self) -> int:
        return self.question.context

    @property
    def kv_tokens(self) -> int:
        """As vLLM's log says it."""
        return self.kv.tokens(self.context)

    def requests(self, tokens: int) -> int:
        """Of this length, at a time: as many as the cache holds and max_num_seqs lets in."""
        return min(self.kv.requests(tokens), self.question.sequences)

    @property
    def quantises_on_load(self) -> bool:
        """Whether vLLM makes of any checkpoint what was asked for."""
        wanted = self.question.quantisation
        return wanted is None or QUANTISATIONS[wanted].on_load


def plan(architecture: Architecture, gpu: Gpu, question: Question, *, weights: int | None = None) -> Plan:
    """With the fewest GPUs that do. weights: bytes on the disk, if known. Raises DoesNotFit, with what would help."""
    question = _filled_in(architecture, question)
    if weights is None or question.quantisation:
        weights = round(weight_bytes(architecture, question.quantisation))
    tried = [_on(architecture, weights, gpu, gpus, question) for gpus in _candidates(architecture, question)]
    for found in tried:
        if found.kv.holds(found.context) and found.requests(question.record) >= question.at_least:
            return found
    raise DoesNotFit(_why(tried[-1], weights))


def assumptions(found: Plan) -> Iterator[str]:
    """Everything that the numbers rest on and that nobody measured, one sentence each."""
    q, e, gpu = found.question, found.question.efficiency, found.gpu
    yield (
        f"vLLM 0.29 with max_model_len {q.context:,}, max_num_seqs {q.sequences}, max_num_batched_tokens "
        f"{gpu.batched_tokens:,}, gpu_memory_utilization {q.memory_share}, blocks of {BLOCK} tokens"
    )
    yield "activations, CUDA graphs and libraries are allowances by the model's width, not measured on a GPU"
    yield "requests at a time share no prefix; where they do, more fit. Those that do not fit wait"
    yield (
        f"decoding reads memory at {e.bandwidth:.0%} of {gpu.bandwidth / 1e12:.2f} TB/s, prefill multiplies at "
        f"{e.arithmetic:.0%} of {gpu.bf16 / 1e12:,.0f} TFLOPS (fp8: {gpu.fp8 / 1e12:,.0f}); {e.step * 1000:.0f} ms of "
        "each step are the host's"
    )
    if found.gpus > 1:
        yield f"GPUs exchange twice a layer, {e.exchange * 1e6:.0f} µs each: with NVLink between them, not PCIe"
    if found.cost:
        yield (
            f"a GPU costs {q.price:g} an hour and is busy {q.load:.0%} of the time; prompts of {q.record - q.answer:,} "
            f"tokens without cache hits, answers of {q.answer:,}"
        )


def _filled_in(architecture: Architecture, question: Question) -> Question:
    context = question.context or min(architecture.context, _CONTEXT)
    record = question.record or min(_RECORD, context)
    if context > architecture.context:
        raise DoesNotFit(f"a context of {context:,} is more than the {architecture.context:,} the model was made for")
    if record > context:
        raise DoesNotFit(f"a record of {record:,} tokens is longer than the context of {context:,}")
    if question.answer >= record:
        raise DoesNotFit(f"an answer of {question.answer:,} tokens leaves nothing of {record:,} for the prompt")
    if question.at_least > question.sequences:
        raise DoesNotFit(f"{question.at_least} records at a time are more than max_num_seqs, {question.sequences}")
    return replace(question, context=context, record=record)


def _candidates(architecture: Architecture, question: Question) -> list[int]:
    """vLLM divides heads among GPUs evenly."""
    if question.gpus and architecture.heads % question.gpus:
        raise DoesNotFit(f"{architecture.heads} attention heads cannot be divided among {question.gpus} GPUs")
    return [question.gpus] if question.gpus else [gpus for gpus in _SIZES if architecture.heads % gpus == 0]


def _on(architecture: Architecture, weights: int, gpu: Gpu, gpus: int, question: Question) -> Plan:
    memory = memory_of(architecture, weights, gpu, gpus, share=question.memory_share, sequences=question.sequences)
    number = kv_bytes_of(question.kv_dtype, architecture.dtype)
    # vLLM schedules a step ahead of the one that runs, so two steps' tokens are in flight.
    in_flight = 2 * gpu.batched_tokens
    cache = kv_cache(architecture, memory.kv, number_bytes=number, tensor_parallel=gpus, in_flight=in_flight)
    kv_token = token_bytes(architecture, number, gpus) * gpus
    quantisation = question.quantisation or architecture.quantisation
    read = read_bytes(architecture, question.quantisation)
    machine = Machine(architecture, gpu, gpus, read, kv_token, quantisation, question.efficiency)
    requests = max(1, min(cache.requests(question.record), question.sequences))
    speed = machine.speed(requests, question.record, question.answer)
    return Plan(
        gpu=gpu,
        gpus=gpus,
        quantisation=quantisation,
        memory=memory,
        kv=cache,
        kv_token_bytes=kv_token * architecture.layers,
        speed=speed,
        cost=None
        if question.price is None
        else cost_of(
            speed,
            an_hour=question.price * gpus,
            load=question.load,
            record=question.record,
            answer=question.answer,
        ),
        question=question,
    )


def _why(most: Plan, weights: int) -> str:
    """most: the plan with as many GPUs as may be, which does not do either."""
    record, wanted = most.question.record, most.question.at_least
    where = f"{most.gpus} × {most.gpu.name}" if most.gpus > 1 else most.gpu.name
    helps = "a larger GPU or a shorter context" if most.quantisation else "a larger GPU, fp8 or a shorter context"
    size = f"{weights / GIB:.0f} GiB of weights"
    if not most.memory.kv:
        return f"{where} cannot hold {size}: take {helps.rpartition(' or ')[0]}"
    if not most.kv.holds(most.context):
        return f"beside {size}, {where} cannot hold one request of {most.context:,} tokens: take {helps}"
    held = most.requests(record)
    return (
        f"{where} can hold {held} requests of {record:,} tokens at a time, not {wanted}: take {helps}, or more replicas"
    )
