"""The second page of the assembly: who may do what, what they may use, what is written down. Once for each process.

settings ─┬─ secrets (environment, files, Key Vault)
          ├─ database ── keyring, tenants, limits ── policies ─┬─ admission ── the request path
          ├─ quotas: memory or Redis ──────────────────────────┘
          ├─ usage ledger, audit log ────────────────────────────── what is written when a request ends
          ├─ identity: Entra ID, OpenID Connect
          └─ administration ─────────────────────────────────────── REST (gateway), command line (Office)
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from serving import settings as config
from serving.commands.audit_file import anchors_of_log
from serving.commands.office import Office
from serving.engines.deaths import KEPT_SECONDS, ONE_DEATH_SECONDS, Deaths, MemoryDeaths, SharedDeaths
from serving.secrets import AdministrationSecrets, NoVault, Secrets, SecretSource, Vault
from serving.settings import Settings
from serving.telemetry.metrics import Metrics
from serving.telemetry.siem import AuditLine, AuditReceiver, OtlpReceiver, SyslogReceiver
from serving.tenants.access import AccessLog
from serving.tenants.administration import Administration
from serving.tenants.audit import Checkpoint, Head, Record, Unreadable
from serving.tenants.audit_anchor_check import AnchorCheck
from serving.tenants.audit_anchors import AnchorFolder, Anchors, NoAnchors
from serving.tenants.audit_log import AuditLog, NoAudit
from serving.tenants.audit_pruning import Pruning
from serving.tenants.audit_stream import AuditStream, RecordReceiver
from serving.tenants.callers import ROLES, SYSTEM_TENANT, Caller
from serving.tenants.exclusive_roles import ExclusiveRoles
from serving.tenants.keys import Keyring, utcnow
from serving.tenants.ledger import (
    Ledger,
    LedgerHistory,
    NoLedger,
    Price,
    StoredLedger,
    UsageRecord,
    decoded,
    encoded,
)
from serving.tenants.limits import Limits, PolicyBook, Scope
from serving.tenants.memory_quotas import MemoryQuotas
from serving.tenants.memory_repeats import MemoryRepeats
from serving.tenants.quotas import Quotas
from serving.tenants.redis import RedisQuotas
from serving.tenants.redis_deaths import RedisDeathCounts
from serving.tenants.redis_repeats import RedisRepeats
from serving.tenants.refused_rows import RefusedRows
from serving.tenants.repeats import Repeats
from serving.tenants.row_seal import PepperSeals, RowSeals
from serving.tenants.sql import SecretUses, SqlAudit, SqlKeys, SqlLimits, SqlTenants, SqlUsage, migrate, open_database
from serving.tenants.standing import Standing
from serving.tenants.tokens import Issuer, NoTokens, Tokens
from serving.tenants.writer import BatchWriter
from serving.vault import KeyVault

OnCheckpoint = Callable[[str, int, str], None]


@dataclass(frozen=True, slots=True)
class Governance:
    """What a gateway needs of all this. prices: by deployment."""

    keyring: Keyring
    standing: Standing
    tokens: Tokens | NoTokens
    policies: PolicyBook
    quotas: Quotas
    ledger: Ledger
    audit: AuditLog | NoAudit
    access: AccessLog
    anchor_check: AnchorCheck
    audit_stream: AuditStream
    administration: Administration
    prices: Mapping[str, Price]
    database: Engine


def secret_source(settings: Settings) -> SecretSource:
    vault: Vault = NoVault()
    if settings.secrets.key_vault:
        vault = KeyVault(settings.secrets.key_vault, prefix=settings.secrets.prefix)
    return SecretSource(settings.server.state_dir, os.environ, vault)


def load_secrets(settings: Settings) -> Secrets:
    """All, for a gateway. Raises SecretsError."""
    source = secret_source(settings)
    return Secrets.load(source.state_dir, source.environ, source.vault)


def open_migrated(settings: Settings, password: str, seals: RowSeals) -> Engine:
    """The database, brought up to date if it is older than this code. Raises SettingsError, StoreUnavailable."""
    try:
        database = open_database(settings.database_url, password)
    except ValueError as error:
        raise config.SettingsError(f"database.url: {error}") from None
    migrate(database, seals)
    return database


def build_keyring(settings: Settings) -> Keyring:
    """Keys in the database, for those who need nothing else."""
    secrets = AdministrationSecrets.load(secret_source(settings))
    seals = PepperSeals(secrets.pepper)
    return Keyring(SqlKeys(open_migrated(settings, secrets.database_password, seals), seals), secrets.pepper)


def build_governance(
    settings: Settings, secrets: Secrets, metrics: Metrics, *, on_checkpoint: OnCheckpoint
) -> Governance:
    """on_checkpoint: told now and then how far this process's audit chain has come."""
    database = open_migrated(settings, secrets.database_password, PepperSeals(secrets.pepper))
    usage, audit_store = SqlUsage(database), SqlAudit(database)
    audit = build_audit(settings, secrets, audit_store, metrics, on_checkpoint)
    refused = RefusedRows(audit, utcnow, lambda table: metrics.noted("refused_rows", table))
    seals = PepperSeals(secrets.pepper, refused.tell)
    keys = SqlKeys(database, seals)
    keyring = Keyring(
        keys,
        secrets.pepper,
        cache_seconds=settings.keys.cache,
        stale_seconds=settings.keys.stale,
        on_stale=lambda: metrics.noted("stale_keys"),
        on_refused=lambda key_id: refused.tell("api_keys", key_id),
    )
    tenants, limits = SqlTenants(database, seals), SqlLimits(database, seals)
    policies = PolicyBook(
        tenants,
        limits,
        defaults=defaults_of(settings),
        every=settings.quotas.refresh,
        on_stale=lambda: metrics.noted("stale_policies"),
    )
    ledger = build_ledger(settings, usage, metrics)
    access = AccessLog(audit, utcnow)
    return Governance(
        keyring=keyring,
        standing=Standing(keys, cache_seconds=settings.keys.cache),
        tokens=build_tokens(settings, metrics),
        policies=policies,
        quotas=build_quotas(settings, secrets, LedgerHistory(usage, ledger), metrics),
        ledger=ledger,
        audit=audit,
        access=access,
        audit_stream=build_audit_stream(settings, audit_store, metrics),
        anchor_check=AnchorCheck(
            audit_store,
            anchors_of(settings),
            every=settings.audit.check,
            on_findings=lambda count: metrics.audited(findings=count),
        ),
        administration=Administration(
            tenants=tenants,
            keyring=keyring,
            limits=limits,
            usage=usage,
            audit=audit,
            audit_store=audit_store,
            deployments=[d.name for d in settings.deployments],
            default_limits=defaults_of(settings)["key"],
            exclusive=exclusive_roles_of(settings),
            on_change=policies.refresh,
            access=access,
        ),
        prices={d.name: Price(**d.price.model_dump()) for d in settings.deployments if d.price},
        database=database,
    )


def defaults_of(settings: Settings) -> dict[Scope, Limits]:
    defaults = settings.quotas.defaults
    return {
        "key": Limits(**defaults.key.model_dump()),
        "tenant": Limits(**defaults.tenant.model_dump()),
        "deployment": Limits(**defaults.deployment.model_dump()),
    }


def build_ledger(settings: Settings, store: SqlUsage, metrics: Metrics) -> Ledger:
    if not settings.usage.enabled:
        return NoLedger()
    writer = BatchWriter[UsageRecord](
        store.add,
        encode=encoded,
        decode=decoded,
        spool=settings.server.state_dir / "spool" / "usage",
        flush=settings.usage.flush,
        on_lost=lambda count: metrics.noted("lost_records", "usage", count=count),
        on_refused=lambda: metrics.noted("refused_records", "usage"),
    )
    return StoredLedger(writer)


def anchors_of(settings: Settings) -> Anchors:
    if not settings.audit.enabled:
        return NoAnchors()
    return AnchorFolder(settings.audit.anchors or settings.server.state_dir / "audit" / "anchors")


def build_audit_stream(settings: Settings, store: SqlAudit, metrics: Metrics) -> AuditStream:
    of, receivers = settings.audit.stream, dict[str, RecordReceiver]()
    if settings.audit.enabled and of.syslog:
        receivers["syslog"] = records_to(SyslogReceiver(of.syslog, ca=of.ca))
    if settings.audit.enabled and of.otlp:
        receivers["otlp"] = records_to(OtlpReceiver(of.otlp, ca=of.ca))
    return AuditStream(
        store,
        anchors_of(settings),
        settings.audit.anchors or settings.server.state_dir / "audit" / "anchors",
        receivers,
        on_sent=lambda receiver, count: metrics.noted("audit_stream_records", receiver, count=count),
        on_failed=lambda receiver: metrics.noted("audit_stream_failures", receiver),
    )


def records_to(receiver: AuditReceiver) -> RecordReceiver:
    def send(records: Sequence[Record]) -> None:
        receiver.send([AuditLine(r.chain, r.seq, r.at, r.kind, r.hash, r.body) for r in records])

    return send


def kept_anchors(settings: Settings) -> list[Head | Checkpoint | Unreadable]:
    """What this machine keeps of the audit log apart from its database: its anchors, and those in its request logs."""
    found: list[Head | Checkpoint | Unreadable] = list(anchors_of(settings).all())
    for file in sorted((settings.server.state_dir / "logs").glob("requests.jsonl*")):
        if not file.name.endswith(".lock"):
            found += anchors_of_log(file)
    return found


def build_audit(
    settings: Settings, secrets: Secrets, store: SqlAudit, metrics: Metrics, on_checkpoint: OnCheckpoint
) -> AuditLog | NoAudit:
    if not settings.audit.enabled:
        return NoAudit()
    return AuditLog(
        store,
        secret=secrets.audit,
        seed=secrets.signing,
        spool=settings.server.state_dir / "spool" / "audit",
        anchors=anchors_of(settings),
        when_away=settings.audit.when_away,
        grace=settings.audit.grace,
        flush=settings.audit.flush,
        witness=settings.audit.witness,
        on_unwritten=lambda: metrics.noted("unwritten_audit_records"),
        on_lost=lambda count: metrics.noted("lost_records", "audit", count=count),
        on_refused=lambda: metrics.noted("refused_records", "audit"),
        on_checkpoint=on_checkpoint,
    )


def build_quotas(settings: Settings, secrets: Secrets, history: LedgerHistory, metrics: Metrics) -> Quotas:
    if not settings.quotas.redis:
        return MemoryQuotas(history, on_settled=lambda how: metrics.noted("lease_settlements", how))
    return RedisQuotas(
        settings.quotas.redis,
        secrets.redis_password or None,
        history=history,
        timeout=settings.quotas.redis_timeout,
        when_away=settings.quotas.when_away,
        on_settled=lambda how: metrics.noted("lease_settlements", how),
        on_away=lambda: metrics.noted("quotas_away"),
    )


def build_repeats(settings: Settings, secrets: Secrets, metrics: Metrics) -> Repeats:
    of = settings.idempotency
    if not settings.quotas.redis:
        return MemoryRepeats(seconds=of.keep, size=of.memory)
    return RedisRepeats(
        settings.quotas.redis,
        secrets.redis_password or None,
        seconds=of.keep,
        timeout=settings.quotas.redis_timeout,
        on_away=lambda: metrics.noted("repeats_away"),
    )


def build_deaths(settings: Settings, secrets: Secrets) -> Deaths:
    """What is known of requests that replicas die of: shared through what gateways share."""
    if not settings.quotas.redis:
        return MemoryDeaths()
    password, timeout = secrets.redis_password or None, settings.quotas.redis_timeout
    return SharedDeaths(
        RedisDeathCounts(
            settings.quotas.redis, password, seconds=KEPT_SECONDS, one_death=ONE_DEATH_SECONDS, timeout=timeout
        )
    )


def issuers_of(settings: Settings) -> list[Issuer]:
    """Raises SettingsError for one that could not work, or would let in more than it says."""
    exclusive = exclusive_roles_of(settings)
    try:
        return [
            Issuer(
                **one.model_dump(exclude={"default_roles"}),
                default_roles=frozenset(one.default_roles),
                exclusive=exclusive,
            )
            for one in settings.identity.issuers
        ]
    except ValueError as error:
        raise config.SettingsError(f"identity.issuers: {error}") from None


def exclusive_roles_of(settings: Settings) -> ExclusiveRoles:
    return ExclusiveRoles(tuple(frozenset(roles) for roles in settings.identity.exclusive_roles))


def build_tokens(settings: Settings, metrics: Metrics) -> Tokens | NoTokens:
    issuers = issuers_of(settings)
    if not issuers:
        return NoTokens()
    return Tokens(
        issuers,
        fetch_seconds=settings.identity.fetch_timeout,
        on_refused=lambda reason: metrics.noted("token_refusals", reason),
    )


def open_office(settings: Settings) -> Office:
    """What administrative commands work with: the database, as the system's administrator. Close it."""
    secrets = AdministrationSecrets.load(secret_source(settings))
    database = open_migrated(settings, secrets.database_password, PepperSeals(secrets.pepper))
    audit_store, usage = SqlAudit(database), SqlUsage(database)
    audit = AuditLog(
        audit_store,
        secret=secrets.audit,
        seed=secrets.signing,
        spool=settings.server.state_dir / "spool" / "audit",
        anchors=anchors_of(settings),
        flush=0.05,  # a command does one thing, and ends when it is written
    )
    audit.begin()
    seals = PepperSeals(secrets.pepper, RefusedRows(audit, utcnow, lambda table: None).tell)
    keyring = Keyring(SqlKeys(database, seals), secrets.pepper)

    access = AccessLog(audit, utcnow)

    def close() -> None:
        access.flush()
        audit.end()
        database.dispose()

    return Office(
        administration=Administration(
            tenants=SqlTenants(database, seals),
            keyring=keyring,
            limits=SqlLimits(database, seals),
            usage=usage,
            audit=audit,
            audit_store=audit_store,
            deployments=[d.name for d in settings.deployments],
            default_limits=defaults_of(settings)["key"],
            exclusive=exclusive_roles_of(settings),
            access=access,
        ),
        audit_store=audit_store,
        usage_store=usage,
        audit_log=audit,
        pruning=Pruning(
            audit, audit_store, utcnow, keep=settings.audit.retention, approvals=settings.audit.prune_approvals
        ),
        kept_anchors=lambda: kept_anchors(settings),
        public_keys=audit.public_keys,
        actor=Caller(SYSTEM_TENANT, f"cli:{local_user()}", "command line", roles=frozenset(ROLES)),
        uses=SecretUses(database),
        source=secret_source(settings),
        close=close,
    )


def local_user() -> str:
    """Who is at the shell, as the system knows it; the environment says whatever somebody sets."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in a container
        return f"uid-{os.getuid()}"
