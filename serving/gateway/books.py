"""What is written about a request that has ended: its usage, if it was admitted, and its audit record. No content."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from serving.telemetry.record import RequestRecord
from serving.tenants.access import Access, AccessLog, NoAccessLog
from serving.tenants.audit import AuditEvent
from serving.tenants.ledger import Ledger, Price, UsageRecord
from serving.tenants.quotas import Usage

_PARAMETERS = frozenset(
    [
        "temperature", "top_p", "top_k", "min_p", "n", "max_tokens", "max_completion_tokens", "seed", "stream",
        "presence_penalty", "frequency_penalty", "repetition_penalty", "length_penalty", "logprobs", "top_logprobs",
        "prompt_logprobs", "min_tokens", "ignore_eos", "parallel_tool_calls", "echo",
    ]
)  # fmt: skip


def parameters_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request's parameters as far as they cannot hold text: numbers and switches, and how many tools it brought."""
    numbers = {name: body[name] for name in _PARAMETERS & body.keys() if isinstance(body[name], bool | int | float)}
    # JSON has 1e999, and integers that no float can hold.
    kept: dict[str, Any] = {name: value for name, value in numbers.items() if -math.inf < value < math.inf}
    if tools := body.get("tools"):
        kept["tools"] = len(tools)
    kind = (body.get("response_format") or {}).get("type")
    if kind in ("text", "json_object", "json_schema"):
        kept["response_format"] = kind
    return kept


class Audit(Protocol):
    def record(self, event: AuditEvent) -> None: ...


class Books:
    """The usage ledger and the audit log, as the gateway writes them. prices: by deployment."""

    def __init__(
        self,
        ledger: Ledger,
        audit: Audit,
        prices: Mapping[str, Price],
        access: AccessLog | NoAccessLog = NoAccessLog(),  # noqa: B008  # it holds nothing
    ) -> None:
        self._access = access
        self._ledger = ledger
        self._audit = audit
        self._prices = prices

    def enter(self, record: RequestRecord) -> None:
        """Fill in what the request has cost, and hand it over. Plain calls: this may run in a cancelled task."""
        self._price(record)
        try:
            if record.admitted:
                self._ledger.record(_usage_of(record))
        finally:
            if record.deployment:
                self._audit.record(_event_of(record))
            elif record.status in (401, 403):
                self._access.note(_access_of(record), record.request_id)

    def _price(self, record: RequestRecord) -> None:
        if record.admitted and (price := self._prices.get(record.deployment)):
            tokens = Usage(record.prompt_tokens, record.cached_tokens, record.completion_tokens)
            record.cost_micros = price.micros(tokens)


def _usage_of(record: RequestRecord) -> UsageRecord:
    return UsageRecord(
        id=record.request_id,
        started_at=record.started_at,
        tenant=record.tenant,
        key_id=record.key_id,
        key_name=record.key_name,
        deployment=record.deployment,
        revision=record.revision,
        operation=record.operation,
        stream=record.stream,
        outcome=record.outcome,
        prompt_tokens=record.prompt_tokens,
        cached_tokens=record.cached_tokens,
        completion_tokens=record.completion_tokens,
        cost_micros=record.cost_micros,
        first_token=record.first_token,
        duration=record.duration,
        estimated=record.estimated,
    )


def _access_of(record: RequestRecord) -> Access:
    return Access(
        action=f"{record.method} {record.route}",
        outcome=record.outcome,
        tenant=record.tenant,
        actor=record.key_id or record.key_prefix,
        address=record.address,
    )


def _event_of(record: RequestRecord) -> AuditEvent:
    return AuditEvent(
        kind="inference",
        at=record.started_at,
        tenant=record.tenant,
        actor=record.key_id,
        request_id=record.request_id,
        details={
            "key_name": record.key_name,
            "address": record.address,
            "deployment": record.deployment,
            "model": record.revision,
            "operation": record.operation,
            "parameters": record.parameters,
            "prompt": record.prompt_digest,
            "answers": record.answer_digests,
            "decision": "admitted" if record.admitted else "refused",
            "outcome": record.outcome,
            "status": record.status,
            "prompt_tokens": record.prompt_tokens,
            "cached_tokens": record.cached_tokens,
            "completion_tokens": record.completion_tokens,
            "tokens_estimated": record.estimated,
            "duration_ms": round(record.duration * 1000),
        },
    )
