"""The `openai` package for Python as its users write it; any major version. The arguments: which of CLIENTS."""

from __future__ import annotations

import functools
import json
import sys
import threading
from collections.abc import Callable
from typing import Any, Literal

import openai
from pydantic import BaseModel

from tests.e2e.conformance.scenarios import (
    ASK,
    CALL,
    DIE,
    LASTING,
    LONG,
    REFUSE,
    SCHEMA,
    SITE,
    STALL,
    TOO_LARGE,
    TOO_LONG,
    TOOL,
    WORDS,
    closest,
    eventually,
    perform,
    raised,
)

VERSION = "2024-10-21"
Client = openai.OpenAI
Make = Callable[..., Client]


def plain(key: str = "any", **options: Any) -> Client:
    return openai.OpenAI(**{"base_url": f"{SITE.url}/v1", "api_key": SITE.keys.get(key, key), "timeout": 60} | options)


def at_azure_v1(key: str = "any", **options: Any) -> Client:
    """As Azure's own documentation has it now: no version, no special client."""
    return plain(key, **{"base_url": f"{SITE.url}/openai/v1/"} | options)


def azure(key: str = "any", **options: Any) -> Client:
    given = {"azure_endpoint": SITE.url, "api_key": SITE.keys.get(key, key), "api_version": VERSION, "timeout": 60}
    return openai.AzureOpenAI(**given | options)


def azure_with_base_url(key: str = "any", **options: Any) -> Client:
    """A common mistake: the client puts the deployment into a path that has none."""
    key = SITE.keys.get(key, key)
    return openai.AzureOpenAI(
        **{"base_url": f"{SITE.url}/openai/v1/", "api_key": key, "api_version": VERSION} | options
    )


CLIENTS: dict[str, Make] = {
    "OpenAI": plain,
    "OpenAI at /openai/v1": at_azure_v1,
    "AzureOpenAI": azure,
    "AzureOpenAI at /openai/v1": azure_with_base_url,
}


def chat(make: Make) -> None:
    answer = make().chat.completions.create(model=SITE.chat, messages=ASK, temperature=0)
    usage = answer.usage
    assert answer.choices[0].message.content and usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert answer._request_id and answer._request_id.startswith("req_")
    if make is azure:
        spare = make(azure_deployment=SITE.chat)  # the deployment in the path wins over the body's model
        assert spare.chat.completions.create(model="gpt-4o", messages=ASK, max_tokens=3).model == SITE.chat


def stream(make: Make) -> None:
    client = make()
    whole = client.chat.completions.create(model=SITE.chat, messages=ASK, temperature=0)
    chunks = list(client.chat.completions.create(model=SITE.chat, messages=ASK, temperature=0, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    assert all(chunk.usage is None for chunk in chunks) and chunks[-1].choices[0].finish_reason == "stop"
    assert len({(chunk.id, chunk.model, chunk.created) for chunk in chunks}) == 1


def stream_with_usage(make: Make) -> None:
    given: Any = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 5}
    *_, last = make().chat.completions.create(model=SITE.chat, messages=LONG, **given)
    assert last.usage and (last.choices, last.usage.completion_tokens) == ([], 5)


def tools(make: Make) -> None:
    client = make()
    answer = client.chat.completions.create(model=SITE.chat, messages=ASK, **CALL)
    [call] = answer.choices[0].message.tool_calls or []
    assert call.function.name == TOOL and isinstance(json.loads(call.function.arguments)["urgent"], bool)
    told_back = [*ASK, answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "Done."}]
    assert client.chat.completions.create(model=SITE.chat, messages=told_back, max_tokens=5).choices
    names, arguments = [], ""
    for chunk in client.chat.completions.create(model=SITE.chat, messages=ASK, stream=True, **CALL):
        for piece in chunk.choices[0].delta.tool_calls or [] if chunk.choices else []:
            names += [piece.function.name] if piece.function.name else []
            arguments += piece.function.arguments or ""
    assert names == [TOOL] and isinstance(json.loads(arguments)["urgent"], bool)


class Allergy(BaseModel):
    allergic: bool
    severity: Literal["mild", "severe"]


def structured_output(make: Make) -> None:
    client = make()
    schema: Any = {"type": "json_schema", "json_schema": {"name": "allergy", "schema": SCHEMA, "strict": True}}
    answer = client.chat.completions.create(model=SITE.chat, messages=ASK, max_tokens=100, response_format=schema)
    assert json.loads(answer.choices[0].message.content or "")["severity"] in ("mild", "severe")
    parsed = client.chat.completions.parse(model=SITE.chat, messages=ASK, max_tokens=100, response_format=Allergy)
    assert isinstance(parsed.choices[0].message.parsed, Allergy)


def embeddings(make: Make) -> None:
    client = make()
    found = client.embeddings.create(model=SITE.embed, input=WORDS)  # asks for base64, and decodes it
    as_floats = client.embeddings.create(model=SITE.embed, input=WORDS, encoding_format="float")
    assert [item.index for item in found.data] == [0, 1, 2] and len(found.data[0].embedding) == SITE.dimensions
    vectors = [item.embedding for item in found.data]
    assert all(abs(a - b) < 1e-3 for a, b in zip(vectors[0], as_floats.data[0].embedding, strict=True))
    assert found.usage.prompt_tokens == found.usage.total_tokens == as_floats.usage.total_tokens > 0
    raw = client.embeddings.create(model=SITE.embed, input=WORDS[0], encoding_format="base64").data[0].embedding
    assert isinstance(raw, str)  # asked for by name, it is the user's to decode
    short = client.embeddings.create(model=SITE.embed, input=WORDS, dimensions=64)
    assert len(short.data[1].embedding) == 64 and abs(sum(x * x for x in short.data[1].embedding) - 1) < 1e-2
    asked = client.embeddings.create(model=SITE.embed, input="takes lisinopril").data[0].embedding
    assert closest(asked, vectors) == 1


def embeddings_of_tokens(make: Make) -> None:
    client = make()
    one = client.embeddings.create(model=SITE.embed, input=[11, 12, 13])
    many = client.embeddings.create(model=SITE.embed, input=[[11, 12, 13], [14, 15]])
    assert (one.usage.total_tokens, many.usage.total_tokens) == (3, 5)
    assert closest(one.data[0].embedding, [item.embedding for item in many.data]) == 0


def scoring(make: Make) -> None:
    """What lm-eval's local-completions sends, and what it reads."""
    tokens = [[11, 12, 13, 14], [21, 22, 23]]
    given: Any = {"temperature": 0, "logprobs": 1, "seed": 1234, "echo": True}
    for generated in (1, 0):  # 0: older harnesses
        answer = make().completions.create(model=SITE.chat, prompt=tokens, max_tokens=generated, **given)
        assert [choice.index for choice in answer.choices] == [0, 1]
        for choice, prompt in zip(answer.choices, tokens, strict=True):
            assert choice.logprobs and choice.logprobs.token_logprobs and choice.logprobs.top_logprobs
            scores = choice.logprobs.token_logprobs
            assert len(scores) == len(prompt) + generated and scores[0] is None
            assert all(
                score <= 0 and max(top.values()) >= score
                for score, top in zip(scores[1:], choice.logprobs.top_logprobs[1:], strict=True)
            )
    sample = make().completions.create(
        model=SITE.chat, prompt=["Allergies:"], max_tokens=4, temperature=0, stop=["\n\n"], seed=1234
    )
    assert sample.choices[0].finish_reason in ("length", "stop")


def files_and_batches(make: Make) -> None:
    client = make()
    url = "/chat/completions" if make is azure else "/v1/chat/completions"
    lines = [
        {
            "custom_id": f"t-{n}",
            "method": "POST",
            "url": url,
            "body": {"model": SITE.chat, "messages": ASK, "max_tokens": 5},
        }
        for n in range(3)
    ]
    content = "\n".join(json.dumps(line) for line in lines).encode()
    file = client.files.create(file=("notes.jsonl", content), purpose="batch")
    assert client.files.content(file.id).content == content and client.files.retrieve(file.id).bytes == len(content)
    batch = client.batches.create(input_file_id=file.id, endpoint=url, completion_window="24h")  # type: ignore[arg-type]
    eventually(lambda: client.batches.retrieve(batch.id).status == "completed")
    batch = client.batches.retrieve(batch.id)
    assert batch.output_file_id and batch.request_counts and batch.request_counts.completed == 3
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert sorted(answer["custom_id"] for answer in answers) == ["t-0", "t-1", "t-2"]
    assert all(answer["response"]["status_code"] == 200 for answer in answers)
    assert file.id in [one.id for one in client.files.list(limit=1)]  # page by page, to the end
    assert batch.id in [one.id for one in client.batches.list(limit=1)]
    assert client.files.delete(file.id).deleted


def models(make: Make) -> None:
    client = make()
    assert {SITE.chat, SITE.embed} <= {card.id for card in client.models.list()}
    assert client.models.retrieve(SITE.chat).id == SITE.chat


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


def tokens(make: Make) -> None:
    """Of an identity provider instead of a key."""
    if make in (azure, azure_with_base_url):
        client = make(azure_ad_token_provider=lambda: SITE.tokens["good"], api_key=None)
        expired = make(azure_ad_token_provider=lambda: SITE.tokens["expired"], api_key=None, max_retries=0)
    else:
        client, expired = make(SITE.tokens["good"]), make(SITE.tokens["expired"], max_retries=0)
    assert client.chat.completions.create(model=SITE.chat, messages=ASK, max_tokens=3).choices
    raised(openai.AuthenticationError, lambda: expired.chat.completions.create(model=SITE.chat, messages=ASK))


SCENARIOS: list[Callable[[Make], None]] = [
    chat, stream, stream_with_usage, tools, structured_output, embeddings, embeddings_of_tokens, scoring,
    files_and_batches, models, errors, beyond_the_model, faults, limits, tokens,
]  # fmt: skip

if __name__ == "__main__":
    perform(
        (f"openai {openai.__version__[0]} {name} {scenario.__name__}", functools.partial(scenario, CLIENTS[name]))
        for name in sys.argv[1:]
        for scenario in SCENARIOS
    )
