"""Who a request is from. A route with `caller: SignedIn` in its signature needs a key; one without it is public."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from serving.errors import InvalidKey
from serving.gateway.parts import parts_of
from serving.tenants.keys import Caller


async def identify(request: Request) -> Caller:
    """The caller of the request's key: `api-key` first, then a bearer token (azure-wire-format, rule 1).

    Raises InvalidKey, StoreUnavailable.
    """
    text = request.headers.get("api-key")
    if not text:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        text = value.strip() if scheme.lower() == "bearer" else ""
    if not text:
        raise InvalidKey
    caller = await parts_of(request).keyring.identify(text)
    record = request.state.record
    record.tenant, record.key_id = caller.tenant, caller.key_id
    return caller


SignedIn = Annotated[Caller, Depends(identify)]
