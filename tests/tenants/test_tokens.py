"""Bearer tokens: whom they identify, what is refused, and what happens while their issuer changes keys or is away."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.tenants.callers import Caller
from serving.tenants.issuer_keys import IdentityUnavailable, IssuerKeys
from serving.tenants.tokens import (
    AZURE_AUDIENCES,
    MAX_TOKEN,
    InvalidToken,
    Issuer,
    NoRole,
    NoTokens,
    Reason,
    Tokens,
    looks_like_token,
    trusts,
)
from tests.tenants.issuer import LocalIssuer, SigningKey, p256_key, p384_key, rsa_key

NOON = 1_772_366_400
WARD = "11111111-aaaa-4bbb-8ccc-000000000001"
LAB = "11111111-aaaa-4bbb-8ccc-000000000002"
OID = "22222222-aaaa-4bbb-8ccc-000000000001"
APP = "33333333-aaaa-4bbb-8ccc-000000000001"
GROUP = "44444444-aaaa-4bbb-8ccc-000000000001"
MINUTE, HOUR = 60.0, 3600.0


class Time:
    """A clock and a calendar that stand still until told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def clock(self) -> float:
        return self.seconds

    def now(self) -> float:
        return NOON + self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as issuer:
        yield issuer


@pytest.fixture
def reasons() -> list[Reason]:
    return []


@pytest.fixture
async def tokens(issuer: LocalIssuer, time: Time, reasons: list[Reason]) -> AsyncIterator[Tokens]:
    tokens = Tokens([entra(issuer)], on_refused=reasons.append, clock=time.clock, now=time.now)
    yield tokens
    await tokens.close()


def entra(local: LocalIssuer, **changes: Any) -> Issuer:
    fields: dict[str, Any] = {
        "kind": "entra",
        "name": "hospital",
        "tenant_ids": (WARD, LAB),
        "authority": local.url,
        "authority_v1": f"{local.url}/sts",
        "roles": {"ClinServe.Inference": "inference", GROUP: "auditor"},
        "tenant": "ward",
    }
    return Issuer(**fields | changes)


def oidc(local: LocalIssuer, **changes: Any) -> Issuer:
    fields: dict[str, Any] = {
        "kind": "oidc",
        "name": "keycloak",
        "url": local.url,
        "audiences": ("clinserve",),
        "default_roles": frozenset({"inference"}),
        "tenant": "ward",
    }
    return Issuer(**fields | changes)


def v2(local: LocalIssuer, **changes: Any) -> dict[str, Any]:
    """Claims of an application's token; None takes one away."""
    claims = {
        "iss": f"{local.url}/{WARD}/v2.0",
        "ver": "2.0",
        "aud": "7d312290-28c8-473c-a0ed-8e53749b6d6d",
        "tid": WARD,
        "oid": OID,
        "azp": APP,
        "roles": ["ClinServe.Inference"],
        "nbf": NOON - 10,
        "exp": NOON + 24 * HOUR,
    }
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


def v1(local: LocalIssuer, **changes: Any) -> dict[str, Any]:
    old = {"iss": f"{local.url}/sts/{WARD}/", "ver": "1.0", "aud": AZURE_AUDIENCES[0], "azp": None, "appid": APP}
    return v2(local, **old | changes)


def plain(local: LocalIssuer, **changes: Any) -> dict[str, Any]:
    return {"iss": local.url, "aud": "clinserve", "sub": "f0e1", "scope": "chat", "exp": NOON + 24 * HOUR, **changes}


# Whom a token identifies.


@pytest.mark.parametrize("claims", [v1, v2])
async def test_a_token_of_entra_identifies_its_holder_by_directory_and_object(
    issuer: LocalIssuer, tokens: Tokens, claims: Callable[..., dict[str, Any]]
) -> None:
    caller = await tokens.identify(issuer.sign(claims(issuer)))
    assert caller == Caller(tenant="ward", key_id=f"oidc:{WARD}/{OID}", key_name=APP, roles=frozenset({"inference"}))


async def test_names_and_addresses_of_people_stay_in_the_token(issuer: LocalIssuer, tokens: Tokens) -> None:
    personal = dict.fromkeys(("name", "email", "upn", "preferred_username", "unique_name"), "Ada Lovelace")
    caller = await tokens.identify(issuer.sign(v2(issuer, **personal)))
    assert caller.key_name == APP and "Ada" not in repr(caller)


async def test_a_token_of_any_openid_connect_issuer_identifies_its_holder(issuer: LocalIssuer, time: Time) -> None:
    tokens = Tokens([oidc(issuer)], clock=time.clock, now=time.now)
    caller = await tokens.identify(issuer.sign(plain(issuer, azp="ci-bot")))
    assert (caller.key_id, caller.key_name, caller.tenant) == ("oidc:keycloak/f0e1", "ci-bot", "ward")
    assert issuer.fetches == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        *((rsa_key, algorithm) for algorithm in ("RS256", "RS384", "RS512", "PS256")),
        (p256_key, "ES256"),
        (p384_key, "ES384"),
    ],
)
async def test_each_of_these_algorithms_is_believed(
    issuer: LocalIssuer, tokens: Tokens, key: Callable[[str], SigningKey], algorithm: str
) -> None:
    issuer.rotate(key("signer"))
    assert await tokens.identify(issuer.sign(v2(issuer), algorithm))


@pytest.mark.parametrize("audience", [*AZURE_AUDIENCES, "https://ai.azure.com/", ["other", "https://ml.azure.com"]])
async def test_azures_audiences_are_accepted_with_or_without_a_slash(
    issuer: LocalIssuer, tokens: Tokens, audience: object
) -> None:
    assert await tokens.identify(issuer.sign(v2(issuer, aud=audience)))


@pytest.mark.parametrize(
    ("given", "claims", "roles"),
    [
        ({}, {"groups": [GROUP, "unknown"]}, {"inference", "auditor"}),
        ({}, {"roles": None, "groups": [GROUP]}, {"auditor"}),
        ({"principals": {OID: "key_admin"}}, {"roles": None}, {"key_admin"}),
        ({"default_roles": frozenset({"inference"})}, {"roles": None, "scp": "user_impersonation"}, {"inference"}),
        ({"roles": {"a": "operator"}, "roles_claim": "scp"}, {"scp": "a b"}, {"operator"}),
    ],
    ids=["both", "groups", "the principal's own", "everybody's", "another claim"],
)
async def test_roles_come_from_app_roles_groups_the_principal_or_for_everybody(
    issuer: LocalIssuer, time: Time, given: dict[str, Any], claims: dict[str, Any], roles: set[str]
) -> None:
    tokens = Tokens([entra(issuer, **given)], clock=time.clock, now=time.now)
    assert (await tokens.identify(issuer.sign(v2(issuer, **claims)))).roles == roles


async def test_the_directory_or_a_claim_decides_the_tenant(issuer: LocalIssuer, time: Time) -> None:
    by_directory = Tokens([entra(issuer, tenant=None, tenants={WARD: "cardiology"})], now=time.now)
    by_claim = Tokens([oidc(issuer, tenant=None, tenants={"b7": "oncology"}, tenant_claim="unit")], now=time.now)
    assert (await by_directory.identify(issuer.sign(v2(issuer)))).tenant == "cardiology"
    assert (await by_claim.identify(issuer.sign(plain(issuer, unit="b7")))).tenant == "oncology"
    with pytest.raises(NoRole):
        await by_claim.identify(issuer.sign(plain(issuer, unit="elsewhere")))


async def test_five_minutes_of_difference_between_clocks_are_forgiven(
    issuer: LocalIssuer, tokens: Tokens, time: Time
) -> None:
    token = issuer.sign(v2(issuer, nbf=NOON + 299, exp=NOON + 1000))
    await tokens.identify(token)
    time.seconds = 1299
    await tokens.identify(token)
    time.seconds = 1301
    with pytest.raises(InvalidToken):
        await tokens.identify(token)


# What is refused.


def segment(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed_with_the_public_key(local: LocalIssuer) -> str:
    public = local.keys[0].private.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{segment({'alg': 'HS256', 'kid': 'first'})}.{segment(v2(local))}"
    return f"{signed}.{segment(hmac.new(pem, signed.encode(), hashlib.sha256).digest())}"


def with_other_claims(local: LocalIssuer) -> str:
    header, _, signature = local.sign(v2(local)).split(".")
    return f"{header}.{segment(v2(local, roles=['ClinServe.Inference'], oid=APP))}.{signature}"


def without_kid(local: LocalIssuer) -> str:
    return jwt.encode(v2(local), local.keys[0].private, "RS256")


def claim_twice(local: LocalIssuer) -> bytes:
    return json.dumps(v2(local)).encode()[:-1] + f', "oid": "{APP}"}}'.encode()


REFUSALS: list[tuple[str, Reason, Callable[[LocalIssuer], str]]] = [
    ("expired", "expired", lambda i: i.sign(v2(i, exp=NOON - 301))),
    ("not yet valid", "not_yet_valid", lambda i: i.sign(v2(i, nbf=NOON + 301))),
    ("never expires", "claims", lambda i: i.sign(v2(i, exp=None))),
    ("expiry in words", "claims", lambda i: i.sign(v2(i, exp="tomorrow"))),
    ("expiry true", "claims", lambda i: i.sign(v2(i, exp=True))),
    ("expiry NaN", "claims", lambda i: i.sign(v2(i, exp=float("nan")))),
    ("expiry infinite", "claims", lambda i: i.sign(v2(i, exp=float("inf")))),
    ("expiry of 4000 digits", "claims", lambda i: i.sign(v2(i, exp=10**3999))),
    ("expiry of 5000 digits", "malformed", lambda i: i.sign(b'{"exp":' + b"9" * 5000 + b"}")),
    ("another audience", "audience", lambda i: i.sign(v2(i, aud="https://graph.microsoft.com"))),
    ("an audience that begins alike", "audience", lambda i: i.sign(v2(i, aud=AZURE_AUDIENCES[0] + ".evil.example"))),
    ("an audience among words", "audience", lambda i: i.sign(v2(i, aud=f"other {AZURE_AUDIENCES[0]}"))),
    ("no audience", "audience", lambda i: i.sign(v2(i, aud=None))),
    ("an audience that is no text", "claims", lambda i: i.sign(v2(i, aud=[7]))),
    ("another issuer", "unknown_issuer", lambda i: i.sign(v2(i, iss=f"https://evil.example/{WARD}/v2.0"))),
    ("an issuer that is no text", "claims", lambda i: i.sign(v2(i, iss=[f"{i.url}/{WARD}/v2.0"]))),
    ("no issuer", "unknown_issuer", lambda i: i.sign(v2(i, iss=None))),
    ("a directory that is not ours", "unknown_issuer", lambda i: i.sign(v2(i, iss=f"{i.url}/{APP}/v2.0", tid=APP))),
    ("issuer and directory differ", "claims", lambda i: i.sign(v2(i, tid=LAB))),
    ("issuer and version differ", "claims", lambda i: i.sign(v2(i, ver="1.0"))),
    ("no version", "claims", lambda i: i.sign(v2(i, ver=None))),
    ("no object id", "claims", lambda i: i.sign(v2(i, oid=None))),
    ("an object id that is none", "claims", lambda i: i.sign(v2(i, oid="../../system"))),
    ("an app id with a line's end", "claims", lambda i: i.sign(v2(i, azp="ci\nbot"))),
    ("an app id of 5000 letters", "claims", lambda i: i.sign(v2(i, azp="a" * 5000))),
    ("roles that are no texts", "claims", lambda i: i.sign(v2(i, roles=[{"ClinServe.Inference": 1}]))),
    ("a claim twice", "malformed", lambda i: i.sign(claim_twice(i))),
    ("claims that are a list", "malformed", lambda i: i.sign(b"[]")),
    ("claims that nest deeply", "malformed", lambda i: i.sign(b"[" * 9000)),
    ("more claims than a token holds", "malformed", lambda i: i.sign(v2(i, groups=[GROUP] * 500))),
    ("alg none", "algorithm", lambda i: jwt.encode(v2(i), None, "none", headers={"kid": "first"})),
    ("HMAC with the public key", "algorithm", signed_with_the_public_key),
    ("an algorithm that is not on the list", "algorithm", lambda i: i.sign(v2(i), "PS512")),
    ("a curve's algorithm for an RSA key", "unknown_key", lambda i: p256_key("first").sign(v2(i), "ES256")),
    ("unknown kid", "unknown_key", lambda i: rsa_key("second").sign(v2(i))),
    ("missing kid", "unknown_key", without_kid),
    ("another's key under this kid", "signature", lambda i: SigningKey("first", rsa_key("x").private).sign(v2(i))),
    ("tampered payload", "signature", with_other_claims),
    ("no signature", "signature", lambda i: i.sign(v2(i)).rsplit(".", 1)[0] + "."),
    ("crit", "malformed", lambda i: i.sign(v2(i), crit=["exp"], exp=1)),
    ("crit that PyJWT knows", "malformed", lambda i: i.sign(v2(i), crit=["b64"], b64=True)),
    ("two segments", "malformed", lambda i: i.sign(v2(i)).rsplit(".", 1)[0]),
    ("a line's end behind it", "malformed", lambda i: i.sign(v2(i)) + "\n"),
    ("nothing", "malformed", lambda i: ""),
]


@pytest.mark.parametrize(("reason", "make"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
async def test_refused_in_the_same_words_for_every_reason(
    issuer: LocalIssuer, tokens: Tokens, reasons: list[Reason], reason: Reason, make: Callable[[LocalIssuer], str]
) -> None:
    with pytest.raises(InvalidToken) as refused:
        await tokens.identify(make(issuer))
    assert refused.value.message == InvalidToken().message and refused.value.__cause__ is None
    assert reasons == [reason]


async def test_a_key_with_the_same_name_as_anothers_is_not_believed_for_it(issuer: LocalIssuer, time: Time) -> None:
    with LocalIssuer() as other:
        other.rotate(SigningKey("first", rsa_key("others").private))
        tokens = Tokens([oidc(issuer), oidc(other, name="other", tenant="system")], now=time.now)
        assert (await tokens.identify(other.sign(plain(other)))).tenant == "system"
        with pytest.raises(InvalidToken):
            await tokens.identify(issuer.sign(plain(other)))


@pytest.mark.parametrize("sub", [None, "", "a" * 256, "line\nend", "é", 7])
async def test_a_subject_that_cannot_stand_in_a_log_is_refused(issuer: LocalIssuer, time: Time, sub: object) -> None:
    with pytest.raises(InvalidToken):
        await Tokens([oidc(issuer)], now=time.now).identify(issuer.sign(plain(issuer, sub=sub)))


@pytest.mark.parametrize("roles", [None, [], ["clinserve.inference"], ["Unmapped"]])
async def test_a_good_token_without_a_role_of_ours_may_nothing(
    issuer: LocalIssuer, tokens: Tokens, reasons: list[Reason], roles: object
) -> None:
    with pytest.raises(NoRole):
        await tokens.identify(issuer.sign(v2(issuer, roles=roles)))
    assert reasons == ["no_role"]


async def test_tokens_that_are_off_refuse_all(issuer: LocalIssuer) -> None:
    with pytest.raises(InvalidToken):
        await NoTokens().identify(issuer.sign(v2(issuer)))


def test_the_answers_are_azures() -> None:
    audience = "https://cognitiveservices.azure.com"
    message = f"Unauthorized. Access token is missing, invalid, audience is incorrect ({audience}), or have expired."
    assert InvalidToken().azure_body() == {"statusCode": 401, "message": message}
    assert NoRole().azure_body() == {
        "error": {"code": "PermissionDenied", "message": "Principal does not have access to API/Operation."}
    }


def test_what_looks_like_a_token() -> None:
    assert looks_like_token("a.b.c") and looks_like_token("a.b.")
    unlike = ["", "a.b", "a..c", "a.b.c.d", "a.b.c=", "ä.b.c", "csk_ab12cd34_x", "a.b." + "c" * MAX_TOKEN]
    assert not any(looks_like_token(text) for text in unlike)


# The issuer's keys.


async def test_a_new_key_is_found_when_a_token_names_it_and_an_old_one_ends(
    issuer: LocalIssuer, tokens: Tokens, time: Time
) -> None:
    old = issuer.sign(v2(issuer))
    await tokens.identify(old)
    issuer.rotate(rsa_key("second"))
    time.seconds = 31
    await tokens.identify(issuer.sign(v2(issuer)))
    assert len(issuer.fetches) == 2
    with pytest.raises(InvalidToken):
        await tokens.identify(old)


async def test_a_flood_of_invented_kids_is_one_fetch_in_thirty_seconds(
    issuer: LocalIssuer, tokens: Tokens, time: Time
) -> None:
    await tokens.identify(issuer.sign(v2(issuer)))
    for seconds, fetches in [(29, 1), (30, 2), (59, 2), (60, 3)]:
        time.seconds = seconds
        invented = [issuer.sign(v2(issuer), kid=f"invented-{seconds}-{number}") for number in range(50)]
        answers = await asyncio.gather(*map(tokens.identify, invented), return_exceptions=True)
        assert {type(answer) for answer in answers} == {InvalidToken} and len(issuer.fetches) == fetches


async def test_those_who_come_first_together_share_one_fetch_also_when_one_leaves(
    issuer: LocalIssuer, tokens: Tokens
) -> None:
    token = issuer.sign(v2(issuer))
    issuer.open.clear()
    waiting = [asyncio.create_task(tokens.identify(token)) for _ in range(20)]
    while not issuer.fetches:
        await asyncio.sleep(0)
    waiting.pop(0).cancel()
    issuer.open.set()
    assert len({caller.key_id for caller in await asyncio.gather(*waiting)}) == 1 and len(issuer.fetches) == 1


async def test_while_the_issuer_is_away_its_keys_go_on_for_a_day(
    issuer: LocalIssuer, tokens: Tokens, time: Time
) -> None:
    token = issuer.sign(v2(issuer, exp=NOON + 100 * HOUR))
    await tokens.identify(token)
    issuer.answers[f"/{WARD}/discovery/v2.0/keys"] = 500
    for time.seconds in (2 * HOUR, 12 * HOUR, 24 * HOUR):
        assert await tokens.identify(token)
        with pytest.raises(IdentityUnavailable):  # it may be a new key: nobody can say
            await tokens.identify(rsa_key("second").sign(v2(issuer, exp=NOON + 100 * HOUR)))
    time.seconds = 24 * HOUR + 31
    with pytest.raises(IdentityUnavailable) as away:
        await tokens.identify(token)
    assert (away.value.status, away.value.code, away.value.retry_after) == (503, "identity_unavailable", 30)
    assert len(issuer.fetches) == 5


async def test_a_request_whose_key_is_at_hand_does_not_wait_for_an_issuer_that_hangs(
    issuer: LocalIssuer, tokens: Tokens, time: Time
) -> None:
    token = issuer.sign(v2(issuer))
    await tokens.identify(token)
    issuer.open.clear()
    time.seconds = 2 * HOUR
    async with asyncio.timeout(2):
        assert await tokens.identify(token) and await tokens.identify(token)


async def test_old_keys_are_fetched_again_in_the_background(issuer: LocalIssuer, tokens: Tokens, time: Time) -> None:
    token = issuer.sign(v2(issuer))
    await tokens.identify(token)
    issuer.rotate(rsa_key("second"))
    time.seconds = HOUR
    await tokens.identify(token)
    assert len(issuer.fetches) == 1
    time.seconds = HOUR + 1
    await tokens.identify(token)
    async with asyncio.timeout(5):
        while len(issuer.fetches) < 2:
            await asyncio.sleep(0)
    assert await tokens.identify(issuer.sign(v2(issuer)))


async def test_an_issuer_that_never_answered_is_a_503_and_asked_again_after_a_while(
    issuer: LocalIssuer, time: Time
) -> None:
    tokens = Tokens([entra(issuer)], fetch_seconds=0.05, clock=time.clock, now=time.now)
    token = issuer.sign(v2(issuer))
    issuer.open.clear()
    for _ in range(3):
        with pytest.raises(IdentityUnavailable) as away:
            await tokens.identify(token)
        assert away.value.retry_after == 1
    assert len(issuer.fetches) == 1
    issuer.open.set()
    time.seconds = 0.05
    assert await tokens.identify(token)


PRIVATE = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key("first").private)) | {"kid": "first"}
UNUSABLE: dict[str, bytes | int] = {
    "a redirect": 302,
    "an error": 500,
    "no JSON": b"<html>",
    "a list": b"[]",
    "no keys": b'{"keys": []}',
    "keys that are no list": b'{"keys": "first"}',
    "nesting": b'{"keys": ' + b"[" * 10**5,
    "2 MiB": json.dumps({"keys": [rsa_key("first").jwk()], "x": "x" * 2**21}).encode(),
    "101 keys": json.dumps({"keys": [rsa_key("first").jwk(kid=f"{n}") for n in range(101)]}).encode(),
    "a key for encryption": json.dumps({"keys": [rsa_key("first").jwk(use="enc")]}).encode(),
    "a key for HMAC": json.dumps({"keys": [{"kty": "oct", "kid": "first", "k": "c2VjcmV0"}]}).encode(),
    "a key without a name": json.dumps({"keys": [rsa_key("first").jwk(kid=None)]}).encode(),
    "a key that is none": json.dumps({"keys": [{"kty": "RSA", "kid": "first", "n": 7}, 7, None]}).encode(),
}


@pytest.mark.parametrize("answer", UNUSABLE.values(), ids=UNUSABLE)
async def test_a_document_without_usable_keys_gives_none(
    issuer: LocalIssuer, tokens: Tokens, answer: bytes | int
) -> None:
    issuer.answers[f"/{WARD}/discovery/v2.0/keys"] = answer
    with pytest.raises(IdentityUnavailable):
        await tokens.identify(issuer.sign(v2(issuer)))
    assert len(issuer.fetches) == 1  # a redirect is not followed


@pytest.mark.filterwarnings("ignore:The RSA key")
@pytest.mark.parametrize(
    ("signer", "published"),
    [
        (rsa_key("first", 1024), rsa_key("first", 1024).jwk()),
        (rsa_key("first"), rsa_key("first").jwk(alg="RS512")),
        (rsa_key("first"), p384_key("first").jwk()),
    ],
    ids=["a short key", "a key for another algorithm", "a key of another kind"],
)
async def test_a_key_that_does_not_fit_is_not_used(
    issuer: LocalIssuer, tokens: Tokens, signer: SigningKey, published: dict[str, Any]
) -> None:
    issuer.answers[f"/{WARD}/discovery/v2.0/keys"] = json.dumps({"keys": [published]}).encode()
    with pytest.raises(InvalidToken):
        await tokens.identify(signer.sign(v2(issuer)))


async def test_a_private_key_that_was_published_verifies_as_a_public_one(issuer: LocalIssuer, tokens: Tokens) -> None:
    issuer.answers[f"/{WARD}/discovery/v2.0/keys"] = json.dumps({"keys": [PRIVATE]}).encode()
    assert await tokens.identify(issuer.sign(v2(issuer)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"issuer": "https://evil.example"}, "another issuer's"),
        ({"jwks_uri": "http://198.51.100.7/keys"}, "no https address"),
        ({"jwks_uri": 7}, "no https address"),
    ],
)
async def test_a_discovery_document_must_be_the_issuers_own_and_lead_to_https(
    issuer: LocalIssuer, time: Time, caplog: pytest.LogCaptureFixture, change: dict[str, Any], reason: str
) -> None:
    document = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys", **change}
    issuer.answers["/.well-known/openid-configuration"] = json.dumps(document).encode()
    with pytest.raises(IdentityUnavailable):
        await Tokens([oidc(issuer)], now=time.now).identify(issuer.sign(plain(issuer)))
    assert len(issuer.fetches) == 1 and reason in caplog.text


async def test_what_is_logged_of_a_failed_fetch_names_the_issuer_and_quotes_no_answer(
    issuer: LocalIssuer, tokens: Tokens, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.answers[f"/{WARD}/discovery/v2.0/keys"] = b"some answer"
    with pytest.raises(IdentityUnavailable):
        await tokens.identify(issuer.sign(v2(issuer)))
    (line,) = caplog.messages
    assert "hospital" in line and "no JSON" in line and "some answer" not in line


# The configuration.


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tenant_ids": ()}, "tenant_ids"),
        ({"tenant_ids": ("common",)}, "tenant_ids"),
        ({"authority": "http://login.microsoftonline.com"}, "authority"),
        ({"authority": "https://user:password@proxy.example"}, "authority"),
        ({"tenant": None}, "tenant"),
        ({"tenants": {WARD: "ward"}}, "tenant"),
        ({"roles": {"a": "root"}}, "roles"),
        ({"name": WARD}, "name"),
        ({"kind": "oidc", "url": "https://id.example"}, "audiences"),
        ({"kind": "oidc", "audiences": ("clinserve",)}, "url"),
    ],
)
def test_an_issuer_that_could_not_work_or_lets_in_too_many_is_refused(
    issuer: LocalIssuer, change: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        entra(issuer, **change)


def test_two_issuers_cannot_share_an_address(issuer: LocalIssuer) -> None:
    with pytest.raises(ValueError, match="another issuer"):
        Tokens([entra(issuer), entra(issuer, name="again")])


def test_microsofts_addresses_need_no_configuration() -> None:
    microsoft = Issuer(kind="entra", name="hospital", tenant_ids=(WARD,), tenant="ward")
    addresses = [f"https://login.microsoftonline.com/{WARD}/v2.0", f"https://sts.windows.net/{WARD}/"]
    assert [iss for iss, _ in trusts(microsoft, IssuerKeys)] == addresses


# Garbage.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(["iss", "aud", "exp", "nbf", "tid", "ver", "oid", "azp", "roles", "groups", "sub"])


def garbage(local: LocalIssuer) -> st.SearchStrategy[str]:
    """Nonsense of every depth: text, segments of bytes, well-formed headers over strange claims, also well signed."""
    header = st.fixed_dictionaries(
        {"alg": st.sampled_from(["RS256", "ES256", "none"]) | JSON, "kid": st.just("first") | JSON}
    )
    odd = st.dictionaries(NAMES, JSON, min_size=1, max_size=3)
    claims = odd.map(lambda changes: v2(local) | changes | {"tid": LAB})  # never a good one: the directory differs
    return st.one_of(
        st.text(),
        st.lists(st.binary(max_size=60).map(segment), min_size=3, max_size=3).map(".".join),
        st.tuples(header.map(segment), claims.map(segment), st.binary(max_size=60).map(segment)).map(".".join),
        claims.map(local.sign),
    )


def test_no_garbage_gets_in_or_does_anything_but_be_refused() -> None:
    with LocalIssuer() as issuer, asyncio.Runner() as runner:
        tokens = Tokens([entra(issuer)], clock=lambda: 0.0, now=lambda: NOON)

        @given(text=garbage(issuer))
        @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        def refused(text: str) -> None:
            with pytest.raises(InvalidToken):
                runner.run(tokens.identify(text))

        refused()
        assert len(issuer.fetches) <= 1
