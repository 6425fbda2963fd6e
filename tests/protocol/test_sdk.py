"""Each parameter of the pinned SDK is taken, translated, ignored or refused on purpose: a new one fails here first."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import ChatCompletionMessageParam
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params

from serving.protocol import messages, openai
from serving.protocol.responses import request as responses

CHAT_LISTS = (openai.FORBIDDEN, openai.REFUSED, openai.IGNORED)
OPERATIONS: list[tuple[type[Any], type[Any], tuple[Any, ...]]] = [
    (chat_create_params.CompletionCreateParamsBase, openai.ChatRequest, CHAT_LISTS),
    (completion_create_params.CompletionCreateParamsBase, openai.CompletionRequest, CHAT_LISTS),
    (embedding_create_params.EmbeddingCreateParams, openai.EmbeddingsRequest, CHAT_LISTS),
    (
        response_create_params.ResponseCreateParamsBase,
        responses.ResponsesRequest,
        (responses.FORBIDDEN, responses.IGNORED),
    ),
]


@pytest.mark.parametrize(("parameters", "model", "lists"), OPERATIONS)
def test_every_parameter_of_the_sdk_is_decided(parameters: type[Any], model: Any, lists: tuple[Any, ...]) -> None:
    decided = set(model.model_fields).union(*lists)
    assert set(parameters.__annotations__) - decided == set()


@pytest.mark.parametrize("lists", [CHAT_LISTS, (responses.FORBIDDEN, responses.IGNORED)])
def test_nothing_is_decided_twice(lists: tuple[Any, ...]) -> None:
    names = [name for one in lists for name in one]
    assert len(names) == len(set(names))


def test_the_roles_are_the_sdks() -> None:
    roles = {role for kind in get_args(ChatCompletionMessageParam) for role in _roles_of(kind)}
    assert roles == set(messages.ROLES)


def _roles_of(kind: Any) -> tuple[str, ...]:
    annotation = kind.__annotations__["role"]
    text = annotation.__forward_arg__ if hasattr(annotation, "__forward_arg__") else str(annotation)
    return tuple(role for role in messages.ROLES if f'"{role}"' in text or f"'{role}'" in text) or (text,)
