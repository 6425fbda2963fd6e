"""From the request's bytes to a checked request. An error names the place, never the value: it may be a patient's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from serving.gateway.dialects.dialect import spoken_in
from serving.gateway.parts import parts_of
from serving.protocol import bounds
from serving.protocol.body import RequestBody, refusal_of
from serving.protocol.json_text import read_object

T = TypeVar("T", bound=RequestBody)


def read_as(model: type[T]) -> Callable[[Request], Awaitable[T]]:
    """A dependency that reads the body as `model`, whatever its content type says: curl's default is a form's.

    Raises InvalidRequest, in a dialect's way ExtraParameter; TooManyRequests.
    """

    async def read(request: Request) -> T:
        data = await request.body()
        checked = await parts_of(request).large_work.run(len(data), lambda: _checked(model, data, request))
        request.state.record.passed("read")
        return checked

    return read


def _checked(model: type[T], data: bytes, request: Request) -> T:
    value = read_object(data, known=model.model_fields.keys())
    try:
        return model.model_validate(spoken_in(request.scope).read(value, request))
    except ValidationError as error:
        raise refusal_of(error) from None


def described_by(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI description of a body that is read by `read_as`."""
    schema = model.model_json_schema()
    schema = _inlined(schema, schema.pop("$defs", {})) | {"maxProperties": bounds.FIELDS}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with its definitions in place of the links: a link's address would be the whole document's."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(value, definitions) for name, value in schema.items()}
