"""The batch: its lines, what became of them, and how two runs of it compare. No server."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

DRUGS = ("lisinopril", "metformin", "amlodipine", "sertraline", "apixaban", "omeprazole", "atorvastatin", "furosemide")
ALLERGIES = ("penicillin", "latex", "codeine", "sulfa", "ibuprofen", "none known")
QUESTIONS = ("Which medications does the patient take?", "Any allergies?", "How old is the patient?")


def lines_of(count: int, model: str, *, tokens: int, seed: int) -> bytes:
    """A JSON Lines file of so many questions about short synthetic notes, each with one answer: temperature 0."""
    chance = Random(seed)
    return b"".join(_line(number, model, tokens, chance) for number in range(count))


def _line(number: int, model: str, tokens: int, chance: Random) -> bytes:
    drugs = ", ".join(f"{drug} {chance.randint(1, 40) * 5} mg daily" for drug in chance.sample(DRUGS, 2))
    note = f"{chance.randint(20, 95)}-year-old with hypertension. Medications: {drugs}. "
    note += f"Allergies: {chance.choice(ALLERGIES)}. "
    body = {
        "model": model,
        "messages": [{"role": "user", "content": note + chance.choice(QUESTIONS)}],
        "temperature": 0,
        "max_tokens": tokens,
    }
    line = {"custom_id": f"note-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(line).encode() + b"\n"


@dataclass(frozen=True)
class Outcome:
    """What the output file and the error file of one batch hold. answers: by custom_id."""

    answers: Mapping[str, str]
    failed: frozenset[str]
    doubled: frozenset[str]
    requests: frozenset[str]
    """Ids of the requests whose answers these are."""

    @classmethod
    def of(cls, output: str, errors: str) -> "Outcome":
        rows = [json.loads(row) for row in output.splitlines()]
        failed = [json.loads(row) for row in errors.splitlines()]
        seen = Counter(row["custom_id"] for row in (*rows, *failed))
        return cls(
            answers={row["custom_id"]: _text_of(row["response"]["body"]) for row in rows},
            failed=frozenset(row["custom_id"] for row in failed),
            doubled=frozenset(id for id, times in seen.items() if times > 1),
            requests=frozenset(row["response"]["request_id"] for row in rows),
        )


def _text_of(body: Mapping[str, Any]) -> str:
    choice = body["choices"][0]
    return f"{choice['finish_reason']}: {choice['message']['content']}"


@dataclass(frozen=True)
class Verdict:
    """One run against the one that nothing happened to. different: lines whose answers differ. lost, again: answers
    that the ledger does not know, and completed requests in it whose answers are in no file.
    """

    lines: int
    missing: int
    doubled: int
    failed: int
    different: int
    lost: int
    again: int

    @property
    def every_line_once(self) -> bool:
        return self.missing == self.doubled == self.failed == 0


def verdict(outcome: Outcome, reference: Outcome, expected: int, ledger: Iterable[Mapping[str, Any]]) -> Verdict:
    """ledger: the records of the time of this run."""
    ids = {f"note-{number}" for number in range(expected)}
    there = outcome.answers.keys() | outcome.failed
    charged = {record["id"] for record in ledger if record["outcome"] == "ok"}
    return Verdict(
        lines=expected,
        missing=len(ids - there),
        doubled=len(outcome.doubled) + len(there - ids),
        failed=len(outcome.failed),
        different=sum(outcome.answers.get(id) != text for id, text in reference.answers.items()),
        lost=len(outcome.requests - charged),
        again=len(charged - outcome.requests),
    )
