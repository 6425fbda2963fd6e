"""Every failure that a caller can see, as one tree; nothing here knows HTTP frameworks or writes a body.

    ServingError
    ├── InvalidRequest 400            the caller must change the request
    │   ├── ModelMissing 400          no deployment is named
    │   ├── ForbiddenField 400        a field that would reach past the caller's own request
    │   ├── ContextTooLong 400        prompt and answer do not fit the model
    │   ├── TooManyKeys 400           tenants/key_store.py: an owner has two live keys at most
    │   ├── KeyEnded 400              tenants/key_store.py: it is revoked or expired
    │   ├── TooManyBatches 400        batches/batch.py: a tenant's batches at a time
    │   ├── BatchEnded 400            batches/batch.py: nothing is left to cancel
    │   ├── TooManyFiles 400          batches/file.py: a tenant's files, or their bytes
    │   ├── FileInUse 400             batches/files.py: a batch reads it
    │   ├── UnknownPrevious 400       responses/response.py: a conversation cannot be gone on with
    │   ├── KeepingNotAllowed 400     responses/response.py: the tenant's responses are not kept
    │   ├── NotInBackground 400       responses/response.py: nothing to cancel
    │   ├── TooManyResponses 400      responses/response.py: a tenant's responses that are kept
    │   ├── OperationNotSupported 400 the deployment's model does something else
    │   ├── GrammarRefused 400        engines/refusals.py: its JSON schema was compiled aside, and cannot be used
    │   ├── ContentFiltered 400       a guard, or an endpoint's own filter, refuses the prompt
    │   ├── BodyTooSlow 408           it did not arrive in time
    │   ├── BodyTooLarge 413
    │   ├── EncodedBody 415           the body is compressed
    │   ├── PathTooLong 414           or its query
    │   ├── HeadersTooLarge 431
    │   └── ExtraParameter 422        Azure AI Model Inference: a parameter that API does not know
    ├── InvalidKey 401                the caller must change the credential
    ├── InvalidToken 401              tenants/tokens.py: the same for tokens of identity providers
    ├── NoRole 401                    tenants/tokens.py: a good token, to which nothing is granted
    ├── NotAllowed 403
    │   ├── DeploymentNotAllowed 403  the key is for other deployments
    │   ├── RoleMissing 403           tenants/callers.py
    │   ├── NetworkNotAllowed 403     tenants/callers.py
    │   ├── GrantTooWide 403          tenants/rights.py: an administrator would hand out more than it has
    │   ├── RolesExclusive 403        tenants/exclusive_roles.py: roles that are not for one hand
    │   └── TenantDisabled 403        tenants/registry.py
    ├── UnknownRoute 404
    ├── UnknownDeployment 404         the caller must change the name
    ├── UnknownKey 404                tenants/key_store.py: an administrator must change the id
    ├── UnknownTenant 404             tenants/registry.py: likewise
    ├── UnknownFile 404               batches/file.py
    ├── UnknownBatch 404              batches/batch.py
    ├── UnknownResponse 404           responses/response.py
    ├── MethodNotAllowed 405
    ├── TenantExists 409              tenants/registry.py
    ├── RowNotGenuine 409             tenants/row_seal.py: somebody else changed it in the database
    ├── StillRunning 409              tenants/repeats.py: the first with this Idempotency-Key has not ended
    ├── KeyReused 409                 tenants/repeats.py: another body came under this Idempotency-Key
    ├── TooManyRequests 429           the caller must wait: this server is full
    │   ├── TooManyAnonymous 429      an address sends much without a good key
    │   └── QuotaExceeded 429         tenants/quotas.py: a limit per minute, or of requests at a time
    │       ├── BudgetExhausted 429   a limit per day or month
    │       └── RequestTooLarge 429   one request above a whole limit: waiting does not help
    ├── StoreUnavailable 503          tenants/stores.py: the database is away
    │   └── NotStorable 503           it is there, and does not take this value
    ├── ContentsUnavailable 503       batches/contents.py: the files' disk or Blob Storage is away
    │   └── NoRoom 507                batches/contents.py: a disk is full, or kept free for the audit log
    ├── ContentsDamaged 500           batches/sealed.py: a file's bytes are not those that were kept
    ├── QuotasUnavailable 503         tenants/quotas.py: Redis is away, and the server is set to refuse then
    ├── RepeatsUnavailable 503        tenants/repeats.py: likewise, and the request has an Idempotency-Key
    ├── AuditUnavailable 503          tenants/audit.py: nothing may be served that is not audited
    ├── IdentityUnavailable 503       tenants/issuer_keys.py: an identity provider's keys cannot be had
    ├── GuardUnavailable 503          guards/guard.py: a content filter is away that must not be
    └── EngineError 5xx               the caller may try again
        ├── EngineUnavailable 503     nobody took the request: nothing was generated, safe to repeat
        │   ├── EngineStarting 503        no replica runs, and none came while the request was held
        │   ├── NoReplica 503             engines/endpoints.py: none runs, so it is held; not seen by callers
        │   ├── EngineMisconfigured 503   engines/refusals.py: an endpoint refuses our credential
        │   └── NotTaken 503          engines/reading.py: another replica may be asked; not seen by callers
        ├── EngineBusy 429            engines/refusals.py: an endpoint's own limit
        ├── FatalRequest 502          two replicas died while they had it: final
        ├── EngineTimeout 504         accepted, but no first token in time
        └── EngineFailed 502          broke while answering
            └── AnswerBroke 502           engines/reading.py: its connection did, so its replica may have died

Messages are written here or by us where the error is raised. They never quote the request: a prompt in an error body
ends up in somebody's log (https://github.com/vllm-project/vllm/pull/29160 is one such scar).
"""

from collections.abc import Mapping, Sequence
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
        """Seconds after which a repeat can succeed. Only 408, 429, 5xx and StillRunning carry it: azure-core repeats
        any status that has the header, even 400 (azure-wire-format, rule 4)."""

    free: ClassVar[bool] = False
    """Raised before the first token, it means that nothing was generated: there is nothing to charge."""

    def azure_body(self) -> dict[str, object] | None:
        """The whole body, where Azure's clients look for another shape than OpenAI's (azure-wire-format, 1.3)."""
        return None


class InvalidRequest(ServingError):
    status, kind, code, free = 400, "invalid_request_error", "invalid_request", True
    default_message = "The request is not valid."


class ModelMissing(InvalidRequest):
    default_message = "'model' is missing: name a deployment. GET /v1/models lists them."


class ForbiddenField(InvalidRequest):
    code = "forbidden_field"


class ContextTooLong(InvalidRequest):
    code = "context_length_exceeded"


class OperationNotSupported(InvalidRequest):
    code = "operation_not_supported"


class ContentFiltered(InvalidRequest):
    """The prompt was refused for what it says. results: what was found, by Azure's categories; never of the text."""

    code = "content_filter"
    default_message = (
        "The response was filtered due to the prompt triggering this deployment's content management policy. Please "
        "modify your prompt and retry."
    )

    def __init__(self, results: Mapping[str, object] | None = None) -> None:
        super().__init__(param="prompt")
        self.results = results or {}

    def azure_body(self) -> dict[str, object]:
        """azure-wire-format, 1.5: the key inside innererror is singular, `type` is null."""
        inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": dict(self.results)}
        error = {"message": self.message, "type": None, "param": self.param, "code": self.code}
        return {"error": {**error, "status": self.status, "innererror": inner}}


class BodyTooSlow(InvalidRequest):
    status, code = 408, "request_timeout"
    default_message = "The request body did not arrive in time."


class BodyTooLarge(InvalidRequest):
    status, code = 413, "request_too_large"


class EncodedBody(InvalidRequest):
    status, code = 415, "unsupported_media_type"
    default_message = "The body has a content-encoding. Send it uncompressed, without that header."


class PathTooLong(InvalidRequest):
    status, code = 414, "uri_too_long"


class HeadersTooLarge(InvalidRequest):
    status, code = 431, "headers_too_large"


class ExtraParameter(InvalidRequest):
    """Raised in the Azure AI Model Inference dialect only; its body is that API's (azure-wire-format, part 2).

    names: those that may be told. The words are Azure's: LiteLLM reads the names off the first brackets of the body,
    leaves them out and repeats, if it says so; the documented samples of azure-ai-inference walk `detail`.
    """

    status, code = 422, "parameter_not_supported"

    def __init__(self, names: Sequence[str]) -> None:
        which = f"Extra parameters {list(names)!r}" if names else "Some extra parameters"
        super().__init__(
            f"{which} are not allowed when extra-parameters is not set or set to be 'error'. Set extra-parameters to "
            "'pass-through' to pass to the model, or to 'drop' to leave them out.",
            param=names[0] if names else None,
        )
        self.names = tuple(names)

    def azure_body(self) -> dict[str, object]:
        told = "Extra inputs are not permitted"
        places = [["body", name] for name in self.names] or [["body"]]
        detail = [{"loc": place, "input": None, "type": "extra_forbidden", "msg": told} for place in places]
        return {"message": self.message, "status": self.status, "code": self.code, "detail": detail}


class InvalidKey(ServingError):
    status, kind, code = 401, "invalid_request_error", "invalid_api_key"
    default_message = (
        "Access denied due to invalid API key. Send a valid key as 'Authorization: Bearer KEY' or 'api-key: KEY'."
    )


class NotAllowed(ServingError):
    status, kind, code = 403, "permission_error", "not_allowed"


class DeploymentNotAllowed(NotAllowed):
    code = "deployment_not_allowed"


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


class TooManyAnonymous(TooManyRequests):
    code = "too_many_anonymous_requests"
    default_message = (
        "Too many requests without a valid key or token have come from this address. Those with one are not held back."
    )


class EngineError(ServingError):
    status, kind, code = 502, "server_error", "engine_error"


class EngineUnavailable(EngineError):
    status, code, free = 503, "engine_unavailable", True
    default_message = (
        "No replica of this deployment can take the request now. Nothing was generated; try again shortly."
    )


class EngineStarting(EngineUnavailable):
    code = "engine_starting"
    default_message = (
        "No replica of this deployment runs yet; one is being started. Nothing was generated; try again when it is up."
    )


class EngineTimeout(EngineError):
    status, code = 504, "engine_timeout"
    default_message = "The model did not answer in time."


class EngineFailed(EngineError):
    code = "engine_failed"
    default_message = "The model stopped before the answer was complete."


class FatalRequest(EngineError):
    """Final: not tried elsewhere, and not again. Nothing has arrived, so nothing is charged."""

    status, code, free = 502, "fatal_request", True
    default_message = (
        "Two replicas of this deployment ended while they worked on this request. It is not given to another, and the "
        "same request is refused for some minutes. Do not send it again: change it, or tell the operator its id."
    )
