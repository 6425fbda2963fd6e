"""The LoRA adapters of one replica: those listed are in its engine, and leave it when nobody uses them any more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from starlette.types import Scope

from serving.deployments.following import Following
from serving.engines.adapters import Adapter as Named
from serving.engines.engine import ADAPTER_HEADER
from serving.settings import Adapter, Deployment
from serving.weights.source import WeightsError

_ADAPTER_HEADER = ADAPTER_HEADER.encode()
_AGAIN_SECONDS = 30.0
_log = logging.getLogger(__name__)


class AdapterRefused(Exception):
    """The engine does not take it: its rank is too high, or it belongs to another model. The message is the engine's
    own.
    """


class Shelf(Protocol):
    """Where an engine has its adapters."""

    async def load(self, name: str, directory: Path) -> None:
        """Raises AdapterRefused."""
        ...

    async def unload(self, name: str) -> None: ...


class VllmShelf:
    """vLLM's own registry, the one that its HTTP routes look names up in; loading goes past its routes, which are shut.

    models: vllm.entrypoints.openai.models.serving.OpenAIServingModels, which Ray's engine keeps: no public API, used
    here only and tested on real vLLM.
    """

    def __init__(self, models: Any) -> None:
        self._models = models

    async def load(self, name: str, directory: Path) -> None:
        from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest

        if name in self._models.lora_requests:
            return
        answer = await self._models.load_lora_adapter(LoadLoRAAdapterRequest(lora_name=name, lora_path=str(directory)))
        if not isinstance(answer, str):
            raise AdapterRefused(answer.error.message)

    async def unload(self, name: str) -> None:
        from vllm.entrypoints.serve.lora.protocol import UnloadLoRAAdapterRequest

        loaded = self._models.lora_requests.get(name)
        if loaded is not None:
            await self._models.unload_lora_adapter(UnloadLoRAAdapterRequest(lora_name=name))
            await self._models.engine_client.remove_lora(loaded.lora_int_id)  # the route only forgets the name


class Library(Protocol):
    """The adapters that a replica's door looks for."""

    def used_by(self, scope: Scope) -> AbstractAsyncContextManager[bool]:
        """While a request runs. Whether the adapter that it needs, if any, is loaded."""
        ...


class NoAdapters:
    """Of a replica that has none, and whose engine does not look for any."""

    def used_by(self, scope: Scope) -> AbstractAsyncContextManager[bool]:
        return nullcontext(True)


class Adapters:
    """weights: fetches and verifies an adapter's files, and says where they are."""

    def __init__(self, deployment: Deployment, shelf: Shelf, weights: Callable[[Adapter], Path]) -> None:
        self._deployment = deployment.name
        self._shelf = shelf
        self._weights = weights
        self._following = Following(deployment, self.follow)
        self._turn = asyncio.Lock()
        self._listed: dict[str, Adapter] = {}
        self._loads: dict[str, asyncio.Task[bool]] = {}
        self._failed: dict[str, float] = {}
        self._used: Counter[str] = Counter()
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Until each that is listed is loaded, or cannot be."""
        self._following.begin()
        await self._following.start()
        await asyncio.gather(*self._loads.values())

    def follow(self, listed: Sequence[Adapter]) -> None:
        """From now on these are to be loaded, and no others."""
        self._listed = {self._name_of(adapter): adapter for adapter in listed}
        self._failed = dict.fromkeys(self._failed, 0.0)  # whoever changed the list may have mended what failed
        for name in self._listed:
            self._load(name)
        for name in self._loads.keys() - self._listed.keys():
            self._leave_if_unused(name)

    @asynccontextmanager
    async def used_by(self, scope: Scope) -> AsyncGenerator[bool, None]:
        headers = scope.get("headers", ())
        name = next((value.decode("latin-1") for header, value in headers if header == _ADAPTER_HEADER), "")
        if not name:
            yield True
            return
        self._used[name] += 1
        try:
            if name not in self._listed:
                await self._following.look()  # the gateway's eye may have been on the file earlier
            known = name in self._listed or name in self._loads
            yield known and await asyncio.shield(self._load(name))
        finally:
            self._used[name] -= 1
            self._leave_if_unused(name)

    def _load(self, name: str) -> asyncio.Task[bool]:
        """The one under way, or the one that is done; of one that failed, another after a while."""
        may_try = name in self._listed and self._failed.get(name, 0.0) <= time.monotonic()
        if may_try and (name not in self._loads or name in self._failed):
            self._failed.pop(name, None)
            self._loads[name] = asyncio.create_task(self._loading(name, self._listed[name]))
        return self._loads[name]

    async def _loading(self, name: str, adapter: Adapter) -> bool:
        try:
            directory = await asyncio.to_thread(self._weights, adapter)
            async with self._turn:
                await self._shelf.load(name, directory)
        except (WeightsError, AdapterRefused, OSError) as error:
            _log.warning("the adapter %s cannot be loaded: %s", name, error)
            self._failed[name] = time.monotonic() + _AGAIN_SECONDS
            return False
        return True

    def _leave_if_unused(self, name: str) -> None:
        if name in self._listed or self._used[name]:
            return
        del self._used[name]
        if task := self._loads.pop(name, None):
            leaving = asyncio.create_task(self._unload_after(task, name))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def _unload_after(self, load: asyncio.Task[bool], name: str) -> None:
        loaded = await load
        async with self._turn:
            if loaded and name not in self._loads:  # else it is listed again
                await self._shelf.unload(name)

    def _name_of(self, adapter: Adapter) -> str:
        return Named(self._deployment, adapter.name, adapter.digest).loaded
