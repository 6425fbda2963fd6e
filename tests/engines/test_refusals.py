"""What an endpoint's refusals mean to our caller, over the wire and word by word."""

from __future__ import annotations

import datetime
import email.utils
import json
from typing import Any

import pytest

from serving.engines.engine import EngineRequest
from serving.engines.http import FixedEndpoint, HttpEngine
from serving.engines.refusals import EngineBusy, EngineMisconfigured, GrammarRefused, translated
from serving.errors import (
    ContentFiltered,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    InvalidRequest,
    OperationNotSupported,
    ServingError,
    TooManyRequests,
)
from tests.engines.openai_stub import error_body, refusing, stub
from tests.local import Tree, chat

CANARY = "Zebulon-Quackenbush-19470231"


async def refused(status: int, body: object, **headers: str) -> ServingError:
    async with stub(refusing(status, body, **headers)) as running:
        engine = HttpEngine(FixedEndpoint(running.url), model="m")
        with pytest.raises(ServingError) as failed:
            await anext(engine.answer(EngineRequest("chat", chat(), False, "req_1", "salt")))
        await engine.close()
    error = failed.value
    assert CANARY not in error.message and CANARY not in json.dumps(error.azure_body()) and CANARY not in str(error)
    return error


def in_words(seconds: int) -> Tree:
    return {"error": {"code": "429", "message": f"{CANARY}. Please retry after {seconds} seconds."}}


WAITS: list[tuple[Tree, Any, float]] = [
    ({"retry_after": "7"}, None, 7), ({"retry_after": "7.5"}, None, 7.5), ({"retry_after_ms": "2500"}, None, 2.5),
    ({"retry_after_ms": "2500", "retry_after": "9"}, None, 2.5), ({"retry_after": "0"}, None, 1),
    ({"retry_after": "-5"}, None, 1), ({"retry_after": "86400"}, None, 300), ({"retry_after": "soon"}, None, 2),
    ({"retry_after": "inf"}, None, 2), ({"retry_after": "nan"}, None, 2), ({}, None, 2), ({}, in_words(8), 8),
    ({}, in_words(90000), 300), ({"retry_after": "4"}, in_words(8), 4),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "body", "seconds"), WAITS)
async def test_a_busy_endpoint_is_429_with_its_own_advice_within_limits(
    headers: dict[str, str], body: Any, seconds: float
) -> None:
    error = await refused(429, body, **headers)
    assert isinstance(error, EngineBusy) and error.retry_after == seconds and error.free
    assert (error.status, error.kind, error.code) == (429, "rate_limit_exceeded", "engine_busy")


async def test_a_date_is_advice_too() -> None:
    date = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)
    error = await refused(429, None, retry_after=email.utils.format_datetime(date, usegmt=True))
    assert error.retry_after is not None and 30 < error.retry_after <= 60


async def test_a_busy_endpoint_spills_and_speaks_as_our_own_limits_do() -> None:
    error = await refused(429, None)
    assert (
        isinstance(error, TooManyRequests) and isinstance(error, EngineError) and "retry after 2 sec" in error.message
    )


@pytest.mark.parametrize("status", [301, 307, 401, 402, 403, 404, 405])
@pytest.mark.parametrize("body", [error_body(401, CANARY), None, {"statusCode": 401, "message": CANARY}])
async def test_a_refusal_of_our_credential_or_address_is_503_and_not_the_callers(status: int, body: Any) -> None:
    error = await refused(status, body)
    assert isinstance(error, EngineMisconfigured) and isinstance(error, EngineUnavailable)
    assert (error.status, error.code, error.free) == (503, "engine_misconfigured", True) and error.retry_after


@pytest.mark.parametrize("status", [408, 504])
async def test_an_endpoint_that_was_too_slow_is_a_timeout(status: int) -> None:
    assert type(await refused(status, None)) is EngineTimeout


@pytest.mark.parametrize("status", [409, 424, 500, 502, 503, 529])
async def test_any_other_status_is_unavailable_with_the_endpoints_advice(status: int) -> None:
    error = await refused(status, error_body(status, CANARY), retry_after="11")
    assert type(error) is EngineUnavailable and error.retry_after == 11


def filtered(key: str = "innererror", result: str = "content_filter_result", **verdicts: Any) -> Tree:
    inner = {"code": "ResponsibleAIPolicyViolation", result: verdicts, "revised_prompt": CANARY}
    return {"error": {"message": CANARY, "code": "content_filter", "status": 400, "param": "prompt", key: inner}}


VIOLENT = {"filtered": True, "severity": "medium"}
ATTACK = {"filtered": False, "detected": False}


@pytest.mark.parametrize(
    ("key", "result"), [("innererror", "content_filter_result"), ("inner_error", "content_filter_results")]
)
async def test_a_prompt_that_azure_filters_is_refused_in_azures_shape(key: str, result: str) -> None:
    error = await refused(400, filtered(key, result, violence=VIOLENT, jailbreak=ATTACK))
    assert isinstance(error, ContentFiltered) and isinstance(error, InvalidRequest)
    assert (error.status, error.code, error.param) == (400, "content_filter", "prompt")
    body = error.azure_body()["error"]
    assert isinstance(body, dict) and "content management policy" in body.pop("message")
    assert body == {
        "type": None, "param": "prompt", "code": "content_filter", "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"violence": VIOLENT, "jailbreak": ATTACK},
        },
    }  # fmt: skip


HOSTILE: list[Tree] = [
    {CANARY: VIOLENT}, {"hate": CANARY}, {"hate": {"filtered": CANARY, "severity": CANARY, CANARY: True}},
    {"hate": {"severity": [CANARY]}}, {"custom_blocklists": {"filtered": True, "details": [{"id": CANARY}]}},
    {"protected_material_code": {"citation": {"URL": CANARY}}}, {"hate": None}, {"hate": [CANARY]},
]  # fmt: skip


@pytest.mark.parametrize("verdicts", HOSTILE)
async def test_of_a_filters_verdicts_only_known_words_pass(verdicts: Tree) -> None:
    assert isinstance(await refused(400, filtered(**verdicts)), ContentFiltered)


@pytest.mark.parametrize("inner", [None, CANARY, [CANARY], 5])
async def test_a_filter_that_gives_no_reasons_still_filters(inner: Any) -> None:
    body = {"error": {"code": "content_filter", "message": CANARY, "innererror": inner}}
    assert isinstance(await refused(400, body), ContentFiltered)
    flat = {"status": 400, "code": "content_filter", "message": CANARY, "param": "messages"}
    assert isinstance(await refused(400, flat), ContentFiltered)


async def test_a_model_for_something_else_is_told_as_such() -> None:
    assert isinstance(await refused(400, {"error": {"code": "OperationNotSupported"}}), OperationNotSupported)


def test_to_a_replica_of_ours_a_404_is_a_route_that_is_not_there_yet() -> None:
    assert type(translated(404, {}, ours=True)) is EngineUnavailable


@pytest.mark.parametrize("verdict", ["dear", "invalid", "ignored", "empty"])
@pytest.mark.parametrize(
    ("fields", "place"),
    [({"response_format": {"type": "json_schema", "json_schema": {"name": CANARY}}}, "response_format"),
     ({"tools": [{"type": "function", "function": {"name": CANARY}}]}, "tools")],
)  # fmt: skip
async def test_a_schema_that_was_compiled_aside_is_refused_by_the_field_it_came_by(
    verdict: str, fields: Tree, place: str
) -> None:
    for stream in (False, True):
        said = error_body(400, f"grammar:{verdict}")
        async with stub(refusing(400, said)) as running:
            engine = HttpEngine(FixedEndpoint(running.url), model="m", ours=True)
            with pytest.raises(GrammarRefused) as failed:
                await anext(engine.answer(EngineRequest("chat", chat(**fields), stream, "req_1", "salt")))
            await engine.close()
        assert (failed.value.status, failed.value.param) == (400, place)
        assert failed.value.message.startswith(f"{place}: the JSON schema ") and CANARY not in failed.value.message
