"""What lets pages of other origins call the API from a browser: Starlette's CORS middleware, for configured origins."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

_TOLD = (
    "x-request-id", "apim-request-id", "x-ms-region", "x-ms-deployment-name", "retry-after", "retry-after-ms",
    "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", "idempotency-replayed",
)  # fmt: skip
"""Headers that a page may read."""


def cross_origin(origins: Sequence[str]) -> tuple[Middleware, ...]:
    """None without origins. Never with credentials: only the console has a cookie, and it is its own origin.

    Headers: any, for SDKs send dozens (`x-stainless-...`); what they may do is decided when the request itself comes.
    """
    if not origins:
        return ()
    methods = ("GET", "HEAD", "POST", "DELETE")
    return (
        Middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=methods, allow_headers=("*",), expose_headers=_TOLD
        ),
    )
