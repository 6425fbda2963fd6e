"""How the database came to its schema: one file per step in versions/, run by `serving.tenants.sql.migrate`.

A step, once released, is never edited. The next one names it as its `down_revision`; there is no way back but a backup,
so there are no downgrades.
"""
