"""Spill-over: a deployment that cannot take a request hands it to another, before its first token.

As Azure does it, on 429, 500, 503 and a prompt that is too long (azure-wire-format, 1.10). What the caller may not do,
cannot pay or has asked wrongly is the same everywhere and does not spill; nor does what has already cost tokens, or
what replicas died of.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.responses import Response

from serving.errors import ContextTooLong, FatalRequest, InvalidRequest, ServingError, TooManyRequests
from serving.gateway.catalog import Deployment
from serving.telemetry.metrics import Metrics
from serving.telemetry.record import RequestRecord

Attempt = Callable[[Deployment], Awaitable[Response]]


async def first_that_answers(
    deployment: Deployment, spill: Deployment | None, record: RequestRecord, metrics: Metrics, attempt: Attempt
) -> Response:
    """The answer of `deployment`, else of `spill`. If both fail, the first's error, the second's status beside it."""
    try:
        return await attempt(deployment)
    except ServingError as error:
        if spill is None or not spills(error):
            raise
        first, rates = error, record.rates
    metrics.noted("spills", deployment.name, spill.name)
    record.spilled_from = deployment.name
    record.passed("spill")
    try:
        return await attempt(spill)
    except ServingError as second:
        record.spilled_from, record.spill_error, record.rates = "", second.status, rates
        record.about(deployment.name, record.operation, stream=record.stream, revision=deployment.revision)
    raise first


def spills(error: ServingError) -> bool:
    if isinstance(error, TooManyRequests | ContextTooLong):
        return True
    return error.free and not isinstance(error, InvalidRequest | FatalRequest)
