"""GET /console and what it loads. Read once; the address of a file holds the digest of all, so it may be kept for ever.

Every address in the files is relative, so the console also works below a path of somebody's proxy.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import APIRouter, Request, Response

from serving.errors import UnknownRoute
from serving.gateway.documents import Document

PAGE = "/console"
ASSETS = f"{PAGE}/{{version}}/{{name}}"

_FILES = Path(__file__).parent / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # innerHTML and its like throw: what a model says stays text
        "trusted-types 'none'",
    ]
)
_EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
_OF_THE_PAGE = _EVERYWHERE | {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
_OF_FILES = _EVERYWHERE | {"cache-control": "public, max-age=31536000, immutable"}


def router() -> APIRouter:
    """The routes, public: who may do what is the API's to say."""
    files = {file.name: file.read_bytes() for file in sorted(_FILES.iterdir())}
    digest = hashlib.sha256(b"\0".join(part for item in files.items() for part in (item[0].encode(), item[1])))
    version = digest.hexdigest()[:16]
    index = files.pop("index.html").replace(b"{assets}", f"console/{version}".encode())
    page = Document(index, _OF_THE_PAGE | {"content-type": "text/html; charset=utf-8"})
    assets = {
        name: Document(body, _OF_FILES | {"content-type": _TYPES[Path(name).suffix]}) for name, body in files.items()
    }
    routes = APIRouter(include_in_schema=False)

    @routes.get(PAGE)
    async def console(request: Request) -> Response:
        return page.answer(request.headers)

    @routes.get(f"{PAGE}/")
    async def with_a_slash() -> Response:
        # Relative: an address built from the Host header would be wrong behind TLS.
        return Response(status_code=307, headers={"location": "../console"})

    @routes.get(ASSETS)
    async def asset(request: Request) -> Response:
        """Of this version only: a page never mixes files of two."""
        asked = request.path_params
        if asked["version"] != version or asked["name"] not in assets:
            raise UnknownRoute
        return assets[asked["name"]].answer(request.headers)

    return routes
