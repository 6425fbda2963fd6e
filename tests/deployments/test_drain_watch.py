"""A gateway that is to stop: its answers have their time, then they are cut."""

from __future__ import annotations

import asyncio

from serving.deployments.drain_watch import DrainWatch


async def test_what_runs_is_cut_so_long_after_the_replica_was_told_to_stop() -> None:
    stopping, cut = asyncio.Event(), asyncio.Event()
    watch = DrainWatch(stopping.is_set, seconds=0.1, cut=cut.set, often=0.01)
    await watch.start()
    await asyncio.sleep(0.05)
    assert not cut.is_set()
    stopping.set()
    await asyncio.sleep(0.05)
    assert not cut.is_set()
    await asyncio.wait_for(cut.wait(), 2)
    await watch.close()


async def test_one_that_is_never_told_is_never_cut() -> None:
    cut = asyncio.Event()
    watch = DrainWatch(lambda: False, seconds=0.0, cut=cut.set)
    await watch.start()
    await asyncio.sleep(0.05)
    await watch.close()
    assert not cut.is_set()
