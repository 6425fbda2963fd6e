"""The tree as a whole, and all its settings as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self, get_args

from pydantic import BaseModel, Field, model_validator
from pydantic.fields import FieldInfo

from serving.settings.deployments import Deployment
from serving.settings.engines import ENGINES
from serving.settings.governance import Audit, Idempotency, Identity, Keys, Quotas, Usage
from serving.settings.guards import GUARDS, Guard
from serving.settings.server import Batches, Console, Database, Gateway, Responses, Server, Telemetry, Vault, Weights
from serving.settings.values import Section

METRICS_ABOVE = 1464
"""From the API's port to that of metrics: 9464, which is OpenTelemetry's for Prometheus, from 8000."""
KINDS = ENGINES | GUARDS
"""What `kind` says, and what may stand beside it."""


class Settings(Section):
    """Everything that can be configured."""

    server: Server = Server()
    gateway: Gateway = Gateway()
    secrets: Vault = Vault()
    keys: Keys = Keys()
    identity: Identity = Identity()
    database: Database = Database()
    quotas: Quotas = Quotas()
    idempotency: Idempotency = Idempotency()
    usage: Usage = Usage()
    audit: Audit = Audit()
    batches: Batches = Batches()
    responses: Responses = Responses()
    weights: Weights = Weights()
    telemetry: Telemetry = Telemetry()
    console: Console = Console()
    guards: tuple[Guard, ...] = Field((), description="Content filters that deployments may name.")
    deployments: tuple[Deployment, ...] = Field(min_length=1, description="The models that are served.")

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        names = [deployment.name for deployment in self.deployments]
        if len(set(names)) < len(names):
            raise ValueError("deployments: two have the same name")
        for deployment in self.deployments:
            if deployment.spill_to is not None and deployment.spill_to not in names:
                raise ValueError(f"deployments: spill_to of '{deployment.name}' names no deployment")
        self._guards_have_their_names()
        vllm = [d.name for d in self.deployments if d.engine.kind == "vllm"]
        if self.server.runtime == "process" and vllm:
            raise ValueError(f"server.runtime: 'process' cannot run vLLM ({', '.join(vllm)}); use 'ray'")
        scaled = [d.name for d in self.deployments if d.scaling]
        if self.server.runtime == "process" and scaled:
            raise ValueError(f"server.runtime: 'process' cannot scale ({', '.join(scaled)}); use 'ray'")
        if self.gateway.replicas > 1 and not self.quotas.redis:
            raise ValueError("gateway.replicas: several replicas need quotas.redis, or each would count for itself")
        if self.gateway.replicas > 1 and not (self.batches.blob or self.batches.shared):
            raise ValueError(
                "gateway.replicas: several replicas need the same place for files: batches.blob, or a batches.folder "
                "that all of them have, and batches.shared: true"
            )
        return self

    def _guards_have_their_names(self) -> None:
        names = [guard.name for guard in self.guards]
        if len(set(names)) < len(names):
            raise ValueError("guards: two have the same name")
        for deployment in self.deployments:
            for name in deployment.guards:
                if name not in names:
                    raise ValueError(f"deployments: '{deployment.name}' names a guard that is not in 'guards'")

    @property
    def replicated(self) -> tuple[Deployment, ...]:
        """The deployments that run in replicas of their own: an application of Ray Serve each."""
        return tuple(d for d in self.deployments if self.server.runtime == "ray" and d.has_replicas)

    @property
    def metrics_port(self) -> int:
        """Where metrics are read without a key; 0: nowhere."""
        if not self.telemetry.metrics:
            return 0
        given, above = self.telemetry.metrics_port, self.server.port + METRICS_ABOVE
        return given if given is not None else above if above <= 65535 else 0

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.server.state_dir / 'clinserve.db'}"


def reference() -> list[tuple[str, str, str]]:
    """Every setting as (path, default, description), in the order of the tree; `[]` stands for an item of a list."""
    return list(_described(Settings, ""))


def _described(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in section.model_fields.items():
        inner = sections_in(field.annotation)
        many = "[]" if "tuple" in str(field.annotation) else ""
        if not inner:
            yield f"{prefix}{name}", _shown(field), field.description or ""
        for one in inner:
            variant = next((f"({kind})." for kind, section in KINDS.items() if section is one), "")
            yield from _described(one, f"{prefix}{name}{many}.{variant}")


def _shown(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    return "none" if default is None else str(default) or '""'


def sections_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in sections_in(argument)]
