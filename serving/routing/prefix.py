"""A request's leading text as routing sees it: digests of its stretches, never the text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from serving.engines.engine import EngineRequest

BLOCK = 512
"""Bytes of a stretch, about 128 tokens. vLLM's own blocks are smaller; what is shared is mostly much longer."""
_MOST = 256 * BLOCK
"""Looked at of one request: what goes on to share more than that has long been told apart."""
_IDS = _MOST // 4
"""Token ids of a prompt, of which there may be half a million: more are not looked at."""
_OPENING = 2 * BLOCK
"""Of the first message after the instructions: it names the patient, and later turns begin with it again."""
_INSTRUCTIONS = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Prefix:
    """blocks: a digest for each whole stretch, of all text up to its end. home: one for how the conversation begins,
    the same on all its turns; empty where there is too little to tell. size: all text, in bytes.

    The tenant's salt and the adapter are in every digest, as they are in those of vLLM's cache: what two tenants write
    never meets, and a digest says nothing to who has not the salt.
    """

    blocks: tuple[bytes, ...] = ()
    home: bytes = b""
    size: int = 0


def prefix_of(request: EngineRequest) -> Prefix:
    """Embeddings have none: their KV cache is not kept."""
    if request.operation == "embeddings":
        return Prefix()
    parts = list(_parts(request.body))
    text, opening = b"".join(part for part, _ in parts), 0
    for part, is_instruction in parts:
        opening += len(part) if is_instruction else min(len(part), _OPENING)
        if not is_instruction:
            break
    whole = min(len(text), _MOST) // BLOCK
    if not whole:
        return Prefix(size=len(text))
    digest = hashlib.blake2b(f"{request.cache_salt}\0{request.adapter}\0".encode(), digest_size=8)
    home = digest.copy()
    home.update(text[: min(opening, _MOST)])
    blocks = []
    for start in range(0, whole * BLOCK, BLOCK):
        digest.update(text[start : start + BLOCK])
        blocks.append(digest.digest())
    return Prefix(tuple(blocks), home.digest(), len(text))


def _parts(body: dict[str, Any]) -> Iterator[tuple[bytes, bool]]:
    """The text in the order in which a chat template writes it, and whether each part belongs to the instructions."""
    if "messages" not in body:
        prompt = body.get("prompt") or ""
        yield _bytes_of(prompt[0] if isinstance(prompt, list) and isinstance(prompt[0], str | list) else prompt), False
        return
    if tools := body.get("tools"):
        yield _bytes_of(tools), True
    for message in body["messages"]:
        role = str(message.get("role"))
        text = _bytes_of({name: value for name, value in message.items() if name not in ("role", "content")})
        yield b"\0%s\0%s%s" % (role.encode(), _bytes_of(message.get("content") or ""), text), role in _INSTRUCTIONS


def _bytes_of(value: object) -> bytes:
    if isinstance(value, list):
        value = value[:_IDS]
    text = value if isinstance(value, str) else json.dumps(value) if value else ""
    return text.encode(errors="surrogatepass")
