"""Lines of input files, cut and checked; lines of output files; when a line is tried again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batches import lines
from serving.batches.lines import Answer, BadLine, Inspection, Line
from serving.batches.retries import LONGEST, LONGEST_TOLD, wait_before_another
from serving.tenants.callers import Caller
from tests.batches.workshop import line, pieces

OWNER = Caller("ward", "key-1", "tests")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


async def cut(chunks: list[bytes], longest: int = 1000) -> list[tuple[int, bytes]]:
    return [one async for one in lines.split(pieces(*chunks), longest=longest)]


@given(st.lists(st.binary(max_size=40).map(lambda text: text.replace(b"\n", b""))), st.data())
async def test_lines_are_the_same_wherever_the_bytes_are_cut(texts: list[bytes], data: st.DataObject) -> None:
    whole = b"\n".join(texts)
    at = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    chunks = [whole[a:b] for a, b in zip([0, *at], [*at, len(whole)], strict=True)]
    expected = [(number, text) for number, text in enumerate(texts, 1) if text.strip()]
    assert await cut(chunks) == expected


@pytest.mark.parametrize("chunks", [[b"ok\n", b"12345678901"], [b"ok\n12345678901\nok"], [b"ok\n123456", b"78901\n"]])
async def test_a_line_that_is_too_long_is_found_in_whatever_pieces_it_comes(chunks: list[bytes]) -> None:
    with pytest.raises(BadLine) as error:
        await cut(chunks, longest=10)
    assert error.value.problem.line == 2


async def test_windows_ends_of_lines_do_not_matter() -> None:
    ((_, first), (_, second)) = await cut([line(1).replace(b"\n", b"\r\n") + line(2)])
    assert (lines.read(1, first).custom_id, lines.read(2, second).custom_id) == ("t-1", "t-2")


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_anything_is_read_or_refused_with_its_number(text: bytes) -> None:
    inspection = Inspection("/v1/chat/completions", OWNER, {"m"}, most=9)
    inspection.look(7, text)
    assert [one.line for one in inspection.problems] == [7]


@given(st.text(), JSON)
def test_a_refusal_quotes_nothing_of_the_line(canary: str, value: Any) -> None:
    canary = f"Quackenbush {canary}"
    for text in (line(1, custom_id=canary * 100), line(1, method=canary), line(1, url=canary), line(1, body=canary)):
        inspection = inspected(text)
        assert inspection.problems and all("Quackenbush" not in str(problem) for problem in inspection.problems)


def inspected(*texts: bytes, **changes: Any) -> Inspection:
    inspection = Inspection("/v1/chat/completions", OWNER, {"m", "n"}, most=changes.pop("most", 100), **changes)
    for number, text in enumerate(texts, 1):
        inspection.look(number, text)
    inspection.finish()
    return inspection


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"custom_id": None}, "missing_required_parameter"),
        ({"custom_id": ""}, "invalid_request"),
        ({"custom_id": 7}, "invalid_request"),
        ({"method": None}, "invalid_method"),
        ({"url": None}, "invalid_url"),
        ({"url": "/v1/completions"}, "url_mismatch"),
        ({"body": []}, "invalid_request"),
        ({"body": {"model": "m", "stream": True}}, "invalid_request"),
        ({"body": {}}, "model_not_found"),
        ({"body": {"model": 7}}, "model_not_found"),
        ({"body": {"model": "n"}}, "model_mismatch"),
    ],
)
def test_what_is_wrong_with_a_line_has_its_code(changes: dict[str, Any], code: str) -> None:
    (problem,) = inspected(line(1), line(2, **changes)).problems
    assert (problem.code, problem.line) == (code, 2)


def test_a_deployment_that_the_owner_may_not_call_is_as_one_that_is_not_there() -> None:
    bound = Caller("ward", "key-1", "tests", deployments=frozenset({"other"}))
    inspection = Inspection("/v1/chat/completions", bound, {"m"}, most=10)
    inspection.look(1, line(1))
    assert inspection.problems[0].code == "model_not_found"


def test_a_file_full_of_mistakes_names_the_first_and_stops() -> None:
    inspection = inspected(*[b"{" for _ in range(80)], most_problems=50)
    assert inspection.done and [one.line for one in inspection.problems[:50]] == list(range(1, 51))


@pytest.mark.parametrize(
    "url",
    [
        "/v1/chat/completions",
        "/chat/completions",
        "/openai/v1/chat/completions",
        "/openai/deployments/gpt-4.1_x/chat/completions",
        "/openai/chat/completions",
    ],
)
def test_an_endpoint_may_be_written_as_openai_and_azure_write_it(url: str) -> None:
    assert lines.plain(url) == "/v1/chat/completions"
    assert inspected(line(1, url=url)).problems == []


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_the_body_that_is_sent_is_the_one_that_came(body: dict[str, Any]) -> None:
    (sent,) = [lines.body_of(lines.read(1, line(1, body=body)))]
    assert json.loads(sent) == body


def test_a_body_that_is_not_english_does_not_grow() -> None:
    body = {"text": "高血压患者" * 100}
    assert len(lines.body_of(Line(1, "t", "/", body))) <= len(json.dumps(body, ensure_ascii=False).encode())


@given(st.text(min_size=1, max_size=20), JSON, st.booleans())
def test_an_output_line_is_one_line_for_every_reader_and_holds_the_answer_as_it_was(
    custom_id: str, value: Any, pretty: bool
) -> None:
    body = json.dumps({"a": value}, ensure_ascii=False, indent=1 if pretty else None).encode(errors="surrogatepass")
    text = lines.answered("batch_1", Line(3, custom_id, "/", {}), Answer(200, "req_9", body))
    (only,) = text.decode(errors="surrogatepass").splitlines()
    read = json.loads(only)
    assert (read["custom_id"], read["error"]) == (custom_id, None)
    assert read["response"] == {"status_code": 200, "request_id": "req_9", "body": {"a": value}}


def test_a_surrogate_in_a_custom_id_comes_back() -> None:
    value = lines.read(1, b'{"custom_id":"\\ud800","method":"POST","url":"/","body":{}}')
    assert json.loads(lines.answered("batch_1", value, Answer(200, "r", b"{}")))["custom_id"] == "\ud800"
    assert json.loads(lines.not_answered("batch_1", value, "c", "m"))["custom_id"] == "\ud800"


def test_numbers_of_an_answer_are_not_rewritten() -> None:
    text = lines.answered("batch_1", Line(1, "t", "/", {}), Answer(200, "r", b'{"x": 1.10, "y": 1e3}'))
    assert b'{"x": 1.10, "y": 1e3}' in text


def test_an_answer_that_is_no_json_is_an_error_that_does_not_quote_it() -> None:
    text = lines.answered("batch_1", Line(1, "t", "/", {}), Answer(200, "r", b"<html>Quackenbush"))
    assert json.loads(text)["error"]["code"] == "server_error" and b"Quackenbush" not in text


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"usage": {"prompt_tokens": 5, "completion_tokens": 2}}', (5, 0, 2)),
        (
            b'{"usage": {"input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}}}',
            (5, 4, 2),
        ),
        (b'{"usage": null}', (0, 0, 0)),
        (b'{"usage": [1]}', (0, 0, 0)),
        (b"[]", (0, 0, 0)),
        (b"no json", (0, 0, 0)),
    ],
)
def test_tokens_are_read_in_both_spellings(body: bytes, tokens: tuple[int, int, int]) -> None:
    assert lines.usage_in(Answer(200, "r", body)) == tokens


def wait(status: int, attempt: int = 1, retry_after: float | None = None, chance: float = 1.0) -> float | None:
    return wait_before_another(Answer(status, "r", b"", retry_after), attempt, tries=3, chance=lambda: chance)


def test_who_is_told_to_come_later_comes_later_and_not_earlier() -> None:
    assert wait(429, retry_after=7) == 7
    assert wait(503, retry_after=0.1) == 0.5
    assert wait(503, attempt=1000) == LONGEST
    assert wait(429, attempt=5, retry_after=86400) == LONGEST_TOLD


def test_what_broke_is_tried_a_few_times_and_what_is_wrong_never() -> None:
    assert [wait(500, attempt) is None for attempt in (1, 2, 3)] == [False, False, True]
    assert [wait(status) for status in (200, 400, 401, 403, 404, 413, 422, 429)] == [None] * 8


def test_what_the_server_says_to_be_final_is_not_tried_again() -> None:
    for status in (429, 500, 502, 503):
        assert wait_before_another(Answer(status, "r", b"", 1.0, is_final=True), 1, tries=3) is None


def test_waits_are_spread() -> None:
    assert (wait(503, chance=0.0), wait(503, chance=1.0)) == (0.25, 0.5)
