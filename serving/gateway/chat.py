"""Chat, text completions, embeddings: the life of a request, top to bottom. Start reading here.

identify → resolve → tidy → reserve → open → forward → settle. The steps have the names of the README's numbered path.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from serving.engines.engine import BATCH, INTERACTIVE, EngineRequest
from serving.gateway.body import described_by, read_as
from serving.gateway.books import parameters_of
from serving.gateway.caller import SignedIn
from serving.gateway.catalog import Deployment
from serving.gateway.dialects.dialect import spoken_in
from serving.gateway.digests import prompt_bytes
from serving.gateway.form import PLAIN, Form
from serving.gateway.functions import form_of
from serving.gateway.once import OnceRoute
from serving.gateway.parts import Gateway
from serving.gateway.spill import first_that_answers
from serving.gateway.stream import EventStream, settled, started, whole
from serving.gateway.tiers import tier_of
from serving.protocol.openai import ChatRequest, CompletionRequest, EmbeddingsRequest, InferenceRequest
from serving.tenants.callers import Caller

router = APIRouter(tags=["inference"], route_class=OnceRoute)  # a repeat with an Idempotency-Key ends there

ChatBody = Annotated[ChatRequest, Depends(read_as(ChatRequest))]
CompletionBody = Annotated[CompletionRequest, Depends(read_as(CompletionRequest))]
EmbeddingsBody = Annotated[EmbeddingsRequest, Depends(read_as(EmbeddingsRequest))]


@router.post("/v1/chat/completions", openapi_extra=described_by(ChatRequest))
async def chat(caller: SignedIn, body: ChatBody, gateway: Gateway, request: Request) -> Response:
    """Answer a conversation; with `stream: true` as server-sent events."""
    return await answer(body, caller, gateway, request, form=form_of(body))


@router.post("/v1/completions", openapi_extra=described_by(CompletionRequest))
async def completions(caller: SignedIn, body: CompletionBody, gateway: Gateway, request: Request) -> Response:
    """Continue a text; with `stream: true` as server-sent events."""
    return await answer(body, caller, gateway, request)


@router.post("/v1/embeddings", openapi_extra=described_by(EmbeddingsRequest))
async def embeddings(caller: SignedIn, body: EmbeddingsBody, gateway: Gateway, request: Request) -> Response:
    """Turn texts into vectors."""
    return await answer(body, caller, gateway, request)


async def answer(
    body: InferenceRequest, caller: Caller, gateway: Gateway, request: Request, *, form: Form = PLAIN, more: int = 0
) -> Response:
    """One request: find the deployment, have it answered there or where that spills to.

    more: bytes of it that did not come in its body.
    """
    caller.require("inference")  # 403 RoleMissing
    deployment = gateway.catalog.resolve(body.model, caller)  # 404 UnknownDeployment, 403
    size = len(await request.body()) + more
    spill = gateway.catalog.spill_of(deployment, request.headers.get("x-ms-spillover-deployment"), caller)
    return await first_that_answers(
        deployment,
        spill,
        request.state.record,
        gateway.metrics,
        lambda one: _answer(one, body, caller, gateway, request, form, size),
    )


async def _answer(
    deployment: Deployment,
    body: InferenceRequest,
    caller: Caller,
    gateway: Gateway,
    request: Request,
    form: Form,
    size: int,
) -> Response:
    """One request at one deployment: admit it, run it, answer, settle."""
    record, lane = request.state.record, request.scope["state"].get("priority", INTERACTIVE)
    tier = tier_of(body, deployment)
    record.about(
        deployment.name,
        body.operation,
        stream=bool(body.stream),
        revision=deployment.revision,
        adapter=deployment.adapter.name if deployment.adapter else "",
    )

    def tidy() -> tuple[EngineRequest, int, str]:
        tidied = deployment.tidy(
            body,
            request_id=record.request_id,
            cache_salt=gateway.cache_salt_of(caller.tenant),
            priority=lane + tier.priority,
        )
        return tidied, deployment.tokens_of(tidied), gateway.settlements.digest(prompt_bytes(tidied.body))

    tidied, tokens, prompt_digest = await gateway.large_work.run(size, tidy)  # 400 ForbiddenField, InvalidRequest
    record.parameters = parameters_of(tidied.body)
    lease = await gateway.admission.reserve(  # 429 with a true Retry-After; 503 when it could not be audited
        caller,
        deployment.name,
        request_id=record.request_id,
        tokens=tokens,
        batch=lane == BATCH,
    )
    settlement = gateway.settlements.open(record, lease, deployment, tidied, prompt_digest=prompt_digest)
    tidied = replace(tidied, traceparent=record.trace.ask(record))
    blocks = deployment.engine.answer(tidied)  # nothing has started yet
    blocks = settled(blocks, settlement, hide_usage=not body.wants_usage)  # pays and records, however it ends
    blocks = form.of(tier.of(blocks))
    if not body.stream:
        return await whole(blocks)
    first = await started(blocks)  # 503, 504, while a status can still be sent
    return EventStream(
        first,
        blocks,
        dialect=spoken_in(request.scope),
        record=record,
        on_error=lambda error: gateway.log.broke(record, error),
    )
