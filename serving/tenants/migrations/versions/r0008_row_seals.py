"""Seals of keys, tenants and limits, and the pepper's version of a key. What is there is sealed by `sql.migrate`."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("pepper", sa.BigInteger, nullable=False, server_default="1"))
    for table in ("api_keys", "tenants", "limits"):
        op.add_column(table, sa.Column("seal", sa.Text))
