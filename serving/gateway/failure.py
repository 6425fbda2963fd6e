"""How a failure looks to a client: OpenAI's error body, status and headers. The one place that writes them."""

from __future__ import annotations

import math
from typing import Any

from starlette.responses import JSONResponse

from serving.errors import ServingError
from serving.tenants.quotas import RequestTooLarge


def body_of(error: ServingError) -> dict[str, Any]:
    """OpenAI's envelope, all four fields always (azure-wire-format, part 5); or the error's own, where Azure's clients
    look for another (part 1.3).
    """
    return error.azure_body() or {
        "error": {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}
    }


def response_of(error: ServingError) -> JSONResponse:
    """Status, body, and for those who should wait both retry headers: azure-core reads the seconds, openai the ms."""
    headers = {}
    if error.retry_after is not None:
        # Not below a second: openai's SDKs take 0 for "no advice".
        headers = {
            "retry-after": str(max(1, math.ceil(error.retry_after))),
            "retry-after-ms": str(max(1, math.ceil(error.retry_after * 1000))),
        }
    if isinstance(error, RequestTooLarge):
        headers["x-should-retry"] = "false"  # openai's SDKs repeat every 429 else
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(body_of(error), status_code=error.status, headers=headers)
