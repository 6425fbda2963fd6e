"""What an endpoint's error means to our caller. Its own text is never passed on: it may quote the request.

EngineBusy 429               the endpoint's own limit; EngineError and TooManyRequests
EngineMisconfigured 503      it refuses our credential or address: the operator's to mend; EngineUnavailable
ContentFiltered 400          its content filter refuses the prompt; InvalidRequest
GrammarRefused 400           a replica of ours has compiled its JSON schema aside, and it cannot be used; InvalidRequest
"""

from __future__ import annotations

import datetime
import email.utils
import math
import re
from collections.abc import Mapping
from typing import Any

from serving.engines.reasons import reason_in
from serving.errors import (
    ContentFiltered,
    ContextTooLong,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    InvalidRequest,
    OperationNotSupported,
    ServingError,
    TooManyRequests,
)

RETRY_AFTER = 2.0
"""Seconds, where the endpoint gives no advice."""
_SHORTEST, _LONGEST = 1.0, 300.0
_MISCONFIGURED_RETRY_AFTER = 30.0
# vLLM's two wordings, the first also OpenAI's; the number is the only thing taken over from them.
_TOO_LONG = re.compile(r"maximum context length (?:is|of) (\d+)|max_model_len=\D*(\d+)", re.IGNORECASE)
_PARAM = re.compile(r"(?:body\.)?([a-z_]{1,40})")
_WAIT = re.compile(r"retry after (\d{1,6}) second", re.IGNORECASE)
_CATEGORIES = (
    "hate", "sexual", "violence", "self_harm", "profanity", "custom_blocklists", "custom_topics", "jailbreak",
    "indirect_attack", "protected_material_text", "protected_material_code",
)  # fmt: skip
_SEVERITIES = frozenset({"safe", "low", "medium", "high"})
_OPERATORS_FAULT = frozenset({301, 302, 303, 307, 308, 401, 402, 403, 404, 405})
"""Wrong key, account, address or method: all of them come from our configuration, nothing from the caller."""


_GRAMMARS = {
    "dear": "takes more to compile or to follow than this deployment allows. Use smaller lengths and numbers of "
    "repetitions, fewer different ones, fewer optional properties, or additionalProperties: false",
    "invalid": "is not valid, or uses what is not supported",
    "ignored": "has a part that the answer would not be held to",
    "empty": "is one that nothing fits",
}
"""What deployments/schema_gate.py says, after `grammar:`."""
_GRAMMAR = re.compile(r"grammar:([a-z]+)")


class GrammarRefused(InvalidRequest):
    """A schema was seen to be too much, or broken, where it was compiled. There nobody knows by which field it came."""

    code = "schema_refused"

    def __init__(self, verdict: str) -> None:
        super().__init__()
        self._verdict = verdict

    def came_by(self, body: Mapping[str, Any]) -> None:
        """Name the field, from the request's body."""
        by_format = (body.get("response_format") or {}).get("type") == "json_schema"
        self.param = "response_format" if by_format else "tools"
        self.message = f"{self.param}: the JSON schema {_GRAMMARS[self._verdict]}."


class EngineBusy(EngineError, TooManyRequests):
    """The caller must wait; nothing was generated. To a breaker neither a failure nor a success."""

    status, kind, code, free = 429, "rate_limit_exceeded", "engine_busy", True

    def __init__(self, message: str = "", *, param: str | None = None, retry_after: float | None = RETRY_AFTER) -> None:
        seconds = min(max(retry_after or RETRY_AFTER, _SHORTEST), _LONGEST)
        # Several clients read the seconds from this phrase (azure-wire-format, 1.3).
        said = message or f"The model's endpoint is at its own limit. Please retry after {math.ceil(seconds)} seconds."
        super().__init__(said, param=param, retry_after=seconds)


class EngineMisconfigured(EngineUnavailable):
    """Never 401, 403 or 404 to the caller: it is not his credential, and he cannot mend it."""

    code = "engine_misconfigured"
    default_message = "The model's endpoint refuses this server. Nothing was generated; its operator has to mend this."

    def __init__(
        self, message: str = "", *, param: str | None = None, retry_after: float | None = _MISCONFIGURED_RETRY_AFTER
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)


def translated(
    status: int, detail: Mapping[str, Any], headers: Mapping[str, str] | None = None, *, ours: bool = False
) -> ServingError:
    """The error of ours for an endpoint's status and its error object.

    ours: one of our replicas. To it a 404 is a route that is not there yet, as while an application starts.
    """
    advised = _advice(headers or {})
    if status == 429:
        return EngineBusy(retry_after=advised or _wait_in(detail))
    if status in _OPERATORS_FAULT and not ours:
        return EngineMisconfigured()
    if 400 <= status < 500 and (too_long := _TOO_LONG.search(_message(detail))):
        # Clients look for this wording (azure-wire-format, 1.3).
        return ContextTooLong(
            f"This model's maximum context length is {too_long[1] or too_long[2]} tokens. "
            "Shorten the prompt or ask for fewer tokens.",
            param="messages" if _param(detail) == "input_tokens" else _param(detail),
        )
    if status in (400, 413, 422):
        return _invalid(detail)
    if status in (408, 504) and not ours:  # 408 is Azure's for a model that was too slow (1.3)
        return EngineTimeout(retry_after=advised or RETRY_AFTER)
    return EngineUnavailable(retry_after=advised or RETRY_AFTER)


def detail_of(body: object) -> dict[str, Any]:
    """The error object of a body: below `error`, or, as Azure's gateway writes some, the body itself."""
    error = body.get("error", body) if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def _invalid(detail: Mapping[str, Any]) -> InvalidRequest:
    code, grammar = detail.get("code"), _GRAMMAR.search(_message(detail))
    if grammar and grammar[1] in _GRAMMARS:
        return GrammarRefused(grammar[1])
    if code == "content_filter":
        return ContentFiltered(_filter_result(detail))
    if code == "OperationNotSupported":
        return OperationNotSupported("The model does not do what this operation asks for.", param="model")
    if reason := reason_in(_message(detail)):
        return InvalidRequest(f"The model cannot take this request: {reason.words}.", param=reason.param)
    what = (
        "its JSON schema is not valid or uses a keyword that is not supported"
        if "rammar" in _message(detail)
        else "a value is not valid"
    )
    param = _param(detail)
    where = f" Look at '{param}'." if param else ""
    return InvalidRequest(f"The model cannot take this request because {what}.{where}", param=param)


def _filter_result(detail: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    """Both spellings of both names are on the wire (azure-wire-format, 1.3 and 1.5)."""
    inner = detail.get("innererror") or detail.get("inner_error")
    inner = inner if isinstance(inner, dict) else {}
    found = inner.get("content_filter_result") or inner.get("content_filter_results")
    found = found if isinstance(found, dict) else {}
    return {name: _verdict(found[name]) for name in _CATEGORIES if isinstance(found.get(name), dict)}


def _verdict(given: Mapping[str, Any]) -> dict[str, object]:
    verdict: dict[str, object] = {k: given[k] for k in ("filtered", "detected") if isinstance(given.get(k), bool)}
    severity = given.get("severity")
    return verdict | {"severity": severity} if isinstance(severity, str) and severity in _SEVERITIES else verdict


def _message(detail: Mapping[str, Any]) -> str:
    return str(detail.get("message", ""))


def _param(detail: Mapping[str, Any]) -> str | None:
    """The field only: below it, names may be the caller's own."""
    place = _PARAM.match(str(detail.get("param") or ""))
    return place[1] if place else None


def _advice(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from 1 to 300: `retry-after-ms`, else `retry-after` in seconds or as a date."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) / unit
        except ValueError:
            seconds = _seconds_until(value)
        if math.isfinite(seconds):
            return min(max(seconds, _SHORTEST), _LONGEST)
    return None


def _seconds_until(date: str) -> float:
    try:
        then = email.utils.parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return math.nan
    return (then - datetime.datetime.now(then.tzinfo)).total_seconds()


def _wait_in(detail: Mapping[str, Any]) -> float | None:
    """Some of Azure's 429s say it in words only (azure-wire-format, 1.4)."""
    wait = _WAIT.search(_message(detail))
    return float(wait[1]) if wait else None
