"""What turns requests into tokens."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from serving.settings.values import Bytes, Seconds, Section


class GrammarLimits(Section):
    """JSON schemas are compiled aside before the engine gets them; one that takes more than this is 400."""

    seconds: float = Field(
        2.0,
        gt=0,
        le=60,
        description="CPU time of one schema on each of the replica's cores, of which 8 are used at most. Raise it for "
        "large vocabularies and lengths: maxLength 500 takes 4.3 s in all with 131,072 tokens.",
    )
    memory: Bytes = Field(2**30, ge=2**26, description="Memory of one, beside what is loaded.")
    processes: int = Field(2, ge=1, le=64, description="Schemas that are compiled at a time in one replica.")
    waiting: int = Field(64, ge=0, description="That wait for it; more are 503, and another replica is asked.")


class VllmEngine(Section):
    """vLLM under Ray Serve."""

    kind: Literal["vllm"] = Field(description="Selects this engine.")
    device: Literal["cpu", "gpu"] = Field("gpu", description="What the replica runs on.")
    accelerator_type: str | None = Field(
        None, description="Ray's name of the GPU type, such as H100 or A100-80G. Default: any."
    )
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs of one replica.")
    num_cpus: float = Field(1.0, gt=0, description="CPUs that Ray reserves for a replica.")
    max_ongoing_requests: int = Field(1024, ge=1, description="Requests in one replica at a time, running and waiting.")
    batch_lines: int = Field(
        32, ge=1, description="Lines of batches in one replica at a time; beside interactive requests, fewer."
    )
    args: dict[str, Any] = Field(
        default_factory=dict,
        description="vLLM's engine arguments by name, such as max_model_len; checked when this is read.",
    )
    grammars: GrammarLimits = GrammarLimits()
    env: dict[str, str] = Field(
        default_factory=dict, description="Environment of the replica, such as VLLM_CPU_KVCACHE_SPACE."
    )

    @model_validator(mode="after")
    def _gpu_settings_need_a_gpu(self) -> Self:
        if self.device == "cpu" and (self.accelerator_type or self.tensor_parallel_size > 1):
            raise ValueError("accelerator_type and tensor_parallel_size need 'device: gpu'")
        return self


class EchoFailure(Section):
    """A planned failure of the echo engine, for every request with this text in its last message, or for all."""

    when: str = Field("", description="Text that triggers it; empty: every request.")
    action: Literal["refuse", "die", "stall"] = Field(
        description="`refuse`: 503 at once. `die`: break after `after` tokens. `stall`: fall silent after them."
    )
    after: int = Field(0, ge=0, description="Tokens before it happens.")


class EchoEngine(Section):
    """A deterministic engine that repeats the last message: for tests, load tests and drills, never a model."""

    kind: Literal["echo"] = Field(description="Selects this engine.")
    first_token: Seconds = Field(0.0, description="Time to first token.")
    inter_token: Seconds = Field(0.0, description="Time between tokens.")
    max_model_len: int = Field(
        4096, ge=2, description="Prompt and answer, in words; more is refused as a real engine does."
    )
    slots: int | None = Field(
        None, ge=1, description="Requests that run at a time; the rest waits, in order. Default: all run."
    )
    prefill_rate: float | None = Field(
        None, gt=0, description="Words of prompts a second, of all together. Default: they take no time."
    )
    place: Literal["gateway", "replicas"] | None = Field(
        None,
        description="`gateway`: in its process. `replicas`: replicas of its own under Ray, as vLLM has. Default: "
        "replicas where the deployment asks for several or scales, else the gateway.",
    )
    start_time: Seconds = Field(0.0, description="How long a replica of its own takes to start.")
    num_cpus: float = Field(0.1, ge=0, description="CPUs that Ray reserves for a replica of its own.")
    failures: tuple[EchoFailure, ...] = Field((), description="Planned failures, first match wins.")


def _text_of(value: object) -> object:
    """YAML takes 2024-10-21 for a date."""
    return value.isoformat() if isinstance(value, datetime.date) else value


Version = Annotated[str, BeforeValidator(_text_of), Field(pattern=r"^[A-Za-z0-9.-]+$")]


class Breaker(Section):
    """An endpoint that fails again and again is left alone for a while. What clients did wrong never counts."""

    failures: int = Field(5, ge=1, description="Failures in a row after which it is left alone.")
    window: Seconds = Field(60.0, gt=0, description="They count as a row within this time.")
    open_for: Seconds = Field(15.0, gt=0, description="How long, until one request at a time tries it again.")


class HttpEngine(Section):
    """Any endpoint that speaks OpenAI: a bare vLLM, a NIM, Azure OpenAI, a Foundry model."""

    kind: Literal["http"] = Field(description="Selects this engine.")
    url: str = Field(
        pattern=r"^https?://",
        description="Base URL, up to and including /v1; of Azure, the resource's, a deployment's or .../models.",
    )
    model: str | None = Field(None, description="The model's name there. Default: the deployment's name.")
    api_version: Version | None = Field(
        None, description="Azure's, such as 2024-10-21: then the dated paths are used, unless url ends with /v1."
    )
    key_env: str | None = Field(None, description="Environment variable that holds the endpoint's key.")
    key_header: str | None = Field(
        None, description="Header that takes it. Default: api-key with an api_version, else Authorization: Bearer."
    )
    entra: bool = Field(
        False, description="Sign in with Entra ID, as whoever this process is (azure-identity), instead of a key."
    )
    entra_scope: str = Field(
        "https://cognitiveservices.azure.com/.default",
        description="What the token is for. Foundry: https://ai.azure.com/.default",
    )
    vllm_fields: bool | None = Field(
        None,
        description="Whether it takes vLLM's extensions, such as top_k; else they are left out. Default: not Azure's.",
    )
    rename: dict[str, str] = Field(
        default_factory=dict,
        description="Fields that it calls otherwise, such as {max_tokens: max_completion_tokens} for reasoning models.",
    )
    breaker: Breaker = Breaker()

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if self.entra and self.key_env:
            raise ValueError("entra and key_env: choose one")
        return self

    @property
    def is_azure(self) -> bool:
        return self.api_version is not None or self.entra


ENGINES: dict[str, type[Section]] = {"vllm": VllmEngine, "echo": EchoEngine, "http": HttpEngine}

Engine = Annotated[VllmEngine | EchoEngine | HttpEngine, Field(discriminator="kind")]
