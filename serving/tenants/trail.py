"""The trail of administration: each change, done or refused, becomes one event of the audit log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from serving.errors import ServingError
from serving.tenants.audit import AuditEvent
from serving.tenants.callers import Caller

_LONGEST = 200  # characters of a name, names of a list


class Audit(Protocol):
    def check(self) -> None:
        """Raise AuditUnavailable when nothing may be done, because it could not be audited."""

    def record(self, event: AuditEvent) -> None:
        """Hand the event over to be written."""


@dataclass(slots=True)
class Entry:
    """What will be written of a change. tenant: whose auditors see it. target: what it was done to, result: what came
    of it; once known.
    """

    tenant: str
    target: str = ""
    result: str = ""


class Trail:
    def __init__(self, audit: Audit, now: Callable[[], datetime]) -> None:
        self._audit = audit
        self._now = now

    @contextmanager
    def change(
        self, actor: Caller, action: str, target: str = "", parameters: Mapping[str, Any] | None = None
    ) -> Iterator[Entry]:
        """Around a change: nothing begins that could not be audited, and however it ends is written.

        target and parameters hold no secret. Until the body says otherwise, the event is the actor's tenant's: a
        failed reach for another tenant's things does not show there.
        """
        self._audit.check()
        entry = Entry(actor.tenant, target)
        outcome = ServingError.code
        try:
            yield entry
            outcome = "done"
        except ServingError as error:
            outcome = error.code
            raise
        finally:
            self._audit.record(self._event(actor, action, entry, parameters or {}, outcome))

    def _event(
        self, actor: Caller, action: str, entry: Entry, parameters: Mapping[str, Any], outcome: str
    ) -> AuditEvent:
        details = {
            "action": action,
            "target": _short(entry.target),
            "result": entry.result,
            "parameters": {name: _short(value) for name, value in parameters.items() if value is not None},
            "outcome": outcome,
            "actor_name": actor.key_name,
            "actor_tenant": actor.tenant,
            "address": actor.address,
        }
        return AuditEvent(
            kind="admin",
            at=self._now(),
            tenant=entry.tenant,
            actor=actor.key_id,
            request_id=actor.request_id,
            details=details,
        )


def _short(value: Any) -> Any:
    """What is refused for its length need not be kept whole, and what no UTF-8 can say is a question mark."""
    if isinstance(value, str):
        return value[:_LONGEST].encode(errors="replace").decode()
    return [_short(item) for item in value[:_LONGEST]] if isinstance(value, list) else value
