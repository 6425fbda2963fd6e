"""Why a model's server refuses a request is told in our words, and none of its own are."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

from serving.engines.reasons import reason_in
from serving.engines.refusals import translated

CANARY = "Zebulon-Quackenbush-19470231"
SAID = {
    f"/models/{CANARY} is not a multimodal model": ("reads text only", "messages"),
    "At most 0 image(s) may be provided in one prompt.": ("takes no media", "messages"),
    "At most 3 image(s) may be provided in one prompt.": ("takes 3 of this kind", "messages"),
    f"Failed to load image: cannot identify image file {CANARY}": ("cannot be read", "messages"),
    "Conversation roles must alternate user/assistant/user/assistant/...": ("turns", "messages"),
    "After the optional system message, conversation roles must alternate user/assistant": ("turns", "messages"),
    "Only user, assistant and tool roles are supported!": ("turns", "messages"),
    "System role not supported": ("no system message", "messages"),
    "System message must be at the beginning.": ("turns", "messages"),
    f"Unexpected message role. {CANARY}": ("role", "messages"),
    '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set': ("auto", "tool_choice"),
    f"Token id 99999 is out of vocabulary {CANARY}": ("vocabulary", "prompt"),
    f"min_tokens must be less than or equal to max_tokens=3, got {CANARY}": ("min_tokens", "min_tokens"),
    f"Model '{CANARY}' does not support Matryoshka representation": ("one size", "dimensions"),
    "when using `top_logprobs`, `logprobs` must be set to true.": ("logprobs: true", "top_logprobs"),
}


@pytest.mark.parametrize("message", SAID)
def test_the_reason_and_the_field_are_told_and_no_text_of_the_request(message: str) -> None:
    said, param = SAID[message]
    error = translated(400, {"message": message, "param": None}, ours=True)
    assert said in error.message and error.param == param and CANARY not in error.message


@pytest.mark.parametrize("message", ["", f"Something about {CANARY}", "x" * 100_000, f"{CANARY} only user role"])
def test_a_reason_that_nobody_knows_is_not_passed_on(message: str) -> None:
    assert reason_in(message) is None
    assert CANARY not in translated(400, {"message": message}, ours=True).message


IN_VLLM = [
    "is not a multimodal model", "(s) may be provided in one prompt", "Failed to load image",
    "--enable-auto-tool-choice",
    "does not match any", "`tools` must not be an empty array", "`logprobs` must be set to true",
    "min_tokens must be less than or equal to", "is out of vocabulary", "out-of-vocab", "prompt cannot be empty",
    "does not support Matryoshka", "only supports Matryoshka", "Cannot set both `continue_final_message` and",
    "`prompt_logprobs` are not available when", "When using `tool_choice`, `tools` must be set",
]  # fmt: skip


@pytest.mark.parametrize("words", IN_VLLM)
def test_vllm_still_says_it_so(words: str) -> None:
    found = importlib.util.find_spec("vllm")
    assert found and found.origin
    search = ["grep", "-rqF", "--include=*.py", "--", words, str(Path(found.origin).parent)]
    assert subprocess.run(search, check=False).returncode == 0
