"""JSON schemas on real vLLM, configured as production is: which says nothing of a backend."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.conftest import MODEL
from tests.e2e.product import ROOT, Product

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
CANARY = "Quackenbush"
DEMO = ROOT / "deploy" / "configs" / "demo.yaml"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The demonstration, which says nothing of a backend here; a small model would fill its answer with white space."""
    tree = yaml.safe_load(DEMO.read_text())
    (deployment,) = tree["deployments"]
    deployment["model"]["source"] = str((DEMO.parent / deployment["model"]["source"]).resolve())
    del deployment["engine"]["args"]["structured_outputs_config"]["backend"]
    config = tmp_path_factory.mktemp("config") / "plain.yaml"
    config.write_text(yaml.safe_dump(tree))
    running = Product(tmp_path_factory.mktemp("state"), str(config))
    running.start()
    yield running
    running.stop()


def ask(product: Product, **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "A list."}], "max_tokens": 64} | fields
    headers = {"authorization": f"Bearer {product.key}"}
    return httpx.post(f"{product.url}/v1/chat/completions", headers=headers, json=body, timeout=60)


def of(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}


def properties(**schemas: Any) -> dict[str, Any]:
    return {"type": "object", "properties": schemas, "required": list(schemas), "additionalProperties": False}


def test_one_schema_does_not_decide_about_the_next(plain: Product) -> None:
    ordinary = ask(plain, **of(properties(a={"enum": ["x", "y"]})))
    assert json.loads(ordinary.json()["choices"][0]["message"]["content"])["a"] in ("x", "y")
    refused = ask(plain, **of({"type": "string", "pattern": "^[a-z]+$", "maxLength": 3}))
    assert refused.status_code == 400 and "not supported beside 'pattern'" in refused.text
    answered = ask(plain, **of({"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 4}))
    assert answered.status_code == 200, answered.text
    assert set(json.loads(answered.json()["choices"][0]["message"]["content"])) <= {"a", "b"}
    again = ask(plain, **of(properties(a={"type": "string", "pattern": "^[a-z]{1,3}$"})))
    assert 1 <= len(json.loads(again.json()["choices"][0]["message"]["content"])["a"]) <= 3


DEAR = [
    {"type": "string", "pattern": "^[a-z]{1,50000}$"},  # refused as it is read
    properties(**{c: {"type": "string", "pattern": f"^(([{c}-z]{{1,6}}){{1,6}}){{1,6}}$"} for c in "abcd"}),  # compiled
]


def test_a_dear_schema_is_400_at_once_while_others_go_on(plain: Product) -> None:
    engine, texts = plain.engine_core(MODEL), []

    def stream() -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Go on."}], "stream": True}
        body |= {"max_tokens": 1500, "min_tokens": 1500, "ignore_eos": True}
        headers = {"authorization": f"Bearer {plain.key}"}
        with httpx.stream(
            "POST", f"{plain.url}/v1/chat/completions", headers=headers, json=body, timeout=120
        ) as response:
            texts.extend(response.iter_lines())

    bystander = threading.Thread(target=stream)
    bystander.start()
    while not texts:
        time.sleep(0.05)
    began = time.monotonic()
    first = ask(plain, **of(DEAR[0]))
    assert first.status_code == 400 and time.monotonic() - began < 3
    assert first.json()["error"]["param"] == "response_format"
    second = ask(plain, **of(DEAR[1]))
    assert second.status_code == 400 and second.json()["error"]["code"] == "schema_refused", second.text
    tool = {"type": "function", "function": {"name": "f", "parameters": DEAR[1]}}
    third = ask(plain, tools=[tool], tool_choice="required")
    assert third.status_code == 400 and third.json()["error"]["param"] == "tools", third.text
    bystander.join()
    assert texts[-2:] == ["data: [DONE]", ""]
    assert engine.is_running() and plain.engine_core(MODEL).pid == engine.pid


def test_nothing_of_a_schema_is_in_any_log(plain: Product) -> None:
    for schema, status in [
        ({"type": CANARY}, 400),
        (properties(**{CANARY: {"const": CANARY}}), 200),
        ({"anyOf": [{"$ref": f"#/$defs/{CANARY}"}], "$defs": {CANARY: {"enum": [CANARY]}}}, 200),
        ({"oneOf": [{"type": "string", "maxLength": 3}, {"type": "string", "title": CANARY}]}, 200),
        ({"type": "object", "properties": {CANARY: {"type": "string"}}, "minProperties": 9}, 400),
        ({"$ref": f"https://{CANARY}"}, 400),
        ({"type": "string", "pattern": f"^(?={CANARY})a$"}, 400),
    ]:
        answer = ask(plain, **of(schema))
        assert answer.status_code == status, (schema, answer.text)
        assert status == 200 or CANARY not in answer.text
    for folder in (plain.logs, plain.state_dir):
        for file in folder.rglob("*"):
            if file.is_file() and "canary" not in file.name:
                assert CANARY.encode() not in file.read_bytes(), file
    assert CANARY not in plain.output
