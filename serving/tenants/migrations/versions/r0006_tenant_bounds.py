"""What a tenant may call, and from where: bounds on all its keys and token callers."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("tenants", sa.Column("deployments", sa.Text))
    op.add_column("tenants", sa.Column("networks", sa.Text))
