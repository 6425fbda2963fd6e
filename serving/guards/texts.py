"""Where the texts of a request and of an answer are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_LARGE = 64 * 2**10
_NO_TEXT = frozenset(
    {"role", "type", "id", "index", "tool_call_id", "image_url", "input_audio", "audio_url", "video_url"}
)
"""Names of the protocol, and media. Every other string is text, also what is not known today."""


def prompts_of(body: dict[str, Any]) -> list[list[str]]:
    """The texts of each prompt in a request: a chat is one, with all its messages and tools; so are the inputs of an
    embeddings request. A prompt of token ids has none: what it says is known to the model alone.
    """
    if "messages" in body:
        texts = [text for _, text in texts_of({"messages": body["messages"]})]
        # Names of properties count too, and so do descriptions: the model reads the whole schema.
        extras = [json.dumps(body[name], ensure_ascii=False) for name in ("tools", "response_format") if body.get(name)]
        return [texts + extras]
    if "input" in body:
        return [_strings_in(body["input"])]
    prompt, suffix = body.get("prompt"), _strings_in(body.get("suffix"))
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        return [_strings_in(item) + suffix for item in prompt]
    return [_strings_in(prompt) + suffix]


def is_large(body: dict[str, Any]) -> bool:
    """Would it keep others waiting to find its texts here and now? Cheap, and rather too often yes."""
    size = 0
    for message in body.get("messages") or ():
        content = message.get("content")
        size += 100 + (len(content) if isinstance(content, str) else 1000 * len(content or ()))
        size += 1000 * len(message.get("tool_calls") or ())
    prompt = body.get("prompt") or body.get("input")
    size += 100 * len(prompt) if isinstance(prompt, list) else 0
    return size + 1000 * len(body.get("tools") or ()) > _LARGE


def _strings_in(value: object) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, str)]


def texts_of(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The texts of a message or of a stream's delta, each with its path, in their order; empty ones left out.

    An item of a list goes by its own `index` if it has one, so that `tool_calls` have the same paths in both.
    Iterative: the input chooses the depth.
    """
    found: list[tuple[str, object]] = [("", message)]
    while found:
        path, value = found.pop()
        if isinstance(value, str):
            if value:
                yield path, value
        elif isinstance(value, dict):
            found += [(f"{path}.{name}", item) for name, item in reversed(value.items()) if name not in _NO_TEXT]
        elif isinstance(value, list):
            found += [(f"{path}[{_index_of(item, at)}]", item) for at, item in reversed(list(enumerate(value)))]


def _index_of(item: object, position: int) -> object:
    return item.get("index", position) if isinstance(item, dict) else position


def answer_in(choice: dict[str, Any]) -> dict[str, Any]:
    """The part of a choice that holds its text: of a chat, streamed or whole, or of a text completion."""
    for name in ("delta", "message"):
        if isinstance(choice.get(name), dict):
            part: dict[str, Any] = choice[name]
            return part
    return {"text": choice.get("text")}


def well_formed(text: str) -> str:
    """The text with half surrogates, which JSON can hold and UTF-8 cannot, as question marks; as long as before."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text
