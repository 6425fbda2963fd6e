"""Schemas compiled before an engine sees them, in a process that can be killed (worker.py)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sys
from collections import OrderedDict
from dataclasses import asdict
from typing import Literal, cast

from serving.grammars.worker import Setup

Kind = Literal["json", "structural_tag"]
Verdict = Literal["good", "dear", "invalid", "ignored", "empty", "busy"]
"""dear: compiling takes more than is allowed, or following it would slow all others. ignored: a part of it would not be
kept to. empty: nothing can be written that fits. busy: nothing is known of it, since too many are being compiled.
"""
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "LANG")
"""Of the environment: what makes Python run. Secrets are in it too."""
_START_SECONDS = 120.0
_STOP_SECONDS = 2.0


class SchemaCompiler:
    """setup: see worker.py. processes: schemas that are compiled at a time, of one owner only one. waiting: that wait
    for it, of one owner at most a quarter; beyond, busy. keeps: verdicts that are remembered, those last asked for.
    """

    def __init__(self, setup: Setup, *, processes: int = 2, waiting: int = 64, keeps: int = 4096) -> None:
        self._setup = setup
        self._slots = asyncio.Semaphore(processes)
        self._most = processes + waiting
        self._keeps = keeps
        self._verdicts: OrderedDict[bytes, Verdict] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Verdict]] = {}
        self._share = max(1, waiting // 4)
        self._owners: dict[str, _Owner] = {}
        self._worker: _Worker | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Raises OSError, TimeoutError: without it nothing may be answered to a schema."""
        await self._started()

    async def verdict(self, kind: Kind, text: str, owner: str = "") -> Verdict:
        """Never raises. Who asks for the same meanwhile waits for the same; who leaves stops nothing. Of another owner
        it is not the same: how long it takes would tell what others ask for.
        """
        digest = hashlib.blake2b(f"{owner}\0{kind}\0{text}".encode(errors="surrogatepass"), digest_size=16).digest()
        if known := self._verdicts.get(digest):
            self._verdicts.move_to_end(digest)
            return known
        asking = self._asking.get(digest)
        if asking is None:
            line = self._owners.setdefault(owner, _Owner())
            if len(self._asking) >= self._most or line.length > self._share:
                return "busy"
            line.length += 1
            asking = self._asking[digest] = asyncio.create_task(self._ask(digest, kind, text, owner))
        return await asyncio.shield(asking)

    async def _ask(self, digest: bytes, kind: Kind, text: str, owner: str) -> Verdict:
        line = self._owners[owner]
        try:
            async with line.turn, self._slots:
                verdict = await (await self._started()).ask(kind, text)
        except (OSError, TimeoutError, EOFError):
            verdict = "busy"
        finally:
            del self._asking[digest]
            line.length -= 1
            if not line.length:
                self._owners.pop(owner, None)
        if verdict != "busy":
            self._verdicts[digest] = verdict
            while len(self._verdicts) > self._keeps:
                self._verdicts.popitem(last=False)
        return verdict

    async def _started(self) -> _Worker:
        async with self._starting:
            if self._worker is None or self._worker.is_over:
                if self._worker is not None:
                    await self._worker.close()
                self._worker = await _Worker.start(self._setup)
            return self._worker

    async def close(self) -> None:
        for asking in tuple(self._asking.values()):
            asking.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        if self._worker is not None:
            await self._worker.close()


class _Owner:
    """Who has one schema compiled at a time, so that nobody's hundred keep another's one waiting."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.length = 0


class _Worker:
    """The process, and who waits for which of its answers."""

    def __init__(self, process: asyncio.subprocess.Process, longest: float) -> None:
        self._process = process
        self._longest = longest
        self._asked: dict[int, asyncio.Future[str]] = {}
        self._last = 0
        self._hearing = asyncio.create_task(self._hear())

    @classmethod
    async def start(cls, setup: Setup) -> _Worker:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)  # the same code as here
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "serving.grammars.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            # Threads of libraries that nobody uses here would not survive a fork; a GPU is not touched.
            env=environment | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_START_SECONDS):
                process.stdin.write(json.dumps(asdict(setup)).encode() + b"\n")
                await process.stdin.drain()
                if not await process.stdout.readline():
                    raise EOFError
        except BaseException:
            process.kill()
            raise
        return cls(process, setup.wall + _STOP_SECONDS)

    @property
    def is_over(self) -> bool:
        return self._hearing.done()

    async def ask(self, kind: Kind, text: str) -> Verdict:
        """Raises OSError, TimeoutError, EOFError."""
        assert self._process.stdin is not None
        self._last += 1
        number = self._last
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._process.stdin.write(json.dumps({"id": number, "kind": kind, "text": text}).encode() + b"\n")
            async with asyncio.timeout(self._longest):
                await self._process.stdin.drain()
                return cast(Verdict, await answer)
        finally:
            del self._asked[number]

    async def _hear(self) -> None:
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                said = json.loads(line)
                answer = self._asked.get(said["id"])
                if answer is not None and not answer.done():
                    answer.set_result(said["verdict"])
        finally:
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(EOFError())

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await asyncio.gather(self._hearing, return_exceptions=True)  # to the end of its output
