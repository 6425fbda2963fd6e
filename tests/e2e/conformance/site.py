"""The product as the clients meet it: one configuration for all, an identity provider, a door with TLS, keys."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import trustme
import yaml

from tests.e2e.conformance.scenarios import Site
from tests.e2e.product import ROOT, Product
from tests.tenants.issuer import LocalIssuer

DEMO = "deploy/configs/demo-embeddings.yaml"
CHAT, EMBED, FAULTY, GUARDED = "clinical-demo", "clinical-embed", "echo", "guarded"
SCREENED, STRICT, FULL, ELSEWHERE_KEY = "screened", "strict", "full", "ELSEWHERE_KEY"
DIMENSIONS = 256
DIRECTORY = "11111111-aaaa-4bbb-8ccc-000000000001"
LIMITS = {"single": {"concurrent_requests": 1}, "small": {"tokens_per_minute": 10}}


def configuration(file: Path, issuer: LocalIssuer, url: str, receiver: str) -> None:
    """demo-embeddings.yaml with an identity provider, echo deployments for what vLLM does not do on demand, and the
    chat model once more as an endpoint elsewhere, which is this server at `url`, behind filters. Requests whose client
    says so are traced, and their spans go to `receiver`.
    """
    tree = yaml.safe_load((ROOT / DEMO).read_text())
    tree["deployments"][0]["scaling"] = {"min": 1, "max": 1}  # so that its replica reports
    for deployment in tree["deployments"]:
        deployment["model"]["source"] = str((ROOT / DEMO).parent / deployment["model"]["source"])
    echo = yaml.safe_load((ROOT / "deploy/configs/echo.yaml").read_text())["deployments"][0]
    filtered = {"name": GUARDED, "engine": {"kind": "echo"}, "guards": ["drugs"]}
    elsewhere = {"kind": "http", "url": f"{url}/v1", "model": CHAT, "key_env": ELSEWHERE_KEY}
    screened = {"name": SCREENED, "engine": elsewhere, "guards": ["identifiers", "studies"]}
    strict = {"name": STRICT, "engine": elsewhere, "guards": ["allergens"]}
    full = {"name": FULL, "engine": {"kind": "echo", "failures": [{"action": "refuse"}]}, "spill_to": SCREENED}
    tree["deployments"] += [echo, filtered, screened, strict, full]
    tree["guards"] = [
        {"kind": "blocklist", "name": "drugs", "terms": ["fentanyl patch"], "stages": ["answer"]},
        {"kind": "blocklist", "name": "studies", "terms": ["Project Aurora"]},
        {"kind": "blocklist", "name": "allergens", "terms": ["penicillin"], "stages": ["answer"]},
        {"kind": "pii", "name": "identifiers", "record_prefixes": ["MRN"]},
    ]
    entra = {"kind": "entra", "name": "hospital", "tenant_ids": [DIRECTORY], "tenant": "demo"}
    entra |= {"authority": issuer.url, "authority_v1": issuer.url, "default_roles": ["inference"]}
    tree["identity"] = {"issuers": [entra]}
    tree["telemetry"]["traces"] = {"otlp": receiver, "ratio": 0.0, "trust_clients": True}
    file.write_text(yaml.safe_dump(tree))


def token(issuer: LocalIssuer, *, age: float = 0) -> str:
    """One as Entra signs it for azure-identity; it is good for an hour."""
    issued = time.time() - age
    claims = {"iss": f"{issuer.url}/{DIRECTORY}/v2.0", "aud": "https://ml.azure.com", "tid": DIRECTORY, "ver": "2.0"}
    claims |= {"azp": "33333333-aaaa-4bbb-8ccc-000000000001", "scp": "user_impersonation"}  # no access token is without
    claims |= {"oid": "22222222-aaaa-4bbb-8ccc-000000000001", "iat": issued, "nbf": issued, "exp": issued + 3600}
    return issuer.sign(claims)


def keys(product: Product) -> dict[str, str]:
    """One for each purpose that scenarios.Site names, all of the demo's tenant but the one whose tenant keeps."""
    admin = (product.state_dir / "admin.key").read_text().strip()
    made = {"any": product.key}
    with httpx.Client(base_url=f"{product.url}/admin/v1", headers={"api-key": admin}, timeout=30) as api:
        for name in ("elsewhere", "single", "small"):
            asked: dict[str, Any] = {"tenant": "demo", "name": f"conformance-{name}"}
            asked |= {"deployments": [FAULTY]} if name == "elsewhere" else {}
            created = api.post("/keys", json=asked).raise_for_status().json()
            made[name] = created["key"]
            if name in LIMITS:
                api.put(f"/limits/key/{created['id']}", json=LIMITS[name]).raise_for_status()
        api.post("/tenants", json={"id": "records", "name": "Records"}).raise_for_status()
        api.patch("/tenants/records", json={"keep_responses": 86400}).raise_for_status()
        made["keeping"] = (
            api.post("/keys", json={"tenant": "records", "name": "keeping"}).raise_for_status().json()["key"]
        )
    time.sleep(2.5)  # until the gateway has read the limits
    return made


@contextlib.contextmanager
def open_site(product: Product, issuer: LocalIssuer, folder: Path) -> Iterator[Site]:
    authority = trustme.CA()
    certificate = folder / "authority.pem"
    authority.cert_pem.write_to_path(certificate)
    with behind_tls(authority.issue_cert("localhost"), product.port) as port:
        yield Site(
            url=product.url,
            tls=f"https://localhost:{port}",
            certificate=str(certificate),
            chat=CHAT,
            embed=EMBED,
            faulty=FAULTY,
            guarded=GUARDED,
            dimensions=DIMENSIONS,
            keys=keys(product),
            tokens={"good": token(issuer), "expired": token(issuer, age=7200)},
        )


@contextlib.contextmanager
def behind_tls(certificate: trustme.LeafCert, port: int) -> Iterator[int]:
    """A door that ends TLS before a port, as a load balancer does; gives its own port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    loop = asyncio.new_event_loop()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))

    server = loop.run_until_complete(asyncio.start_server(serve, "localhost", 0, ssl=context, family=socket.AF_INET))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()
