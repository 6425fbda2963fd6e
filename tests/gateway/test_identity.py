"""Entra ID at the door: real signed tokens over HTTP, each wrong one refused in Azure's shape, keys beside them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from cryptography.hazmat.primitives import serialization

from tests.conftest import OpenSite
from tests.local import Site, chat, listening
from tests.tenants.issuer import LocalIssuer, rsa_key

DIRECTORY, OID = "11111111-aaaa-4bbb-8ccc-000000000001", "22222222-aaaa-4bbb-8ccc-000000000001"
AUDIENCE = "https://cognitiveservices.azure.com"
PATH = "/v1/chat/completions"


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as issuer:
        yield issuer


@pytest.fixture
def hospital(site: OpenSite, issuer: LocalIssuer) -> Site:
    """One that takes the issuer's tokens as Entra's, for our tenant `ward`."""
    entra = {"kind": "entra", "name": "hospital", "tenant_ids": [DIRECTORY], "tenant": "ward"}
    entra |= {"authority": issuer.url, "authority_v1": issuer.url, "roles": {"Clinserve.Inference": "inference"}}
    return site(identity={"issuers": [entra]})


def claims(issuer: LocalIssuer, **changes: Any) -> dict[str, Any]:
    good = {
        "iss": f"{issuer.url}/{DIRECTORY}/v2.0", "aud": AUDIENCE, "tid": DIRECTORY, "oid": OID, "ver": "2.0",
        "iat": time.time(), "nbf": time.time(), "exp": time.time() + 3600, "roles": ["Clinserve.Inference"],
    }  # fmt: skip
    return good | changes


async def ask(hospital: Site, token: str) -> httpx.Response:
    return await hospital.client(authorization=f"Bearer {token}").post(PATH, json=chat())


@pytest.mark.parametrize("version", ["1.0", "2.0"])
async def test_a_good_token_is_a_caller_of_our_tenant(hospital: Site, issuer: LocalIssuer, version: str) -> None:
    v1 = {"iss": f"{issuer.url}/{DIRECTORY}/", "ver": "1.0"} if version == "1.0" else {}
    response = await ask(hospital, issuer.sign(claims(issuer, **v1)))
    assert response.status_code == 200
    (line,) = hospital.log()
    assert (line["tenant"], line["key_id"]) == ("ward", f"oidc:{DIRECTORY}/{OID}")


def segment(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(issuer: LocalIssuer) -> str:
    return f"{segment({'alg': 'none', 'kid': 'first'})}.{segment(claims(issuer))}."


def signed_with_the_public_key(issuer: LocalIssuer) -> str:
    public = issuer.keys[0].private.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = f"{segment({'alg': 'HS256', 'kid': 'first', 'typ': 'JWT'})}.{segment(claims(issuer))}"
    digest = hmac.new(pem, text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


WRONG: dict[str, Callable[[LocalIssuer], str]] = {
    "expired": lambda issuer: issuer.sign(claims(issuer, exp=time.time() - 3600)),
    "not yet valid": lambda issuer: issuer.sign(claims(issuer, nbf=time.time() + 3600)),
    "wrong audience": lambda issuer: issuer.sign(claims(issuer, aud="https://graph.microsoft.com")),
    "wrong issuer": lambda issuer: issuer.sign(claims(issuer, iss="https://elsewhere.example/v2.0")),
    "another directory": lambda issuer: issuer.sign(claims(issuer, tid=OID)),
    "alg none": unsigned,
    "HMAC with the public key": signed_with_the_public_key,
    "unknown kid": lambda issuer: rsa_key("stranger").sign(claims(issuer)),
    "known kid, other key": lambda issuer: rsa_key("stranger").sign(claims(issuer), kid="first"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_token_is_refused_in_azures_shape_and_words_for_all(
    hospital: Site, issuer: LocalIssuer, wrong: str
) -> None:
    response = await ask(hospital, WRONG[wrong](issuer))
    assert response.status_code == 401
    assert response.json() == {
        "statusCode": 401,
        "message": "Unauthorized. Access token is missing, invalid, "
        f"audience is incorrect ({AUDIENCE}), or have expired.",
    }
    assert response.headers["www-authenticate"] == "Bearer"
    assert hospital.log()[0]["outcome"] == "invalid_token"


async def test_a_token_without_a_role_is_refused_as_azure_does(hospital: Site, issuer: LocalIssuer) -> None:
    response = await ask(hospital, issuer.sign(claims(issuer, roles=["Other.Role"])))
    assert response.status_code == 401
    assert response.json()["error"] == {
        "code": "PermissionDenied",
        "message": "Principal does not have access to API/Operation.",
    }


async def test_a_key_goes_on_working_as_a_bearer_value_beside_tokens(hospital: Site) -> None:
    assert (await ask(hospital, hospital.key)).status_code == 200


def test_the_openai_client_takes_a_token_and_understands_a_refusal(hospital: Site, issuer: LocalIssuer) -> None:
    with listening(hospital.app) as url:
        messages = [{"role": "user", "content": "one two"}]
        for token, works in ((issuer.sign(claims(issuer)), True), (issuer.sign(claims(issuer, exp=1)), False)):
            client = openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)
            if works:
                answer = client.chat.completions.create(model="echo", messages=messages)  # type: ignore[arg-type]
                assert answer.choices[0].message.content == "one two"
            else:
                with pytest.raises(openai.AuthenticationError, match="Access token is missing"):
                    client.models.list()


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("10.1.2.3", "10.1.2.3"), ("10.1.2.3:4711", "10.1.2.3"), ("[2001:db8::1]:80", "2001:db8::1"),
        ("9.9.9.9, 10.1.2.3", "10.1.2.3"), ("fe80::1%eth0", "fe80::1"),
        ("Zebulon", ""), ("10.1.2.3, Zebulon", ""), ("", ""),
    ],
)  # fmt: skip
async def test_only_an_address_gets_into_the_log_as_one(site: OpenSite, said: str, address: str) -> None:
    open_site = site(server={"trusted_proxies": 1})
    await open_site.client().post("/v1/chat/completions", json=chat(), headers={"x-forwarded-for": said})
    assert open_site.log()[-1]["address"] == address and "Zebulon" not in str(open_site.log())
