"""Tokens from the real azure-identity, of a stand-in for Entra ID over HTTPS, up to the header of a request."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from azure.core.credentials import AccessToken

from serving.azure_tokens import SCOPE, EntraTokens
from serving.engines.credentials import SignInFailed, TokenCredential
from serving.engines.engine import EngineRequest
from serving.engines.http import FixedEndpoint, HttpEngine
from serving.engines.refusals import EngineMisconfigured
from serving.errors import EngineUnavailable
from serving.vault import default_credential
from tests.engines.openai_stub import stub, writing
from tests.local import WHOLE, chat
from tests.test_vault import ACCESS, CLIENT, StandIn, cloud  # noqa: F401, cloud is a fixture

REQUEST = EngineRequest("chat", chat(), False, "req_1", "salt")


def tokens_of(seconds: float = 10.0) -> EntraTokens:
    return EntraTokens(seconds=seconds, credential=default_credential(seconds=seconds, known_cloud=False))


async def test_a_pods_identity_signs_in_once_for_all_requests(cloud: StandIn) -> None:  # noqa: F811
    async with stub(writing(WHOLE)) as running:
        engine = HttpEngine(FixedEndpoint(running.url), model="m", credential=TokenCredential(tokens_of()))
        answers = [[item async for item in engine.answer(REQUEST)] for _ in range(3)]
        await engine.close()
    assert answers == [[WHOLE]] * 3
    assert [headers["authorization"] for headers in running.headers] == [f"Bearer {ACCESS}"] * 3
    (form,) = cloud.exchanged
    assert form["client_id"] == CLIENT and form["scope"].startswith(SCOPE)


async def test_a_token_holds_as_long_as_entra_says(cloud: StandIn) -> None:  # noqa: F811
    token = await tokens_of().fetch()
    assert 3500 < token.expires - time.time() <= 3600 and ACCESS not in repr(token)


async def test_an_identity_that_entra_refuses_is_the_operators_to_mend(
    cloud: StandIn,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.test_vault.FEDERATED", "another")
    reasons: list[str] = []
    with pytest.raises(EngineMisconfigured) as failed:
        await TokenCredential(tokens_of(), on_failure=reasons.append).headers()
    assert reasons == ["signing in failed (AADSTS700213)"] and "AADSTS" not in failed.value.message


async def test_no_identity_at_all_is_said_plainly(
    cloud: StandIn,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AZURE_FEDERATED_TOKEN_FILE")
    with pytest.raises(SignInFailed, match="no identity to sign in with") as failed:
        await tokens_of().fetch()
    assert failed.value.refused


class Hanging:
    """A credential of azure-identity that sleeps, as it does when an answer tells it to."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.go.wait(10)
        return AccessToken("late", 0)


async def test_an_entra_that_hangs_is_given_up_and_the_loop_goes_on() -> None:
    credential, ticks = Hanging(), 0
    waiting = asyncio.create_task(TokenCredential(EntraTokens(seconds=0.2, credential=credential)).headers())
    while not waiting.done():
        await asyncio.sleep(0.01)
        ticks += 1
    credential.go.set()
    with pytest.raises(EngineUnavailable):
        waiting.result()
    assert ticks > 3
