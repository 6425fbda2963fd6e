"""/openapi.json: FastAPI's own description of the routes, completed in one place rather than at each route.

A path says by its beginning which dialect it is in and by its end what it does; both together say how it may refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from serving import errors
from serving.batches.batch import BatchEnded, TooManyBatches, UnknownBatch
from serving.batches.contents import ContentsUnavailable, NoRoom
from serving.batches.file import TooManyFiles, UnknownFile
from serving.batches.files import FileInUse
from serving.gateway.once import HEADER, OnceRoute
from serving.gateway.reference.bodies import ANSWERS, EXAMPLES, REFUSALS, Schema
from serving.protocol import bounds
from serving.responses.response import UnknownResponse
from serving.tenants.quotas import QuotaExceeded
from serving.tenants.repeats import KeyReused, StillRunning
from serving.tenants.stores import StoreUnavailable

Operation = dict[str, Any]
Errors = list[type[errors.ServingError]]

_TAGS = {
    "inference": "Chat, completions, embeddings: each answered by a deployment, which `model` names.",
    "responses": "OpenAI's Responses API on the same deployments. What is kept is the tenant's policy.",
    "models": "The deployments that the caller may call.",
    "files": "Input and output of batches.",
    "batches": "Many requests in one file, run when the models have time.",
    "azure openai v1": "The same as Azure has it since 2025: below /openai/v1, api-version optional.",
    "azure openai": "The same as Azure had it before: the deployment in the path, api-version required.",
    "azure ai model inference": "The API of azure-ai-inference: one closed list of parameters.",
    "health": "For the platform; what names tenants or deployments needs an administrator's key.",
}
_PREFIXES = re.compile(r"/openai(/v1)?(/deployments/\{deployment\})?|/models(?=/(chat|embeddings|info))|/v1")
_STREAMED = ("/chat/completions", "/completions", "/responses")
_INFERENCE = (*_STREAMED, "/embeddings")
_OF_ALL: Errors = [errors.InvalidRequest, errors.InvalidKey, errors.NotAllowed, StoreUnavailable, errors.ServingError]
_OF_INFERENCE: Errors = [
    errors.ContextTooLong, errors.ContentFiltered, errors.UnknownDeployment, errors.BodyTooLarge, QuotaExceeded,
    errors.EngineUnavailable, errors.EngineTimeout, errors.EngineFailed,
]  # fmt: skip
_OF_NOUNS: dict[str, Errors] = {
    "/models": [errors.UnknownDeployment],
    "/info": [errors.UnknownDeployment],
    "/responses": [UnknownResponse],
    "/files": [UnknownFile, TooManyFiles, FileInUse, errors.BodyTooLarge, ContentsUnavailable, NoRoom],
    "/batches": [UnknownBatch, UnknownFile, TooManyBatches, TooManyFiles, BatchEnded, errors.BodyTooLarge, NoRoom],
}
_SIGNED_IN: list[dict[str, list[str]]] = [{"key": []}, {"api-key": []}]
_SCHEMES = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of this server, or a token of an identity provider that it believes.",
    },
    "api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "api-key",
        "description": "A key, as Azure's do.",
    },
}


def document_of(app: FastAPI) -> dict[str, Any]:
    """The whole document. Takes a tenth of a second, so it is built when somebody asks."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
    )
    once = {(route.path_format, method.lower()) for route in _once_routes(app) for method in route.methods or ()}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/admin/"):
                operation["responses"].pop("422", None)  # FastAPI's own, which we never answer
                continue  # the rest its routes describe themselves (admin/shapes.py)
            if "health" not in operation["tags"]:
                _complete(operation, path, method, repeatable=method == "post" and (path, method) in once)
            else:
                _complete_health(operation, path)
    components = document.setdefault("components", {})
    components["securitySchemes"] = components.get("securitySchemes", {}) | _SCHEMES
    components["schemas"] = components.get("schemas", {}) | REFUSALS
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    return document


def _once_routes(app: FastAPI) -> Iterator[OnceRoute]:
    return (route for route in app.routes if isinstance(route, OnceRoute))


def _complete(operation: Operation, path: str, method: str, *, repeatable: bool) -> None:
    noun = _PREFIXES.sub("", path, count=1)
    azure, extras = path.startswith(("/openai", "/models")), path.startswith("/models")
    operation["security"] = _SIGNED_IN
    operation["parameters"] = [*operation.get("parameters", []), *_parameters(path, noun, repeatable=repeatable)]
    answers = operation["responses"]
    for invented in [status for status in answers if status != "200"]:
        del answers[invented]  # FastAPI's own 422, which we never answer
    content = answers["200"].setdefault("content", {})
    if shape := ANSWERS.get((method, noun)):
        content["application/json"] = {"schema": shape}
    if noun.endswith("/content"):
        content.pop("application/json", None)
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    if method == "post" and noun in _STREAMED:
        content["text/event-stream"] = {  # no type: to some tools the schema is the stream's, to others an event's
            "schema": {"description": "With `stream: true`: events as OpenAI's, the last `[DONE]`."}
        }
    if method == "post" and noun in EXAMPLES:
        body = operation["requestBody"]["content"]["application/json"]
        body["example"] = {n: v for n, v in EXAMPLES[noun].items() if n != "model" or "{deployment}" not in path}
    name = "AzureRefusal" if azure else "OpenAIRefusal"
    for status, text in _refusals(noun, azure=azure, repeatable=repeatable).items():
        answers[status] = {"description": text, "content": _json({"$ref": f"#/components/schemas/{name}"})}
    if extras and noun in _INFERENCE:
        schema = {"$ref": "#/components/schemas/ExtraParameterRefusal"}
        answers["422"] = {"description": errors.ExtraParameter.code, "content": _json(schema)}


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _refusals(noun: str, *, azure: bool, repeatable: bool) -> dict[str, str]:
    """By status, what it can mean."""
    kinds = list(_OF_ALL)
    if noun in _INFERENCE:
        kinds += _OF_INFERENCE
    kinds += next((more for begins, more in _OF_NOUNS.items() if noun.startswith(begins)), [])
    if repeatable:
        kinds += [StillRunning, KeyReused]
    described: dict[str, list[str]] = {}
    for kind in kinds:
        # As dialects/azure.py says it: a model that is too slow is Azure's 408.
        status = 408 if azure and kind is errors.EngineTimeout else kind.status
        described.setdefault(str(status), []).append(f"`{kind.code}`")
    if azure:
        described.setdefault("404", ["No such path: dated ones need an api-version"])
    return {status: ", ".join(dict.fromkeys(codes)) for status, codes in sorted(described.items())}


def _parameters(path: str, noun: str, *, repeatable: bool) -> Iterator[dict[str, Any]]:
    if "{deployment}" in path:
        yield _parameter("deployment", "path", "The deployment; it wins over the body's model.", required=True)
    if path.startswith(("/openai", "/models")):
        dated = not path.startswith("/openai/v1")
        said = "YYYY-MM-DD or YYYY-MM-DD-preview; which date makes no difference."
        yield _parameter("api-version", "query", said, required=dated, example="2024-10-21")
        yield _parameter("x-ms-client-request-id", "header", "A UUID, which comes back.")
    if path.startswith("/models") and noun in _INFERENCE:
        said = "What becomes of parameters that this API does not know."
        choices: Schema = {"type": "string", "enum": ["error", "drop", "pass-through"], "default": "error"}
        yield _parameter("extra-parameters", "header", said, schema=choices)
    if noun in _INFERENCE:
        yield _parameter("x-ms-spillover-deployment", "header", "The deployment that answers if this one cannot.")
    if repeatable:
        said = "Answered once, however often it is sent; 1 to 255 visible ASCII characters."
        key: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
        yield _parameter(HEADER.title(), "header", said, schema=key)


def _parameter(
    name: str, where: str, description: str, *, required: bool = False, schema: Schema | None = None, example: str = ""
) -> dict[str, Any]:
    parameter = {"name": name, "in": where, "required": required, "description": description}
    return (
        parameter
        | {"schema": schema or {"type": "string", "maxLength": bounds.PATH_PARAMETER}}
        | ({"example": example} if example else {})
    )


def _complete_health(operation: Operation, path: str) -> None:
    if path == "/readyz":
        content = _json({"$ref": "#/components/schemas/OpenAIRefusal"})
        operation["responses"]["503"] = {"description": f"`{errors.EngineUnavailable.code}`", "content": content}
    if path == "/metrics":
        operation["security"] = _SIGNED_IN
        answers = operation["responses"]
        answers["200"]["content"] = {
            kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/openmetrics-text")
        }
        refusal = {"content": _json({"$ref": "#/components/schemas/OpenAIRefusal"})}
        for status, text in _refusals("", azure=False, repeatable=False).items():
            answers[status] = {"description": text} | refusal


def methods_at(app: FastAPI, scope: Any) -> list[str]:
    """What the path of a request takes, for Allow: its routes are one for each method, and HEAD goes with GET."""
    found = {m for r in app.routes if isinstance(r, APIRoute) and r.matches(scope)[0].value for m in r.methods or ()}
    return sorted(found | {"HEAD"} if "GET" in found else found)
