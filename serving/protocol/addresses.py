"""Addresses to listen on, IPv4 and IPv6, and how they are reached and written in URLs (RFC 3986, 3.2.2)."""

from __future__ import annotations

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1", "": "127.0.0.1"}


def reachable(host: str) -> str:
    """Where this machine reaches what listens on `host`: an address for all interfaces is no destination."""
    return _ANY.get(host, host.removeprefix("[").removesuffix("]"))


def origin_of(host: str, port: int) -> str:
    """The URL of what listens there, as this machine asks it: `http://[::1]:8000` for `::`."""
    host = reachable(host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
