"""The tables that the code expects. migrations/ makes them so; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
)
from sqlalchemy.types import TypeDecorator


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime, in UTC both ways. SQLite keeps no zone and would give naive times back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData()

tenants = Table(
    "tenants",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("disabled_at", UtcTime),
    Column("keep_responses", BigInteger),  # seconds, NULL: not kept
    Column("deployments", Text),  # JSON list, NULL: all
    Column("networks", Text),  # JSON list of CIDR, NULL: anywhere
    Column("seal", Text),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("prefix", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    Column("roles", String, nullable=False, server_default="inference"),  # comma-separated
    Column("deployments", Text),  # JSON list, NULL: all
    Column("networks", Text),  # JSON list of CIDR, NULL: anywhere
    Column("pepper", BigInteger, nullable=False, server_default="1"),  # version under which the digest is
    Column("seal", Text),  # row_seal.py; NULL: not of this product
    Index("ix_api_keys_prefix", "prefix", unique=True),
    Index("ix_api_keys_digest", "digest", unique=True),
    Index("ix_api_keys_owner", "tenant", "name"),
)

limits = Table(
    "limits",
    metadata,
    Column("scope", String, primary_key=True),
    Column("subject", String, primary_key=True),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("tokens_per_day", BigInteger),
    Column("tokens_per_month", BigInteger),
    Column("concurrent_requests", BigInteger),
    Column("updated_at", UtcTime, nullable=False),
    Column("seal", Text),
)

usage_records = Table(
    "usage_records",
    metadata,
    Column("id", String, primary_key=True),  # the request's: a record written twice is one
    Column("started_at", UtcTime, nullable=False),
    Column("tenant", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("key_name", String, nullable=False),
    Column("deployment", String, nullable=False),
    Column("revision", String, nullable=False),
    Column("operation", String, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("outcome", String, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cost_micros", BigInteger),  # millionths of the configured currency
    Column("first_token", Float),  # seconds
    Column("duration", Float, nullable=False),  # seconds
    Column("estimated", Boolean, nullable=False, server_default=false()),  # the tokens, as far as nobody said them
    Index("ix_usage_records_started_at", "started_at"),
    Index("ix_usage_records_tenant", "tenant", "started_at"),
    Index("ix_usage_records_key_id", "key_id", "started_at"),
    Index("ix_usage_records_deployment", "deployment", "started_at"),
)

audit_records = Table(
    "audit_records",
    metadata,
    Column("chain", String, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    # The next four repeat what the body says, for searching; verify compares them with it.
    Column("at", UtcTime, nullable=False),
    Column("kind", String, nullable=False),
    Column("tenant", String, nullable=False),
    Column("request_id", String, nullable=False),
    Column("body", Text, nullable=False),  # canonical JSON
    Column("hash", String, nullable=False),
    Index("ix_audit_records_at", "at"),
    Index("ix_audit_records_tenant", "tenant", "at"),
    Index("ix_audit_records_request_id", "request_id"),
)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("chain", String, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", UtcTime, nullable=False),
    Column("hash", String, nullable=False),
    Column("signature", String, nullable=False),
)

files = Table(
    "files",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("name", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("content", String, nullable=False),  # the name of its bytes
    Column("place", String, nullable=False),  # where they are
    Column("content_key", LargeBinary, nullable=False),  # sealed
    Index("ix_files_content", "content", unique=True),
    Index("ix_files_tenant", "tenant", "created_at", "id"),
    Index("ix_files_expires_at", "expires_at"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("key_name", String, nullable=False),
    Column("deployments", Text),  # JSON list, NULL: all; those that the owner may call
    Column("endpoint", String, nullable=False),
    Column("input_file_id", String, nullable=False),
    Column("metadata", Text, nullable=False),  # JSON
    Column("output_keep", BigInteger),  # seconds
    Column("status", String, nullable=False),
    Column("model", String),
    Column("errors", Text, nullable=False),  # JSON
    Column("output_file_id", String),
    Column("error_file_id", String),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("in_progress_at", UtcTime),
    Column("finalizing_at", UtcTime),
    Column("completed_at", UtcTime),
    Column("failed_at", UtcTime),
    Column("expired_at", UtcTime),
    Column("cancelling_at", UtcTime),
    Column("cancelled_at", UtcTime),
    Column("total", BigInteger, nullable=False),
    Column("completed", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False),  # how often it was taken
    Column("held_until", UtcTime),  # NULL: nobody works on it
    Index("ix_batches_tenant", "tenant", "created_at", "id"),
    Index("ix_batches_status", "status", "created_at"),
)

batch_results = Table(
    "batch_results",
    metadata,
    Column("batch", String, primary_key=True),
    Column("line", BigInteger, primary_key=True, autoincrement=False),
    Column("failed", Boolean, nullable=False),
    Column("text", LargeBinary, nullable=False),  # sealed
)

responses = Table(
    "responses",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("previous", String),  # the response that it goes on from
    Column("status", String, nullable=False),
    Column("background", Boolean, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("held_until", UtcTime),  # of one that runs: until then its process must say that it lives
    Column("content", LargeBinary, nullable=False),  # sealed
    Index("ix_responses_tenant", "tenant", "created_at"),
    Index("ix_responses_expires_at", "expires_at"),
    Index("ix_responses_status", "status", "held_until"),
)
