"""Secrets in versions: how they are written, which one writes, and rotation beside callers who notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from serving import app as assembly
from serving.app import open_office
from serving.backends import EngineSecret
from serving.deployments.lanes import Lanes
from serving.deployments.model_replica import EngineDoor
from serving.deployments.naming import SECRET_HEADER
from serving.gateway.app import create_app
from serving.gateway.middleware import RequestId
from serving.sealing import Sealer, Unsealable
from serving.secret_follower import SecretFollower
from serving.secret_versions import BadVersions, SecretVersion, VersionedSecret, text_of, versions_in
from serving.secrets import Secrets, SecretsError
from serving.tenants.audit_verify import verify
from serving.tenants.paging import PageRequest
from tests.batches.conftest import jsonl
from tests.conftest import OpenSite, no_replicas
from tests.local import Site, chat, eventually, listening

PAGE = PageRequest()
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
FIRST, SECOND = SecretVersion(1, "one"), SecretVersion(2, "two", NOON)


def at(time: datetime, *versions: SecretVersion) -> VersionedSecret:
    return VersionedSecret(versions, clock=lambda: time)


def test_a_plain_text_is_the_first_version_and_stays_as_it_is() -> None:
    for text in ("one", "of\nseveral\nlines", "v2:x", "v1", "a:b:c"):
        assert text_of(versions_in(text)) == text and VersionedSecret.read(text).writing.text == text


def test_versions_come_back_as_they_were_written() -> None:
    assert text_of([FIRST, SECOND]) == "v2:2026-03-01T12:00:00Z:two\nv1::one\n"
    assert versions_in(text_of([FIRST, SECOND])) == [SECOND, FIRST]
    assert versions_in("one\nv2:2026-03-01T12:00:00Z:two") == [SECOND, FIRST]


@pytest.mark.parametrize(
    "text",
    [
        "", "v2:2026-13-01T12:00:00Z:x", "v1::a\nv1::b", "plain\nv1::a", "a\nb\nv2::c",
        "v3:2026-01-01T00:00:00Z:a\nv2:2026-02-01T00:00:00Z:b", "\n".join(f"v{n}::x" for n in range(1, 6)),
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(BadVersions) as refused:
        VersionedSecret.read(text)
    assert not any(word in str(refused.value) for word in ("plain", ":x", ":a"))


def test_a_version_writes_from_its_time_on_and_reads_before() -> None:
    assert at(NOON - HOUR, FIRST, SECOND).writing == FIRST
    assert at(NOON, FIRST, SECOND).writing == SECOND
    assert at(NOON - HOUR, SECOND).writing == SECOND  # there is no other


def test_what_was_sealed_is_opened_under_every_live_version_and_by_older_releases_until_the_second() -> None:
    old = Sealer(VersionedSecret([FIRST])).seal(b"text", tenant="ward", place="p")
    both = Sealer(at(NOON, FIRST, SECOND))
    new = both.seal(b"text", tenant="ward", place="p")
    assert both.open(old, tenant="ward", place="p") == both.open(new, tenant="ward", place="p") == b"text"
    only_new = Sealer(VersionedSecret([SECOND]))
    assert only_new.open(new, tenant="ward", place="p") == b"text"
    for sealed, sealer in ((old, only_new), (new, Sealer(VersionedSecret([FIRST])))):
        with pytest.raises(Unsealable):
            sealer.open(sealed, tenant="ward", place="p")


async def test_the_door_of_an_engine_takes_both_and_a_gateway_sends_the_one_that_writes() -> None:
    async def engine(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    secret = at(NOON - HOUR, FIRST, SECOND)
    door = EngineDoor(engine, secret, Nothing(), Lanes(slots=1), Nothing())
    client = httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://engine")
    answers = [(await client.get("/health", headers={SECRET_HEADER: text})).status_code for text in ("one", "two", "x")]
    assert answers == [200, 200, 404]
    assert await EngineSecret(secret).headers() == {SECRET_HEADER: "one"}
    assert await EngineSecret(at(NOON, FIRST, SECOND)).headers() == {SECRET_HEADER: "two"}


class Nothing:
    """No adapters, and no costs."""

    async def of(self, request_id: str) -> None:
        return None

    @contextlib.asynccontextmanager
    async def used_by(self, scope: Any) -> Any:
        yield True


async def test_a_running_process_follows_and_keeps_what_it_has_when_the_source_is_away_or_wrong() -> None:
    secret, found = VersionedSecret([FIRST]), [VersionedSecret([FIRST, SECOND])]

    def read() -> dict[str, VersionedSecret]:
        if not found:
            raise SecretsError("the vault is away")
        return {"pepper": found[0]}

    follower = SecretFollower({"pepper": secret}, read, every=0.01)
    await follower.start()
    await eventually(lambda: secret.versions == (SECOND, FIRST))
    for wrong in ([], [VersionedSecret([FIRST])], [VersionedSecret([SecretVersion(1, "other"), SECOND])]):
        found[:] = wrong
        await asyncio.sleep(0.05)
        assert secret.versions == (SECOND, FIRST)
    found[:] = [VersionedSecret([SECOND])]
    await eventually(lambda: secret.versions == (SECOND,))
    await follower.close()


# Rotation while callers are served: two gateways, one database, each with files of its own.


@contextlib.contextmanager
def two_gateways(place: Site) -> Iterator[tuple[str, str]]:
    """On one database, one folder of contents and one of secrets; their addresses."""
    other = RequestId(create_app(assembly.build_parts(place.settings, no_replicas)))
    with listening(place.app) as one, listening(other) as two:
        yield one, two


def rotate_all(place: Site, begins: datetime) -> None:
    folder = place.settings.server.state_dir / "secrets"
    for file in folder.iterdir():
        if not file.name.startswith("."):
            versions = VersionedSecret.read(file.read_text()).versions
            new = SecretVersion(versions[0].number + 1, "ef" * 32, begins)
            fresh = file.with_name(f".{file.name}.new")
            fresh.write_text(text_of([*versions, new]))
            fresh.replace(file)


def test_callers_keys_responses_files_and_the_audit_log_go_through_a_rotation(site: OpenSite) -> None:
    every = {"refresh": 0.05}
    place = site(secrets=every, keys={"cache": 0.05}, quotas=every, audit={"flush": 0.05, "witness": 0.1})
    Secrets.load(place.settings.server.state_dir, {})  # as `serve` has made them
    with open_office(place.settings) as office:
        office.administration.keep_responses(office.actor, "ward", 3600)
    with two_gateways(place) as addresses:
        go_through(place, addresses)
    with open_office(place.settings) as office:
        key = next(k for k in office.administration.list_keys(office.actor, "ward", PAGE).items if k.name == "tests")
        assert key.pepper == 2, "a key that is used has a digest of the new version"
    report = verify(office.audit_store.records(), office.audit_store.checkpoints(), office.public_keys)
    assert len(office.public_keys) == 2 and not report.findings


def go_through(place: Site, addresses: tuple[str, str]) -> None:
    headers = {"authorization": f"Bearer {place.key}"}
    clients = [httpx.Client(base_url=url, headers=headers, timeout=30) for url in addresses]
    kept = clients[0].post("/v1/responses", json={"model": "echo", "input": "old words"}).json()["id"]
    file = (
        clients[0].post("/v1/files", files={"file": ("a.jsonl", jsonl([{"a": 1}]))}, data={"purpose": "batch"}).json()
    )
    once = {"idempotency-key": "before-the-rotation"}
    first = clients[0].post("/v1/chat/completions", json=chat("once"), headers=once)
    assert first.status_code == 200
    failures: list[str] = []
    done = threading.Event()

    def go_on(client: httpx.Client) -> None:
        while not done.is_set():
            for stream in (False, True):
                answer = client.post("/v1/chat/completions", json=chat("one two", stream=stream))
                if answer.status_code != 200 or "two" not in answer.text:
                    failures.append(answer.text)

    threads = [threading.Thread(target=go_on, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        begins = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
        rotate_all(place, begins)
        while datetime.now(UTC) < begins + timedelta(seconds=1.5):
            done.wait(0.1)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    again = clients[1].post("/v1/chat/completions", json=chat("once"), headers=once)
    assert again.status_code == 200
    repeated = clients[0].post("/v1/chat/completions", json=chat("once"), headers=once)
    assert repeated.json()["id"] == first.json()["id"], "the gateway that answered it knows it by its older name"
    for client in clients:
        assert "old words" in client.get(f"/v1/responses/{kept}").text
        assert json.loads(client.get(f"/v1/files/{file['id']}/content").text) == {"a": 1}
