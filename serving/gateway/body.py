"""From the request's bytes to a checked request. An error names the place, never the value: it may be a patient's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from serving.errors import InvalidRequest
from serving.gateway.dialects.dialect import spoken_in

T = TypeVar("T", bound=BaseModel)


def read_as(model: type[T]) -> Callable[[Request], Awaitable[T]]:
    """A dependency that reads the body as `model`, whatever its content type says: curl's default is a form's.

    Raises InvalidRequest, in a dialect's way ExtraParameter.
    """

    async def read(request: Request) -> T:
        data = await request.body()
        try:
            value = from_json(data, allow_inf_nan=False)
        except ValueError:
            raise InvalidRequest("The request body is not valid JSON.") from None
        if not isinstance(value, dict):
            raise InvalidRequest("The request body must be a JSON object.")
        try:
            checked = model.model_validate(spoken_in(request.scope).read(value, request))
        except ValidationError as error:
            raise _refusal(error) from None
        request.state.record.passed("read")
        return checked

    return read


def _refusal(error: ValidationError) -> InvalidRequest:
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    # Only the first part of the place: below it, keys may be the caller's own (a name in logit_bias, in a schema).
    place = str(problem["loc"][0]) if problem["loc"] else "body"
    if problem["type"] == "missing":
        return InvalidRequest(f"'{place}' is missing.", param=place)
    return InvalidRequest(f"'{place}': {problem['msg'].removeprefix('Value error, ')}.", param=place)


def described_by(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI description of a body that is read by `read_as`."""
    schema = model.model_json_schema()
    schema = _inlined(schema, schema.pop("$defs", {}))
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
