"""Gateways apart from engines: the pair of stories fits together, and one works through the other."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import yaml
from starlette.types import ASGIApp

from serving.app import build_keyring, open_office, process_app
from serving.settings import parse
from tests.helm.chart import Rendered, Tree, render, story
from tests.helm.reach import Network, Place, pods_of
from tests.local import listening

PORTS = (8000, 8265, 52365, 6379, 10001, 30000, 9464, 8080, 443)


def side(name: str) -> Rendered:
    """As its first lines say how to install it."""
    return render(story(name), release=name, namespace=name)


def test_a_gateway_reaches_the_engines_api_and_nothing_else_of_them_and_they_reach_nothing_of_it() -> None:
    front, back = pods_of(side("gateways"), "gateways"), pods_of(side("engines"), "engines")
    ours, theirs = Network(side("gateways"), "gateways"), Network(side("engines"), "engines")

    def lets(of: Place, to: Place, port: int) -> bool:
        return ours.lets(of, to, port) and theirs.lets(of, to, port)

    forth = {(a, b, port) for a, of in front.items() for b, to in back.items() for port in PORTS if lets(of, to, port)}
    assert forth == {("gateway", "gateway", 8000), ("gateway", "engine", 8000)}
    assert not [(a, b) for a, of in back.items() for b, to in front.items() for port in PORTS if lets(of, to, port)]


def test_they_share_no_secret_and_name_each_other_rightly() -> None:
    front, back = side("gateways"), side("engines")
    assert story("gateways")["secrets"]["existingSecret"] != story("engines")["secrets"]["existingSecret"]
    (engine,) = (one["engine"] for one in story("gateways")["deployments"])
    service = f"{back.rayservice['metadata']['name']}-serve-svc.{back_namespace()}"
    assert engine["url"] == f"http://{service}:8000/v1"
    assert {one["name"] for one in story("gateways")["deployments"]} <= {
        one["name"] for one in back.serve_config["applications"][0]["args"]["config"]["deployments"]
    }
    assert set(front.groups) == {"gateway"} and "a10" in back.groups
    (vllm,) = (one["engine"] for one in story("engines")["deployments"])
    assert vllm["args"]["enable_prefix_caching"] is False


def back_namespace() -> str:
    (rule,) = story("gateways")["networkPolicy"]["gatewayEgress"]
    return str(rule["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"])


def assembled(name: str, folder: Path, engine: Tree) -> tuple[ASGIApp, str]:
    """The story's own configuration, on this machine: without Ray, PostgreSQL and Redis. And a key."""
    config = yaml.safe_load(side(name).one("ConfigMap", "-next-config")["data"]["clinserve.yaml"])
    config["server"] |= {"host": "127.0.0.1", "runtime": "process", "state_dir": str(folder)}
    config["gateway"] = {}
    config.pop("batches", None)
    for store, setting in (("database", "url"), ("quotas", "redis")):
        config.get(store, {}).pop(setting, None)
    deployment = config["deployments"][0]
    config["deployments"] = [{"name": deployment["name"], "engine": engine}]
    settings = parse(config)
    with open_office(settings) as office:
        office.administration.ensure_tenant("ward")
    return process_app(settings), build_keyring(settings).mint("ward", "tests")[1].reveal()


def test_a_chat_and_its_stream_go_through_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    back, key = assembled("engines", tmp_path / "engines", {"kind": "echo"})
    (engine,) = (one["engine"] for one in story("gateways")["deployments"])
    with listening(back) as behind:
        monkeypatch.setenv(engine["key_env"], key)
        front, ours = assembled("gateways", tmp_path / "gateways", engine | {"url": f"{behind}/v1"})
        assert ours != key
        with listening(front) as url:
            body = {"model": "medgemma-4b", "messages": [{"role": "user", "content": "one two"}], "top_k": 5, "seed": 1}
            headers = {"authorization": f"Bearer {ours}"}
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers)
            assert (answer.status_code, answer.json()["model"]) == (200, "medgemma-4b"), answer.text
            assert answer.json()["usage"]["completion_tokens"] > 0
            whole = answer.json()["choices"][0]["message"]["content"]
            with httpx.stream(
                "POST", f"{url}/v1/chat/completions", json=body | {"stream": True}, headers=headers
            ) as stream:
                text = stream.read().decode()
            assert text.endswith("data: [DONE]\n\n") and whole.split()[0] in text
            refused = httpx.post(f"{behind}/v1/chat/completions", json=body, headers=headers)
            assert refused.status_code == 401, "a tenant's key opens nothing behind"
