"""Secrets from Key Vault: the real clients of azure-keyvault-secrets and azure-identity against a stand-in over HTTPS.

Microsoft ships no Key Vault emulator, so the stand-in is ours. It does what these tests need of a vault (the bearer
challenge, get secret, errors) and of Entra ID (discovery, and the exchange of a federated token as workload identity
does it); its certificate is made here, and trusted by REQUESTS_CA_BUNDLE as a hospital's own would be.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from serving.secret_versions import VersionedSecret
from serving.secrets import Secrets, SecretsError
from serving.vault import KeyVault, default_credential

DIRECTORY = "11111111-aaaa-4bbb-8ccc-000000000001"
CLIENT = "33333333-aaaa-4bbb-8ccc-000000000001"
FEDERATED = "what Kubernetes signed for this pod"
ACCESS = "a token for the vault"


def certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 that is its own authority, and its key, in one file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        builder.not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "tests.pem"
    path.write_bytes(pem + signed.public_bytes(serialization.Encoding.PEM))
    return path


class StandIn:
    """Key Vault and Entra ID at one address.

    answers: what a secret's path says instead of its value, as status and error code. asked: paths of secrets that
    were asked for with the token. exchanged: the forms that Entra was sent.
    """

    def __init__(self, pem: Path) -> None:
        self.secrets: dict[str, str] = {}
        self.answers: dict[str, tuple[int, str]] = {}
        self.asked: list[str] = []
        self.exchanged: list[dict[str, str]] = []
        self.open = threading.Event()  # answers wait for it
        self.open.set()
        stand_in = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stand_in.open.wait(10)
                stand_in.get(self)

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                stand_in.exchange(self, {name: values[0] for name, values in form.items()})

            def say(self, status: int, body: dict[str, Any], **headers: str) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None: ...

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # the client left, as one with a timeout does
                    super().handle()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that does not trust us
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"https://{self.host}"
        # The client takes a token only for a parent of the vault's name; that of 127.0.0.1 is 0.0.1.
        self.resource = f"https://{self.host.removeprefix('127.')}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self.server.shutdown()
        self.server.server_close()

    def get(self, answer: Any) -> None:
        path = urlsplit(answer.path).path
        if path.endswith("/.well-known/openid-configuration"):
            token = f"{self.url}/{DIRECTORY}/oauth2/v2.0/token"
            return answer.say(200, {"token_endpoint": token, "authorization_endpoint": token, "issuer": self.url})
        if answer.headers.get("authorization") != f"Bearer {ACCESS}":
            challenge = f'Bearer authorization="{self.url}/{DIRECTORY}", resource="{self.resource}"'
            return answer.say(401, {"error": {"code": "Unauthorized"}}, www_authenticate=challenge)
        name = path.split("/")[2]
        self.asked.append(name)
        status, code = self.answers.get(name, (200, "") if name in self.secrets else (404, "SecretNotFound"))
        if status != 200:
            return answer.say(status, {"error": {"code": code, "message": "not for you"}})
        return answer.say(200, {"value": self.secrets[name], "id": f"{self.url}/secrets/{name}/1", "attributes": {}})

    def exchange(self, answer: Any, form: dict[str, str]) -> None:
        self.exchanged.append(form)
        if form["client_assertion"] != FEDERATED:
            refusal = {"error": "invalid_client", "error_description": "AADSTS700213: No matching federated identity."}
            return answer.say(401, refusal)
        return answer.say(200, {"token_type": "Bearer", "expires_in": 3600, "access_token": ACCESS})


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The stand-in, and the environment that Kubernetes gives a pod with a workload identity."""
    federated, pem = tmp_path / "federated", certificate(tmp_path)
    federated.write_text(FEDERATED)
    with StandIn(pem) as cloud:
        environment = {
            "AZURE_TENANT_ID": DIRECTORY,
            "AZURE_CLIENT_ID": CLIENT,
            "AZURE_FEDERATED_TOKEN_FILE": str(federated),
            "AZURE_AUTHORITY_HOST": cloud.url,
            "AZURE_TOKEN_CREDENTIALS": "WorkloadIdentityCredential",  # no search of the network for a managed identity
            "REQUESTS_CA_BUNDLE": str(pem),
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield cloud


def vault_of(cloud: StandIn, seconds: float = 10.0, **more: Any) -> KeyVault:
    return KeyVault(
        cloud.url, seconds=seconds, credential=default_credential(seconds=seconds, known_cloud=False), **more
    )


def test_a_pod_signs_in_with_its_federated_token_and_reads_a_secret(cloud: StandIn) -> None:
    cloud.secrets["clinserve-pepper"] = "p"
    assert vault_of(cloud).get("pepper") == "p"
    (form,) = cloud.exchanged
    assert (form["client_id"], form["client_assertion"]) == (CLIENT, FEDERATED)
    assert form["scope"].startswith(f"{cloud.resource}/.default")


def test_each_secret_is_asked_for_once_also_one_that_is_not_there(cloud: StandIn) -> None:
    cloud.secrets["clinserve-pepper"] = "p"
    vault = vault_of(cloud)
    assert [vault.get("pepper"), vault.get("pepper"), vault.get("no"), vault.get("no")] == ["p", "p", None, None]
    assert cloud.asked == ["clinserve-pepper", "clinserve-no"] and len(cloud.exchanged) == 1


def test_an_installation_takes_all_its_secrets_from_the_vault(cloud: StandIn, tmp_path: Path) -> None:
    names = ["pepper", "engine-secret", "cache-salt", "content-secret", "audit-secret", "redis-password"]
    cloud.secrets = {f"ward7-{name}": name for name in names} | {"ward7-audit-signing-key": "ab" * 32 + "\n"}
    secrets = Secrets.load(tmp_path / "state", {}, vault_of(cloud, prefix="ward7-"))
    assert secrets == Secrets(
        *(VersionedSecret.of(text) for text in (*names[:5], "ab" * 32)),
        redis_password="redis-password",
    )
    assert not (tmp_path / "state").exists()


def test_a_required_secret_that_the_vault_lacks_is_an_error_and_not_made(cloud: StandIn, tmp_path: Path) -> None:
    with pytest.raises(SecretsError) as missing:
        Secrets.load(tmp_path / "state", {}, vault_of(cloud))
    assert str(missing.value) == (
        f"secret clinserve-pepper in key vault {cloud.url} does not exist or is empty: "
        "create it, or set CLINSERVE_PEPPER or CLINSERVE_PEPPER_FILE"
    )
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "Forbidden", "Key Vault Secrets User"),
        (404, "NotFound", "no key vault at this address"),
        (500, "InternalServerError", "the vault answered 500"),
        (429, "Throttled", "the vault answered 429"),
    ],
)
def test_a_refusal_names_vault_secret_and_remedy_in_one_line(
    cloud: StandIn, status: int, code: str, reason: str
) -> None:
    cloud.answers["clinserve-pepper"] = (status, code)
    with pytest.raises(SecretsError, match=reason) as refused:
        vault_of(cloud).get("pepper")
    text = str(refused.value)
    assert text.startswith(f"secret clinserve-pepper in key vault {cloud.url}: ") and "\n" not in text


def test_an_identity_that_entra_does_not_know_is_told_by_its_code(cloud: StandIn, tmp_path: Path) -> None:
    (tmp_path / "federated").write_text("another cluster's")
    with pytest.raises(SecretsError, match=r"signing in failed \(AADSTS700213\)$"):
        vault_of(cloud).get("pepper")


def test_a_machine_without_an_identity_is_told_what_to_set_up(cloud: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_FEDERATED_TOKEN_FILE")
    with pytest.raises(SecretsError, match="no identity to sign in with"):
        vault_of(cloud).get("pepper")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "Nobody")
    with pytest.raises(SecretsError, match=f"key vault {cloud.url}: .*AZURE_TOKEN_CREDENTIALS"):
        KeyVault(cloud.url)


def test_a_vault_that_hangs_is_given_up(cloud: StandIn) -> None:
    cloud.open.clear()
    with pytest.raises(SecretsError, match=r"no answer within 0\.2 s"):
        vault_of(cloud, seconds=0.2).get("pepper")


def test_a_vault_whose_certificate_nobody_vouches_for_is_not_asked(
    cloud: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(SecretsError, match="none that can be trusted"):
        vault_of(cloud).get("pepper")
    assert cloud.asked == []


def test_a_challenge_for_another_service_gets_no_token(cloud: StandIn) -> None:
    cloud.resource = "https://graph.microsoft.com"
    with pytest.raises(SecretsError, match="not for a key vault"):
        vault_of(cloud).get("pepper")
    assert cloud.exchanged == []


def test_a_vault_is_asked_over_https_only() -> None:
    with pytest.raises(SecretsError, match="https://"):
        KeyVault("http://127.0.0.1")


def test_azure_is_not_imported_before_a_vault_is_used() -> None:
    code = "import sys, serving.vault; assert not any(name.startswith('azure') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
