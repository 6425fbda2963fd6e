"""A batch's files at a shell: checked before they go, and moved in pieces, with a bar where there is a terminal."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from serving.batches import lines
from serving.batches.batch import Problem
from serving.batches.lines import BadLine, Inspection
from serving.tenants.callers import Caller

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import FileObject

_PIECE = 256 * 2**10
_SHOWN = 20
_SOMEBODY = Caller("", "", "")
"""Whose file it is only the server knows, and its limits."""


class BadFile(Exception):
    """The file would be refused; the message has a line for each problem."""


class Checked(NamedTuple):
    endpoint: str
    lines: int


def check(file: Path, endpoint: str | None, deployments: Collection[str]) -> Checked:
    """What the server would say of this file, before it is uploaded. Raises BadFile, OSError."""
    return asyncio.run(_check(file, endpoint, deployments))


async def _check(file: Path, endpoint: str | None, deployments: Collection[str]) -> Checked:
    inspection: Inspection | None = None
    found: list[Problem] = []
    async with aclosing(lines.split(_pieces(file), longest=sys.maxsize)) as texts:
        async for number, text in texts:
            if inspection is None:
                endpoint = endpoint or _url_in(number, text)
                inspection = Inspection(endpoint, _SOMEBODY, deployments, most=sys.maxsize, most_problems=_SHOWN)
            inspection.look(number, text)
            if inspection.done:
                break
    if inspection is None:
        raise BadFile(f"{file}: the file has no requests")
    found = inspection.problems
    if found:
        more = f"\n{file}: and perhaps more" if len(found) >= _SHOWN else ""
        raise BadFile("\n".join(f"{file}:{one.line}: {one.message}" for one in found) + more)
    return Checked(endpoint or "", inspection.total)


def _url_in(number: int, text: bytes) -> str:
    try:
        return lines.read(number, text).url
    except BadLine:
        return ""  # the inspection says what is wrong with it


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE):
            yield piece


def upload(client: OpenAI, file: Path) -> FileObject:
    """Sends the file in pieces, once."""
    with _bar() as bar, file.open("rb", buffering=0) as raw:
        task = bar.add_task(f"Uploading {file.name}", total=file.stat().st_size)
        sent = Watched(raw, lambda size: bar.update(task, advance=size))
        # No second try: what has been read is gone.
        return client.with_options(max_retries=0).files.create(file=(file.name, sent), purpose="batch")


class Watched(io.BufferedReader):
    """A file that tells how much of it is being read."""

    def __init__(self, raw: io.FileIO, on_read: Callable[[int], object]) -> None:
        super().__init__(raw)
        self._on_read = on_read

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        self._on_read(len(piece))
        return piece


def download(client: OpenAI, file_id: str, to: str) -> None:
    """to: a file, readable by its owner only, which is there when all of it is; or - for standard output."""
    with client.files.with_streaming_response.content(file_id) as answer:
        if to == "-":
            for piece in answer.iter_bytes(_PIECE):
                sys.stdout.buffer.write(piece)
            sys.stdout.flush()
            return
        part = Path(f"{to}.part")
        part.unlink(missing_ok=True)
        size = int(answer.headers.get("content-length") or 0)
        with _bar() as bar, os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            task = bar.add_task(f"Downloading {to}", total=size)
            for piece in answer.iter_bytes(_PIECE):
                opened.write(piece)
                bar.update(task, advance=len(piece))
        part.replace(to)
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"{to}: {size} bytes", markup=False)


def _bar() -> Progress:
    """On standard error: what is printed may be piped. Without a terminal it shows nothing."""
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
