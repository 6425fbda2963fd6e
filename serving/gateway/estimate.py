"""How many tokens a request will take, before an engine has seen it: cheap, and rather too many than too few.

A tokenizer in the gateway would cost more than the whole gateway. Bytes are counted instead, and how many tokens a byte
makes is learned from each deployment's finished requests. What was reserved too much is given back at the end.
"""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

_FIRST_GUESS = 0.5  # tokens a byte: English has 0.25, digits up to 1
_MARGIN = 1.1
_FORGET = 0.01  # of the difference, for each request that was cheaper
_PER_MESSAGE = 16  # what a chat template adds: roles and separators
_PER_MEDIA = 2048  # an image or a sound; its bytes say nothing about its tokens
_LEARNED_FROM = 200  # bytes: below, the template's own tokens are most of the prompt


class TokenEstimate:
    """One deployment's. Follows a dearer prompt at once and forgets it slowly."""

    def __init__(self) -> None:
        self._per_byte = _FIRST_GUESS

    def prompt(self, body: dict[str, Any]) -> int:
        """Tokens of the prompt in an OpenAI request body; token ids are counted as they are."""
        text, fixed = _measure(body)
        # A tokenizer that falls back to bytes makes one token of each at most.
        return fixed + int(text * min(1.0, self._per_byte * _MARGIN)) + 1

    def learn(self, body: dict[str, Any], tokens: int) -> None:
        """tokens: what the engine counted for this body's prompt."""
        text, fixed = _measure(body)
        if text < _LEARNED_FROM or tokens <= 0:
            return
        seen = min(1.0, max(0, tokens - fixed) / text)
        self._per_byte = seen if seen > self._per_byte else self._per_byte - _FORGET * (self._per_byte - seen)


def _measure(body: dict[str, Any]) -> tuple[int, int]:
    """Bytes of text, and tokens that are known without them."""
    if "messages" not in body:
        prompt = body.get("prompt") or body.get("input") or ""
        return _measure_prompt(prompt if isinstance(prompt, list) else [prompt])
    text = fixed = 0
    for message in body["messages"]:
        fixed += _PER_MESSAGE
        content = message.get("content")
        for part in content if isinstance(content, list) else [content]:
            if isinstance(part, dict) and part.get("type") not in (None, "text", "refusal"):
                fixed += _PER_MEDIA
            else:
                text += _bytes_of(part)
        text += _bytes_of(message.get("tool_calls")) + _bytes_of(message.get("name"))
    return text + _bytes_of(body.get("tools")) + _bytes_of(body.get("response_format")), fixed


def _measure_prompt(prompts: list[Any]) -> tuple[int, int]:
    text = fixed = 0
    if prompts and isinstance(prompts[0], int):
        return 0, len(prompts)
    for prompt in prompts:
        if isinstance(prompt, str):
            text, fixed = text + _bytes_of(prompt), fixed + 1
        else:
            fixed += len(prompt) if isinstance(prompt, list) else 1
    return text, fixed


def _bytes_of(value: object) -> int:
    """Bytes of a text, or of a JSON value as it is written."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
    return 0 if value is None else len(to_json(value))
