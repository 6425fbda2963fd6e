"""What goes wrong for users of the `openai` package for Python, and how each client tells them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import openai

from tests.e2e.conformance.openai_clients import Make, plain
from tests.e2e.conformance.scenarios import (
    ASK,
    DIE,
    LASTING,
    LONG,
    REFUSE,
    SITE,
    STALL,
    TOO_LARGE,
    TOO_LONG,
    raised,
)


def errors(make: Make) -> None:
    client = make(max_retries=0)
    ask = client.chat.completions.create
    cases: list[tuple[type[openai.APIStatusError], int, Callable[[], object]]] = [
        (openai.BadRequestError, 400, lambda: ask(model=SITE.chat, messages=TOO_LONG)),
        (openai.BadRequestError, 400, lambda: ask(model=SITE.chat, messages=ASK, temperature=9)),
        (openai.BadRequestError, 400, lambda: client.embeddings.create(model=SITE.embed, input="pain " * 5000)),
        (openai.AuthenticationError, 401, lambda: make("wrong").chat.completions.create(model=SITE.chat, messages=ASK)),
        (openai.PermissionDeniedError, 403, lambda: make("elsewhere").embeddings.create(model=SITE.embed, input="x")),
        (openai.NotFoundError, 404, lambda: ask(model="no such/model", messages=ASK)),
        (openai.NotFoundError, 404, lambda: client.files.retrieve("file-none")),
        (openai.APIStatusError, 413, lambda: ask(model=SITE.chat, messages=TOO_LARGE)),
        (openai.UnprocessableEntityError, 422, lambda: in_inference(n=2)),
    ]  # fmt: skip
    for kind, status, act in cases:
        error = raised(kind, act)
        assert (error.status_code, str(error.request_id)[:4]) == (status, "req_"), error
        assert "retry-after" not in error.response.headers
    too_long = raised(openai.BadRequestError, cases[0][2])
    assert too_long.code == "context_length_exceeded" and "maximum context length is" in str(too_long)


def beyond_the_model(make: Make) -> None:
    """What another model could do. Ids beyond the vocabulary are what LangChain sends with OpenAI's tokenizer."""
    client = make(max_retries=0)
    error = raised(openai.BadRequestError, lambda: client.chat.completions.create(model=SITE.embed, messages=ASK))
    assert "operation does not work with the specified model" in str(error)
    embed = client.embeddings.create
    raised(openai.BadRequestError, lambda: embed(model=SITE.chat, input="x"))
    raised(openai.BadRequestError, lambda: embed(model=SITE.embed, input=[[100_000]]))
    raised(openai.BadRequestError, lambda: embed(model=SITE.embed, input="x", dimensions=100))


def in_inference(**extra: Any) -> object:
    """OpenAI's client on the Azure AI Model Inference API, which knows fewer parameters."""
    client = plain(base_url=f"{SITE.url}/models", default_query={"api-version": "2024-05-01-preview"}, max_retries=0)
    return client.chat.completions.create(model=SITE.chat, messages=ASK, **extra)


def faults(make: Make) -> None:
    ask = make(max_retries=0).chat.completions.create
    for messages, status in ((REFUSE, 503), (DIE, 502)):
        error = raised(openai.InternalServerError, lambda messages=messages: ask(model=SITE.faulty, messages=messages))
        assert error.status_code == status and error.request_id
    pieces = []

    def read() -> None:
        for chunk in ask(model=SITE.faulty, messages=DIE, stream=True):
            pieces.append(chunk.choices[0].delta.content or "")

    raised(openai.APIError, read)
    assert "".join(pieces) == "one two three"
    raised(openai.APITimeoutError, lambda: ask(model=SITE.faulty, messages=STALL, timeout=1))


def limits(make: Make) -> None:
    """At its limit a client waits as told and succeeds, or says RateLimitError; what never helps is not repeated."""
    client = make("single")
    running = client.chat.completions.create(
        model=SITE.chat, messages=LONG, stream=True, max_tokens=LASTING, extra_body={"ignore_eos": True}
    )
    next(iter(running))
    few: Any = {"model": SITE.chat, "messages": ASK, "max_tokens": 3}
    error = raised(openai.RateLimitError, lambda: make("single", max_retries=0).chat.completions.create(**few))
    assert 0 < float(error.response.headers["retry-after-ms"]) <= 1000 * float(error.response.headers["retry-after"])
    assert "Please retry after 1 second" in str(error)
    threading.Timer(0.5, running.close).start()
    answer = make("single", max_retries=5).chat.completions.with_raw_response.create(**few)
    assert answer.parse().choices and answer.retries_taken >= 1
    error = raised(openai.RateLimitError, lambda: make("small").chat.completions.create(model=SITE.chat, messages=ASK))
    assert error.response.headers["x-should-retry"] == "false"
