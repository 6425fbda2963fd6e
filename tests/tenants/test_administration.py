"""What administrators may do, that it is done, and that it is written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidRequest, NotAllowed, ServingError, UnknownDeployment
from serving.tenants.administration import Administration
from serving.tenants.audit import AuditEvent, Chain, Record, Signer
from serving.tenants.audit_store import AuditQuery, MemoryAudit
from serving.tenants.callers import ROLES, Caller, Role, RoleMissing
from serving.tenants.key_store import ApiKey, MemoryKeys, TooManyKeys, UnknownKey
from serving.tenants.key_text import Secret, new_key_text
from serving.tenants.keys import Keyring
from serving.tenants.ledger import MemoryUsage, UsageQuery, UsageRecord
from serving.tenants.limits import Limits, MemoryLimits, Subject
from serving.tenants.paging import PageRequest
from serving.tenants.registry import MemoryTenants, Tenant, TenantExists, UnknownTenant
from serving.tenants.stores import StoreUnavailable

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAGE = PageRequest()
HOUR = timedelta(hours=1)


def someone(tenant: str, *roles: Role) -> Caller:
    return Caller(tenant, f"{tenant}-{'-'.join(roles)}", "someone", frozenset(roles))


ROOT = someone("system", *ROLES)
OPERATOR = someone("system", "operator")
KEY_ADMIN = someone("system", "key_admin")
AUDITOR = someone("system", "auditor")
WARD_OPERATOR = someone("ward", "operator")
WARD_ADMIN = someone("ward", "key_admin")
WARD_AUDITOR = someone("ward", "auditor")
WARD_USER = someone("ward", "inference")
EVERYBODY = [ROOT, OPERATOR, KEY_ADMIN, AUDITOR, WARD_OPERATOR, WARD_ADMIN, WARD_AUDITOR, WARD_USER]


class Full(ServingError):
    status, kind, code = 503, "server_error", "audit_full_in_a_test"


class Journal:
    """An audit log in a list, that may be full. Chains the events, as the real one does: not all can be."""

    def __init__(self) -> None:
        self.chain = Chain("20260301T120000-00000000")
        self.events: list[AuditEvent] = []
        self.records: list[Record] = []
        self.full = False

    def check(self) -> None:
        if self.full:
            raise Full

    def record(self, event: AuditEvent) -> None:
        self.records.append(self.chain.append(event.kind, event.at, event.details, tenant=event.tenant))
        self.events.append(event)


class Office:
    """An administration on stores in memory: tenants ward and lab with a key each, deployments notes and echo."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.changes = 0
        self.book_is_away = False
        self.tenants = MemoryTenants()
        self.limits = MemoryLimits()
        self.usage = MemoryUsage()
        self.audit = MemoryAudit()
        self.keyring = Keyring(MemoryKeys(), b"a pepper for tests", now=lambda: NOON)
        self.verbs = Administration(
            tenants=self.tenants,
            keyring=self.keyring,
            limits=self.limits,
            usage=self.usage,
            audit=self.journal,
            audit_store=self.audit,
            deployments=("notes", "echo"),
            now=lambda: NOON,
            on_change=self.changed,
        )
        for id in ("system", "ward", "lab"):
            self.tenants.add(Tenant(id, id, NOON))
        self.wards, _ = self.keyring.mint("ward", "ci-bot")
        self.labs, _ = self.keyring.mint("lab", "ci-bot")

    def changed(self) -> None:
        if self.book_is_away:
            raise StoreUnavailable
        self.changes += 1

    def trail(self) -> list[tuple[str, str, str, str]]:
        """Of each event: whose auditors see it, what was done, to what, and the outcome."""
        return [(e.tenant, e.details["action"], e.details["target"], e.details["outcome"]) for e in self.journal.events]


@pytest.fixture
def office() -> Office:
    return Office()


# Who may do what


Verb = Callable[[Office, Caller], object]
VERBS: list[tuple[str, Verb, list[Caller]]] = [
    ("create_tenant", lambda o, a: o.verbs.create_tenant(a, "new", "New"), [ROOT, OPERATOR]),
    ("disable_tenant", lambda o, a: o.verbs.disable_tenant(a, "ward"), [ROOT, OPERATOR]),
    ("enable_tenant", lambda o, a: o.verbs.enable_tenant(a, "ward"), [ROOT, OPERATOR]),
    ("get_tenant", lambda o, a: o.verbs.get_tenant(a, "ward"), EVERYBODY[:-1]),
    ("get_tenant of another", lambda o, a: o.verbs.get_tenant(a, "lab"), [ROOT, OPERATOR, KEY_ADMIN, AUDITOR]),
    ("list_tenants", lambda o, a: o.verbs.list_tenants(a, PAGE), EVERYBODY[:-1]),
    ("create_key", lambda o, a: o.verbs.create_key(a, "ward", "new"), [ROOT, KEY_ADMIN, WARD_ADMIN]),
    ("create_key elsewhere", lambda o, a: o.verbs.create_key(a, "lab", "new"), [ROOT, KEY_ADMIN]),
    ("rotate_key", lambda o, a: o.verbs.rotate_key(a, o.wards.id, grace=HOUR), [ROOT, KEY_ADMIN, WARD_ADMIN]),
    ("rotate_key elsewhere", lambda o, a: o.verbs.rotate_key(a, o.labs.id, grace=HOUR), [ROOT, KEY_ADMIN]),
    ("revoke_key", lambda o, a: o.verbs.revoke_key(a, o.wards.id), [ROOT, KEY_ADMIN, WARD_ADMIN]),
    ("revoke_key elsewhere", lambda o, a: o.verbs.revoke_key(a, o.labs.id), [ROOT, KEY_ADMIN]),
    ("list_keys", lambda o, a: o.verbs.list_keys(a, None, PAGE), [ROOT, KEY_ADMIN, WARD_ADMIN]),
    ("list_keys elsewhere", lambda o, a: o.verbs.list_keys(a, "lab", PAGE), [ROOT, KEY_ADMIN]),
    ("set a tenant's", lambda o, a: o.verbs.set_limits(a, Subject("tenant", "ward"), Limits(1)), [ROOT, OPERATOR]),
    (
        "set a deployment's",
        lambda o, a: o.verbs.set_limits(a, Subject("deployment", "echo"), Limits(1)),
        [ROOT, OPERATOR],
    ),
    ("set an identity's", lambda o, a: o.verbs.set_limits(a, Subject("key", "oidc:x/y"), Limits(1)), [ROOT, OPERATOR]),
    (
        "set a key's",
        lambda o, a: o.verbs.set_limits(a, Subject("key", o.wards.id), Limits(1)),
        [ROOT, OPERATOR, KEY_ADMIN, WARD_ADMIN],
    ),
    (
        "clear a key's elsewhere",
        lambda o, a: o.verbs.clear_limits(a, Subject("key", o.labs.id)),
        [ROOT, OPERATOR, KEY_ADMIN],
    ),
    ("clear a tenant's", lambda o, a: o.verbs.clear_limits(a, Subject("tenant", "ward")), [ROOT, OPERATOR]),
    (
        "usage",
        lambda o, a: o.verbs.usage(a, UsageQuery()),
        [ROOT, OPERATOR, AUDITOR, WARD_OPERATOR, WARD_AUDITOR],
    ),
    (
        "usage_records elsewhere",
        lambda o, a: o.verbs.usage_records(a, UsageQuery(tenant="lab")),
        [ROOT, OPERATOR, AUDITOR],
    ),
    ("audit_records", lambda o, a: o.verbs.audit_records(a, AuditQuery()), [ROOT, AUDITOR, WARD_AUDITOR]),
    (
        "audit_records elsewhere",
        lambda o, a: o.verbs.audit_records(a, AuditQuery(tenant="lab")),
        [ROOT, AUDITOR],
    ),
    ("list_limits", lambda o, a: o.verbs.list_limits(a, PAGE), EVERYBODY[:-1]),
    (
        "list_limits elsewhere",
        lambda o, a: o.verbs.list_limits(a, PAGE, tenant="lab"),
        [ROOT, OPERATOR, KEY_ADMIN, AUDITOR],
    ),
]


@pytest.mark.parametrize("actor", EVERYBODY, ids=lambda actor: actor.key_id)
@pytest.mark.parametrize(("verb", "allowed"), [v[1:] for v in VERBS], ids=[v[0] for v in VERBS])
def test_a_verb_is_for_those_with_its_role_and_within_their_tenant(
    office: Office, actor: Caller, verb: Verb, allowed: list[Caller]
) -> None:
    if actor in allowed:
        verb(office, actor)
        return
    with pytest.raises((NotAllowed, UnknownKey)) as refusal:
        verb(office, actor)
    assert isinstance(refusal.value, NotAllowed) or "key_admin" in actor.roles


@pytest.mark.parametrize("roles", [{"operator"}, {"inference", "operator"}])
def test_only_an_administrator_of_system_makes_an_operator(office: Office, roles: set[Role]) -> None:
    with pytest.raises(NotAllowed, match="system"):
        office.verbs.create_key(WARD_ADMIN, "ward", "boss", roles=frozenset(roles))
    office.verbs.create_key(ROOT, "ward", "boss", roles=frozenset(roles))


def test_an_operators_key_is_not_had_by_rotating_it(office: Office) -> None:
    boss, _ = office.verbs.create_key(ROOT, "ward", "boss", roles=frozenset({"operator"}))
    with pytest.raises(NotAllowed):
        office.verbs.rotate_key(WARD_ADMIN, boss.id, grace=HOUR)
    assert office.verbs.revoke_key(WARD_ADMIN, boss.id).revoked_at == NOON


def test_a_key_of_another_tenant_looks_as_if_it_did_not_exist(office: Office) -> None:
    words = set()
    for name in (office.labs.id, office.labs.prefix, "zz99zz99", "nonsense"):
        with pytest.raises(UnknownKey) as refusal:
            office.verbs.revoke_key(WARD_ADMIN, name)
        words.add(str(refusal.value))
    assert len(words) == 1
    assert office.keyring.get(office.labs.id) == office.labs


def test_another_tenant_is_refused_in_the_same_words_whether_it_exists_or_not(office: Office) -> None:
    words = set()
    for id in ("lab", "nobody"):
        with pytest.raises(NotAllowed) as refusal:
            office.verbs.get_tenant(WARD_ADMIN, id)
        words.add(str(refusal.value))
    assert len(words) == 1


ACTS = st.one_of(
    st.tuples(st.just("create"), st.sampled_from(["ward", "lab", "system"]), st.frozensets(st.sampled_from(ROLES))),
    st.tuples(st.sampled_from(["rotate", "revoke"]), st.integers(0, 9), st.timedeltas(timedelta(0), HOUR)),
)


@given(acts=st.lists(ACTS, max_size=12))
def test_whatever_a_tenants_administrator_tries_others_keep_their_keys_and_no_operator_is_made(
    acts: list[tuple[str, Any, Any]],
) -> None:
    office = Office()
    office.keyring.mint("ward", "boss", roles=frozenset({"operator"}))
    for act, what, how in acts:
        keys = office.keyring.list()
        try:
            if act == "create":
                office.verbs.create_key(WARD_ADMIN, what, "new", roles=how)
            elif act == "rotate":
                office.verbs.rotate_key(WARD_ADMIN, keys[what % len(keys)].id, grace=how)
            else:
                office.verbs.revoke_key(WARD_ADMIN, keys[what % len(keys)].id)
        except (NotAllowed, InvalidRequest, UnknownKey):
            assert office.keyring.list() == keys
    assert [key for key in office.keyring.list() if key.tenant != "ward"] == [office.labs]
    assert sum("operator" in key.roles for key in office.keyring.list()) == 1
    assert len(office.journal.events) == len(acts)


# What is done


def test_a_tenant_is_created_disabled_and_enabled(office: Office) -> None:
    assert office.verbs.create_tenant(ROOT, "new", "New Ward") == Tenant("new", "New Ward", NOON)
    assert office.verbs.disable_tenant(ROOT, "new").disabled_at == NOON
    assert office.verbs.enable_tenant(ROOT, "new") == office.verbs.get_tenant(ROOT, "new")
    assert office.changes == 3


def test_a_taken_unfit_or_unknown_id_changes_nothing(office: Office) -> None:
    before = office.tenants.all()
    with pytest.raises(TenantExists):
        office.verbs.create_tenant(ROOT, "ward", "Ward")
    with pytest.raises(InvalidRequest):
        office.verbs.create_tenant(ROOT, "No Slug", "Ward")
    for id in ("nobody", "\x00"):
        with pytest.raises(UnknownTenant):
            office.verbs.disable_tenant(ROOT, id)
    assert (office.tenants.all(), office.changes) == (before, 0)


def test_the_tenant_of_those_who_run_the_server_cannot_be_disabled(office: Office) -> None:
    with pytest.raises(InvalidRequest, match="'system' cannot be disabled"):
        office.verbs.disable_tenant(ROOT, "system")


def test_outside_system_one_sees_ones_own_tenant_and_keys(office: Office) -> None:
    assert [tenant.id for tenant in office.verbs.list_tenants(WARD_AUDITOR, PAGE).items] == ["ward"]
    assert office.verbs.list_keys(WARD_ADMIN, None, PAGE).items == (office.wards,)
    assert {tenant.id for tenant in office.verbs.list_tenants(AUDITOR, PAGE).items} == {"system", "ward", "lab"}
    assert len(office.verbs.list_keys(KEY_ADMIN, None, PAGE).items) == 2


def test_a_key_has_the_rights_it_was_created_with(office: Office) -> None:
    key, secret = office.verbs.create_key(
        ROOT,
        "ward",
        "portal",
        roles=frozenset({"inference", "auditor"}),
        deployments=frozenset({"notes"}),
        networks=(ip_network("10.0.0.0/8"),),
        expires_at=NOON + HOUR,
    )
    assert office.keyring.known(secret) == key
    assert (key.roles, key.deployments, key.expires_at) == ({"inference", "auditor"}, {"notes"}, NOON + HOUR)


def test_a_key_for_what_does_not_exist_is_refused(office: Office) -> None:
    with pytest.raises(InvalidRequest, match="There are: echo, notes"):
        office.verbs.create_key(ROOT, "ward", "portal", deployments=frozenset({"notes", "nots"}))
    with pytest.raises(UnknownTenant):
        office.verbs.create_key(ROOT, "nobody", "portal")
    assert len(office.keyring.list()) == 2


def test_keys_are_rotated_without_a_gap_and_no_third_one_appears(office: Office) -> None:
    office.verbs.rotate_key(WARD_ADMIN, office.wards.prefix, grace=HOUR)
    assert {key.expires_at for key in office.keyring.list("ward")} == {NOON + HOUR, None}
    for _ in range(2):
        with pytest.raises(TooManyKeys):
            office.verbs.rotate_key(WARD_ADMIN, office.wards.id, grace=HOUR)
    assert len(office.keyring.list("ward")) == 2


def test_limits_are_set_replaced_and_cleared(office: Office) -> None:
    ward = Subject("tenant", "ward")
    assert office.verbs.set_limits(ROOT, ward, Limits(tokens_per_day=5)) == ward
    office.verbs.set_limits(ROOT, ward, Limits(requests_per_minute=0))
    assert office.verbs.list_limits(ROOT, PAGE).items == ((ward, Limits(requests_per_minute=0)),)
    office.verbs.clear_limits(ROOT, ward)
    assert (office.limits.all(), office.changes) == ({}, 3)


def test_the_limits_of_a_key_are_kept_by_its_id_however_it_was_named(office: Office) -> None:
    kept = office.verbs.set_limits(WARD_ADMIN, Subject("key", office.wards.prefix), Limits(1))
    assert kept == Subject("key", office.wards.id)
    assert office.limits.get(kept) == Limits(1)
    office.verbs.clear_limits(WARD_ADMIN, Subject("key", office.wards.prefix))
    assert office.limits.all() == {}


@pytest.mark.parametrize(
    ("subject", "refusal"),
    [
        (Subject("tenant", "nobody"), UnknownTenant),
        (Subject("key", "zz99zz99"), UnknownKey),
        (Subject("deployment", "nobody"), UnknownDeployment),
        (Subject("key", "oidc:" + "x" * 300), InvalidRequest),
    ],
)
def test_what_does_not_exist_has_no_limits(office: Office, subject: Subject, refusal: type[ServingError]) -> None:
    with pytest.raises(refusal):
        office.verbs.set_limits(ROOT, subject, Limits(1))
    assert office.limits.all() == {}


def test_a_limit_out_of_range_is_refused(office: Office) -> None:
    with pytest.raises(InvalidRequest, match="tokens_per_day"):
        office.verbs.set_limits(ROOT, Subject("tenant", "ward"), Limits(tokens_per_day=-1))


def test_the_limits_of_a_deployment_that_is_gone_can_be_cleared(office: Office) -> None:
    gone = Subject("deployment", "gone")
    office.limits.set(gone, Limits(1))
    office.verbs.clear_limits(ROOT, gone)
    assert office.limits.all() == {}


def test_limits_are_listed_by_scope_or_for_a_tenant_and_its_keys(office: Office) -> None:
    subjects = [
        Subject("deployment", "echo"),
        *(Subject("key", key.id) for key in (office.wards, office.labs)),
        *(Subject("tenant", id) for id in ("ward", "lab")),
    ]
    for subject in subjects:
        office.limits.set(subject, Limits(1))

    def listed(actor: Caller, **choice: Any) -> set[Subject]:
        return {subject for subject, _ in office.verbs.list_limits(actor, PAGE, **choice).items}

    wards = {Subject("key", office.wards.id), Subject("tenant", "ward")}
    assert listed(ROOT) == set(subjects)
    assert listed(ROOT, scope="deployment") == {Subject("deployment", "echo")}
    assert listed(ROOT, tenant="ward") == listed(WARD_AUDITOR) == wards
    assert listed(WARD_AUDITOR, scope="tenant") == {Subject("tenant", "ward")}


def test_a_change_stands_though_the_book_cannot_read_it_now(office: Office) -> None:
    office.book_is_away = True
    office.verbs.disable_tenant(ROOT, "ward")
    assert office.tenants.get("ward").disabled_at == NOON


def test_outside_system_one_reads_the_usage_of_ones_own_tenant(office: Office) -> None:
    office.usage.add([a_request("1", "ward"), a_request("2", "lab"), a_request("3", "ward")])
    by_tenant = UsageQuery(by=("tenant",))
    assert [(row.tenant, row.requests) for row in office.verbs.usage(WARD_AUDITOR, by_tenant).items] == [("ward", 2)]
    assert [record.id for record in office.verbs.usage_records(WARD_AUDITOR, by_tenant)] == ["1", "3"]
    assert len(office.verbs.usage(AUDITOR, by_tenant).items) == 2
    assert [record.id for record in office.verbs.usage_records(AUDITOR, UsageQuery(tenant="lab"))] == ["2"]


def test_outside_system_one_reads_the_audit_log_of_ones_own_tenant(office: Office) -> None:
    office.verbs.disable_tenant(ROOT, "ward")
    office.verbs.disable_tenant(ROOT, "lab")
    office.audit.append(office.journal.records, Signer(bytes(32)).sign(office.journal.chain.head, NOON))
    assert [record.tenant for record in office.verbs.audit_records(WARD_AUDITOR, AuditQuery()).items] == ["ward"]
    assert len(office.verbs.audit_records(AUDITOR, AuditQuery()).items) == 2


def a_request(id: str, tenant: str) -> UsageRecord:
    return UsageRecord(
        id=id,
        started_at=NOON,
        tenant=tenant,
        key_id="ab12cd34",
        key_name="ci-bot",
        deployment="notes",
        revision="1",
        operation="chat",
        stream=False,
        outcome="ok",
        prompt_tokens=1,
        cached_tokens=0,
        completion_tokens=1,
        cost_micros=None,
        first_token=None,
        duration=0.1,
    )


# What is written down


def test_a_change_is_written_with_who_what_and_how(office: Office) -> None:
    office.verbs.set_limits(WARD_ADMIN, Subject("key", office.wards.prefix), Limits(tokens_per_day=5))
    (event,) = office.journal.events
    assert (event.kind, event.at, event.tenant, event.actor) == ("admin", NOON, "ward", "ward-key_admin")
    assert event.details == {
        "action": "limits.set",
        "target": f"key:{office.wards.id}",
        "result": "",
        "parameters": {"tokens_per_day": 5},
        "outcome": "done",
        "actor_name": "someone",
        "actor_tenant": "ward",
        "address": "",
    }


def test_what_is_refused_is_written_too_and_not_in_the_other_tenants_log(office: Office) -> None:
    with pytest.raises(UnknownKey):
        office.verbs.revoke_key(WARD_ADMIN, office.labs.id)
    with pytest.raises(RoleMissing):
        office.verbs.create_key(WARD_USER, "ward", "portal")
    with pytest.raises(RoleMissing):
        office.verbs.disable_tenant(WARD_ADMIN, "lab")
    assert office.trail() == [
        ("ward", "key.revoke", office.labs.id, "key_not_found"),
        ("ward", "key.create", "", "role_missing"),
        ("ward", "tenant.disable", "lab", "role_missing"),
    ]


def test_what_system_does_to_a_tenant_stands_in_the_tenants_log(office: Office) -> None:
    office.verbs.disable_tenant(ROOT, "ward")
    key, _ = office.verbs.create_key(ROOT, "lab", "portal")
    assert office.trail() == [
        ("ward", "tenant.disable", "ward", "done"),
        ("lab", "key.create", key.id, "done"),
    ]


def test_nothing_is_done_that_cannot_be_written(office: Office) -> None:
    office.journal.full = True
    before = (office.tenants.all(), office.keyring.list(), office.limits.all())
    for name, verb, allowed in VERBS:
        if name.startswith(("create", "disable", "enable", "rotate", "revoke", "set", "clear")):
            with pytest.raises(Full):
                verb(office, allowed[0])
    assert (office.tenants.all(), office.keyring.list(), office.limits.all()) == before
    assert office.journal.events == []


def test_no_event_holds_the_text_of_a_key(office: Office) -> None:
    _, created = office.verbs.create_key(WARD_ADMIN, "ward", "portal")
    _, rotated = office.verbs.rotate_key(WARD_ADMIN, created.reveal(), grace=timedelta(0))
    office.verbs.set_limits(WARD_ADMIN, Subject("key", rotated.reveal()), Limits(1))
    office.verbs.revoke_key(WARD_ADMIN, rotated.reveal())
    with pytest.raises(UnknownKey):
        office.verbs.revoke_key(WARD_ADMIN, "typo" + rotated.reveal())
    office.verbs.adopt_admin(adopted := new_key_text())
    bootstrapped = Office().verbs.bootstrap()
    written = json.dumps([dict(event.details) for event in office.journal.events])
    assert bootstrapped is not None
    for secret in (created, rotated, adopted, bootstrapped):
        assert secret.reveal()[13:45] not in written


@pytest.mark.parametrize("text", ["\x00", "\ud800", "two\nlines"])
def test_a_text_that_is_refused_is_written_whatever_it_holds(office: Office, text: str) -> None:
    with pytest.raises(InvalidRequest):
        office.verbs.create_key(ROOT, "ward", text)
    with pytest.raises(UnknownTenant):
        office.verbs.set_limits(ROOT, Subject("tenant", text), Limits(1))
    with pytest.raises(UnknownKey):
        office.verbs.revoke_key(ROOT, text)
    assert len(office.journal.events) == 3


def test_a_long_text_is_cut_in_the_log(office: Office) -> None:
    with pytest.raises(InvalidRequest):
        office.verbs.create_tenant(ROOT, "x" * 9000, "y" * 9000)
    with pytest.raises(InvalidRequest):
        office.verbs.create_key(ROOT, "ward", "portal", deployments=frozenset(map(str, range(9000))))
    assert all(len(json.dumps(dict(event.details))) < 3000 for event in office.journal.events)


# The server's own start


def administrators(office: Office) -> list[ApiKey]:
    return [key for key in office.keyring.list("system") if "key_admin" in key.roles]


def test_bootstrap_makes_the_first_administrator_once() -> None:
    office = Office()
    secret = office.verbs.bootstrap()
    assert secret is not None
    (key,) = administrators(office)
    assert (office.keyring.known(secret), key.name, key.roles) == (key, "bootstrap", set(ROLES))
    assert office.verbs.bootstrap() is None
    assert office.trail() == [("system", "key.create", key.id, "done")]


def test_bootstrap_helps_who_revoked_the_last_administrator(office: Office) -> None:
    office.verbs.bootstrap()
    office.keyring.revoke(administrators(office)[0].id)
    assert office.verbs.bootstrap() is not None


def test_an_administrator_may_be_given_from_outside_again_and_again(office: Office) -> None:
    secret = new_key_text()
    for _ in range(3):
        office.verbs.adopt_admin(secret)
    (key,) = administrators(office)
    assert key == office.keyring.known(secret)
    assert [event.details["action"] for event in office.journal.events] == ["key.adopt"]
    assert office.verbs.bootstrap() is None


def test_an_administrator_that_was_revoked_stays_so_though_it_is_given_again(office: Office) -> None:
    secret = new_key_text()
    office.verbs.adopt_admin(secret)
    office.keyring.revoke(administrators(office)[0].id)
    office.verbs.adopt_admin(secret)
    assert [key.revoked_at for key in administrators(office)] == [NOON]


def test_what_is_no_key_or_a_lesser_one_does_not_become_an_administrator(office: Office) -> None:
    _, lesser = office.keyring.mint("ward", "portal")
    for secret in (Secret("secret"), lesser):
        with pytest.raises(InvalidRequest):
            office.verbs.adopt_admin(secret)
    assert administrators(office) == []


def test_a_tenant_of_the_configuration_is_registered_once(office: Office) -> None:
    for _ in range(2):
        office.verbs.ensure_tenant("demo")
    office.verbs.disable_tenant(ROOT, "ward")
    office.verbs.ensure_tenant("ward")
    assert office.tenants.get("demo") == Tenant("demo", "demo", NOON)
    assert office.tenants.get("ward").disabled_at == NOON
    with pytest.raises(InvalidRequest):
        office.verbs.ensure_tenant("No Slug")
