"""Which usage is an estimate, because an endpoint did not say it in numbers that can be."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("usage_records", sa.Column("estimated", sa.Boolean, nullable=False, server_default=sa.false()))
