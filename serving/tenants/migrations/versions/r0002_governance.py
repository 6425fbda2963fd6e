"""Tenants, roles and bounds of keys, limits, the usage ledger and the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "tenants",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("disabled_at", time),
    )
    op.execute(
        "INSERT INTO tenants (id, name, created_at) "
        "SELECT tenant, tenant, MIN(created_at) FROM api_keys GROUP BY tenant"
    )
    op.add_column("api_keys", sa.Column("roles", sa.String, nullable=False, server_default="inference"))
    op.add_column("api_keys", sa.Column("deployments", sa.Text))
    op.add_column("api_keys", sa.Column("networks", sa.Text))
    op.create_index("ix_api_keys_owner", "api_keys", ["tenant", "name"])
    op.create_table(
        "limits",
        sa.Column("scope", sa.String, primary_key=True),
        sa.Column("subject", sa.String, primary_key=True),
        sa.Column("requests_per_minute", sa.BigInteger),
        sa.Column("tokens_per_minute", sa.BigInteger),
        sa.Column("tokens_per_day", sa.BigInteger),
        sa.Column("tokens_per_month", sa.BigInteger),
        sa.Column("concurrent_requests", sa.BigInteger),
        sa.Column("updated_at", time, nullable=False),
    )
    op.create_table(
        "usage_records",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("started_at", time, nullable=False),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("key_name", sa.String, nullable=False),
        sa.Column("deployment", sa.String, nullable=False),
        sa.Column("revision", sa.String, nullable=False),
        sa.Column("operation", sa.String, nullable=False),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_micros", sa.BigInteger),
        sa.Column("first_token", sa.Float),
        sa.Column("duration", sa.Float, nullable=False),
    )
    op.create_index("ix_usage_records_started_at", "usage_records", ["started_at"])
    for column in ("tenant", "key_id", "deployment"):
        op.create_index(f"ix_usage_records_{column}", "usage_records", [column, "started_at"])
    op.create_table(
        "audit_records",
        sa.Column("chain", sa.String, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", time, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("request_id", sa.String, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
    )
    op.create_index("ix_audit_records_at", "audit_records", ["at"])
    op.create_index("ix_audit_records_tenant", "audit_records", ["tenant", "at"])
    op.create_index("ix_audit_records_request_id", "audit_records", ["request_id"])
    op.create_table(
        "audit_checkpoints",
        sa.Column("chain", sa.String, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", time, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("signature", sa.String, nullable=False),
    )
