"""Spill-over: what one deployment cannot take another answers, and the answer says so."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import OpenSite
from tests.local import Tree, chat

PATH = "/v1/chat/completions"
REFUSING = {"kind": "echo", "failures": [{"when": "", "action": "refuse"}]}
LONG = " ".join(["word"] * 30)


def two(first: Tree, second: Tree, **fields: Any) -> list[Tree]:
    return [{"name": "first", "engine": first, "spill_to": "second"} | fields, {"name": "second", "engine": second}]


async def test_a_deployment_that_is_away_spills(site: OpenSite) -> None:
    open_site = site(deployments=two(REFUSING, {"kind": "echo"}))
    response = await open_site.client().post(PATH, json=chat("hello", model="first"))
    assert response.status_code == 200 and response.json()["model"] == "second"
    assert response.headers["x-ms-spillover-from-deployment"] == "first"
    assert response.headers["x-ms-deployment-name"] == "second"
    (line,) = open_site.log()
    assert (line["deployment"], line["outcome"], line["completion_tokens"]) == ("second", "ok", 1)


async def test_a_stream_spills_before_its_first_token(site: OpenSite) -> None:
    client = site(deployments=two(REFUSING, {"kind": "echo"})).client()
    response = await client.post(PATH, json=chat("hello", model="first", stream=True))
    assert response.status_code == 200 and b"hello" in response.content


async def test_a_prompt_that_is_too_long_spills_to_a_longer_context(site: OpenSite) -> None:
    client = site(deployments=two({"kind": "echo", "max_model_len": 8}, {"kind": "echo"})).client()
    assert (await client.post(PATH, json=chat(LONG, model="first"))).json()["model"] == "second"


async def test_a_limit_of_the_deployment_spills_and_one_of_the_key_does_not_help(site: OpenSite) -> None:
    deployments = two({"kind": "echo"}, {"kind": "echo"})
    client = site(deployments=deployments, quotas={"defaults": {"key": {"requests_per_minute": 1}}}).client()
    assert (await client.post(PATH, json=chat(model="first"))).status_code == 200
    refused = await client.post(PATH, json=chat(model="first"))
    assert (refused.status_code, refused.headers["x-ms-spillover-error"]) == (429, "429")
    assert refused.headers["x-ms-deployment-name"] == "first"


async def test_when_both_fail_the_first_ones_error_is_told(site: OpenSite) -> None:
    client = site(deployments=two(REFUSING, {"kind": "echo", "max_model_len": 8})).client()
    response = await client.post(PATH, json=chat(LONG, model="first"))
    assert (response.status_code, response.headers["x-ms-spillover-error"]) == (503, "400")


async def test_a_wrong_request_does_not_spill(site: OpenSite) -> None:
    client = site(deployments=two({"kind": "echo"}, {"kind": "echo"})).client()
    response = await client.post(PATH, json=chat(model="first", n=99))
    assert response.status_code == 400 and "x-ms-spillover-error" not in response.headers


async def test_a_client_may_name_where_to_spill(site: OpenSite) -> None:
    deployments = [{"name": "first", "engine": REFUSING}, {"name": "second", "engine": {"kind": "echo"}}]
    client = site(deployments=deployments).client()
    asked = {"x-ms-spillover-deployment": "second"}
    assert (await client.post(PATH, json=chat(model="first"), headers=asked)).status_code == 200
    assert (await client.post(PATH, json=chat(model="first"))).status_code == 503


def test_a_spill_to_nowhere_is_refused_when_the_settings_are_read() -> None:
    from serving.settings import SettingsError, parse

    with pytest.raises(SettingsError, match="spill_to of 'first' names no deployment"):
        parse({"deployments": two({"kind": "echo"}, {"kind": "echo"})[:1]})
