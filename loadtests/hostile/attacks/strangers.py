"""What anybody can ask who has no key."""

import base64
import json
import secrets
from typing import Any

from loadtests.hostile.attack import Kind, Run, asking, gets
from loadtests.hostile.attacks.schemas import CHAT, RESPONSES
from loadtests.hostile.wire import Mallory

REFUSED = gets(400, 401, 403, 404, 405, 408, 413, 414, 429, 431, "closed")
DOCUMENTS = REFUSED | gets(200, 304, 307)
NOWHERE = DOCUMENTS | gets(503)
"""HAProxy says 503 to what is no path, such as `*`: it knows of no gateway for it."""


def getting(*paths: str, rate: float = 100.0, at_most: int = 40) -> Run:
    return asking(lambda m, n: m.request("GET", paths[n % len(paths)], key=None), rate=rate, at_most=at_most)


def invented_keys(m: Mallory, n: int) -> bytes:
    key = f"csk_{secrets.token_urlsafe(32)}" if n % 4 else secrets.token_hex(3000 if n % 3 else 3)
    header = ({"Authorization": f"Bearer {key}"}, {"api-key": key}, {"Authorization": f"Basic {key}"})[n % 3]
    return m.post(CHAT, m.chat(), key=None, headers=header)


def almost_the_key(m: Mallory, n: int) -> bytes:
    """His own key with another end: its prefix is known."""
    key = m.target.key[:-6] + secrets.token_hex(3)
    return m.request("GET", "/v1/models", key=key)


def token(header: dict[str, Any], payload: dict[str, Any] | bytes) -> str:
    def part(value: Any) -> str:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    return f"{part(header)}.{part(payload)}.{secrets.token_urlsafe(86)}"


def invented_tokens(m: Mallory, n: int) -> bytes:
    claims = {"iss": f"http://127.0.0.1/{n}", "aud": "api://clinserve", "exp": 10**12, "tid": "a", "roles": ["admin"]}
    headers: tuple[dict[str, Any], ...] = (
        {"alg": "RS256", "kid": secrets.token_hex(8)}, {"alg": "none"}, {"alg": "HS256", "kid": "../../etc/passwd"},
        {"alg": "RS256", "jku": f"http://127.0.0.1:1/{n}"}, {"alg": "RS256", "x5u": "http://127.0.0.1:1/"},
        {"alg": ["RS256"]}, {"alg": "RS256", "kid": "k" * 4000},
        {"alg": "RS256", "jwk": {"kty": "RSA", "n": "AQAB", "e": "A" * 4000}}, {"zip": "DEF"},
    )  # fmt: skip
    payload: Any = (
        claims,
        claims | {"exp": "never"},
        claims | {"iss": 5},
        b"[" * 3000,
        b"\xff\xfe",
        claims | {"exp": 10**400},
    )[n % 6]
    return m.post(
        CHAT, m.chat(), key=None, headers={"Authorization": f"Bearer {token(headers[n % len(headers)], payload)}"}
    )


def unknown_paths(m: Mallory, n: int) -> bytes:
    odd = (
        f"/{secrets.token_hex(8)}", "/v1/" + "a/" * 2000, "/..%2f..%2fetc/passwd", "//evil.example/",
        "/v1/chat/completions/", "/.git/config", "/%00", "/%ff%fe", "/v1/files/../../admin", "/-/routes",
        "/-/healthz", "/api/serve/applications/", "/_engine/x/v1/models", "/console/../..", "/" + "%41" * 2000,
        "/?" + "a=b&" * 1500, "*", "http://127.0.0.2/v1/models", "/v1/models?limit=" + "9" * 5000, "/actuator/env",
        "/readyz/x",
    )  # fmt: skip
    return m.request("GET", odd[n % len(odd)], key=None)


def odd_methods(m: Mallory, n: int) -> bytes:
    methods = (
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "HEAD",
        "PUT",
        "DELETE",
        "PATCH",
        "PROPFIND",
        "get",
        "X" * 5000,
        "G\tET",
        "QUERY",
    )
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST", "Max-Forwards": "0"}
    return m.request(methods[n % len(methods)], ("/v1/models", CHAT, "/", "*")[n % 4], key=None, headers=headers)


def huge_headers(m: Mallory, n: int) -> bytes:
    odd: tuple[dict[str, str], ...] = (
        {"X-A": "a" * 60_000}, {f"X-{i}": "a" for i in range(2000)}, {"Cookie": "a=b; " * 5000},
        {"Authorization": "Bearer " + "a" * 15_000}, {"traceparent": "00-" + "a" * 7000},
        {"X-Forwarded-For": ", ".join(["10.0.0.1"] * 700)}, {"Accept": ",".join(["a/b;q=0.1"] * 1000)},
        {"X" * 15_000: "a"}, {"Range": "bytes=" + "0-1," * 3000}, {"x-request-id": "a" * 7000},
        {"Accept-Encoding": "gzip;q=" + "1" * 7000},
    )  # fmt: skip
    return m.request("GET", ("/v1/models", "/livez", "/readyz")[n % 3], key=None, headers=odd[n % len(odd)])


def bodies_without_a_key(m: Mallory, n: int) -> bytes:
    """Four megabytes of lists from nobody: to be refused before they are read."""
    return m.post((CHAT, RESPONSES, "/v1/embeddings")[n % 3], b"[" + b"[]," * 1_300_000 + b"[]]", key=None)


def files_without_a_key(m: Mallory, n: int) -> bytes:
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return m.post("/v1/files", part + b"a" * 8 * 2**20, key=None, headers=kind)


def keys_in_odd_places(m: Mallory, n: int) -> bytes:
    """Several, folded, in the path, in a cookie: none of it is a key."""
    key = m.target.key
    odd: tuple[dict[str, str], ...] = (
        {"Authorization": f"Bearer {key}, Bearer {key}"}, {"Authorization": f"Bearer\t{key}x"},
        {"Cookie": f"api-key={key}"}, {"Authorization": "Bearer "}, {"Authorization": "Bearer"},
        {"api-key": "\x80\xff"}, {"Authorization": f"bearer {key}\r\n x"}, {"Authorization": f"Basic {key}"},
        {"Authorization": f"Digest {key}"}, {"X-Api-Key": key}, {"Proxy-Authorization": f"Bearer {key}"},
    )  # fmt: skip
    return m.post(CHAT + ("?api-key=" + key if n % 2 else ""), m.chat(), key=None, headers=odd[n % len(odd)])


_of = Kind("without a key", REFUSED)
ATTACKS = (
    _of("openapi.json", "100 times a second, 40 at a time", getting("/openapi.json"), DOCUMENTS, short=True),
    _of("docs", "the same", getting("/docs", "/redoc", "/docs/"), DOCUMENTS),
    _of("metrics", "the same, on the API's port", getting("/metrics", "/metrics/"), REFUSED),
    _of("console", "its page and files", getting("/console", "/console/", "/console/assets/x.js"), DOCUMENTS),
    _of("readiness", "the platform's questions, by somebody else", getting("/readyz", "/livez"), DOCUMENTS | gets(503)),
    _of("invented keys", "100 a second", asking(invented_keys, rate=100, at_most=40), short=True),
    _of("almost the key", "a known prefix, another end", asking(almost_the_key, rate=100, at_most=40)),
    _of("invented tokens", "JWTs of nobody", asking(invented_tokens, rate=50, at_most=20), REFUSED),
    _of("keys in odd places", "cookies, queries, other schemes", asking(keys_in_odd_places, rate=50, at_most=20)),
    _of("unknown paths", "and those of other products", asking(unknown_paths, rate=100, at_most=40), NOWHERE),
    _of(
        "odd methods",
        "OPTIONS, TRACE, CONNECT, none",
        asking(odd_methods, rate=100, at_most=40, patience=5),
        NOWHERE | gets(501, "reset", "silent"),
    ),
    _of("huge headers", "60 KB, 2,000 of them", asking(huge_headers, rate=50, at_most=20), DOCUMENTS | gets("reset")),
    _of(
        "bodies of nobody", "4 MB of lists", asking(bodies_without_a_key, rate=10), REFUSED | gets("reset"), short=True
    ),
    _of("files of nobody", "8 MB", asking(files_without_a_key, rate=5), REFUSED | gets("reset")),
)
