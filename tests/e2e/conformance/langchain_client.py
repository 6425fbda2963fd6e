"""`langchain-openai` as its users write it. The argument: AzureChatOpenAI, ChatOpenAI."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any, Literal

import openai
import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, AzureOpenAIEmbeddings, ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

from tests.e2e.conformance.scenarios import (
    ASK,
    DIE,
    LASTING,
    LONG,
    REFUSE,
    SITE,
    TOO_LONG,
    TOOL,
    WORDS,
    closest,
    perform,
)

QUESTION = ASK[0]["content"]


def azure(key: str = "any", deployment: str = SITE.chat, **options: Any) -> AzureChatOpenAI:
    return AzureChatOpenAI(
        azure_endpoint=SITE.url,
        azure_deployment=deployment,
        api_version="2024-10-21",
        api_key=SecretStr(SITE.keys.get(key, key)),
        **options,
    )


def plain(key: str = "any", deployment: str = SITE.chat, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=f"{SITE.url}/v1", model=deployment, api_key=SecretStr(SITE.keys.get(key, key)), **options
    )


Make = Callable[..., AzureChatOpenAI | ChatOpenAI]
CLIENTS: dict[str, Make] = {"AzureChatOpenAI": azure, "ChatOpenAI": plain}


def chat(make: Make) -> None:
    answer = make(temperature=0).invoke(QUESTION)
    assert answer.content and answer.usage_metadata and answer.usage_metadata["output_tokens"] > 0
    assert asyncio.run(make(temperature=0).ainvoke(QUESTION)).content == answer.content
    first, second = make(temperature=0).batch([QUESTION, QUESTION])
    assert first.content == second.content == answer.content


def stream(make: Make) -> None:
    client = make(temperature=0, stream_usage=True)  # elsewhere than at OpenAI it must be asked for
    whole = AIMessageChunk("")
    for chunk in client.stream(QUESTION):
        whole += chunk  # type: ignore[assignment]
    assert whole.content == client.invoke(QUESTION).content and whole.usage_metadata


def tools(make: Make) -> None:
    @tool(TOOL)
    def refer(urgent: bool) -> str:
        """Refer."""
        return "Done."

    client = make(temperature=0, max_tokens=200, frequency_penalty=1.5)
    answer = client.bind_tools([refer], tool_choice=TOOL, strict=True).invoke(QUESTION)
    [call] = answer.tool_calls
    assert call["name"] == TOOL and isinstance(call["args"]["urgent"], bool)
    said = [HumanMessage(QUESTION), answer, ToolMessage(refer.invoke(call["args"]), tool_call_id=call["id"])]
    assert make(max_tokens=5).invoke(said).response_metadata["finish_reason"] in ("stop", "length")


class Allergy(BaseModel):
    """What the patient is allergic to."""

    allergic: bool
    severity: Literal["mild", "severe"]


def structured_output(make: Make) -> None:
    client = make(temperature=0, max_tokens=100)
    assert isinstance(client.with_structured_output(Allergy).invoke(QUESTION), Allergy)


def embeddings(make: Make) -> None:
    """Without the check it sends texts. With it, ids of OpenAI's tokens, which mean other words to other models."""
    key: Any = {"api_key": SecretStr(SITE.keys["any"]), "check_embedding_ctx_length": False}
    if make is azure:
        at: Any = {"azure_endpoint": SITE.url, "azure_deployment": SITE.embed, "api_version": "2024-10-21"}
        client: OpenAIEmbeddings = AzureOpenAIEmbeddings(**at, **key)  # whose model is text-embedding-ada-002
        short: OpenAIEmbeddings = AzureOpenAIEmbeddings(**at, **key, dimensions=64)
    else:
        client = OpenAIEmbeddings(base_url=f"{SITE.url}/v1", model=SITE.embed, **key)
        short = OpenAIEmbeddings(base_url=f"{SITE.url}/v1", model=SITE.embed, **key, dimensions=64)
    vectors = client.embed_documents(WORDS)
    assert len(vectors[0]) == SITE.dimensions and closest(client.embed_query("takes lisinopril"), vectors) == 1
    assert len(short.embed_query("x")) == 64


def errors(make: Make) -> None:
    """Its exceptions are openai's own, or of classes below them."""
    cases: list[tuple[type[openai.OpenAIError], AzureChatOpenAI | ChatOpenAI, Any]] = [
        (openai.AuthenticationError, make("wrong"), QUESTION),
        (openai.PermissionDeniedError, make("elsewhere"), QUESTION),
        (openai.NotFoundError, make(deployment="nothing"), QUESTION),
        (openai.BadRequestError, make(), TOO_LONG),
        (openai.InternalServerError, make(deployment=SITE.faulty, max_retries=0), REFUSE),
    ]
    for kind, client, messages in cases:
        with pytest.raises(kind):
            client.invoke(messages)
    with pytest.raises(openai.APIError):
        list(make(deployment=SITE.faulty).stream(DIE))


def limits(make: Make) -> None:
    running = make("single", max_tokens=LASTING, extra_body={"ignore_eos": True}).stream(LONG)
    next(running)
    with pytest.raises(openai.RateLimitError):
        make("single", max_retries=0).invoke(QUESTION)
    threading.Timer(0.5, running.close).start()  # type: ignore[attr-defined]
    assert make("single", max_retries=5, max_tokens=3).invoke(QUESTION).usage_metadata


def content_filter(make: Make) -> None:
    """An answer that a filter cut. Azure's class raises for it, as with Azure itself."""
    client, said = make(deployment=SITE.guarded), "take a fentanyl patch now"
    if make is azure:
        with pytest.raises(ValueError, match="content filter"):
            client.invoke(said)
    else:
        assert client.invoke(said).response_metadata["finish_reason"] == "content_filter"


SCENARIOS: list[Callable[[Make], None]] = [
    chat, stream, tools, structured_output, embeddings, errors, limits, content_filter,
]  # fmt: skip

if __name__ == "__main__":
    perform(
        (f"langchain-openai {name} {scenario.__name__}", lambda scenario=scenario, name=name: scenario(CLIENTS[name]))
        for name in sys.argv[1:]
        for scenario in SCENARIOS
    )
