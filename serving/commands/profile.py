"""`clinserve profile`: what one replica of a running deployment can do, measured and written down for its scaling."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from serving.commands.printing import print_json, print_table
from serving.commands.remote import CannotAsk
from serving.commands.running import Remote
from serving.commands.saturation import Level, Probe, concurrency, levels
from serving.scaling.profile import CapacityProfile

_USUALLY = 9
"""Levels that are measured, for the bar."""


def profile(
    deployment: str,
    *,
    url: str,
    key: str,
    ttft: float,
    tpot: float,
    most: int,
    seconds: float,
    file: Path,
    as_json: bool,
) -> None:
    """Measure, write `file`, print. ttft, tpot: goals in seconds. Raises CannotAsk."""
    replicas, start_seconds = _running(url, key, deployment)
    measured, prefill_rate = asyncio.run(
        _measured(deployment, url=url, key=key, ttft=ttft, tpot=tpot, most=most, seconds=seconds)
    )
    if _running(url, key, deployment)[0] != replicas:
        raise CannotAsk("the number of replicas changed meanwhile; measure with scaling.max: 1, or without scaling")
    found = CapacityProfile(
        prefill_rate=round(prefill_rate / replicas, 1),
        decode_rate=round(max(level.decode_rate for level in measured) / replicas, 1),
        concurrency=max(1.0, concurrency(measured, ttft=ttft, tpot=tpot) / replicas),
        **({} if start_seconds is None else {"start_seconds": round(start_seconds, 1)}),
    )
    about = {"deployment": deployment, "measured_at": datetime.now(UTC).isoformat(timespec="seconds")}
    about |= {"replicas": str(replicas), "goals": f"TTFT p95 {ttft:g} s, TPOT p95 {tpot:g} s"}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(about | found.to_numbers(), indent=2) + "\n")
    if as_json:
        return print_json(about | found.to_numbers() | {"file": str(file)})
    _print(measured, found, file, ttft=ttft, tpot=tpot, knows_start=start_seconds is not None)


def _running(url: str, key: str, deployment: str) -> tuple[int, float | None]:
    """Replicas that run (one, where they are not ours to count), and how long the last one took to start."""
    with Remote(url, key) as remote:
        reading = remote.read()
    card = next((card for card in reading.deployments if card["name"] == deployment), None)
    if card is None:
        known = ", ".join(card["name"] for card in reading.deployments)
        raise CannotAsk(f"there is no deployment '{deployment}'; there are {known}")
    counts: dict[str, Any] = card.get("replicas") or {"running": 1}
    if not counts["running"]:
        raise CannotAsk(f"'{deployment}' sleeps; a first request wakes it")
    return counts["running"], (card.get("last_start") or {}).get("seconds")


async def _measured(
    deployment: str, *, url: str, key: str, ttft: float, tpot: float, most: int, seconds: float
) -> tuple[list[Level], float]:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=120)
    try:
        with bar:
            task = bar.add_task("1 stream", total=_USUALLY)

            def on_level(level: Level) -> None:
                said = f"{level.streams} streams: {level.decode_rate:.0f} tokens/s, TTFT p95 {level.ttft_p95:.2f} s"
                bar.update(task, advance=1, description=said)
                if not console.is_terminal:
                    console.print(said)

            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
                probe = Probe(session, url=url, key=key, model=deployment, seconds=seconds)
                prefill_rate = await probe.prefill_rate()
                found = await levels(probe, most=most, ttft=ttft, tpot=tpot, on_level=on_level)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise CannotAsk(f"the server does not answer: {type(error).__name__}") from None
    return found, prefill_rate


def _print(
    measured: list[Level], found: CapacityProfile, file: Path, *, ttft: float, tpot: float, knows_start: bool
) -> None:
    columns = ("streams", "requests", "tokens/s", "TTFT p95", "TPOT p95", "goals")
    rows = [
        (
            str(level.streams),
            str(level.requests),
            f"{level.decode_rate:.0f}",
            f"{level.ttft_p95:.3f} s",
            f"{1000 * level.tpot_p95:.1f} ms",
            "met" if level.meets(ttft, tpot) else "missed",
        )
        for level in measured
    ]
    print_table(columns, rows, whole=columns, right=columns[:5])
    start = "" if knows_start else " (not known: the usual is taken)"
    typer.echo(
        f"\nOne replica: {found.prefill_rate:.0f} prompt tokens/s, {found.decode_rate:.0f} answer tokens/s, "
        f"{found.concurrency:g} streams within the goals, {found.start_seconds:.0f} s to start{start}."
        f"\nWritten to {file}; it is read at the next start."
    )
