"""The one settings tree: what it may say, its defaults, and how a mistake in it is explained.

Read once, by the command line, from one YAML file; environment variables override it (`CLINSERVE_SERVER__PORT=9000`).
Frozen, closed (an unknown name is refused with the nearest right one), and free of secrets: those are in secrets.py.
Parts receive plain values from it in app.py, never the tree. Units: seconds, bytes, tokens; a duration may be written
`30s`, `250ms`, `5m`, a size `4MiB`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

ENVIRONMENT_PREFIX = "CLINSERVE_"
DEPLOYMENT_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,62}$")
_DURATION = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


class SettingsError(Exception):
    """The configuration cannot be used. The message names the place and the remedy, one problem a line."""


def _quantity(units: Mapping[str, float]) -> Any:
    def read(value: object) -> object:
        match = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]+)\s*", value) if isinstance(value, str) else None
        if match is None:
            return value
        number, unit = match[1], match[2].lower()
        if unit not in units:
            raise ValueError(f"unknown unit '{match[2]}'; use one of {', '.join(units)}")
        return float(number) * units[unit]

    return BeforeValidator(read)


Seconds = Annotated[float, _quantity(_DURATION), Field(ge=0)]
Bytes = Annotated[int, _quantity(_SIZE), Field(gt=0)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Server(Section):
    """Where the product listens and how long it waits."""

    host: str = Field("127.0.0.1", description="Address to listen on. Change it only behind TLS and a network policy.")
    port: int = Field(8000, ge=1, le=65535, description="Port of the API.")
    runtime: Literal["ray", "process"] = Field(
        "ray",
        description="`ray`: Ray Serve, for vLLM. `process`: one process, for echo and http engines; up in a second.",
    )
    state_dir: Path = Field(
        Path(".clinserve"),
        description="Database, generated secrets and logs of a single machine; relative to the working directory.",
    )
    max_body: Bytes = Field(4 * 2**20, description="Largest request body. Raise it for images in requests.")
    first_token_timeout: Seconds = Field(
        120.0,
        gt=0,
        description="From sending to the engine until its first token, else 504. Raise it for very long prompts.",
    )
    idle_timeout: Seconds = Field(
        60.0,
        gt=0,
        description="Longest silence of an engine inside an answer, else the stream ends with an error event.",
    )
    answer_timeout: Seconds = Field(
        600.0, gt=0, description="Longest wait for an answer that is not streamed, else 504."
    )
    max_stream: Seconds = Field(
        3600.0,
        gt=0,
        description="Longest stream that a reload of the proxy lets finish. Longer than your longest answer.",
    )
    start_timeout: Seconds = Field(
        900.0, gt=0, description="How long `serve` waits for all deployments. Raise it for large weights."
    )
    stop_timeout: Seconds = Field(
        10.0, description="How long a stop waits for running answers; what runs longer is cut. Ctrl-C again: no wait."
    )
    region: str = Field("", description="What Azure's clients see in x-ms-region.")
    trusted_proxies: int = Field(
        0, ge=0, description="Proxies of yours in front that add to X-Forwarded-For; for keys bound to networks."
    )


class Gateway(Section):
    """The gateway's Ray Serve deployment."""

    replicas: int = Field(1, ge=1, description="Gateway replicas. One carries some thousand tokens a second.")
    num_cpus: float = Field(
        0.25, gt=0, description="CPUs that Ray reserves for each; a scheduling weight, not a limit."
    )
    max_in_flight: int = Field(1024, ge=1, description="Requests in one gateway replica at a time; above it, 429.")


class Keys(Section):
    """API keys."""

    cache: Seconds = Field(
        2.0, description="How long a looked-up key is remembered: the longest time until a revocation acts."
    )
    stale: Seconds = Field(
        300.0, description="How long a key that was valid goes on working while the database is away."
    )
    admin_key_file: Path | None = Field(
        Path("admin.key"),
        description="The first `serve` writes the first administrator's key here (mode 0600), relative to state_dir.",
    )
    demo_key_file: Path | None = Field(
        None, description="`serve` writes a working key here (mode 0600), relative to state_dir. For trials only."
    )


class Database(Section):
    """Where tenants and keys are stored."""

    url: str | None = Field(
        None, description="SQLAlchemy URL, without a password (PGPASSFILE holds it). Default: SQLite in state_dir."
    )

    @model_validator(mode="after")
    def _no_password(self) -> Self:
        # Settings are printed by `config show` and logged by Ray as a replica's argument.
        if self.url and re.search(r"://[^/@]*:[^/@]+@", self.url):
            raise ValueError("url: no password here; put it into PGPASSFILE or PGPASSWORD")
        return self


Role = Literal["inference", "operator", "key_admin", "auditor"]


class Issuer(Section):
    """Whose tokens are believed besides keys, and what their holders may do: Entra ID, or any OpenID Connect issuer."""

    kind: Literal["entra", "oidc"] = Field(description="`entra`: v1 and v2 tokens of directories. `oidc`: any issuer.")
    name: str = Field(description="Ours: lower-case letters, digits and '-'. Part of its callers' ids.")
    tenant_ids: tuple[str, ...] = Field((), description="Entra: the directories (GUIDs) whose tokens are believed.")
    authority: str = Field(
        "https://login.microsoftonline.com",
        description="Entra: where v2 tokens come from; sovereign clouds differ.",
    )
    authority_v1: str = Field("https://sts.windows.net", description="Entra: where v1 tokens come from.")
    url: str = Field("", description="OpenID Connect: the issuer, as tokens name it in `iss`.")
    audiences: tuple[str, ...] = Field(
        (), description="One must be in `aud`. Default with Entra: what Azure's SDKs ask for."
    )
    roles: dict[str, Role] = Field(default_factory=dict, description="Our role by app role or by id of a group.")
    principals: dict[str, Role] = Field(default_factory=dict, description="Our role by the caller's `oid` or `sub`.")
    default_roles: tuple[Role, ...] = Field((), description="What everybody with a token may do.")
    roles_claim: str = Field("roles", description="The claim with app roles.")
    groups_claim: str = Field("groups", description="The claim with groups.")
    tenant: str | None = Field(None, description="Our tenant of all its callers; or `tenants`.")
    tenants: dict[str, str] = Field(default_factory=dict, description="Our tenant by the value of `tenant_claim`.")
    tenant_claim: str = Field("tid", description="The claim that says which tenant.")


class Identity(Section):
    """Identity providers."""

    issuers: tuple[Issuer, ...] = Field((), description="None: keys only.")
    fetch_timeout: Seconds = Field(5.0, gt=0, description="Longest wait for an issuer's signing keys.")


class Vault(Section):
    """Where the installation's secrets are."""

    key_vault: str | None = Field(
        None,
        pattern=r"^https://",
        description="Azure Key Vault, https://NAME.vault.azure.net, read with DefaultAzureCredential.",
    )
    prefix: str = Field("clinserve-", description="Before each secret's name in the vault.")


class TenantLimits(Section):
    """What a key, a tenant or a deployment may use; nothing set: unlimited. Administrators set others at run time."""

    requests_per_minute: int | None = Field(None, ge=1, description="Requests in any 60 seconds.")
    tokens_per_minute: int | None = Field(None, ge=1, description="Tokens, prompt and answer, in any 60 seconds.")
    tokens_per_day: int | None = Field(None, ge=1, description="Tokens in a day, UTC.")
    tokens_per_month: int | None = Field(None, ge=1, description="Tokens in a month, UTC.")
    concurrent_requests: int | None = Field(None, ge=1, description="Requests at a time, over all gateways.")


class DefaultLimits(Section):
    """Limits for whoever has none of their own."""

    key: TenantLimits = TenantLimits()
    tenant: TenantLimits = TenantLimits()
    deployment: TenantLimits = TenantLimits()


class Quotas(Section):
    """Limits on requests and tokens: where they are counted and what holds by default."""

    redis: str | None = Field(
        None,
        pattern=r"^rediss?://",
        description="Redis that counts for all gateways; its password is CLINSERVE_REDIS_PASSWORD. Default: memory.",
    )
    redis_timeout: Seconds = Field(0.25, gt=0, description="Longest wait for Redis before it counts as away.")
    when_away: Literal["admit", "refuse"] = Field(
        "admit", description="Redis is away: `admit` lets requests through and counts them, `refuse` answers 503."
    )
    refresh: Seconds = Field(
        2.0, gt=0, description="How often limits and tenants are read anew: the longest time until a change acts."
    )
    defaults: DefaultLimits = DefaultLimits()

    @model_validator(mode="after")
    def _no_password(self) -> Self:
        if self.redis and re.search(r"://[^/@]*:[^/@]+@", self.redis):
            raise ValueError("redis: no password here; put it into CLINSERVE_REDIS_PASSWORD")
        return self


class Usage(Section):
    """The usage ledger."""

    enabled: bool = Field(True, description="Keep a record of each admitted request.")
    flush: Seconds = Field(1.0, gt=0, description="How often it is written: the most that a crash can lose.")


class Audit(Section):
    """The audit log."""

    enabled: bool = Field(True, description="Keep a hash-chained record of each inference and administrative act.")
    when_away: Literal["refuse", "continue"] = Field(
        "refuse",
        description="It cannot be written: `refuse` answers 503 to new requests, `continue` serves and counts.",
    )
    grace: Seconds = Field(5.0, description="How long writing may fail before `refuse` refuses.")
    flush: Seconds = Field(1.0, gt=0, description="How often it is written and signed: the most that a crash can lose.")
    witness: Seconds = Field(60.0, gt=0, description="How often each writer records where the others' chains end.")


class Batches(Section):
    """Files and batches."""

    lines: int = Field(16, ge=1, description="Lines that one gateway replica runs at a time, over all batches.")
    max_lines: int = Field(100_000, ge=1, description="Lines of one batch.")
    max_batches: int = Field(50, ge=1, description="Batches of a tenant at a time.")
    max_file: Bytes = Field(200 * 2**20, description="Largest file.")
    max_files: int = Field(500, ge=1, description="Files of a tenant.")
    keep: Seconds = Field(
        30 * 86400.0, description="How long files are kept when their owner does not say; 0: for ever."
    )
    blob: str | None = Field(
        None,
        pattern=r"^https?://[^?]+$",
        description="Container for files, https://ACCOUNT.blob.core.windows.net/NAME. Default: state_dir/files.",
    )


class Telemetry(Section):
    """Metrics and logs. There is no setting that logs content."""

    request_log: Literal["stdout", "file", "off"] = Field(
        "stdout", description="One JSON line a request: to standard output, to state_dir/logs, or nowhere."
    )
    metrics: bool = Field(True, description="Serve Prometheus metrics at /metrics.")


class Model(Section):
    """Weights, tokenizer and template at a pinned revision."""

    source: str = Field(
        "",
        description="A Hugging Face id, or a directory, absolute or relative to the configuration file. vLLM needs it.",
    )
    revision: str | None = Field(
        None, description="Commit of a Hugging Face id. Pin it: a moving branch is another model."
    )
    notice: str | None = Field(None, description="Shown wherever the model is shown, such as 'not for clinical use'.")


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
    args: dict[str, Any] = Field(
        default_factory=dict,
        description="vLLM's engine arguments by name, such as max_model_len; checked when this is read.",
    )
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
    failures: tuple[EchoFailure, ...] = Field((), description="Planned failures, first match wins.")


class HttpEngine(Section):
    """Any endpoint that speaks OpenAI: a bare vLLM, a NIM."""

    kind: Literal["http"] = Field(description="Selects this engine.")
    url: str = Field(pattern=r"^https?://", description="Base URL, up to and including /v1.")
    model: str | None = Field(None, description="The model's name there. Default: the deployment's name.")
    key_env: str | None = Field(None, description="Environment variable that holds the endpoint's key.")


_ENGINES: dict[str, type[Section]] = {"vllm": VllmEngine, "echo": EchoEngine, "http": HttpEngine}
Engine = Annotated[VllmEngine | EchoEngine | HttpEngine, Field(discriminator="kind")]


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
    max_in_flight: int = Field(
        256, ge=1, description="Requests of this deployment in one gateway replica; above it, 429."
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
    replicas: int = Field(1, ge=1, description="Engine replicas.")
    limits: Limits = Limits()
    spill_to: str | None = Field(
        None, description="Deployment that takes requests which this one cannot: it is full, away or broken."
    )
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
    def _name_is_safe_in_urls_and_labels(self) -> Self:
        if not DEPLOYMENT_NAME.fullmatch(self.name):
            raise ValueError(
                "name: use lower-case letters, digits, '.', '_' and '-', at most 63, starting with a letter or digit"
            )
        return self


class Settings(Section):
    """Everything that can be configured."""

    server: Server = Server()
    gateway: Gateway = Gateway()
    secrets: Vault = Vault()
    keys: Keys = Keys()
    identity: Identity = Identity()
    database: Database = Database()
    quotas: Quotas = Quotas()
    usage: Usage = Usage()
    audit: Audit = Audit()
    batches: Batches = Batches()
    telemetry: Telemetry = Telemetry()
    deployments: tuple[Deployment, ...] = Field(min_length=1, description="The models that are served.")

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        names = [deployment.name for deployment in self.deployments]
        if len(set(names)) < len(names):
            raise ValueError("deployments: two have the same name")
        for deployment in self.deployments:
            if deployment.spill_to is not None and deployment.spill_to not in names:
                raise ValueError(f"deployments: spill_to of '{deployment.name}' names no deployment")
        vllm = [d.name for d in self.deployments if d.engine.kind == "vllm"]
        if self.server.runtime == "process" and vllm:
            raise ValueError(f"server.runtime: 'process' cannot run vLLM ({', '.join(vllm)}); use 'ray'")
        if self.gateway.replicas > 1 and not self.quotas.redis:
            raise ValueError("gateway.replicas: several replicas need quotas.redis, or each would count for itself")
        return self

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.server.state_dir / 'clinserve.db'}"


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and validate the file at `path` with `environ` over it.

    Relative model directories become absolute (from the file's folder), as does `state_dir` (from the working
    directory), because replicas run elsewhere. Raises SettingsError with every problem found.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise SettingsError(f"{path}: expected settings at the top, such as 'deployments:'")
    _override(tree, environ)
    return parse(tree, base=path.resolve().parent, origin=str(path))


def parse(tree: Mapping[str, Any], *, base: Path = Path(), origin: str = "settings") -> Settings:
    """Validate a settings tree as read from YAML; see `load` for what becomes absolute. Raises SettingsError."""
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{origin}: {line}" for line in _explain(error))) from None
    server = settings.server.model_copy(update={"state_dir": settings.server.state_dir.absolute()})
    deployments = tuple(
        d.model_copy(update={"model": d.model.model_copy(update={"source": _locate(d.model, base, origin)})})
        for d in settings.deployments
    )
    return settings.model_copy(update={"server": server, "deployments": deployments})


def _locate(model: Model, base: Path, origin: str) -> str:
    """A directory becomes absolute; anything else is taken for a Hugging Face id."""
    if not model.source:
        return ""
    directory = (base / model.source).resolve()
    looks_like_a_path = model.source.startswith((".", "/"))
    if not directory.is_dir() and not looks_like_a_path:
        return model.source
    if not directory.is_dir():
        raise SettingsError(f"{origin}: model.source: there is no directory {directory}")
    if model.revision:
        raise SettingsError(f"{origin}: model.revision: a directory has no revision; it belongs to a Hugging Face id")
    return str(directory)


def _override(tree: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Lay `CLINSERVE_SECTION__NAME=value` over the tree; single names (CLINSERVE_CONFIG, secrets) are not settings."""
    for name, value in environ.items():
        path = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        if not name.startswith(ENVIRONMENT_PREFIX) or len(path) < 2:
            continue
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise SettingsError(f"{name}: {part} is a list or a value; the environment can only set single values")
        try:
            node[path[-1]] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise SettingsError(f"{name}: not valid YAML; put the value in quotes") from None


def _explain(error: ValidationError) -> list[str]:
    lines = []
    problems = error.errors(include_url=False, include_input=False)
    for problem in problems:
        if problem["type"] == "too_short" and len(problems) > 1:
            continue  # "at least one deployment", because none of them is valid: those are listed
        # Pydantic puts the tag of a union ("vllm") behind "engine"; users do not write it.
        at = problem["loc"]
        place = [part for index, part in enumerate(at) if part not in _ENGINES or at[index - 1] != "engine"]
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(place[-1]), _names_at(problem["loc"][:-1]), n=1, cutoff=0.5)
            hint = (
                f"; did you mean '{near[0]}'?" if near else f"; known here: {', '.join(_names_at(problem['loc'][:-1]))}"
            )
            lines.append(f"{where}: unknown setting{hint}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {message}" if where else message)
    return lines


def _names_at(location: tuple[int | str, ...]) -> list[str]:
    """The settings known at a location of pydantic's, by walking the classes along it."""
    section: type[BaseModel] = Settings
    for part in location:
        if isinstance(part, str) and part in section.model_fields:
            section = next(iter(_sections(section.model_fields[part].annotation)), section)
        elif part in _ENGINES:
            section = _ENGINES[str(part)]
    return list(section.model_fields)


def _sections(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _sections(argument)]


def reference() -> list[tuple[str, str, str]]:
    """Every setting as (path, default, description), in the order of the tree; `[]` stands for an item of a list."""
    return list(_described(Settings, ""))


def _described(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in section.model_fields.items():
        inner = _sections(field.annotation)
        many = "[]" if "tuple" in str(field.annotation) else ""
        if not inner:
            yield f"{prefix}{name}", _shown(field), field.description or ""
        for one in inner:
            variant = next((f"{kind}." for kind, engine in _ENGINES.items() if engine is one), "")
            yield from _described(one, f"{prefix}{name}{many}." + (f"({variant[:-1]})." if variant else ""))


def _shown(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    return "none" if default is None else str(default) or '""'
