"""`azure-ai-inference` as its users write it: a key over http, an identity's token over TLS. The argument: which."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from azure.ai.inference import ChatCompletionsClient, EmbeddingsClient, load_client
from azure.ai.inference.models import (
    AssistantMessage,
    ChatCompletionsNamedToolChoice,
    ChatCompletionsNamedToolChoiceFunction,
    ChatCompletionsToolDefinition,
    FunctionDefinition,
    JsonSchemaFormat,
    ToolMessage,
    UserMessage,
)
from azure.core.credentials import AccessToken, AzureKeyCredential
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ResourceNotFoundError,
)
from azure.core.pipeline.policies import SansIOHTTPPolicy

from tests.e2e.conformance.scenarios import (
    ASK,
    DIE,
    LASTING,
    LONG,
    PARAMETERS,
    REFUSE,
    SCHEMA,
    SITE,
    TOO_LARGE,
    TOO_LONG,
    TOOL,
    WORDS,
    closest,
    perform,
    raised,
)


class Identity:
    """A TokenCredential, such as DefaultAzureCredential is one."""

    def __init__(self, token: str = "good") -> None:
        self._token = SITE.tokens.get(token, token)

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        assert scopes == ("https://ml.azure.com/.default",)
        return AccessToken(self._token, int(time.time()) + 3600)


class Counting(SansIOHTTPPolicy):  # type: ignore[type-arg]
    """How many requests really left."""

    def __init__(self) -> None:
        self.sent = 0

    def on_request(self, request: object) -> None:
        self.sent += 1


def by_key(key: str = "any") -> dict[str, Any]:
    return {"endpoint": f"{SITE.url}/models", "credential": AzureKeyCredential(SITE.keys.get(key, key))}


def by_token(key: str = "any") -> dict[str, Any]:
    credential = AzureKeyCredential(SITE.keys[key]) if key in ("elsewhere", "single", "small") else None
    identity = Identity("good" if key == "any" else "expired")
    return {
        "endpoint": f"{SITE.tls}/models",
        "credential": credential or identity,
        "connection_verify": SITE.certificate,
    }


Make = Callable[..., dict[str, Any]]
CLIENTS: dict[str, Make] = {"key": by_key, "token over TLS": by_token}


def client_of(make: Make, key: str = "any", **options: Any) -> ChatCompletionsClient:
    return ChatCompletionsClient(**make(key), **{"model": SITE.chat} | options)


def text_of(updates: Any) -> str:
    return "".join(u.choices[0].delta.content or "" for u in updates if u.choices)


def chat(make: Make) -> None:
    answer = client_of(make).complete(messages=[UserMessage(ASK[0]["content"])], temperature=0)
    assert answer.choices[0].message.content and answer.model == SITE.chat and answer.created
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def stream(make: Make) -> None:
    """Its parser fails on whatever is not `data: {json}`."""
    client = client_of(make)
    whole = client.complete(messages=ASK, temperature=0)
    assert text_of(client.complete(messages=ASK, temperature=0, stream=True)) == whole.choices[0].message.content


def stream_with_usage(make: Make) -> None:
    usage: Any = {"stream_options": {"include_usage": True}}
    *_, last = client_of(make).complete(messages=ASK, stream=True, max_tokens=5, model_extras=usage)
    assert last.usage and last.usage.completion_tokens > 0


def tools(make: Make) -> None:
    client = client_of(make)
    function = FunctionDefinition(name=TOOL, description="Refer.", parameters=PARAMETERS)
    chosen = ChatCompletionsNamedToolChoice(function=ChatCompletionsNamedToolChoiceFunction(name=TOOL))
    answer = client.complete(
        messages=ASK,
        tools=[ChatCompletionsToolDefinition(function=function)],
        tool_choice=chosen,
        temperature=0,
        max_tokens=200,
        frequency_penalty=1.5,
    )
    [call] = answer.choices[0].message.tool_calls or []
    assert call.function.name == TOOL and isinstance(json.loads(call.function.arguments)["urgent"], bool)
    said = [UserMessage(ASK[0]["content"]), AssistantMessage(tool_calls=[call])]
    done = client.complete(messages=[*said, ToolMessage("Done.", tool_call_id=call.id)], max_tokens=5)
    assert done.choices


def structured_output(make: Make) -> None:
    schema = JsonSchemaFormat(name="allergy", schema=SCHEMA, strict=True)
    answer = client_of(make).complete(messages=ASK, max_tokens=100, response_format=schema)
    assert json.loads(answer.choices[0].message.content)["severity"] in ("mild", "severe")


def embeddings(make: Make) -> None:
    client = EmbeddingsClient(**make(), model=SITE.embed)
    found = client.embed(input=WORDS)
    vectors: Any = [item.embedding for item in found.data]
    assert len(vectors[0]) == SITE.dimensions and found.usage.total_tokens > 0
    assert len(client.embed(input=WORDS, dimensions=64).data[0].embedding) == 64
    assert isinstance(client.embed(input=WORDS, encoding_format="base64").data[0].embedding, str)
    asked: Any = client.embed(input=["takes lisinopril"], input_type="query").data[0].embedding
    assert closest(asked, vectors) == 1


def models(make: Make) -> None:
    """load_client asks what the endpoint is. Several deployments: it cannot say, and says so."""
    error = raised(HttpResponseError, lambda: load_client(**make()))
    assert error.status_code == 400 and "model" in error.message
    chosen = ChatCompletionsClient(**make("elsewhere")) if make is by_token else load_client(**make("elsewhere"))
    assert isinstance(chosen, ChatCompletionsClient)
    assert make is by_token or chosen.get_model_info().model_name == SITE.faulty


def extra_parameters(make: Make) -> None:
    client = client_of(make)
    assert client.complete(messages=ASK, max_tokens=3, model_extras={"top_k": 5, "user": "me"}).choices
    body = {"model": SITE.chat, "messages": ASK, "max_tokens": 3, "top_k": 5}  # as a body it has no header of its own
    error = raised(HttpResponseError, lambda: client.complete(body))
    assert error.status_code == 422 and json.loads(error.response.text())["code"] == "parameter_not_supported"
    assert client.complete(body, headers={"extra-parameters": "drop"}).choices


def errors(make: Make) -> None:
    """Each of its own class, after one request: azure-core repeats whatever carries Retry-After."""
    cases: list[tuple[type[Exception], int, str, Any, dict[str, Any]]] = [
        (HttpResponseError, 400, "any", TOO_LONG, {}),
        (HttpResponseError, 400, "any", ASK, {"temperature": 9}),
        (ClientAuthenticationError, 401, "wrong", ASK, {}),
        (HttpResponseError, 403, "elsewhere", ASK, {}),
        (ResourceNotFoundError, 404, "any", ASK, {"model": "nothing"}),
        (HttpResponseError, 413, "any", TOO_LARGE, {}),
    ]
    for kind, status, key, messages, given in cases:
        counting = Counting()
        client = client_of(make, key, per_retry_policies=[counting])
        error = raised(
            kind, lambda client=client, messages=messages, given=given: client.complete(messages=messages, **given)
        )
        assert (error.status_code, counting.sent) == (status, 1), (error, counting.sent)
        assert error.error.message and error.response.headers["x-request-id"]


def faults(make: Make) -> None:
    client = client_of(make, model=SITE.faulty, retry_total=0)
    for messages, status in ((REFUSE, 503), (DIE, 502)):
        error = raised(HttpResponseError, lambda messages=messages: client.complete(messages=messages))
        assert error.status_code == status
    pieces = []
    try:
        for update in client.complete(messages=DIE, stream=True):
            pieces.append(text_of([update]))
    except (HttpResponseError, IncompleteReadError):  # which one, the proxy in between decides
        assert "".join(pieces) == "one two three"
    else:
        raise AssertionError("a broken stream looks like a whole one")


def limits(make: Make) -> None:
    running = client_of(make, "single").complete(
        messages=LONG, stream=True, max_tokens=LASTING, model_extras={"ignore_eos": True}
    )
    pieces: Iterator[Any] = iter(running)
    next(pieces)
    hasty, counting = client_of(make, "single", retry_total=0), Counting()
    error = raised(HttpResponseError, lambda: hasty.complete(messages=ASK))
    assert (error.status_code, error.error.code) == (429, "RateLimitReached")
    threading.Timer(0.5, running.close).start()
    patient = client_of(make, "single", per_retry_policies=[counting])
    assert patient.complete(messages=ASK, max_tokens=3).choices and counting.sent > 1
    counting = Counting()
    small = client_of(make, "small", per_retry_policies=[counting])
    error = raised(HttpResponseError, lambda: small.complete(messages=ASK))
    assert (error.status_code, counting.sent) == (429, 1)


SCENARIOS: list[Callable[[Make], None]] = [
    chat, stream, stream_with_usage, tools, structured_output, embeddings, models, extra_parameters, errors, faults,
    limits,
]  # fmt: skip

if __name__ == "__main__":
    perform(
        (f"azure-ai-inference {name} {scenario.__name__}", lambda scenario=scenario, name=name: scenario(CLIENTS[name]))
        for name in sys.argv[1:]
        for scenario in SCENARIOS
    )
