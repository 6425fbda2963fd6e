"""A chat's answer as a response: the object, and the events that lead to it.

    created ─ in_progress ─ for each item: output_item.added … output_item.done ─ completed | incomplete | failed

    message      content_part.added, output_text.delta …, output_text.done, content_part.done; likewise a refusal
    reasoning    the same with reasoning_text, where the engine tells its reasoning
    function_call   function_call_arguments.delta …, function_call_arguments.done

A whole answer goes through the same steps as one piece, so that both say the same.
"""

from __future__ import annotations

from typing import Any, Literal

from serving.errors import ServingError
from serving.protocol.responses.output import Call, Event, Kind, Spoken
from serving.protocol.responses.request import ResponsesRequest
from serving.protocol.usage import ReportedUsage, is_count, usage_in

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
_WHY_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def id_of(prefix: str, response_id: str, place: str) -> str:
    """An item's id, from which its response's can be told (`response_of`). place: such as o0, its first output."""
    return f"{prefix}_{response_id.removeprefix('resp_')}_{place}"


def response_of(item_id: str) -> str:
    """The id of the response that an item is of; of a text that is no such id, one that nobody has."""
    return f"resp_{''.join(item_id.split('_')[1:2])}"


def head_of(request: ResponsesRequest, id: str, created_at: int, *, stored: bool) -> dict[str, Any]:
    """The response before anything is answered: what it is to be made from."""
    reasoning, wanted = request.reasoning, request.text.format if request.text else None
    return {
        "id": id,
        "object": "response",
        "created_at": created_at,
        "status": "in_progress",
        "background": bool(request.background),
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "metadata": request.metadata or {},
        "model": request.model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.previous_response_id,
        "reasoning": {
            "effort": reasoning.effort if reasoning else None,
            "summary": reasoning.summary if reasoning else None,
        },
        "service_tier": request.service_tier or "default",
        "store": stored,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": {"format": wanted or {"type": "text"}},
        "tool_choice": request.tool_choice or "auto",
        "tools": request.tools or [],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": request.user,
    }


def problem_of(status: int, message: str) -> dict[str, str]:
    """The `error` of a response that failed with this HTTP status: OpenAI's codes for it are few."""
    code = "rate_limit_exceeded" if status == 429 else "invalid_prompt" if status < 500 else "server_error"
    return {"code": code, "message": message}


class Telling:
    """Of one answer. `begin`, `take` what the engine says, `end` or `fail`; each gives the events that follow from it.

    head: as head_of made it. now: Unix time. response: the object as it stands.
    """

    def __init__(self, head: dict[str, Any], *, logprobs: bool) -> None:
        self.response = head | {"output": []}
        self._logprobs = logprobs
        self._spoken: Spoken | None = None
        self._calls: list[Call] = []
        self._by_number: dict[int, Call] = {}
        self._begun = 0
        self._output: list[tuple[int, Event]] = []
        self._finish = ""
        self._prompt_results: list[Any] = []
        self._answer_results: Any = None
        self._events = 0

    def begin(self) -> list[Event]:
        now = self.response | {"output": []}
        return self._numbered(
            [{"type": "response.created", "response": now}, {"type": "response.in_progress", "response": now}]
        )

    def take(self, answer: dict[str, Any]) -> list[Event]:
        """answer: a chat's, or an event of one."""
        events: list[Event] = []
        self._note(answer)
        for choice in _objects(answer.get("choices")):
            if choice.get("index", 0):
                continue
            delta, message = _object(choice.get("delta")), _object(choice.get("message"))
            said = delta or message
            logprobs = _logprobs_in(choice) if self._logprobs else []
            events += self._say("reasoning_text", said.get("reasoning") or said.get("reasoning_content"), [])
            events += self._say("output_text", said.get("content"), logprobs)
            events += self._say("refusal", said.get("refusal"), [])
            for position, call in enumerate(_objects(said.get("tool_calls"))):
                events += self._call(call, position) if delta else self._new_call(call, position)
            if isinstance(finish := choice.get("finish_reason"), str):
                self._finish = finish
            self._answer_results = choice.get("content_filter_results") or self._answer_results
        return self._numbered(events)

    def end(self, now: int) -> list[Event]:
        """The answer is over; `response` is final."""
        why = _WHY_INCOMPLETE.get(self._finish)
        status: Status = "incomplete" if why else "completed"
        events = self._close(status)
        if not why and not self.response["output"]:
            events += self._speak("output_text") + self._close(status)
        self._conclude(status, now)
        self.response["incomplete_details"] = {"reason": why} if why else None
        return self._numbered(events)

    def last(self) -> list[Event]:
        """After `end`, when it is known whether the response is kept."""
        return self._numbered([{"type": f"response.{self.response['status']}", "response": self.response}])

    def fail(self, error: ServingError, event: Event, now: int) -> list[Event]:
        """It broke in the middle. event: how the client's dialect says so."""
        self._close("incomplete")
        self._conclude("failed", now)
        self.response |= {"error": problem_of(error.status, error.message), "store": False}
        return self._numbered([{"type": "error", **event}, {"type": "response.failed", "response": self.response}])

    def _say(self, kind: Kind, text: object, logprobs: list[Any]) -> list[Event]:
        if not isinstance(text, str) or not text:
            return []
        events: list[Event] = []
        if self._spoken is None or self._spoken.kind != kind:
            events += self._hush("completed")
            events += self._speak(kind)
        assert self._spoken is not None
        return events + self._spoken.add(text, logprobs)

    def _speak(self, kind: Kind) -> list[Event]:
        self._spoken = Spoken(kind, *self._place("rs" if kind == "reasoning_text" else "msg"))
        return self._spoken.opened()

    def _call(self, said: dict[str, Any], position: int) -> list[Event]:
        """A piece of a call. A call is its id; where a piece has none, `index` says of which it is."""
        given, number = _id_in(said), _number_in(said, position)
        known = [call for call in self._calls if call.call_id == given] if given else []
        call = known[0] if known else None if given else self._by_number.get(number)
        if call is None:
            return self._new_call(said, number)
        function = _object(said.get("function"))
        call.name = call.name or _text_in(function, "name")
        return call.add(arguments) if (arguments := _text_in(function, "arguments")) else []

    def _new_call(self, said: dict[str, Any], number: int) -> list[Event]:
        function, events = _object(said.get("function")), self._hush("completed")
        id, index = self._place("fc")
        call = Call(id, index, _id_in(said) or self._id("call", index), _text_in(function, "name"))
        self._calls.append(call)
        self._by_number[number] = call
        events += call.opened()
        return events + call.add(arguments) if (arguments := _text_in(function, "arguments")) else events

    def _place(self, prefix: str) -> tuple[str, int]:
        """Of the next item: its id and its index."""
        index, self._begun = self._begun, self._begun + 1
        return self._id(prefix, index), index

    def _hush(self, status: str) -> list[Event]:
        """Close the message that is open."""
        spoken, self._spoken = self._spoken, None
        return self._closed(spoken, status) if spoken else []

    def _close(self, status: str) -> list[Event]:
        """Close all that is open. Calls are until now: an engine may go back to one."""
        events, calls = self._hush(status), self._calls
        self._calls, self._by_number = [], {}
        events += [event for call in calls for event in self._closed(call, status)]
        self._output.sort(key=lambda placed: placed[0])
        self.response["output"] = [item for _, item in self._output]
        return events

    def _closed(self, item: Spoken | Call, status: str) -> list[Event]:
        done, events = item.closed(status)
        self._output.append((item.index, done))
        return [*events, {"type": "response.output_item.done", "output_index": item.index, "item": done}]

    def _conclude(self, status: Status, now: int) -> None:
        self.response |= {"status": status, "completed_at": now if status == "completed" else None}
        if found := _filters_of(self._prompt_results, self._answer_results, blocked=self._finish == "content_filter"):
            self.response["content_filters"] = found

    def _note(self, answer: dict[str, Any]) -> None:
        if usage := usage_in(answer.get("usage")):
            self.response["usage"] = _usage_of(usage, answer["usage"]) or self.response["usage"]
        if isinstance(tier := answer.get("service_tier"), str):
            self.response["service_tier"] = tier
        if isinstance(results := answer.get("prompt_filter_results"), list):
            self._prompt_results = _objects(results)

    def _id(self, prefix: str, index: int) -> str:
        return id_of(prefix, self.response["id"], f"o{index}")

    def _numbered(self, events: list[Event]) -> list[Event]:
        for event in events:
            event["sequence_number"] = self._events
            self._events += 1
        return events


def _object(value: object) -> dict[str, Any]:
    """What should be one, and need not be: an engine elsewhere may send anything."""
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text_in(said: dict[str, Any], name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""


def _id_in(call: dict[str, Any]) -> str:
    return _text_in(call, "id")


def _number_in(call: dict[str, Any], position: int) -> int:
    number = call.get("index")
    return number if isinstance(number, int) else position


def _logprobs_in(choice: dict[str, Any]) -> list[Any]:
    return _objects(_object(choice.get("logprobs")).get("content"))


def _usage_of(said: ReportedUsage, usage: dict[str, Any]) -> dict[str, Any] | None:
    """None where the engine said no numbers that can be: we tell a client no estimate as its usage."""
    if said.prompt is None or said.completion is None:
        return None
    reasoning = _object(usage.get("completion_tokens_details")).get("reasoning_tokens")
    return {
        "input_tokens": said.prompt,
        "input_tokens_details": {"cached_tokens": said.cached, "cache_write_tokens": 0},
        "output_tokens": said.completion,
        "output_tokens_details": {"reasoning_tokens": reasoning if is_count(reasoning) else 0},
        "total_tokens": said.prompt + said.completion,
    }


def _filters_of(prompts: list[Any], answer: Any, *, blocked: bool) -> list[dict[str, Any]]:
    """Azure's `content_filters` (azure-wire-format, 1.7), where something looked at the texts."""
    found = [("prompt", one.get("content_filter_results"), False) for one in prompts]
    found.append(("completion", answer, blocked))
    return [
        {
            "blocked": is_blocked,
            "source_type": source,
            "content_filter_raw": [],
            "content_filter_results": results,
            "content_filter_offsets": {"start_offset": 0, "end_offset": 0, "check_offset": 0},
        }
        for source, results, is_blocked in found
        if results is not None
    ]
