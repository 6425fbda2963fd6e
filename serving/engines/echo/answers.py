"""The echo engine's answers in OpenAI's shapes, whole and as events."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from serving.engines.echo import logprobs
from serving.engines.engine import EngineRequest
from serving.protocol import sse

_KINDS = {"chat": ("chatcmpl", "chat.completion"), "completions": ("cmpl", "text_completion")}
Choice = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One prompt and its answer, both in tokens. call: name of the tool whose arguments the answer is. echoed: the
    prompt comes first in the text.
    """

    prompt: Sequence[str]
    tokens: Sequence[str]
    finish: str
    call: str | None = None
    echoed: bool = False

    @property
    def lead(self) -> Sequence[str]:
        return self.prompt if self.echoed else ()


@dataclass(frozen=True, slots=True)
class Answer:
    """lines: one for each prompt; each is given `n` times, as choices that are all alike."""

    request: EngineRequest
    lines: Sequence[Line]

    @property
    def _n(self) -> int:
        return self.request.body.get("n") or 1

    @property
    def _is_chat(self) -> bool:
        return self.request.operation == "chat"

    @property
    def prompt_tokens(self) -> int:
        return sum(max(1, len(line.prompt)) for line in self.lines)

    def completion_tokens(self, positions: int | None = None) -> int:
        """Of the whole answer, or of its first so many steps."""
        return self._n * sum(len(line.tokens[:positions]) for line in self.lines)

    @property
    def steps(self) -> int:
        return max(len(line.tokens) for line in self.lines)

    def lead(self) -> bytes:
        """What comes before the first token: a chat's role, an echoed prompt, or nothing."""
        if self._is_chat:
            return self._chunk(lambda line: {"delta": self._role(line)})
        if any(line.echoed for line in self.lines):
            return self._chunk(lambda line: self._text(line.lead, first_is_known=True))
        return b""

    def event(self, position: int) -> bytes:
        return self._chunk(
            lambda line: self._piece(line, position) if position < len(line.tokens) else None,
        )

    def end(self) -> bytes:
        """Why it stops, what it used, and `[DONE]`."""
        piece: Choice = {"delta": {}} if self._is_chat else {"text": ""}
        usage = self._envelope([], ".chunk") | {"usage": self._usage()}
        return self._chunk(lambda line: piece | {"finish_reason": line.finish}) + sse.encode(usage) + sse.DONE

    def whole(self) -> bytes:
        choices = self._choices(lambda line: self._message(line) | {"finish_reason": line.finish})
        return json.dumps(self._envelope(choices) | {"usage": self._usage()}).encode()

    def _chunk(self, of: Callable[[Line], Choice | None]) -> bytes:
        return sse.encode(self._envelope(self._choices(of), ".chunk"))

    def _choices(self, of: Callable[[Line], Choice | None]) -> list[Choice]:
        found = []
        for prompt, line in enumerate(self.lines):
            choice = of(line)
            if choice is not None:
                base = {"logprobs": None, "finish_reason": None} | choice
                found += [{"index": prompt * self._n + i} | base for i in range(self._n)]
        return found

    def _envelope(self, choices: list[Choice], suffix: str = "") -> dict[str, Any]:
        prefix, kind = _KINDS[self.request.operation]
        return {
            "id": f"{prefix}-{self.request.request_id}",
            "object": kind + suffix if self._is_chat else kind,
            "created": int(time.time()),
            "model": self.request.body.get("model"),
            "choices": choices,
        }

    def _role(self, line: Line) -> Choice:
        if line.call is None:
            return {"role": "assistant", "content": ""}
        return {"role": "assistant", "content": None, "tool_calls": [{"index": 0} | self._call(line, "")]}

    def _call(self, line: Line, arguments: str) -> Choice:
        function = {"name": line.call, "arguments": arguments}
        return {"id": f"call_{self.request.request_id}", "type": "function", "function": function}

    def _piece(self, line: Line, position: int) -> Choice:
        token = line.tokens[position]
        if line.call is not None:
            return {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": token}}]}}
        if self._is_chat:
            return {"delta": {"content": token}, "logprobs": self._chat_logprobs([token])}
        return self._text([token], [*line.lead, *line.tokens[:position]])

    def _message(self, line: Line) -> Choice:
        text = "".join(line.tokens)
        if line.call is not None:
            message: Choice = {"role": "assistant", "content": None, "tool_calls": [self._call(line, text)]}
            return {"message": message}
        if self._is_chat:
            message = {"role": "assistant", "content": text}
            return {"message": message, "logprobs": self._chat_logprobs(line.tokens)}
        return self._text([*line.lead, *line.tokens], first_is_known=line.echoed)

    def _text(self, tokens: Sequence[str], before: Sequence[str] = (), *, first_is_known: bool = False) -> Choice:
        choice: Choice = {"text": "".join(tokens)}
        most = self.request.body.get("logprobs")
        if most is not None:
            starts = sum(len(token) for token in before)
            choice["logprobs"] = logprobs.of_text(tokens, most=most, starts=starts, first_is_known=first_is_known)
        return choice

    def _chat_logprobs(self, tokens: Sequence[str]) -> Choice | None:
        if not self.request.body.get("logprobs"):
            return None
        return logprobs.of_chat(tokens, most=self.request.body.get("top_logprobs") or 0)

    def _usage(self) -> dict[str, int]:
        prompt, completion = self.prompt_tokens, self.completion_tokens()
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
