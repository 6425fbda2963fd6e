"""What a tenant may do with responses: keep them, if its policy allows, read them, go on from them, delete them."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from serving.errors import InvalidRequest, ServingError
from serving.protocol import bounds, sse
from serving.protocol.responses.answer import id_of, response_of
from serving.protocol.responses.items import Items, kind_of
from serving.responses.response import (
    ANSWERED,
    OPEN,
    KeepingNotAllowed,
    Kept,
    NotInBackground,
    ResponseStore,
    UnknownPrevious,
    UnknownResponse,
)
from serving.sealing import Sealing, Unsealable
from serving.tenants.callers import Caller
from serving.tenants.trail import Entry, Trail

Answer = dict[str, Any]
"""A response object."""
_LOST = {"code": "server_error", "message": "The server that worked on this response was stopped. Create it again."}
_FORGOTTEN = timedelta(minutes=1)
"""Before a response of a tenant that keeps none is deleted: another gateway may know of a new policy first."""
_ID = re.compile(r"resp_[0-9a-f]{48}")
_PREFIXES = {"function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """The fields are those of settings.Responses."""

    max_size: int
    max_stored: int
    max_chain: int
    max_history: int


class Responses:
    """keeps: seconds for which tenants' responses are kept, of those that keep any. check_room: see room.py."""

    def __init__(
        self,
        store: ResponseStore,
        sealing: Sealing,
        trail: Trail,
        bounds: Bounds,
        *,
        keeps: Callable[[], Mapping[str, int]],
        now: Callable[[], datetime],
        check_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._check_room = check_room
        self._store = store
        self._sealing = sealing
        self._trail = trail
        self._bounds = bounds
        self._keeps = keeps
        self._now = now

    def keeping(self, caller: Caller, asked: bool | None, *, background: bool) -> bool:
        """Is a new response kept? asked: for or against it, or None. Raises KeepingNotAllowed, InvalidRequest, and what
        check_room raises.
        """
        allowed = caller.tenant in self._keeps()
        if not allowed and (asked or background):
            raise KeepingNotAllowed(param="store" if asked else "background")
        if background and asked is False:
            raise InvalidRequest("A background response is kept: 'store' cannot be false.", param="store")
        if not allowed or asked is False:
            return False
        try:
            self._check_room()
        except ServingError:
            if asked or background:
                raise
            return False  # nobody has asked for it
        return True

    async def add(self, caller: Caller, answer: Answer, items: Items, *, held_until: datetime | None = None) -> None:
        """Keep a response. items: its own input. Raises TooManyResponses, InvalidRequest for one that is too large."""
        created = datetime.fromtimestamp(answer["created_at"], UTC)
        kept = Kept(
            id=answer["id"],
            tenant=caller.tenant,
            previous=answer["previous_response_id"],
            status=answer["status"],
            background=answer["background"],
            created_at=created,
            expires_at=created + timedelta(seconds=self._keeps().get(caller.tenant, 0)),
            content=await asyncio.to_thread(self.sealed, caller.tenant, answer, items),
            held_until=held_until,
        )
        with self._trail.change(caller, "response.store", kept.id, {"bytes": len(kept.content)}):
            await asyncio.to_thread(self._store.add, kept, most=self._bounds.max_stored)

    async def kept(self, caller: Caller, answer: Answer, items: Items) -> bool:
        """Keep an answer that has been paid for, if that can be. It goes out in any case, and says which."""
        try:
            await self.add(caller, answer, items)
        except ServingError:
            return False
        return True

    def sealed(self, tenant: str, answer: Answer, items: Items) -> bytes:
        """Raises InvalidRequest for what is too large."""
        content = sse.written({"answer": answer, "input": items})
        if len(content) > self._bounds.max_size:
            raise InvalidRequest(f"A response of more than {self._bounds.max_size} bytes is not kept.", param="store")
        return self._sealing.seal(content, tenant=tenant, place=f"response/{answer['id']}")

    async def get(self, caller: Caller, id: str) -> Answer:
        """Raises UnknownResponse."""
        with self._reading(caller, id):
            return self._opened(await self._row(caller, id))[0]

    async def input_of(self, caller: Caller, id: str) -> Items:
        """What it was made from, the oldest first: the conversation before, as far as it is still there, and its own
        input. Raises UnknownResponse.
        """
        with self._reading(caller, id):
            row = await self._row(caller, id)
            try:
                before = await self._conversation(caller, row.previous)
            except UnknownPrevious:
                before = []
            return before + self._opened(row)[1]

    async def before(self, caller: Caller, previous: str | None) -> Items:
        """The items of the conversation up to a response, and its output.

        Raises UnknownPrevious, also when one further back is gone: a model that does not know what was said would
        answer something else. InvalidRequest when it is too long, or has not ended.
        """
        if previous is None:
            return []
        with self._reading(caller, previous):
            return await self._conversation(caller, previous)

    async def with_references(self, caller: Caller, items: Items) -> Items:
        """The items, with those that are only named in their places: the same list if there are none.

        Counted before any is read; each response that they are of is read once. Raises InvalidRequest.
        """
        named = {at: str(item.get("id")) for at, item in enumerate(items) if kind_of(item) == "item_reference"}
        if not named:
            return items
        responses = dict.fromkeys(response_of(id) for id in named.values())
        if len(named) > bounds.REFERENCES or len(responses) > bounds.REFERRED:
            raise InvalidRequest(
                f"'input' refers to too much: at most {bounds.REFERENCES} items of {bounds.REFERRED} responses.",
                param="input",
            )
        known, found = await self._items_of(caller, responses), list(items)
        for at, id in named.items():
            if id not in known:
                raise InvalidRequest(
                    f"input[{at}] refers to an item that is not kept. Send the item itself, as SDKs do with "
                    "'store: false', or have this tenant's responses kept (keep_responses).",
                    param=f"input[{at}]",
                )
            found[at] = known[id]
        return found

    async def delete(self, caller: Caller, id: str) -> None:
        """Raises UnknownResponse."""
        caller.require("inference")
        with self._trail.change(caller, "response.delete", _known(id)):
            await self._row(caller, id)
            await asyncio.to_thread(self._store.remove, caller.tenant, id)

    async def cancel(self, caller: Caller, id: str) -> Answer:
        """Its process stops it within a second or so. One that has ended stays as it is.

        Raises UnknownResponse, NotInBackground.
        """
        caller.require("inference")
        with self._trail.change(caller, "response.cancel", _known(id)):
            if not (await self._row(caller, id)).background:
                raise NotInBackground
            await asyncio.to_thread(self._store.end, id, "cancelled")
            return self._opened(await self._row(caller, id))[0]

    async def sweep(self) -> int:
        """Delete what is over, and fail what nobody works on; how many were deleted."""
        now = self._now()
        oldest = {tenant: now - timedelta(seconds=keep) for tenant, keep in self._keeps().items()}
        await asyncio.to_thread(self._store.fail_lost, now)
        return await asyncio.to_thread(self._store.sweep, now, oldest, others=now - _FORGOTTEN)

    def _reading(self, caller: Caller, id: str) -> AbstractContextManager[Entry]:
        caller.require("inference")
        return self._trail.change(caller, "response.read", _known(id))

    async def _row(self, caller: Caller, id: str) -> Kept:
        row = await asyncio.to_thread(self._store.get, caller.tenant, id) if _known(id) else None
        if row is None or self._is_over(row):
            raise UnknownResponse
        if row.status in OPEN and row.held_until is not None and row.held_until < self._now():
            # Written before it is told, so that what was said to have failed does not complete after all.
            await asyncio.to_thread(self._store.end, id, "failed")
            return await self._row(caller, id)
        return row

    def _is_over(self, row: Kept) -> bool:
        """By its own time, or by its tenant's policy as it now is."""
        now, keep = self._now(), self._keeps().get(row.tenant)
        return keep is None or now >= min(row.expires_at, row.created_at + timedelta(seconds=keep))

    def _opened(self, row: Kept) -> tuple[Answer, Items]:
        """The response as it now is, and its input. Raises UnknownResponse for what cannot be opened any more."""
        try:
            content = json.loads(self._sealing.open(row.content, tenant=row.tenant, place=f"response/{row.id}"))
        except Unsealable:
            raise UnknownResponse from None
        answer: Answer = content["answer"]
        if row.status == "failed" and answer["status"] != "failed":
            answer["error"] = _LOST
        return answer | {"status": row.status}, content["input"]

    async def _conversation(self, caller: Caller, id: str | None) -> Items:
        items: Items = []
        size = links = 0
        while id is not None:
            try:
                row = await self._row(caller, id)
                answer, own = await asyncio.to_thread(self._opened, row)
            except UnknownResponse:
                raise UnknownPrevious(param="previous_response_id") from None
            if answer["status"] not in ANSWERED:
                raise InvalidRequest(
                    f"The previous response is {answer['status']}: it has no answer to go on from.",
                    param="previous_response_id",
                )
            size, links = size + len(row.content), links + 1
            if links > self._bounds.max_chain or size > self._bounds.max_history:
                raise InvalidRequest(
                    f"The conversation is too long: at most {self._bounds.max_chain} responses and "
                    f"{self._bounds.max_history} bytes can go before one. Send what matters in 'input' instead.",
                    param="previous_response_id",
                )
            items = own + answer["output"] + items
            id = row.previous
        return items

    async def _items_of(self, caller: Caller, responses: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The items of those of the responses that are kept, by their ids."""
        found: dict[str, dict[str, Any]] = {}
        size = 0
        for id in responses:
            try:
                with self._reading(caller, id):
                    row = await self._row(caller, id)
                    answer, own = await asyncio.to_thread(self._opened, row)
            except UnknownResponse:
                continue
            size += len(row.content)
            if size > self._bounds.max_history:
                raise InvalidRequest(
                    f"'input' refers to too much: responses of at most {self._bounds.max_history} bytes.", param="input"
                )
            found |= {item["id"]: item for item in (*own, *answer["output"])}
        return found


def new_id() -> str:
    return f"resp_{secrets.token_hex(24)}"


def _known(id: str) -> str:
    """The id, if it can be one of ours: any other text is not looked up, and not written down."""
    return id if _ID.fullmatch(id) else ""


def with_ids(items: Items, response_id: str) -> Items:
    """A response's own input, as it is kept: each with its type, and an id of ours."""
    named = []
    for position, item in enumerate(items):
        kind = str(kind_of(item))
        own = id_of(_PREFIXES.get(kind, "msg"), response_id, f"i{position}")
        named.append(item | {"id": own, "type": kind})
    return named
