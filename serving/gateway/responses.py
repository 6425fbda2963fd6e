"""/v1/responses: a translation around the request path of chat.py; what the tenant's policy allows is kept.

check → keep? → go on from → translate → answer (chat.py) → keep
"""

from __future__ import annotations

import functools
import json
import time
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from serving.engines.engine import BATCH, INTERACTIVE
from serving.errors import InvalidRequest
from serving.gateway.body import described_by, read_as
from serving.gateway.caller import SignedIn
from serving.gateway.chat import answer
from serving.gateway.dialects.dialect import spoken_in
from serving.gateway.lines import AppLines
from serving.gateway.names import PathName
from serving.gateway.once import OnceRoute
from serving.gateway.pages import After, listed
from serving.gateway.parts import Gateway, Parts
from serving.gateway.telling import AsResponse, keep_nothing
from serving.protocol import sse
from serving.protocol.openai import ChatRequest
from serving.protocol.responses.answer import head_of, problem_of
from serving.protocol.responses.items import Items, items_of
from serving.protocol.responses.request import ResponsesRequest, chat_of, name_own_fields
from serving.responses.background import Outcome
from serving.responses.responses import new_id, with_ids
from serving.tenants.callers import Caller
from serving.tenants.paging import Page, bad_cursor

_KEPT = 2**20
"""Bytes that kept items count for: what they are is known when they have been read."""

router = APIRouter(tags=["responses"], route_class=OnceRoute)

ResponsesBody = Annotated[ResponsesRequest, Depends(read_as(ResponsesRequest))]


@router.post("/v1/responses", openapi_extra=described_by(ResponsesRequest))
async def create(caller: SignedIn, body: ResponsesBody, gateway: Gateway, request: Request) -> Response:
    """Answer an input; with `stream: true` as server-sent events, with `background: true` later."""
    caller.require("inference")
    body.check()
    in_batch = request.scope["state"].get("priority") == BATCH
    asked = False if in_batch and body.store is None else body.store  # its answers are in its output file
    kept = gateway.responses.keeping(caller, asked, background=bool(body.background))
    given = items_of(body.input)
    own = await gateway.responses.with_references(caller, given)
    before = await gateway.responses.before(caller, body.previous_response_id)
    more = _KEPT if before or own is not given else 0
    size = len(await request.body()) + more
    chat = await gateway.large_work.run(size, lambda: chat_of(body, before, own))
    head = head_of(body, new_id(), int(time.time()), stored=kept)
    named = with_ids(own, head["id"])
    keep = functools.partial(gateway.responses.kept, caller, items=named) if kept else keep_nothing
    form = AsResponse(
        head,
        logprobs=body.logprobs,
        stream=bool(body.stream),
        dialect=spoken_in(request.scope),
        record=request.state.record,
        keep=keep,
    )
    try:
        if body.background:
            return await _begin(chat, head, named, form, caller, gateway, request)
        return await answer(chat, caller, gateway, request, form=form, more=more)
    except InvalidRequest as error:
        name_own_fields(error)
        raise


@router.get("/v1/responses/{response_id}")
async def show(caller: SignedIn, gateway: Gateway, response_id: PathName, stream: bool = False) -> dict[str, Any]:
    """A response that is kept; of one in the background, how far it is."""
    if stream:
        raise InvalidRequest("A response that is kept cannot be streamed: leave out 'stream'.", param="stream")
    return await gateway.responses.get(caller, response_id)


@router.delete("/v1/responses/{response_id}")
async def delete(caller: SignedIn, gateway: Gateway, response_id: PathName) -> dict[str, Any]:
    """Delete a response; one in the background is stopped."""
    await gateway.responses.delete(caller, response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.post("/v1/responses/{response_id}/cancel")
async def cancel(caller: SignedIn, gateway: Gateway, response_id: PathName) -> dict[str, Any]:
    """Stop a response in the background. One that has ended stays as it is."""
    return await gateway.responses.cancel(caller, response_id)


@router.get("/v1/responses/{response_id}/input_items")
async def list_input_items(
    caller: SignedIn,
    gateway: Gateway,
    response_id: PathName,
    limit: Annotated[int, Query(ge=1, le=100, description="At most so many.")] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: After = None,
) -> dict[str, Any]:
    """What a response was made from: the conversation before it, and its own input."""
    items = await gateway.responses.input_of(caller, response_id)
    if order == "desc":
        items.reverse()
    start = 0
    if after is not None:
        start = next((place for place, item in enumerate(items, 1) if item["id"] == after), 0)
        if not start:
            raise bad_cursor()
    page = items[start : start + limit]
    return listed(Page(tuple(page), page[-1]["id"] if start + limit < len(items) else None), lambda item: item)


async def _begin(
    chat: ChatRequest,
    head: dict[str, Any],
    own: Items,
    form: AsResponse,
    caller: Caller,
    gateway: Parts,
    request: Request,
) -> Response:
    """Keep the response as it is to be, and work on it when the client has gone."""
    if chat.stream:
        raise InvalidRequest("A response in the background cannot be streamed: ask for it by its id.", param="stream")
    if request.scope["state"].get("priority") == BATCH:
        raise InvalidRequest("A batch's answers are not made in the background.", param="background")
    gateway.catalog.resolve(chat.model, caller)  # 404 UnknownDeployment, 403
    lines = AppLines(request.app, priority=INTERACTIVE)
    owner = replace(caller, networks=None)  # it was allowed from where it came
    path, body = "/v1/chat/completions", chat.model_dump_json(exclude_unset=True).encode()

    async def work() -> Outcome:
        done = await lines.run(owner, path, body)
        if done.status == 200:
            response = form.response_of(done.body)
        else:
            message = json.loads(done.body)["error"]["message"]
            response = head | {"status": "failed", "error": problem_of(done.status, message)}
        try:
            return response["status"], gateway.responses.sealed(owner.tenant, response, own)
        except InvalidRequest as error:  # it is too large
            response = head | {"status": "failed", "error": problem_of(error.status, error.message)}
            return "failed", gateway.responses.sealed(owner.tenant, response, own)

    queued = head | {"status": "queued"}
    with gateway.unattended.entering():  # 429
        await gateway.responses.add(caller, queued, own, held_until=gateway.unattended.held_until())
        gateway.unattended.begin(head["id"], work)
    return Response(sse.written(queued), media_type="application/json")
