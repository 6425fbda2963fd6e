"""What is asked: each workload is a script that yields requests and is sent the answers' texts.

    script = workload.script(notes, rng, arrival)
    ask = next(script)
    ask = script.send("the answer")       # a conversation's next turn; StopIteration when it is over

Equal seeds give equal requests, whatever the number of workers. `scaled` fits all lengths to a model's context.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Protocol

from loadtests import notes
from loadtests.arrivals import Arrival
from loadtests.notes import Notes

SHARE_OF_CONTEXT = 0.9
"""A template adds tokens, and lengths are estimates."""
Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. label: what the report calls it where a flow has several sorts. fields: further ones of the body."""

    messages: list[Message]
    answer_tokens: int
    label: str = ""
    fields: dict[str, Any] | None = None
    keep_text: bool = False
    forced: bool = True  # whether the answer is to have exactly this length, where the server can be told


Script = Generator[Ask, str, None]


class Workload(Protocol):
    def script(self, text: Notes, rng: Random, arrival: Arrival) -> Script: ...
    def scaled(self, context: int) -> "Workload":
        """The same with prompts and answers that fit this many tokens."""
        ...


@dataclass(frozen=True)
class Chat:
    """One note with a question. spread: sigma of the log-normal around the mean length; 0 is always the same.

    A trace's arrival brings its own lengths.
    """

    prompt: int = 150
    answer: int = 64
    spread: float = 0.0

    def script(self, text: Notes, rng: Random, arrival: Arrival) -> Script:
        prompt, answer = self.prompt, self.answer
        if arrival.call:
            prompt, answer = arrival.call.prompt_tokens, arrival.call.answer_tokens
        elif self.spread:
            prompt, answer = _around(prompt, self.spread, rng), _around(answer, self.spread, rng)
        yield Ask([_user(f"{text.text(prompt - 8, rng)} {rng.choice(notes.QUESTIONS)}")], answer)

    def scaled(self, context: int) -> "Chat":
        largest = (self.prompt + self.answer) * (4 if self.spread else 1)
        factor = min(1.0, SHARE_OF_CONTEXT * context / largest)
        return replace(self, prompt=max(16, int(self.prompt * factor)), answer=max(1, int(self.answer * factor)))


@dataclass(frozen=True)
class Record:
    """A long patient record and a question: prompts from `shortest` to `longest`, evenly on a log scale."""

    shortest: int = 8_000
    longest: int = 32_000
    answer: int = 200

    def script(self, text: Notes, rng: Random, arrival: Arrival) -> Script:
        tokens = int(self.shortest * (self.longest / self.shortest) ** rng.random())
        yield Ask([_user(f"{text.text(tokens - 8, rng)} {rng.choice(notes.QUESTIONS)}")], self.answer)

    def scaled(self, context: int) -> "Record":
        factor = min(1.0, SHARE_OF_CONTEXT * context / (self.longest + self.answer))
        return Record(int(self.shortest * factor), int(self.longest * factor), max(1, int(self.answer * factor)))


@dataclass(frozen=True)
class Shared:
    """A question about one of `documents` long texts, of which few are asked about often: Zipf's law.

    The report tells `cold` (this run's first question about a document) from `warm`: what a prefix cache is worth.
    With several workers each has its own first.
    """

    documents: int = 50
    zipf: float = 1.0
    prefix: int = 2_000
    question: int = 30
    answer: int = 64

    def script(self, text: Notes, rng: Random, arrival: Arrival) -> Script:
        weights = [1 / rank**self.zipf for rank in range(1, self.documents + 1)]
        document = rng.choices(range(self.documents), weights)[0]
        prefix = text.text(self.prefix, Random(f"document/{document}/{text.seed}"))
        messages = [{"role": "system", "content": prefix}, _user(text.text(self.question, rng))]
        yield Ask(messages, self.answer, label="cold" if text.is_new(document) else "warm")

    def scaled(self, context: int) -> "Shared":
        factor = min(1.0, SHARE_OF_CONTEXT * context / (self.prefix + self.question + self.answer))
        scale = {name: max(8, int(getattr(self, name) * factor)) for name in ("prefix", "question", "answer")}
        return replace(self, **scale)


@dataclass(frozen=True)
class Conversation:
    """Several turns, each with all that was said before. The report tells the first turn from later ones."""

    turns: int = 4
    prompt: int = 150
    question: int = 25
    answer: int = 64

    def script(self, text: Notes, rng: Random, arrival: Arrival) -> Script:
        messages: list[Message] = []
        for turn in range(self.turns):
            said = text.text(self.question if turn else self.prompt, rng, nonce=not turn)
            messages.append(_user(said))
            answer = yield Ask(
                list(messages), self.answer, label="later turns" if turn else "first turn", keep_text=True
            )
            messages.append({"role": "assistant", "content": answer})

    def scaled(self, context: int) -> "Conversation":
        largest = self.prompt + (self.turns - 1) * self.question + self.turns * (self.answer + 8)
        factor = min(1.0, SHARE_OF_CONTEXT * context / largest)
        scale = {name: max(8, int(getattr(self, name) * factor)) for name in ("prompt", "question", "answer")}
        return replace(self, **scale)


SCHEMA = {
    "type": "object",
    "properties": {
        "medications": {"type": "array", "items": {"type": "string", "maxLength": 40}, "maxItems": 4},
        "blood_pressure": {"type": "string", "maxLength": 10},
        "allergies": {"type": "boolean"},
    },
    "required": ["medications", "blood_pressure", "allergies"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Extraction:
    """A note to be turned into JSON by a schema. The answer ends by itself, at `answer` tokens at the latest."""

    prompt: int = 200
    answer: int = 160

    def script(self, text: Notes, rng: Random, arrival: Arrival) -> Script:
        form = {"type": "json_schema", "json_schema": {"name": "note", "strict": True, "schema": SCHEMA}}
        yield Ask([_user(text.text(self.prompt, rng))], self.answer, fields={"response_format": form}, forced=False)

    def scaled(self, context: int) -> "Extraction":
        factor = min(1.0, SHARE_OF_CONTEXT * context / (self.prompt + self.answer))
        return Extraction(max(16, int(self.prompt * factor)), max(16, int(self.answer * factor)))


@dataclass(frozen=True)
class Batch:
    """One batch of `lines` chats: a file, a job, and waiting for it. Each line is a request of the report."""

    lines: int = 200
    prompt: int = 150
    answer: int = 64

    def script(self, text: Notes, rng: Random, arrival: Arrival) -> Script:
        chat = Chat(self.prompt, self.answer)
        for _ in range(self.lines):
            yield next(chat.script(text, rng, arrival))

    def scaled(self, context: int) -> "Batch":
        chat = Chat(self.prompt, self.answer).scaled(context)
        return replace(self, prompt=chat.prompt, answer=chat.answer)


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _around(mean: int, spread: float, rng: Random) -> int:
    """Log-normal with this mean, cut at four times of it."""
    drawn = mean * rng.lognormvariate(-(spread**2) / 2, spread)
    return max(8, min(round(drawn), 4 * mean))
