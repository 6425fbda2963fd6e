"""Nobody hands out what he does not have, over HTTP: neither when a key is made, nor replaced, nor limited."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from fastapi.routing import APIRoute

from serving.app import open_office
from serving.tenants.callers import Caller
from serving.tenants.keys import utcnow
from tests.conftest import OpenSite
from tests.gateway.administrators import Hospital, hospital
from tests.gateway.test_admin_rights import VERBS
from tests.local import error_of

HERE = "127.0.0.0/8"
Rights = dict[str, Any]


def with_admin(site: OpenSite, tenant: str = "ward", **rights: Any) -> Hospital:
    """A hospital with `bound`: a key of this tenant that has these rights, made at the shell."""
    there = hospital(site)
    with there.office() as office:
        names = {"roles": frozenset(rights.pop("roles", {"key_admin", "inference"}))} | rights
        _, secret = office.administration.create_key(office.actor, tenant, "bound", **names)
    there.keys["bound"] = secret.reveal()
    return there


@pytest.mark.parametrize("roles", [["auditor"], ["operator"], ["key_admin", "auditor"], ["inference", "auditor"]])
@pytest.mark.parametrize(("tenant", "caller"), [("ward", "ward_admin"), ("ward", "key_admin"), ("system", "key_admin")])
async def test_a_key_admin_hands_out_no_role_that_it_has_not(
    site: OpenSite, tenant: str, caller: str, roles: list[str]
) -> None:
    new = {"tenant": tenant, "name": "new", "roles": roles}
    answer = await hospital(site).ask(caller, "POST", "/keys", new)
    assert answer.status_code == 403, answer.text


async def test_roles_that_exclude_each_other_are_in_no_key_not_even_by_root(site: OpenSite) -> None:
    new = {"tenant": "ward", "name": "new", "roles": ["key_admin", "auditor"]}
    error_of(await hospital(site).ask("root", "POST", "/keys", new), 403, "roles_exclusive")


async def test_which_roles_exclude_each_other_is_configured(site: OpenSite) -> None:
    there = Hospital(open_site := site(identity={"exclusive_roles": [["operator", "inference"]]}), {})
    with open_office(open_site.settings) as office:
        verbs = office.administration
        verbs.create_key(office.actor, "ward", "both", roles=frozenset({"key_admin", "auditor"}))
        refused = frozenset({"operator", "inference"})
        with pytest.raises(Exception, match="inference and operator exclude each other"):
            verbs.create_key(office.actor, "ward", "worker", roles=refused)
    assert there.keys == {}


BEYOND: list[tuple[str, Rights, Rights]] = [
    ("all deployments", {"deployments": frozenset({"echo"})}, {}),
    ("anywhere", {"networks": "127.0.0.0/8"}, {}),
    ("a wider network", {"networks": "127.0.0.0/8"}, {"networks": ["126.0.0.0/7"]}),
    ("one network more", {"networks": "127.0.0.0/8"}, {"networks": ["127.0.0.1/32", "10.0.0.0/8"]}),
    ("a network that is all of IPv4, written as IPv6", {"networks": "127.0.0.0/8"}, {"networks": ["::ffff:0:0/96"]}),
    ("all of IPv6", {"networks": "127.0.0.0/8"}, {"networks": ["::/0"]}),
]


@pytest.mark.parametrize(("has", "asks"), [row[1:] for row in BEYOND], ids=[row[0] for row in BEYOND])
async def test_a_bound_administrator_makes_no_key_beyond_its_own_bounds(
    site: OpenSite, has: Rights, asks: Rights
) -> None:
    there = with_admin(site, **parsed(has))
    new = {"tenant": "ward", "name": "new", **asks}
    error_of(await there.ask("bound", "POST", "/keys", new), 403, "grant_too_wide")


def parsed(rights: Rights) -> Rights:
    return {name: (ip_network(value),) if name == "networks" else value for name, value in rights.items()}


async def test_within_its_bounds_it_does(site: OpenSite) -> None:
    there = with_admin(site, **parsed({"networks": HERE, "deployments": frozenset({"echo"})}))
    within = {"deployments": ["echo"], "networks": ["127.0.0.0/9", "::ffff:127.0.0.1/128"]}
    answer = await there.ask("bound", "POST", "/keys", {"tenant": "ward", "name": "new", **within})
    assert answer.status_code == 201, answer.text


async def test_rotating_is_no_way_to_a_key_that_one_could_not_make(site: OpenSite) -> None:
    there = with_admin(site, deployments=frozenset({"echo"}))
    wide = await there.new_key("ward", "wide")
    rotation = {"grace_seconds": 0}
    error_of(await there.ask("bound", "POST", f"/keys/{wide['id']}/rotate", rotation), 403, "grant_too_wide")


async def test_an_administrator_that_expires_makes_none_that_outlives_it(site: OpenSite) -> None:
    there = with_admin(site, expires_at=utcnow() + timedelta(hours=1))
    new = {"tenant": "ward", "name": "heir", "roles": ["key_admin"]}
    error_of(await there.ask("bound", "POST", "/keys", new), 403, "grant_too_wide")
    later = (utcnow() + timedelta(hours=2)).isoformat()
    error_of(await there.ask("bound", "POST", "/keys", new | {"expires_at": later}), 403, "grant_too_wide")
    me = (await there.ask("bound", "GET", "/me")).json()
    mine = next(key for key in (await there.ask("root", "GET", "/keys")).json()["data"] if key["id"] == me["key_id"])
    rotated = (await there.ask("bound", "POST", f"/keys/{me['key_id']}/rotate", {"grace_seconds": 0})).json()
    assert rotated["expires_at"] == mine["expires_at"]


async def test_nobody_sets_the_limits_of_his_own_key(site: OpenSite) -> None:
    there = hospital(site)
    for caller in ("root", "operator", "key_admin", "ward_admin"):
        own = (await there.ask(caller, "GET", "/me")).json()["key_id"]
        for method, body in (("PUT", {"tokens_per_day": 0}), ("DELETE", None)):
            error_of(await there.ask(caller, method, f"/limits/key/{own}", body), 403, "grant_too_wide")


async def test_an_administrator_with_limits_gives_no_key_more(site: OpenSite) -> None:
    there = with_admin(site)
    own = (await there.ask("bound", "GET", "/me")).json()["key_id"]
    limits = {"requests_per_minute": 10, "tokens_per_day": 100}
    await there.ask("operator", "PUT", f"/limits/key/{own}", limits)
    made = (await there.ask("bound", "POST", "/keys", {"tenant": "ward", "name": "new"})).json()
    path = f"/limits/key/{made['id']}"
    assert (await there.ask("root", "GET", path)).json()["tokens_per_day"] == 100
    for wider in ({"tokens_per_day": 100}, {"requests_per_minute": 11, "tokens_per_day": 1}, {"tokens_per_day": 0}):
        error_of(await there.ask("bound", "PUT", path, wider), 403, "grant_too_wide")
    error_of(await there.ask("bound", "DELETE", path), 403, "grant_too_wide")
    assert (await there.ask("bound", "PUT", path, limits | {"tokens_per_day": 5})).status_code == 200


async def test_a_rotated_key_has_the_limits_of_the_old_one(site: OpenSite) -> None:
    there = hospital(site)
    old = await there.new_key("ward", "app")
    await there.ask("operator", "PUT", f"/limits/key/{old['id']}", {"tokens_per_day": 7})
    new = (await there.ask("ward_admin", "POST", f"/keys/{old['id']}/rotate", {"grace_seconds": 0})).json()
    assert (await there.ask("root", "GET", f"/limits/key/{new['id']}")).json()["tokens_per_day"] == 7


def test_every_route_of_administration_is_in_the_table_of_who_may_what(site: OpenSite) -> None:
    """A new route needs a row in test_admin_rights: who may call it, and who may not."""
    app: Any = site().app
    while not hasattr(app, "routes"):
        app = app._app if hasattr(app, "_app") else app.app
    routes = {
        (method, route.path.removeprefix("/admin/v1"))
        for route in app.routes
        if isinstance(route, APIRoute) and route.path.startswith("/admin/v1")
        for method in route.methods
    }
    rows = {(verb.method, verb.path.partition("?")[0]) for verb in VERBS}
    uncovered = {
        (method, path)
        for method, path in routes
        if not any(
            method == m and re.fullmatch(re.sub(r"{[^}]+:path}", ".+", re.sub(r"{[^:}]+}", "[^/]+", path)), p)
            for m, p in rows
        )
    }
    assert routes and not uncovered


def test_a_caller_is_never_more_than_its_tenant() -> None:
    caller = Caller("ward", "k", "k", deployments=frozenset({"a", "b"}))
    assert caller.within(frozenset({"b", "c"}), None).deployments == {"b"}
    assert caller.within(None, None).deployments == {"a", "b"}
    assert Caller("ward", "k", "k").within(frozenset({"c"}), None).deployments == {"c"}
