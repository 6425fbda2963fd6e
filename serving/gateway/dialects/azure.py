"""Azure OpenAI's dialect: paths below /openai, errors and headers as its clients and their users know them.

Sources: azure-wire-format, 1.1 to 1.4. Where Azure's texts are recognised by clients, they begin as Azure's do.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from serving.errors import (
    EngineTimeout,
    EngineUnavailable,
    InvalidKey,
    InvalidRequest,
    MethodNotAllowed,
    NotAllowed,
    ServingError,
    TooManyRequests,
    UnknownDeployment,
    UnknownRoute,
)
from serving.gateway.dialects.dialect import Envelope
from serving.gateway.ratelimits import headers_of as rate_headers
from serving.telemetry.record import RequestRecord

_DATED = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_KEYWORDS = frozenset({"preview", "v1", "latest"})
_EVENT_KINDS = {403: "forbidden", 429: "too_many_requests"}


class AzureOpenAI(Envelope):
    """region: what x-ms-region says; empty for none."""

    def __init__(self, region: str = "") -> None:
        self._region = region

    def speaks(self, path: str) -> bool:
        return path.startswith("/openai/")

    def read(self, body: dict[str, Any], connection: HTTPConnection) -> dict[str, Any]:
        """The path's deployment wins: LangChain sends `"model": null`, or a name of its own, beside it (rule 6)."""
        deployment = connection.path_params.get("deployment")
        return body | {"model": deployment} if deployment else body

    def status_of(self, error: ServingError) -> int:
        return 408 if isinstance(error, EngineTimeout) else error.status

    def body_of(self, error: ServingError) -> dict[str, Any]:
        """OpenAI's four fields where a model would have answered, Azure's two where its gateway would."""
        if (own := error.azure_body()) is not None:
            return own
        short = _short(error)
        if short is None:
            return super().body_of(error)
        code, message = short
        return {"error": {"code": code, "message": message}}

    def error_event(self, error: ServingError) -> dict[str, Any]:
        """Nested: openai's client raises on it, where it hands over OpenAI's flat one (azure-wire-format, 1.7)."""
        kind = _EVENT_KINDS.get(error.status, "server_error" if error.status >= 500 else "user_error")
        return {"error": {"type": kind, "code": error.code, "message": error.message, "param": error.param}}

    def headers_of(self, record: RequestRecord, asked: Headers) -> dict[str, str]:
        own = str(uuid.uuid5(uuid.NAMESPACE_OID, record.request_id))
        headers = {
            "apim-request-id": own,
            "x-ms-client-request-id": _uuid_in(asked.get("x-ms-client-request-id", "")) or own,
            "x-content-type-options": "nosniff",
        }
        if record.rates is not None:
            headers |= rate_headers(record.rates, whole_seconds=True)
        if self._region:
            headers["x-ms-region"] = self._region
        if record.deployment:
            headers["x-ms-deployment-name"] = record.model
        if record.spilled_from:
            headers["x-ms-spillover-from-deployment"] = record.spilled_from
        if record.spill_error:
            headers["x-ms-spillover-error"] = str(record.spill_error)
        return headers


def _short(error: ServingError) -> tuple[str, str] | None:
    """Code and message of those errors that Azure's gateway would have raised, before any model."""
    match error:
        case InvalidKey():
            return "401", (
                "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
                "as 'api-key: KEY' or 'Authorization: Bearer KEY'."
            )
        case UnknownDeployment():
            return "DeploymentNotFound", (
                "The API deployment for this resource does not exist. If you created the deployment within the last 5 "
                f"minutes, please wait a moment and try again. {error.message}"
            )
        case UnknownRoute():
            return "404", "Resource not found"
        case MethodNotAllowed():
            return "405", error.message
        case TooManyRequests():
            return ("RateLimitReached" if error.retry_after is not None else error.code), error.message
        case NotAllowed():
            return ("AccessDenied" if error.code == "network_not_allowed" else "PermissionDenied"), error.message
        case EngineTimeout():
            return "Timeout", "The operation was timeout. The model did not answer in time."
        case EngineUnavailable():
            return "ServiceUnavailable", error.message
        case InvalidRequest():
            return ("OperationNotSupported", error.message) if error.code == "operation_not_supported" else None
        case _ if error.status == 500:
            return "InternalServerError", error.message
    return None


def _uuid_in(text: str) -> str:
    """The id, if it is a UUID: it is sent back, so it must not be anything else."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return ""


def dated_version(connection: HTTPConnection) -> None:
    """A dated path needs a dated api-version: without one Azure knows no such path (azure-wire-format, 1.1).

    Raises UnknownRoute, InvalidRequest. Which date makes no difference: what was added later is there for all.
    """
    version = connection.query_params.get("api-version")
    if version is None:
        raise UnknownRoute
    if not _DATED.fullmatch(version) and version not in _KEYWORDS:
        raise InvalidRequest("API version not supported: use YYYY-MM-DD or YYYY-MM-DD-preview.", param="api-version")


def any_version(connection: HTTPConnection) -> None:
    """Below /openai/v1 an api-version says nothing, but it must look like one. Raises InvalidRequest."""
    if "api-version" in connection.query_params:
        dated_version(connection)
