"""A real token issuer on loopback, OpenID Connect and Entra at once: it signs, serves its keys, and can misbehave."""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm


@dataclass(frozen=True)
class SigningKey:
    kid: str
    private: RSAPrivateKey | EllipticCurvePrivateKey

    def jwk(self, **more: Any) -> dict[str, Any]:
        public = self.private.public_key()
        shown = RSAAlgorithm.to_jwk(public) if isinstance(public, rsa.RSAPublicKey) else ECAlgorithm.to_jwk(public)
        members = {name: value for name, value in json.loads(shown).items() if name != "key_ops"}
        return {**members, "kid": self.kid, "use": "sig", **more}

    def sign(self, claims: Mapping[str, Any] | bytes, alg: str = "RS256", **header: Any) -> str:
        """bytes: a payload to the letter, such as no encoder would write."""
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        return jwt.PyJWS().encode(payload, self.private, alg, headers={"kid": self.kid, **header})


@functools.cache  # a second of work
def rsa_key(kid: str, bits: int = 2048) -> SigningKey:
    return SigningKey(kid, rsa.generate_private_key(65537, bits))


@functools.cache
def p256_key(kid: str) -> SigningKey:
    return SigningKey(kid, ec.generate_private_key(ec.SECP256R1()))


@functools.cache
def p384_key(kid: str) -> SigningKey:
    return SigningKey(kid, ec.generate_private_key(ec.SECP384R1()))


class LocalIssuer:
    """Start it with `with`. Any path that ends in `keys` is its JWKS document, as Entra has one for each directory.

    answers: what each path says instead; bytes, or a status. fetches: the paths that were asked for.
    """

    def __init__(self) -> None:
        self.keys = [rsa_key("first")]
        self.answers: dict[str, bytes | int] = {}
        self.fetches: list[str] = []
        self.open = threading.Event()  # answers wait for it
        self.open.set()
        issuer = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches.append(self.path)
                issuer.open.wait(10)
                answer = issuer.answer(self.path)
                status, body = (answer, b"") if isinstance(answer, int) else (200, answer)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", f"{issuer.url}/keys")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None: ...

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # the client left, as one with a timeout does
                    super().handle()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> bytes | int:
        if path in self.answers:
            return self.answers[path]
        if path == "/.well-known/openid-configuration":
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        return json.dumps({"keys": [key.jwk() for key in self.keys]}).encode() if path.endswith("/keys") else 404

    def sign(self, claims: Mapping[str, Any] | bytes, alg: str = "RS256", **header: Any) -> str:
        """With the newest key."""
        return self.keys[-1].sign(claims, alg, **header)

    def rotate(self, key: SigningKey) -> None:
        self.keys = [key]
