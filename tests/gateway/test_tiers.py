"""Service tiers: who goes first, and that the answer says which tier it was."""

from __future__ import annotations

import pytest

from tests.conftest import OpenSite
from tests.local import WHOLE, RecordingEngine, chat, events

PATH = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("asked", "allowed", "used", "priority"),
    [
        ("auto", True, "default", 0),
        ("flex", False, "flex", 5),
        ("priority", True, "priority", -5),
        ("priority", False, "default", 0),
    ],
)
async def test_the_tier_that_is_used_orders_the_request_and_is_told(
    site: OpenSite, asked: str, allowed: bool, used: str, priority: int
) -> None:
    engine = RecordingEngine()
    deployments = [{"name": "echo", "engine": {"kind": "echo"}, "priority_tier": allowed}]
    response = await site(engine, deployments=deployments).client().post(PATH, json=chat(service_tier=asked))
    assert response.json()["service_tier"] == used
    assert engine.asked[0].priority == priority and "service_tier" not in engine.asked[0].body


async def test_each_event_of_a_stream_tells_it_too(site: OpenSite) -> None:
    response = await site().client().post(PATH, json=chat("a b", stream=True, service_tier="auto"))
    payloads = events(response.content)
    assert payloads[-1] == "[DONE]" and all(payload["service_tier"] == "default" for payload in payloads[:-1])


async def test_who_does_not_ask_gets_the_engines_bytes_untouched(site: OpenSite) -> None:
    assert (await site(RecordingEngine()).client().post(PATH, json=chat())).content == WHOLE


async def test_an_unknown_tier_is_refused(site: OpenSite) -> None:
    response = await site().client().post(PATH, json=chat(service_tier="CANARY"))
    assert response.status_code == 400 and "CANARY" not in response.text
