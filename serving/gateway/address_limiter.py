"""How much one address may do before anybody knows who it is."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address


class AddressLimiter:
    """So many at once from each address, then one in `every` seconds; the delay grows with each that comes sooner.

    burst: how many at once. longest: seconds, which no delay exceeds. size: how many addresses are remembered; beyond,
    the one that was quiet for longest is forgotten.
    """

    def __init__(
        self,
        *,
        every: float,
        burst: int,
        longest: float = 60.0,
        size: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every = every
        self._free = every * (burst - 1)
        self._longest = longest
        self._size = size
        self._clock = clock
        self._paid_until: OrderedDict[str, float] = OrderedDict()
        """By source, when what it did so far is paid for, at one in `every` seconds."""

    def take(self, address: str) -> float:
        """Count one more. Seconds that it has to wait; 0.0 while there is room."""
        source, now = source_of(address), self._clock()
        until = max(now, self._paid_until.pop(source, now))
        self._paid_until[source] = min(until + self._every, now + self._free + self._longest)
        if len(self._paid_until) > self._size:
            self._paid_until.popitem(last=False)
        return max(0.0, until - now - self._free)

    def delay(self, address: str) -> float:
        """What `take` would say, without counting."""
        now = self._clock()
        return max(0.0, self._paid_until.get(source_of(address), now) - now - self._free)


def source_of(address: str) -> str:
    """Who is behind an address: of IPv6 the /64, in which a client has as many as it likes. Empty for what is none."""
    try:
        given = ip_address(address)
    except ValueError:
        return ""
    if isinstance(given, IPv6Address):
        if given.ipv4_mapped is None:
            return str(IPv6Address(int(given) >> 64 << 64))
        return str(given.ipv4_mapped)
    return str(given)
