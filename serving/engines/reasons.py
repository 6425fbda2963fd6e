"""Why a model's server refuses a request: its words by pattern, and ours for them. Its own may quote.

vLLM's are of 0.29 (tests/engines/test_reasons.py looks for them in the installed one); those of chat templates are of
Gemma's, Llama's, Mistral's and Qwen's. `{}` in our words is the pattern's first group, digits only.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Reason(NamedTuple):
    """What to say, and the field that it is about."""

    words: str
    param: str | None


_TURNS = "its chat template takes turns of user and assistant, after at most one system message at the beginning"

_REASONS: list[tuple[str, str, str | None]] = [
    # vLLM, media
    (r"is not a multimodal model", "it reads text only: leave out images, audio and video", "messages"),
    (r"At most 0 (?:image|audio|video|vision_chunk)\(s\)", "it takes no media of this kind", "messages"),
    (r"At most (\d+) (?:image|audio|video|vision_chunk)\(s\)", "it takes {} of this kind of media at most", "messages"),
    (r"Failed to load (?:image|audio|video)|cannot identify image", "media in it cannot be read", "messages"),
    # Chat templates
    (r"roles must alternate|[Oo]nly (?:the )?user[^.]{0,60}roles? (?:are|is) supported", _TURNS, "messages"),
    (r"[Ss]ystem (?:role|message)s? (?:is |are )?not supported", "its template takes no system message", "messages"),
    (r"[Ss]ystem message must be (?:at the beginning|first)", _TURNS, "messages"),
    (r"(?:Unexpected|Unknown|Invalid) (?:message )?role", "its chat template does not know a role", "messages"),
    (r"No user query found", "its chat template wants a message of the user", "messages"),
    (r"only supports single tool-calls", "its chat template takes one tool call a message", "messages"),
    (r"no first user message", "its chat template wants a user's message before tools", "messages"),
    (r"[Tt]ool call IDs? should be", "its chat template wants tool call ids of another form", "messages"),
    # vLLM, tools
    (r"--enable-auto-tool-choice",
     "tool_choice 'auto' is not enabled for it; name a tool, or say 'required'", "tool_choice"),
    (r"does not match any of the specified `tools`", "tool_choice names none of the tools", "tool_choice"),
    (r"When using `tool_choice`, `tools` must be set", "tool_choice wants tools", "tool_choice"),
    (r"`tools` must not be an empty array", "tools is empty: leave it out", "tools"),
    (r"structured outputs or tools, not both",
     "response_format and a required tool exclude each other", "response_format"),
    # vLLM, amounts
    (r"`logprobs` must be set to true", "top_logprobs wants logprobs: true", "top_logprobs"),
    (r"`prompt_logprobs` are not available when", "prompt_logprobs cannot be streamed", "prompt_logprobs"),
    (r"min_tokens must be less than or equal to", "min_tokens is above max_tokens", "min_tokens"),
    (r"Token id -?\d+ is out of vocabulary", "a token id is not of its vocabulary", "prompt"),
    (r"logit_bias.{0,40}out-of-vocab", "a token id is not of its vocabulary", "logit_bias"),
    (r"stop_token_ids.{0,60}out-of-vocab", "a token id is not of its vocabulary", "stop_token_ids"),
    (r"out-of-vocab", "a token id is not of its vocabulary", None),
    (r"prompt cannot be empty", "the prompt is empty", None),
    (r"does not support Matryoshka", "its vectors have one size only", "dimensions"),
    (r"only supports Matryoshka", "its vectors have other sizes", "dimensions"),
    (r"Cannot set both `continue_final_message` and",
     "continue_final_message and add_generation_prompt exclude each other", "continue_final_message"),
]  # fmt: skip
_TABLE = [(re.compile(pattern), words, param) for pattern, words, param in _REASONS]


def reason_in(message: str) -> Reason | None:
    """The reason that an endpoint's error message gives, if it is a known one. Looks at the first 2,000 characters."""
    head = message[:2000]
    for pattern, words, param in _TABLE:
        if found := pattern.search(head):
            return Reason(words.format(*found.groups()), param)
    return None
