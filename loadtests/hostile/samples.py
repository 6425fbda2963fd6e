"""The bystander's process and what it has seen so far."""

import json
import statistics
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Self

from loadtests.hostile.bystander import Sample
from loadtests.runs import ROOT

LATE_S = 0.01
"""A sample of a caller who was woken later than that says nothing about the product."""


class Samples:
    """Starts it on entering, stops it on leaving. rate: streams a second."""

    def __init__(self, url: str, key: str, model: str, *, rate: float) -> None:
        self._whom = {"url": url, "key": key, "model": model, "rate": rate}
        self._all: list[Sample] = []

    def __enter__(self) -> Self:
        words = [sys.executable, "-m", "loadtests.hostile.bystander"]
        self._process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(self._whom) + "\n")
        self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait(10)
        self._reader.join(5)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._all.append(Sample(**json.loads(line)))

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def between(self, begin: float, end: float) -> list[Sample]:
        """Of the requests that had begun by `end` and had not ended at `begin`."""
        return [one for one in list(self._all) if one.began <= end and one.ended >= begin]

    def last(self, kind: str, count: int) -> list[Sample]:
        return [one for one in list(self._all)[-20 * count :] if one.kind == kind][-count:]


def first_tokens(samples: Sequence[Sample]) -> tuple[list[float], int]:
    """Seconds to the first token of the streams, and how many samples are void, since the caller itself was late."""
    streams = [one for one in samples if one.first is not None]
    sound = [one.first for one in streams if one.first is not None and one.late <= LATE_S]
    return sorted(sound), len(streams) - len(sound)


def percentile(times: Sequence[float], share: float) -> float:
    """Of sorted times; of few, the longest stands for the highest ones."""
    if not times:
        return float("nan")
    return times[min(len(times) - 1, int(share * len(times)))]


def p50(times: Sequence[float]) -> float:
    return statistics.median(times) if times else float("nan")
