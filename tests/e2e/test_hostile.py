"""Attacks on the whole product beside a bystander: the short form of `python -m loadtests.hostile`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

from loadtests.hostile.attack import Attack
from loadtests.hostile.attacks import ATTACKS
from loadtests.hostile.drill import Drill
from loadtests.hostile.product import MODEL, HostileServer
from loadtests.hostile.samples import Samples

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

NAMES = (
    "openapi.json", "invented keys", "half headers", "streams left at once", "forged place", "other ports",
    "nested lists", "token ids", "escapes", "odd numbers of responses", "cut uploads", "heavy batch",
    "pattern repeated", "schema by batch",
)  # fmt: skip
SHORT = {one.name: replace(one, seconds=2.5) for one in ATTACKS}


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    """On echo replicas. The bystander is slow enough for a machine that has other tests to run."""
    folder = tmp_path_factory.mktemp("hostile")
    with (
        HostileServer(folder, engines="echo") as server,
        Samples(server.url, server.keys["ward"], MODEL, rate=3) as who,
    ):
        running = Drill(server, who, print)
        running.listen(4.0)
        yield running


@pytest.mark.parametrize("attack", [SHORT[name] for name in NAMES], ids=NAMES)
def test_an_attacker_is_refused_and_a_bystander_served(drill: Drill, attack: Attack) -> None:
    found = drill.suffer(attack)
    assert not found.failures and not found.restarted and found.requests
    assert set(found.got) <= attack.gets and found.got
    assert not found.leaked and (attack.leaves_files or not found.stored)
    assert not math.isinf(found.calm_s), "all is as before within a minute"
