"""What this gateway has sent where, and which caches therefore hold it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from serving.routing.prefix import BLOCK

_MOST = 32_768
"""Blocks that are remembered, of 16 MiB of text: about what a large GPU's cache holds. A few megabytes here."""
_HOLDERS = 64
"""Of one block, so that replicas that are long gone are forgotten too."""


class Known:
    """Which replicas hold a block, the block longest unused forgotten first, as their caches do."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._holders: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()

    def of(self, blocks: Sequence[bytes], replicas: Sequence[str]) -> dict[str, int]:
        """Bytes of the beginning that each of these replicas holds; those that hold none are left out."""
        found: dict[str, int] = {}
        holding = set(replicas)
        for number, block in enumerate(blocks, start=1):
            holding.intersection_update(self._holders.get(block, ()))
            if not holding:
                break
            found |= dict.fromkeys(holding, number * BLOCK)
        return found

    def learn(self, blocks: Sequence[bytes], replica: str) -> None:
        # From the end: of a beginning that is forgotten piece by piece, its first blocks go last.
        for block in reversed(blocks):
            holders = self._holders.get(block, ())
            if replica not in holders:
                self._holders[block] = (*holders[1 - _HOLDERS :], replica)
            self._holders.move_to_end(block)
        while len(self._holders) > self._most:
            self._holders.popitem(last=False)

    def __len__(self) -> int:
        return len(self._holders)
