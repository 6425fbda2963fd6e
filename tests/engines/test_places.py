"""What an engine behind HTTP tells about a request's place at a replica: later requests are placed by it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection

import pytest

from serving.engines.engine import EngineRequest
from serving.engines.http import HttpEngine
from serving.errors import ServingError
from tests.engines.openai_stub import Script, nobody, refusing, stub, writing
from tests.local import DONE, ROLE, chat, word


class Told:
    """An endpoint, and the place at it, that notes what is told."""

    sleeps = False

    def __init__(self, url: str) -> None:
        self.url = url
        self.said: list[str] = []

    async def pick(self, request: EngineRequest | None = None, avoid: Collection[str] = ()) -> Told:
        self.said.append("picked")
        return self

    async def wake(self) -> None: ...

    def began(self) -> None:
        self.said.append("began")

    def broke(self) -> None:
        self.said.append("broke")

    def left(self) -> None:
        self.said.append("left")


A_CHAT = EngineRequest("chat", chat(stream=True), stream=True, request_id="req_1", cache_salt="salt")


async def told(script: Script, *, leave_after: int = 99, url: str = "", patience: float = 0.2) -> list[str]:
    async with stub(script) as running:
        place = Told(url or running.url)
        engine = HttpEngine(place, model="there", ours=True, first_token_timeout=patience)
        with contextlib.suppress(ServingError):
            async with contextlib.aclosing(engine.answer(A_CHAT)) as items:
                async for _ in items:
                    leave_after -= 1
                    if not leave_after:
                        break
        await engine.close()
    return place.said


async def test_a_place_is_told_of_the_first_token_and_of_the_end() -> None:
    assert await told(writing(ROLE, word("a"), DONE, gap=0.01)) == ["picked", "began", "left"]


async def test_a_client_that_leaves_leaves_its_place() -> None:
    assert await told(writing(ROLE, word("a"), then="hang", gap=0.01), leave_after=1) == ["picked", "began", "left"]


@pytest.mark.parametrize("script", [writing(then="hang"), refusing(400, {}), writing(ROLE[:9], then="end")])
async def test_a_place_is_left_when_nothing_was_answered(script: Script) -> None:
    said = await told(script)
    assert said[0] == "picked" and said[-1] == "left" and "began" not in said


async def test_a_replica_that_is_not_reached_is_told_to_have_broken_each_time() -> None:
    said = await told(writing(), url=nobody(), patience=1.0)
    assert said[:3] == ["picked", "broke", "left"]
    assert said.count("picked") == said.count("left") >= said.count("broke") > 1


async def test_a_request_that_is_cancelled_while_it_waits_leaves_its_place() -> None:
    async with stub(writing(then="hang")) as running:
        place = Told(running.url)
        engine = HttpEngine(place, model="there", ours=True)
        asking = asyncio.ensure_future(anext(engine.answer(A_CHAT)))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await engine.close()
    assert place.said == ["picked", "left"]
