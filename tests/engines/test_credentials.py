"""How an engine signs in: keys as headers; tokens kept, renewed once for all who wait, and never in an error."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from serving.engines.credentials import KeyCredential, NoCredential, SignInFailed, Token, TokenCredential
from serving.engines.engine import EngineRequest
from serving.engines.http import FixedEndpoint, HttpEngine
from serving.engines.refusals import EngineMisconfigured
from serving.errors import EngineUnavailable
from tests.engines.openai_stub import stub, writing
from tests.local import WHOLE, chat, eventually

SECRET = "eyJ-a-token"


@dataclass
class Source:
    """A TokenSource whose tokens are numbered and hold for an hour; `does` what it is told instead of answering."""

    now: float = 0.0
    fetched: int = 0
    does: Exception | asyncio.Event | None = None
    reasons: list[str] = field(default_factory=list)

    async def fetch(self) -> Token:
        self.fetched += 1
        if isinstance(self.does, Exception):
            raise self.does
        if self.does:
            await self.does.wait()
        return Token(f"{SECRET}-{self.fetched}", self.now + 3600)

    def credential(self, **options: Any) -> TokenCredential:
        return TokenCredential(self, clock=lambda: self.now, on_failure=self.reasons.append, **options)


def bearer(number: int) -> dict[str, str]:
    return {"authorization": f"Bearer {SECRET}-{number}"}


@pytest.mark.parametrize(
    ("credential", "headers"),
    [
        (NoCredential(), {}),
        (KeyCredential("k"), {"authorization": "Bearer k"}),
        (KeyCredential("k\n", header="Api-Key"), {"api-key": "k"}),
    ],
)
async def test_a_key_goes_where_the_endpoint_looks_for_it(credential: Any, headers: dict[str, str]) -> None:
    async with stub(writing(WHOLE)) as running:
        engine = HttpEngine(FixedEndpoint(running.url), model="m", credential=credential)
        assert [item async for item in engine.answer(EngineRequest("chat", chat(), False, "req_1", ""))] == [WHOLE]
        assert await engine.ready()
        await engine.close()
    for sent in running.headers:
        assert {name: sent[name] for name in ("authorization", "api-key") if name in sent} == headers


@pytest.mark.parametrize("key", ["two\nlines", "schl\u00fcssel", "nul\0"])
def test_a_key_that_no_header_can_hold_is_refused_without_its_text(key: str) -> None:
    with pytest.raises(ValueError, match="no HTTP header can hold") as refused:
        KeyCredential(key)
    assert key not in str(refused.value)


async def test_a_token_is_kept_until_five_minutes_before_its_end() -> None:
    source = Source()
    credential = source.credential()
    for source.now in (0, 1, 3299):
        assert await credential.headers() == bearer(1)
    assert source.fetched == 1


async def test_while_the_old_token_holds_nobody_waits_for_the_new_one() -> None:
    source = Source()
    credential = source.credential()
    await credential.headers()
    source.now, source.does = 3301, asyncio.Event()
    assert await credential.headers() == await credential.headers() == bearer(1)
    source.does.set()
    await asyncio.sleep(0)
    await eventually(lambda: source.fetched == 2)
    await asyncio.sleep(0.01)
    assert await credential.headers() == bearer(2) and source.fetched == 2


async def test_however_many_wait_the_source_is_asked_once() -> None:
    source = Source(does=asyncio.Event())
    credential = source.credential()
    waiting = [asyncio.create_task(credential.headers()) for _ in range(50)]
    await asyncio.sleep(0)
    assert isinstance(source.does, asyncio.Event)
    source.does.set()
    assert await asyncio.gather(*waiting) == [bearer(1)] * 50 and source.fetched == 1


async def test_one_who_leaves_does_not_take_the_token_from_the_others() -> None:
    source = Source(does=asyncio.Event())
    credential = source.credential()
    first, second = asyncio.create_task(credential.headers()), asyncio.create_task(credential.headers())
    await asyncio.sleep(0)
    first.cancel()
    assert isinstance(source.does, asyncio.Event)
    source.does.set()
    assert await second == bearer(1) and source.fetched == 1


@pytest.mark.parametrize(("refused", "kind"), [(True, EngineMisconfigured), (False, EngineUnavailable)])
async def test_without_a_token_it_is_unavailable_and_says_nothing_of_why(refused: bool, kind: type) -> None:
    source = Source(does=SignInFailed(f"AADSTS700016 {SECRET}", refused=refused))
    with pytest.raises(EngineUnavailable) as failed:
        await source.credential().headers()
    assert type(failed.value) is kind and SECRET not in failed.value.message and failed.value.retry_after
    assert source.reasons == [f"AADSTS700016 {SECRET}"]


async def test_after_a_failure_the_next_request_tries_again() -> None:
    source = Source(does=SignInFailed("away"))
    credential = source.credential()
    with pytest.raises(EngineUnavailable):
        await credential.headers()
    source.does = None
    assert await credential.headers() == bearer(2)


async def test_a_source_that_hangs_is_given_up() -> None:
    source = Source(does=asyncio.Event())
    with pytest.raises(EngineUnavailable):
        await source.credential(seconds=0.05).headers()
    assert source.reasons == ["no token within 0.05 s"]


async def test_a_renewal_that_fails_leaves_the_old_token_in_use_and_is_tried_again_later() -> None:
    source = Source()
    credential = source.credential()
    await credential.headers()
    source.now, source.does = 3301, SignInFailed("away")
    for source.now in (3301, 3302, 3303):
        assert await credential.headers() == bearer(1)
        await asyncio.sleep(0)
    assert source.fetched == 2 and source.reasons == ["away"]
    source.now = 3335
    assert await credential.headers() == bearer(1)
    await asyncio.sleep(0)
    assert source.fetched == 3
    source.now = 3601
    with pytest.raises(EngineUnavailable):
        await credential.headers()


async def test_no_token_is_in_a_repr() -> None:
    credential = Source().credential()
    await credential.headers()
    assert (
        SECRET not in repr(Token(SECRET, 0))
        and SECRET not in repr(credential)
        and "k1" not in repr(KeyCredential("k1"))
    )
