"""Where the bytes of files are, and their keys. Files of before have none and go: there was no release yet."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("DELETE FROM files")
    with op.batch_alter_table("files") as files:
        files.add_column(sa.Column("content", sa.String, nullable=False, server_default=""))
        files.add_column(sa.Column("place", sa.String, nullable=False, server_default=""))
        files.add_column(sa.Column("content_key", sa.LargeBinary, nullable=False, server_default=sa.text("''")))
        files.create_index("ix_files_content", ["content"], unique=True)
