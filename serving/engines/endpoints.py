"""Where an engine's requests go: the base address of a replica, and what an operation's path and query add to it."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Protocol
from urllib.parse import quote

from serving.engines.engine import Operation
from serving.errors import EngineUnavailable

_PATHS: dict[Operation, str] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
}
_DEPLOYMENTS = "/openai/deployments/"
_OPERATION = re.compile(r"(/chat/completions|/completions|/embeddings)?/*(\?.*)?$")


class NoReplica(EngineUnavailable):
    """None runs now: one that starts may be waited for."""


class Endpoints(Protocol):
    """Where the replicas of one deployment are."""

    async def pick(self, avoid: Collection[str] = ()) -> str:
        """Base URL of a replica, up to and including /v1 (or what an Address takes for a base). avoid: those that have
        just failed; one of them only where there is no other. Raises NoReplica, EngineUnavailable.
        """
        ...

    async def wake(self) -> None:
        """Ask for a replica, for as long as this is awaited, and return when one runs. Raises EngineUnavailable."""
        ...

    @property
    def sleeps(self) -> bool:
        """Whether it is meant to have no replica at times: a request then wakes it, so it is ready all the same."""
        ...


class FixedEndpoint:
    """One address, set in the configuration."""

    sleeps = False

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def pick(self, avoid: Collection[str] = ()) -> str:
        return self._url

    async def wake(self) -> None: ...


class Address(Protocol):
    """How an endpoint of one kind forms its URLs on a base."""

    def of(self, base: str, operation: Operation) -> str: ...
    def ready(self, base: str) -> str: ...


class OpenAIAddress:
    """BASE/v1/chat/completions. ready_path: answers 200 when the endpoint can serve, beside /v1. api_version: a query
    that some want here too, such as Azure's `preview` on /openai/v1, or a date on https://NAME.services.ai.azure.com/models.
    """

    def __init__(self, *, ready_path: str = "/v1/models", api_version: str | None = None) -> None:
        self._ready_path = ready_path
        self._query = f"?api-version={quote(api_version, safe='')}" if api_version else ""

    def of(self, base: str, operation: Operation) -> str:
        return base + _PATHS[operation] + self._query

    def ready(self, base: str) -> str:
        return base.removesuffix("/v1") + self._ready_path + self._query


class AzureAddress:
    """BASE is https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT; the version is required (azure-wire-format,
    1.1). Ready is what lists the resource's models: it costs nothing, and asks for the same credential.
    """

    def __init__(self, api_version: str) -> None:
        self._query = f"?api-version={quote(api_version, safe='')}"

    def of(self, base: str, operation: Operation) -> str:
        return base + _PATHS[operation] + self._query

    def ready(self, base: str) -> str:
        return base.partition(_DEPLOYMENTS)[0] + "/openai/models" + self._query


def azure_base(url: str, deployment: str) -> str:
    """A deployment's base, from a resource's address, a deployment's, or a whole "target URI" as Azure's portal has."""
    url = _OPERATION.sub("", url)
    return url if _DEPLOYMENTS in url else url.removesuffix("/openai") + _DEPLOYMENTS + quote(deployment, safe="")


def addressed(url: str, *, model: str, api_version: str | None) -> tuple[FixedEndpoint, Address]:
    """The parts for a configured endpoint. With an api_version it is Azure's dated kind, unless its path says v1 or
    Model Inference.
    """
    url = url.rstrip("/")
    if url.endswith("/models"):
        return FixedEndpoint(url), OpenAIAddress(ready_path="/info", api_version=api_version)
    if api_version is None or url.endswith("/v1"):
        return FixedEndpoint(url), OpenAIAddress(api_version=api_version)
    return FixedEndpoint(azure_base(url, model)), AzureAddress(api_version)
