"""Every path of every dialect. The OpenAI paths stand beside their handlers; here the same handlers get Azure's.

    OpenAI                 Azure OpenAI, v1             Azure OpenAI, dated                     Azure AI Inference
    /v1/chat/completions   /openai/v1/chat/completions  /openai/deployments/D/chat/completions  /models/chat/completions
    /v1/models             /openai/v1/models            /openai/models                          /models/info
    /v1/files, /v1/batches, /v1/responses: the same two ways

Aliases that real clients hit: a deployment inside v1, batches inside a deployment, doubled slashes (azure-wire-format,
part 0 rule 12, and 4.1, 4.2).
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute

from serving.gateway import batches, chat, files, models, responses
from serving.gateway.dialects.azure import any_version, dated_version
from serving.gateway.dialects.deployments import list_deployments, show_deployment
from serving.gateway.dialects.information import model_information

_DEPLOYED = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
_INFERENCE = ("/v1/chat/completions", "/v1/embeddings")

_openai = (chat.router, responses.router, models.router, files.router, batches.router)
_routes = [route for router in _openai for route in router.routes if isinstance(route, APIRoute)]


def _mounted(tag: str, paths: Iterable[tuple[str, APIRoute]], version: object) -> APIRouter:
    router = APIRouter(tags=[tag], dependencies=[Depends(version)])  # type: ignore[arg-type]
    for path, route in paths:
        router.add_api_route(
            path,
            route.endpoint,
            methods=sorted(route.methods or ()),
            response_model=route.response_model,
            status_code=route.status_code,
            responses=route.responses,
            openapi_extra=route.openapi_extra,
            summary=route.summary,
            description=route.description,
            route_class_override=type(route),
        )
    return router


def _azure_v1() -> APIRouter:
    paths = [(f"/openai{route.path}", route) for route in _routes]
    paths += [
        (f"/openai/v1/deployments/{{deployment:path}}{route.path.removeprefix('/v1')}", route)
        for route in _routes
        if route.path in _DEPLOYED
    ]
    return _mounted("azure openai v1", paths, any_version)


def _azure_dated() -> APIRouter:
    paths = [
        (f"/openai/deployments/{{deployment:path}}{route.path.removeprefix('/v1')}", route)
        for route in _routes
        if route.path in _DEPLOYED or (route.path == "/v1/batches" and "POST" in (route.methods or ()))
    ]
    paths += [(f"/openai{route.path.removeprefix('/v1')}", route) for route in _routes if route.path not in _DEPLOYED]
    router = _mounted("azure openai", paths, dated_version)
    router.add_api_route("/openai/deployments", list_deployments)
    router.add_api_route("/openai/deployments/{deployment}", show_deployment)
    return router


def _inference() -> APIRouter:
    paths = [(f"/models{route.path.removeprefix('/v1')}", route) for route in _routes if route.path in _INFERENCE]
    router = _mounted("azure ai model inference", paths, dated_version)
    router.add_api_route("/models/info", model_information)
    return router


routers = (*_openai, _azure_v1(), _azure_dated(), _inference())
