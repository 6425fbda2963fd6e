"""Every failure that a caller can see, as one tree; nothing here knows HTTP frameworks or writes a body.

    ServingError
    ├── InvalidRequest 400            the caller must change the request
    │   ├── ForbiddenField 400        a field that would reach past the caller's own request
    │   ├── ContextTooLong 400        prompt and answer do not fit the model
    │   └── BodyTooLarge 413
    ├── InvalidKey 401                the caller must change the credential
    ├── NotAllowed 403
    ├── UnknownRoute 404
    ├── UnknownDeployment 404         the caller must change the name
    ├── UnknownKey 404                an operator must change the id; defined in tenants/keys.py
    ├── MethodNotAllowed 405
    ├── TooManyRequests 429           the caller must wait
    ├── StoreUnavailable 503          nobody can check keys now; defined in tenants/keys.py
    └── EngineError 5xx               the caller may try again
        ├── EngineUnavailable 503     nobody took the request: nothing was generated, safe to repeat
        ├── EngineTimeout 504         accepted, but no first token in time
        └── EngineFailed 502          broke while answering

Messages are written here or by us where the error is raised. They never quote the request: a prompt in an error body
ends up in somebody's log (https://github.com/vllm-project/vllm/pull/29160 is one such scar).
"""

from typing import ClassVar


class ServingError(Exception):
    """Base of all errors that reach a caller.

    `status` is the HTTP status, `kind` is OpenAI's `error.type`, `code` is OpenAI's `error.code` and the `outcome`
    label of metrics and logs; so `code` comes from a closed set, one per class.
    """

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"
    default_message: ClassVar[str] = (
        "The server failed to handle the request. The request id identifies it in the logs."
    )

    def __init__(self, message: str = "", *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message or self.default_message)
        self.message = message or self.default_message
        self.param = param
        self.retry_after = retry_after
        """Seconds after which a repeat can succeed. Only 408, 429 and 5xx carry it: azure-core repeats any status
        that has the header, even 400 (azure-wire-format, rule 4)."""


class InvalidRequest(ServingError):
    status, kind, code = 400, "invalid_request_error", "invalid_request"
    default_message = "The request is not valid."


class ForbiddenField(InvalidRequest):
    code = "forbidden_field"


class ContextTooLong(InvalidRequest):
    code = "context_length_exceeded"


class BodyTooLarge(InvalidRequest):
    status, code = 413, "request_too_large"


class InvalidKey(ServingError):
    status, kind, code = 401, "invalid_request_error", "invalid_api_key"
    default_message = (
        "Access denied due to invalid API key. Send a valid key as 'Authorization: Bearer KEY' or 'api-key: KEY'."
    )


class NotAllowed(ServingError):
    status, kind, code = 403, "permission_error", "not_allowed"


class UnknownRoute(ServingError):
    status, kind, code = 404, "invalid_request_error", "not_found"
    default_message = "There is nothing at this path."


class UnknownDeployment(ServingError):
    status, kind, code = 404, "invalid_request_error", "model_not_found"


class MethodNotAllowed(ServingError):
    status, kind, code = 405, "invalid_request_error", "method_not_allowed"
    default_message = "This path does not take this method."


class TooManyRequests(ServingError):
    status, kind, code = 429, "rate_limit_exceeded", "rate_limit_exceeded"


class EngineError(ServingError):
    status, kind, code = 502, "server_error", "engine_error"


class EngineUnavailable(EngineError):
    status, code = 503, "engine_unavailable"
    default_message = (
        "No replica of this deployment can take the request now. Nothing was generated; try again shortly."
    )


class EngineTimeout(EngineError):
    status, code = 504, "engine_timeout"
    default_message = "The model did not answer in time."


class EngineFailed(EngineError):
    code = "engine_failed"
    default_message = "The model stopped before the answer was complete."
