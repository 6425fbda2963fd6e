"""Azure Key Vault as the place of the installation's secrets. It never writes there.

Signs in as azure-identity's DefaultAzureCredential does: a service principal from the environment, workload identity in
Kubernetes, a managed identity, or `az login`. A private certificate authority is named by REQUESTS_CA_BUNDLE, another
cloud's sign-in address by AZURE_AUTHORITY_HOST.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from serving.secrets import SecretsError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

T = TypeVar("T")

_API_VERSION = "7.4"  # enough to read a secret; other clouds learn new versions later
_CONNECT_SECONDS = 5.0
_RETRIES = 2
_AADSTS = re.compile(r"AADSTS\d{1,10}")


class KeyVault:
    """A Vault in Azure. Values are kept for the process: a new one acts when the process starts again.

    prefix: before each secret's name, so that installations can share a vault. seconds: longest wait for one secret,
    sign-in and repeats included. credential: default_credential() unless given.

    azure is imported when a vault is used: it would add half a second to every command.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "clinserve-",
        seconds: float = 30.0,
        credential: TokenCredential | None = None,
    ) -> None:
        from azure.keyvault.secrets import SecretClient

        if not url.startswith("https://"):
            raise SecretsError(f"key vault {url}: the address starts with https://")
        self._url = url.rstrip("/")
        self._prefix = prefix
        self._seconds = seconds
        try:
            self._client = SecretClient(
                self._url,
                credential or default_credential(seconds=seconds),
                api_version=_API_VERSION,
                connection_timeout=_CONNECT_SECONDS,
                read_timeout=seconds,
                retry_total=_RETRIES,
            )
        except (OSError, ValueError) as error:  # a certificate that is not there, an unknown AZURE_TOKEN_CREDENTIALS
            raise SecretsError(f"key vault {url}: {error}") from None
        self._values: dict[str, str | None] = {}
        """As many as there are kinds of secrets."""

    def get(self, name: str) -> str | None:
        """The latest version of the secret PREFIX + name; None if the vault has none. Raises SecretsError."""
        if name not in self._values:
            self._values[name] = self._ask(name)
        return self._values[name]

    def place_of(self, name: str) -> str:
        return f"secret {self._prefix}{name} in key vault {self._url}"

    def _ask(self, name: str) -> str | None:
        from azure.core.exceptions import AzureError, ResourceNotFoundError

        try:
            return within(self._seconds, lambda: self._client.get_secret(self._prefix + name).value)
        except ResourceNotFoundError as missing:
            if missing.error is not None and missing.error.code == "SecretNotFound":
                return None
            reason = "there is no key vault at this address"
        except TimeoutError:
            reason = f"no answer within {self._seconds:g} s"
        except (AzureError, ValueError) as error:  # ValueError: the client's own check of a challenge
            reason = reason_of(error)
        raise SecretsError(f"{self.place_of(name)}: {reason}") from None  # azure's texts run over many lines


def default_credential(*, seconds: float = 30.0, known_cloud: bool = True) -> TokenCredential:
    """Whoever this process runs as. Nobody is at the keyboard of a server, so of the developers' ways only `az login`.

    known_cloud: False for an authority that Microsoft's list does not have, such as Azure Stack's or a test's.
    """
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential(
        exclude_shared_token_cache_credential=True,
        exclude_visual_studio_code_credential=True,
        exclude_powershell_credential=True,
        exclude_developer_cli_credential=True,
        exclude_broker_credential=True,
        process_timeout=int(seconds),
        disable_instance_discovery=not known_cloud,
        connection_timeout=_CONNECT_SECONDS,
        read_timeout=seconds,
        retry_total=_RETRIES,
    )


def within(seconds: float, ask: Callable[[], T]) -> T:
    """What `ask` returns or raises, or TimeoutError.

    In a thread, because azure's own timeouts are for single reads: it repeats, and sleeps as long as an answer's
    Retry-After tells it to. A daemon, because a thread that hangs must not keep the process from ending.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(ask())
        except Exception as error:  # whatever it is, it belongs to whoever waits
            outcome.set_exception(error)

    threading.Thread(target=run, name="azure", daemon=True).start()
    return outcome.result(seconds)


def reason_of(error: Exception, *, service: str = "the vault", role: str = "Key Vault Secrets User") -> str:
    """One line. From azure's text only codes are taken over, so no value can be in it. role: the one that is needed."""
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

    if code := _AADSTS.search(str(error)):
        return f"signing in failed ({code[0]})"
    if isinstance(error, ClientAuthenticationError) and error.response is None:
        return "no identity to sign in with: set up workload identity, a managed identity or az login"
    if isinstance(error, HttpResponseError) and error.status_code == 403:
        return f"access is refused: the identity needs the role '{role}' and a way past the firewall"
    if isinstance(error, ValueError):
        return "the vault asks for a token that is not for a key vault"
    if isinstance(error, HttpResponseError) and error.status_code is not None:
        return f"{service} answered {error.status_code}"
    return f"no connection, or none that can be trusted ({type(error).__name__})"
