"""Guards as users of Azure's SDKs meet them, through the whole gateway."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError

from serving.engines.echo import EchoEngine
from serving.guards.blocklist import Blocklist
from serving.guards.guard import BOTH, Stage
from serving.guards.guarded import GuardedEngine
from tests.conftest import OpenSite
from tests.local import Site, eventually, listening

TALK: Any = [{"role": "user", "content": "take a fentanyl patch now"}]


def guarded(site: OpenSite, stages: frozenset[Stage] = BOTH) -> Site:
    return site(engine=GuardedEngine(EchoEngine(), [Blocklist("drugs", terms=["fentanyl patch"], stages=stages)]))


def azure(here: Site) -> openai.AsyncAzureOpenAI:
    http = httpx.AsyncClient(transport=httpx.ASGITransport(here.app))
    return openai.AsyncAzureOpenAI(
        azure_endpoint="http://gateway.test",
        api_key=here.key,
        api_version="2024-10-21",
        http_client=http,
        max_retries=0,
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_a_blocked_prompt_is_a_bad_request_with_azures_reason(site: OpenSite, stream: bool) -> None:
    here = guarded(site)
    with pytest.raises(openai.BadRequestError) as refused:
        await azure(here).chat.completions.create(model="echo", messages=TALK, stream=stream)
    body: Any = refused.value.body
    assert (refused.value.code, refused.value.param) == ("content_filter", "prompt")
    assert body["innererror"]["content_filter_result"]["custom_blocklists"]["filtered"] is True
    (line,) = here.log()
    assert line["outcome"] == "content_filter" and "fentanyl" not in str(line)


async def test_a_blocked_stream_ends_well_and_is_charged(site: OpenSite) -> None:
    here = guarded(site, frozenset({"answer"}))
    stream = await azure(here).chat.completions.create(
        model="echo", messages=TALK, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "take a" and chunks[-2].choices[0].finish_reason == "content_filter"
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens == 5  # `now` was needed to know
    await eventually(lambda: len(here.log()) == 1)
    assert here.log()[0]["completion_tokens"] == 5


def test_azure_ai_inference_reads_a_guarded_stream_and_a_refusal(site: OpenSite) -> None:
    here = guarded(site)
    with listening(here.app) as url:
        client = ChatCompletionsClient(f"{url}/models", AzureKeyCredential(here.key), model="echo")
        updates = list(client.complete(messages=[UserMessage("all is well")], stream=True))
        assert "".join(u.choices[0].delta.content or "" for u in updates if u.choices) == "all is well"
        with pytest.raises(HttpResponseError) as refused:
            client.complete(messages=[UserMessage("a fentanyl patch")])
    assert refused.value.error and refused.value.error.code == "content_filter"
