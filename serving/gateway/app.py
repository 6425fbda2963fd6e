"""The HTTP application: middleware in reading order, routers, and the one error handler."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from serving import __version__
from serving.errors import InvalidRequest, MethodNotAllowed, ServingError, UnknownRoute
from serving.gateway import health
from serving.gateway.admin import routes as administration
from serving.gateway.dialects import routes as dialects
from serving.gateway.dialects.dialect import Spoken, spoken_in
from serving.gateway.failure import response_of
from serving.gateway.middleware import BodyLimit, Recorded
from serving.gateway.parts import Parts
from serving.tenants.quotas import QuotaExceeded


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
        description="Clinical foundation models behind OpenAI's API. The key goes into `Authorization: Bearer`.",
        lifespan=lifespan,
        # A redirect is built from the Host header and, behind TLS, says http: clients would send their key there.
        redirect_slashes=False,
        middleware=[
            Middleware(Spoken, dialects=parts.dialects),
            # Sees every status, also of the next.
            Middleware(Recorded, metrics=parts.metrics, traces=parts.traces, log=parts.log, books=parts.books),
            Middleware(BodyLimit, limit=parts.max_body),
        ],
        exception_handlers={
            ServingError: _answer,
            HTTPException: _answer_http,
            RequestValidationError: _answer_invalid,
        },
    )
    app.state.parts = parts
    for router in (*dialects.routers, administration.router, health.router):
        app.router.routes.extend(router.routes)  # include_router would build all of them anew for each application
    return app


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServingError)
    request.state.record.outcome = error.code
    if isinstance(error, QuotaExceeded):
        request.state.record.rates = error
    return response_of(error, spoken_in(request.scope))


async def _answer_http(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405."""
    assert isinstance(error, HTTPException)
    return await _answer(request, MethodNotAllowed() if error.status_code == 405 else UnknownRoute())


async def _answer_invalid(request: Request, error: Exception) -> Response:
    return await _answer(request, InvalidRequest("The path or query is not valid."))
