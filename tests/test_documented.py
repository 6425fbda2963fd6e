"""What explains itself in the code: settings by their descriptions, errors by the tree in serving/errors.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from serving import app as _app  # noqa: F401  # so that all error classes exist
from serving import errors
from serving.errors import ServingError
from serving.settings import Settings


def sections(section: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The section and those below it, through lists and unions."""
    yield section
    for field in section.model_fields.values():
        for inner in models_in(field.annotation):
            yield from sections(inner)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in getattr(annotation, "__args__", ()) for found in models_in(argument)]


SECTIONS = list(dict.fromkeys(sections(Settings)))


def test_all_sections_are_looked_at() -> None:
    assert {"Server", "Limits", "VllmEngine", "EchoFailure", "HttpEngine", "PiiGuard"} <= {
        section.__name__ for section in SECTIONS
    }


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_setting_says_what_it_is_for(section: type[BaseModel]) -> None:
    silent = [
        name
        for name, field in section.model_fields.items()
        if not field.description and not models_in(field.annotation) and name != "kind"
    ]
    assert silent == [] and section.__doc__


def kinds(kind: type[ServingError]) -> Iterator[type[ServingError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from kinds(child)


# Subclasses in tests are not ours to document.
ERRORS = [kind for kind in dict.fromkeys(kinds(ServingError)) if kind.__module__.startswith("serving.")]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in ERRORS if "code" in vars(kind)]  # others are told apart by their message alone
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes if code != "quotaExceeded")  # Azure's


def test_every_error_has_a_status_that_fits_its_kind() -> None:
    assert all((kind.kind == "server_error") == (kind.status >= 500) for kind in ERRORS)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_stands_in_the_drawn_tree_below_its_parent_and_with_its_status(kind: type[ServingError]) -> None:
    drawn = dict(drawn_tree())
    parent, status = drawn[kind.__name__]
    assert kind is ServingError or parent == kind.__bases__[0].__name__
    assert status in (str(kind.status), "5xx", "")


def drawn_tree() -> Iterator[tuple[str, tuple[str, str]]]:
    """Name, parent and status of each line of the tree in the docstring."""
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([ │├└─]{4,})(\w+) ?(\d\d\d|5xx)?(?= |$)", line)
        if match and (depth := len(match[1])) % 4 == 0 and match[2][0].isupper():
            above[depth] = match[2]
            yield match[2], (above.get(depth - 4, ""), match[3] or "")
