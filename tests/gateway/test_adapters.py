"""LoRA adapters as models: listed with their parent, called by name, with their deployment's rights and limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving import app as assembly
from serving import settings as config
from serving.batches.lines import Inspection
from serving.tenants.callers import Caller
from tests.conftest import OpenSite, no_replicas, settings_of
from tests.local import RecordingEngine, Tree, chat, error_of

DIGESTS = {"radiology": "sha256:" + "1" * 64, "oncology": "sha256:" + "2" * 64}
ADAPTERS = [{"name": name, "source": f"hf://lab/{name}", "digest": digest} for name, digest in DIGESTS.items()]
RADIOLOGY = "echo:radiology"
LOADED = RADIOLOGY + "@" + "1" * 12


def deployments(**fields: Any) -> dict[str, list[Tree]]:
    return {"deployments": [{"name": "echo", "engine": {"kind": "echo"}, "adapters": ADAPTERS, **fields}]}


async def test_they_follow_their_deployment_in_the_list_and_name_it_as_their_parent(site: OpenSite) -> None:
    adapters = [ADAPTERS[0] | {"notice": "For chest films only."}, ADAPTERS[1]]
    cards = (await site(**deployments(adapters=adapters)).client().get("/v1/models")).json()["data"]
    assert [(card["id"], card.get("parent")) for card in cards] == [
        ("echo", None), (RADIOLOGY, "echo"), ("echo:oncology", "echo"),
    ]  # fmt: skip
    assert cards[1]["description"] == "For chest films only."


@pytest.mark.parametrize("name", [RADIOLOGY, LOADED])
async def test_one_is_found_by_its_name_and_by_the_one_that_answers_carry(site: OpenSite, name: str) -> None:
    card = (await site(**deployments()).client().get(f"/v1/models/{name}")).json()
    assert (card["id"], card["parent"]) == (RADIOLOGY, "echo")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat(model=RADIOLOGY)),
        ("/openai/deployments/echo:radiology/chat/completions?api-version=2024-10-21", chat()),
        ("/openai/deployments/echo%3Aradiology/chat/completions?api-version=2024-10-21", chat()),
        ("/models/chat/completions?api-version=2024-05-01-preview", chat(model=RADIOLOGY)),
    ],
)
async def test_a_request_names_one_as_it_names_a_deployment(site: OpenSite, path: str, body: Tree) -> None:
    here = site(**deployments())
    response = await here.client().post(path, json=body)
    assert response.status_code == 200
    assert response.headers["x-ms-deployment-name"] == RADIOLOGY
    (line,) = here.log()
    assert (line["deployment"], line["adapter"]) == ("echo", "radiology")
    told = 'clinserve_adapter_requests_total{adapter="radiology",deployment="echo",result="ok"} 1.0'
    assert told in (await here.client().get("/metrics")).text


async def test_the_engine_is_asked_for_the_weights_that_are_listed(site: OpenSite) -> None:
    engine = RecordingEngine()
    client = site(engine, **deployments()).client()
    await client.post("/v1/chat/completions", json=chat(model=RADIOLOGY))
    await client.post("/v1/chat/completions", json=chat())
    assert [asked.adapter for asked in engine.asked] == [LOADED, ""]


async def test_an_unknown_one_is_404_with_the_nearest_real_name(site: OpenSite) -> None:
    client = site(**deployments()).client()
    response = await client.post("/v1/chat/completions", json=chat(model="echo:radiologie"))
    assert f"Did you mean '{RADIOLOGY}'?" in error_of(response, 404, "model_not_found")["message"]
    error_of(await client.get("/v1/models/elsewhere:radiology"), 404, "model_not_found")


def test_who_may_call_the_deployment_may_call_its_adapters_and_nobody_else(site: OpenSite) -> None:
    catalog = assembly.build_parts(site(**deployments()).settings, no_replicas).catalog
    may = Caller("ward", "key", "key", deployments=frozenset({"echo"}))
    may_not = Caller("ward", "key", "key", deployments=frozenset({RADIOLOGY}))
    assert catalog.resolve(RADIOLOGY, may).model == RADIOLOGY
    with pytest.raises(Exception, match="may not call"):
        catalog.resolve(RADIOLOGY, may_not)
    assert catalog.models_of(may_not) == []


async def test_the_deployments_limits_count_for_them_together(site: OpenSite) -> None:
    here = site(**deployments(limits={"max_tokens": 8}))
    response = await here.client().post("/v1/chat/completions", json=chat(model=RADIOLOGY, max_tokens=9))
    assert "the deployment 'echo' allows 8" in error_of(response, 400, "invalid_request")["message"]


async def test_one_does_not_spill_because_something_else_would_answer(site: OpenSite) -> None:
    other = {"name": "other", "engine": {"kind": "echo"}}
    fails = deployments(engine={"kind": "echo", "failures": [{"action": "refuse"}]}, spill_to="other")["deployments"]
    client = site(deployments=[*fails, other]).client()
    assert (await client.post("/v1/chat/completions", json=chat())).headers["x-ms-deployment-name"] == "other"
    response = await client.post("/v1/chat/completions", json=chat(model=RADIOLOGY))
    error_of(response, 503, "engine_unavailable")


def test_a_batchs_lines_may_name_one() -> None:
    line = b'{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"echo:radiology"}}'
    inspection = Inspection("/v1/chat/completions", Caller("ward", "key", "key"), {"echo"}, most=5)
    inspection.look(1, line)
    assert (inspection.problems, inspection.model) == ([], RADIOLOGY)


WRONG = [
    (ADAPTERS * 2, "two adapters have the same name"),
    ([ADAPTERS[0] | {"name": "a:b"}], "adapters[0]: name: use lower-case letters"),
    ([ADAPTERS[0] | {"digest": "md5:1"}], "adapters[0].digest"),
    ([{"name": "radiology", "source": "hf://lab/radiology"}], "adapters[0].digest: Field required"),
    ([ADAPTERS[0] | {"source": "s3://bucket"}], "is no source of weights"),
    ([ADAPTERS[0] | {"rnak": 4}], "adapters[0].rnak: unknown setting"),
]


@pytest.mark.parametrize(("listed", "problem"), WRONG)
@pytest.mark.parametrize("inside", ["configuration", "file"])
def test_a_mistake_in_the_list_is_found_when_it_is_read(
    tmp_path: Path, listed: list[Tree], problem: str, inside: str
) -> None:
    (tmp_path / "more.yaml").write_text(str(listed))
    given = {"adapters": listed} if inside == "configuration" else {"adapters_file": str(tmp_path / "more.yaml")}
    with pytest.raises(config.SettingsError) as raised:
        settings_of(tmp_path, deployments=[{"name": "echo", "engine": {"kind": "echo"}, **given}])
    assert problem in str(raised.value)


def test_an_endpoint_elsewhere_has_its_own(tmp_path: Path) -> None:
    engine = {"kind": "http", "url": "http://host/v1"}
    with pytest.raises(config.SettingsError, match="an endpoint elsewhere has its own"):
        settings_of(tmp_path, **deployments(engine=engine))
