"""vLLM's engine arguments, known without importing vLLM."""

from __future__ import annotations

import subprocess
import sys

import pytest

from serving.deployments.engine_args import RESERVED, known_names, problems_with

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
