"""`clinserve plan`: for people, for scripts, and as a block to configure."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from typer.testing import CliRunner, Result

from serving.cli import cli
from serving.settings import load

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "deploy" / "demo_model" / "clinical-demo"


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["plan", *words], env={"COLUMNS": "200"})


def test_people_get_memory_requests_speed_cost_and_what_it_all_rests_on() -> None:
    said = run("medgemma-27b-text", "--gpu", "H100", "--price", "6.98").stdout
    for word in ("weights", "KV cache", "8,192", "tokens a second", "A million tokens", "Assumptions", "Clinical Use"):
        assert word in said, word
    assert "no commit that was seen: pin one before use" in said


def test_scripts_get_the_same_as_json() -> None:
    told = json.loads(run("med42-v2-70b", "--gpu", "H200", "--length", "4096", "--price", "9", "--json").stdout)
    assert (told["tensor_parallel_size"], told["gpu"]) == (2, "H200")
    assert told["requests_at_a_time"].keys() == {"4096", "8192"}
    assert told["cost_per_million_tokens"]["answer"] > told["cost_per_million_tokens"]["prompt"] > 0
    assert len(told["assumptions"]) >= 5 and told["revision"]


def test_a_directory_is_a_model_too() -> None:
    told = json.loads(run(str(DEMO), "--gpu", "L4", "--json").stdout)
    assert told["source"] == str(DEMO) and told["max_model_len"] == 2048
    assert told["gpu_memory_bytes"]["weights"] == (DEMO / "model.safetensors").stat().st_size


def test_a_block_can_be_saved_and_served(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(run("huatuogpt-o1-7b", "--gpu", "H100", "--price", "7", "--as-deployment").stdout)
    (deployment,) = load(file, {}).deployments
    assert deployment.name == "huatuogpt-o1-7b" and deployment.model.revision and deployment.price


def test_the_example_for_gpus_is_what_the_plan_says() -> None:
    example = yaml.safe_load((ROOT / "deploy" / "configs" / "medgemma-27b.yaml").read_text())["deployments"][0]
    planned = yaml.safe_load(run("medgemma-27b-text", "--gpus", "2", "--as-deployment").stdout)["deployments"][0]
    assert example["engine"]["tensor_parallel_size"] == planned["engine"]["tensor_parallel_size"]
    assert example["engine"]["args"].items() >= planned["engine"]["args"].items()


def test_without_a_model_it_lists_the_catalogue() -> None:
    said = run().stdout
    assert "medgemma-1.5-4b" in said and "Health AI Developer Foundations" in said


def test_mistakes_are_one_line_with_the_nearest_name() -> None:
    for words, says in (
        (("medgemma-27",), "did you mean medgemma-27b"),
        (("medgemma-4b", "--gpu", "H1000"), "did you mean H100"),
        (("medgemma-4b", "--quantization", "fp-8"), "did you mean fp8"),
        (("medgemma-4b", "--length", "40000"), "longer than the context of 32,768"),
        (("baichuan-m3-235b", "--gpu", "L4"), "cannot hold 438 GiB of weights"),
    ):
        result = run(*words)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.output
        assert says in result.stderr
