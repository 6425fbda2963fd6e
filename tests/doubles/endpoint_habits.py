"""The habits of endpoints elsewhere, one row each: what they send, and what of it may be in the books.

A row is run through chat, text completions, Responses and batches, streamed and in one piece (tests/gateway/
test_endpoint_habits.py). To add one: give it the events of a chat stream, the usage of a whole answer, or both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.doubles.scripted_endpoint import Body, Reply
from tests.local import DONE, event

NOT_SAID: Any = object()
GOOD = {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}
WORDS = ("one ", "two ")


@dataclass(frozen=True, slots=True)
class Habit:
    """usage: of the last event and of the whole answer; NOT_SAID: there is none. in_events: that of every event before.
    late: words come after the usage. prompt, cached, completion: in the books; None: an estimate, more than 0.
    """

    usage: Any
    prompt: int | None = 11
    completion: int | None = 2
    cached: int = 0
    in_events: Any = NOT_SAID
    late: bool = False

    @property
    def estimated(self) -> bool:
        return self.prompt is None or self.completion is None


def with_(**changes: Any) -> dict[str, Any]:
    return GOOD | changes


def details(value: Any) -> dict[str, Any]:
    return with_(prompt_tokens_details=value)


NO_COUNTS: dict[str, Any] = {
    "-1": -1, "a text": "7", "2**70": 2**70, "2**63": 2**63, "2**31": 2**31, "1e400": 10**400, "1.5": 1.5, "7.0": 7.0,
    "true": True, "null": None, "a list": [7], "nested": {"tokens": 7},
}  # fmt: skip

HABITS: dict[str, Habit] = {
    "as it should be": Habit(GOOD),
    "other names": Habit({"input_tokens": 11, "output_tokens": 2}),
    "other names, null in ours": Habit({"input_tokens": 11, "output_tokens": 2, "prompt_tokens": None}),
    "cached": Habit(details({"cached_tokens": 4}), cached=4),
    "cached, other names": Habit(
        {"input_tokens": 11, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}}, cached=4
    ),
    "no usage": Habit(NOT_SAID, None, None),
    "usage null": Habit(None, None, None),
    "usage empty": Habit({}, None, None),
    "usage a list": Habit([GOOD], None, None),
    "usage a text": Habit("11", None, None),
    "usage in every event": Habit(GOOD, in_events=with_(completion_tokens=1)),
    "usage null in every event": Habit(GOOD, in_events=None),
    "good in every event, then null": Habit(None, 11, 1, in_events=with_(completion_tokens=1)),
    "good in every event, then nonsense": Habit({"prompt_tokens": "x"}, 11, 1, in_events=with_(completion_tokens=1)),
    "zeros": Habit({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None, None),
    "usage before the end": Habit(with_(completion_tokens=0), 11, None, late=True),
    "total that is no sum": Habit(with_(total_tokens=99)),
    "total of a wrong type": Habit(with_(total_tokens="many")),
    "cached more than the prompt": Habit(details({"cached_tokens": 12})),
    "details a list": Habit(details([4])),
    "details a number": Habit(details(4)),
    "details null": Habit(details(None)),
    **{f"prompt {what}": Habit(with_(prompt_tokens=value), None, 2) for what, value in NO_COUNTS.items()},
    **{f"completion {what}": Habit(with_(completion_tokens=value), 11, None) for what, value in NO_COUNTS.items()},
    **{f"cached {what}": Habit(details({"cached_tokens": value})) for what, value in NO_COUNTS.items()},
}


COMPARABLE = [name for name, habit in HABITS.items() if habit.in_events is NOT_SAID and not habit.late]
"""Those that an answer in one piece has too, with the same books."""


def habit_in(body: Body) -> Habit:
    """The prompt names it."""
    prompt = body.get("prompt") or body.get("input") or body["messages"][-1]["content"]
    text = prompt if isinstance(prompt, str) else prompt[0] if isinstance(prompt[0], str) else prompt[0]["text"]
    return HABITS[text.removeprefix("habit: ")]


def behaving(path: str, body: Body) -> Reply:
    """The script of an endpoint that has the habit which the prompt names."""
    habit, chat = habit_in(body), path.endswith("/chat/completions")
    usage = {} if habit.usage is NOT_SAID else {"usage": habit.usage}
    if path.endswith("/embeddings"):
        return _json({"object": "list", "data": [{"index": 0, "embedding": [0.5]}], **usage})
    if not body.get("stream"):
        text = "".join(WORDS)
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        return _json({"object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", **said}], **usage})
    each = {} if habit.in_events is NOT_SAID else {"usage": habit.in_events}
    words = [event(choices=[_piece(text, chat=chat)], **each) for text in WORDS]
    stop = event(choices=[{**_piece("", chat=chat), "finish_reason": "stop"}], **each)
    last = event(choices=[], **usage) if usage else b""
    order = (last, *words, stop) if habit.late else (*words, stop, last)
    return Reply((*order, DONE))


def _piece(text: str, *, chat: bool) -> dict[str, Any]:
    return {"index": 0, "finish_reason": None, **({"delta": {"content": text}} if chat else {"text": text})}


def _json(value: dict[str, Any]) -> Reply:
    return Reply((json.dumps(value).encode(),), content_type="application/json")
