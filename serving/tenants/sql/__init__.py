"""The database behind the stores of tenants/. Alone imports SQLAlchemy and Alembic.

Other modules see the protocols (`KeyStore`, ...) and the errors of their owners.
"""

from serving.tenants.sql.audit import SqlAudit
from serving.tenants.sql.database import migrate, open_database
from serving.tenants.sql.keys import SqlKeys
from serving.tenants.sql.limits import SqlLimits
from serving.tenants.sql.secret_uses import SecretUses
from serving.tenants.sql.tables import metadata
from serving.tenants.sql.tenants import SqlTenants
from serving.tenants.sql.usage import SqlUsage

__all__ = [
    "SecretUses",
    "SqlAudit",
    "SqlKeys",
    "SqlLimits",
    "SqlTenants",
    "SqlUsage",
    "metadata",
    "migrate",
    "open_database",
]
