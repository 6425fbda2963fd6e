"""How busy each replica is with what this gateway has sent it.

Other gateways' requests are not seen. Each spreads its own evenly, and so the sum is even too; a count that came from
the replicas would be seconds old and send everybody to the same one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

RUNNING = 512
"""What a request costs the others while it runs, in bytes of a prompt that take as long to read: about 128 tokens."""


class Load:
    """In bytes of prompts that wait to be read. Interactive requests do not see lines of batches: those wait."""

    def __init__(self) -> None:
        self._interactive: defaultdict[str, int] = defaultdict(int)
        self._lines: defaultdict[str, int] = defaultdict(int)

    def add(self, replica: str, amount: int, *, line: bool) -> None:
        """A negative amount takes away."""
        of = self._lines if line else self._interactive
        of[replica] += amount
        if not of[replica]:
            del of[replica]

    def seen_by(self, *, line: bool) -> Mapping[str, int]:
        """By replica; one that has nothing is not there."""
        if not line:
            return self._interactive
        busy = self._interactive.keys() | self._lines.keys()
        return {replica: self._interactive.get(replica, 0) + self._lines.get(replica, 0) for replica in busy}
