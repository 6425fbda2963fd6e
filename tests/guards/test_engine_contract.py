"""What any Engine promises, of an engine with guards around it."""

from __future__ import annotations

import pytest

from serving.engines.echo import EchoEngine
from serving.guards.blocklist import Blocklist
from serving.guards.guarded import GuardedEngine
from serving.guards.pii import PiiGuard
from tests.engines.test_engine_contract import *  # noqa: F403  # the suite
from tests.engines.test_engine_contract import FAILURES, Subject


@pytest.fixture(params=["inner", "prompts only", "answers too"])
def subject(request: pytest.FixtureRequest) -> Subject:
    works = EchoEngine(max_model_len=50, failures=FAILURES)
    stages = frozenset({"prompt"}) if request.param == "prompts only" else frozenset({"prompt", "answer"})
    guards = [Blocklist("terms", terms=["forbidden words"], stages=stages), PiiGuard("pii", stages=stages)]
    return Subject(GuardedEngine(works, [] if request.param == "inner" else guards), works)
