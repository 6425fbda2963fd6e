"""OpenAI's own dialect, and whatever is in no other."""

from __future__ import annotations

from starlette.datastructures import Headers

from serving.gateway.dialects.dialect import Envelope
from serving.gateway.ratelimits import headers_of as rate_headers
from serving.telemetry.record import RequestRecord


class OpenAI(Envelope):
    """https://platform.openai.com/docs/api-reference/debugging-requests: the headers."""

    def speaks(self, path: str) -> bool:
        return True

    def headers_of(self, record: RequestRecord, asked: Headers) -> dict[str, str]:
        headers = rate_headers(record.rates) if record.rates is not None else {}
        if record.deployment:
            headers["openai-processing-ms"] = str(round(record.elapsed() * 1000))
            headers["x-ms-deployment-name"] = record.model
        if record.spilled_from:
            headers["x-ms-spillover-from-deployment"] = record.spilled_from
        if record.spill_error:
            headers["x-ms-spillover-error"] = str(record.spill_error)
        return headers
