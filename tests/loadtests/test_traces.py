"""Traces: any CSV with a time and two lengths, and how it is made to fit a model."""

from pathlib import Path

import pytest

from loadtests import traces
from loadtests.traces import Call, TraceError


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.1805900,396,109\n",
        "answer_tokens,time,prompt_tokens\n44,7,374\n109,10.5,396\n",
        "10.5,396,109\n7,374,44\n",
        "when,in,out\n100,374,44\n103.5,396,109\n",
        "time,prompt,answer\n2024-05-10T00:00:00.5+00:00,374,44\n2024-05-10T00:00:04Z,396,109\n",
    ],
    ids=["azure", "other order", "no header", "unknown names", "zones"],
)
def test_times_and_lengths_are_found_whatever_the_columns_are_called(tmp_path: Path, text: str) -> None:
    assert traces.read(written(tmp_path, text)) == (Call(0.0, 374, 44), Call(pytest.approx(3.5), 396, 109))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("time,prompt,answer\n", "no calls"),
        ("time,prompt,answer\n1,2,3\n4,x,5\n", "line 3"),
        ("1,2\n", "line 1"),
    ],
)
def test_what_is_no_trace_is_refused_with_the_place(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(TraceError, match=why):
        traces.read(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"gone\.csv"):
        traces.read(tmp_path / "gone.csv")


def test_long_calls_are_scaled_to_the_context_and_keep_their_shape() -> None:
    calls = [Call(0.0, 4000, 400), Call(1.0, 2000, 100)] * 60 + [Call(2.0, 90_000, 9)]
    fitted, scale = traces.fitted(calls, 2048)
    assert scale == pytest.approx(0.9 * 2048 / 4400)
    assert fitted[0].prompt_tokens == pytest.approx(2 * fitted[1].prompt_tokens, abs=1)
    assert all(call.prompt_tokens + call.answer_tokens <= 2048 for call in fitted)


def test_a_trace_that_fits_is_left_alone() -> None:
    calls = (Call(0.0, 100, 10), Call(1.0, 50, 5))
    assert traces.fitted(calls, 4096) == (calls, 1.0)
