"""A moderation service elsewhere: what is asked, what its answers mean, what happens when it is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from serving.engines.engine import Tally
from serving.guards.categories import Analysis, ContentSafety, OpenAIModeration
from serving.guards.guard import GuardUnavailable
from serving.guards.guarded import GuardedEngine
from serving.guards.moderation import ModerationGuard
from serving.guards.results import UNCHECKED
from tests.guards.answers import a_request, answered, choices_of, ended, said, streamed, text_of, whole
from tests.local import RecordingEngine, Tree

Script = Callable[[Tree], Awaitable[Tree | web.Response]]


@contextlib.asynccontextmanager
async def service(script: Script, analysis: Analysis | None = None, **fields: Any) -> AsyncIterator[ModerationGuard]:
    """A guard with a service on loopback that answers by the script."""

    async def answer(request: web.Request) -> web.StreamResponse:
        said = await script(await request.json())
        return said if isinstance(said, web.Response) else web.json_response(said)

    app = web.Application()
    app.router.add_post("/check", answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/check"
    guard = ModerationGuard("mod", url=url, analysis=analysis or OpenAIModeration(), **fields)
    try:
        yield guard
    finally:
        await guard.close()
        await runner.cleanup()


async def scoring(question: Tree) -> Tree:
    """OpenAI's shape: `kill` is violence, `mild` a little of it."""
    score = 0.9 if "kill" in question["input"] else 0.3 if "mild" in question["input"] else 0.01
    result = {"flagged": score > 0.5, "categories": {"violence": score > 0.5, "self-harm/intent": False}}
    return {"results": [{**result, "category_scores": {"violence": score, "self-harm/intent": 0.0}}]}


def says(*items: bytes) -> RecordingEngine:
    return RecordingEngine(items=items)


@pytest.mark.parametrize(
    ("text", "decision", "violence"),
    [("kill", "blocked", "high"), ("mild", "annotated", "low"), ("kind", "passed", "safe")],
)
async def test_openais_scores_become_azures_severities(text: str, decision: str, violence: str) -> None:
    async with service(scoring) as guard:
        verdict = await guard.check_prompt(["hello", text])
    assert verdict.decision == decision and list(verdict.results) == ["hate", "self_harm", "sexual", "violence"]
    assert verdict.results["violence"] == {"filtered": decision == "blocked", "severity": violence}


async def test_content_safety_is_asked_and_read_in_its_own_words() -> None:
    asked = []

    async def analyze(question: Tree) -> Tree:
        asked.append(question)
        return {"categoriesAnalysis": [{"category": "SelfHarm", "severity": 4}, {"category": "Hate", "severity": 2}]}

    async with service(analyze, ContentSafety({"self_harm": "high", "hate": "low"})) as guard:
        verdict = await guard.check_prompt(["hello"])
    assert asked[0]["text"] == "hello" and asked[0]["outputType"] == "FourSeverityLevels"
    assert verdict.results["self_harm"] == {"filtered": False, "severity": "medium"}
    assert verdict.results["hate"] == {"filtered": True, "severity": "low"} and verdict.blocks


async def test_annotating_never_blocks() -> None:
    async with service(scoring, mode="annotate") as guard:
        verdict = await guard.check_prompt(["kill"])
    assert verdict.decision == "annotated" and verdict.results["violence"] == {"filtered": False, "severity": "high"}


async def test_a_jailbreak_that_a_service_knows_is_told_as_detected() -> None:
    async def script(question: Tree) -> Tree:
        return {"results": [{"categories": {"jailbreak": True}}]}

    async with service(script, OpenAIModeration({"jailbreak": "medium"})) as guard:
        verdict = await guard.check_prompt(["hi"])
    assert verdict.results["jailbreak"] == {"filtered": True, "detected": True} and verdict.blocks


async def test_a_long_text_is_sent_in_parts_until_one_blocks() -> None:
    asked = []

    async def script(question: Tree) -> Tree:
        asked.append(question["input"])
        return await scoring(question)

    async with service(script) as guard:
        assert (await guard.check_prompt(["x" * 25_000])).decision == "passed"
        assert [len(part) for part in asked] == [10_000, 10_000, 5_200]
        assert (await guard.check_prompt(["kill " + "x" * 25_000])).blocks
    assert len(asked) == 4


async def test_a_stream_goes_out_in_bursts_as_the_service_clears_it() -> None:
    async with service(scoring, step=20, stages=frozenset({"answer"})) as guard:
        seen = await streamed(GuardedEngine(says(*said(*["kind "] * 9, "kill ", "you"), ended()), [guard]))
        good = await streamed(GuardedEngine(says(*said(*["kind "] * 9), ended()), [guard]))
    assert text_of(good) == "kind " * 9
    assert text_of(seen) == "kind " * 4  # of the two parts that were clear, the second is the context of the third
    assert choices_of(seen)[-1]["finish_reason"] == "content_filter"
    assert choices_of(seen)[-1]["content_filter_results"]["violence"] == {"filtered": True, "severity": "high"}


async def broken(question: Tree) -> web.Response:
    return web.Response(status=500, text=question["input"])


async def silent(question: Tree) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def nonsense(question: Tree) -> Tree:
    return {"results": []}


@pytest.mark.parametrize("script", [broken, silent, nonsense])
async def test_when_it_is_away_a_prompt_is_refused_at_no_cost(script: Script) -> None:
    async with service(script, timeout=0.2) as guard:
        inner, told = says(whole("hi")), []
        engine = GuardedEngine(inner, [guard], lambda *one: told.append(one))
        with pytest.raises(GuardUnavailable) as refused:
            await answered(engine, "private")
    assert inner.asked == [] and told == [("mod", "prompt", "failed")]
    assert refused.value.retry_after and "private" not in f"{refused.value!r}{refused.value.__cause__!r}"
    assert await engine.reckon("req_1") == Tally(prompt=0, cached=0, completion=0)


@pytest.mark.parametrize("script", [broken, silent, nonsense])
async def test_or_it_passes_with_azures_sign_that_it_was_not_checked(script: Script) -> None:
    async with service(script, timeout=0.05, when_away="pass", step=10) as guard:
        engine = GuardedEngine(says(*said(*["kill "] * 9), ended()), [guard])
        seen = await streamed(engine)
    assert seen[0]["prompt_filter_results"][0]["content_filter_results"]["error"] == UNCHECKED["error"]
    assert text_of(seen) == "kill " * 9
    assert choices_of(seen)[-1]["content_filter_results"] == UNCHECKED


async def test_an_answer_that_cannot_be_checked_is_refused_and_its_cost_known() -> None:
    async with service(broken, stages=frozenset({"answer"})) as guard:
        engine = GuardedEngine(says(whole("hi")), [guard])
        with pytest.raises(GuardUnavailable):
            await answered(engine)
        assert await engine.reckon("req_1") == Tally(prompt=3, cached=0, completion=9)
        stream = GuardedEngine(says(*said("hi")), [guard])
        with pytest.raises(GuardUnavailable):
            await streamed(stream)


async def test_no_more_than_so_many_calls_are_under_way() -> None:
    running = most = 0

    async def script(question: Tree) -> Tree:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return await scoring(question)

    async with service(script, concurrency=2) as guard:
        await asyncio.gather(*(guard.check_prompt([f"hello {at}"]) for at in range(8)))
    assert most == 2


async def test_a_client_that_leaves_is_charged_for_an_answer_that_was_being_checked() -> None:
    async with service(silent, stages=frozenset({"answer"}), timeout=60.0) as guard:
        engine = GuardedEngine(says(whole("hi")), [guard])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anext(engine.answer(a_request()))
        assert await engine.reckon("req_1") == Tally(prompt=3, cached=0, completion=9)
