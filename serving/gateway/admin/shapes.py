"""What the bodies of /admin/v1 share: closed requests, lists, and how its failures look in the reference."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from serving.errors import ServingError
from serving.protocol import bounds
from serving.protocol.body import RequestBody
from serving.tenants.callers import Network
from serving.tenants.paging import Page

Item = TypeVar("Item", bound=BaseModel)
Kept = TypeVar("Kept")


class Closed(RequestBody):
    """A request body that takes no other names than its own."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known_names(cls, body: dict[str, Any]) -> dict[str, Any]:
        if not cls.model_fields.keys() >= body.keys():  # said here: pydantic would repeat the name
            raise ValueError(f"has an unknown field; there are {', '.join(cls.model_fields)}")
        return body


Names = Annotated[
    list[Annotated[str, Field(max_length=bounds.ADMIN_NAME)]], Field(min_length=1, max_length=bounds.ADMIN_LIST)
]


def _networks(networks: list[str] | None) -> list[str] | None:
    for network in networks or ():
        try:
            ip_network(network)
        except ValueError:  # its words would repeat the value
            raise ValueError("write networks such as 10.20.0.0/16, without bits after the prefix") from None
    return networks


Networks = Annotated[Names | None, AfterValidator(_networks)]


def parsed_networks(networks: list[str] | None) -> tuple[Network, ...] | None:
    return None if networks is None else tuple(ip_network(network) for network in networks)


class Listing(BaseModel, Generic[Item]):
    """A page of a list. With `has_more`, ask again with `after` = `last_id`."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    first_id: str | None
    last_id: str | None

    @classmethod
    def of(cls, page: Page[Kept], shown: Callable[[Kept], Item], id_of: Callable[[Item], str]) -> Self:
        data = [shown(kept) for kept in page.items]
        return cls(
            data=data,
            has_more=page.after is not None,
            first_id=id_of(data[0]) if data else None,
            last_id=id_of(data[-1]) if data else None,
        )


class Problem(BaseModel):
    message: str = Field(description="For people: what is wrong and what to do.")
    type: str
    param: str | None = Field(description="The field or parameter that is wrong.")
    code: str = Field(description="For programs.")


class Failure(BaseModel):
    """Every failure, in OpenAI's shape."""

    error: Problem


def refusals(*errors: type[ServingError]) -> dict[int | str, dict[str, Any]]:
    """These errors in the reference, by status."""
    described: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        there = described.setdefault(error.status, {"model": Failure, "description": ""})
        there["description"] = " ".join(
            filter(None, [there["description"], f"`{error.code}`: {error.default_message}"])
        )
    return described
