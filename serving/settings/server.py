"""Where the product listens, what it keeps and what it tells."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from serving.settings.values import Bytes, Seconds, Section

Origin = Annotated[str, Field(pattern=r"^https?://[^/*?#@\s]+$")]


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
    body_timeout: Seconds = Field(
        30.0, gt=0, description="How long a request body may take, and a second more for each 16 KiB of it; then 408."
    )
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
    keep_alive: Seconds = Field(
        90.0,
        gt=0,
        description="How long a connection of runtime `process` may be idle. Longer than that of the load balancer in "
        "front, which else sends a request into a connection that is being closed; under Ray Serve it is Ray's, 90 s.",
    )
    start_timeout: Seconds = Field(
        900.0, gt=0, description="How long `serve` waits for all deployments. Raise it for large weights."
    )
    stop_timeout: Seconds = Field(
        10.0, description="How long a stop waits for running answers; what runs longer is cut. Ctrl-C again: no wait."
    )
    drain_timeout: Seconds = Field(
        600.0,
        gt=0,
        description="How long answers may go on in a replica that is scaled in or replaced; then an error ends them.",
    )
    cors_origins: tuple[Origin, ...] = Field(
        (),
        description="Origins whose pages may call the API from a browser, such as https://app.example.org. A key in a "
        "page is its user's to read: give such pages tokens of their users.",
    )
    region: str = Field("", description="What Azure's clients see in x-ms-region.")
    trusted_proxies: int = Field(
        0, ge=0, description="Proxies of yours in front that add to X-Forwarded-For; for keys bound to networks."
    )
    max_connections_per_address: int | None = Field(
        None,
        ge=0,
        description="Connections of one address (IPv6: /64) at a time; 0: any number. Raise it for many users behind "
        "one address. Default: 1024, and any number behind trusted_proxies, whose address is all that is seen.",
    )

    @property
    def connections_per_address(self) -> int:
        """0 for any number."""
        if self.max_connections_per_address is not None:
            return self.max_connections_per_address
        return 0 if self.trusted_proxies else 1024


class Gateway(Section):
    """The gateway's Ray Serve deployment."""

    replicas: int = Field(1, ge=1, description="Gateway replicas. One carries some thousand tokens a second.")
    num_cpus: float = Field(
        0.25, gt=0, description="CPUs that Ray reserves for each; a scheduling weight, not a limit."
    )
    max_in_flight: int = Field(1024, ge=1, description="Requests in one gateway replica at a time; above it, 429.")
    resource: str | None = Field(
        None,
        pattern=r"^[a-z][a-z0-9_-]*$",
        description="Custom resource of Ray's, of which each replica takes one: where gateways run. Default: anywhere.",
    )


class Console(Section):
    """The web console."""

    enabled: bool = Field(True, description="Serve the web console at /console; off, there is no such path.")


class Vault(Section):
    """Where the installation's secrets are."""

    key_vault: str | None = Field(
        None,
        pattern=r"^https://",
        description="Azure Key Vault, https://NAME.vault.azure.net, read with DefaultAzureCredential.",
    )
    prefix: str = Field("clinserve-", description="Before each secret's name in the vault.")
    refresh: Seconds = Field(
        60.0,
        description="How often running processes read them again, to hear of new versions. 0: at their start only.",
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


class Batches(Section):
    """Files and batches."""

    lines: int = Field(32, ge=1, description="Lines for one deployment that a gateway replica runs at a time.")
    max_lines: int = Field(100_000, ge=1, description="Lines of one batch.")
    max_batches: int = Field(50, ge=1, description="Batches of a tenant at a time.")
    max_file: Bytes = Field(200 * 2**20, description="Largest file.")
    max_files: int = Field(500, ge=1, description="Files that a tenant has uploaded and not deleted.")
    max_total: Bytes = Field(
        20 * 2**30,
        description="All files of a tenant, those of its batches too. Lower it where many share a small disk.",
    )
    keep: Seconds = Field(
        30 * 86400.0, description="How long files are kept when their owner does not say; 0: for ever."
    )
    blob: str | None = Field(
        None,
        pattern=r"^https?://[^?]+$",
        description="Container for files, https://ACCOUNT.blob.core.windows.net/NAME. Default: the folder.",
    )
    folder: Path | None = Field(
        None, description="Where files are, best a disk of their own. One database's alone. Default: state_dir/files."
    )
    shared: bool = Field(
        False,
        description="All gateways have the same folder, such as a claim that many can write. Else: blob.",
    )
    reserve: Bytes = Field(
        2**30, description="Of a disk that files, batches and kept responses leave free, for the audit log; else 507."
    )


class Responses(Section):
    """Responses that are kept, for tenants that allow it (`clinserve tenants keep-responses`)."""

    max_size: Bytes = Field(
        4 * 2**20, description="Largest that is kept, its input included; a larger one is answered and not kept."
    )
    max_stored: int = Field(10_000, ge=1, description="Responses of a tenant that are kept at a time.")
    max_chain: int = Field(100, ge=1, description="Responses before one, through previous_response_id.")
    max_history: Bytes = Field(8 * 2**20, description="What they may be together.")
    max_background: int = Field(64, ge=1, description="Background responses of one gateway replica at a time.")


class Weights(Section):
    """Where weights are kept that are downloaded from Azure Storage, and how."""

    folder: Path | None = Field(
        None, description="A large disk of this machine, or one that machines share. Default: state_dir/models."
    )
    blob_endpoint: str = Field(
        "https://{account}.blob.core.windows.net",
        pattern=r"^https?://[^{}]*(\{account\}[^{}]*)?$",
        description="Of a storage account; sovereign clouds, private endpoints and Azurite differ.",
    )
    connections: int = Field(8, ge=1, le=64, description="Pieces of 8 MiB that one download fetches at a time.")


class Traces(Section):
    """Where spans of requests are sent; nowhere by default. There is no setting that puts content into them."""

    otlp: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Receiver of OTLP over HTTP, such as http://collector:4318; vLLM sends its own spans there too.",
    )
    azure: Literal["off", "key", "entra"] = Field(
        "off",
        description="Azure Monitor, at APPLICATIONINSIGHTS_CONNECTION_STRING: by its key, or signed in with Entra ID.",
    )
    ratio: float = Field(
        1.0, ge=0, le=1, description="Share of requests that are traced. Never one whose client's traceparent says no."
    )
    trust_clients: bool = Field(
        False, description="Trace each request whose client's traceparent says so, whatever the ratio."
    )
    queue: int = Field(4096, ge=1, description="Spans that wait to be sent; beyond, they are dropped and counted.")


class Telemetry(Section):
    """Metrics, traces and logs. There is no setting that logs content."""

    request_log: Literal["stdout", "file", "off"] = Field(
        "stdout", description="One JSON line a request: to standard output, to state_dir/logs, or nowhere."
    )
    log_level: Literal["info", "warning", "error"] = Field(
        "info", description="Requests below it have no line: `warning` leaves out those that went well."
    )
    log_share: float = Field(
        1.0, ge=0, le=1, description="Share of the requests that went well that have a line. All others have one."
    )
    log_addresses: bool = Field(
        True, description="Lines say from which address a request came. The audit log does in any case."
    )
    log_size: Bytes = Field(128 * 2**20, description="Size at which the log file is put aside and a new one begun.")
    log_keep: int = Field(10, ge=0, description="Files that were put aside and are kept; older ones are deleted.")
    metrics: bool = Field(True, description="Have Prometheus metrics, at /metrics.")
    metrics_host: str = Field(
        "127.0.0.1",
        description="Where scrapers read them without a key. They name tenants: change it behind a firewall only.",
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="The port for that; 0: none, and /metrics needs an administrator's key. Default: 1464 above the "
        "API's, so 9464.",
    )
    metrics_interval: Seconds = Field(
        1.0, description="Metrics are rendered once in this time. Scrapes in between get the same page."
    )
    tenants: tuple[str, ...] = Field((), description="Tenants that have metrics of their own in any case.")
    max_tenants: int = Field(
        50,
        ge=0,
        description="Tenants with metrics of their own: those named, then the first to come; others are `other`.",
    )
    traces: Traces = Traces()
