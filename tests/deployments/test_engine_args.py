"""vLLM's engine arguments, known without importing vLLM."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serving.deployments.engine_args import RESERVED, known_names, problems_with, with_backend
from serving.deployments.model_replica import engine_kwargs
from serving.settings import load

CONFIGS = sorted((Path(__file__).parents[2] / "deploy" / "configs").glob("*.yaml"))
CONFIGS.remove(CONFIGS[0].with_name("adapters.yaml"))  # a list that demo-adapters.yaml names
KNOWN = known_names()
needs_vllm = pytest.mark.skipif(not KNOWN, reason="vLLM is not installed")


@needs_vllm
def test_the_arguments_that_our_configurations_use_are_known() -> None:
    assert {"max_model_len", "max_num_seqs", "enforce_eager", "gpu_memory_utilization", "tool_call_parser"} <= KNOWN
    assert {"enable_prompt_tokens_details", "enable_auto_tool_choice", "quantization", "dtype"} <= KNOWN


@needs_vllm
def test_every_reserved_argument_is_one_that_vllm_has() -> None:
    assert RESERVED.keys() <= KNOWN


@needs_vllm
@pytest.mark.parametrize(
    ("typo", "meant"),
    [("max_model_length", "max_model_len"), ("max-num-seqs", "max_num_seqs"), ("enforce_eagre", "enforce_eager")],
)
def test_a_typo_is_answered_with_the_nearest_argument(typo: str, meant: str) -> None:
    assert problems_with({typo: 1}, KNOWN) == [
        f"engine.args.{typo}: vLLM has no such argument; did you mean '{meant}'?"
    ]


def test_an_argument_like_no_other_is_refused_without_a_hint() -> None:
    assert problems_with({"xyzzy": 1}, frozenset({"dtype"})) == ["engine.args.xyzzy: vLLM has no such argument"]


@pytest.mark.parametrize("name", RESERVED)
def test_a_reserved_argument_is_answered_with_what_to_set_instead(name: str) -> None:
    assert problems_with({name: 1}, KNOWN | {name}) == [f"engine.args.{name}: set {RESERVED[name]} instead"]


def test_without_vllm_only_the_reserved_ones_are_refused() -> None:
    assert problems_with({"max_model_length": 1, "model": 1}, frozenset()) == [
        "engine.args.model: set model.source instead"
    ]


def test_good_arguments_are_no_problem() -> None:
    assert problems_with({"dtype": "auto"}, frozenset({"dtype"})) == []


def test_knowing_them_imports_no_vllm() -> None:
    code = """
import sys
from serving.deployments.engine_args import known_names
known_names()
print({"vllm", "ray", "torch"} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("backend", ["auto", "guidance", "outlines", "lm-format-enforcer", None, 7])
def test_a_backend_that_schemas_are_not_checked_with_is_refused_with_the_reason(backend: object) -> None:
    (problem,) = problems_with({"structured_outputs_config": {"backend": backend}}, KNOWN)
    assert problem.startswith("engine.args.structured_outputs_config.backend: leave it out, or write 'xgrammar': ")
    assert ("keeps the first backend" in problem) == (backend == "auto")


@pytest.mark.parametrize("given", ["{backend: xgrammar}", ["xgrammar"], None])
def test_a_backend_that_is_hidden_in_another_value_is_refused(given: object) -> None:
    (problem,) = problems_with({"structured_outputs_config": given}, KNOWN)
    assert "must be a mapping" in problem


def test_the_backend_is_said_whatever_a_configuration_leaves_out() -> None:
    assert problems_with({"structured_outputs_config": {"disable_any_whitespace": True}}, KNOWN) == []
    assert with_backend({})["structured_outputs_config"] == {"backend": "xgrammar"}
    assert with_backend({"structured_outputs_config": {"disable_any_whitespace": True}}) == {
        "structured_outputs_config": {"disable_any_whitespace": True, "backend": "xgrammar"}
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_that_is_shipped_tells_vllm_the_backend(path: Path) -> None:
    for deployment in load(path, {}, elsewhere=True).deployments:
        if deployment.engine.kind == "vllm":
            assert engine_kwargs(deployment, {})["structured_outputs_config"]["backend"] == "xgrammar"
