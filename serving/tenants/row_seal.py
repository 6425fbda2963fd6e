"""Seals of rows that say who may what: keys, tenants, limits. Who can write to the database, but has not the pepper,
can neither make such a row nor change one: what it changed is refused, told and counted.

A seal is an HMAC over every column of the row, with a key that is derived from the pepper, and names the pepper's
version: `2:HEX`. It does not see a row that was put back as it once was, seal and all, nor one that was taken out:
`clinserve doctor` holds the rows against the audit log for these, and a process that saw a key revoked believes nothing
else for as long as it lives (keys.py).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from serving.errors import ServingError
from serving.secret_versions import VersionedSecret

SealedTable = Literal["api_keys", "tenants", "limits"]
COLUMN = "seal"


class RowNotGenuine(ServingError):
    """A row was changed by somebody else than this product. It can be ended, and made anew; not gone on from."""

    status, kind, code = 409, "invalid_request_error", "row_not_genuine"
    default_message = (
        "This was changed in the database by something else than this product, and is refused. "
        "Revoke or disable it, look at the audit log, and make it anew; 'clinserve doctor' says more."
    )


class RowSeals(Protocol):
    def of(self, table: SealedTable, row: Mapping[str, Any]) -> str | None:
        """The seal of a row, all its columns but that of the seal."""

    def holds(self, table: SealedTable, row: Mapping[str, Any]) -> bool:
        """Whether the row is as this product wrote it. Tells whoever is to know when it is not."""


class NoRowSeals:
    """Rows without seals, all believed: for stores in tests, and nowhere else."""

    def of(self, table: SealedTable, row: Mapping[str, Any]) -> str | None:
        return None

    def holds(self, table: SealedTable, row: Mapping[str, Any]) -> bool:
        return True


class PepperSeals:
    """on_refused: told the table and the row's own id, of each row that does not hold, each time it is read."""

    def __init__(
        self, pepper: VersionedSecret, on_refused: Callable[[SealedTable, str], None] = lambda table, id: None
    ) -> None:
        self._pepper = pepper
        self._on_refused = on_refused

    def of(self, table: SealedTable, row: Mapping[str, Any]) -> str:
        version = self._pepper.writing
        return f"{version.number}:{_mac(version.value, table, row)}"

    def holds(self, table: SealedTable, row: Mapping[str, Any]) -> bool:
        number, _, mac = str(row[COLUMN] or "").partition(":")
        version = self._pepper.version(int(number)) if number.isascii() and number.isdecimal() else None
        if version is not None and hmac.compare_digest(mac.encode(), _mac(version.value, table, row).encode()):
            return True
        self._on_refused(table, id_of(table, row))
        return False


def id_of(table: SealedTable, row: Mapping[str, Any]) -> str:
    return f"{row['scope']}:{row['subject']}" if table == "limits" else str(row["id"])


def _mac(pepper: bytes, table: SealedTable, row: Mapping[str, Any]) -> str:
    key = hmac.new(pepper, b"clinserve rows", hashlib.sha256).digest()
    fields = {name: _plain(value) for name, value in row.items() if name != COLUMN}
    text = json.dumps([table, fields], sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _plain(value: Any) -> Any:
    """A time in one spelling, whatever zone a database gives it back in."""
    return value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value
