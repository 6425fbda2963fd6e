"""How an engine signs in at its endpoint. Tokens come from a source, such as serving/azure_tokens.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from serving.engines.refusals import EngineMisconfigured
from serving.errors import EngineUnavailable

RENEW_BEFORE = 300.0
"""Seconds before its end from which a token is renewed; azure-identity's own choice too."""
_BETWEEN_RENEWALS = 30.0
_RETRY_AFTER = 5.0


class Credential(Protocol):
    async def headers(self) -> dict[str, str]:
        """What a request carries. Raises EngineUnavailable when it cannot be had in time; quotes no secret."""
        ...

    def close(self) -> None: ...


class NoCredential:
    """For an endpoint that asks for none."""

    async def headers(self) -> dict[str, str]:
        return {}

    def close(self) -> None: ...


class KeyCredential:
    """A key, as `authorization: Bearer KEY` (OpenAI, vLLM, NIM) or bare in a header such as Azure's `api-key`.

    Raises ValueError for what no header can hold; without the text.
    """

    def __init__(self, key: str, *, header: str = "authorization") -> None:
        key = key.strip()  # a key from a file ends with a line feed
        if not (key.isascii() and key.isprintable()):
            raise ValueError("the endpoint's key has signs that no HTTP header can hold")
        self._headers = {header.lower(): f"Bearer {key}" if header.lower() == "authorization" else key}

    async def headers(self) -> dict[str, str]:
        return self._headers

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Token:
    """expires: Unix time."""

    text: str = field(repr=False)
    expires: float


class SignInFailed(Exception):
    """No token. Its text is one line for the operator, without secrets. refused: waiting does not help."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class TokenSource(Protocol):
    async def fetch(self) -> Token:
        """A new token. Raises SignInFailed. Bounded by its user."""
        ...


class TokenCredential:
    """`authorization: Bearer TOKEN` with a token that is kept until 5 minutes before its end, then renewed.

    However many requests wait, the source is asked once. While the old token still holds nobody waits for the new one,
    and a renewal that fails is tried again half a minute later. seconds: longest wait for a token. clock: Unix time.
    on_failure: gets the reason of each failed attempt, for the operator.
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        seconds: float = 10.0,
        clock: Callable[[], float] = time.time,
        on_failure: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._source = source
        self._seconds = seconds
        self._clock = clock
        self._on_failure = on_failure
        self._headers: dict[str, str] = {}
        self._expires = self._renew_at = float("-inf")
        self._renewal: asyncio.Task[SignInFailed | None] | None = None

    async def headers(self) -> dict[str, str]:
        now = self._clock()
        if now >= self._renew_at:
            if self._renewal is None or self._renewal.done():
                self._renewal = asyncio.create_task(self._renew())
            if now >= self._expires:
                # Shielded: one who leaves must not take it from those who wait with him.
                failed = await asyncio.shield(self._renewal)
                if failed is not None:
                    raise EngineMisconfigured if failed.refused else EngineUnavailable(retry_after=_RETRY_AFTER)
        return self._headers

    async def _renew(self) -> SignInFailed | None:
        try:
            async with asyncio.timeout(self._seconds):
                token = await self._source.fetch()
        except TimeoutError:
            failed = SignInFailed(f"no token within {self._seconds:g} s")
        except SignInFailed as error:
            failed = error
        else:
            self._headers = {"authorization": f"Bearer {token.text}"}
            self._expires = token.expires
            self._renew_at = min(token.expires, max(token.expires - RENEW_BEFORE, self._clock() + _BETWEEN_RENEWALS))
            return None
        self._renew_at = min(self._expires, self._clock() + _BETWEEN_RENEWALS)
        self._on_failure(str(failed))
        return failed

    def close(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
