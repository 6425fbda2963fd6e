"""How a failure reaches a client: status, headers and body in its dialect. The one place that writes them."""

from __future__ import annotations

import math

from starlette.responses import JSONResponse

from serving.errors import FatalRequest, ServingError
from serving.gateway.dialects.dialect import Dialect
from serving.tenants.quotas import RequestTooLarge
from serving.tenants.repeats import KeyReused


def response_of(error: ServingError, dialect: Dialect) -> JSONResponse:
    """For those who should wait both retry headers: azure-core reads the seconds, openai the ms."""
    headers = {}
    if error.retry_after is not None:
        # Not below a second: openai's SDKs take 0 for "no advice".
        headers = {
            "retry-after": str(max(1, math.ceil(error.retry_after))),
            "retry-after-ms": str(max(1, math.ceil(error.retry_after * 1000))),
        }
    if isinstance(error, RequestTooLarge | KeyReused | FatalRequest):
        headers["x-should-retry"] = "false"  # openai's SDKs repeat every 429, 409 and 5xx else
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(dialect.body_of(error), status_code=dialect.status_of(error), headers=headers)
