"""The routes of /admin/v1, put together."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Security
from fastapi.security import HTTPBearer

from serving.errors import BodyTooLarge, InvalidKey, InvalidRequest, NotAllowed, ServingError
from serving.gateway.admin import audit, keys, limits, me, status, tenants, usage
from serving.gateway.admin.queries import only_known_names
from serving.gateway.admin.shapes import refusals
from serving.tenants.stores import StoreUnavailable

_BEARER = HTTPBearer(
    scheme_name="key", auto_error=False, description="The key of an administrator. Signing in is caller.py's."
)

router = APIRouter(
    prefix="/admin/v1",
    dependencies=[Security(_BEARER), Depends(only_known_names)],
    responses=refusals(InvalidRequest, InvalidKey, NotAllowed, BodyTooLarge, StoreUnavailable, ServingError),
)
for noun in (me, status, tenants, keys, limits, usage, audit):
    router.include_router(noun.router)
