"""POST /v1/chat/completions and /v1/completions: the life of a request, top to bottom. Start reading here.

identify → resolve → tidy → reserve → open → forward → settle. The steps have the names of the README's numbered path.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from serving.gateway.body import described_by, read_as
from serving.gateway.books import parameters_of
from serving.gateway.caller import SignedIn
from serving.gateway.parts import Gateway
from serving.gateway.stream import EventStream, settled, started, whole
from serving.protocol.openai import ChatRequest, CompletionRequest
from serving.tenants.callers import Caller

router = APIRouter(tags=["inference"])

ChatBody = Annotated[ChatRequest, Depends(read_as(ChatRequest))]
CompletionBody = Annotated[CompletionRequest, Depends(read_as(CompletionRequest))]


@router.post("/v1/chat/completions", openapi_extra=described_by(ChatRequest))
async def chat(caller: SignedIn, body: ChatBody, gateway: Gateway, request: Request) -> Response:
    """Answer a conversation; with `stream: true` as server-sent events."""
    return await answer(body, caller, gateway, request)


@router.post("/v1/completions", openapi_extra=described_by(CompletionRequest))
async def completions(caller: SignedIn, body: CompletionBody, gateway: Gateway, request: Request) -> Response:
    """Continue a text; with `stream: true` as server-sent events."""
    return await answer(body, caller, gateway, request)


async def answer(body: ChatRequest | CompletionRequest, caller: Caller, gateway: Gateway, request: Request) -> Response:
    """One request: find the deployment, admit it, run it, answer, settle."""
    caller.require("inference")  # 403 RoleMissing
    record = request.state.record
    deployment = gateway.catalog.resolve(body.model, caller)  # 404 UnknownDeployment, 403
    record.about(deployment.name, body.operation, stream=bool(body.stream), revision=deployment.revision)
    gateway.metrics.entered(deployment.name)
    tidied = deployment.tidy(  # 400 ForbiddenField, InvalidRequest
        body, request_id=record.request_id, cache_salt=gateway.cache_salt_of(caller.tenant)
    )
    record.parameters = parameters_of(tidied.body)
    lease = await gateway.admission.reserve(  # 429 with a true Retry-After; 503 when it could not be audited
        caller, deployment.name, request_id=record.request_id, tokens=deployment.tokens_of(tidied)
    )
    settlement = gateway.settlements.open(record, lease, deployment, tidied)
    blocks = deployment.engine.answer(tidied)  # nothing has started yet
    blocks = settled(blocks, settlement, hide_usage=not body.wants_usage)  # pays and records, however it ends
    if not body.stream:
        return await whole(blocks)
    first = await started(blocks)  # 503, 504, while a status can still be sent
    return EventStream(first, blocks, on_error=lambda error: gateway.log.broke(record, error))
