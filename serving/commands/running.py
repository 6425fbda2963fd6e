"""A running server as its clients see it: /readyz, its metrics, and with a key /admin/v1."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import httpx

from serving.commands.kept import HERE
from serving.settings import METRICS_ABOVE
from serving.telemetry.scrape import Scrape

_SECONDS = 8.0
"""For one answer: readiness waits for engines that are away."""

_SCRAPE_SECONDS = 2.0


class CannotReach(Exception):
    """One line that says what is wrong and what to do."""


class NoAnswer(CannotReach):
    """Nobody is there, or not in time."""


@dataclass(frozen=True, slots=True)
class TenantUse:
    tenant: str
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What a server says of itself at one moment. at: by the monotonic clock. problem: why it is not ready.
    status: of /admin/v1/status; None without a key. metrics: empty when they are off.
    """

    at: float
    problem: str | None
    status: dict[str, Any] | None
    metrics: Scrape

    @property
    def deployments(self) -> list[dict[str, Any]]:
        """As /admin/v1/status has them; without a key, the names that metrics tell, and nothing more."""
        if self.status is not None:
            found: list[dict[str, Any]] = self.status["deployments"]
            return found
        return [{"name": name} for name in sorted(self.metrics.by("deployment", "clinserve_requests_in_flight"))]

    @property
    def in_flight(self) -> dict[str, int]:
        return {name: int(n) for name, n in self.metrics.by("deployment", "clinserve_requests_in_flight").items()}


class Remote:
    """A server at an address. key: None for what is public."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url.rstrip("/")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=_SECONDS)
        self._has_key = key is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def read(self) -> Reading:
        """Raises CannotReach."""
        ready = self._get("/readyz")
        if ready.is_success and not _is_ours(ready):
            raise CannotReach(_message_of(ready))
        metrics = self._metrics()
        status = self._asked("/admin/v1/status") if self._has_key else None
        return Reading(
            at=time.monotonic(),
            problem=None if ready.is_success else _message_of(ready),
            status=status,
            metrics=_scrape_of(metrics) if metrics is not None else Scrape({}),
        )

    def top_tenants(self, last: timedelta) -> Sequence[TenantUse] | None:
        """Who used most, the first first; None for a key that may not know."""
        if not self._has_key:
            return None
        since = (datetime.now(UTC) - last).isoformat()
        answer = self._get("/admin/v1/usage", group_by="tenant", **{"from": since})
        if answer.status_code == 403:
            return None
        used = [TenantUse(row["tenant"], row["requests"], row["total_tokens"]) for row in _json_of(answer)["data"]]
        return sorted(used, key=lambda use: use.tokens, reverse=True)

    def _metrics(self) -> httpx.Response | None:
        """From the port for scrapers, on this machine; else from the API, which shows them to administrators. None:
        from neither.
        """
        url = httpx.URL(self.url)
        if url.host in HERE and (port := (url.port or 80) + METRICS_ABOVE) <= 65535:
            try:
                answer = httpx.get(f"http://{url.host}:{port}/metrics", timeout=_SCRAPE_SECONDS)
                return answer if answer.is_success else None
            except httpx.HTTPError:
                pass  # it is elsewhere, or off
        if not self._has_key:
            return None
        answer = self._get("/metrics")
        return answer if answer.is_success else None

    def _asked(self, path: str) -> dict[str, Any]:
        return _json_of(self._get(path))

    def _get(self, path: str, **query: str) -> httpx.Response:
        try:
            return self._http.get(path, params=query)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError):
            raise NoAnswer(f"no server answers at {self.url}; start one with 'make serve'") from None


def _json_of(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise CannotReach(_message_of(answer))
    found: dict[str, Any] = answer.json()
    return found


def _is_ours(ready: httpx.Response) -> bool:
    try:
        return bool(ready.json() == {"status": "ok"})
    except ValueError:
        return False


def _message_of(answer: httpx.Response) -> str:
    """The message of an error of ours, or what else answered."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"something answers {answer.status_code} at {answer.url}, and not as clinserve does"


def _scrape_of(answer: httpx.Response) -> Scrape:
    try:
        return Scrape.of(answer.text)
    except ValueError:
        raise CannotReach(f"what answers at {answer.url} are no metrics") from None
