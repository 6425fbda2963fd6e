"""The asynchronous clients of the `openai` package for Python. The arguments: which of CLIENTS."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

from tests.e2e.conformance.openai_clients import VERSION
from tests.e2e.conformance.scenarios import ASK, DIE, LASTING, LONG, SITE, TOO_LONG, WORDS, perform

Make = Callable[..., openai.AsyncOpenAI]


def plain(key: str = "any", **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{SITE.url}/v1", api_key=SITE.keys.get(key, key), timeout=60, **options)


def azure(key: str = "any", **options: Any) -> openai.AsyncOpenAI:
    key = SITE.keys.get(key, key)
    return openai.AsyncAzureOpenAI(azure_endpoint=SITE.url, api_version=VERSION, api_key=key, timeout=60, **options)


CLIENTS: dict[str, Make] = {"AsyncOpenAI": plain, "AsyncAzureOpenAI": azure}


async def chat(make: Make) -> None:
    """Eight at a time, on one client."""
    async with make() as client:
        ask = functools.partial(client.chat.completions.create, model=SITE.chat, messages=ASK, temperature=0)
        answers = await asyncio.gather(*(ask() for _ in range(8)))
    assert len({answer.choices[0].message.content for answer in answers}) == 1 and answers[0].usage


async def stream(make: Make) -> None:
    async with make() as client:
        ask: Any = functools.partial(client.chat.completions.create, model=SITE.chat, messages=ASK, temperature=0)
        whole = await ask()
        text = ""
        async for chunk in await ask(stream=True, stream_options={"include_usage": True}):
            text += chunk.choices[0].delta.content or "" if chunk.choices else ""
    assert text == whole.choices[0].message.content
    assert chunk.usage and whole.usage and chunk.usage.total_tokens == whole.usage.total_tokens


async def embeddings(make: Make) -> None:
    async with make() as client:
        found = await client.embeddings.create(model=SITE.embed, input=WORDS)
    assert [len(item.embedding) for item in found.data] == [SITE.dimensions] * 3


async def errors(make: Make) -> None:
    async with make(max_retries=0) as client, make("wrong") as stranger:
        await raised(openai.BadRequestError, client.chat.completions.create(model=SITE.chat, messages=TOO_LONG))
        await raised(openai.NotFoundError, client.chat.completions.create(model="none", messages=ASK))
        await raised(openai.AuthenticationError, stranger.chat.completions.create(model=SITE.chat, messages=ASK))

        async def read() -> None:
            async for _ in await client.chat.completions.create(model=SITE.faulty, messages=DIE, stream=True):
                pass

        await raised(openai.APIError, read())


async def limits(make: Make) -> None:
    async with (
        make("single") as first,
        make("single", max_retries=0) as hasty,
        make("single", max_retries=5) as patient,
    ):
        running = await first.chat.completions.create(
            model=SITE.chat, messages=LONG, stream=True, max_tokens=LASTING, extra_body={"ignore_eos": True}
        )
        await anext(aiter(running))
        few: Any = {"model": SITE.chat, "messages": ASK, "max_tokens": 3}
        await raised(openai.RateLimitError, hasty.chat.completions.create(**few))
        waiting = asyncio.create_task(patient.chat.completions.with_raw_response.create(**few))
        await asyncio.sleep(0.5)
        await running.close()
        assert (await waiting).retries_taken >= 1


async def raised(kind: type[Exception], act: Awaitable[object]) -> None:
    with pytest.raises(kind) as caught:
        await act
    assert type(caught.value) is kind, type(caught.value)


SCENARIOS: list[Callable[[Make], Any]] = [chat, stream, embeddings, errors, limits]

if __name__ == "__main__":
    perform(
        (
            f"openai 3 async {name} {scenario.__name__}",
            lambda scenario=scenario, name=name: asyncio.run(scenario(CLIENTS[name])),
        )
        for name in sys.argv[1:]
        for scenario in SCENARIOS
    )
