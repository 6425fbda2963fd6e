"""The assembly's part for files and batches.

settings ─┬─ contents: a folder, or Azure Blob Storage ─┐
database ─┼─ files, batches ────────────────────────────┼─ Parts, for the routes
secrets ──┴─ sealing ──── bench ────────────────────────┴─ a worker, once there is an application to run lines through
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Engine
from starlette.types import ASGIApp

from serving.batches.batches import Batches
from serving.batches.contents import Contents
from serving.batches.disk import DiskContents
from serving.batches.files import Files
from serving.batches.orphans import Orphans
from serving.batches.run import Bench
from serving.batches.sealed import SealedContents
from serving.batches.sql import SqlBatches, SqlFiles
from serving.batches.worker import BatchWorker
from serving.gateway.lines import AppLines
from serving.room import DiskRoom, Room, Unlimited
from serving.sealing import Sealer
from serving.secrets import Secrets
from serving.settings import Settings
from serving.telemetry.metrics import Metrics
from serving.tenants.keys import utcnow
from serving.tenants.trail import Audit, Trail


@dataclass(frozen=True, slots=True)
class Jobs:
    files: Files
    batches: Batches
    contents: Contents
    worker_on: Callable[[ASGIApp], BatchWorker]


def build_jobs(settings: Settings, secrets: Secrets, database: Engine, audit: Audit, metrics: Metrics) -> Jobs:
    of = settings.batches
    batch_store, contents, trail = SqlBatches(database), build_contents(settings), Trail(audit, utcnow)
    file_store, sealing = SqlFiles(database), Sealer(secrets.content)
    files = Files(
        file_store,
        SealedContents(contents, sealing),
        batch_store,
        trail,
        now=utcnow,
        most=of.max_files,
        largest=of.max_file,
        total_of=lambda tenant: of.max_total,
        check_room=build_room(settings).check,
        keep=timedelta(seconds=of.keep) if of.keep else None,
    )
    woken = asyncio.Event()

    def worker_on(app: ASGIApp) -> BatchWorker:
        bench = Bench(
            store=batch_store,
            files=files,
            orphans=Orphans(file_store, contents),
            check_room=build_room(settings).check,
            lines=AppLines(app),
            sealing=sealing,
            slots={d.name: asyncio.Semaphore(of.lines) for d in settings.deployments},
            now=utcnow,
            window=2 * of.lines,
            most_lines=of.max_lines,
            longest_line=settings.server.max_body,
            on_line=lambda outcome: metrics.noted("batch_lines", outcome),
        )
        return BatchWorker(bench, woken)

    return Jobs(
        files=files,
        batches=Batches(batch_store, files, trail, now=utcnow, most=of.max_batches, on_submitted=woken.set),
        contents=contents,
        worker_on=worker_on,
    )


def build_room(settings: Settings) -> Room:
    if not settings.database_url.startswith("sqlite"):
        return Unlimited()
    return DiskRoom(settings.server.state_dir, settings.batches.reserve)


def build_contents(settings: Settings) -> Contents:
    if settings.batches.blob:
        from serving.batches.blob import BlobContents  # azure's client: a third of a second

        return BlobContents(settings.batches.blob)
    state, of = settings.server.state_dir, settings.batches
    if of.folder is not None:
        return DiskContents(of.folder, reserve=of.reserve)
    return DiskContents(state / "files", reserve=of.reserve, mark=state / "files.place")
