"""The demo model from Azure Blob Storage (Azurite) on real vLLM: fetched before the start, and by a replica itself."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import psutil
import pytest
import yaml

from serving.azure_storage import KEY as KEY_VARIABLE
from serving.weights.digest import digest_of
from tests.azurite import KEY, Azurite
from tests.e2e.conftest import MODEL
from tests.e2e.product import ROOT, Product
from tests.weights.models import DEMO, stored

NOTE = "67-year-old woman with hypertension. Medications: lisinopril 10 mg daily. Allergies: penicillin (rash)."
ASK = [{"role": "user", "content": f"{NOTE} Any allergies?"}]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture
def product(tmp_path: Path, azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> Iterator[Product]:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    tree = yaml.safe_load((ROOT / "deploy/configs/demo.yaml").read_text())
    tree["weights"] = {"blob_endpoint": azurite.endpoint}
    tree["deployments"][0]["model"] |= {"source": str(stored(azurite)), "digest": digest_of(DEMO)}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    running = Product(tmp_path / "state", str(tmp_path / "config.yaml"))
    running.start()
    yield running
    processes = running.processes()
    assert running.stop(signal.SIGTERM) == 0  # as Kubernetes and systemd stop it
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []


def test_a_model_from_blob_storage_answers_and_a_replica_without_it_fetches_it(product: Product) -> None:
    place = product.state_dir / "models" / digest_of(DEMO).replace(":", "-")
    assert f"Weights of {MODEL}" in product.output and place.is_dir()

    def answer() -> str:
        client = openai.OpenAI(base_url=f"{product.url}/v1", api_key=product.key, timeout=120)
        said = client.chat.completions.create(model=MODEL, messages=ASK, temperature=0)  # type: ignore[arg-type]
        return said.choices[0].message.content or ""

    first = answer()
    assert "penicillin" in first.lower()
    shutil.rmtree(place)
    product.engine_core(MODEL).kill()
    end = time.monotonic() + 200
    while not (place.is_dir() and httpx.get(f"{product.url}/readyz", timeout=30).status_code == 200):
        assert time.monotonic() < end, product.output
        time.sleep(0.2)
    assert answer() == first
    command = [sys.executable, "-m", "serving.cli", "--config", product.config, "usage", "--records", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=product.environment, capture_output=True, text=True, check=True)
    assert {record["revision"] for record in json.loads(done.stdout)} == {digest_of(DEMO)}
