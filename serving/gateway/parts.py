"""What the routes work with, handed over once by the assembly (serving/app.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from serving.gateway.catalog import Catalog
from serving.telemetry.logs import RequestLog
from serving.telemetry.metrics import Metrics
from serving.tenants.keys import Keyring
from serving.tenants.quotas import Quotas


@dataclass(frozen=True, slots=True)
class Parts:
    """cache_salt_of: tenant to KV-cache namespace. max_body: bytes."""

    catalog: Catalog
    keyring: Keyring
    quotas: Quotas
    metrics: Metrics
    log: RequestLog
    cache_salt_of: Callable[[str], str]
    max_body: int


def parts_of(connection: HTTPConnection) -> Parts:
    parts: Parts = connection.app.state.parts
    return parts


Gateway = Annotated[Parts, Depends(parts_of)]
