"""What the routes work with, handed over once by the assembly (serving/app.py)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp

from serving.batches.batches import Batches
from serving.batches.files import Files
from serving.gateway.answers import Answers
from serving.gateway.books import Books
from serving.gateway.catalog import Catalog
from serving.gateway.dialects import Dialect
from serving.gateway.fleet import Fleet
from serving.gateway.large_work import LargeWork
from serving.gateway.settlement import Settlements
from serving.responses.background import Background
from serving.responses.responses import Responses
from serving.telemetry.logs import RequestLog
from serving.telemetry.metrics import Metrics
from serving.telemetry.traces import Traces
from serving.tenants.administration import Administration
from serving.tenants.admission import Admission
from serving.tenants.callers import Caller
from serving.tenants.keys import Keyring
from serving.tenants.limits import Limits, Subject


class Tokens(Protocol):
    """Bearer tokens of identity providers (tenants/tokens.py)."""

    async def identify(self, text: str) -> Caller: ...


class Running(Protocol):
    """What runs beside the requests: writers, refreshers, settlers."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """check_standing: raises for a caller whose key was revoked after it had submitted what now runs. bounded: the
    caller with no more than its tenant may; raises for one that is disabled or unknown. cache_salt_of: tenant to
    KV-cache namespace. cross_origin: what answers browsers' pages of other origins. metrics_interval: seconds between
    scrapes that are worked out. max_body: bytes. body_timeout: seconds.
    proxies: how many between the client and this process. worker_on: the batch worker, once there is an application to
    run lines through. unattended: responses that nobody waits for. pages: for people, such as the console. background:
    started in this order, closed in the other.
    """

    dialects: tuple[Dialect, ...]
    catalog: Catalog
    fleet: Fleet
    keyring: Keyring
    check_standing: Callable[[Caller], Awaitable[None]]
    tokens: Tokens
    bounded: Callable[[Caller], Caller]
    limits_of: Callable[[Subject], Limits]
    large_work: LargeWork
    admission: Admission
    settlements: Settlements
    books: Books
    answers: Answers
    administration: Administration
    files: Files
    batches: Batches
    responses: Responses
    unattended: Background
    pages: APIRouter
    worker_on: Callable[[ASGIApp], Running]
    metrics: Metrics
    traces: Traces
    log: RequestLog
    cache_salt_of: Callable[[str], str]
    cross_origin: tuple[Middleware, ...]
    metrics_interval: float
    max_body: int
    body_timeout: float
    proxies: int
    background: tuple[Running, ...]


def parts_of(connection: HTTPConnection) -> Parts:
    parts: Parts = connection.app.state.parts
    return parts


Gateway = Annotated[Parts, Depends(parts_of)]
