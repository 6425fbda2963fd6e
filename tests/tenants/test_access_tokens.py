"""ID tokens and their kin are not access tokens, and what a group is called gives no role."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from serving.tenants.exclusive_roles import ExclusiveRoles
from serving.tenants.tokens import InvalidToken, Issuer, NoRole, Reason, Tokens
from tests.tenants.issuer import LocalIssuer
from tests.tenants.test_tokens import APP, GROUP, LAB, OID, Time, entra, issuer, oidc, plain, time, v1, v2

__all__ = ["issuer", "time"]  # fixtures

Claims = Callable[..., dict[str, Any]]
OURS = "55555555-aaaa-4bbb-8ccc-000000000001"
"""The id of an application that is registered once, for the web application and for its API."""


def id_token(local: LocalIssuer, **changes: Any) -> dict[str, Any]:
    """What Entra gives a web application about its user, who has an app role of ours. Not always with a nonce."""
    person = {"aud": OURS, "azp": None, "sub": "pairwise", "name": "A", "preferred_username": "a@b.example", "rh": "0."}
    return v2(local, **person | changes)


def of_user(local: LocalIssuer, **changes: Any) -> dict[str, Any]:
    """An access token of a user."""
    return v2(local, **{"aud": OURS, "scp": "user_impersonation", "azpacr": "0", "sub": "pairwise"} | changes)


NOT_ACCESS_TOKENS: list[tuple[str, Callable[[LocalIssuer], str]]] = [
    ("Entra v2: an ID token with a nonce", lambda i: i.sign(id_token(i, nonce="n"))),
    ("Entra v2: an ID token without a nonce", lambda i: i.sign(id_token(i))),
    ("Entra v2: an ID token with an empty azp", lambda i: i.sign(id_token(i, azp=""))),
    ("Entra v1: an ID token", lambda i: i.sign(v1(i, aud=OURS, appid=None, upn="a@b.example"))),
    ("Entra v1: an ID token with v2's azp", lambda i: i.sign(v1(i, aud=OURS, appid=None, azp=APP, upn="a@b.example"))),
    (
        "Entra: neither an application's nor with a scope or role",
        lambda i: i.sign(of_user(i, azp=None, roles=None, scp=None)),
    ),
    ("Entra v2: with v1's appid", lambda i: i.sign(id_token(i, appid=APP))),
    ("Entra: a hybrid flow's ID token", lambda i: i.sign(of_user(i, c_hash="c"))),
    ("Entra: an ID token beside an access token", lambda i: i.sign(of_user(i, at_hash="a"))),
    ("Entra: an access token with a nonce", lambda i: i.sign(of_user(i, nonce="n"))),
    ("Entra: an access token with a null nonce", lambda i: i.sign(of_user(i) | {"nonce": None})),
    ("Entra: a detached signature", lambda i: i.sign(of_user(i, s_hash="s"))),
    ("Entra: bound to a key", lambda i: i.sign(of_user(i, cnf={"jwk": {"kty": "RSA"}}))),
    ("header: a logout token", lambda i: i.sign(of_user(i), typ="logout+jwt")),
    ("header: a DPoP proof", lambda i: i.sign(of_user(i), typ="dpop+jwt")),
    ("header: a security event", lambda i: i.sign(of_user(i), typ="secevent+jwt")),
    ("header: a type that is no text", lambda i: i.sign(of_user(i), typ=["JWT"])),
    ("a logout token's events", lambda i: i.sign(of_user(i, events={"http://schemas.example/logout": {}}))),
    ("OpenID Connect: the smallest ID token", lambda i: i.sign(without(plain(i), "scope"))),
    ("OpenID Connect: an ID token", lambda i: i.sign(without(plain(i, azp="web", nonce="n", auth_time=1), "scope"))),
    ("OpenID Connect: an ID token with a scope", lambda i: i.sign(plain(i, nonce="n"))),
    ("Keycloak: an ID token", lambda i: i.sign(plain(i, typ="ID", azp="clinserve"))),
    ("Keycloak: a refresh token", lambda i: i.sign(plain(i, typ="Refresh"))),
    ("Keycloak: an offline token", lambda i: i.sign(plain(i, typ="Offline"))),
    ("Cognito: an ID token", lambda i: i.sign(plain(i, token_use="id"))),
    ("a token_use that is no text", lambda i: i.sign(plain(i, token_use=["access"]))),
    ("DPoP: bound to a key", lambda i: i.sign(plain(i, cnf={"jkt": "x"}))),
    ("an empty scope", lambda i: i.sign(plain(i, scope=""))),
]


def without(claims: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in claims.items() if name not in names}


@pytest.mark.parametrize("make", [row[1] for row in NOT_ACCESS_TOKENS], ids=[row[0] for row in NOT_ACCESS_TOKENS])
async def test_what_is_signed_for_us_and_is_no_access_token_is_refused(
    issuer: LocalIssuer, time: Time, make: Callable[[LocalIssuer], str]
) -> None:
    reasons: list[Reason] = []
    issuers = [entra(issuer, audiences=(OURS, "api://clinserve")), oidc(issuer)]
    tokens = Tokens(issuers, on_refused=reasons.append, clock=time.clock, now=time.now)
    with pytest.raises(InvalidToken):
        await tokens.identify(make(issuer))
    assert reasons == ["not_an_access_token"]


ACCESS_TOKENS: list[tuple[str, Callable[[LocalIssuer], str]]] = [
    ("Entra v2, a user's", lambda i: i.sign(of_user(i))),
    ("Entra v2, an application's", lambda i: i.sign(v2(i, aud=OURS, azpacr="1", idtyp="app", sub=OID))),
    ("Entra v1, a user's", lambda i: i.sign(v1(i, aud="api://clinserve", scp="user_impersonation", appidacr="0"))),
    ("Entra v1, an application's", lambda i: i.sign(v1(i, aud="api://clinserve", appidacr="1"))),
    ("OpenID Connect, of RFC 9068", lambda i: i.sign(without(plain(i, client_id="ci"), "scope"), typ="at+jwt")),
    ("the same, written long", lambda i: i.sign(without(plain(i), "scope"), typ="application/at+JWT")),
    ("Okta", lambda i: i.sign(without(plain(i, cid="0oa", scp=["chat"]), "scope"))),
    ("Keycloak", lambda i: i.sign(plain(i, typ="Bearer", azp="ci"))),
    ("Cognito", lambda i: i.sign(plain(i, token_use="access", client_id="ci"))),
]


@pytest.mark.parametrize("make", [row[1] for row in ACCESS_TOKENS], ids=[row[0] for row in ACCESS_TOKENS])
async def test_an_access_token_is_believed(issuer: LocalIssuer, time: Time, make: Callable[[LocalIssuer], str]) -> None:
    issuers = [entra(issuer, audiences=(OURS, "api://clinserve")), oidc(issuer)]
    assert await Tokens(issuers, clock=time.clock, now=time.now).identify(make(issuer))


@pytest.mark.parametrize(
    ("given", "claims", "reason"),
    [
        ({}, {"roles": None, "groups": ["ClinServe.Inference"]}, "no_role"),
        ({"groups": {GROUP: "auditor"}}, {"roles": ["x"], "groups": [GROUP.upper()]}, "no_role"),
        ({}, {"roles": None, "_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {}}}, "groups_not_told"),
        ({}, {"roles": None, "hasgroups": True}, "groups_not_told"),
        ({}, {"roles": None, "hasgroups": "true"}, "groups_not_told"),
        ({"default_roles": frozenset({"inference"})}, {"roles": None}, "no_role"),
        ({"principals": {OID: "key_admin"}}, {"groups": [GROUP]}, "exclusive_roles"),
    ],
    ids=[
        "a group with an app role's name",
        "another spelling of an id",
        "groups that are elsewhere",
        "groups that are left out",
        "groups that are left out, in a text",
        "an application without scope and role",
        "roles that exclude each other",
    ],
)
async def test_what_gives_no_role(
    issuer: LocalIssuer, time: Time, given: dict[str, Any], claims: dict[str, Any], reason: Reason
) -> None:
    reasons: list[Reason] = []
    tokens = Tokens([entra(issuer, **given)], on_refused=reasons.append, clock=time.clock, now=time.now)
    with pytest.raises(NoRole):
        await tokens.identify(issuer.sign(v2(issuer, **claims)))
    assert reasons == [reason]


async def test_names_of_groups_give_roles_where_that_is_configured(issuer: LocalIssuer, time: Time) -> None:
    named = oidc(issuer, groups={"ml-auditors": "auditor"}, group_names=True, default_roles=frozenset())
    tokens = Tokens([named], clock=time.clock, now=time.now)
    assert (await tokens.identify(issuer.sign(plain(issuer, groups=["ml-auditors"])))).roles == {"auditor"}


async def test_roles_that_do_not_come_from_groups_hold_although_groups_are_left_out(
    issuer: LocalIssuer, time: Time
) -> None:
    tokens = Tokens([entra(issuer)], clock=time.clock, now=time.now)
    assert (await tokens.identify(issuer.sign(v2(issuer, hasgroups=True)))).roles == {"inference"}


async def test_roles_may_be_in_one_hand_where_nothing_separates_them(issuer: LocalIssuer, time: Time) -> None:
    together = entra(issuer, principals={OID: "key_admin"}, exclusive=ExclusiveRoles(()))
    tokens = Tokens([together], clock=time.clock, now=time.now)
    assert "key_admin" in (await tokens.identify(issuer.sign(v2(issuer, groups=[GROUP])))).roles


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"groups": {"ml-auditors": "auditor"}}, "group_names"),
        ({"groups": {LAB.upper().replace("1", "A"): "auditor"}}, "group_names"),
        ({"default_roles": frozenset({"key_admin", "auditor"})}, "exclude each other"),
    ],
)
def test_a_configuration_that_lets_in_more_than_it_says_is_refused(changes: dict[str, Any], words: str) -> None:
    fields: dict[str, Any] = {"kind": "entra", "name": "x", "tenant_ids": (LAB,), "tenant": "ward"}
    with pytest.raises(ValueError, match=words):
        Issuer(**fields | changes)
