"""Documents that are the same for everybody: made once, then bytes.

Asked by 40 connections at a time, a document that is built for each would hold up everybody else's tokens.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.responses import Response

_WANTS_GZIP = re.compile(r"(?:^|[,\s])(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0{0,3})?\s*(?:,|$))[^,]*)?(?:,|$)", re.IGNORECASE)
_WORTH_GZIP = 1024


class Document:
    """Bytes with their ETag, and the same bytes compressed. headers: of each answer, content-type among them."""

    def __init__(self, body: bytes, headers: Mapping[str, str]) -> None:
        digest = hashlib.sha256(body).hexdigest()[:32]
        common = {"cache-control": "no-cache", **headers, "vary": "accept-encoding"}
        self._plain = body, common | {"etag": f'"{digest}"'}
        self._zipped = self._plain
        if len(body) >= _WORTH_GZIP:
            zipped = gzip.compress(body, 9, mtime=0)
            self._zipped = zipped, common | {"etag": f'"{digest}-gzip"', "content-encoding": "gzip"}

    def answer(self, asked: Headers) -> Response:
        """200 in the encoding that the request takes, or 304 for those who have it. asked: the request's headers."""
        body, headers = self._zipped if _WANTS_GZIP.search(asked.get("accept-encoding", "")) else self._plain
        if _has(asked.get("if-none-match", ""), headers["etag"]):
            return Response(status_code=304, headers=_without_body(headers))
        return Response(body, headers=headers)


class LazyDocument:
    """A document that is made when first asked for, in a thread, once for all who ask meanwhile."""

    def __init__(self, make: Callable[[], Document]) -> None:
        self._make = make
        self._making = asyncio.Lock()
        self._made: Document | None = None

    async def answer(self, asked: Headers) -> Response:
        if self._made is None:
            async with self._making:
                if self._made is None:
                    self._made = await asyncio.to_thread(self._make)
        made: Document = self._made
        return made.answer(asked)


def _has(if_none_match: str, etag: str) -> bool:
    known = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    return etag in known or "*" in known


def _without_body(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in ("content-type", "content-encoding")}
