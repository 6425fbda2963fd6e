"""Reads a trace of real or synthetic traffic: when each call came, how long its prompt and its answer were. No text."""

import csv
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

TIME, PROMPT, ANSWER = "time", "prompt", "answer"
NAMES = {
    TIME: ("time", "timestamp", "arrival", "arrival_time", "at", "offset"),
    PROMPT: ("prompt_tokens", "prompt", "contexttokens", "input_tokens", "input_length", "num_prefill_tokens"),
    ANSWER: ("answer_tokens", "answer", "generatedtokens", "output_tokens", "output_length", "num_decode_tokens"),
}


class TraceError(Exception):
    """The file is no trace; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Call:
    """at: seconds since the trace's begin."""

    at: float
    prompt_tokens: int
    answer_tokens: int


def read(path: Path, most: int | None = None) -> tuple[Call, ...]:
    """The calls of a CSV file in order of time, at most so many of them.

    Columns are found by name (Azure's public traces, Vidur's, Mooncake's, ours), else they are the first three. Times
    are seconds or dates.
    """
    try:
        with path.open(newline="") as file:
            rows = list(itertools.islice(csv.reader(file), None if most is None else most + 1))
    except OSError as error:
        raise TraceError(f"cannot read the trace {path}: {error.strerror}") from error
    if not rows:
        raise TraceError(f"{path} is empty")
    places = _places(rows[0])
    first = 2 if places or not _is_number(rows[0][1:2]) else 1
    at, prompt, answer = places or (0, 1, 2)
    calls = []
    for line, row in enumerate(rows[first - 1 :], start=first):
        try:
            calls.append(Call(_seconds(row[at]), int(float(row[prompt])), int(float(row[answer]))))
        except (ValueError, IndexError) as error:
            raise TraceError(f"{path}, line {line}: not a time and two numbers of tokens") from error
    if not calls:
        raise TraceError(f"{path} holds no calls")
    calls.sort(key=lambda call: call.at)
    begin = calls[0].at
    return tuple(Call(call.at - begin, max(1, call.prompt_tokens), max(1, call.answer_tokens)) for call in calls)


def fitted(calls: Iterable[Call], context: int) -> tuple[tuple[Call, ...], float]:
    """The calls with all lengths scaled so that 99 % fit the context, the rest cut to it; and the scale (1 or less).

    Cutting alone would make every long call the same length; scaling keeps the shape of the trace.
    """
    calls = tuple(calls)
    totals = sorted(call.prompt_tokens + call.answer_tokens for call in calls)
    room = 0.9 * context  # a template adds tokens, and words are not tokens
    scale = min(1.0, room / totals[int(0.99 * (len(totals) - 1))])
    result = []
    for call in calls:
        answer = min(max(1, round(call.answer_tokens * scale)), max(1, round(room / 2)))
        prompt = min(max(1, round(call.prompt_tokens * scale)), max(1, round(room - answer)))
        result.append(Call(call.at, prompt, answer))
    return tuple(result), scale


def _places(header: list[str]) -> tuple[int, int, int] | None:
    known = [name.strip().lower() for name in header]
    found = [next((known.index(name) for name in NAMES[what] if name in known), None) for what in NAMES]
    at, prompt, answer = found
    return None if at is None or prompt is None or answer is None else (at, prompt, answer)


def _is_number(cells: list[str]) -> bool:
    try:
        return [float(cell) for cell in cells] != []
    except ValueError:
        return False


def _seconds(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        moment = datetime.fromisoformat(cell.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
