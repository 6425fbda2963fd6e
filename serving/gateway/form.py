"""A form: what an operation's answer is turned into before it is sent, such as a chat's into a response object."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

Blocks = AsyncGenerator[bytes, None]


class Form(Protocol):
    """of: the answer's blocks in the form that the client asked for. Streaming, each block is whole SSE events; else
    there is one, a JSON object. Whoever wraps blocks closes them (`aclosing`).
    """

    def of(self, blocks: Blocks) -> Blocks: ...


class Plain:
    """The answer as the engine gave it, untouched."""

    def of(self, blocks: Blocks) -> Blocks:
        return blocks


PLAIN: Form = Plain()
