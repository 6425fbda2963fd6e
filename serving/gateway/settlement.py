"""How a request is paid for: at once when the engine said what it cost, else after asking the engine.

An answer that ended early (the client left, the engine broke, nothing came in time) has no usage, and that of an
endpoint elsewhere may be none that can be used. The engine is asked in the background, bounded to seconds; if it cannot
say, what has passed here counts, and the prompt is estimated. Until then the lease is held and the request's log line,
usage and audit record wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Literal

from serving.engines.engine import EngineRequest
from serving.gateway.catalog import Deployment
from serving.gateway.digests import Digests
from serving.protocol.usage import MOST_TOKENS, ReportedUsage, is_count
from serving.telemetry.metrics import Metrics
from serving.telemetry.record import RequestRecord
from serving.tenants.quotas import Lease, Usage

_CLOSE_SECONDS = 6.0
Reckoner = Literal["engine", "estimate"]


class Settlement:
    """Of one admitted request; `end` is called once, from a finally."""

    def __init__(
        self,
        record: RequestRecord,
        lease: Lease,
        deployment: Deployment,
        request: EngineRequest,
        owner: Settlements,
        prompt_digest: str,
    ) -> None:
        self.record = record
        self.digests = owner.new_digests()
        self._lease = lease
        self._deployment = deployment
        self._request = request
        self._owner = owner
        self._prompt_digest = prompt_digest

    def end(self, reported: ReportedUsage | None, *, seen: int) -> None:
        """A plain call: its caller may be cancelled. reported: by the engine; seen: tokens that passed here."""
        if self._deployment_said_nonsense(reported):
            self._owner.on_unusable(self._deployment.name)
        if reported is not None and reported.prompt is not None and reported.completion is not None:
            self.record.estimated = "completion" in reported.unusable
            self._settle(Usage(reported.prompt, reported.cached, reported.completion))
            self._deployment.learn(self._request, reported.prompt)
        else:
            self.record.reckoning = self._owner.begin(self._reckon(reported, seen))
        # After what it costs, so that nothing here can keep that out of the books.
        self._owner.metrics.left(self._deployment.name)
        self.record.passed("forward" if "open" in self.record.stages else "open")
        self.record.answer_digests = self.digests.answers()
        self.record.prompt_digest = self._prompt_digest

    def _deployment_said_nonsense(self, reported: ReportedUsage | None) -> bool:
        return bool(reported.unusable) if reported is not None else self.record.outcome == "ok"

    async def _reckon(self, reported: ReportedUsage | None, seen: int) -> None:
        usage = self._estimated(reported, seen)
        by: Reckoner = "estimate"
        try:
            tally = await self._deployment.engine.reckon(self.record.request_id)
            if tally is not None and all(map(is_count, (tally.prompt, tally.cached, tally.completion))):
                usage, by = Usage(prompt=tally.prompt, cached=tally.cached, completion=tally.completion), "engine"
        finally:
            self.record.estimated = by == "estimate"
            self._owner.on_reckoned(by)
            self._settle(usage)

    def _estimated(self, reported: ReportedUsage | None, seen: int) -> Usage:
        """Of what the engine did not say. Where nothing has come, nothing was begun as far as one can know."""
        prompt = reported.prompt if reported else None
        completion = reported.completion if reported else None
        if prompt is None:
            came = seen or self.record.first_token is not None or self.record.outcome == "ok"
            prompt = self._deployment.estimate.prompt(self._request.body) if came else 0
        if completion is None:
            completion = seen if self.record.operation != "embeddings" else 0
        return Usage(min(prompt, MOST_TOKENS), min(reported.cached if reported else 0, prompt), completion)

    def _settle(self, usage: Usage) -> None:
        self.record.spent(usage.prompt, usage.cached, usage.completion)
        self._lease.settle(usage)


class Settlements:
    """Opens one for each request and owns the reckonings under way. digest: of a prompt. new_digests: of an answer.
    on_reckoned: who said what an answer without a usable usage has cost. on_unusable: a deployment's usage was none.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        digest: Callable[[bytes], str],
        new_digests: Callable[[], Digests],
        on_reckoned: Callable[[Reckoner], None] = lambda by: None,
        on_unusable: Callable[[str], None] = lambda deployment: None,
    ) -> None:
        self.metrics = metrics
        self.digest = digest
        self.new_digests = new_digests
        self.on_reckoned = on_reckoned
        self.on_unusable = on_unusable
        self._running: set[asyncio.Task[None]] = set()

    def open(
        self,
        record: RequestRecord,
        lease: Lease,
        deployment: Deployment,
        request: EngineRequest,
        *,
        prompt_digest: str = "",
    ) -> Settlement:
        self.metrics.entered(deployment.name)
        record.passed("reserve")
        record.admitted = True
        record.rates = lease
        return Settlement(record, lease, deployment, request, self, prompt_digest)

    def begin(self, reckoning: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(reckoning)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def start(self) -> None: ...

    async def close(self) -> None:
        """Let those under way end, within seconds; a cancelled one settles with what has passed."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
