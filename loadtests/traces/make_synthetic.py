"""Writes synthetic.csv: five minutes of made-up traffic, so that `trace` runs without a download.

Gamma gaps (CV 2), log-normal prompts with a long tail, exponential answers, and no relation between the two, as in
public traces of chat services. It is an example of the format, not evidence about anyone's load.
"""

import csv
from pathlib import Path
from random import Random

RATE, CV, SECONDS = 2.0, 2.0, 300.0


def main() -> None:
    rng, at, rows = Random(6), 0.0, []
    while (at := at + rng.gammavariate(1 / CV**2, CV**2 / RATE)) < SECONDS:
        prompt = min(8000, round(rng.lognormvariate(5.6, 1.0)))
        rows.append((f"{at:.3f}", max(8, prompt), max(1, round(rng.expovariate(1 / 90)))))
    with Path(__file__).with_name("synthetic.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("time", "prompt_tokens", "answer_tokens"), *rows])


if __name__ == "__main__":
    main()
