"""Responses, and how long each tenant's are kept."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    op.add_column("tenants", sa.Column("keep_responses", sa.BigInteger))
    op.create_table(
        "responses",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("previous", sa.String),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("background", sa.Boolean, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("expires_at", time, nullable=False),
        sa.Column("held_until", time),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_responses_tenant", "responses", ["tenant", "created_at"])
    op.create_index("ix_responses_expires_at", "responses", ["expires_at"])
    op.create_index("ix_responses_status", "responses", ["status", "held_until"])
