"""What users of the `openai` package for Python ask for, with any of its clients."""

from __future__ import annotations

import json
import uuid
from typing import Any, Literal

import openai
from pydantic import BaseModel

from tests.e2e.conformance.openai_clients import Make, azure, azure_with_base_url
from tests.e2e.conformance.scenarios import (
    ASK,
    CALL,
    LONG,
    SCHEMA,
    SITE,
    TOOL,
    WORDS,
    closest,
    eventually,
    raised,
)


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


def responses(make: Make) -> None:
    client = make("keeping")
    asked: Any = {"model": SITE.chat, "input": ASK[0]["content"], "temperature": 0}
    whole = client.responses.create(**asked)
    assert whole.status == "completed" and whole.usage and whole.usage.output_tokens > 0
    events = list(client.responses.create(**asked, stream=True))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    parsed = client.responses.parse(model=SITE.chat, input=ASK, text_format=Allergy, max_output_tokens=100)
    assert isinstance(parsed.output_parsed, Allergy)
    more = client.responses.create(
        model=SITE.chat, input="Since when?", previous_response_id=whole.id, max_output_tokens=9
    )
    assert client.responses.retrieve(more.id).previous_response_id == whole.id
    assert len(list(client.responses.input_items.list(more.id, limit=1))) == 3  # question, answer, question
    later = client.responses.create(**asked, background=True)
    eventually(lambda: client.responses.retrieve(later.id).status == "completed")
    assert client.responses.retrieve(later.id).output_text == whole.output_text
    assert client.responses.cancel(later.id).status == "completed"  # too late
    client.responses.delete(whole.id)
    raised(openai.NotFoundError, lambda: client.responses.retrieve(whole.id))
    raised(openai.BadRequestError, lambda: make().responses.create(**asked, store=True))  # its tenant keeps nothing


def repeats(make: Make) -> None:
    """A request that its sender numbers is answered, and paid for, once."""
    numbered: Any = {"extra_headers": {"Idempotency-Key": str(uuid.uuid4())}}
    ask = make(max_retries=0).chat.completions.with_raw_response.create
    first = ask(model=SITE.chat, messages=ASK, temperature=1, **numbered)
    again = ask(model=SITE.chat, messages=ASK, temperature=1, **numbered)
    assert again.headers["idempotency-replayed"] == "true" and again.text == first.text
    raised(openai.ConflictError, lambda: ask(model=SITE.chat, messages=ASK, temperature=0, **numbered))


def models(make: Make) -> None:
    client = make()
    assert {SITE.chat, SITE.embed} <= {card.id for card in client.models.list()}
    assert client.models.retrieve(SITE.chat).id == SITE.chat


def tokens(make: Make) -> None:
    """Of an identity provider instead of a key."""
    if make in (azure, azure_with_base_url):
        client = make(azure_ad_token_provider=lambda: SITE.tokens["good"], api_key=None)
        expired = make(azure_ad_token_provider=lambda: SITE.tokens["expired"], api_key=None, max_retries=0)
    else:
        client, expired = make(SITE.tokens["good"]), make(SITE.tokens["expired"], max_retries=0)
    assert client.chat.completions.create(model=SITE.chat, messages=ASK, max_tokens=3).choices
    raised(openai.AuthenticationError, lambda: expired.chat.completions.create(model=SITE.chat, messages=ASK))
