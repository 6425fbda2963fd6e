"""What `clinserve doctor` says about rows that say who may what: seals that do not hold, and rows that contradict the
audit log, as one does that was put back as it was before a revocation (tenants/row_seal.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from serving.commands.finding import Finding
from serving.governance import secret_source
from serving.secrets import AdministrationSecrets, SecretsError
from serving.settings import Settings
from serving.tenants.audit import Record
from serving.tenants.row_seal import PepperSeals, id_of
from serving.tenants.sql.audit import SqlAudit
from serving.tenants.sql.database import open_database
from serving.tenants.sql.sealing_rows import rows_of
from serving.tenants.stores import StoreUnavailable

_MOST_NAMED = 10
_ENDS = {"key.revoke": "revoked_at", "tenant.disable": "disabled_at"}
_BEGINS_ANEW = {"tenant.enable": "tenant.disable"}


def about_rows(settings: Settings) -> Iterator[Finding]:
    """Nothing where there is no database yet."""
    file = settings.server.state_dir / "clinserve.db"
    if settings.database.url is None and not file.is_file():
        return
    try:
        secrets = AdministrationSecrets.load(secret_source(settings))
        database = open_database(settings.database_url, secrets.database_password)
        try:
            refused, undone = _refused(database, PepperSeals(secrets.pepper)), _undone(database)
        finally:
            database.dispose()
    except (SecretsError, StoreUnavailable, SQLAlchemyError, ValueError, OSError) as error:
        yield Finding("rights", "warning", f"the database cannot be looked at: {type(error).__name__}", _REMEDY)
        return
    if refused:
        yield Finding("rights", "missing", f"changed by something else than this product: {_named(refused)}", _REMEDY)
    if undone:
        yield Finding("rights", "missing", f"ended in the audit log, not in their rows: {_named(undone)}", _REMEDY)
    if not refused and not undone:
        yield Finding("rights", "ok", "keys, tenants and limits are as this product wrote them")


_REMEDY = "docs/runbook.md, 'A row was changed'"


def _named(rows: list[str]) -> str:
    more = f" and {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else ""
    return ", ".join(rows[:_MOST_NAMED]) + more


def _refused(database: Engine, seals: PepperSeals) -> list[str]:
    with database.connect() as connection:
        return [f"{table} {id_of(table, row)}" for table, row in rows_of(connection) if not seals.holds(table, row)]


def _undone(database: Engine) -> list[str]:
    """Keys whose revocation, and tenants whose last disabling, the audit log knows and their rows do not."""
    ended = _ended_in(record for record in SqlAudit(database).records() if isinstance(record, Record))
    found = []
    with database.connect() as connection:
        for table, row in rows_of(connection):
            names = {str(row.get("id")), str(row.get("prefix"))}
            for action, column in _ENDS.items():
                if column in row and row[column] is None and names & ended.get(action, set()):
                    found.append(f"{table} {row['id']}")
    return found


def _ended_in(records: Iterator[Record]) -> dict[str, set[str]]:
    """What was ended, by the action that did it, and not begun anew after."""
    acts = sorted((r.at, r.seq, r.body) for r in records if r.kind == "admin")
    ended: dict[str, set[str]] = {}
    for _, _, body in acts:
        details: dict[str, Any] = json.loads(body)["details"]
        action, target = str(details.get("action")), str(details.get("target"))
        if details.get("outcome") != "done":
            continue
        if action in _ENDS:
            ended.setdefault(action, set()).add(target)
        elif action in _BEGINS_ANEW:
            ended.setdefault(_BEGINS_ANEW[action], set()).discard(target)
    return ended
