"""Tokens of Entra ID for endpoints of Azure, such as Azure OpenAI. Signs in as vault.py does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from serving.engines.credentials import SignInFailed, Token
from serving.vault import default_credential, reason_of, within

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential

SCOPE = "https://cognitiveservices.azure.com/.default"
"""Of all Azure OpenAI and Foundry resources (azure-wire-format, 1.2). The role: Cognitive Services OpenAI User."""


class EntraTokens:
    """A TokenSource. seconds: longest wait for a token. credential: default_credential() unless given.

    azure-identity's own calls block, and sleep as long as an answer tells them to, so they run in a thread.
    """

    def __init__(self, *, scope: str = SCOPE, seconds: float = 10.0, credential: TokenCredential | None = None) -> None:
        self._scope = scope
        self._seconds = seconds
        self._credential = credential or default_credential(seconds=seconds)

    async def fetch(self) -> Token:
        from azure.core.exceptions import AzureError, ClientAuthenticationError

        found: list[AccessToken] = []
        try:
            await asyncio.to_thread(
                within, self._seconds, lambda: found.append(self._credential.get_token(self._scope))
            )
        except TimeoutError:
            raise SignInFailed(f"no token within {self._seconds:g} s") from None
        except ClientAuthenticationError as error:  # no identity, or one that Entra ID refuses
            raise SignInFailed(reason_of(error), refused=True) from None
        except (AzureError, OSError) as error:
            raise SignInFailed(reason_of(error)) from None
        except ValueError:
            raise SignInFailed("the scope, or an AZURE_* variable, is not valid", refused=True) from None
        return Token(found[0].token, found[0].expires_on)
