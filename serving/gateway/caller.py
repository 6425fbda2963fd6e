"""Who a request is from. A route with `caller: SignedIn` needs a key or a token; one without is public."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Annotated

from fastapi import Depends, Request

from serving.errors import InvalidKey
from serving.gateway.parts import Parts, parts_of
from serving.tenants.callers import Caller
from serving.tenants.key_text import is_key_name, prefix_of
from serving.tenants.keys import is_key_text
from serving.tenants.tokens import looks_like_token


async def identify(request: Request) -> Caller:
    """The caller of the request's credential, allowed from where it comes.

    `api-key` first, then the bearer value, which may be a key: only what is none is taken for a token
    (azure-wire-format, rule 1). Raises InvalidKey, InvalidToken, NoRole, NetworkNotAllowed, TenantDisabled,
    StoreUnavailable, IdentityUnavailable.
    """
    parts, record = parts_of(request), request.state.record
    record.address = client_address(request, parts.proxies) or ""  # also of who is refused
    # Set in this process alone: by a batch's worker, whose lines are from whoever submitted the batch (lines.py), or
    # by once.py, which has to know first.
    known: Caller | None = request.scope["state"].get("caller")
    if known is None:
        caller = await _holder(request, parts)
    else:
        await parts.check_standing(caller := known)
    record.tenant, record.key_id, record.key_name = caller.tenant, caller.key_id, caller.key_name
    record.key_prefix = f"csk_{caller.key_id}" if is_key_name(caller.key_id) else ""
    caller = parts.bounded(caller)  # each time: a tenant's bounds hold for what it submitted, too
    if known is None or request.client is not None:  # who submitted what runs unattended was allowed from there
        caller.check_network(record.address)
    record.passed("identify")
    return replace(caller, address=record.address, request_id=record.request_id)


async def _holder(request: Request, parts: Parts) -> Caller:
    text = request.headers.get("api-key")
    if text:
        request.state.record.key_prefix = prefix_of(text)
        return await parts.keyring.identify(text)
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    text = value.strip() if scheme.lower() == "bearer" else ""
    if not text:
        raise InvalidKey
    request.state.record.key_prefix = prefix_of(text)
    if not is_key_text(text) and looks_like_token(text):
        return await parts.tokens.identify(text)
    return await parts.keyring.identify(text)


def client_address(request: Request, proxies: int) -> str | None:
    """Where the client is, when `proxies` of our own stand before us, each adding its peer to X-Forwarded-For.

    Counted from our end: what a client writes into the header itself stands further left and is not believed. None
    where no address stands: it goes into logs and the audit, where a client's words must not.
    """
    peer = request.client.host if request.client else ""
    chain = [part.strip() for value in request.headers.getlist("x-forwarded-for") for part in value.split(",")]
    chain.append(peer)
    return _address_in(chain[-1 - proxies]) if len(chain) > proxies else None


def _address_in(text: str) -> str | None:
    """An IP address, which some proxies write with its port (Azure's Application Gateway does)."""
    host = text.partition("]")[0].removeprefix("[") if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        return str(ip_address(host.partition("%")[0]))
    except ValueError:
        return None


SignedIn = Annotated[Caller, Depends(identify)]
