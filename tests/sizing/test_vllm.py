"""Sizes and KV cache as they are worked out here are those that vLLM's own code makes of the same config.json."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from serving.sizing.catalog import catalog
from serving.sizing.gpus import gpu_named
from serving.sizing.plan import Plan, Question, plan
from tests.sizing import vllm_view

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.timeout(300),
]

MODELS = catalog()
ROOT = Path(__file__).parents[2]
# Besides each model as it is: what changes how memory is divided.
SPECIAL = {
    "four GPUs": ("med42-v2-70b", "H100", Question(gpus=4)),
    "fewer KV heads than GPUs": ("baichuan-m3-235b", "H200", Question(gpus=8)),
    "windows, two GPUs, whole context": ("medgemma-27b-text", "A100", Question(gpus=2, context=131072)),
    "8-bit cache": ("baichuan-m2-32b", "A100", Question(kv_dtype="fp8")),
    "8-bit cache with windows": ("medgemma-4b", "L4", Question(kv_dtype="fp8")),
}
CASES = {name: (name, "H200", Question(at_least=2)) for name in MODELS} | SPECIAL


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    return {
        name: plan(MODELS[model].architecture, gpu_named(gpu), question)
        for name, (model, gpu, question) in CASES.items()
    }


@pytest.fixture(scope="module")
def seen(plans: dict[str, Plan], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """vLLM's answers, from one process: its import takes longer than all the rest."""

    def case(name: str, found: Plan) -> dict[str, Any]:
        directory = tmp_path_factory.mktemp("model")
        (directory / "config.json").write_text(json.dumps(MODELS[CASES[name][0]].config))
        return {
            "directory": str(directory),
            "gpus": found.gpus,
            "context": found.context,
            "memory": int(found.memory.kv),
            "in_flight": found.kv.in_flight,
            "kv_bytes": 1 if found.question.kv_dtype == "fp8" else 2,
        }

    cases = json.dumps([case(name, found) for name, found in plans.items()])
    command = [sys.executable, "-m", vllm_view.__name__]
    done = subprocess.run(command, input=cases, capture_output=True, text=True, timeout=240, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(plans, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_vllm_reads_the_same_sizes_out_of_an_entry(name: str, seen: dict[str, dict[str, Any]]) -> None:
    ours, theirs = MODELS[name].architecture, seen[name]
    assert (ours.layers, ours.heads, ours.kv_heads, ours.head_dim, ours.hidden, ours.vocabulary) == tuple(
        theirs[size] for size in ("layers", "heads", "kv_heads", "head_size", "hidden", "vocabulary")
    )
    assert ours.context <= theirs["context"]


@pytest.mark.parametrize("name", CASES)
def test_vllm_counts_as_many_tokens(name: str, plans: dict[str, Plan], seen: dict[str, dict[str, Any]]) -> None:
    found, theirs = plans[name], seen[name]
    assert (found.kv.blocks, len(found.kv.windows)) == (theirs["blocks"], theirs["groups"])
    assert found.kv_tokens == theirs["tokens"]


def test_it_would_be_noticed_if_they_differed(plans: dict[str, Plan], seen: dict[str, dict[str, Any]]) -> None:
    name = "medgemma-27b-text"
    without = replace(plans[name].kv, windows=(None,) * len(plans[name].kv.windows))
    assert without.tokens(plans[name].context) < 0.6 * seen[name]["tokens"]
