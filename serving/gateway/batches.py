"""/v1/batches: submit, list, show, cancel (azure-wire-format, 3.2)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import ConfigDict, Field

from serving.batches.batch import Batch
from serving.batches.batches import WINDOW
from serving.gateway.body import described_by, read_as
from serving.gateway.caller import SignedIn
from serving.gateway.names import PathName
from serving.gateway.once import OnceRoute
from serving.gateway.pages import After, Limit, listed, seconds
from serving.gateway.parts import Gateway
from serving.protocol import bounds
from serving.protocol.body import Metadata, RequestBody
from serving.tenants.paging import PageRequest

router = APIRouter(tags=["batches"], route_class=OnceRoute)

_TIMES = (
    "created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at", "expired_at",
    "cancelling_at", "cancelled_at",
)  # fmt: skip


class ExpiresAfter(RequestBody):
    model_config = ConfigDict(extra="ignore")

    anchor: Literal["created_at"] = "created_at"
    seconds: int = Field(ge=0, le=bounds.TOKENS)


class BatchRequest(RequestBody):
    """What a batch is made from. Other fields are ignored: Azure's documentation puts `anchor` beside the others."""

    model_config = ConfigDict(extra="ignore")

    input_file_id: str = Field(max_length=bounds.ID)
    endpoint: str = Field(max_length=bounds.ID)
    completion_window: str = Field(max_length=bounds.ID)
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


BatchBody = Annotated[BatchRequest, Depends(read_as(BatchRequest))]


@router.post("/v1/batches", openapi_extra=described_by(BatchRequest))
async def create_batch(caller: SignedIn, gateway: Gateway, body: BatchBody) -> dict[str, Any]:
    """Run the requests of a file, when nobody waits for the models."""
    expires = body.output_expires_after
    batch = await gateway.batches.submit(
        caller,
        input_file_id=body.input_file_id,
        endpoint=body.endpoint,
        window=body.completion_window,
        metadata=body.metadata,
        output_keep=expires.seconds if expires else None,
    )
    return shape_of(batch)


@router.get("/v1/batches")
async def list_batches(caller: SignedIn, gateway: Gateway, limit: Limit = 20, after: After = None) -> dict[str, Any]:
    """The tenant's batches, the newest first."""
    return listed(await gateway.batches.page(caller, PageRequest(limit, after)), shape_of)


@router.get("/v1/batches/{batch_id}")
async def show_batch(caller: SignedIn, gateway: Gateway, batch_id: PathName) -> dict[str, Any]:
    """One batch: its state, counts, and files."""
    return shape_of(await gateway.batches.get(caller, batch_id))


@router.post("/v1/batches/{batch_id}/cancel")
async def cancel_batch(caller: SignedIn, gateway: Gateway, batch_id: PathName) -> dict[str, Any]:
    """Stop a batch. What was done is in its output file, the rest in its error file."""
    return shape_of(await gateway.batches.cancel(caller, batch_id))


def shape_of(batch: Batch) -> dict[str, Any]:
    """States in lower case and times as integers: SDK users compare with those."""
    problems = [
        {"code": one.code, "message": one.message, "param": one.param, "line": one.line} for one in batch.errors
    ]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "errors": {"object": "list", "data": problems} if problems else None,
        "input_file_id": batch.input_file_id,
        "completion_window": WINDOW,
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "metadata": dict(batch.metadata) or None,
        "usage": {
            "input_tokens": batch.prompt_tokens,
            "input_tokens_details": {"cached_tokens": batch.cached_tokens},
            "output_tokens": batch.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": batch.prompt_tokens + batch.completion_tokens,
        },
        **{name: seconds(getattr(batch, name)) for name in _TIMES},
    }
