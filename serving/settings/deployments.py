"""The models that are served."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from serving.settings.engines import Engine
from serving.settings.scaling import Scaling, Slo
from serving.settings.values import Bytes, Seconds, Section
from serving.weights import source as weights

DEPLOYMENT_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,62}$")


class Pinned(Section):
    """Files from elsewhere, at a pinned revision."""

    source: str = Field(
        "",
        description="az://ACCOUNT/CONTAINER/PREFIX, hf://ORG/NAME (or the bare id), or a directory, absolute or "
        "relative to the configuration file. vLLM needs it.",
    )
    revision: str | None = Field(
        None, description="Commit of a Hugging Face id. Pin it: a moving branch is another model."
    )
    digest: str | None = Field(
        None,
        pattern=r"^sha256:[0-9a-f]{64}$",
        description="What the weights must be, as `clinserve weights digest DIR` prints it; others are not served. "
        "az:// needs it.",
    )
    notice: str | None = Field(None, description="Shown wherever the model is shown, such as 'not for clinical use'.")

    @model_validator(mode="after")
    def _source_and_pins_fit_together(self) -> Self:
        if "://" not in self.source:
            return self  # a directory, or a bare name: reading.py tells them apart
        try:
            source = weights.parse(self.source, self.revision)
        except weights.WeightsError as error:
            raise ValueError(f"source: {error}") from None
        if isinstance(source, weights.BlobSource) and self.revision:
            raise ValueError("revision: blobs have none; digest pins them")
        if isinstance(source, weights.BlobSource) and not self.digest:
            raise ValueError("digest: az:// needs one; 'clinserve weights digest DIR' prints that of a directory")
        return self


class Model(Pinned):
    """Weights, tokenizer and template at a pinned revision."""

    allow_pickle: bool = Field(
        False, description="Let in files that can run code when they are loaded, such as .bin and .pt. Default: refuse."
    )


class Adapter(Pinned):
    """A LoRA adapter: a specialty of the deployment's model."""

    name: str = Field(description="Clients write DEPLOYMENT:NAME in `model`; letters as in a deployment's name.")
    digest: str = Field(
        pattern=r"^sha256:[0-9a-f]{64}$",
        description="What its files must be, as `clinserve weights digest DIR` prints it; others are not served.",
    )

    @model_validator(mode="after")
    def _it_can_be_found(self) -> Self:
        if not self.source:
            raise ValueError("source: an adapter needs one")
        if not DEPLOYMENT_NAME.fullmatch(self.name):
            raise ValueError("name: use lower-case letters, digits, '.', '_' and '-', at most 63")
        return self


class Adapters(Section):
    """What an adapters_file holds, as one section."""

    adapters: tuple[Adapter, ...]


class SchemaLimits(Section):
    """What the JSON schemas of one request may cost, of `response_format` and of tools. Exceeding one is 400."""

    total: Bytes = Field(256 * 2**10, description="Size of all schemas of a request.")
    subschemas: int = Field(4000, ge=1, description="Subschemas, of all its schemas.")
    states: int = Field(
        4000,
        ge=1,
        description="States of grammars, of all its schemas, as docs/limits.md counts them. While they are parsed the "
        "engine does nothing else; 4,000 are 60 ms.",
    )
    pattern_length: int = Field(1024, ge=1, description="Characters of one `pattern`.")
    pattern_states: int = Field(1000, ge=1, description="States of one `pattern`; [a-z]{1,500} has 999.")
    properties: int = Field(1000, ge=0, description="Properties, of all its schemas.")
    optional: int = Field(256, ge=0, description="Properties of one object that are not required.")
    alternatives: int = Field(256, ge=0, description="Schemas in anyOf, oneOf, allOf and prefixItems, of all.")
    enum_values: int = Field(2000, ge=0, description="Values in enums, of all its schemas.")
    length: int = Field(100_000, ge=0, description="Largest minLength and maxLength.")
    items: int = Field(10_000, ge=0, description="Largest minItems, maxItems, minProperties and maxProperties.")


class Limits(Section):
    """What one request may ask of a deployment. Exceeding one is 400 and never reaches the engine."""

    max_tokens: int | None = Field(
        None, ge=1, description="Largest answer, and the default. Default: what fits the context."
    )
    max_n: int = Field(8, ge=1, description="Answers to one prompt.")
    max_prompts: int = Field(32, ge=1, description="Prompts in one completions request.")
    max_inputs: int = Field(2048, ge=1, description="Inputs of one embeddings request.")
    max_logprobs: int = Field(20, ge=0, description="Log probabilities per token.")
    max_stop: int = Field(16, ge=0, description="Stop sequences.")
    max_tools: int = Field(128, ge=0, description="Tools.")
    max_schema: Bytes = Field(64 * 2**10, description="Size of a JSON schema or of one tool's parameters.")
    answer_allowance: int = Field(
        1024, ge=1, description="Tokens reserved for an answer when neither request nor deployment sets max_tokens."
    )
    max_schema_depth: int = Field(24, ge=1, description="Nesting of such a schema: deep ones make grammars explode.")
    schemas: SchemaLimits = SchemaLimits()
    max_in_flight: int = Field(
        256, ge=1, description="Requests of this deployment in one gateway replica; above it, 429."
    )


class Hold(Section):
    """What becomes of a request while no replica runs: the deployment sleeps, or starts, or its last one has died."""

    requests: int = Field(
        64, ge=0, description="Held in one gateway replica while no replica runs; the next gets 503 and Retry-After."
    )
    seconds: Seconds = Field(
        60.0,
        gt=0,
        description="How long each is held, then 503 and what the start still takes. Less than proxies in front wait.",
    )
    lines_every: Seconds = Field(
        900.0, description="So often lines of batches may wake a deployment that sleeps; they gather meanwhile."
    )


class Price(Section):
    """What a million tokens cost, in a currency of yours; for the usage ledger."""

    prompt: Decimal = Field(Decimal(0), ge=0, description="Prompt tokens that were computed.")
    cached: Decimal = Field(Decimal(0), ge=0, description="Prompt tokens that the KV cache held.")
    completion: Decimal = Field(Decimal(0), ge=0, description="Answer tokens.")


class Deployment(Section):
    """A named, callable model with its engine, scaling and limits (Azure's word)."""

    name: str = Field(description="What clients write in `model`: lower-case letters, digits, '.', '_', '-'.")
    model: Model = Model()
    engine: Engine
    replicas: int = Field(1, ge=1, description="Engine replicas, where their number is fixed.")
    slo: Slo = Slo()
    scaling: Scaling | None = Field(None, description="Default: a fixed number of replicas.")
    routing: Literal["prefix", "power-of-two", "round-robin"] = Field(
        "prefix",
        description="Which replica gets a request: `prefix`, one whose KV cache holds its beginning, or the others.",
    )
    adapters: tuple[Adapter, ...] = Field((), description="LoRA adapters of a vLLM deployment.")
    adapters_file: Path | None = Field(
        None,
        description="File with more adapters, a list as in `adapters`; read again when it changes, while all runs. "
        "Relative: beside the configuration file.",
    )
    limits: Limits = Limits()
    hold: Hold = Hold()
    upgrade: Literal["surge", "in_place"] | None = Field(
        None,
        description="`surge`: new replicas start before old ones stop, which takes room for some more at a time. "
        "`in_place`: old ones stop first; with one replica, requests are held meanwhile. Default: in_place on GPUs.",
    )
    spill_to: str | None = Field(
        None, description="Deployment that takes requests which this one cannot: it is full, away or broken."
    )
    guards: tuple[str, ...] = Field((), description="Content filters by name, in the order in which they are asked.")
    priority_tier: bool = Field(
        False, description="Whether `service_tier: priority` in a request goes before the others; else it is ignored."
    )
    price: Price | None = Field(None, description="Default: usage has no cost.")

    @model_validator(mode="after")
    def _vllm_needs_a_model(self) -> Self:
        if self.engine.kind == "vllm" and not self.model.source:
            raise ValueError("model.source: vLLM needs one")
        return self

    @model_validator(mode="after")
    def _adapters_have_a_model(self) -> Self:
        if self.takes_adapters and self.engine.kind == "http":
            raise ValueError("adapters: an endpoint elsewhere has its own; make each a deployment with engine.model")
        return self

    @property
    def takes_adapters(self) -> bool:
        return bool(self.adapters or self.adapters_file)

    @model_validator(mode="after")
    def _replicas_are_fixed_or_scale(self) -> Self:
        if self.scaling is not None and "replicas" in self.model_fields_set and self.replicas != 1:
            raise ValueError("replicas and scaling: choose one; scaling has min and max")
        if self.scaling is not None and self.engine.kind == "http":
            raise ValueError("scaling: an endpoint elsewhere has replicas of its own")
        return self

    @property
    def most_replicas(self) -> int:
        return self.scaling.max if self.scaling else self.replicas

    @property
    def surges(self) -> bool:
        """Whether its new replicas start beside the old ones: GPUs that wait for that are rare."""
        on_gpus = self.engine.kind == "vllm" and self.engine.device == "gpu"
        return not on_gpus if self.upgrade is None else self.upgrade == "surge"

    @property
    def has_replicas(self) -> bool:
        """Under Ray it runs in replicas of its own, beside the gateway's."""
        if self.engine.kind != "echo":
            return self.engine.kind == "vllm"
        several = self.replicas > 1 or self.scaling is not None
        return several if self.engine.place is None else self.engine.place == "replicas"

    @model_validator(mode="after")
    def _name_is_safe_in_urls_and_labels(self) -> Self:
        if not DEPLOYMENT_NAME.fullmatch(self.name):
            raise ValueError(
                "name: use lower-case letters, digits, '.', '_' and '-', at most 63, starting with a letter or digit"
            )
        return self
