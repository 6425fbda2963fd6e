"""Whether a token that is signed, current and for us is an access token, and not another kind that its issuer signs.

Where a web application and our API share a registration, its ID tokens have our audience, and may have our roles. An ID
token says to an application who its user is; it stands in browsers' histories and logs, and nobody gave it to call us
(RFC 9068, 2.1 and 4; RFC 8725, 3.11 and 3.12).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

_TYPES = ("", "jwt", "at+jwt", "application/at+jwt")
"""`typ` of the header: none, any, or an access token's (RFC 9068). Others are logout+jwt, dpop+jwt, secevent+jwt..."""
_OF_ID_TOKENS = ("nonce", "at_hash", "c_hash", "s_hash")
"""OpenID Connect Core, 3.1.3.6 and 3.3.2.11; FAPI."""
_OF_OTHERS = ("events", "htm", "htu")
"""Logout and security event tokens (RFC 8417); DPoP proofs (RFC 9449)."""

_OF_PEOPLE = (
    "preferred_username", "name", "unique_name", "upn", "email", "given_name", "family_name", "login_hint", "auth_time",
    "sid", "acct",
)  # fmt: skip


class NotAnAccessToken(Exception):
    """Says not what it is instead: outside, all refusals are alike."""


@dataclass(frozen=True, slots=True)
class AccessTokenRule:
    """access_claims: OpenID Connect; one of them shows an access token. Entra's are known by their own claims."""

    kind: Literal["entra", "oidc"]
    access_claims: tuple[str, ...] = ()

    def check(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> None:
        """Raise NotAnAccessToken. header, claims: those of a token whose signature holds."""
        typ = str(header.get("typ", "")).lower()
        if typ not in _TYPES or any(name in claims for name in (*_OF_ID_TOKENS, *_OF_OTHERS)):
            raise NotAnAccessToken
        if str(claims.get("token_use", "access")) != "access":  # Amazon Cognito
            raise NotAnAccessToken
        if str(claims.get("typ", "Bearer")).lower() not in ("bearer", "jwt", "at+jwt"):  # Keycloak: ID, Refresh, Logout
            raise NotAnAccessToken
        if "cnf" in claims:  # bound to a key that its holder has to prove (RFC 7800): bare, it is a stolen one
            raise NotAnAccessToken
        if self.kind == "entra":
            self._check_entra(claims)
        elif not typ.endswith("at+jwt") and not any(claims.get(name) for name in self.access_claims):
            raise NotAnAccessToken

    def _check_entra(self, claims: Mapping[str, Any]) -> None:
        """Its access tokens name the application that has them: `appid` in v1, `azp` in v2. Its ID tokens do not; they
        are for people, and one with an `oid`, which we need, has a name too (the scope `profile` gives both).
        """
        if claims.get("azp" if claims.get("ver") == "2.0" else "appid"):
            return
        if any(name in claims for name in _OF_PEOPLE) or not (claims.get("scp") or claims.get("roles")):
            raise NotAnAccessToken
