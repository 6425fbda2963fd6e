"""How Azure Storage is reached, for files of batches and for weights: who signs in, and what a failure is called.

With an account's key in AZURE_STORAGE_KEY, where accounts still have one (and for Azurite); else as vault.py signs in.
Azure refuses tokens over http.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from serving import vault

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential

KEY = "AZURE_STORAGE_KEY"
CONNECT_SECONDS = 5.0
_SIGN_IN_SECONDS = 30.0


class NotSignedIn(Exception):
    """No token can be had; why, in one line. Not one of azure's errors: its clients would ask again."""


class SignIn:
    """A credential for azure's blocking clients: a token within `seconds`, or NotSignedIn."""

    def __init__(self, credential: TokenCredential | None = None, *, seconds: float = _SIGN_IN_SECONDS) -> None:
        self._credential = credential or vault.default_credential(seconds=seconds)
        self._seconds = seconds

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        from azure.core.exceptions import AzureError

        try:
            return vault.within(self._seconds, lambda: self._credential.get_token(*scopes, **options))
        except (AzureError, OSError, ValueError) as error:
            raise NotSignedIn(reason_of(error, role="")) from None


class AsyncSignIn:
    """The same for azure's asynchronous clients: azure-identity's calls block, so they run in a thread."""

    def __init__(self, sign_in: SignIn) -> None:
        self._sign_in = sign_in

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return await asyncio.to_thread(self._sign_in.get_token, *scopes, **options)

    async def close(self) -> None: ...


def credential(environ: Mapping[str, str] = os.environ) -> str | SignIn:
    """An account's key, or a sign-in. Raises ValueError, OSError: an AZURE_* variable that cannot be used."""
    return environ.get(KEY) or SignIn()


def trusted(environ: Mapping[str, str] = os.environ) -> str | bool:
    """Certificate authorities: a private one as for everything else of Azure; aiohttp would not look there."""
    return environ.get("REQUESTS_CA_BUNDLE") or True


def reason_of(error: Exception, *, role: str) -> str:
    """One line without any content. role: what the identity needs."""
    if isinstance(error, NotSignedIn):
        return str(error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ValueError):
        return "the address, or an AZURE_* variable, is not valid"
    return vault.reason_of(error, service="Blob Storage", role=role)
