"""What all bodies of requests have in common, whatever route they are for."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.errors import InvalidRequest
from serving.protocol import bounds

Whole = Annotated[int, Field(ge=-bounds.INTEGER - 1, le=bounds.INTEGER)]
"""Engines keep them in 64 bits; JSON's have no end."""
Amount = Annotated[int, Field(ge=1, le=bounds.TOKENS)]
Word = Annotated[str, Field(max_length=bounds.WORD)]
Text = Annotated[str, Field(max_length=bounds.TEXT)]
Metadata = Annotated[
    dict[
        Annotated[str, Field(max_length=bounds.METADATA_NAME)],
        Annotated[str, Field(max_length=bounds.METADATA_VALUE)],
    ],
    Field(max_length=bounds.METADATA),
]


class RequestBody(BaseModel):
    """A body, or an object in one. null is "not given", as SDKs send it, but where null itself says something: a field
    that must be given and may be null. A number is neither a text nor a switch.
    """

    model_config = ConfigDict(hide_input_in_errors=True, allow_inf_nan=False)

    null_is_a_value: ClassVar[bool] = False
    """Of every field that may be null: for changes, where null takes away and what is left out stays."""
    null_counts: ClassVar[frozenset[str]] = frozenset()
    numbers: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        kinds = {name: _kinds_of(field.annotation) for name, field in cls.model_fields.items()}
        cls.null_counts = frozenset(
            name
            for name, field in cls.model_fields.items()
            if NoneType in kinds[name] and (cls.null_is_a_value or field.is_required())
        )
        cls.numbers = frozenset(
            name for name, of in kinds.items() if of & {int, float} and not of - {int, float, NoneType}
        )

    @model_validator(mode="before")
    @classmethod
    def _as_given(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        given = {name: value for name, value in body.items() if value is not None or name in cls.null_counts}
        for name in cls.numbers & given.keys():
            if isinstance(given[name], bool | str):
                raise InvalidRequest(f"'{name}': must be a number.", param=name)
        return given


def _kinds_of(annotation: Any) -> frozenset[Any]:
    """The types that a value may have, without what is said about them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds_of(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return frozenset().union(*map(_kinds_of, get_args(annotation)))
    return frozenset({origin or annotation})


def refusal_of(error: ValidationError) -> InvalidRequest:
    """What is wrong with a body, and where; never the value: it may be a patient's."""
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    # Only the first part of the place: below it, keys may be the caller's own (a name in logit_bias, in a schema).
    place = str(problem["loc"][0]) if problem["loc"] else "body"
    if problem["type"] == "missing":
        return InvalidRequest(f"'{place}' is missing.", param=place)
    return InvalidRequest(f"'{place}': {problem['msg'].removeprefix('Value error, ')}.", param=place)
