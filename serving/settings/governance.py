"""Who may do what, what they may use, what is written down."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from serving.settings.values import Bytes, Seconds, Section


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
    roles: dict[str, Role] = Field(default_factory=dict, description="Our role by app role; by id of a group too.")
    groups: dict[str, Role] = Field(default_factory=dict, description="Our role by id (GUID) of a group.")
    group_names: bool = Field(
        False,
        description="`groups` are names: whoever may create or rename a group at the provider can give these roles.",
    )
    access_claims: tuple[str, ...] = Field(
        ("scp", "scope", "client_id", "cid", "roles"),
        description="OpenID Connect: one of these shows an access token. Change it if the provider's have none.",
    )
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
    exclusive_roles: tuple[tuple[Role, ...], ...] = Field(
        (("key_admin", "auditor"),),
        description="Roles that no key and no token has together, list by list. `[]`: any may be in one hand.",
    )


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


class Idempotency(Section):
    """Answers that are kept for requests with an Idempotency-Key: sealed, in quotas.redis or else in memory."""

    keep: Seconds = Field(
        3600.0,
        gt=0,
        description="How long an answer is kept for repeats with its Idempotency-Key. Content: keep it short.",
    )
    max_answer: Bytes = Field(2**20, description="Largest answer that is kept; after a larger one a repeat runs again.")
    memory: Bytes = Field(
        64 * 2**20, description="All answers that one process keeps without quotas.redis; beyond it the oldest go."
    )


class Usage(Section):
    """The usage ledger."""

    enabled: bool = Field(True, description="Keep a record of each admitted request.")
    flush: Seconds = Field(1.0, gt=0, description="How often it is written: the most that a crash can lose.")


class AuditStream(Section):
    """A stream of the audit log to a SIEM. What a receiver missed while it was away is sent from the database."""

    syslog: str | None = Field(
        None,
        pattern=r"^(udp|tcp|tls)://[^/@]+$",
        description="Receiver of RFC 5424: tls://HOST:6514, tcp://HOST:514 (octet counting) or udp://HOST:514.",
    )
    otlp: str | None = Field(
        None,
        pattern=r"^https?://[^@?]+$",
        description="Receiver of OpenTelemetry logs over HTTP, such as http://collector:4318.",
    )
    ca: Path | None = Field(None, description="Certificates that are trusted for tls and https. Default: the system's.")


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
    anchors: Path | None = Field(
        None,
        description="Folder where the newest signed checkpoint of each chain is kept apart from the database. Better "
        "on another disk, which who administers the database cannot write. Default: state_dir/audit/anchors.",
    )
    stream: AuditStream = AuditStream()
    retention: Seconds | None = Field(
        None,
        ge=86400,
        description="How long every record is kept at least; `audit prune` deletes older ones only. Default: for ever.",
    )
    prune_approvals: Literal[0, 1] = Field(
        1, description="How many other administrators must agree to a pruning. 0: one person decides."
    )
    check: Seconds = Field(
        600.0, description="How often each gateway looks whether its anchors still fit the database; 0: never."
    )
