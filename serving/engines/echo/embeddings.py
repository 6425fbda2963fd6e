"""Vectors of the echo engine: of length 1, from a hash of the text, so equal texts and only they have equal vectors."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
from typing import Any

from serving.engines.engine import EngineRequest
from serving.errors import InvalidRequest

DIMENSIONS = 64
MOST_DIMENSIONS = 4096


def vector_of(text: str, dimensions: int) -> list[float]:
    """As with models that are trained for it, fewer dimensions are the first of more, made as long again."""
    raw = struct.unpack(f"<{dimensions}i", hashlib.shake_256(text.encode()).digest(4 * dimensions))
    length = math.sqrt(sum(value * value for value in raw)) or 1.0
    return [value / length for value in raw]


def embeddings(request: EngineRequest, inputs: list[str], prompt_tokens: int) -> bytes:
    """The answer to an embeddings request. base64 is of little-endian float32 (azure-wire-format, rule 7).

    Raises InvalidRequest.
    """
    dimensions = request.body.get("dimensions") or DIMENSIONS
    if dimensions > MOST_DIMENSIONS:
        raise InvalidRequest(f"'dimensions' may be {MOST_DIMENSIONS} at most for this model.", param="dimensions")
    as_base64 = request.body.get("encoding_format") == "base64"
    data: list[dict[str, Any]] = []
    for index, text in enumerate(inputs):
        vector = vector_of(text, dimensions)
        packed = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode() if as_base64 else vector
        data.append({"object": "embedding", "index": index, "embedding": packed})
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    answer = {"object": "list", "data": data, "model": request.body.get("model"), "usage": usage}
    return json.dumps(answer).encode()
