"""Batches without HTTP: the real stores on SQLite and a folder, lines that the test answers, a clock that it moves."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from serving.batches.batch import Batch, BatchStore
from serving.batches.contents import Contents
from serving.batches.disk import DiskContents
from serving.batches.file import File, FileStore
from serving.batches.files import Files
from serving.batches.lines import Answer
from serving.batches.orphans import Orphans
from serving.batches.run import BatchRun, Bench
from serving.batches.sealed import SealedContents
from serving.batches.sql import SqlBatches, SqlFiles
from serving.sealing import Sealer
from serving.tenants.audit_log import NoAudit
from serving.tenants.callers import Caller
from serving.tenants.trail import Trail

WARD = Caller("ward", "key-1", "tests")
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
TOKENS = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
Reply = Callable[[dict[str, Any], int], Answer]


def answer(status: int = 200, retry_after: float | None = None, **body: Any) -> Answer:
    return Answer(status, "req_1", json.dumps({"usage": TOKENS} | body).encode(), retry_after)


@dataclass
class Asked:
    """Lines, answered by `reply(body, attempt)`; ran: how often each text was sent."""

    reply: Reply = lambda body, attempt: answer(said=body["text"])
    ran: Counter[str] = field(default_factory=Counter)
    gate: asyncio.Event | None = None

    async def run(self, owner: Caller, endpoint: str, body: bytes) -> Answer:
        assert (owner.tenant, endpoint) == ("ward", "/v1/chat/completions")
        value = json.loads(body)
        self.ran[value["text"]] += 1
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        return self.reply(value, self.ran[value["text"]])


class Workshop:
    def __init__(self, engine: Engine, folder: Path) -> None:
        self.now = NOON
        self.lines = Asked()
        self.store: BatchStore = SqlBatches(engine)
        self.file_store: FileStore = SqlFiles(engine)
        self.folder = folder
        self.contents: Contents = DiskContents(folder / "files")
        self.secret = b"s" * 32

    @property
    def sealed(self) -> SealedContents:
        return SealedContents(self.contents, Sealer(self.secret))

    @property
    def files(self) -> Files:
        return Files(
            self.file_store,
            self.sealed,
            self.store,
            Trail(NoAudit(), self._now),
            now=self._now,
            most=100,
            largest=10**6,
            total_of=lambda tenant: 10**7,
            keep=None,
        )

    def bench(self, **changes: Any) -> Bench:
        bench = Bench(
            store=self.store,
            files=self.files,
            orphans=Orphans(self.file_store, self.contents),
            lines=self.lines,
            sealing=Sealer(self.secret),
            slots={"m": asyncio.Semaphore(4)},
            now=self._now,
            window=8,
            hold=0.3,
        )
        return replace(bench, **changes)

    async def submit(self, count: int = 6, **changes: Any) -> Batch:
        return await self.submit_text(b"".join(line(number) for number in range(1, count + 1)), **changes)

    async def submit_text(self, text: bytes, **changes: Any) -> Batch:
        number = len(await asyncio.to_thread(self._everything))
        file = await self.keep(f"file-{number}", text)
        batch = Batch(
            f"batch_{number}", WARD, "/v1/chat/completions", file.id, self.now, self.now + timedelta(hours=24)
        )
        batch = replace(batch, **changes)
        self.store.add(batch, most=1000)
        return batch

    async def keep(self, id: str, text: bytes, **changes: Any) -> File:
        kept = await self.sealed.write("ward", pieces(text))
        file = replace(File(id, "ward", "key-1", "x.jsonl", "batch", len(text), self.now, kept), **changes)
        self.file_store.put(file)
        return file

    @staticmethod
    def placed(file: File, place: str) -> File:
        return replace(file, kept=replace(file.kept, place=place))

    async def work(self, **changes: Any) -> Batch:
        """Take a batch and run it until its end, or until something is raised; as it then is."""
        taken = self.store.claim(self.now, self.now + timedelta(seconds=0.3))
        assert taken is not None, "nothing to do"
        await BatchRun(self.bench(**changes), *taken).run()
        return self.read(taken[0])

    def read(self, batch: Batch) -> Batch:
        found = self.store.get("ward", batch.id)
        assert found is not None
        return found

    def pass_time(self, seconds: float = 60.0) -> None:
        self.now += timedelta(seconds=seconds)

    async def rows(self, batch: Batch) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What the output file and the error file hold."""
        return await self._rows(batch.output_file_id), await self._rows(batch.error_file_id)

    async def _rows(self, file_id: str | None) -> list[dict[str, Any]]:
        if file_id is None:
            return []
        text = b"".join([piece async for piece in self.files.read("ward", file_id)])
        row = self.file_store.get("ward", file_id)
        assert row is not None and row.bytes == len(text)
        return [json.loads(one) for one in text.decode().splitlines()]

    def _now(self) -> datetime:
        return self.now

    def _everything(self) -> Sequence[Batch]:
        from serving.tenants.paging import PageRequest

        return self.store.page("ward", PageRequest(1000)).items


def line(number: int, **changes: Any) -> bytes:
    body = {"model": "m", "text": f"text {number}"}
    value = {"custom_id": f"t-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body} | changes
    return json.dumps(value).encode() + b"\n"


async def pieces(*chunks: bytes) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        yield chunk


def ids(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [row["custom_id"] for row in rows]
