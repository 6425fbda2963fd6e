"""Bearer tokens of Entra ID and of OpenID Connect issuers: which are believed, and whose Caller they make.

A token is checked on every request, in a few tenths of a millisecond; nothing about it is kept, so none works a second
longer than it says. The issuers' public keys, and how long those are kept, are in issuer_keys.py.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from jwt import PyJWS
from jwt.exceptions import PyJWTError

from serving.errors import ServingError
from serving.tenants.access_tokens import AccessTokenRule, NotAnAccessToken
from serving.tenants.callers import ROLES, Caller, Role
from serving.tenants.exclusive_roles import ExclusiveRoles
from serving.tenants.issuer_keys import FAMILIES, IssuerKeys, discover_keys, may_be_asked, read_keys

AZURE_AUDIENCES = (
    "https://cognitiveservices.azure.com",
    "https://ai.azure.com",
    "https://ml.azure.com",
    "7d312290-28c8-473c-a0ed-8e53749b6d6d",  # Cognitive Services, in v2 tokens
    "18a66f5f-dbdf-4c17-9dd7-1634712a9cbe",  # Azure ML, in v2 tokens
)
"""What Azure's SDKs ask tokens for (azure-wire-format, 1.2)."""

Reason = Literal[
    "malformed",
    "algorithm",
    "unknown_issuer",
    "unknown_key",
    "signature",
    "claims",
    "not_an_access_token",
    "audience",
    "expired",
    "not_yet_valid",
    "no_tenant",
    "no_role",
    "groups_not_told",
    "exclusive_roles",
]
"""Why a token was refused: for metrics, never for the client."""

SKEW = 300.0
MAX_TOKEN = 16 * 2**10
MAX_SUBJECT = 255  # OpenID Connect's own bound for `sub`
MAX_NAME = 200
TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")  # the last is empty under `alg: none`
GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ISSUER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")  # shorter than a GUID: it stands where Entra's ids have theirs
_JWS = PyJWS(algorithms=list(FAMILIES), options={"enforce_minimum_key_length": True})


class InvalidToken(ServingError):
    """A token that is not believed. The same words for every reason; they name an audience, as Azure's do."""

    status, kind, code = 401, "invalid_request_error", "invalid_token"

    def __init__(self, audience: str = AZURE_AUDIENCES[0]) -> None:
        super().__init__(
            f"Unauthorized. Access token is missing, invalid, audience is incorrect ({audience}), or have expired."
        )

    def azure_body(self) -> dict[str, Any]:
        """Azure's answer has no `error` around it (azure-wire-format, 1.3)."""
        return {"statusCode": self.status, "message": self.message}


class NoRole(ServingError):
    """A good token whose holder was given nothing here. Azure says 401, not 403."""

    status, kind, code = 401, "permission_error", "permission_denied"
    default_message = "Principal does not have access to API/Operation."

    def azure_body(self) -> dict[str, Any]:
        return {"error": {"code": "PermissionDenied", "message": self.message}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Whose tokens are believed, and what their holders may do here.

    name          Ours: lower-case letters, digits and '-'. Stands in the ids of an OpenID Connect issuer's callers.
    tenant_ids    Entra's directories (GUIDs) whose tokens are believed.
    authority, authority_v1   Where Entra's v2 and v1 tokens come from; others in sovereign clouds.
    url           The `iss` of an OpenID Connect issuer, to the letter.
    audiences     One of them is in `aud`, with or without a slash at its end. Default with Entra: Azure's.
    roles         Our role by a value of `roles_claim`: app roles, which only the application's owner makes. With Entra
                  also by the id (GUID) of a group.
    groups        Our role by a value of `groups_claim`. Ids; names only with `group_names`.
    group_names   Tokens name groups instead: whoever may create or rename a group can then give its role.
    access_claims OpenID Connect: an access token has one of these claims, or the header `typ: at+jwt`. An ID token,
                  which any web application has of its users, has none.
    principals    Our role by the caller's own `oid` (Entra) or `sub`. Azure assigns roles in this way, and tokens for
                  Azure's own audiences carry neither roles nor groups.
    default_roles What everyone with a token of this issuer may do; without any other role nothing.
    exclusive     Roles that nobody has together: whoever would is refused.
    tenant        Our tenant of all its callers; or
    tenants       our tenant by the value of `tenant_claim`, Entra's directory unless said otherwise.
    """

    kind: Literal["entra", "oidc"]
    name: str
    tenant_ids: tuple[str, ...] = ()
    authority: str = "https://login.microsoftonline.com"
    authority_v1: str = "https://sts.windows.net"
    url: str = ""
    audiences: tuple[str, ...] = ()
    roles: Mapping[str, Role] = field(default_factory=dict)
    principals: Mapping[str, Role] = field(default_factory=dict)
    default_roles: frozenset[Role] = frozenset()
    groups: Mapping[str, Role] = field(default_factory=dict)
    group_names: bool = False
    access_claims: tuple[str, ...] = ("scp", "scope", "client_id", "cid", "roles")
    exclusive: ExclusiveRoles = field(default_factory=ExclusiveRoles)
    roles_claim: str = "roles"
    groups_claim: str = "groups"
    tenant: str | None = None
    tenants: Mapping[str, str] = field(default_factory=dict)
    tenant_claim: str = "tid"

    def __post_init__(self) -> None:
        """Raise ValueError for what could not work, or would let in more than it says."""
        wrong = next(self._wrong(), None)
        if wrong is not None:
            raise ValueError(f"issuer {self.name!r}: {wrong}")

    def _wrong(self) -> Iterator[str]:
        if not ISSUER_NAME.fullmatch(self.name):
            yield "name: use up to 31 lower-case letters, digits and '-'"
        if self.kind == "entra" and not self.tenant_ids:
            yield "tenant_ids: name the directories; anybody can have an Entra directory of their own"
        if not all(GUID.fullmatch(directory) for directory in self.tenant_ids):
            yield "tenant_ids: a directory id is a GUID in lower case"
        if self.kind == "oidc" and not self.audiences:
            yield "audiences: name one; else a token that somebody gave to another service would work here"
        if not all(may_be_asked(url) for url in ([self.authority] if self.kind == "entra" else [self.url])):
            yield "url, authority: an https address is needed; http only on this machine"
        if (self.tenant is None) == (not self.tenants):
            yield "tenant, tenants: set one of the two"
        if not {*self.roles.values(), *self.groups.values(), *self.principals.values(), *self.default_roles} <= set(
            ROLES
        ):
            yield f"roles: ours are {', '.join(ROLES)}"
        if not self.group_names and not all(GUID.fullmatch(group) for group in self.groups):
            yield "groups: a group is named by its id, a GUID in lower case; names need group_names: true"
        if (pair := self.exclusive.broken_by(self.default_roles)) is not None:
            yield f"default_roles: {pair} exclude each other"

    @property
    def roles_of_groups(self) -> Mapping[str, Role]:
        """Of `roles`, ids only: a group may have any name, so also that of an app role."""
        return {name: role for name, role in self.roles.items() if GUID.fullmatch(name)} | dict(self.groups)

    @property
    def accepted_audiences(self) -> tuple[str, ...]:
        return self.audiences or AZURE_AUDIENCES


@dataclass(frozen=True, slots=True)
class Trust:
    """What goes with one `iss`: its keys, and for Entra the directory and version that the token must name too."""

    issuer: Issuer
    keys: IssuerKeys
    directory: str | None = None
    version: str | None = None


class Refused(Exception):
    """Within this file only: outside, a token's fault has no reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class Tokens:
    """Says who the holder of a bearer token is. Belongs to one event loop; close it at the end.

    fetch_seconds: see IssuerKeys. on_refused: counts. clock: for the age of keys. now: for the times in tokens.
    """

    def __init__(
        self,
        issuers: Sequence[Issuer],
        *,
        fetch_seconds: float = 5.0,
        on_refused: Callable[[Reason], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        if not issuers:
            raise ValueError("no issuer: use NoTokens")
        self._on_refused = on_refused
        self._now = now
        self._audience = issuers[0].accepted_audiences[0]
        self._trusted: dict[str, Trust] = {}
        remembered = functools.partial(IssuerKeys, fetch_seconds=fetch_seconds, clock=clock)
        for issuer in issuers:
            for iss, trust in trusts(issuer, remembered):
                if iss in self._trusted:
                    raise ValueError(f"issuer {issuer.name!r}: {iss} is another issuer's too")
                self._trusted[iss] = trust

    async def identify(self, text: str) -> Caller:
        """Whose token this is. Raises InvalidToken, NoRole, IdentityUnavailable."""
        try:
            return await self._identify(text)
        except Refused as refused:
            self._on_refused(refused.reason)
            if refused.reason in ("no_tenant", "no_role", "groups_not_told", "exclusive_roles"):
                raise NoRole from None
            raise InvalidToken(self._audience) from None

    async def start(self) -> None: ...

    async def close(self) -> None:
        for trust in self._trusted.values():
            await trust.keys.close()

    async def _identify(self, text: str) -> Caller:
        if not looks_like_token(text):
            refuse("malformed")
        header, claims = (json_object(segment) for segment in text.split(".")[:2])
        algorithm, kid, iss = (text_of(value) for value in (header.get("alg"), header.get("kid"), claims.get("iss")))
        if algorithm not in FAMILIES:
            refuse("algorithm")
        if "crit" in header:  # extensions that must be understood; we understand none
            refuse("malformed")
        trust = self._trusted.get(iss)
        if trust is None:
            refuse("unknown_issuer")
        key = await trust.keys.find(kid, algorithm) if kid else None
        if key is None:
            refuse("unknown_key")
        try:
            _JWS.decode(text, key, algorithms=[algorithm])
        except PyJWTError:
            refuse("signature")
        check_claims(claims, trust, self._now())
        try:
            AccessTokenRule(trust.issuer.kind, trust.issuer.access_claims).check(header, claims)
        except NotAnAccessToken:
            refuse("not_an_access_token")
        return caller_of(claims, trust.issuer)


class NoTokens:
    """Tokens that are off: every one is refused."""

    async def identify(self, text: str) -> Caller:
        raise InvalidToken

    async def start(self) -> None: ...
    async def close(self) -> None: ...


def looks_like_token(text: str) -> bool:
    """Whether this can be a token rather than an API key: three base64url segments, of bounded length."""
    return len(text) <= MAX_TOKEN and TOKEN.fullmatch(text) is not None


def trusts(issuer: Issuer, remembered: Callable[..., IssuerKeys]) -> Iterator[tuple[str, Trust]]:
    """Each `iss` that the issuer's tokens may have."""
    if issuer.kind == "oidc":
        yield issuer.url, Trust(issuer, remembered(issuer.name, functools.partial(discover_keys, issuer.url)))
        return
    for directory in issuer.tenant_ids:
        v2 = f"{issuer.authority.rstrip('/')}/{directory}"
        # A directory's own address, not `common`: that one also has keys of directories that are not ours.
        keys = remembered(issuer.name, functools.partial(read_keys, f"{v2}/discovery/v2.0/keys"))
        yield f"{v2}/v2.0", Trust(issuer, keys, directory, "2.0")
        yield f"{issuer.authority_v1.rstrip('/')}/{directory}/", Trust(issuer, keys, directory, "1.0")


def refuse(reason: Reason) -> NoReturn:
    raise Refused(reason)


def json_object(segment: str) -> dict[str, Any]:
    """A token's segment, read strictly: what two readers could understand differently is refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(pairs) > len(dict(pairs)):
            refuse("malformed")
        return dict(pairs)

    try:
        text = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)).decode()
        read = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        refuse("malformed")
    return read if isinstance(read, dict) else refuse("malformed")


def check_claims(claims: Mapping[str, Any], trust: Trust, now: float) -> None:
    """Refuse a token that is for another service, another time or another directory."""
    named = claims.get("aud")
    audiences = texts_of([named] if isinstance(named, str) else named)
    if not without_slash(audiences) & without_slash(trust.issuer.accepted_audiences):
        refuse("audience")
    if seconds_of(claims.get("exp")) <= now - SKEW:
        refuse("expired")
    if "nbf" in claims and seconds_of(claims["nbf"]) > now + SKEW:
        refuse("not_yet_valid")
    if trust.directory is not None and (claims.get("tid"), claims.get("ver")) != (trust.directory, trust.version):
        refuse("claims")


def caller_of(claims: Mapping[str, Any], issuer: Issuer) -> Caller:
    """The caller, by ids only: names and addresses in the token are personal data and stay there."""
    principal = text_of(claims.get("oid" if issuer.kind == "entra" else "sub"))
    if issuer.kind == "entra" and not GUID.fullmatch(principal):
        refuse("claims")
    if not 0 < len(principal) <= MAX_SUBJECT or not (principal.isascii() and principal.isprintable()):
        refuse("claims")
    app = text_of(claims.get("azp") or claims.get("appid"))
    if len(app) > MAX_NAME or not app.isprintable():
        refuse("claims")
    tenant = issuer.tenant or issuer.tenants.get(text_of(claims.get(issuer.tenant_claim)))
    if tenant is None:
        refuse("no_tenant")
    roles = roles_of(claims, issuer, principal)
    within = claims["tid"] if issuer.kind == "entra" else issuer.name
    return Caller(tenant=tenant, key_id=f"oidc:{within}/{principal}", key_name=app or "user", roles=frozenset(roles))


def roles_of(claims: Mapping[str, Any], issuer: Issuer, principal: str) -> frozenset[Role]:
    """What the holder may do here: at least something."""
    given, groups = texts_of(claims.get(issuer.roles_claim)), texts_of(claims.get(issuer.groups_claim))
    # Any application of the directory gets a token for our API, with neither scope nor role. What everybody may do is
    # for those to whom somebody gave one.
    assigned = issuer.kind != "entra" or bool(given or texts_of(claims.get("scp")))
    roles = {
        *(issuer.default_roles if assigned else ()),
        *known(issuer.roles, given),
        *known(issuer.roles_of_groups, groups),
        *known(issuer.principals, [principal]),
    }
    if not roles:
        # Beyond 200 groups (6 in an implicit flow's token) Entra names none. Nobody is let in on a guess.
        refuse("groups_not_told" if issuer.roles_of_groups and groups_left_out(claims, issuer) else "no_role")
    if issuer.exclusive.broken_by(roles) is not None:
        refuse("exclusive_roles")
    return frozenset(roles)


def groups_left_out(claims: Mapping[str, Any], issuer: Issuer) -> bool:
    """Whether the token says that its holder is in more groups than it names."""
    elsewhere = claims.get("_claim_names")
    return claims.get("hasgroups") in (True, "true") or (
        isinstance(elsewhere, dict) and issuer.groups_claim in elsewhere
    )


def without_slash(addresses: Iterable[str]) -> set[str]:
    return {address.removesuffix("/") for address in addresses}


def known(roles: Mapping[str, Role], values: Iterable[str]) -> list[Role]:
    return [roles[value] for value in values if value in roles]


def text_of(claim: object) -> str:
    """Empty if there is none."""
    if claim is not None and not isinstance(claim, str):
        refuse("claims")
    return claim or ""


def texts_of(claim: object) -> list[str]:
    """A list of texts, or one text with spaces between its words."""
    if isinstance(claim, str):
        return claim.split()
    if claim is not None and not (isinstance(claim, list) and all(isinstance(item, str) for item in claim)):
        refuse("claims")
    return claim or []


def seconds_of(claim: object) -> float:
    """A time since 1970. Not a text, not true, not NaN, nor a number of a thousand digits."""
    if isinstance(claim, bool) or not isinstance(claim, int | float) or not 0 <= claim < 1e11:
        refuse("claims")
    return claim
