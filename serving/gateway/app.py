"""The HTTP application: middleware in reading order, routers, and the one error handler."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from serving import __version__
from serving.errors import InvalidRequest, MethodNotAllowed, ServingError, UnknownRoute
from serving.gateway import health
from serving.gateway.admin import routes as administration
from serving.gateway.anonymous import AnonymousLimits
from serving.gateway.body_in_time import BodyInTime
from serving.gateway.dialects import routes as dialects
from serving.gateway.dialects.dialect import Spoken, spoken_in
from serving.gateway.documents import Document, LazyDocument
from serving.gateway.failure import response_of
from serving.gateway.head_limit import HeadLimit
from serving.gateway.methods import HeadAsGet
from serving.gateway.middleware import BodyLimit, Recorded
from serving.gateway.parts import Parts
from serving.gateway.reference.document import document_of, methods_at
from serving.gateway.reference.page import HEADERS, page_of
from serving.tenants.quotas import QuotaExceeded

_JSON = {"content-type": "application/json"}
_HTML = {"content-type": "text/html; charset=utf-8"}


def create_app(parts: Parts) -> FastAPI:
    """The gateway on these parts. Opens nothing: engines connect on first use, and the lifespan closes them."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for deployment in parts.catalog:
                stack.push_async_callback(deployment.engine.close)
            for part in parts.background:
                stack.push_async_callback(part.close)
                await part.start()
            worker = parts.worker_on(app)
            stack.push_async_callback(worker.close)  # first of all: its lines are requests
            await worker.start()
            yield

    app = FastAPI(
        title="clinserve",
        version=__version__,
        description="Clinical foundation models behind the APIs of OpenAI and Azure. A key goes into "
        "`Authorization: Bearer` or `api-key`, a token of an identity provider into `Authorization: Bearer`.",
        lifespan=lifespan,
        openapi_url=None,  # below: FastAPI's own route writes the document anew for each who asks
        docs_url=None,  # reference/page.py
        redoc_url=None,
        # A redirect is built from the Host header and, behind TLS, says http: clients would send their key there.
        redirect_slashes=False,
        middleware=[
            Middleware(Spoken, dialects=parts.dialects),
            # Sees every status, also of the next.
            Middleware(Recorded, metrics=parts.metrics, traces=parts.traces, log=parts.log, books=parts.books),
            Middleware(AnonymousLimits, proxies=parts.proxies),
            Middleware(HeadLimit),
            *parts.cross_origin,  # browsers' pages of configured origins; none by default
            Middleware(HeadAsGet),
            Middleware(BodyLimit, limit=parts.max_body),
            Middleware(BodyInTime, grace=parts.body_timeout),
        ],
        exception_handlers={
            ServingError: _answer,
            HTTPException: _answer_http,
            RequestValidationError: _answer_invalid,
        },
    )
    app.state.parts = parts
    app.openapi = functools.cache(lambda: document_of(app))  # type: ignore[method-assign]  # FastAPI's way to have another
    for router in (*dialects.routers, administration.router, health.router(parts), parts.pages):
        app.router.routes.extend(router.routes)  # include_router would build all of them anew for each application
    described = LazyDocument(lambda: Document(json.dumps(app.openapi()).encode(), _JSON))
    page = LazyDocument(lambda: Document(page_of(app.openapi()).encode(), _HTML | HEADERS))
    for path, document in (("/openapi.json", described), ("/docs", page)):
        app.add_api_route(path, _answers(document), include_in_schema=False)
    return app


def _answers(document: LazyDocument) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return await document.answer(request.headers)

    return answer


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServingError)
    request.state.record.outcome = error.code
    if isinstance(error, QuotaExceeded):
        request.state.record.rates = error
    return response_of(error, spoken_in(request.scope))


async def _answer_http(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405."""
    assert isinstance(error, HTTPException)
    if error.status_code != 405:
        return await _answer(request, UnknownRoute())
    response = await _answer(request, MethodNotAllowed())
    response.headers["allow"] = ", ".join(methods_at(request.app, request.scope))
    return response


async def _answer_invalid(request: Request, error: Exception) -> Response:
    """What FastAPI does not take of a path or a query: named, as the names are ours, and not repeated."""
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    place, message = str(problem["loc"][1]), problem["msg"].removeprefix("Value error, ")
    return await _answer(request, InvalidRequest(f"'{place}': {message}.", param=place))
