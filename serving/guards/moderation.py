"""A moderation service elsewhere, asked over HTTP. Of the guards alone imports aiohttp.

What is sent to it is the text itself: the service must be one that may see it. Nothing of its answers is passed on but
categories and severities.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import aiohttp

from serving.guards.categories import Analysis
from serving.guards.guard import BOTH, GuardUnavailable, Mode, Passage, Stage, Verdict
from serving.guards.results import UNCHECKED
from serving.guards.texts import well_formed

_MAX_ANSWER = 2**20
_RETRY_AFTER = 5.0
_CONTEXT = 100
"""Characters before a part of a text that are sent with it, so that a sentence cut in two is seen whole."""


class ModerationGuard:
    """A Guard. url: where to POST. analysis: what is said there (categories.py). timeout: seconds for one call, with
    the wait for one of `concurrency` places. step: characters of a text that are sent at a time. when_away: whether
    what cannot be checked is refused with GuardUnavailable, or passed with the sign that it was not checked.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str,
        analysis: Analysis,
        headers: Mapping[str, str] | None = None,
        mode: Mode = "block",
        stages: frozenset[Stage] = BOTH,
        timeout: float = 3.0,
        concurrency: int = 32,
        step: int = 1000,
        when_away: Literal["refuse", "pass"] = "refuse",
    ) -> None:
        self.name, self.mode, self.stages, self.step = name, mode, stages, step
        self.window = min(_CONTEXT, step)
        self._url = url
        self._analysis = analysis
        self._headers = {**(headers or {}), "content-type": "application/json"}
        self._timeout = timeout
        self._places = asyncio.Semaphore(concurrency)
        self._when_away = when_away
        self._session: aiohttp.ClientSession | None = None

    async def check_prompt(self, texts: Sequence[str]) -> Verdict:
        """Part by part, until one blocks: what follows is not sent any more."""
        text = "\n".join(text for text in texts if not text.isspace())
        size = self._analysis.longest
        verdict = self._analysis.verdict({}, self.mode)
        for start in range(0, len(text), size - self.window):
            verdict = verdict.with_(await self._check(text[start : start + size]))
            if verdict.decision in ("blocked", "failed"):
                break
        return verdict

    async def check_answer(self, passage: Passage) -> Verdict:
        return await self._check(passage.text)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _check(self, text: str) -> Verdict:
        if not text or text.isspace():
            return self._analysis.verdict({}, self.mode)
        try:
            async with asyncio.timeout(self._timeout), self._places:
                answer = await self._ask(self._analysis.question(well_formed(text)))
            return self._analysis.verdict(self._analysis.severities(answer), self.mode)
        except (TimeoutError, ValueError, LookupError, TypeError, AttributeError, aiohttp.ClientError, OSError):
            if self._when_away == "refuse":
                # `from None`: what its client raises may quote what was sent.
                raise GuardUnavailable(retry_after=_RETRY_AFTER) from None
            return Verdict(UNCHECKED, "failed")

    async def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Raises ValueError for any answer that is none."""
        payload = json.dumps(question).encode()
        async with self._client().post(
            self._url, data=payload, headers=self._headers, allow_redirects=False
        ) as response:
            body = await response.content.read(_MAX_ANSWER) if response.status == 200 else b""
            while body and (more := await response.content.read(_MAX_ANSWER)):
                body += more
                if len(body) > _MAX_ANSWER:
                    raise ValueError("too long")
        value = json.loads(body)
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return value

    def _client(self) -> aiohttp.ClientSession:
        # Made on first use: a session belongs to the event loop that serves, not to the one that builds.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),  # bounded by `concurrency`
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                trust_env=False,
            )
        return self._session
