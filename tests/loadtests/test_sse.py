"""Reading a stream: the first text, the gaps, what is whole and what is not."""

import json
import re

import pytest

from loadtests.sse import Reading

ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}


def text(piece: str, **delta: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": piece} | delta}]}


def read(*events: object, keep: bool = False) -> Reading:
    """One event each tenth of a second, from 0."""
    reading = Reading(keep_text=keep)
    for number, event in enumerate(events):
        data = event if isinstance(event, str) else json.dumps(event)
        reading.line(f"data: {data}\n".encode(), number / 10)
        reading.line(b"\n", number / 10)
    return reading


def test_a_whole_answer_is_whole_and_its_times_are_those_of_its_text() -> None:
    reading = read(ROLE, text("a"), text("b"), text(""), text("c"), END, USAGE, "[DONE]", keep=True)
    assert reading.whole and reading.text == "abc" and (reading.prompt_tokens, reading.answer_tokens) == (9, 3)
    assert (reading.first, reading.frames) == (0.1, 3) and reading.gaps == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize(
    "piece",
    [
        {"choices": [{"delta": {"reasoning_content": "x"}}]},
        {"choices": [{"delta": {"reasoning": "x", "content": None}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "x"}}]}}]},
        {"choices": [{"text": "x"}]},
    ],
    ids=["reasoning_content", "reasoning", "arguments", "completions"],
)
def test_reasoning_arguments_and_completions_are_text_too(piece: dict[str, object]) -> None:
    assert read(ROLE, piece).first == 0.1


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ((text("a"), END, "[DONE]"), "usage"),
        ((text("a"), USAGE, "[DONE]"), "finish_reason"),
        ((text("a"), END, USAGE, "[DONE]", text("b")), "after"),
        ((text("a"), "{nonsense", END, USAGE, "[DONE]"), "no|not"),
        ((text("a"), "[1]", END, USAGE, "[DONE]"), "not"),
    ],
)
def test_what_is_out_of_order_or_missing_is_a_fault(events: tuple[object, ...], fault: str) -> None:
    reading = read(*events)
    assert not reading.whole and any(re.search(fault, told) for told in reading.faults)


def test_a_stream_without_its_end_is_not_done() -> None:
    assert not read(ROLE, text("a")).done


def test_an_error_event_is_an_error_and_no_fault() -> None:
    reading = read(text("a"), {"error": {"message": "no"}}, "[DONE]")
    assert reading.error and not reading.whole and not reading.faults


def test_comments_and_other_lines_are_passed_over() -> None:
    reading = Reading()
    for line in (b": ping\n", b"event: x\n", b"\r\n", b"data:[DONE]\n"):
        reading.line(line, 1.0)
    assert reading.done and reading.first is None


def test_text_is_not_kept_unless_it_is_needed() -> None:
    assert read(text("a")).text == ""
