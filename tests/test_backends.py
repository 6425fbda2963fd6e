"""The assembly of engines and guards: what the settings say reaches them, and what cannot work stops the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest

from serving.backends import check_backends
from serving.engines.echo import EchoEngine
from serving.settings import SettingsError, parse
from tests.conftest import OpenSite
from tests.engines.azure_stub import KEY, VERSION, azurely
from tests.engines.openai_stub import nobody, refusing, stub
from tests.local import Tree, chat, error_of, events

PATH = "/v1/chat/completions"
LIST: Tree = {"kind": "blocklist", "name": "drugs", "terms": ["fentanyl patch"]}


def echo(name: str = "echo", **fields: Any) -> Tree:
    return {"name": name, "engine": {"kind": "echo"}} | fields


def far(url: str, **fields: Any) -> Tree:
    return {"name": "echo", "engine": {"kind": "http", "url": url} | fields}


async def test_a_deployment_has_the_guards_that_it_names_and_no_other(site: OpenSite) -> None:
    client = site(guards=[LIST], deployments=[echo(guards=["drugs"]), echo("free")]).client()
    blocked = await client.post(PATH, json=chat("a fentanyl patch"))
    assert (blocked.status_code, blocked.json()["error"]["code"]) == (400, "content_filter")
    assert blocked.json()["error"]["innererror"]["content_filter_result"]["custom_blocklists"]["filtered"] is True
    free = await client.post(PATH, json=chat("a fentanyl patch", model="free"))
    assert free.status_code == 200 and "prompt_filter_results" not in free.json()


async def test_what_guards_decide_is_counted_by_deployment_guard_and_stage(site: OpenSite) -> None:
    client = site(guards=[LIST], deployments=[echo(guards=["drugs"])]).client()
    await client.post(PATH, json=chat("a fentanyl patch"))
    await client.post(PATH, json=chat("an aspirin"))
    metrics = (await client.get("/metrics")).text
    for stage, decision in (("prompt", "blocked"), ("prompt", "passed"), ("answer", "passed")):
        labels = f'decision="{decision}",deployment="echo",guard="drugs",stage="{stage}"'
        assert f"clinserve_guard_decisions_total{{{labels}}} 1.0" in metrics


async def test_lists_may_be_in_files_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "terms.txt").write_text("# ours\nProject Aurora\n")
    (tmp_path / "patterns.txt").write_text("[a-z]{1,40}\\.internal\n")
    guard = {"kind": "blocklist", "name": "x", "terms_file": "terms.txt", "patterns_file": "patterns.txt"}
    check_backends(parse({"guards": [guard], "deployments": [echo(guards=["x"])]}, base=tmp_path))


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ({"guards": [LIST | {"terms_file": "gone.txt"}]}, "gone.txt: No such file"),
        ({"guards": [LIST | {"patterns": ["(a"]}]}, "pattern 1: not a regular expression"),
        ({"guards": [LIST | {"patterns": ["a*"]}]}, "matches the empty text"),
        ({"deployments": [far("http://far.test/v1", key_env="FAR_KEY")]}, "FAR_KEY: is empty or not set"),
        (
            {"guards": [{"kind": "moderation", "name": "m", "service": "openai", "url": "http://m", "key_env": "M"}]},
            "'m': M: is empty or not set",
        ),
    ],
)
def test_what_cannot_work_stops_the_start(tree: Tree, says: str) -> None:
    with pytest.raises(SettingsError, match=says.replace("(", r"\(")):
        check_backends(parse({"deployments": [echo()]} | tree), environ={})


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ({"deployments": [echo(guards=["nobody"])]}, "names a guard that is not in 'guards'"),
        ({"guards": [LIST, LIST], "deployments": [echo()]}, "two have the same name"),
        ({"guards": [LIST | {"term": []}], "deployments": [echo()]}, r"guards\[0\].term: .*did you mean 'terms'"),
        ({"deployments": [far("http://x", entra=True, key_env="K")]}, "entra and key_env: choose one"),
    ],
)
def test_what_contradicts_itself_is_refused_when_it_is_read(tree: Tree, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        parse(tree)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_full_deployment_spills_to_azure_openai_which_answers_in_our_form(
    site: OpenSite, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setenv("AZURE_KEY", KEY)
    refuses = {"kind": "echo", "failures": [{"when": "", "action": "refuse"}]}
    async with stub(azurely(EchoEngine())) as azure:
        engine = {"kind": "http", "url": azure.url[:-3], "api_version": VERSION, "model": "gpt there"}
        there = {"name": "overflow", "engine": engine | {"key_env": "AZURE_KEY"}}
        client = site(deployments=[echo(engine=refuses, spill_to="overflow"), there]).client()
        answer = await client.post(PATH, json=chat("hello there", stream=stream, top_k=5))
    assert (answer.status_code, answer.headers["x-ms-deployment-name"]) == (200, "overflow")
    assert answer.headers["x-ms-spillover-from-deployment"] == "echo"
    assert azure.headers[0]["api-key"] == KEY and "top_k" not in azure.bodies[0]
    assert not stream or events(answer.content)[-1] == "[DONE]"


async def test_an_endpoint_that_fails_again_and_again_is_left_alone(site: OpenSite) -> None:
    breaker = {"failures": 2, "open_for": "60s"}
    async with stub(refusing(503, None)) as running:
        client = site(deployments=[far(running.url, breaker=breaker)]).client()
        answers = [await client.post(PATH, json=chat()) for _ in range(4)]
        metrics = (await client.get("/metrics")).text
    assert [answer.status_code for answer in answers] == [503] * 4 and len(running.bodies) == 2
    assert 50 < int(answers[-1].headers["retry-after"]) <= 60
    assert 'clinserve_breaker_changes_total{deployment="echo",state="open"} 1.0' in metrics


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429])
async def test_what_a_client_does_wrong_never_keeps_others_from_an_endpoint(site: OpenSite, status: int) -> None:
    breaker = {"failures": 2, "open_for": "60s"}
    async with stub(refusing(status, {"error": {"message": "no", "code": "x"}})) as running:
        client = site(deployments=[far(running.url, breaker=breaker)]).client()
        for _ in range(6):
            await client.post(PATH, json=chat())
    assert len(running.bodies) == (2 if status in (401, 404) else 6)  # those two are ours: a wrong key, a wrong address


async def test_an_endpoint_that_is_gone_is_not_ready_and_says_when_to_come_back(site: OpenSite) -> None:
    client = site(deployments=[far(nobody())]).client()
    error_of(await client.post(PATH, json=chat()), 503, "engine_unavailable")
    assert (await client.get("/readyz")).status_code == 503


async def test_its_own_refusals_reach_the_sdks_as_their_exceptions(site: OpenSite) -> None:
    async with stub(refusing(429, None, **{"retry-after": "7"})) as running:
        here = site(deployments=[far(running.url)])
        client = openai.AsyncOpenAI(
            base_url="http://gateway.test/v1", api_key=here.key, http_client=here.client(), max_retries=0
        )
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hi"}])
    assert refused.value.response.headers["retry-after"] == "7"
