"""/v1/files: upload, list, download, delete (azure-wire-format, 3.1)."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.types import Receive, Scope, Send

from serving.batches.contents import Chunks
from serving.batches.file import File
from serving.errors import InvalidRequest
from serving.gateway.caller import SignedIn
from serving.gateway.multipart import Upload
from serving.gateway.names import PathName
from serving.gateway.pages import After, Limit, listed, seconds
from serving.gateway.parts import Gateway
from serving.tenants.paging import PageRequest

router = APIRouter(tags=["files"])

_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": ["batch"]},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2592000},
                    },
                }
            }
        },
    }
}


@router.post("/v1/files", openapi_extra=_UPLOAD)
async def upload(caller: SignedIn, gateway: Gateway, request: Request) -> dict[str, Any]:
    """Keep a JSON Lines file as a batch's input."""
    sent = Upload(request.headers.get("content-type", ""), request.stream())
    draft = await gateway.files.receive(caller, sent.file())
    fields = sent.fields
    try:
        keep = _keep(fields)
    except InvalidRequest:
        await gateway.files.discard(draft)
        raise
    file = await gateway.files.keep(caller, draft, name=sent.name, purpose=fields.get("purpose"), seconds=keep)
    return shape_of(file)


@router.get("/v1/files")
async def list_files(
    caller: SignedIn,
    gateway: Gateway,
    limit: Limit = 1000,
    after: After = None,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str | None, Query(max_length=100, pattern="^[a-z_-]*$")] = None,
) -> dict[str, Any]:
    """The tenant's files, the newest first."""
    page = await gateway.files.page(caller, PageRequest(limit, after), purpose=purpose, oldest_first=order == "asc")
    return listed(page, shape_of)


@router.get("/v1/files/{file_id}")
async def show_file(caller: SignedIn, gateway: Gateway, file_id: PathName) -> dict[str, Any]:
    """One file, without its bytes."""
    return shape_of(await gateway.files.get(caller, file_id))


@router.get("/v1/files/{file_id}/content", response_class=Response)
async def download(caller: SignedIn, gateway: Gateway, file_id: PathName) -> Response:
    """The file's bytes."""
    file, chunks = await gateway.files.open(caller, file_id)
    first = await anext(chunks, b"")  # what cannot be read is an error while there can be one
    return Download(first, chunks, size=file.bytes)


@router.delete("/v1/files/{file_id}")
async def delete_file(caller: SignedIn, gateway: Gateway, file_id: PathName) -> dict[str, Any]:
    """Delete a file. Not while a batch reads it."""
    await gateway.files.delete(caller, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


class Download(Response):
    """Bytes in pieces. One that cannot be read in the middle drops the connection: the length was announced."""

    media_type = "application/octet-stream"

    def __init__(self, first: bytes, rest: Chunks, *, size: int) -> None:
        super().__init__(headers={"content-length": str(size), "cache-control": "no-store"})
        self._first = first
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._rest) as rest:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            async for chunk in rest:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def shape_of(file: File) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": seconds(file.created_at),
        "expires_at": seconds(file.expires_at),
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def _keep(fields: dict[str, str]) -> int | None:
    """Both spellings: the SDKs write expires_after[seconds], Azure's documentation expires_after.seconds."""
    if fields.get("expires_after[anchor]", fields.get("expires_after.anchor")) not in (None, "created_at"):
        raise InvalidRequest("expires_after.anchor must be created_at.", param="expires_after")
    text = fields.get("expires_after[seconds]", fields.get("expires_after.seconds"))
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise InvalidRequest("expires_after.seconds must be a number of seconds.", param="expires_after")
    return int(text)
