"""A gateway's look at its own anchors: is what they know of the audit log still in the database?

Cheap, so that it can be often: it reads the ends of chains, not the chains. `clinserve audit verify` reads all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from serving.errors import ServingError
from serving.tenants.audit import Checkpoint, Unreadable
from serving.tenants.audit_anchors import Anchors
from serving.tenants.audit_store import AuditStore, stated_missing
from serving.tenants.audit_verify import Finding

_log = logging.getLogger(__name__)
_MOST_TOLD = 20


class AnchorCheck:
    """every: seconds; 0: never. on_findings: told of their number after each look that came to its end."""

    def __init__(
        self, store: AuditStore, anchors: Anchors, *, every: float, on_findings: Callable[[int], None] = lambda n: None
    ) -> None:
        self._store = store
        self._anchors = anchors
        self._every = every
        self._on_findings = on_findings
        self._task: asyncio.Task[None] | None = None
        self._told: set[Finding] = set()

    async def start(self) -> None:
        if self._every:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def findings(self) -> list[Finding]:
        """What the anchors know and the log does not, nor says that it was pruned or lost. Blocks. Raises
        StoreUnavailable, OSError.
        """
        kept = list(self._anchors.all())  # before the log: it goes on
        found = [Finding(one.chain, one.seq, one.what) for one in kept if isinstance(one, Unreadable)]
        anchors = [one for one in kept if isinstance(one, Checkpoint)]
        hashes = self._store.hashes_at([(one.chain, one.seq) for one in anchors])
        stated = stated_missing(self._store)
        for one in anchors:
            hash = hashes.get((one.chain, one.seq))
            if hash != one.hash and not (hash is None and one.seq <= stated.get(one.chain, 0)):
                found.append(Finding(one.chain, one.seq, "an anchor knows a record here that the database does not"))
        return found

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(ServingError, OSError, ValueError):  # away, or unreadable: the next time
                self._tell(await asyncio.to_thread(self.findings))
            await asyncio.sleep(self._every)

    def _tell(self, findings: list[Finding]) -> None:
        self._on_findings(len(findings))
        new = [finding for finding in findings if finding not in self._told]
        for finding in new[:_MOST_TOLD]:
            _log.error("audit: chain %s, record %d: %s", finding.chain, finding.seq, finding.what)
        if len(new) > _MOST_TOLD:
            _log.error("audit: and %d more; run clinserve audit verify", len(new) - _MOST_TOLD)
        self._told = set(findings)
