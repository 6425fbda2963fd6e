"""Where a server shows its metrics."""

import contextlib
import urllib.request
from urllib.parse import urlsplit


def metrics_page(base: str) -> str:
    """clinserve shows metrics on a port of its own, 1464 above the API's; others below the API's address."""
    found = urlsplit(base)
    beside = f"http://127.0.0.1:{(found.port or 80) + 1464}/metrics"
    if found.hostname in ("127.0.0.1", "localhost"):
        with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(beside, timeout=2) as answer:
            if answer.status == 200:
                return beside
    return f"{base}/metrics"
