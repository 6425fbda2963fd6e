"""Files, batches, and what became of their lines."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "files",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("purpose", sa.String, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("expires_at", time),
    )
    op.create_index("ix_files_tenant", "files", ["tenant", "created_at", "id"])
    op.create_index("ix_files_expires_at", "files", ["expires_at"])
    op.create_table(
        "batches",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("key_name", sa.String, nullable=False),
        sa.Column("deployments", sa.Text),
        sa.Column("endpoint", sa.String, nullable=False),
        sa.Column("input_file_id", sa.String, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("output_keep", sa.BigInteger),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("model", sa.String),
        sa.Column("errors", sa.Text, nullable=False),
        sa.Column("output_file_id", sa.String),
        sa.Column("error_file_id", sa.String),
        sa.Column("created_at", time, nullable=False),
        sa.Column("expires_at", time, nullable=False),
        sa.Column("in_progress_at", time),
        sa.Column("finalizing_at", time),
        sa.Column("completed_at", time),
        sa.Column("failed_at", time),
        sa.Column("expired_at", time),
        sa.Column("cancelling_at", time),
        sa.Column("cancelled_at", time),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("completed", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("held_until", time),
    )
    op.create_index("ix_batches_tenant", "batches", ["tenant", "created_at", "id"])
    op.create_index("ix_batches_status", "batches", ["status", "created_at"])
    op.create_table(
        "batch_results",
        sa.Column("batch", sa.String, primary_key=True),
        sa.Column("line", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("failed", sa.Boolean, nullable=False),
        sa.Column("text", sa.LargeBinary, nullable=False),
    )
