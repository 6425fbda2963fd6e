"""What Alembic runs for each upgrade. The connection, its transaction and its lock are those of `sql.migrate`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
