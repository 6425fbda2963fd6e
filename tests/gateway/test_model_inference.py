"""The dialect of the Azure AI Model Inference API: its closed list of parameters, its errors, its strict streams."""

from __future__ import annotations

import re

import httpx
import pytest

from serving.errors import EngineFailed
from tests.conftest import OpenSite
from tests.local import ROLE, RecordingEngine, chat, events, listening, word

PATH = "/models/chat/completions?api-version=2024-05-01-preview"


async def test_chat_embeddings_and_information_are_there(site: OpenSite) -> None:
    client = site().client()
    assert (await client.post(PATH, json=chat("hello"))).json()["choices"][0]["message"]["content"] == "hello"
    information = (await client.get("/models/info?api-version=2024-05-01-preview")).json()
    assert information == {"model_name": "echo", "model_type": "chat_completion", "model_provider_name": "clinserve"}
    embedded = (
        await site(RecordingEngine())
        .client()
        .post(PATH.replace("chat/completions", "embeddings"), json={"model": "echo", "input": ["x"]})
    )
    assert embedded.status_code == 200


async def test_an_extra_parameter_is_refused_by_default_as_azure_refuses_it(site: OpenSite) -> None:
    engine = RecordingEngine()
    response = await site(engine).client().post(PATH, json=chat(top_k=5))
    body = response.json()
    assert (response.status_code, body["status"], body["code"]) == (422, 422, "parameter_not_supported")
    assert body["detail"][0]["loc"] == ["body", "top_k"] and not engine.asked


async def test_litellm_reads_off_the_refusal_what_to_leave_out(site: OpenSite) -> None:
    """As its azure_ai provider does: the names in the first brackets, if the sentence is Azure's."""
    body, client = chat(n=1, user="me", top_k=5), site().client()
    refused = await client.post(PATH, json=body)
    assert refused.status_code == 422 and "Set extra-parameters to 'pass-through'" in refused.text
    found = re.search(r"\[(.*?)\]", refused.text)
    assert found
    for name in found[1].split(","):
        body.pop(name.strip().strip("'"))
    assert (await client.post(PATH, json=body)).status_code == 200


async def test_an_extra_parameter_can_be_dropped_or_passed_through(site: OpenSite) -> None:
    engine = RecordingEngine()
    client = site(engine).client()
    for policy, kept in (("drop", None), ("pass-through", 5)):
        response = await client.post(PATH, json=chat(top_k=5), headers={"extra-parameters": policy})
        assert response.status_code == 200 and engine.asked[-1].body.get("top_k") == kept


async def test_what_is_passed_through_meets_the_gateways_own_list(site: OpenSite) -> None:
    through = {"extra-parameters": "pass-through"}
    response = await site().client().post(PATH, json=chat(chat_template="CANARY"), headers=through)
    assert response.status_code == 400 and "CANARY" not in response.text
    odd = await site().client().post(PATH, json=chat(), headers={"extra-parameters": "CANARY"})
    assert odd.status_code == 400 and "CANARY" not in odd.text


async def test_the_name_of_a_parameter_that_nobody_knows_is_not_repeated(site: OpenSite) -> None:
    response = await site().client().post(PATH, json=chat() | {"CANARY": 1})
    assert response.status_code == 422 and "CANARY" not in response.text


@pytest.mark.parametrize(("model", "status", "code"), [("nothing", 404, "unknown_model"), (None, 400, "no_model_name")])
async def test_a_model_that_is_unknown_or_missing(site: OpenSite, model: str | None, status: int, code: str) -> None:
    response = await site().client().post(PATH, json=chat() | {"model": model})
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


async def test_a_stream_holds_nothing_that_a_strict_parser_fails_on(site: OpenSite) -> None:
    response = await site().client().post(PATH, json=chat("a b", stream=True))
    assert events(response.content)[-1] == "[DONE]" and b"\r" not in response.content


async def test_a_stream_that_breaks_ends_with_its_connection(site: OpenSite) -> None:
    open_site = site(RecordingEngine((ROLE, word("half")), EngineFailed()))
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(PATH, json=chat(stream=True))
    assert open_site.log()[-1]["outcome"] == "engine_failed"
